"""DICOM slices put in order and together, as one volume."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skmedimg._dicom import read_dicom
from skmedimg._dicom_header import quiet
from skmedimg._image_meta import ImageMeta
from skmedimg._orientation import SLIGHT_TILT, Grid, check_orientation, reorient
from skmedimg._privacy import pseudonym
from skmedimg._scan import files_below
from skmedimg._slices import (
    Slice,
    Stack,
    distances_of,
    places_of,
    read_slices,
    told_apart,
)
from skmedimg.exceptions import InvalidImageError

_UNEVEN = 0.05  # of the spacing
_SAME = 1e-3  # mm
_LISTED = 20


def read_dicom_series(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    series: str | None = None,
    orientation: str | None = "SPL",
) -> tuple[np.ndarray, ImageMeta]:
    """Read the slices of one DICOM series as a volume.

    Slices are put in order by their positions; neither file names nor instance numbers
    count. Derived images are read as any others.

    Parameters
    ----------
    source : path or iterable of paths
        A folder, searched with its subfolders, or the files themselves. What in a
        folder is no image is left out.
    series : str, default=None
        Which volume, where there are several: as the error that lists them names it, or
        a `series` of `scan_dicom`, or a SeriesInstanceUID.
    orientation : str or None, default="SPL"
        Three letters that say toward what the axes increase; oblique volumes go to the
        closest axes. "SPL", (superior, posterior, left), is what an axial series gives
        as it lies in its files. None keeps the axes of the files: slices along their
        normal, rows, columns.

    Returns
    -------
    volume : ndarray of shape (D, H, W) or (D, H, W, 3)
        Values as `read_dicom` gives them, in HU for CT.
    meta : ImageMeta
        Of the first slice; spacing in mm along the axes of `volume`, `mask` of shape
        (D, H, W) where slices have padding.

    Raises
    ------
    InvalidImageError
        If there is no image; if there are several volumes (series, planes, sizes,
        echoes, b-values, phases …), with a list of them; if a file is damaged; if
        slices have no position; if different images lie in one place.

    Warns
    -----
    UserWarning
        If slices are missing, doubled, unevenly spaced, or shifted against each other,
        with their positions in mm along the normal; if they were taken with a tilted
        gantry (`ImageMeta.tilt`): the volume is then not orthogonal.

    See Also
    --------
    scan_dicom : What is in a folder.

    References
    ----------
    DICOM PS3.3, C.7.6.2, "Image Plane Module".
    """
    wanted = check_orientation(orientation)
    name, root, paths = _files(source)
    with quiet():
        slices = read_slices(name, root, paths, strict=root is None)
    stack = _choose(name, told_apart(slices), series)
    ordered = _in_order(name, stack.slices)
    between = _check_distances(name, ordered)
    volume, meta = _read_pixels(name, root, ordered)
    return _oriented(name, volume, meta, ordered, between, wanted)


def _files(source: Any) -> tuple[str, Path | None, list[Path]]:
    """What messages call it, the folder if it is one, and the files."""
    if not isinstance(source, str | os.PathLike):
        return "the list of files", None, [Path(path) for path in source]
    path = Path(source)
    if path.is_dir():
        return path.name, path, files_below(path)
    return path.name, None, [path]


def _choose(name: str, stacks: list[Stack], series: str | None) -> Stack:
    fitting = stacks
    if series is not None:
        head, _, part = series.partition(":")
        wanted = (head, pseudonym(head))
        fitting = [s for s in stacks if s.slices[0].series in wanted]
        fitting = [s for s in fitting if part in ("", s.part)]
    if len(fitting) == 1:
        return fitting[0]
    listed = fitting or stacks
    more = f"\n  … and {len(listed) - _LISTED} more" * (len(listed) > _LISTED)
    table = "".join(f"\n  {stack}" for stack in listed[:_LISTED])
    problem = "there is no such series in it, but" if not fitting else "holds"
    raise InvalidImageError(
        f"{name}: {problem} {len(listed)} volume{'s' * (len(listed) > 1)}; choose one "
        f"by series=…:{table}{more}"
    )


def _in_order(name: str, members: list[Slice]) -> list[Slice]:
    """Slices along the normal, one a place."""
    lost = [one.name for one in members if not (one.position and one.cosines)]
    if lost and len(members) > 1:
        raise InvalidImageError(
            f"{name}: {len(lost)} of {len(members)} slices do not say where they lie "
            "(ImagePositionPatient, ImageOrientationPatient), so that their order is "
            f"unknown: {', '.join(lost[:3])}{' …' * (len(lost) > 3)}. Read them one by "
            "one."
        )
    if lost:
        return members  # of one: needs no order
    places = places_of(members)
    doubled = [place for place in places if len(place) > 1]
    different = [place for place in doubled if not _all_equal(place)]
    if different:
        raise InvalidImageError(
            f"{name}: different images lie in one place, {_at(different)}, and nothing "
            f"in their headers tells the volumes apart: {_names(different)}. Pass the "
            "files of one volume."
        )
    if doubled:
        warnings.warn(
            f"{name}: the same slice is there more than once, {_at(doubled)}; one of "
            f"each is used: {_names(doubled)}.",
            UserWarning,
            stacklevel=3,
        )
    return [place[0] for place in places]


def _all_equal(place: list[Slice]) -> bool:
    if place[0].instance and len({(s.instance, s.frame) for s in place}) == 1:
        return True
    first, *others = (_read_slice(one) for one in place)
    return all(np.array_equal(first, other) for other in others)


def _read_slice(one: Slice) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the volume is read
        array, meta = read_dicom(one.path)
    return _frames(array, meta, [one])[0]


def _at(places: list[list[Slice]]) -> str:
    return _millimetres([float(distances_of(place)[0]) for place in places])


def _names(places: list[list[Slice]]) -> str:
    first = ", ".join(one.name for one in places[0])
    return first + (f" and {len(places) - 1} more" if len(places) > 1 else "")


def _millimetres(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:10])
    return f"at {shown}{' …' * (len(values) > 10)} mm"


def _check_distances(name: str, slices: list[Slice]) -> float | None:
    """Distance from slice to slice in mm; says what is uneven about them."""
    if len(slices) == 1:
        return slices[0].thickness
    distances = distances_of(slices)
    steps = np.diff(distances)
    usual = float(np.percentile(steps, 25, method="lower"))
    gaps = np.round(steps / usual)
    between = float(steps.mean())
    if gaps.max() > 1 and np.allclose(steps / usual, gaps, atol=0.15):
        lost = [
            float(start + k * usual)
            for start, gap in zip(distances, gaps, strict=False)
            for k in range(1, int(gap))
        ]
        between = float(np.median(steps[gaps == 1]))
        _warn(
            f"{name}: slices are missing ({len(lost)}), {_millimetres(lost)} along the "
            f"normal, where the others follow every {between:.4g} mm; the volume "
            "closes the gap."
        )
    elif np.abs(steps - between).max() > _UNEVEN * between:
        _warn(
            f"{name}: the slices are unevenly spaced, {steps.min():.4g} to "
            f"{steps.max():.4g} mm; {between:.4g} mm is given as the spacing."
        )
    _check_shift(name, slices)
    return between


def _check_shift(name: str, slices: list[Slice]) -> None:
    """Say so if the slices do not lie straight behind each other."""
    positions = np.array([one.position for one in slices])
    normal = slices[0].normal
    way = positions[-1] - positions[0]
    aside = way - (way @ normal) * normal
    angle = np.degrees(np.arctan2(np.linalg.norm(aside), way @ normal))
    # Of frames of one file `read_dicom` says it.
    if angle > SLIGHT_TILT and len({one.path for one in slices}) > 1:
        _warn(
            f"{name}: the stack is tilted by {angle:.3g}°, as by a tilted gantry: each "
            "slice is shifted against the one before. The volume is not sheared back."
        )
    along = (positions - positions[0]) @ normal / (way @ normal)
    off = np.linalg.norm(positions - positions[0] - along[:, np.newaxis] * way, axis=1)
    if off.max() > max(slices[0].spacing or (1.0,)):
        strays = [float(d) for d in distances_of(slices)[off > off.max() / 2]]
        _warn(
            f"{name}: slices are shifted sideways against the others by up to "
            f"{off.max():.4g} mm, {_millimetres(strays)} along the normal."
        )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)


def _read_pixels(
    name: str, root: Path | None, slices: list[Slice]
) -> tuple[np.ndarray, ImageMeta]:
    """Values and mask of all slices; the rest of the meta data is the first one's."""
    places: dict[Path, list[int]] = defaultdict(list)
    for i, one in enumerate(slices):
        places[one.path].append(i)
    volume = mask = meta = None
    with _once(name):
        for path, indices in places.items():
            array, own = read_dicom(path, root=root)
            array, padding = _frames(array, own, [slices[i] for i in indices])
            if meta is None or volume is None:
                meta = own
                volume = np.empty((len(slices), *array.shape[1:]), array.dtype)
            if array.shape[1:] != volume.shape[1:]:
                raise InvalidImageError(
                    f"{slices[indices[0]].name}: has pixels of shape {array.shape[1:]},"
                    f" the slices before it {volume.shape[1:]}."
                )
            volume = volume.astype(np.result_type(volume, array), copy=False)
            volume[indices] = array
            if padding is not None:
                if mask is None:
                    mask = np.zeros(volume.shape[:3], bool)
                mask[indices] = padding
    assert volume is not None
    assert meta is not None
    return volume, replace(meta, mask=mask)


