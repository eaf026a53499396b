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
from skmedimg.model_selection._patients import one_label, patients_of
from skmedimg.model_selection._twins import Twins, describe, find_twins

if TYPE_CHECKING:
    import pandas as pd


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
        "threshold": [Interval(Real, 0, 1, closed="right")],
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
    threshold: float = 0.95,
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
        Splits to audit. Without `cv` and X_test, X is looked through as a whole.
    X_test : array-like or ImageSequence of n_test images, default=None
        Test images, where X are the training ones; only pairs between both are
        reported. Their size and dtype may differ.
    y_test : array-like of shape (n_test,) or (n_test, n_labels), default=None
        Labels of X_test.
    groups_test : array-like of shape (n_test,), default=None
        Patient of each image of X_test; None takes ``X_test.groups``.
    threshold : float, default=0.95
        Least correlation of near-duplicates. See Notes.
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
    The correlation is that of the edges (gradients) of both images in their 12 × 12
    lowest frequencies (8 × 8 × 8 in volumes), the best over all mirrored and turned
    versions. The greatest correlation of images that only look alike was .945 among the
    17 million pairs of PneumoniaMNIST, .92 is common there, and smooth masks of organs
    reach .98: look at the pairs in order, and raise `threshold` where they are no
    copies. Copies with strong compression (JPEG quality 20) fall to .90. Images of
    fewer than about 8 × 8 pixels hold too little to tell them apart.

    All pairs are compared, none is missed by an approximation: the time grows with
    n², and is seconds for 50,000 images.

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
    train = test = None
    if cv is not None:
        train, test = _sides_of(cv, X, y, groups, n)
    elif X_test is not None:
        known += describe(_read("X_test", X_test, image_size, reading))
        n_all = len(known.digest)
        labels = _joined("y", labels, _labels(y_test, n_all - n))
        others = patients_of(X_test, groups_test, n_all - n)
        patients = _joined("groups", patients, others)
        train, test = (
            np.arange(n_all)[np.newaxis] < n,
            np.arange(n_all)[np.newaxis] >= n,
        )
    audit = _Audit(
        known.digest, n, X_test is not None, train, test, _codes(labels), patients
    )
    return audit.report(known.spectrum, threshold, max_pairs)


