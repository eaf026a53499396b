"""NIfTI files as arrays: what the header promises is checked, scaling is applied."""

import gzip
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._image_meta import ImageMeta
from skmedimg._limits import DEFLATE_RATIO, Stream, check_claim, fill
from skmedimg._orientation import SLIGHT_TILT, Grid, check_orientation, reorient
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

_HEADER_SIZES = (348, 540)  # NIfTI-1 and NIfTI-2
_CHUNK = 1 << 20
# Type code to dtype, and number of values a voxel.
_TYPES = {
    2: ("u1", 1),
    4: ("i2", 1),
    8: ("i4", 1),
    16: ("f4", 1),
    64: ("f8", 1),
    128: ("u1", 3),
    256: ("i1", 1),
    512: ("u2", 1),
    768: ("u4", 1),
    1024: ("i8", 1),
    1280: ("u8", 1),
    2304: ("u1", 4),
}
_OTHER_TYPES = {1: "single bits", 32: "complex numbers", 1792: "complex numbers"}
# Voxels that a mask may be off its image: rounding of a quaternion, but no shift.
_OFF_GRID = 0.1
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


def read_nifti(
    path: str | os.PathLike[str], *, orientation: str | None = "SPL"
) -> tuple[np.ndarray, ImageMeta]:
    """Read a NIfTI file, slope and intercept applied.

    Parameters
    ----------
    path : path
        NIfTI-1 or NIfTI-2 in one file, compressed by gzip or not.
    orientation : str or None, default="SPL"
        Three letters that say toward what the axes increase; the axes of an oblique
        volume go to the closest ones. "SPL", (superior, posterior, left), is what an
        axial DICOM series gives as it lies in its files. None keeps the file's own
        axes in the order of its header, (i, j, k), which is nibabel's.

    Returns
    -------
    array : ndarray of shape (D, H, W), (H, W), (D, H, W, T) or (D, H, W, 3)
        A volume; a slice if the header has two axes; with the times, or whatever else
        the header counts beyond three axes, last; with colour last. Integers stay
        integers, of a wider dtype if need be, where slope and intercept are integral;
        else float32, or float64 for what is stored in 32 bits or more.
    meta : ImageMeta
        With the spacing in mm along the spatial axes of `array`.

    Raises
    ------
    InvalidImageError
        If the file is not NIfTI, is damaged, promises more than it holds, or stores
        what is not an image (complex numbers, more than four axes).

    Warns
    -----
    UserWarning
        If the header does not say how the axes lie in the patient, or its axes are not
        at right angles.

    References
    ----------
    Cox et al., "A (sort of) new image data format standard: NIfTI-1", 2004.
    """
    wanted = check_orientation(orientation)
    path = Path(path)
    header, pixels = _load(path)
    affine = _affine(path.name, header, required=wanted is not None)
    array, flat = _shaped(path.name, header, pixels)
    spacing = _spacing(header, affine)
    grid = None if affine is None else _grid(header, affine, array.shape)
    if grid is not None and grid.tilt > SLIGHT_TILT:
        warnings.warn(
            f"{path.name}: its affine is sheared: the axes are {grid.tilt:g}° off a "
            "right angle, as where slices were taken with a tilted gantry. The array "
            "is not sheared back.",
            UserWarning,
            stacklevel=2,
        )
    order = [0, 1, 2]
    if grid is not None and wanted is not None:
        array, order = reorient(array, grid.code, wanted)
        grid = grid.reoriented(wanted)
    # The axis along which a single slice has no extent.
    missing = order.index(2) if flat else None
    if missing is not None:
        array = array.squeeze(missing)
    meta = ImageMeta(
        format="nifti",
        units="raw" if _scaling(path.name, header) is None else "rescaled",
        spacing=tuple(spacing[k] for i, k in enumerate(order) if i != missing),
        spacing_source="pixdim" if affine is None else "affine",
        **_placed(grid, missing),
    )
    return np.ascontiguousarray(array), meta


