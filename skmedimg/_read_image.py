"""Any medical image file as an array: the content tells which reader it needs."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skmedimg._image_meta import ImageMeta
from skmedimg._orientation import Grid, check_orientation, reorient
from skmedimg._windows import FUNCTIONS, apply_window, ct_window
from skmedimg.exceptions import InvalidImageError

_RASTERS = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|II[*+]\0|MM\0[*+]|P[1-6][\s#]|\x93NUMPY|PK"
)
_NIFTI_SIZES = {n.to_bytes(4, end) for n in (348, 540) for end in ("little", "big")}
# A data set without preamble begins with group 2 or 8, in either byte order.
_DICOM_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")


def read_image(
    path: str | os.PathLike[str],
    *,
    window: tuple[float, float] | str | None = None,
    voi: str | int | None = None,
    fill: Any = "auto",
    orientation: str | None = "SPL",
    frame: int | None = None,
) -> tuple[np.ndarray, ImageMeta]:
    """Read one image file, whatever its format.

    DICOM, NIfTI, PNG, JPEG, TIFF, PBM, PGM, PPM, NPY and NPZ are told apart by their
    content, not by their name.

    Parameters
    ----------
    path : path
        A file.
    window : tuple of float or str, default=None
        Window (centre, width) in the unit of the image, or a name of `list_windows`,
        for DICOM in Hounsfield units only: other formats do not say what their values
        mean. Values become 0 to 1. None leaves them as they are.
    voi : {"LINEAR", "LINEAR_EXACT", "SIGMOID", "file"} or int, default=None
        With `window`, its function (None is "LINEAR"). Without, for DICOM, what the
        file itself offers for display: "file" takes the only window or table it has,
        an integer one of several (`ImageMeta.voi` lists them).
    fill : {"auto"}, float or None, default="auto"
        What the padding of DICOM becomes, in the unit of the returned array: "auto" is
        −1024 in CT in HU, 0 after a window, else the lowest value outside the padding.
        None leaves it as it is.
    orientation : str or None, default="SPL"
        Three letters that say toward what the axes of a volume increase, (superior,
        posterior, left) by default, which is what an axial DICOM series gives as it
        lies in its files. None keeps the file's own axes. Images of two axes stay as
        they are in DICOM.
    frame : int, default=None
        The only frame to read of a DICOM file that has several, counted from 0.

    Returns
    -------
    array : ndarray
        (H, W), (H, W, 3), (D, H, W), (D, H, W, 3), or (D, H, W, T) with times last. CT
        from DICOM in HU, PET in SUVbw.
    meta : ImageMeta
        Modality, units, spacing in mm, pseudonyms …; ``meta.mask`` marks padding.

    Raises
    ------
    InvalidImageError
        If the file is no image or damaged; names the file and the cause.
    FileNotFoundError
        If there is no such file.
    ValueError
        If a parameter does not fit the image.

    See Also
    --------
    read_dicom_series : A folder of slices as one volume.

    Examples
    --------
    >>> import numpy as np
    >>> import os, tempfile
    >>> from skmedimg.io import read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "image.npy")
    ...     np.save(path, np.arange(12.0).reshape(3, 4))
    ...     array, meta = read_image(path)
    >>> array.shape, meta.format
    ((3, 4), 'npy')
    """
    wanted = check_orientation(orientation)
    path = Path(path)
    kind = _kind(path)
    if kind == "dicom":
        from skmedimg._dicom import read_dicom

        array, meta = read_dicom(path, window=window, voi=voi, fill=fill, frame=frame)
        return _oriented(array, meta, wanted)
    if frame is not None or (voi is not None and voi not in FUNCTIONS):
        given = f"frame={frame}" if frame is not None else f"voi={voi!r}"
        raise ValueError(f"{path.name}: {given} is for DICOM; this file is {kind}.")
    if voi is not None and window is None:
        raise ValueError(f"voi={voi!r} needs window=(centre, width).")
    if kind == "nifti":
        from skmedimg._nifti import read_nifti

        array, meta = read_nifti(path, orientation=orientation)
    else:
        from skmedimg._raster import read_raster

        array, meta = read_raster(path)
    if window is None:
        return array, meta
    return windowed(path.name, array, meta, window, str(voi or "LINEAR"))


def _kind(path: Path) -> str:
    """Which reader a file needs: "dicom", "nifti" or "raster"."""
    if path.is_dir():
        raise InvalidImageError(
            f"{path.name}: is a folder; read_dicom_series reads a folder of slices."
        )
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return "dicom"
    if _RASTERS.match(start):
        return "raster"
    if start[:2] == b"\x1f\x8b" or start[:4] in _NIFTI_SIZES:
        return "nifti"
    if start[:2] in _DICOM_GROUPS:
        return "dicom"
    raise InvalidImageError(
        f"{path.name}: is none of DICOM, NIfTI, PNG, JPEG, TIFF, PBM, PGM, PPM, NPY "
        f"and NPZ (it begins with the bytes {start[:4].hex(' ') or 'of an empty file'})"
        "."
    )


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, damaged as it may be."""
    try:
        return _kind(path) == "dicom"
    except (InvalidImageError, OSError):
        return False


