"""One value an image: patients, sites, times; none of them missing."""

from typing import Any

import numpy as np


def one_per_image(
    name: str, values: Any, what: str, n: int | None = None
) -> np.ndarray:
    """Values as an array of one axis.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    values : array-like of shape (n,)
        What the user passed.
    what : str
        What one value is: "patient", "site".
    n : int, default=None
        Number of images; None takes any.

    Returns
    -------
    ndarray of shape (n,)
        Of numbers, strings or times. Among strings, whole numbers lose their point: a
        table with a gap elsewhere has made 7.0 of them.

    Raises
    ------
    ValueError
        If one is missing (None, NaN, NaT), or there is not one an image.
    """
    import pandas as pd

    # NumPy makes "nan" of a NaN among strings; objects stay what they are.
    raw = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
    if raw.ndim != 1 or (n is not None and len(raw) != n):
        images = "" if n is None else f", but X has {n} images"
        raise ValueError(
            f"{name} has shape {raw.shape}{images}: give one {what} an image."
        )
    missing = np.asarray(pd.isna(raw), dtype=bool)
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} missing entries, the first at "
            f"{int(np.argmax(missing))}: name a {what} for every image, or leave out "
            "the images without."
        )
    if raw.dtype != object:
        return raw
    if len(raw) and all(isinstance(value, str) for value in raw):
        return raw.astype(str)
    plain = np.asarray(raw.tolist())
    if plain.ndim == 1 and plain.dtype.kind in "iufM":
        return plain
    return np.array([_text(value) for value in raw])


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)
