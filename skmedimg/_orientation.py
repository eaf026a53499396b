"""How array axes lie in the patient: three letters, and views in another order.

A code such as "SPL" says toward what each axis increases: superior (head), posterior
(back), left; their opposites are I, A and R. "SPL" is what an axial DICOM series gives
as it lies in its files, "RAS" is NIfTI's world.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

_AXES = ("RL", "AP", "SI")
# Degrees, below which it is rounding.
SLIGHT_TILT = 0.5
_OPPOSITE = {letter: pair[1 - i] for pair in _AXES for i, letter in enumerate(pair)}


def check_orientation(orientation: str | None) -> str | None:
    """Three letters, one of each of R/L, A/P and S/I, or None.

    Parameters
    ----------
    orientation : str or None
        What the user gave.

    Returns
    -------
    str or None
        In capitals.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if orientation is None:
        return None
    code = str(orientation).upper()
    if sorted(_axis_of(letter) for letter in code) != [0, 1, 2]:
        raise ValueError(
            f"orientation={orientation!r} is not understood: give three letters that "
            "say toward what the axes increase, one of R/L, of A/P and of S/I, such as "
            "'SPL' or 'RAS'; or None for the file's own axes."
        )
    return code


def _axis_of(letter: str) -> int:
    return next((i for i, pair in enumerate(_AXES) if letter in pair), -1)


def closest_code(directions: np.ndarray) -> str:
    """Patient axes closest to the axes of an array.

    Parameters
    ----------
    directions : ndarray of shape (3, 3)
        Column k points to where array axis k increases, in a world that increases
        toward (right, anterior, superior). Lengths do not matter.

    Returns
    -------
    str
        One letter an array axis.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg._orientation import closest_code
    >>> closest_code(np.diag([-1.0, -1.0, 1.0]))
    'LPS'
    """
    unit = directions / np.linalg.norm(directions, axis=0)
    # Rounded, so that at 45 degrees a file of other precision decides alike.
    closeness = np.round(np.abs(unit), 3)
    # Of all assignments the best on the whole: axis by axis, two array axes could fall
    # on one patient axis.
    best = max(
        permutations(range(3)),
        key=lambda order: sum(closeness[world, k] for k, world in enumerate(order)),
    )
    return "".join(
        _AXES[world][0 if unit[world, k] > 0 else 1] for k, world in enumerate(best)
    )


def reorient(array: np.ndarray, have: str, want: str) -> tuple[np.ndarray, list[int]]:
    """View of an array with its first three axes as `want` says.

    Parameters
    ----------
    array : ndarray of shape (a, b, c, …)
        The further axes, channels or times, stay.
    have, want : str
        How the axes lie, and how they shall.

    Returns
    -------
    view : ndarray
        The same values.
    order : list of int
        For each axis of the view, the axis of `array` it comes from.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg._orientation import reorient
    >>> view, order = reorient(np.zeros((2, 3, 4)), "RAS", "SPL")
    >>> view.shape, order
    ((4, 3, 2), [2, 1, 0])
    """
    order, flipped = _changes(have, want)
    view = array.transpose(*order, *range(3, array.ndim))
    steps = (slice(None, None, -1 if flip else 1) for flip in flipped)
    return view[tuple(steps)], order


def _changes(have: str, want: str) -> tuple[list[int], list[bool]]:
    order = [
        k for letter in want for k in range(3) if have[k] in letter + _OPPOSITE[letter]
    ]
    return order, [have[k] != letter for k, letter in zip(order, want, strict=True)]


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array lie, in mm toward (left, posterior, superior).

    Attributes
    ----------
    starts : ndarray of shape (a, 3)
        Voxel (k, 0, 0) for each index k of the first axis.
    steps : ndarray of shape (3, 3)
        Row i leads one voxel on along array axis i.
    shape : tuple of int
        (a, b, c).
    """

    starts: np.ndarray
    steps: np.ndarray
    shape: tuple[int, ...]

    @property
    def code(self) -> str:
        """Where the axes lie, in three letters."""
        return closest_code((self.steps * [-1, -1, 1]).T)

    @property
    def tilt(self) -> float:
        """Degrees between an axis and the normal of the other two, the largest one."""
        angles = []
        for i, step in enumerate(self.steps):
            normal = np.cross(*np.delete(self.steps, i, axis=0))
            sideways = np.linalg.norm(np.cross(step, normal))
            angles.append(np.degrees(np.arctan2(sideways, abs(step @ normal))))
        return round(float(max(angles)), 1)

    def reoriented(self, want: str) -> "Grid":
        """The same voxels with the axes that `reorient` gives the array."""
        order, flipped = _changes(self.code, want)
        steps = self.steps[order] * np.where(flipped, -1, 1)[:, np.newaxis]
        shape = tuple(self.shape[k] for k in order)
        starts = self.starts
        for k, flip in zip(order, flipped, strict=True):
            if flip and k > 0:
                starts = starts + (self.shape[k] - 1) * self.steps[k]
            elif flip:
                starts = starts[::-1]
        if order[0] != 0:
            starts = starts[0] + np.arange(shape[0])[:, np.newaxis] * steps[0]
        return Grid(starts, steps, shape)

    def facts(self) -> dict[str, Any]:
        """Fields of `ImageMeta` that say where the image lies."""
        row, column = (v / np.linalg.norm(v) for v in (self.steps[2], self.steps[1]))
        return {
            "cosines": (*row.tolist(), *column.tolist()),
            "positions": tuple(map(tuple, self.starts.tolist())),
            "tilt": self.tilt,
        }
