"""What every metric is given, checked once: labels, scores, clusters; what it gives."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np


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


def check_binary(
    y_true: Any, y_score: Any, pos_label: Any, groups: Any
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
    y_true = check_column(y_true, "y_true")
    score = check_column(y_score, "y_score").astype(np.float64)
    if len(score) != len(y_true):
        raise ValueError(
            f"y_true has {len(y_true)} labels but y_score has {len(score)} scores: "
            "pass one score a case."
        )
    if np.isnan(score).any():
        bad = np.flatnonzero(np.isnan(score))
        raise ValueError(
            f"y_score contains {len(bad)} NaN, the first at index {bad[0]}: a case "
            "without a score has no rank. Drop these cases from y_true and y_score."
        )
    code, labels = encode(y_true, "y_true")
    positive = code == positive_code(labels, pos_label)
    if groups is None:
        return positive, score, np.arange(len(score))
    groups = check_column(groups, "groups")
    if len(groups) != len(y_true):
        raise ValueError(
            f"groups has {len(groups)} entries for {len(y_true)} cases: pass one group "
            "(patient) a case."
        )
    return positive, score, encode(groups, "groups")[0]


def check_column(values: Any, name: str) -> np.ndarray:
    column = np.asarray(values)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        hint = "pass one value a case"
        if name == "y_score" and column.ndim == 2:
            hint = "pass the column of the positive class, for example y_score[:, 1]"
        raise ValueError(f"{name} has shape {column.shape}, expected (n,): {hint}.")
    if len(column) == 0:
        raise ValueError(f"{name} is empty: there is nothing to score.")
    return column


def encode(values: np.ndarray, name: str) -> tuple[np.ndarray, list[Hashable]]:
    """Return a number for each value, and the values numbered (any hashables)."""
    codes: dict[Hashable, int] = {}
    code = np.array([codes.setdefault(value, len(codes)) for value in values.tolist()])
    missing = [
        str(value)
        for value in codes
        if not isinstance(value, str) and str(value) in {"None", "nan", "NaN", "<NA>"}
    ]
    if missing:
        raise ValueError(
            f"{name} contains missing values ({missing[0]}): drop these cases first."
        )
    return code, list(codes)


def positive_code(labels: list[Hashable], pos_label: Any) -> int:
    seen = ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
    if len(labels) == 1:
        raise ValueError(
            f"y_true holds one class only ({seen}): an area under the ROC curve needs "
            "cases of two."
        )
    if len(labels) > 2:
        raise ValueError(
            f"y_true holds {len(labels)} classes ({seen}), two are needed: compare one "
            "class with the rest by y_true == label and its own scores."
        )
    if pos_label is None:
        if set(labels) not in ({0, 1}, {-1, 1}):
            raise ValueError(
                f"y_true holds the labels {seen}, and which one is positive decides "
                "what the scores mean: pass it as pos_label."
            )
        pos_label = 1
    if pos_label not in labels:
        raise ValueError(
            f"pos_label={pos_label!r} is not a label of y_true, which holds {seen}."
        )
    return labels.index(pos_label)
