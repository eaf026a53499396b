"""What every metric is given, checked once: labels, scores, clusters; what it gives."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

_MISSING = {"None", "nan", "NaN", "NaT", "<NA>"}


class Estimate(NamedTuple):
    """A figure with its confidence interval.

    Attributes
    ----------
    value : float
        Point estimate.
    low, high : float
        Bounds of the interval.
    """

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """A difference of two figures with its confidence interval and test.

    Attributes
    ----------
    difference : float
        The first less the second.
    low, high : float
        Bounds of the interval of the difference.
    statistic : float
        Test statistic, of the sign of the difference.
    p_value : float
        Two-sided p-value for no difference.
    """

    difference: float
    low: float
    high: float
    statistic: float
    p_value: float


def check_binary(
    y_true: Any,
    y_score: Any,
    pos_label: Any,
    groups: Any,
    names: tuple[str, str, str] = ("y_true", "y_score", "groups"),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check two-class labels, their scores and their clusters.

    Returns
    -------
    positive : ndarray of bool, shape (n,)
        Whether a case is positive.
    score : ndarray of float, shape (n,)
        Scores.
    cluster : ndarray of int, shape (n,)
        Clusters, counted from 0; without `groups` every case is its own.

    Raises
    ------
    ValueError
        If anything is missing, of another length, or not of two classes.
    """
    y_true = check_column(y_true, names[0])
    score = check_score(y_score, len(y_true), names[1], names[0])
    code, labels = encode(y_true, names[0])
    positive = code == positive_code(labels, pos_label, names[0])
    return positive, score, check_groups(groups, len(y_true), names[2])


