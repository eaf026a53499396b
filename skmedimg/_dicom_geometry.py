"""Where the pixels of a DICOM file are: spacing, orientation, order of the frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._dicom_header import (
    differ_by_frame,
    group,
    item,
    items,
    number,
    numbers,
    text,
    texts,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# x grows to the left, y to posterior, z to superior.
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
# PatientOrientation spells superior "head" and inferior "foot".
_SPELLED = {"H": "S", "F": "I", "L": "L", "R": "R", "A": "A", "P": "P"}
# Slices whose distances differ by more are not evenly spaced (share of the distance).
_UNEVEN = 0.01


@dataclass(frozen=True)
class Geometry:
    """Attributes as in `ImageMeta`, and the order in which frames make a stack.

    Attributes
    ----------
    order : tuple of int
        Frames of the file in the order of the array.
    """

    order: tuple[int, ...]
    spacing: tuple[float | None, ...] | None
    spacing_source: str | None
    orientation: str | None
    cosines: tuple[float, ...] | None
    positions: tuple[tuple[float, ...], ...]
    tilt: float = 0.0


def geometry_of(dataset: "Dataset", frames: Sequence[int], many: bool) -> Geometry:
    """Geometry of some frames of a file.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Whole data set.
    frames : sequence of int
        Frames that are read, counted from 0.
    many : bool
        Whether the array has an axis for them.

    Returns
    -------
    Geometry
        Frames that lie behind one another, each in a place of its own, are put in
        order along the normal of the slices; others keep the file's order.
    """
    in_plane, source = _in_plane(dataset, frames[0])
    cosines = _cosines(dataset, frames[0])
    if differ_by_frame(dataset):
        positions = [_position(dataset, frame) for frame in frames]
    else:
        positions = [_position(dataset, frames[0])] * len(frames)
    letters = _letters(dataset, cosines)
    if not many:
        return Geometry(
            order=tuple(frames),
            spacing=in_plane,
            spacing_source=source,
            orientation=letters,
            cosines=cosines,
            positions=tuple(p for p in positions if p is not None),
        )
    step, order = None, list(range(len(frames)))
    stack = _stack(dataset, frames, cosines, positions)
    if stack is not None:
        order, step = stack
        normal = _normal(cosines)
        letters = _letter(normal) + (letters or "")
    else:
        letters = None
        step = _offsets_step(dataset)
    known = [positions[i] for i in order]
    spacing = None
    if in_plane is not None or step is not None:
        spacing = (step, *(in_plane or (None, None)))
    return Geometry(
        order=tuple(frames[i] for i in order),
        spacing=spacing,
        spacing_source=source,
        orientation=letters,
        cosines=cosines,
        positions=tuple(p for p in known if p is not None) if all(known) else (),
        tilt=0.0 if stack is None else _tilt(known, cosines),
    )


def _tilt(positions: Sequence[Any], cosines: tuple[float, ...] | None) -> float:
    """Degrees between the way from the first frame to the last, and the normal."""
    way = np.subtract(positions[-1], positions[0])
    normal = _normal(cosines)
    sideways = np.linalg.norm(np.cross(normal, way))
    return round(float(np.degrees(np.arctan2(sideways, abs(normal @ way)))), 1)


def _in_plane(
    dataset: "Dataset", frame: int
) -> tuple[tuple[float, ...] | None, str | None]:
    """Distance between rows and between columns, and the element that says it."""
    measures = group(dataset, frame, "PixelMeasuresSequence")
    for source in (measures, dataset):
        spacing = _spacing(source, "PixelSpacing")
        if spacing is None:
            continue
        detector = _spacing(dataset, "ImagerPixelSpacing")
        calibrated = text(dataset, "PixelSpacingCalibrationType")
        # A copy of the detector's spacing was not corrected for magnification.
        if spacing == detector and not calibrated:
            return spacing, "ImagerPixelSpacing"
        return spacing, "PixelSpacing"
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = _spacing(dataset, keyword)
        if spacing is not None:
            return spacing, keyword
    return _ultrasound(dataset)


def _spacing(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    values = numbers(dataset, keyword, 2)
    return values if values and min(values) > 0 else None


def _ultrasound(
    dataset: "Dataset",
) -> tuple[tuple[float, ...] | None, str | None]:
    """Spacing of the only region of an ultrasound image, where it is in cm."""
    regions = items(dataset, "SequenceOfUltrasoundRegions")
    if len(regions) != 1:
        return None, None
    units = [number(regions[0], f"PhysicalUnits{axis}Direction") for axis in "XY"]
    deltas = [number(regions[0], f"PhysicalDelta{axis}") for axis in "YX"]
    if units != [3, 3] or not all(deltas):
        return None, None
    return tuple(10 * abs(delta or 0.0) for delta in deltas), "PhysicalDelta"


def _cosines(dataset: "Dataset", frame: int) -> tuple[float, ...] | None:
    plane = group(dataset, frame, "PlaneOrientationSequence")
    keyword = "ImageOrientationPatient"
    values = numbers(plane, keyword, 6) or numbers(dataset, keyword, 6)
    if not values:
        return None
    row, column = np.array(values[:3]), np.array(values[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > 0.1 or abs(row @ column) > 0.1:
        return None
    return values


def _position(dataset: "Dataset", frame: int) -> tuple[float, ...] | None:
    plane = group(dataset, frame, "PlanePositionSequence")
    keyword = "ImagePositionPatient"
    values = numbers(plane, keyword, 3)
    return values or numbers(dataset, keyword, 3) or None


def _normal(cosines: tuple[float, ...] | None) -> np.ndarray:
    values = cosines or (1, 0, 0, 0, 1, 0)
    return np.cross(values[:3], values[3:])


def _letter(direction: Any) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return _LETTERS[axis][0 if direction[axis] > 0 else 1]


def _letters(dataset: "Dataset", cosines: tuple[float, ...] | None) -> str | None:
    """Where rows, then columns, increase to."""
    if cosines is not None:
        return _letter(cosines[3:]) + _letter(cosines[:3])
    spelled = [_SPELLED.get(word[:1]) for word in texts(dataset, "PatientOrientation")]
    if len(spelled) != 2 or None in spelled:
        return None
    return f"{spelled[1]}{spelled[0]}"


def _stack(
    dataset: "Dataset",
    frames: Sequence[int],
    cosines: tuple[float, ...] | None,
    positions: list[tuple[float, ...] | None],
) -> tuple[list[int], float | None] | None:
    """Order of the frames along the normal, and their distance; None for no stack."""
    if cosines is None or None in positions or len(frames) < 2:
        return None
    if not differ_by_frame(dataset):  # all of them in one place
        return None
    for frame in frames:
        other = _cosines(dataset, frame)
        if other is None or not np.allclose(other, cosines, atol=1e-3):
            return None
    along = np.array(positions, dtype=float) @ _normal(cosines)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    middle = float(np.median(steps))
    if steps.min() < 1e-3 or not math.isfinite(middle):
        return None
    even = np.abs(steps - middle).max() <= _UNEVEN * middle
    return order.tolist(), middle if even else None


def _offsets_step(dataset: "Dataset") -> float | None:
    """Distance of frames that have no position of their own."""
    offsets = np.diff(numbers(dataset, "GridFrameOffsetVector"))
    if len(offsets) and np.ptp(offsets) < 1e-3 < abs(offsets[0]):
        return float(abs(offsets[0]))
    between = number(dataset, "SpacingBetweenSlices")
    detectors = item(dataset, "DetectorInformationSequence")
    return abs(between) if between and detectors is not None else None
