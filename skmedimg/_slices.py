"""The images of a DICOM folder as slices, and which of them make a volume together.

Only headers are read. Slices of one series may belong to several volumes: a localiser
has three planes, a gradient echo two echoes, a beating heart twenty phases.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._dicom_header import (
    integer,
    item,
    items,
    number,
    numbers,
    read_dataset,
    text,
    texts,
)
from skmedimg._privacy import pseudonym, relative_to
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SAME_PLACE = 1e-3  # mm
_SAME_DIRECTION = 5e-3  # of a cosine
# Where vendors had b-values before the standard: group, creator, element.
_PRIVATE_B = (
    (0x0019, "SIEMENS MR HEADER", 0x0C),
    (0x0043, "GEMS_PARM_01", 0x39),
    (0x2001, "Philips Imaging DD 001", 0x03),
)
# Times of day tell repetitions apart, and are never shown.
_HIDDEN = {"acquired": "repetition", "content": "repetition"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """One image of a series: a file, or a frame of one.

    Attributes
    ----------
    path : Path
        Its file.
    name : str
        What messages call the file.
    frame : int or None
        Its place in a file of many, from 0; None if the file is one image, or says of
        none of its frames where it lies.
    instance : str or None
        UID of the image; never to be shown.
    series : str
        Pseudonym.
    series_number : int
        By which series are listed.
    modality : str
        "CT", "MR" …
    shape : tuple of int
        (rows, columns).
    spacing : tuple of float
        From row to row and from column to column in mm, or ().
    position : tuple of float
        Centre of the first pixel, in mm toward (left, posterior, superior), or ().
    cosines : tuple of float
        Direction along a row, then along a column, or ().
    thickness : float or None
        Distance to the next slice in mm as the header gives it.
    apart : dict
        Facts that never differ within a volume.
    within : dict
        Facts that tell volumes apart if there are several images in one place.
    """

    path: Path
    name: str
    frame: int | None = None
    instance: str | None
    series: str
    series_number: int
    modality: str
    shape: tuple[int, int]
    spacing: tuple[float, ...]
    position: tuple[float, ...]
    cosines: tuple[float, ...]
    thickness: float | None
    apart: dict[str, Any] = field(default_factory=dict)
    within: dict[str, Any] = field(default_factory=dict)

    @property
    def normal(self) -> np.ndarray:
        """Direction in which slices are stacked."""
        return np.cross(self.cosines[:3], self.cosines[3:])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one volume, and what tells it from the others of its series.

    Attributes
    ----------
    slices : list of Slice
        In no order.
    part : str
        "echo=2", "plane=1" …; "" where the series is one volume.
    """

    slices: list[Slice]
    part: str = ""

    @property
    def label(self) -> str:
        """What `series` chooses it by."""
        series = self.slices[0].series
        return f"{series}:{self.part}" if self.part else series

    def __str__(self) -> str:
        first = self.slices[0]
        rows, columns = first.shape
        return (
            f"series={self.label!r}: {first.modality}, {len(self.slices)} × "
            f"{rows} × {columns}, {_plane(first)}, {first.apart['type'] or 'no type'}"
        )


def read_slices(
    name: str, root: Path | None, paths: Sequence[Path], *, strict: bool
) -> list[Slice]:
    """Headers of all images among some files.

    Parameters
    ----------
    name : str
        What messages call the whole.
    root : Path or None
        Folder that messages name the files from.
    paths : sequence of Path
        The files.
    strict : bool
        Whether it is an error if one of them is not DICOM.

    Returns
    -------
    list of Slice
        In the order of the files and their frames.

    Raises
    ------
    InvalidImageError
        If a file is damaged, or there is no image at all.
    """
    slices: list[Slice] = []
    broken: list[str] = []
    for path in paths:
        short = relative_to(root, path)
        try:
            header, _ = read_dataset(path, pixels=False)
            slices += _slices_of(path, short, header)
        except InvalidImageError as error:
            if strict or "is not a DICOM file" not in str(error):
                broken.append(f"{short} {error}")
    if broken:
        more = f" … and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise InvalidImageError(
            f"{name}: {len(broken)} of {len(paths)} files cannot be read, so that a "
            f"volume might lack slices: {'; '.join(broken[:3])}{more}."
        )
    if not slices:
        raise InvalidImageError(
            f"{name}: holds no DICOM image among {len(paths)} files."
        )
    return slices


