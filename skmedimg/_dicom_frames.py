"""Frames of a DICOM file, turned into quantities and put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._dicom_header import differ_by_frame, text
from skmedimg._dicom_pet import suv_of
from skmedimg._dicom_pixels import PixelFormat
from skmedimg._dicom_values import (
    AIR,
    Modality,
    Voi,
    is_inverted,
    is_screenshot,
    modality_of,
    narrow,
    stored_padding,
    voi_of,
)
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class UnfitError(ValueError):
    """A parameter does not fit the image; does not name the file."""


@dataclass(frozen=True)
class Request:
    """Parameters of `read_dicom`, checked.

    Attributes
    ----------
    window : tuple of float or None
        Centre and width.
    name : str or None
        Name of a CT window, which says that values must be in HU.
    function : str
        Window function.
    voi : int, "file" or None
        Which of the file's own.
    fill : {"auto"}, float or None
        What padding becomes.
    frame : int or None
        The only frame to read.
    """

    window: tuple[float, float] | None = None
    name: str | None = None
    function: str = "LINEAR"
    voi: int | str | None = None
    fill: Any = "auto"
    frame: int | None = None


class GreyFrames:
    """From stored grey values of some frames to what `read_dicom` returns.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Whole data set.
    fmt : PixelFormat
        Of the same file.
    request : Request
        What was asked for.
    frames : sequence of int
        Frames that are read, counted from 0.

    Attributes
    ----------
    units : str
        Of the result.
    window : tuple of float, str or None
        What was applied.
    offered : tuple of str
        What the file offers for display, of its first frame.
    notes : list of str
        Warnings for the user.
    """

    def __init__(
        self,
        dataset: "Dataset",
        fmt: PixelFormat,
        request: Request,
        frames: Sequence[int],
    ) -> None:
        self.fmt = fmt
        self.fill = request.fill
        self.notes: list[str] = []
        self._padding = stored_padding(dataset, fmt)
        self._modalities = self._find_modalities(dataset, frames)
        quantity = _common_units(self._modalities.values())
        self._is_hu = quantity == "HU"
        self._inverted = is_inverted(fmt, quantity)
        if request.name is not None and not self._is_hu:
            raise UnfitError(
                f"is not CT in Hounsfield units, which window={request.name!r} is for: "
                "pass window=(centre, width) in the units of the image"
            )
        self._voi = self._find_voi(dataset, request, frames)
        self.window = _name(self._voi.get(frames[0]))
        self.units = "displayed" if self._voi else quantity
        if self._inverted and self.units == "OD":
            self.units = "rescaled"

    def _find_modalities(
        self, dataset: "Dataset", frames: Sequence[int]
    ) -> dict[int, Modality]:
        found = {}
        pet = text(dataset, "Modality") == "PT" and not is_screenshot(dataset)
        asked = frames if differ_by_frame(dataset) else frames[:1]
        for frame in asked:
            modality, note = modality_of(dataset, self.fmt, frame)
            if pet and note is None and modality.units != "SUVbw":
                modality, note = self._in_suv(dataset, modality)
            if note is not None and note not in self.notes:
                self.notes.append(note)
            found[frame] = modality
        if len(asked) < len(frames):
            return dict.fromkeys(frames, found[frames[0]])
        return found

    def _in_suv(
        self, dataset: "Dataset", modality: Modality
    ) -> tuple[Modality, str | None]:
        """Values of PET in SUVbw; else as they are, and why."""
        if modality.table is not None:
            return modality, None
        factor, units, why = suv_of(dataset, modality.units == "BQML")
        modality = replace(
            modality,
            slope=modality.slope * factor,
            intercept=modality.intercept * factor,
            units=units,
        )
        if why is None:
            return modality, None
        unit = "Bq/ml" if units == "BQML" else "the unit of the file"
        return modality, f"SUV cannot be computed: {why}; values are in {unit}"

    def _find_voi(
        self, dataset: "Dataset", request: Request, frames: Sequence[int]
    ) -> dict[int, Voi]:
        every = request.voi is not None and differ_by_frame(dataset)
        offered = {
            frame: voi_of(
                dataset, self.fmt, frame, self._modalities[frame].range(self.fmt)[0] < 0
            )
            for frame in (frames if every else frames[:1])
        }
        self.offered = tuple(map(str, offered[frames[0]]))
        if request.window is not None:
            voi = Voi(None, *request.window, request.function)
            return dict.fromkeys(frames, voi)
        if request.voi is None:
            return {}
        chosen = {frame: _choose(own, request.voi) for frame, own in offered.items()}
        return chosen if every else dict.fromkeys(frames, chosen[frames[0]])

    def __call__(
        self, stored: np.ndarray, frame: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Result for one frame, and where it is padding."""
        modality = self._modalities[frame]
        values = modality(stored)
        mask = self._is_padding(stored, values)
        if mask is not None and self.fill is not None:
            # For now a value that needs no wider type; `fill_padding` sets another.
            values = values.copy()
            values[mask] = AIR if self._is_hu else _lowest(values, mask)
        if self._voi:
            shown = self._voi[frame](values)
            return 1 - shown if self._inverted else shown, mask
        if self._inverted:
            low, high = modality.range(self.fmt)
            values = _mirror(values, low + high)
        return narrow(values), mask

    def _is_padding(self, stored: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        if self._padding is None and not self._is_hu:
            return None
        mask = np.zeros(stored.shape, bool)
        if self._padding is not None:
            low, high = self._padding
            mask = (stored >= low) & (stored <= high)
        if self._is_hu:
            mask |= values < AIR
        return mask if mask.any() else None

    def fill_padding(self, array: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Give the padding of the whole array its value."""
        fill = self.fill
        if fill is None:
            return array
        if fill == "auto":
            if self._voi:
                fill = 0
            else:
                fill = AIR if self._is_hu else _lowest(array, mask)
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            whole = float(fill).is_integer()
            if not whole or not limits.min <= fill <= limits.max:
                array = array.astype(np.float32)
        array[mask] = fill
        return array


def _common_units(modalities: Iterable[Modality]) -> str:
    units = {modality.units for modality in modalities}
    if units == {"raw", "rescaled"}:  # a slope of 1 is one among others
        return "rescaled"
    if len(units) > 1:
        raise InvalidImageError("holds frames in different units")
    return units.pop()


def _lowest(values: np.ndarray, mask: np.ndarray) -> Any:
    """Smallest value outside the mask; 0 where there is none."""
    valid = values[~mask]
    return valid.min() if valid.size else 0


def _mirror(values: np.ndarray, total: float) -> np.ndarray:
    if values.dtype.kind == "f":
        return (total - values).astype(values.dtype)
    # Both ends can be stored, so that the result can be, too.
    return (int(total) - values.astype(np.int64)).astype(values.dtype)


def _name(voi: Voi | None) -> tuple[float, float] | str | None:
    if voi is None:
        return None
    return "VOI LUT" if voi.table is not None else (voi.centre, voi.width)


def _choose(offered: list[Voi], which: int | str) -> Voi:
    shown = ", ".join(f"{i}: {voi}" for i, voi in enumerate(offered)) or "none"
    if which == "file":
        if len(offered) != 1:
            raise UnfitError(
                f"offers {len(offered)} windows or tables for display ({shown}): pass "
                "voi=index of one of them, or window=(centre, width)"
            )
        return offered[0]
    if not 0 <= int(which) < len(offered):
        raise UnfitError(f"has no voi={which}: it offers {shown}")
    return offered[int(which)]


def put_together(
    results: Iterable[tuple[int, np.ndarray, np.ndarray | None]], count: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Stack frames as they come.

    Parameters
    ----------
    results : iterable of (place, array, mask)
        Of each frame; `mask` is None where nothing is padding.
    count : int
        Number of frames.

    Returns
    -------
    array : ndarray of shape (count, …)
        Of a data type that holds all frames.
    mask : ndarray of bool of the same shape, or None
        None if no frame has one.
    """
    stack = mask = None
    for place, values, padding in results:
        if stack is None:
            stack = np.empty((count, *values.shape), values.dtype)
        elif values.dtype != stack.dtype:
            floats = "f" in (values.dtype.kind, stack.dtype.kind)
            wider = np.result_type(values.dtype, stack.dtype)
            stack = stack.astype(np.float32 if floats else wider)
        stack[place] = values
        if padding is not None:
            if mask is None:
                mask = np.zeros((count, *values.shape), bool)
            mask[place] = padding
    if stack is None:
        raise InvalidImageError("holds no frame")
    return stack, mask