def _frames(
    array: np.ndarray, meta: ImageMeta, slices: list[Slice]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Those frames of a file that are wanted, and where they are padding."""
    if meta.frames == 1:
        return array[np.newaxis], None if meta.mask is None else meta.mask[np.newaxis]
    have = np.array(meta.positions)
    if slices[0].frame is None or len(have) != len(array):
        raise InvalidImageError(
            f"{slices[0].name}: its {meta.frames} frames do not all say where they "
            "lie: they are no volume; read_image reads them."
        )
    # Frames come in the order of the file, or in that of their positions.
    index = np.array([one.frame for one in slices])
    wanted = np.array([one.position for one in slices])
    if not np.allclose(have[index], wanted, atol=_SAME):
        apart = np.linalg.norm(have[np.newaxis] - wanted[:, np.newaxis], axis=-1)
        index = apart.argmin(axis=1)
    return array[index], None if meta.mask is None else meta.mask[index]


@contextmanager
def _once(name: str) -> Iterator[None]:
    """Say once of a series what its files say one by one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    said = Counter(str(warning.message).partition(": ")[2] for warning in caught)
    for message, count in said.items():
        _warn(f"{name}, {count} file{'s' * (count > 1)}: {message}")


def _oriented(
    name: str,
    volume: np.ndarray,
    meta: ImageMeta,
    slices: list[Slice],
    between: float | None,
    wanted: str | None,
) -> tuple[np.ndarray, ImageMeta]:
    """Volume with its axes as wanted, and what the meta data say of its geometry."""
    first = slices[0]
    spacing = (between, *(meta.spacing or (None, None))[-2:])
    if not first.cosines or not first.position:
        if wanted is not None:
            raise InvalidImageError(
                f"{name}: the image does not say where it lies in the patient: pass "
                "orientation=None for the axes of its file."
            )
        return volume, replace(meta, spacing=spacing, orientation=None)
    starts = np.array([one.position for one in slices])
    # Without a spacing, steps of 1 mm still tell the directions.
    rows, columns = (s or 1.0 for s in first.spacing or (1.0, 1.0))
    along = (starts[-1] - starts[0]) / max(1, len(slices) - 1)
    if len(slices) == 1:
        along = first.normal * (between or 1.0)
    down, right = np.array(first.cosines[3:]), np.array(first.cosines[:3])
    grid = Grid(starts, np.array([along, down * rows, right * columns]), volume.shape)
    order = [0, 1, 2]
    mask = meta.mask
    if wanted is not None:
        volume, order = reorient(volume, grid.code, wanted)
        mask = None if mask is None else reorient(mask, grid.code, wanted)[0]
        grid = grid.reoriented(wanted)
    return np.ascontiguousarray(volume), replace(
        meta,
        spacing=tuple(spacing[k] for k in order),
        orientation=grid.code,
        mask=None if mask is None else np.ascontiguousarray(mask),
        **grid.facts(),
    )
