"""What a file says about its image, beside the pixels."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ImageMeta:
    """Facts about an image that was read from a file.

    Nothing in it names a person: patient, study and series are keyed pseudonyms, and
    free text of the header is left out. What a file does not say, or says in a way that
    cannot be read, is None.

    Attributes
    ----------
    format : str
        "dicom", "nifti", "png", "jpeg", "tiff" …
    modality : str or None
        As DICOM spells it: "CT", "MR", "PT", "MG" …
    units : str
        What the values are: "HU"; "SUVbw" or "BQML" (PET, Bq/ml); "GY" (dose); "raw"
        (stored values); "rescaled" (by the file's own slope, in no known unit);
        "displayed" (colours, or what a window gave); a rescale type of DICOM; or the
        unit of a real-world value map ("mm2/s", "um2/s", "ms", "%").
    spacing : tuple of float or None
        Distance in mm from pixel to pixel along each spatial axis of the array, in the
        array's order, channels left out. For frames that are no stack of slices the
        first entry is None.
    spacing_source : str or None
        Where the distance along rows and columns comes from: "PixelSpacing" (in the
        patient), "ImagerPixelSpacing" (at the detector: objects are smaller than they
        measure), "NominalScannedPixelSpacing" (scanned film) …
    orientation : str or None
        Where indices increase to, a letter an axis: "SPL" is a volume whose slices
        go to superior, rows to posterior, columns to left. The closest axis of the
        body, where slices are oblique.
    cosines : tuple of float or None
        Direction along a row, then along a column, in DICOM's coordinates of the
        patient (x to left, y to posterior, z to superior).
    positions : tuple of tuple of float
        Centre of the first pixel of each slice in these coordinates, in mm; empty where
        unknown.
    tilt : float
        Degrees by which the axes of a volume are not at right angles, as where slices
        were taken with a tilted gantry: each is shifted against the one before, and the
        array is not sheared back. 0 as a rule, and where nothing is known.
    slice_thickness : float or None
        In mm.
    frames : int
        Number of frames in the file.
    patient, study, series : str or None
        Keyed pseudonyms, the same for the same patient, study, series.
    laterality : str or None
        "L", "R", "B" (both) or "U" (unpaired).
    view : str or None
        "PA", "AP", "LL", "CC", "MLO" …
    presentation_intent : str or None
        "FOR PRESENTATION" or "FOR PROCESSING".
    burned_in : bool or None
        Whether text is burned into the pixels, which may name the patient.
    lossy : bool or None
        Whether the image was ever compressed with loss.
    window : tuple of float, str or None
        Window (centre, width) that was applied, "VOI LUT" for a table of the file.
    voi : tuple of str
        What the file offers for ``voi=``, in that order.
    mask : ndarray of bool or None
        Where the array was filled because nothing was measured there; None if nowhere.
    """

    format: str
    modality: str | None = None
    units: str = "raw"
    spacing: tuple[float | None, ...] | None = None
    spacing_source: str | None = None
    orientation: str | None = None
    cosines: tuple[float, ...] | None = field(default=None, repr=False)
    positions: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    tilt: float = 0.0
    slice_thickness: float | None = None
    frames: int = 1
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    laterality: str | None = None
    view: str | None = None
    presentation_intent: str | None = None
    burned_in: bool | None = None
    lossy: bool | None = None
    window: tuple[float, float] | str | None = None
    voi: tuple[str, ...] = ()
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)