def _grid(header: "Nifti1Header", affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    # NIfTI's world increases toward the right and anterior, DICOM's to the opposite.
    world = affine[:3] * [[-1], [-1], [1]] * _millimetres(header)
    steps, origin = world[:, :3].T, world[:, 3]
    starts = origin + np.arange(shape[0])[:, np.newaxis] * steps[0]
    return Grid(starts, steps, shape[:3])


def _placed(grid: Grid | None, missing: int | None) -> dict[str, Any]:
    """Fields of the meta data that say where the image lies."""
    if grid is None:
        return {}
    if missing is None:
        return {"orientation": grid.code} | grid.facts()
    code = grid.code[:missing] + grid.code[missing + 1 :]
    return {"orientation": code} | (grid.facts() if missing == 0 else {})


def off_grid(image: str | os.PathLike[str], mask: str | os.PathLike[str]) -> str | None:
    """How the voxels of a mask lie elsewhere than those of its image, by the headers.

    Parameters
    ----------
    image, mask : path
        As in `read_nifti`. The files may hold their axes in different orders; times and
        colours do not count.

    Returns
    -------
    str or None
        None if no voxel of the mask is more than a tenth of a voxel away from that of
        the image: more than rounding makes of it, less than any shift. Of a header that
        does not say where its voxels lie, axes and voxel size are compared only.

    Raises
    ------
    InvalidImageError
        If a file is not NIfTI, or its header is damaged.
    """
    (one, stated), (other, other_stated) = _stated_grid(image), _stated_grid(mask)
    if stated != other_stated and one.code != other.code:
        silent = "mask" if stated else "image"
        return (
            f"has the axes {other.code}, the image {one.code}, but RAS is assumed: "
            f"the header of the {silent} does not say how its axes lie"
        )
    one, other = one.reoriented("SPL"), other.reoriented("SPL")
    if one.shape != other.shape:
        shapes = (" × ".join(map(str, grid.shape)) for grid in (other, one))
        return "has {} voxels (depth, height, width), the image {}".format(*shapes)
    away = np.zeros(3)
    if stated and other_stated:
        away = other.starts[0] - one.starts[0]
    # The difference of two affine maps is largest in a corner.
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(one.shape) - 1)
    furthest = np.linalg.norm(away + corners @ (other.steps - one.steps), axis=1).max()
    voxel = np.linalg.norm(one.steps, axis=1).min()
    if furthest <= _OFF_GRID * voxel:
        return None
    return (
        f"lies up to {furthest:.3g} mm away from the image by their headers, at "
        f"a voxel size of {voxel:.3g} mm"
    )


def _stated_grid(path: str | os.PathLike[str]) -> tuple[Grid, bool]:
    """Where voxels lie in the file's own axes, and whether its header says so."""
    path = Path(path)
    with _opened(path) as (stream, _, _):
        header = _parse(path.name, stream.read(max(_HEADER_SIZES)))
    affine = _affine(path.name, header, required=False)
    stated = affine is not None
    if affine is None:
        affine = np.diag([*_voxel_size(header), 1.0])
    shape = tuple([*_shape(path.name, header), 1][:3])
    return _grid(header, affine, shape), stated


