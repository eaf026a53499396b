"""Stratified splits in which no group is cut, for one label or several."""

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import _num_samples, check_consistent_length

from skmedimg.images import groups_of
from skmedimg.metrics._checks import check_generator
from skmedimg.model_selection._held_out import Split
from skmedimg.model_selection._patients import patients_of


class MultilabelStratifiedGroupKFold(StratifiedGroupKFold):
    """K-fold in which every label is as frequent in each fold, and no group is cut.

    For images that may show several findings at once, some of them not known of every
    image. Each finding is stratified on its own, where scikit-learn's
    `StratifiedGroupKFold` takes one class an image.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the groups first; it decides between equally good folds.
    random_state : int, RandomState instance or None, default=None
        Decides the shuffling; only with ``shuffle=True``.

    See Also
    --------
    PatientKFold : The same for one class an image.
    group_train_test_split : A single split.

    Notes
    -----
    Iterative stratification [1]_, with groups in place of images: those that bear the
    rarest label come first, large ones before small ones; each goes to the fold that
    lacks most of what it holds. Of each label the images that have it, and those known
    not to have it, are counted; NaN is neither.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the stratification of multi-label
       data", ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.model_selection import MultilabelStratifiedGroupKFold
    >>> rng = np.random.default_rng(0)
    >>> y = (rng.random((300, 3)) < [0.5, 0.1, 0.05]).astype(float)
    >>> y[:100, 2] = np.nan  # not looked for in the first hundred
    >>> patients = rng.integers(0, 120, 300)
    >>> cv = MultilabelStratifiedGroupKFold(3)
    >>> for train, test in cv.split(np.zeros((300, 8, 8)), y, patients):
    ...     print(len(test), np.nansum(y[test], axis=0), np.isnan(y[test, 2]).sum())
    100 [48.  7.  3.] 34
    100 [47.  6.  3.] 31
    100 [48.  8.  4.] 35
    """

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[Split]:
        """Generate indices of training and test images.

        Parameters
        ----------
        X : ImageSequence or array-like of shape (n, …)
            Images.
        y : array-like of shape (n,) or (n, n_labels)
            Label indicators, NaN for unknown; or classes.
        groups : array-like of shape (n,), default=None
            Patient of each image; None takes ``X.groups``.

        Yields
        ------
        train, test : ndarray
            Indices of the images of each side.

        Raises
        ------
        ValueError
            If there are no groups in either place, fewer groups than folds, one is
            missing (None, NaN), or y is no classes or label indicators.

        Warns
        -----
        UserWarning
            If a label is held by fewer groups than there are folds.
        """
        group = _group_numbers(type(self).__name__, X, groups)
        counts = _counts(y, group, "y")
        _warn_of_rare(counts, self.n_splits)
        rng = check_generator(self.random_state) if self.shuffle else None
        shares = np.full(self.n_splits, 1 / self.n_splits)
        fold = _assign(counts, shares, rng, large_first=True)[group]
        for number in range(len(shares)):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


