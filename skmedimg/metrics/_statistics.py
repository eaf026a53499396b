"""Metrics as functions of how often each cluster is drawn, for many draws at once.

A `Statistic` takes an array of shape (n_clusters, n_draws) and returns n_draws figures,
NaN where the metric is undefined. Draws are columns: what is gathered by case then lies
together in memory, which makes 2,000 replicates affordable.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from skmedimg.metrics._checks import (
    check_binary,
    check_column,
    check_probability,
    encode,
)

Statistic = Callable[[np.ndarray], np.ndarray]


def make_statistic(
    metric: Any,
    y_true: Any,
    y_score: Any,
    *,
    cluster: np.ndarray,
    pos_label: Any,
    threshold: float,
) -> Statistic:
    """Check labels and scores for a metric and return its statistic."""
    if callable(metric):
        return _of_callable(metric, y_true, y_score, cluster)
    if metric == "quadratic_kappa":
        return _quadratic_kappa(y_true, y_score, cluster)
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is unknown: pass one of {METRICS}.")
    positive, score, _ = check_binary(y_true, y_score, pos_label, None)
    if metric in _OF_RANKS:
        return _OF_RANKS[metric](positive, score, cluster)
    if metric in _OF_LOSS:
        check_probability(score, "y_score")
        loss = _OF_LOSS[metric](positive, score)
        return _of_sums(cluster, [loss, np.ones(len(loss))], np.divide)
    called = score >= threshold
    counted = [positive, ~positive, positive & called, ~positive & called]
    return _of_sums(cluster, counted, _OF_COUNTS[metric])


def _of_callable(metric: Any, y_true: Any, y_score: Any, cluster: Any) -> Statistic:
    y_true, y_score = check_column(y_true, "y_true"), np.asarray(y_score)
    if len(y_score) != len(y_true):
        raise ValueError(
            f"y_true has {len(y_true)} labels but y_score has {len(y_score)} scores: "
            "pass one score a case."
        )
    code, labels = encode(y_true, "y_true")

    def value(times: np.ndarray) -> float:
        drawn = np.repeat(np.arange(len(y_true)), times[cluster].astype(int))
        if len(np.unique(code[drawn])) < len(labels):
            return np.nan
        return float(metric(y_true[drawn], y_score[drawn]))

    return lambda times: np.array([value(draw) for draw in times.T])


def _of_sums(cluster: np.ndarray, columns: Any, formula: Any) -> Statistic:
    """Return the statistic that is a formula of sums over cases."""
    sums = np.stack([np.bincount(cluster, weights=column) for column in columns])
    return lambda times: formula(*(sums @ times))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where there is nothing."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _sensitivity(pos: Any, neg: Any, tp: Any, fp: Any) -> np.ndarray:
    return _ratio(tp, pos)


def _specificity(pos: Any, neg: Any, tp: Any, fp: Any) -> np.ndarray:
    return _ratio(neg - fp, neg)


def _accuracy(pos: Any, neg: Any, tp: Any, fp: Any) -> np.ndarray:
    return (tp + neg - fp) / (pos + neg)


def _balanced_accuracy(pos: Any, neg: Any, tp: Any, fp: Any) -> np.ndarray:
    return (_ratio(tp, pos) + _ratio(neg - fp, neg)) / 2


def _f1(pos: Any, neg: Any, tp: Any, fp: Any) -> np.ndarray:
    # Without a positive case it would be 0 however good the classifier is.
    return np.where(pos > 0, _ratio(2 * tp, pos + tp + fp), np.nan)


def _squared_error(positive: np.ndarray, prob: np.ndarray) -> np.ndarray:
    return (prob - positive) ** 2


def _log_loss(positive: np.ndarray, prob: np.ndarray) -> np.ndarray:
    of_label = np.where(positive, prob, 1 - prob)
    # As scikit-learn: a certain mistake costs much, not infinitely much.
    return -np.log(np.maximum(of_label, np.finfo(np.float64).eps))


def _quadratic_kappa(y_true: Any, y_pred: Any, cluster: np.ndarray) -> Statistic:
    true, pred = check_column(y_true, "y_true"), check_column(y_pred, "y_score")
    for grades, name in (true, "y_true"), (pred, "y_score"):
        if grades.dtype.kind not in "biuf" or not np.isfinite(grades).all():
            raise ValueError(
                f"quadratic_kappa weighs distances of grades, and {name} holds other "
                f"than finite numbers ({grades[0]!r}, …): pass grades as numbers."
            )
    if len(true) != len(pred):
        raise ValueError(
            f"y_true has {len(true)} grades but y_score has {len(pred)}: pass one "
            "predicted grade a case."
        )
    # Kappa does not depend on where grades begin; small numbers lose no digits.
    x, y = true - float(true[0]), pred - float(true[0])

    def kappa(n: Any, x: Any, y: Any, xx: Any, yy: Any, xy: Any) -> np.ndarray:
        seen = (xx + yy - 2 * xy) / n
        by_chance = (xx + yy) / n - 2 * x * y / n**2
        return 1 - _ratio(seen, by_chance)

    return _of_sums(cluster, [np.ones(len(x)), x, y, x * x, y * y, x * y], kappa)


def _roc_auc(positive: np.ndarray, score: np.ndarray, cluster: np.ndarray) -> Statistic:
    pos, neg, below, upto, _ = _ranks(positive, score)

    def auc(times: np.ndarray) -> np.ndarray:
        n_pos, n_neg = times[cluster[pos]], _cumulated(times[cluster[neg]])
        correct = np.einsum("ij,ij->j", n_pos, n_neg[below] + n_neg[upto]) / 2
        return _ratio(correct, n_pos.sum(axis=0) * n_neg[-1])

    return auc


def _average_precision(
    positive: np.ndarray, score: np.ndarray, cluster: np.ndarray
) -> Statistic:
    pos, neg, below, _, first = _ranks(positive, score)

    def average_precision(times: np.ndarray) -> np.ndarray:
        n_pos, n_neg = _cumulated(times[cluster[pos]]), _cumulated(times[cluster[neg]])
        tp, fp = n_pos[-1] - n_pos[first], n_neg[-1] - n_neg[below]
        # A positive case that is not drawn has weight 0, whatever stands for 0 / 0.
        precision = tp / np.maximum(tp + fp, 1)
        total = np.einsum("ij,ij->j", np.diff(n_pos, axis=0), precision)
        # Without a negative case precision is 1 for any classifier.
        return np.where(n_neg[-1] > 0, _ratio(total, n_pos[-1]), np.nan)

    return average_precision


def _ranks(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return positive and negative cases by score, and where positive ones stand.

    For each positive case: the number of negatives below it, of negatives up to it,
    and of positives below it.
    """
    order = np.argsort(score, kind="stable")
    pos, neg = order[positive[order]], order[~positive[order]]
    below = np.searchsorted(score[neg], score[pos], side="left")
    upto = np.searchsorted(score[neg], score[pos], side="right")
    return pos, neg, below, upto, np.searchsorted(score[pos], score[pos])


def _cumulated(times: np.ndarray) -> np.ndarray:
    total = np.zeros((len(times) + 1, times.shape[1]))
    np.cumsum(times, axis=0, out=total[1:])
    return total


_OF_RANKS = {"roc_auc": _roc_auc, "average_precision": _average_precision}
_OF_COUNTS = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
}
_OF_LOSS = {"brier": _squared_error, "log_loss": _log_loss}
METRICS = [*_OF_RANKS, *_OF_COUNTS, *_OF_LOSS, "quadratic_kappa"]