def _slices_of(path: Path, name: str, header: "Dataset") -> Iterator[Slice]:
    """Images of a file, none if it is a report or the like."""
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    if min(rows, columns) <= 0:
        return
    first = Slice(
        path=path,
        name=name,
        instance=text(header, "SOPInstanceUID"),
        series=pseudonym(text(header, "SeriesInstanceUID")),
        series_number=integer(header, "SeriesNumber") or 0,
        modality=_plain(text(header, "Modality")) or "no modality",
        shape=(rows, columns),
        spacing=numbers(header, "PixelSpacing", 2),
        position=numbers(header, "ImagePositionPatient", 3),
        cosines=_cosines(numbers(header, "ImageOrientationPatient", 6)),
        thickness=number(header, "SpacingBetweenSlices")
        or number(header, "SliceThickness"),
        apart=_apart(header),
        within=_within(header),
    )
    frames = items(header, "PerFrameFunctionalGroupsSequence")
    shared = item(header, "SharedFunctionalGroupsSequence")
    if (integer(header, "NumberOfFrames") or 1) != max(1, len(frames)):
        yield replace(first, position=(), cosines=())
    elif not frames:
        yield first
    else:
        for i, own in enumerate(frames):
            yield _frame(first, i, own, shared)


def _cosines(values: tuple[float, ...]) -> tuple[float, ...]:
    """Directions of rows and columns; () unless they are at right angles."""
    if len(values) != 6:
        return ()
    axes = np.reshape(values, (2, 3))
    right = np.allclose(axes @ axes.T, np.eye(2), atol=_SAME_DIRECTION)
    return values if right else ()


def _apart(header: "Dataset") -> dict[str, Any]:
    echo = number(header, "EchoNumbers")
    return {
        "type": "/".join(map(_plain, texts(header, "ImageType"))),
        "echo": number(header, "EchoTime") if echo is None else echo,
        "b": _b_value(header),
        "time": number(header, "TemporalPositionIdentifier"),
    }


def _within(header: "Dataset") -> dict[str, Any]:
    return {
        "acquisition": number(header, "AcquisitionNumber"),
        "trigger": number(header, "TriggerTime"),
        "phase": number(header, "NominalPercentageOfCardiacPhase"),
        "inversion": number(header, "InversionTime"),
        "flip": number(header, "FlipAngle"),
        "TE": number(header, "EchoTime"),
        "direction": numbers(header, "DiffusionGradientOrientation", 3) or None,
        "acquired": text(header, "AcquisitionTime"),
        "content": text(header, "ContentTime"),
    }


def _b_value(header: "Dataset") -> float | None:
    value = number(header, "DiffusionBValue")
    if value is not None:
        return value
    for number_, creator, element in _PRIVATE_B:
        try:
            stored = header.private_block(number_, creator)[element].value
            first = stored if isinstance(stored, float | int | str) else stored[0]
            return float(first) % 1e6  # GE adds a flag of a billion to some
        except (KeyError, TypeError, ValueError, IndexError):
            continue
    return None


def _frame(first: Slice, frame: int, own: "Dataset", shared: Any) -> Slice:
    """A frame of an enhanced image, from its own functional groups and the shared."""

    def ask(macro: str) -> "Dataset | None":
        return item(own, f"{macro}Sequence") or item(shared, f"{macro}Sequence")

    measures, content = ask("PixelMeasures"), ask("FrameContent")
    place, plane = ask("PlanePosition"), ask("PlaneOrientation")
    kind = ask("MRImageFrameType") or ask("CTImageFrameType")
    apart = {
        "type": "/".join(map(_plain, texts(kind, "FrameType"))) or first.apart["type"],
        "echo": number(ask("MREcho"), "EffectiveEchoTime"),
        "b": number(ask("MRDiffusion"), "DiffusionBValue"),
        "time": number(content, "TemporalPositionIndex"),
        "stack": _plain(text(content, "StackID")),
        "segment": number(ask("SegmentIdentification"), "ReferencedSegmentNumber"),
    }
    heart = ask("CardiacSynchronization")
    within = {
        "trigger": number(heart, "NominalCardiacTriggerDelayTime"),
        "acquired": text(content, "FrameAcquisitionDateTime"),
    }
    return replace(
        first,
        frame=frame,
        spacing=numbers(measures, "PixelSpacing", 2) or first.spacing,
        thickness=number(measures, "SpacingBetweenSlices")
        or number(measures, "SliceThickness")
        or first.thickness,
        position=numbers(place, "ImagePositionPatient", 3),
        cosines=_cosines(numbers(plane, "ImageOrientationPatient", 6)),
        apart=apart,
        within=within,
    )


def _plain(code: str | None) -> str:
    """A code as it is; whatever is none, which may be a name, as a pseudonym."""
    if code is None or re.fullmatch(r"[A-Z0-9_ ]{1,16}", code):
        return code or ""
    return pseudonym(code)


def told_apart(slices: Sequence[Slice]) -> list[Stack]:
    """All volumes, by series number, then by what differs within a series."""
    series: dict[str, list[Slice]] = defaultdict(list)
    for one in slices:
        series[one.series].append(one)
    ordered = sorted(series.values(), key=lambda s: (s[0].series_number, s[0].series))
    return [stack for members in ordered for stack in _stacks(members)]