@validate_params(
    {
        "test_size": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def group_train_test_split(
    *arrays: Any,
    groups: Any = None,
    test_size: float = 0.25,
    stratify: Any = None,
    random_state: Any = None,
) -> list[Any]:
    """Split arrays into training and test parts in which no group is cut.

    `sklearn.model_selection.train_test_split` for images of patients.

    Parameters
    ----------
    *arrays : sequence of indexables of length n
        Images, labels, … `ImageSequence`, arrays, lists, data frames, sparse matrices.
    groups : array-like of shape (n,), default=None
        Patient of each image; None takes those of the first array that has some
        (`ImageSequence`).
    test_size : float or int, default=0.25
        Share of the images to test on, or their number. As groups stay whole it is met
        about.
    stratify : array-like of shape (n,) or (n, n_labels), default=None
        Classes, or label indicators with NaN for unknown, to be as frequent on both
        sides.
    random_state : int, RandomState instance or None, default=None
        Decides which groups are tested.

    Returns
    -------
    list of length 2 * len(arrays)
        Training and test part of each array.

    Raises
    ------
    ValueError
        If there are no arrays or no groups, lengths differ, there is one group only, or
        `test_size` leaves no image on a side.

    Warns
    -----
    UserWarning
        If a label is held by one group only, and cannot be on both sides.

    See Also
    --------
    PatientKFold, MultilabelStratifiedGroupKFold : Every image is tested once.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.io import ImageSequence
    >>> from skmedimg.model_selection import group_train_test_split
    >>> patients = np.repeat(np.arange(20), 2)
    >>> X = ImageSequence.from_array(np.zeros((40, 8, 8)), groups=patients)
    >>> y = np.repeat([0, 1, 0, 0], 10)
    >>> X_train, X_test, y_train, y_test = group_train_test_split(
    ...     X, y, stratify=y, random_state=0
    ... )
    >>> X_train.shape, X_test.shape, set(X_train.groups) & set(X_test.groups)
    ((30, 8, 8), (10, 8, 8), set())
    """
    if not arrays:
        raise ValueError("pass at least one array to split.")
    arrays = tuple(indexable(*arrays))
    if groups is None:
        groups = next((g for g in map(groups_of, arrays) if g is not None), None)
    group = _group_numbers("group_train_test_split", arrays[0], groups)
    share = test_size if test_size < 1 else test_size / len(group)
    if share >= 1:
        raise ValueError(
            f"test_size={test_size} leaves none of {len(group)} images to train on."
        )
    counts = _counts(stratify, group, "stratify")
    _warn_of_rare(counts, 2)
    shares = np.array([1 - share, share])
    rng = check_generator(random_state)
    # Large groups first would always train on the largest.
    side = _assign(counts, shares, rng, large_first=False)[group]
    rows = [np.flatnonzero(side == number) for number in range(2)]
    return [_safe_indexing(array, part) for array in arrays for part in rows]


def _group_numbers(name: str, X: Any, groups: Any) -> np.ndarray:
    """Group of each image, numbered as they appear, whatever their names."""
    import pandas as pd

    patients = patients_of(X, groups, _num_samples(X))
    if patients is None:
        raise ValueError(
            f"{name} needs to know the patients: pass groups=, or X as "
            "ImageSequence.from_array(X, groups=...). Where each image is a patient of "
            "its own, groups=range(len(X))."
        )
    return pd.factorize(patients)[0]


def _counts(y: Any, group: np.ndarray, name: str) -> np.ndarray:
    """How often each group holds each label, and its images, (n_groups, n_labels + 1).

    A label that is present and one that is known to be absent count as two.
    """
    held = np.ones((len(group), 1))
    if y is not None:
        check_consistent_length(group, y)
        held = np.column_stack([_indicator(np.asarray(y), name), held])
    counts = np.zeros((group.max() + 1, held.shape[1]))
    np.add.at(counts, group, held)
    return counts


def are_indicators(y: Any) -> bool:
    """Whether y has a column a label: 1, 0, or NaN for unknown."""
    values = np.asarray(y)
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "biuf":
        return False
    return bool(np.isin(values[~np.isnan(values)], (0, 1)).all())


def _indicator(y: np.ndarray, name: str) -> np.ndarray:
    """One column a class, or two a label: present, and known to be absent."""
    import pandas as pd

    if y.ndim == 2 and y.shape[1] > 1:
        values = y.astype(float)
        if not np.isin(values[~np.isnan(values)], (0, 1)).all():
            raise ValueError(
                f"{name} of shape {y.shape} holds other values than 0, 1 and NaN: pass "
                "one class an image, or a column a label that says whether it is there."
            )
        return np.column_stack([values == 1, values == 0])
    code, classes = pd.factorize(y.ravel())
    known = y.ravel()[code >= 0]
    if known.dtype.kind == "f" and (known != np.rint(known)).any():
        raise ValueError(
            f"{name} holds fractions, {known[known != np.rint(known)][0]:g} for one, "
            "and no classes: cut them into bins first, for example by pandas.qcut."
        )
    return code[:, np.newaxis] == np.arange(len(classes))


def _warn_of_rare(counts: np.ndarray, n_parts: int) -> None:
    holders = (counts > 0).sum(axis=0)[:-1]
    rare = (holders > 0) & (holders < n_parts)
    if rare.any():
        warnings.warn(
            f"{rare.sum()} of {len(rare)} labels (present, or absent) are held by "
            f"fewer than {n_parts} groups, the rarest by {holders[rare].min()}: a "
            "part without one cannot be scored for it. Use fewer folds, or leave such "
            "labels out.",
            UserWarning,
            stacklevel=3,
        )


def _assign(
    counts: np.ndarray,
    shares: np.ndarray,
    rng: np.random.Generator | None,
    *,
    large_first: bool,
) -> np.ndarray:
    """Part that each group goes to, so that all hold their share of every label.

    Parameters
    ----------
    counts : ndarray of shape (n_groups, n_labels + 1)
        Images of each label in each group, and its images, last.
    shares : ndarray of shape (n_parts,)
        Of all images, that each part is to hold; their sum is 1.
    rng : numpy.random.Generator or None
        Shuffles the groups first.
    large_first : bool
        Whether large groups go before small ones that bear labels as rare.

    Returns
    -------
    ndarray of shape (n_groups,)
        Number of the part.
    """
    n_groups, n_parts = len(counts), len(shares)
    if n_groups < n_parts:
        raise ValueError(
            f"there are {n_groups} groups for {n_parts} parts, none of which may be "
            "empty: use fewer folds, or see whether the groups are the patients."
        )
    order = np.arange(n_groups) if rng is None else rng.permutation(n_groups)
    rarest = np.where(counts > 0, (counts > 0).sum(axis=0), n_groups).min(axis=1)
    size = counts[:, -1]
    first = -size[order] if large_first else np.zeros(n_groups)
    order = order[np.lexsort((first, rarest[order]))]
    totals = counts.sum(axis=0)
    # So that one image of a rare label counts more than one of a common label.
    weighted = counts / np.maximum(totals, 1)
    part = np.full(n_groups, -1)
    have, seen = np.zeros((n_parts, len(totals))), np.zeros(len(totals))
    for position, group in enumerate(order):
        # What a part lacks of all that has been dealt out: of the whole, the largest
        # part would lack most, and be served first whatever the labels.
        lacking = np.outer(shares, seen) - have
        gain = lacking @ weighted[group]
        full = have[:, -1] + size[group] / 2 > shares * totals[-1]
        if not full.all():
            gain[full] = -np.inf
        empty = have[:, -1] == 0
        if n_groups - position == empty.sum():
            gain[~empty] = -np.inf
        best = np.flatnonzero(gain >= gain.max() - 1e-9)
        chosen = best[(shares[best] * totals[-1] - have[best, -1]).argmax()]
        part[group] = chosen
        have[chosen] += counts[group]
        seen += counts[group]
    return part