def _load(path: Path) -> tuple["Nifti1Header", np.ndarray]:
    """Header and voxels, the latter as one flat array with the scaling applied."""
    with _opened(path) as (stream, size, ratio):
        return _read(path.name, stream, size, ratio=ratio)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Stream, int, int]]:
    """The file's content, its size on the disk, and how far that may unpack."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file, size, 1
            return
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream, size, DEFLATE_RATIO
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidImageError(
                f"{path.name}: its compressed data are damaged ({error})."
            ) from error


def _read(
    name: str, stream: Stream, size: int, *, ratio: int
) -> tuple["Nifti1Header", np.ndarray]:
    start = stream.read(max(_HEADER_SIZES))
    header = _parse(name, start)
    offset, dtype, count = _layout(name, header)
    check_claim(name, offset + count * dtype.itemsize, size, ratio=ratio)
    wanted = count * dtype.itemsize
    fill(name, stream, bytearray(start), offset)  # extensions, of no interest
    data = bytearray(start[offset : offset + wanted])
    fill(name, stream, data, wanted)
    # To the end of the file, where the checksum is; a long tail is not read.
    stream.read(_CHUNK)
    raw = np.frombuffer(data, dtype)
    if not raw.dtype.isnative:
        raw = raw.byteswap().view(raw.dtype.newbyteorder("="))
    return header, _scaled(name, raw, header)


def _parse(name: str, start: bytes) -> "Nifti1Header":
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for kind, size in zip((Nifti1Header, Nifti2Header), _HEADER_SIZES, strict=True):
        for byteorder in ("<", ">"):
            if start[:4] == size.to_bytes(4, "little" if byteorder == "<" else "big"):
                if len(start) < size:
                    raise InvalidImageError(f"{name}: ends within its header.")
                header = kind(start[:size], byteorder, check=False)
                _check_magic(name, bytes(header["magic"].item()))
                return header
    raise InvalidImageError(f"{name}: is not a NIfTI file (its header has no size).")


def _check_magic(name: str, magic: bytes) -> None:
    if magic.startswith((b"ni1", b"ni2")):
        raise InvalidImageError(
            f"{name}: is the header of a pair of files (.hdr and .img): save them as "
            "one .nii, for example by nibabel.load(…).to_filename(…)."
        )
    if not magic.startswith((b"n+1", b"n+2")):
        raise InvalidImageError(
            f"{name}: is not a NIfTI file (its header lacks the mark n+1 or n+2)."
        )


def _layout(name: str, header: "Nifti1Header") -> tuple[int, np.dtype, int]:
    """Offset of the voxels, their dtype, and how many values there are."""
    code = int(header["datatype"])
    if code not in _TYPES:
        stored = _OTHER_TYPES.get(code, f"values of the unknown type {code}")
        raise InvalidImageError(
            f"{name}: stores {stored}; integers, floats and RGB are read (take the "
            "magnitude of complex numbers first)."
        )
    kind, values = _TYPES[code]
    offset = float(header["vox_offset"])
    # 0 stands for "right after the header" in files of some older programs.
    start = int(header.sizeof_hdr) + 4
    if not (offset == 0 or start <= offset < 2**62):
        raise InvalidImageError(
            f"{name}: its header places the voxels at byte {offset:g}, within itself."
        )
    count = values
    for length in _shape(name, header):
        count *= length
    dtype = np.dtype(kind).newbyteorder(header.endianness)
    return int(offset) or start, dtype, count


def _shape(name: str, header: "Nifti1Header") -> list[int]:
    ndim, *lengths = (int(length) for length in header["dim"])
    shape = lengths[:ndim]
    if not 2 <= ndim <= 7 or min(shape) < 1:
        raise InvalidImageError(
            f"{name}: its header has {ndim} axes of lengths {shape}; an image has at "
            "least two, none of them empty."
        )
    return shape


def _scaled(name: str, raw: np.ndarray, header: "Nifti1Header") -> np.ndarray:
    scaling = _scaling(name, header)
    if scaling is None:
        return raw
    slope, intercept = scaling
    if raw.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        exact = _scaled_integers(raw, int(slope), int(intercept))
        if exact is not None:
            return exact
    narrow = raw.dtype.itemsize <= 2 or raw.dtype == np.float32
    scaled = np.empty(raw.shape, np.float32 if narrow else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(raw), _CHUNK):
            part = raw[at : at + _CHUNK].astype(np.float64)
            scaled[at : at + _CHUNK] = part * slope + intercept
    return scaled


def _scaling(name: str, header: "Nifti1Header") -> tuple[float, float] | None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    # A slope of 0 is the standard's way to say that there is no scaling.
    if not np.isfinite(slope) or slope == 0 or header["datatype"] in (128, 2304):
        return None
    if not np.isfinite(intercept):
        raise InvalidImageError(f"{name}: its intercept is {intercept}.")
    return None if slope == 1 and intercept == 0 else (slope, intercept)


def _scaled_integers(raw: np.ndarray, slope: int, intercept: int) -> np.ndarray | None:
    """In the stored dtype if the values fit, else in a wider one; None if in none."""
    ends = [int(raw.min()) * slope + intercept, int(raw.max()) * slope + intercept]
    for kind in (raw.dtype, np.int16, np.int32, np.int64):
        limits = np.iinfo(kind)
        if limits.bits < raw.dtype.itemsize * 8:
            continue
        if all(limits.min <= v <= limits.max for v in (*ends, slope, intercept)):
            scaled = raw.astype(kind)
            # May overflow in between; modulo 2**bits, the end is right all the same.
            scaled *= scaled.dtype.type(slope)
            scaled += scaled.dtype.type(intercept)
            return scaled
    return None


def _shaped(
    name: str, header: "Nifti1Header", pixels: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Voxels as (i, j, k[, t or colour]), and whether the header has two axes only."""
    shape = _shape(name, header)
    values = _TYPES[int(header["datatype"])][1]
    spatial = [*shape, 1][:3]
    further = [length for length in shape[3:] if length > 1]
    if len(further) > 1 or (further and values > 1):
        raise InvalidImageError(
            f"{name}: has axes of lengths {shape}; volumes with one further axis "
            "(times, channels) are read, colour counting as one."
        )
    if values > 1:
        array = pixels.reshape(values, *spatial, order="F")
        return np.moveaxis(array, 0, -1)[..., :3], len(shape) == 2
    return pixels.reshape(*spatial, *further, order="F"), len(shape) == 2