def _stacks(members: list[Slice]) -> list[Stack]:
    """Volumes of one series."""
    planes: list[Slice] = []
    keys = []
    for one in members:
        plane = next((i for i, p in enumerate(planes) if _parallel(p, one)), None)
        if plane is None:
            plane = len(planes)
            planes.append(one)
        size = "×".join(map(str, one.shape))
        pixels = "×".join(f"{s:.3g}" for s in one.spacing)
        keys.append(one.apart | {"plane": plane + 1, "size": size, "pixel": pixels})
    # What is the same for all tells nothing.
    names = list(dict.fromkeys(name for key in keys for name in key))
    names = _telling([n for n in names if len(_values(keys, [n])) > 1], keys)
    groups: dict[str, list[Slice]] = defaultdict(list)
    for one, key in zip(members, keys, strict=True):
        groups[",".join(f"{n}={_shown(key.get(n))}" for n in names)].append(one)
    return [
        Stack(stack, ",".join(filter(None, (part, inner))))
        for part, whole in sorted(groups.items())
        for inner, stack in _split_within(whole)
    ]


def _values(keys: list[dict[str, Any]], names: list[str]) -> set[str]:
    return {repr([_shown(key.get(n)) for n in names]) for key in keys}


def _telling(names: list[str], keys: list[dict[str, Any]]) -> list[str]:
    """The first of the names if it alone tells as much as all of them together."""
    everything = len(_values(keys, names))
    alone = (n for n in names if len(_values(keys, [n])) == everything)
    first = next(alone, None)
    return names if first is None else [first]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value or "none")


def _parallel(one: Slice, other: Slice) -> bool:
    if not one.cosines or not other.cosines:
        return not one.cosines and not other.cosines
    return bool(np.allclose(one.cosines, other.cosines, atol=_SAME_DIRECTION))


def _plane(one: Slice) -> str:
    if not one.cosines:
        return "no orientation"
    axis = int(np.argmax(np.abs(one.normal)))
    return ("sagittal", "coronal", "axial")[axis]


def distances_of(members: Sequence[Slice]) -> np.ndarray:
    """Positions along the normal, of shape (n,), in mm."""
    positions = np.array([one.position for one in members])
    return positions @ np.mean([one.normal for one in members], axis=0)


def places_of(members: Sequence[Slice]) -> list[list[Slice]]:
    """Slices in order along the normal, those in one place together."""
    distances = distances_of(members)
    order = np.argsort(distances, kind="stable")
    places: list[list[Slice]] = []
    last = -np.inf
    for i in order:
        if distances[i] - last > _SAME_PLACE:
            places.append([])
        places[-1].append(members[i])
        last = distances[i]
    return places


def _split_within(members: list[Slice]) -> list[tuple[str, list[Slice]]]:
    """Phases, repetitions … of what else is the same, each with its name."""
    if not all(one.position and one.cosines for one in members):
        return [("", members)]
    places = places_of(members)
    # Copies of one file do not make two images.
    counts = [len({one.instance or id(one) for one in place}) for place in places]
    most = max(counts)
    if most == 1:
        return [("", members)]
    keys = [*dict.fromkeys(key for one in members for key in one.within), "station"]
    for key in keys:
        parts = _split_by(key, places, counts)
        if parts:
            return parts
    return [("", members)]


def _split_by(
    key: str, places: list[list[Slice]], counts: list[int]
) -> list[tuple[str, list[Slice]]]:
    """Volumes by a fact that differs between the images of each place, else nothing."""
    values = [[_value_within(one, key) for one in place] for place in places]
    told = [sorted(set(v)) if None not in v else [] for v in values]
    if [len(v) for v in told] != counts:
        return []
    every = sorted({v for place in told for v in place})
    most = max(counts)
    by_value = len(every) == most
    # Values that drift from slice to slice, such as times, are told by their rank, for
    # which every place must have as many.
    if not by_value and min(counts) < most:
        return []
    parts: dict[int, list[Slice]] = defaultdict(list)
    for place, seen, own in zip(places, values, told, strict=True):
        for one, value in zip(place, seen, strict=True):
            parts[(every if by_value else own).index(value)].append(one)
    name = _HIDDEN.get(key, key)
    if by_value and name == key and isinstance(every[0], float | int):
        return [(f"{name}={_shown(every[i])}", parts[i]) for i in sorted(parts)]
    return [(f"{name}={i + 1}", parts[i]) for i in sorted(parts)]


def _value_within(one: Slice, key: str) -> Any:
    if key == "station":  # side by side in one plane, as of a spine in two parts
        return tuple(round(x) for x in one.position)
    return one.within.get(key)