def check_decisions(
    y_true: Any, y_pred: Any, pos_label: Any, groups: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check two-class labels, the labels predicted, and the clusters.

    Either may lack a class: a sensitivity needs no negative case.

    Returns
    -------
    positive : ndarray of bool, shape (n,)
        Whether a case is positive.
    called : ndarray of bool, shape (n,)
        Whether it is predicted positive.
    cluster : ndarray of int, shape (n,)
        Clusters, counted from 0; without `groups` every case is its own.

    Raises
    ------
    ValueError
        If anything is missing, of another length, or of more than two classes.
    """
    y_true = check_column(y_true, "y_true")
    y_pred = check_labels(y_pred, y_true, "y_pred")
    code, labels = encode(np.append(y_true, y_pred), "y_true or y_pred")
    is_positive = code == positive_code(labels, pos_label, "y_true and y_pred", 1)
    positive, called = np.split(is_positive, 2)
    return positive, called, check_groups(groups, len(y_true))


def check_score(y_score: Any, n: int, name: str, labels: str) -> np.ndarray:
    score = check_column(y_score, name)
    try:
        score = score.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} holds other than numbers ({error}): pass scores, for example "
            "predict_proba(X)[:, 1], not predicted labels."
        ) from error
    if len(score) != n:
        raise ValueError(
            f"{labels} has {n} labels but {name} has {len(score)} scores: "
            "pass one score a case."
        )
    if np.isnan(score).any():
        bad = np.flatnonzero(np.isnan(score))
        raise ValueError(
            f"{name} contains {len(bad)} NaN, the first at index {bad[0]}: a case "
            f"without a score has no rank. Drop these cases from {labels} and {name}."
        )
    return score


def check_labels(y_pred: Any, y_true: np.ndarray, name: str) -> np.ndarray:
    """Check predicted labels against true ones: one a case, of the same kind."""
    y_pred = check_column(y_pred, name)
    if y_pred.dtype.kind == "f" and y_true.dtype.kind != "f":
        scores = y_pred[np.isfinite(y_pred) & (y_pred % 1 != 0)]
        if len(scores):
            raise ValueError(
                f"{name} holds {scores[0]:g}, which is a score rather than a label: "
                f"decide by a threshold first, for example {name} >= 0.5."
            )
    if len(y_pred) != len(y_true):
        raise ValueError(
            f"y_true has {len(y_true)} labels but {name} has {len(y_pred)}: pass one "
            "predicted label a case."
        )
    if not _are_text(y_true) & _are_text(y_pred):
        raise ValueError(
            f"y_true holds {y_true.tolist()[0]!r} and {name} "
            f"{y_pred.tolist()[0]!r}: of text and numbers no two are equal, and every "
            "prediction would be wrong. Pass both as text or both as numbers."
        )
    # Text beside numbers: NumPy would turn the numbers into text without a word.
    if (y_pred.dtype.kind in "US") != (y_true.dtype.kind in "US"):
        return y_pred.astype(object)
    return y_pred


def _are_text(labels: np.ndarray) -> set[bool]:
    """Return {True}, {False}, or both where only some of the labels are text."""
    if labels.dtype != object:
        return {labels.dtype.kind in "US"}
    return {isinstance(label, str) for label in labels}


def check_groups(groups: Any, n: int, name: str = "groups") -> np.ndarray:
    """Return clusters counted from 0; without `groups` every case is its own."""
    if groups is None:
        return np.arange(n)
    groups = check_column(groups, name)
    if len(groups) != n:
        raise ValueError(
            f"{name} has {len(groups)} entries for {n} cases: pass one group "
            "(patient) a case."
        )
    return encode(groups, name)[0]


def count_clusters(cluster: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(cluster)))


def effective_clusters(cluster: np.ndarray) -> float:
    """Return the number of clusters of equal size that are worth as much.

    (Σ m)² / Σ m² over the clusters' sizes m (Kish 1965): their number where all are of
    one size, fewer where a few of them hold most cases.
    """
    sizes = np.bincount(cluster)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def check_column(values: Any, name: str) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        hint = "pass one value a case"
        if name.startswith(("y_score", "y_prob")) and column.ndim == 2:
            hint = (
                "pass the column of the positive class, "
                f"{name}[:, list(clf.classes_).index(pos_label)]"
            )
        raise ValueError(f"{name} has shape {column.shape}, expected (n,): {hint}.")
    if len(column) == 0:
        raise ValueError(f"{name} is empty: there is nothing to score.")
    return column


def encode(values: np.ndarray, name: str) -> tuple[np.ndarray, list[Hashable]]:
    """Return a number for each value, and the values numbered (any hashables)."""
    codes: dict[Hashable, int] = {}
    code = np.array([codes.setdefault(value, len(codes)) for value in values.tolist()])
    missing = [value for value in codes if is_missing(value)]
    if missing:
        raise ValueError(
            f"{name} contains missing values ({missing[0]}): drop these cases first."
        )
    return code, list(codes)


def is_missing(value: Any) -> bool:
    """Return whether a value stands for a missing one, of NumPy or of pandas."""
    return not isinstance(value, str) and str(value) in _MISSING


def positive_code(
    labels: list[Hashable], pos_label: Any, where: str = "y_true", at_least: int = 2
) -> int:
    """Return which of the labels is positive; -1 where the only one is not."""
    seen = ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
    if len(labels) < at_least:
        raise ValueError(
            f"{where} holds one class only ({seen}): this metric needs cases of two."
        )
    if len(labels) > 2:
        raise ValueError(
            f"The labels of {where} are of {len(labels)} classes ({seen}), two are "
            "needed: make them one class against the rest, with its own scores or "
            "predictions."
        )
    if pos_label is None:
        usual = any(set(labels) <= pair for pair in ({0, 1}, {-1, 1}))
        if not usual:
            raise ValueError(
                f"The labels of {where} are {seen}, and which one is positive decides "
                "what the figures mean: pass it as pos_label."
            )
        pos_label = 1
    if len(labels) == 1 and pos_label not in labels:
        return -1
    if pos_label not in labels:
        raise ValueError(
            f"pos_label={pos_label!r} is not a label of {where}: these are {seen}."
        )
    return labels.index(pos_label)


def check_several_clusters(cluster: np.ndarray) -> None:
    if cluster.max() == 0:
        raise ValueError(
            f"all {len(cluster)} cases are of one group (patient): how the figure "
            "varies from one to another cannot be seen. An interval needs several "
            "groups."
        )


def check_probability(y_prob: np.ndarray, name: str = "y_prob") -> None:
    bad = np.flatnonzero(~((y_prob >= 0) & (y_prob <= 1)))
    if len(bad):
        raise ValueError(
            f"{name} holds {len(bad)} values outside [0, 1], the first "
            f"{y_prob[bad[0]]:g} at index {bad[0]}: probabilities are needed here, not "
            "decision values. Pass the positive class's column of predict_proba(X)."
        )


def check_generator(random_state: Any) -> np.random.Generator:
    """Return a generator of its own; a RandomState gives the seed and moves on."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    return np.random.default_rng(random_state)
