"""One DICOM file as an array of quantities, and what it says of itself."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._dicom_frames import GreyFrames, Request, UnfitError, put_together
from skmedimg._dicom_geometry import Geometry, geometry_of
from skmedimg._dicom_header import code, group, item, number, quiet, read_dataset, text
from skmedimg._dicom_pixels import GREY, PixelFormat, stored_frames
from skmedimg._image_meta import ImageMeta
from skmedimg._orientation import SLIGHT_TILT
from skmedimg._windows import FUNCTIONS, check_window, ct_window
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_INTENTS = ("FOR PRESENTATION", "FOR PROCESSING")
# What DICOM calls views; whatever else stands in its place may be a name.
_VIEW_NAMES = frozenset(
    """AP PA LL RL RLD LLD RLO LLO RAO LAO RPO LPO LAT AX
    CC MLO ML LM LMO XCC XCCL XCCM FB SIO ISO CV AT TAN RM""".split()
)
# Codes of the view of a mammogram (SNOMED RT and CT).
_VIEWS = {
    "R-10226": "MLO",
    "399368009": "MLO",
    "R-10242": "CC",
    "399162004": "CC",
    "R-10224": "ML",
    "399260004": "ML",
    "R-10228": "LM",
    "399352003": "LM",
}


def read_dicom(
    path: str | os.PathLike[str],
    *,
    window: tuple[float, float] | str | None = None,
    voi: str | int | None = None,
    fill: Any = "auto",
    frame: int | None = None,
    root: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, ImageMeta]:
    """Read the image of one DICOM file.

    Parameters
    ----------
    path : path
        A file, with or without DICOM's preamble.
    window : tuple of float or str, default=None
        Window (centre, width) in the units of the image, or a name of
        `list_windows`, for CT in Hounsfield units only. Values become 0 to 1. None
        leaves them as they are.
    voi : {"LINEAR", "LINEAR_EXACT", "SIGMOID", "file"} or int, default=None
        With `window`, the function (None is "LINEAR"). Without, what the file itself
        offers for display: "file" takes the only window or table it has, an integer one
        of several (`ImageMeta.voi` lists them). Values become 0 to 1.
    fill : {"auto"}, float or None, default="auto"
        What padding becomes, in the units of the returned array: "auto" is −1024 in CT
        in HU, 0 after a window, else the lowest value outside the padding (0 if all is
        padding). None leaves padding as it is; the mask tells where it is all the same.
    frame : int, default=None
        The only frame to read of a file that has several, counted from 0 in the order
        of the file.
    root : path, default=None
        Folder that messages name the file from.

    Returns
    -------
    array : ndarray
        (H, W), or (H, W, 3) in RGB; with a leading axis for the frames of a file that
        has several. Frames that lie behind one another are ordered along their normal:
        a volume (D, H, W). CT is in HU, PET in SUVbw; MR has stored values unless its
        slope belongs to a frame or has a unit; other modalities are rescaled as the
        file says. MONOCHROME1 is inverted over the range that can be stored, unless
        values are quantities (HU, SUV, dose). Integers stay integers (HU as int16 or
        int32) where slope and intercept are whole, else float32.
    meta : ImageMeta
        Units, spacing, pseudonyms …; ``meta.mask`` marks padding: pixels with the
        PixelPaddingValue, or in its range, and those below −1024 HU in CT.

    Raises
    ------
    InvalidImageError
        If the file is not an image, or damaged; names the file and the cause.
    ValueError
        If `window`, `voi` or `frame` do not fit the image.

    Warns
    -----
    UserWarning
        If SUV cannot be computed, CT is not in HU, frames were taken with a tilted
        gantry, or a mammogram is meant "FOR PROCESSING": its values are not those that
        radiologists see.

    References
    ----------
    DICOM PS3.3, sections C.7.6.3 (pixels), C.7.5.1.1.2 (padding), C.11.1 (modality LUT)
    and C.11.2 (VOI LUT).
    """
    from skmedimg._privacy import relative_to

    request = _check_request(window, voi, fill, frame)
    name = relative_to(root, path)
    try:
        with quiet():
            dataset, syntax = read_dataset(path)
            array, meta, notes = _read(dataset, syntax, request)
    except InvalidImageError as error:
        raise InvalidImageError(f"{name} {error}") from None
    except UnfitError as error:
        raise ValueError(f"{name} {error}") from None
    for note in notes:
        warnings.warn(f"{name}: {note}.", UserWarning, stacklevel=2)
    return array, meta


def _check_request(window: Any, voi: Any, fill: Any, frame: Any) -> Request:
    is_index = isinstance(voi, int | np.integer) and not isinstance(voi, bool)
    if not (voi is None or is_index or voi in (*FUNCTIONS, "file")):
        raise ValueError(
            f"voi={voi!r}: pass one of {FUNCTIONS} with window=, or 'file', or the "
            "index of one of the file's own."
        )
    if voi in FUNCTIONS and window is None:
        raise ValueError(f"voi={voi!r} needs window=(centre, width).")
    if window is not None and (is_index or voi == "file"):
        raise ValueError(f"window={window!r} and voi={voi!r}: pass one of them.")
    if not (fill is None or isinstance(fill, Real) or fill == "auto"):
        raise ValueError(f"fill={fill!r}: pass 'auto', a number or None.")
    name = window if isinstance(window, str) else None
    function = voi if voi in FUNCTIONS else "LINEAR"
    pair = None
    if window is not None:
        try:
            centre, width = ct_window(window) if name else map(float, window)
        except TypeError:
            raise ValueError(
                f"window={window!r}: pass (centre, width) or a name."
            ) from None
        check_window(centre, width, function)
        pair = centre, width
    return Request(
        window=pair,
        name=name,
        function=function,
        voi=int(voi) if is_index else "file" if voi == "file" else None,
        fill=fill,
        frame=None if frame is None else int(frame),
    )


def _read(
    dataset: "Dataset", syntax: str, request: Request
) -> tuple[np.ndarray, ImageMeta, list[str]]:
    fmt = PixelFormat.from_dataset(dataset, syntax)
    if request.frame is not None and not 0 <= request.frame < fmt.frames:
        raise UnfitError(f"has no frame={request.frame}: it has {fmt.frames}")
    many = fmt.frames > 1 and request.frame is None
    frames = range(fmt.frames) if many else [request.frame or 0]
    stored = stored_frames(dataset, fmt, frames)
    # A header that lies is found out here, before anything has the size it claims.
    first = next(stored)
    geometry = geometry_of(dataset, frames, many)
    grey = None
    if fmt.photometric in GREY:
        grey = GreyFrames(dataset, fmt, request, frames)
    elif request.window is not None or request.voi is not None:
        raise UnfitError("is in colour: window= and voi= are for grey values")
    place = {frame: i for i, frame in enumerate(geometry.order)}

    def results() -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        for frame, pixels in zip(frames, chain([first], stored), strict=True):
            values, mask = (pixels, None) if grey is None else grey(pixels, frame)
            yield place[frame], values, mask

    array, mask = put_together(results(), len(frames))
    if grey is not None and mask is not None:
        array = grey.fill_padding(array, mask)
    if not many:
        array, mask = array[0], None if mask is None else mask[0]
    meta = _meta(dataset, fmt, geometry, frames[0])
    notes = _notes(meta)
    if grey is None:
        return array, replace(meta, units="displayed", mask=mask), notes
    meta = replace(
        meta, units=grey.units, window=grey.window, voi=grey.offered, mask=mask
    )
    return array, meta, notes + grey.notes


def _meta(
    dataset: "Dataset", fmt: PixelFormat, geometry: Geometry, frame: int
) -> ImageMeta:
    from skmedimg._privacy import pseudonym

    patient, study, series = (
        pseudonym(text(dataset, keyword)) or None
        for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    )
    intent = code(dataset, "PresentationIntentType")
    measures = group(dataset, frame, "PixelMeasuresSequence")
    thickness = number(measures, "SliceThickness") or number(dataset, "SliceThickness")
    return ImageMeta(
        format="dicom",
        modality=code(dataset, "Modality"),
        spacing=geometry.spacing,
        spacing_source=geometry.spacing_source,
        orientation=geometry.orientation,
        cosines=geometry.cosines,
        positions=geometry.positions,
        tilt=geometry.tilt,
        slice_thickness=thickness,
        frames=fmt.frames,
        patient=patient,
        study=study,
        series=series,
        laterality=laterality_of(dataset, frame),
        view=view_of(dataset),
        presentation_intent=intent if intent in _INTENTS else None,
        burned_in=_yes(code(dataset, "BurnedInAnnotation"), "YES", "NO"),
        lossy=_yes(code(dataset, "LossyImageCompression"), "01", "00"),
    )


def _yes(value: str | None, yes: str, no: str) -> bool | None:
    return {yes: True, no: False}.get(value or "")


def laterality_of(dataset: "Dataset", frame: int) -> str | None:
    """Side of the body: "L", "R", "B" or "U"; None where it is not said."""
    anatomy = group(dataset, frame, "FrameAnatomySequence")
    found = (
        code(anatomy, "FrameLaterality")
        or code(dataset, "ImageLaterality")
        or code(dataset, "Laterality")
    )
    return found if found in ("L", "R", "B", "U") else None


def view_of(dataset: "Dataset") -> str | None:
    """Name of the projection, by its position or its code; None for others."""
    known = text(item(dataset, "ViewCodeSequence"), "CodeValue")
    name = code(dataset, "ViewPosition")
    return name if name in _VIEW_NAMES else _VIEWS.get(known or "")


def _notes(meta: ImageMeta) -> list[str]:
    """What the user should know, whatever the values are."""
    notes = []
    if meta.modality == "MG" and meta.presentation_intent == "FOR PROCESSING":
        notes.append(
            "this mammogram is FOR PROCESSING: its values are those of the detector, "
            "not those of an image FOR PRESENTATION; do not mix the two"
        )
    if meta.tilt > SLIGHT_TILT:
        notes.append(
            f"the stack is tilted by {meta.tilt:g}°, as by a tilted gantry: each frame "
            "is shifted against the one before, and the volume is not sheared back"
        )
    return notes