def _affine(name: str, header: "Nifti1Header", *, required: bool) -> np.ndarray | None:
    """Voxel indices to mm, or None where the header has none and none is required."""
    from nibabel.spatialimages import HeaderDataError

    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        if required:
            warnings.warn(
                f"{name}: its header does not say how the axes lie in the patient; "
                "they are taken as toward (right, anterior, superior). Left and right "
                "may be exchanged: pass orientation=None for the file's own axes.",
                UserWarning,
                stacklevel=3,
            )
            return np.diag([*_voxel_size(header), 1.0])
        return None
    cause = "has no inverse"
    with np.errstate(all="ignore"):
        try:
            affine: np.ndarray | None = np.asarray(header.get_best_affine(), float)
        except (HeaderDataError, ValueError) as error:
            affine, cause = None, str(error)
        if affine is not None and _invertible(affine[:3, :3]):
            return affine
    if required:
        raise InvalidImageError(
            f"{name}: the affine of its header is useless ({cause}); "
            "pass orientation=None for the file's own axes."
        )
    return None


def _invertible(matrix: np.ndarray) -> bool:
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or not 1e-9 < lengths.min() <= lengths.max() < 1e9:
        return False
    return bool(abs(np.linalg.det(matrix / lengths)) > 1e-3)


def _voxel_size(header: Any) -> list[float]:
    """Voxel size along (i, j, k), 1 where the header has none."""
    sizes = np.abs(header["pixdim"][1:4].astype(float))
    return [float(s) if np.isfinite(s) and s > 0 else 1.0 for s in sizes]


def _millimetres(header: Any) -> float:
    """Length of the unit that the header measures in."""
    return _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)


def _spacing(header: Any, affine: np.ndarray | None) -> list[float | None]:
    """Distance of neighbours along (i, j, k) in mm, None where it is nonsense."""
    if affine is None:
        sizes = np.abs(header["pixdim"][1:4].astype(float))
    else:
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
    sizes = sizes * _millimetres(header)
    return [float(s) if np.isfinite(s) and s > 0 else None for s in sizes]