def windowed(
    name: str,
    array: np.ndarray,
    meta: ImageMeta | None,
    window: tuple[float, float] | str,
    function: str = "LINEAR",
) -> tuple[np.ndarray, Any]:
    """Apply a window to what was read without one.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    array : ndarray
        Grey values.
    meta : ImageMeta or None
        What is known of them.
    window : tuple of float or str
        (centre, width), or a name where values are in HU.
    function : str, default="LINEAR"
        As in `apply_window`.

    Returns
    -------
    array : ndarray of float32
        Values from 0 to 1.
    meta : ImageMeta or None
        With the window noted.

    Raises
    ------
    ValueError
        If the window is for CT and nothing says that this is.
    """
    if isinstance(window, str):
        centre, width = ct_window(window)
        if meta is None or meta.units != "HU":
            raise ValueError(
                f"{name}: window={window!r} is for CT in Hounsfield units, and the "
                f"file does not say that its values are. If they are, pass numbers: "
                f"window=({centre:g}, {width:g})."
            )
    else:
        centre, width = map(float, window)
    if meta is not None and meta.units == "displayed":
        raise ValueError(f"{name}: window= is for grey values; the file is in colour.")
    array = apply_window(array, centre, width, function)
    if meta is not None:
        meta = replace(meta, units="displayed", window=(centre, width))
    return array, meta


def _oriented(
    array: np.ndarray, meta: ImageMeta, wanted: str | None
) -> tuple[np.ndarray, ImageMeta]:
    """Volume in one DICOM file with its axes as wanted; all else stays as it is."""
    have = meta.orientation
    placed = len(meta.positions) == len(array) > 1 and meta.cosines is not None
    if wanted is None or have is None or len(have) != 3 or not placed:
        return array, meta
    assert meta.cosines is not None
    spacing = meta.spacing or (None, None, None)
    rows, columns = (s or 1.0 for s in spacing[-2:])
    starts, cosines = np.array(meta.positions), np.array(meta.cosines)
    along = (starts[-1] - starts[0]) / (len(starts) - 1)
    steps = np.array([along, cosines[3:] * rows, cosines[:3] * columns])
    grid = Grid(starts, steps, array.shape[:3])
    array, order = reorient(array, grid.code, wanted)
    mask = meta.mask
    if mask is not None:
        mask = np.ascontiguousarray(reorient(mask, grid.code, wanted)[0])
    grid = grid.reoriented(wanted)
    return np.ascontiguousarray(array), replace(
        meta,
        spacing=meta.spacing and tuple(meta.spacing[k] for k in order),
        orientation=grid.code,
        mask=mask,
        **grid.facts(),
    )
