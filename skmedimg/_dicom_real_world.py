"""Real-world value maps: from stored values straight to a quantity with its unit.

Enhanced PET has nothing else to say what its values are, parametric maps neither, and
scanners add them to PET slices, with SUV worked out.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._dicom_header import (
    functional_groups,
    integer,
    item,
    items,
    number,
    numbers,
    text,
)
from skmedimg._dicom_pixels import Table

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Units of UCUM that are quantities, with the names that `ImageMeta.units` has for them.
_UNITS = {
    "{SUVbw}g/ml": "SUVbw",
    "g/ml{SUVbw}": "SUVbw",
    "Bq/ml": "BQML",
    "[hnsf'U]": "HU",
    "mm2/s": "mm2/s",
    "um2/s": "um2/s",
    "ms": "ms",
    "%": "%",
}
# Of several maps of one image the first of these is taken.
_PET = ("SUVbw", "BQML")


def real_world_of(
    dataset: "Dataset", frame: int
) -> tuple[float, float, Table | None, str] | None:
    """How a frame's stored values become a quantity.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Whole data set.
    frame : int
        Counted from 0.

    Returns
    -------
    slope, intercept : float
        quantity = slope × stored + intercept, where there is no table.
    table : Table or None
        Floats, one for each stored value from `first` on.
    units : str
        As in `ImageMeta.units`.

    Or None where there is no map to a known unit, where several maps share a unit, each
    for a range of stored values, or where there are maps to several units and the image
    is no PET.

    References
    ----------
    DICOM PS3.3, C.7.6.16.2.11, "Real World Value Mapping Macro".
    """
    keyword = "RealWorldValueMappingSequence"
    maps: dict[str, Dataset | None] = {}
    for one in items(_holder(dataset, frame, keyword), keyword):
        code = item(one, "MeasurementUnitsCodeSequence")
        # A code that is none of these may be anything, and is not repeated.
        units = _UNITS.get(text(code, "CodeValue") or "")
        if units is not None:
            # Several maps to a unit hold for a range each: none is for all.
            maps[units] = None if units in maps else one
    if text(dataset, "Modality") == "PT":
        maps = {units: maps[units] for units in _PET if units in maps}
    elif len(maps) != 1:
        return None
    for units, only in maps.items():
        found = None if only is None else _map(only)
        if found is not None:
            return *found, units
    return None


def _holder(dataset: "Dataset", frame: int, keyword: str) -> Any:
    """What holds the maps: the frame's functional groups, the shared ones, the file."""
    groups = functional_groups(dataset, frame)
    holders = (one for one in groups if items(one, keyword))
    return next(holders, dataset)


def _map(one: "Dataset") -> tuple[float, float, Table | None] | None:
    slope = number(one, "RealWorldValueSlope")
    if slope:
        return slope, number(one, "RealWorldValueIntercept") or 0.0, None
    entries = numbers(one, "RealWorldValueLUTData")
    first = integer(one, "RealWorldValueFirstValueMapped")
    if not entries or first is None:
        return None
    return 1.0, 0.0, Table(first, np.array(entries, np.float32), 32)
