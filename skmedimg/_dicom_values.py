"""From stored values to quantities: modality LUT, padding, and the file's own windows.

The order is that of DICOM (PS3.4 N.2): modality LUT or rescale, then window or VOI LUT,
then MONOCHROME1 is inverted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skmedimg._dicom_header import group, integer, item, items, number, numbers, text
from skmedimg._dicom_pixels import PixelFormat, Table, read_table
from skmedimg._dicom_real_world import real_world_of
from skmedimg._windows import FUNCTIONS, apply_window
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

AIR = -1024
# Types of rescaling that DICOM defines; free text is not repeated.
_TYPES = ("HU", "HU_MOD", "OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
_HU_TYPES = ("HU", "HU_MOD")
# Values in these units grow with brightness only by convention.
_NO_QUANTITY = ("raw", "rescaled", "OD")
# Modalities that mean little without them.
_RESCALED = {
    "CT": "CT without RescaleSlope and RescaleIntercept is not in HU; values are left "
    "as stored",
    "PT": "PET without RescaleSlope is in no known unit; values are left as stored",
}
_SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Modality:
    """What turns the stored values of a frame into quantities.

    Attributes
    ----------
    slope, intercept : float
        quantity = slope × stored + intercept, where there is no table.
    table : Table or None
        Look-up table.
    units : str
        As in `ImageMeta.units`.
    """

    slope: float = 1.0
    intercept: float = 0.0
    table: Table | None = None
    units: str = "raw"

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Quantities, as integers where they are some."""
        if self.table is not None:
            return self.table(stored)
        if self.slope == 1 and self.intercept == 0 and self.units != "HU":
            return stored
        if not (self.slope.is_integer() and self.intercept.is_integer()):
            return (stored * np.float64(self.slope) + self.intercept).astype(np.float32)
        largest = abs(self.slope) * max(-float(stored.min()), float(stored.max()))
        if stored.dtype.kind == "f" or largest + abs(self.intercept) >= 1 << 31:
            return (stored * np.float64(self.slope) + self.intercept).astype(np.float32)
        return stored.astype(np.int64) * int(self.slope) + int(self.intercept)

    def range(self, fmt: PixelFormat) -> tuple[float, float]:
        """Smallest and largest quantity that can be stored."""
        if self.table is not None:
            return float(self.table.data.min()), float(self.table.data.max())
        low, high = (self.slope * end + self.intercept for end in fmt.range)
        return min(low, high), max(low, high)


def modality_of(
    dataset: "Dataset", fmt: PixelFormat, frame: int
) -> tuple[Modality, str | None]:
    """What turns a frame's stored values into quantities.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Whole data set.
    fmt : PixelFormat
        Of the same file.
    frame : int
        Counted from 0: enhanced objects have a slope for each frame.

    Returns
    -------
    modality : Modality
        A real-world value map counts before the slope in PET, and where there is no
        slope. Identity with the units "raw" where nothing is known, or not trusted.
    warning : str or None
        What the user should know.
    """
    modality = text(dataset, "Modality")
    own = group(dataset, frame, "PixelValueTransformationSequence")
    source = dataset if own is None else own
    sequence = item(dataset, "ModalityLUTSequence")
    if sequence is not None:
        table = read_table(sequence, "LUT", fmt.big_endian, fmt.signed)
        if table is not None:
            kind = text(sequence, "ModalityLUTType")
            return Modality(table=table, units=_units(kind)), None
    slope, intercept = (
        number(source, "RescaleSlope"),
        number(source, "RescaleIntercept"),
    )
    kind = text(source, "RescaleType")
    real = real_world_of(dataset, frame)
    if real is not None and (modality == "PT" or slope is None):
        return Modality(*real), None
    if modality == "RTDOSE":
        scaling = number(dataset, "DoseGridScaling")
        units = "GY" if text(dataset, "DoseUnits") == "GY" else "rescaled"
        return Modality(scaling, 0.0, None, units) if scaling else Modality(), None
    if slope is None and intercept is None:
        lost = None if is_screenshot(dataset) else _RESCALED.get(modality or "")
        return Modality(), lost
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        return Modality(), "its RescaleSlope is 0; values are left as stored"
    if modality == "CT" and _is_hu(dataset, kind):
        return Modality(slope, intercept, None, "HU"), None
    if modality == "MR" and own is None and _units(kind) == "rescaled":
        return Modality(), None
    units = _units(kind)
    if units == "rescaled" and (slope, intercept) == (1, 0):
        units = "raw"
    return Modality(slope, intercept, None, units), None


