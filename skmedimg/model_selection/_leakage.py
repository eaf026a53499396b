"""Copies of images, and patients, on both sides of a split."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, product
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import Interval, Options, validate_params
from sklearn.utils.validation import check_consistent_length

from skmedimg.images import (
    ImageArray,
    ImageSpec,
    Reading,
    as_image_source,
    check_numeric,
)
from skmedimg.model_selection._patients import one_label, patients_of, wants_groups
from skmedimg.model_selection._twins import Twins, describe, find_twins

if TYPE_CHECKING:
    import pandas as pd

# Which rows train, and which are tested, in each split: (n_splits, n) bool each.
Sides = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, repr=False)
class LeakageReport:
    """What `audit_leakage` has found.

    Attributes
    ----------
    pairs : pandas.DataFrame
        A row a pair of copies, exact ones first, then by falling correlation. `first`
        and `second` are rows of X (`second` of X_test where there is one); `kind` is
        "exact" or "near"; `change` says how the second follows from the first: its
        axes in that order, mirrored along those named, bright and dark inverted.
        `same_label`, `same_group` where labels and groups are known; `n_splits` where
        there is a `cv`: in how many splits one is in training and the other in the
        test.
    shared_groups : pandas.DataFrame
        `split`, `group`, `train_images`, `test_images` of every group that is on both
        sides of a split.
    summary : pandas.DataFrame
        For exact duplicates, near-duplicates and shared groups: how many were `found`
        (pairs, or groups), and the `images` among them. With a split instead:
        `test_images` that are tested, in some split, while a copy of them or an image
        of their group is in training, and their `test_share` of all that are tested.
    groups : ndarray of shape (n,) or None
        Groups for a splitter that leaks nothing of what was found: numbers, equal for
        images of one group and for copies. None with X_test, and where not all pairs
        were kept.
    """

    pairs: "pd.DataFrame"
    shared_groups: "pd.DataFrame"
    summary: "pd.DataFrame"
    groups: np.ndarray | None

    def __repr__(self) -> str:
        return f"LeakageReport\n{self.summary}"


@validate_params(
    {
        "threshold": [Interval(Real, 0, 1, closed="neither")],
        "max_pairs": [Interval(Integral, 1, None, closed="left")],
        "image_size": ["array-like", None],
        "spatial_dims": [Options(int, {2, 3}), None],
        "channel_axis": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def audit_leakage(
    X: Any,
    y: Any = None,
    groups: Any = None,
    cv: Any = None,
    *,
    X_test: Any = None,
    y_test: Any = None,
    groups_test: Any = None,
    threshold: float = 0.96,
    max_pairs: int = 100_000,
    image_size: Sequence[int] | None = None,
    spatial_dims: int | None = None,
    channel_axis: int | None = None,
) -> LeakageReport:
    """Look for copies of images, and for patients, on both sides of a split.

    Exact duplicates are found by their content. Near-duplicates may differ in size,
    brightness, contrast and compression, be mirrored, turned by right angles, or
    inverted; cropped, shifted or freely rotated copies are not looked for.

    Parameters
    ----------
    X : array-like or ImageSequence of n images
        In any layout of `CNNImageClassifier` but (n, p).
    y : array-like of shape (n,) or (n, n_labels), default=None
        Labels, to tell which copies bear another one.
    groups : array-like of shape (n,), default=None
        Patient of each image; None takes ``X.groups``.
    cv : int, splitter or iterable of (train, test), default=None
        Splits to audit; a number of folds as scikit-learn reads it, patients not kept
        apart. Without `cv` and X_test, X is looked through as a whole.
    X_test : array-like or ImageSequence of n_test images, default=None
        Test images, where X are the training ones; only pairs between both are
        reported. Their size and dtype may differ.
    y_test : array-like of shape (n_test,) or (n_test, n_labels), default=None
        Labels of X_test.
    groups_test : array-like of shape (n_test,), default=None
        Patient of each image of X_test; None takes ``X_test.groups``.
    threshold : float, default=0.96
        Least correlation of near-duplicates, between 0 and 1. See Notes.
    max_pairs : int, default=100_000
        How many pairs to keep, exact ones first, then the closest.
    image_size : sequence of int, default=None
        Size that images of differing shapes are resized to.
    spatial_dims : {2, 3}, default=None
        Axes of an image, where the shape of X alone does not tell.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last, where its shape alone does not tell.

    Returns
    -------
    LeakageReport
        Pairs, shared groups, a summary, and groups that keep copies together.

    Raises
    ------
    ValueError
        If X cannot be read as images, lengths differ, `cv` and X_test are both given,
        or y or groups are known for one of X and X_test only.

    Warns
    -----
    UserWarning
        If there are more than `max_pairs` pairs.

    See Also
    --------
    PatientKFold : Keeps patients, or `LeakageReport.groups`, apart.

    Notes
    -----
    The correlation is that of the edges (gradients) of both images in their 10 × 10
    lowest frequencies (8 × 8 × 8 in volumes), the best over all mirrored and turned
    versions. All pairs are compared, none is missed by an approximation: the time grows
    with n², and is seconds for 50,000 images.

    Among the 17 million pairs of PneumoniaMNIST, 31 are copies and correlate by .999 or
    more; eleven that only look alike reach .94, one of them .955. Smooth masks of
    organs reach .98. So look at the pairs in order, and raise `threshold` where they
    are no copies. Copies resized to half and back, or of JPEG quality 50, were all
    found at .96, nine in ten of quality 20 (``benchmarks/bench_leakage.py``).
    Images of fewer than about 8 × 8 pixels hold too little to tell them apart.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.model_selection import PatientKFold, audit_leakage
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 200, (40, 16, 16), dtype=np.uint8)
    >>> X[30] = X[3]
    >>> X[31] = X[4, :, ::-1] // 2 + 50  # mirrored, with less contrast
    >>> report = audit_leakage(X, cv=5)
    >>> report.pairs[["first", "second", "kind", "change", "n_splits"]]
       first  second   kind      change  n_splits
    0      3      30  exact        none         2
    1      4      31   near  mirrored W         2
    >>> report.summary["test_images"].to_dict()
    {'exact duplicates': 2, 'near-duplicates': 2}

    Folds that keep copies together:

    >>> folds = PatientKFold(5).split(X, np.arange(40) % 2, report.groups)
    >>> audit_leakage(X, cv=folds).summary["test_images"].to_dict()
    {'exact duplicates': 0, 'near-duplicates': 0}
    """
    if X_test is None and not (y_test is None and groups_test is None):
        raise ValueError(
            "y_test and groups_test are of X_test, which is None: pass it."
        )
    if X_test is not None and cv is not None:
        raise ValueError(
            "cv splits X, and X_test is a split already: pass one of them."
        )
    reading = {"spatial_dims": spatial_dims, "channel_axis": channel_axis}
    known = describe(_read("X", X, image_size, reading))
    n = len(known.digest)
    labels, patients = _labels(y, n), patients_of(X, groups, n)
    sides = None
    if cv is not None:
        sides = _sides_of(cv, X, y, patients, n)
    elif X_test is not None:
        others = describe(_read("X_test", X_test, image_size, reading))
        _check_axes(known.spectrum, others.spectrum)
        known, n_test = known + others, len(others.digest)
        labels = _joined("y", labels, _labels(y_test, n_test))
        patients_test = patients_of(X_test, groups_test, n_test)
        patients = _joined("groups", patients, patients_test)
        tested = np.arange(n + n_test)[np.newaxis] >= n
        sides = ~tested, tested
    n_first = None if X_test is None else n
    audit = _Audit(known.digest, n_first, sides, _codes(labels), patients)
    return audit.report(known.spectrum, threshold, max_pairs)


class _Audit:
    """All rows of X, then of X_test, and what is known of them."""

    def __init__(
        self,
        digest: np.ndarray,  # (n, 2)
        n_first: int | None,  # rows of X; only its pairs with X_test then count
        sides: Sides | None,  # training and test
        label: np.ndarray | None,  # (n,) int
        patients: np.ndarray | None,  # (n,)
    ) -> None:
        self.n_first, self.sides = n_first, sides
        self.label, self.patients = label, patients
        _, start, member = np.unique(
            digest, axis=0, return_index=True, return_inverse=True
        )
        # Distinct images are numbered as they appear.
        self.member = np.argsort(np.argsort(start))[member.ravel()]  # (n,)
        self.distinct = np.sort(start)  # (m,), first row of each
        order = np.argsort(self.member, kind="stable")
        self.count = np.bincount(self.member)  # (m,)
        self.copies = np.split(order, np.cumsum(self.count)[:-1])
        # How often X, and X_test, hold each distinct image.
        self.left = np.bincount(self.member[:n_first], minlength=len(start))
        self.right = self.count - self.left

    def report(
        self, spectrum: np.ndarray, threshold: float, most: int
    ) -> LeakageReport:
        twins = find_twins(spectrum[self.distinct], threshold, most, self._matter)
        every = np.arange(len(self.distinct))
        sets = {
            "exact duplicates": (every, every),
            "near-duplicates": (twins.first, twins.second),
        }
        n_found = {k: int(self._pairs_of_rows(*v).sum()) for k, v in sets.items()}
        n_lost = twins.n_found - len(twins.first)
        n_found["near-duplicates"] += n_lost
        if sum(n_found.values()) > most:
            _warn_of_many(sum(n_found.values()), most, threshold)
        shared = self._shared_groups()
        whole = self.n_first is None and not n_lost
        return LeakageReport(
            pairs=self._pairs(twins, most),
            shared_groups=shared,
            summary=self._summary(sets, n_found, shared),
            groups=self._merged(twins) if whole else None,
        )

    def _matter(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Which pairs of distinct images are to be reported."""
        return self._pairs_of_rows(first, second) > 0

    def _pairs_of_rows(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pairs of rows behind each pair of distinct images, or of one with itself."""
        same, left, right = first == second, self.left, self.right
        if self.n_first is None:
            pairs = self.count[first] * (self.count[second] - same)
        else:
            pairs = left[first] * right[second] + left[second] * right[first]
        return np.where(same, pairs // 2, pairs)

    def _pairs(self, twins: Twins, most: int) -> "pd.DataFrame":
        import pandas as pd

        exact = (
            (i, j, "exact", 1.0, "none")
            for rows in self.copies
            for i, j in self._rows(rows, rows)
        )
        near = (
            (i, j, "near", float(correlation), str(change))
            for a, b, correlation, *changes in zip(
                twins.first,
                twins.second,
                twins.correlation,
                twins.change,
                twins.change_back,
                strict=True,
            )
            for one, other, change in ((a, b, changes[0]), (b, a, changes[1]))
            for i, j in self._rows(self.copies[one], self.copies[other])
        )
        columns = ["first", "second", "kind", "correlation", "change"]
        found = list(islice(chain(exact, near), most))
        table = pd.DataFrame(found, columns=columns)
        kinds = {"first": int, "second": int, "correlation": float}
        table = table.astype(kinds)
        first, second = table["first"].to_numpy(), table["second"].to_numpy()
        if self.label is not None:
            table["same_label"] = self.label[first] == self.label[second]
        if self.patients is not None:
            table["same_group"] = self.patients[first] == self.patients[second]
        if self.n_first is not None:
            table["second"] -= self.n_first
        elif self.sides is not None:
            train, test = self.sides
            apart = train[:, first] & test[:, second]
            apart |= train[:, second] & test[:, first]
            table["n_splits"] = apart.sum(axis=0)
        return table

    def _rows(self, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of a row of one image and a later row of another, or of the same."""
        if self.n_first is not None:
            yield from product(a[a < self.n_first], b[b >= self.n_first])
        elif a is b:
            yield from combinations(a, 2)
        else:
            yield from ((i, j) for i, j in product(a, b) if i < j)

    def _shared_groups(self) -> "pd.DataFrame":
        import pandas as pd

        columns = ["split", "group", "train_images", "test_images"]
        if self.patients is None or self.sides is None:
            return pd.DataFrame(columns=columns)
        code, names = pd.factorize(self.patients)
        parts = []
        for split, sides in enumerate(zip(*self.sides, strict=True)):
            before, after = (np.bincount(code[s], minlength=len(names)) for s in sides)
            shared = np.flatnonzero((before > 0) & (after > 0))
            values = (split, names[shared], before[shared], after[shared])
            parts.append(pd.DataFrame(dict(zip(columns, values, strict=True))))
        return pd.concat(parts, ignore_index=True)

    def _summary(
        self, sets: dict[str, Any], n_found: dict[str, int], shared: "pd.DataFrame"
    ) -> "pd.DataFrame":
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {}
        if self.sides is None:
            for kind, pairs in sets.items():
                images = int(self._in_pairs(*pairs).sum())
                rows[kind] = {"found": n_found[kind], "images": images}
            return pd.DataFrame.from_dict(rows, orient="index")
        found = {
            kind: self._tested(first, second, self.member)
            for kind, (first, second) in sets.items()
        }
        if self.patients is not None:
            code, names = pd.factorize(self.patients)
            every = np.arange(len(names))
            found["shared groups"] = self._tested(every, every, code)
            n_found["shared groups"] = shared["group"].nunique()
        n_tested = int(self.sides[1].any(axis=0).sum())
        for kind, tested in found.items():
            count = int(tested.sum())
            rows[kind] = {
                "found": n_found[kind],
                "test_images": count,
                "test_share": count / n_tested,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def _in_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Rows that are in a pair."""
        other = first != second
        found = np.zeros(len(self.distinct), dtype=bool)
        found[first[other | (self.count[first] > 1)]] = True
        found[second[other]] = True
        return found[self.member]

    def _tested(
        self, first: np.ndarray, second: np.ndarray, member: np.ndarray
    ) -> np.ndarray:
        """Rows tested in a split that trains on another of their pair.

        Pairs are of distinct images, or of groups; `member` has that of each row.
        """
        found = np.zeros(len(member), dtype=bool)
        for train, test in zip(*(self.sides or ()), strict=True):
            trained = np.zeros(member.max() + 1, dtype=bool)
            trained[member[train]] = True
            copied = np.zeros_like(trained)
            copied[second[trained[first]]] = True
            copied[first[trained[second]]] = True
            found |= test & copied[member]
        return found

    def _merged(self, twins: Twins) -> np.ndarray:
        """Connected components of images that share their pixels, a twin or a group."""
        import pandas as pd

        n = len(self.distinct)
        first, second, size = twins.first, twins.second, n
        if self.patients is not None:
            code, names = pd.factorize(self.patients)
            first = np.concatenate([first, self.member])
            second = np.concatenate([second, n + code])
            size += len(names)
        graph = coo_array((np.ones(len(first)), (first, second)), shape=(size, size))
        component = connected_components(graph, directed=False)[1]
        return pd.factorize(component[self.member])[0]


def _warn_of_many(n_found: int, most: int, threshold: float) -> None:
    warnings.warn(
        f"{n_found} pairs are equal or correlate by at least threshold={threshold:g}: "
        f"kept are the closest {most}, and the numbers of images are lower bounds. "
        "Raise threshold if these images only look alike, or max_pairs.",
        UserWarning,
        stacklevel=5,
    )


def _read(
    name: str, X: Any, image_size: Sequence[int] | None, reading: Reading
) -> ImageArray:
    source, reading = as_image_source(X, image_size, reading)
    if isinstance(source, np.ndarray):
        source = check_numeric(source)
    if len(source.shape) < 3 or min(source.shape) == 0:
        raise ValueError(
            f"{name} has shape {tuple(source.shape)}: pass at least one image, with "
            "all axes, for example X.reshape(-1, 28, 28)."
        )
    return ImageArray(
        source, ImageSpec.from_array(source, image_size=image_size, **reading)
    )


def _check_axes(first: np.ndarray, second: np.ndarray) -> None:
    if first.ndim != second.ndim:
        raise ValueError(
            f"X holds images of {first.ndim - 1} spatial axes and X_test of "
            f"{second.ndim - 1}, which cannot be compared: see spatial_dims."
        )


def _sides_of(cv: Any, X: Any, y: Any, groups: Any, n: int) -> Sides:
    """Which of n images train, and which are tested, in each split."""
    cv = check_cv(cv, y, classifier=y is not None)
    # Those of scikit-learn that split images by themselves warn of groups.
    splits = list(cv.split(X, y, groups if wants_groups(cv) else None))
    if not splits or not all(len(test) for _, test in splits):
        raise ValueError(
            f"cv={cv!r} tests nothing in {len(splits)} splits: give each test images."
        )
    train, test = np.zeros((2, len(splits), n), dtype=bool)
    for split, (train_rows, test_rows) in enumerate(splits):
        train[split, train_rows] = True
        test[split, test_rows] = True
    return train, test


def _labels(y: Any, n: int) -> np.ndarray | None:
    if y is None:
        return None
    check_consistent_length(np.empty(n), y)
    return np.asarray(y)


def _joined(
    name: str, first: np.ndarray | None, second: np.ndarray | None
) -> np.ndarray | None:
    """Values of X, then of X_test; None where neither has any."""
    if first is None and second is None:
        return None
    if first is None or second is None:
        lacks = "X" if first is None else "X_test"
        raise ValueError(
            f"{name} is known for one of X and X_test, not for {lacks}: pass "
            f"{name} and {name}_test, or neither."
        )
    numbers = [np.issubdtype(values.dtype, np.number) for values in (first, second)]
    if first.ndim != second.ndim or numbers[0] != numbers[1]:
        raise ValueError(
            f"{name} of X and of X_test have shapes {first.shape} and {second.shape}, "
            f"types {first.dtype} and {second.dtype}, and cannot be compared: write "
            "both in one way."
        )
    return np.concatenate([first, second])


def _codes(labels: np.ndarray | None) -> np.ndarray | None:
    import pandas as pd

    return None if labels is None else pd.factorize(np.ravel(one_label(labels)))[0]
