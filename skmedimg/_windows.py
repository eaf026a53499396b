"""Named CT windows, and the functions that map values through a window.

>>> from skmedimg._windows import apply_window, ct_window
>>> centre, width = ct_window("lung")
>>> apply_window([-1400, -600, 200], centre, width)
array([0.        , 0.50033355, 1.        ], dtype=float32)
"""

import difflib
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_TABLE = "Radiopaedia, article 'Windowing (CT)'"


class CTWindow(NamedTuple):
    """A window and who recommends it.

    Attributes
    ----------
    centre, width : float
        In HU.
    source : str
        Where the two numbers come from.
    """

    centre: float
    width: float
    source: str


# Where the table gives a range, the middle of it; where it gives two windows, both.
_WINDOWS = {
    "abdomen": CTWindow(50, 400, _TABLE),
    "bone": CTWindow(400, 1800, _TABLE),
    "brain": CTWindow(40, 80, _TABLE),
    "liver": CTWindow(30, 150, _TABLE),
    "lung": CTWindow(-600, 1500, _TABLE),
    "mediastinum": CTWindow(50, 350, _TABLE),
    "neck": CTWindow(40, 375, _TABLE),
    "soft tissue": CTWindow(50, 400, _TABLE),
    "spine": CTWindow(50, 250, _TABLE),
    "stroke": CTWindow(40, 40, _TABLE),
    "stroke narrow": CTWindow(32, 8, "Lev et al., Radiology 213:150, 1999"),
    "subdural": CTWindow(75, 215, _TABLE),
    "temporal bone": CTWindow(600, 2800, _TABLE),
    "vascular": CTWindow(200, 600, _TABLE),
}


def list_windows() -> dict[str, CTWindow]:
    """CT windows that have a name.

    Returns
    -------
    dict of str to CTWindow
        Centre, width (HU) and source by name.

    Examples
    --------
    >>> from skmedimg._windows import list_windows
    >>> for name, (centre, width, _) in list_windows().items():
    ...     print(f"{name:13} {centre:5} {width:5}")
    abdomen          50   400
    bone            400  1800
    brain            40    80
    liver            30   150
    lung           -600  1500
    mediastinum      50   350
    neck             40   375
    soft tissue      50   400
    spine            50   250
    stroke           40    40
    stroke narrow    32     8
    subdural         75   215
    temporal bone   600  2800
    vascular        200   600
    """
    return dict(_WINDOWS)


def ct_window(name: str) -> tuple[float, float]:
    """Centre and width, in HU, of a window of `list_windows`.

    Parameters
    ----------
    name : str
        Case does not matter, and "soft_tissue" is "soft tissue".

    Returns
    -------
    tuple of float
        Centre and width.

    Raises
    ------
    ValueError
        If no window has that name; says which do.
    """
    wanted = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    if wanted not in _WINDOWS:
        close = difflib.get_close_matches(wanted, _WINDOWS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"window={name!r} is no CT window with a name: there are "
            f"{', '.join(_WINDOWS)}.{hint} Or pass (centre, width) in HU."
        )
    window = _WINDOWS[wanted]
    return float(window.centre), float(window.width)


def check_window(centre: float, width: float, function: str = "LINEAR") -> None:
    """Raise ValueError unless `apply_window` can use these.

    Parameters
    ----------
    centre, width : float
        In the unit of the values.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, default="LINEAR"
        As in `apply_window`.
    """
    if function not in FUNCTIONS:
        raise ValueError(
            f"function={function!r} is no window function: choose from {FUNCTIONS}."
        )
    fits = width >= 1 if function == "LINEAR" else width > 0
    if not (math.isfinite(centre) and math.isfinite(width) and fits):
        bound = "at least 1" if function == "LINEAR" else "above 0"
        raise ValueError(
            f"a window needs a finite centre and a width of {bound} for "
            f"function={function!r}; got centre={centre:g}, width={width:g}."
        )


def apply_window(
    array: Any,
    centre: float,
    width: float,
    function: str = "LINEAR",
    out: tuple[float, float] = (0, 1),
) -> np.ndarray:
    """Map values through a window, as DICOM defines it.

    Parameters
    ----------
    array : array-like of any shape
        Values, in HU for example.
    centre, width : float
        Window in the unit of the values. "LINEAR" needs a width of at least 1, the
        others one above 0.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, default="LINEAR"
        "LINEAR" is meant for integers: a window of width w holds w of them, and the
        ends of `out` are reached at ``centre - width / 2`` and at ``centre + width / 2
        - 1``. "LINEAR_EXACT" reaches them at ``centre - width / 2`` and ``centre +
        width / 2``. "SIGMOID" approaches them without a bound.
    out : tuple of float, default=(0, 1)
        Values that the two ends of the window become.

    Returns
    -------
    ndarray of float32, of the same shape
        Values in the range `out`.

    Raises
    ------
    ValueError
        If the width is too small or the function is not one of the three.

    References
    ----------
    DICOM PS3.3, sections C.11.2.1.2 and C.11.2.1.3.

    Examples
    --------
    >>> from skmedimg._windows import apply_window
    >>> apply_window([-1, 0, 40, 80, 81], 40, 80, "LINEAR_EXACT", out=(0, 255))
    array([  0. ,   0. , 127.5, 255. , 255. ], dtype=float32)
    """
    check_window(centre, width, function)
    x = np.subtract(array, centre, dtype=np.float64)
    if function == "SIGMOID":
        unit = expit(4 * x / width)
    elif function == "LINEAR_EXACT":
        unit = np.clip(x / width + 0.5, 0, 1)
    elif width == 1:
        unit = (x > -0.5).astype(np.float64)
    else:
        unit = np.clip((x + 0.5) / (width - 1) + 0.5, 0, 1)
    low, high = out
    return (unit * (high - low) + low).astype(np.float32)