def _units(kind: str | None) -> str:
    return kind if kind in _TYPES else "rescaled"


def is_screenshot(dataset: "Dataset") -> bool:
    """Whether this is a secondary capture: grey values of a screen, no quantities."""
    return (text(dataset, "SOPClassUID") or "").startswith(_SCREENSHOT)


def _is_hu(dataset: "Dataset", kind: str | None) -> bool:
    if is_screenshot(dataset):
        return False
    if kind is None or kind in _HU_TYPES:
        return True
    # Unspecified: some scanners write it in place of HU, others on perfusion maps.
    return kind == "US" and text(dataset, "ImageType") == "ORIGINAL"


def stored_padding(dataset: "Dataset", fmt: PixelFormat) -> tuple[float, float] | None:
    """Smallest and largest stored value that means "nothing was measured here".

    The value may be written unsigned beside signed pixels: it is taken with their sign.
    """
    if fmt.samples > 1 or fmt.photometric == "PALETTE COLOR":
        return None
    if fmt.is_float:
        prefix = "DoubleFloat" if fmt.keyword.startswith("Double") else "Float"
        first = number(dataset, f"{prefix}PixelPaddingValue")
        last = number(dataset, f"{prefix}PixelPaddingRangeLimit")
    else:
        first = _signed(integer(dataset, "PixelPaddingValue"), fmt)
        last = _signed(integer(dataset, "PixelPaddingRangeLimit"), fmt)
    if first is None:
        return None
    last = first if last is None else last
    return min(first, last), max(first, last)


def _signed(value: int | None, fmt: PixelFormat) -> int | None:
    if value is None:
        return None
    value &= (1 << fmt.allocated) - 1
    low, high = fmt.range
    if fmt.signed and value > high:
        # Either all of the container's bits carry the sign, or the stored ones only.
        for bits in (fmt.allocated, fmt.stored):
            if low <= value - (1 << bits) <= high:
                return value - (1 << bits)
    return value


def is_inverted(fmt: PixelFormat, units: str) -> bool:
    """Whether small values mean bright, and are no quantity that would be lost."""
    return fmt.photometric == "MONOCHROME1" and units in _NO_QUANTITY


def narrow(values: np.ndarray) -> np.ndarray:
    """Wide integers as int16 or int32, whatever holds them; float64 as float32."""
    if values.dtype == np.float64:
        return values.astype(np.float32)
    if values.dtype != np.int64:
        return values
    low, high = values.min(), values.max()
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float32)


@dataclass(frozen=True)
class Voi:
    """One of the ways in which a file asks to be displayed.

    Attributes
    ----------
    table : Table or None
        VOI LUT.
    centre, width : float
        Window, where there is no table.
    function : str
        As in `apply_window`.
    """

    table: Table | None = None
    centre: float = 0.0
    width: float = 1.0
    function: str = "LINEAR"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Displayed values from 0 to 1, as float32."""
        if self.table is None:
            return apply_window(values, self.centre, self.width, self.function)
        # An input that lies between two entries belongs to the nearest.
        shown = self.table(np.rint(values))
        top = np.float32((1 << self.table.bits) - 1)
        return np.minimum(shown / top, 1).astype(np.float32)

    def __str__(self) -> str:
        if self.table is not None:
            return f"LUT of {len(self.table.data)} entries"
        return f"{self.function} centre {self.centre:g} width {self.width:g}"


def voi_of(dataset: "Dataset", fmt: PixelFormat, frame: int, signed: bool) -> list[Voi]:
    """All that a file offers for one frame: first its tables, then its windows.

    Parameters
    ----------
    dataset, fmt, frame
        As for `modality_of`.
    signed : bool
        Whether quantities can be negative: the tables' first value is then signed.
    """
    source = group(dataset, frame, "FrameVOILUTSequence")
    source = dataset if source is None else source
    found = []
    for entry in items(source, "VOILUTSequence"):
        table = read_table(entry, "LUT", fmt.big_endian, signed)
        if table is not None:
            if not 1 <= table.bits <= 16:
                raise InvalidImageError("is damaged: its VOI LUT has no bits")
            found.append(Voi(table=table))
    function = (text(source, "VOILUTFunction") or "LINEAR").upper()
    function = function if function in FUNCTIONS else "LINEAR"
    centres, widths = numbers(source, "WindowCenter"), numbers(source, "WindowWidth")
    if len(centres) == len(widths):
        found += [
            Voi(None, centre, width, function)
            for centre, width in zip(centres, widths, strict=True)
            if width >= 1 or (width > 0 and function != "LINEAR")
        ]
    return found