class _Audit:
    """All rows of X, then of X_test, and what is known of them."""

    def __init__(
        self,
        digest: np.ndarray,  # (n, 2)
        n_first: int,  # rows of X
        crossing: bool,  # whether only pairs of X and X_test count
        train: np.ndarray | None,  # (n_splits, n) bool
        test: np.ndarray | None,
        label: np.ndarray | None,  # (n,) int
        patients: np.ndarray | None,  # (n,)
    ) -> None:
        self.n_first, self.crossing = n_first, crossing
        self.train, self.test = train, test
        self.label, self.patients = label, patients
        _, start, member = np.unique(
            digest, axis=0, return_index=True, return_inverse=True
        )
        # Distinct images are numbered as they appear.
        self.member = np.argsort(np.argsort(start))[member.ravel()]  # (n,)
        self.distinct = np.sort(start)  # (m,), first row of each
        order = np.argsort(self.member, kind="stable")
        self.copies = np.split(order, np.cumsum(np.bincount(self.member))[:-1])
        # How often X, and X_test, hold each distinct image.
        parts, m = (self.member[:n_first], self.member[n_first:]), len(start)
        self.left, self.right = (np.bincount(part, minlength=m) for part in parts)

    def report(
        self, spectrum: np.ndarray, threshold: float, most: int
    ) -> LeakageReport:
        twins = find_twins(spectrum[self.distinct], threshold, most, self._matter)
        every = np.arange(len(self.distinct))
        sets = {
            "exact duplicates": (every, every),
            "near-duplicates": (twins.first, twins.second),
        }
        n_found = {kind: self._count(*pairs) for kind, pairs in sets.items()}
        n_lost = twins.n_found - len(twins.first)
        n_found["near-duplicates"] += n_lost
        if sum(n_found.values()) > most:
            _warn_of_many(sum(n_found.values()), most, threshold)
        shared = self._shared_groups()
        whole = not self.crossing and not n_lost
        return LeakageReport(
            pairs=self._pairs(twins, most),
            shared_groups=shared,
            summary=self._summary(sets, n_found, shared),
            groups=self._merged(twins) if whole else None,
        )

    def _matter(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Which pairs of distinct images are to be reported."""
        if not self.crossing:
            return np.ones(len(first), dtype=bool)
        left, right = self.left, self.right
        return (left[first] * right[second] + left[second] * right[first]) > 0

    def _count(self, first: np.ndarray, second: np.ndarray) -> int:
        """Pairs of rows behind pairs of distinct images, or of one with itself."""
        left, right, same = self.left, self.right, first == second
        if self.crossing:
            pairs = left[first] * right[second] + left[second] * right[first]
            return int(np.where(same, pairs // 2, pairs).sum())
        count = left + right
        pairs = count[first] * (count[second] - same)
        return int(np.where(same, pairs // 2, pairs).sum())

    def _pairs(self, twins: Twins, most: int) -> "pd.DataFrame":
        import pandas as pd

        exact = (
            (i, j, "exact", 1.0, "none")
            for rows in self.copies
            for i, j in self._rows(rows, rows)
        )
        near = (
            (i, j, "near", float(correlation), str(change))
            for a, b, correlation, change in zip(
                twins.first, twins.second, twins.correlation, twins.change, strict=True
            )
            for i, j in self._rows(self.copies[a], self.copies[b])
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
        if self.crossing:
            table["second"] -= self.n_first
        elif self.train is not None and self.test is not None:
            apart = self.train[:, first] & self.test[:, second]
            apart |= self.train[:, second] & self.test[:, first]
            table["n_splits"] = apart.sum(axis=0)
        return table

    def _rows(self, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of rows of two distinct images, or of one and the same."""
        if not self.crossing:
            yield from combinations(a, 2) if a is b else product(a, b)
            return
        yield from product(a[a < self.n_first], b[b >= self.n_first])
        if a is not b:
            yield from product(b[b < self.n_first], a[a >= self.n_first])

    def _shared_groups(self) -> "pd.DataFrame":
        import pandas as pd

        columns = ["split", "group", "train_images", "test_images"]
        if self.patients is None or self.train is None or self.test is None:
            return pd.DataFrame(columns=columns)
        code, names = pd.factorize(self.patients)
        parts = []
        for split, sides in enumerate(zip(self.train, self.test, strict=True)):
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
        tested = 1 if self.test is None else int(self.test.any(axis=0).sum())
        for kind, (first, second) in sets.items():
            if self.train is None:
                images = self._in_pairs(first, second)
                rows[kind] = {"found": n_found[kind], "images": int(images.sum())}
            else:
                images = self._tested_copies(first, second)
                rows[kind] = _tested_row(n_found[kind], images, tested)
        if self.patients is not None and self.train is not None:
            code, names = pd.factorize(self.patients)
            every = np.arange(len(names))
            images = self._tested_copies(every, every, code)
            n_shared = shared["group"].nunique()
            rows["shared groups"] = _tested_row(n_shared, images, tested)
        return pd.DataFrame.from_dict(rows, orient="index")

    def _in_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Rows that are in a pair."""
        count = self.left + self.right
        other = first != second
        found = np.zeros(len(self.distinct), dtype=bool)
        found[first[other | (count[first] > 1)]] = True
        found[second[other]] = True
        return found[self.member]

    def _tested_copies(
        self, first: np.ndarray, second: np.ndarray, member: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows tested in a split that trains on another of their pair."""
        member = self.member if member is None else member
        found = np.zeros(len(member), dtype=bool)
        if self.train is None or self.test is None:
            return found
        for train, test in zip(self.train, self.test, strict=True):
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
        patient = np.arange(0)
        rows = self.distinct[:0]
        if self.patients is not None:
            patient = pd.factorize(self.patients)[0]
            rows = self.member
        size = n + (patient.max() + 1 if len(patient) else 0)
        edges = (
            np.concatenate([twins.first, rows]),
            np.concatenate([twins.second, n + patient]),
        )
        graph = coo_array((np.ones(len(edges[0])), edges), shape=(size, size))
        component = connected_components(graph, directed=False)[1]
        return pd.factorize(component[self.member])[0]


def _tested_row(n_found: int, images: np.ndarray, tested: int) -> dict[str, Any]:
    count = int(images.sum())
    return {"found": n_found, "test_images": count, "test_share": count / tested}


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


def _sides_of(
    cv: Any, X: Any, y: Any, groups: Any, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which of n images train, and which are tested, in each split."""
    splits = list(check_cv(cv, y, classifier=y is not None).split(X, y, groups))
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
