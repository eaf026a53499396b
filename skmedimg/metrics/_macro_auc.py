"""Mean area under ROC curves over several classes or labels."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._auc import (
    NO_VARIANCE,
    auc_interval,
    auc_variance,
    delong_components,
    logit_interval,
)
from skmedimg.metrics._checks import (
    Estimate,
    check_column,
    check_groups,
    count_clusters,
    encode,
    is_missing,
)


class _Area(NamedTuple):
    """One class against the rest, or one label.

    `errors` holds what each case adds to the error of the area, `variance` and `df`
    its variance with the degrees of freedom. Where these say nothing, `lone_error` is
    a standard error taken from the interval of the area.
    """

    value: float
    errors: np.ndarray
    variance: float
    df: float
    lone_error: float


@validate_params(
    {
        "y_true": ["array-like"],
        "y_score": ["array-like"],
        "labels": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "groups": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def macro_auc_ci(
    y_true: Any,
    y_score: Any,
    *,
    labels: Any = None,
    level: float = 0.95,
    groups: Any = None,
) -> Estimate:
    """Mean area under the ROC curve over classes or labels, with an interval.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, k)
        True classes, each of which is compared with all others; or k labels a case of
        which any number apply, as 1, 0, and NaN where a label is not known. Such cases
        are left out for that label.
    y_score : array-like of shape (n, k)
        Scores of each class or label.
    labels : array-like of shape (k,), default=None
        Classes in the order of the columns of `y_score`. None means sorted order, that
        of `classes_`. For k labels a case: their names, used in messages.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient: cases of one cluster may depend
        on each other, clusters do not. None takes cases as independent.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If shapes differ, scores are missing, a class or label has no positive or no
        negative case, or `level` is outside (0, 1).

    See Also
    --------
    roc_auc_ci : The area of two classes.
    sklearn.metrics.roc_auc_score : The mean alone, ``multi_class="ovr"``.

    Notes
    -----
    The areas of several classes on the same cases depend on each other. What each case
    adds to the error of each of them, DeLong's structural components [1]_, is therefore
    summed over the areas, then over the cases of a cluster [2]_, before it is squared.
    The interval is symmetric on the logit scale, with Student's t. Its degrees of
    freedom are the harmonic mean of those of each area, which are as in
    :func:`roc_auc_ci`, weighted by the areas' variances. An area with zero or undefined
    variance takes part with the standard error that its own interval implies.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under
       two or more correlated receiver operating characteristic curves: a nonparametric
       approach", Biometrics 44:837-845, 1988.
    .. [2] N. A. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
       Biometrics 53:567-578, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import macro_auc_ci
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["cyst", "mass", "none"], 40)
    >>> score = rng.normal(size=(120, 3)) + (y[:, None] == ["cyst", "mass", "none"])
    >>> auc, low, high = macro_auc_ci(y, score)
    >>> print(f"{auc:.2f} ({low:.2f} to {high:.2f})")
    0.74 (0.68 to 0.79)
    """
    truth, score, names = _check(y_true, y_score, labels)
    cluster = check_groups(groups, len(truth))
    areas = []
    for name, own, column in zip(names, truth.T, score.T, strict=True):
        if {0, 1} - set(own.tolist()):
            raise ValueError(
                f"{name!r} has {np.sum(own == 1)} positive and {np.sum(own == 0)} "
                "negative cases: its area needs both. Leave out its column, and its "
                "cases where it is a class."
            )
        areas.append(_area(own, column, cluster, level))
    return _mean_area(areas, cluster, level)


def _check(
    y_true: Any, y_score: Any, labels: Any
) -> tuple[np.ndarray, np.ndarray, list]:
    """Return truth (0, 1 or NaN) and scores, both by label, and the labels' names."""
    y_true, score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if score.ndim != 2 or len(score) != len(y_true):
        raise ValueError(
            f"y_score has shape {score.shape} for {len(y_true)} cases, expected "
            "(cases, classes); roc_auc_ci takes the scores of one class."
        )
    if np.isnan(score).any():
        raise ValueError(
            f"y_score contains {np.isnan(score).sum()} NaN: a case without a score has "
            "no rank. Drop these cases from y_true and y_score."
        )
    if y_true.shape == score.shape:
        truth = _check_multilabel(y_true)
        names = list(range(truth.shape[1])) if labels is None else list(labels)
    else:
        truth, names = _one_versus_rest(y_true, labels)
    if len(names) != score.shape[1]:
        raise ValueError(
            f"y_score has {score.shape[1]} columns for {len(names)} classes "
            f"({', '.join(map(repr, names[:5]))}): say which they are by labels."
        )
    return truth, score, names


def _check_multilabel(y_true: np.ndarray) -> np.ndarray:
    if y_true.dtype == object:
        # pandas' NA cannot become a float by itself.
        known = [np.nan if is_missing(value) else value for value in y_true.flat]
        y_true = np.reshape(known, y_true.shape)
    truth = y_true.astype(np.float64)
    strange = truth[~np.isnan(truth) & (truth != 0) & (truth != 1)]
    if len(strange):
        raise ValueError(
            f"y_true holds {strange[0]:g}: labels of a case are 1, 0 or NaN."
        )
    return truth


def _one_versus_rest(y_true: np.ndarray, labels: Any) -> tuple[np.ndarray, list]:
    y_true = check_column(y_true, "y_true")
    encode(y_true, "y_true")
    names = np.unique(y_true).tolist() if labels is None else list(labels)
    truth = np.stack([y_true == name for name in names], axis=1).astype(np.float64)
    strange = y_true[truth.sum(axis=1) != 1].tolist()
    if strange:
        raise ValueError(
            f"y_true holds {strange[0]!r}, which is not, or not once, among labels "
            f"({', '.join(map(repr, names[:5]))})."
        )
    return truth, names


def _area(
    truth: np.ndarray, score: np.ndarray, cluster: np.ndarray, level: float
) -> _Area:
    known = np.flatnonzero(~np.isnan(truth))
    positive = truth[known] == 1
    _, own = np.unique(cluster[known], return_inverse=True)
    components = delong_components(positive, score[known])
    value = float(components[positive].mean())
    errors = np.zeros(len(truth))
    _, df = auc_variance(positive, components, own)
    if df > 0:
        for side in (positive, ~positive):
            at, n_clusters = known[side], count_clusters(own[side])
            share = (components[side] - value) / len(at)
            errors[at] = share * np.sqrt(n_clusters / (n_clusters - 1))
    variance = _summed_square(errors, cluster)
    if variance >= NO_VARIANCE:
        return _Area(value, errors, variance, df, 0.0)
    _, low, high = auc_interval(positive, score[known], own, level)
    error = max(value - low, high - value) / float(ndtri((1 + level) / 2))
    return _Area(value, np.zeros(len(truth)), 0.0, np.inf, error)


def _summed_square(errors: np.ndarray, cluster: np.ndarray) -> float:
    by_cluster = np.bincount(cluster, errors)
    return float(by_cluster @ by_cluster)


def _mean_area(areas: list[_Area], cluster: np.ndarray, level: float) -> Estimate:
    value = float(np.mean([area.value for area in areas]))
    errors = np.mean([area.errors for area in areas], axis=0)
    # The errors of areas without a variance are taken to be of one sign.
    lone_error = float(np.mean([area.lone_error for area in areas]))
    error = float(np.sqrt(_summed_square(errors, cluster) + lone_error**2))
    df = np.inf
    variances = np.array([area.variance for area in areas])
    if variances.any():
        df = variances.sum() / (variances / [area.df for area in areas]).sum()
    if value not in (0, 1):
        return logit_interval(value, error, df, level)
    half = float(stdtrit(df, (1 + level) / 2)) * error
    bounds = np.clip([value - half, value + half], 0, 1)
    return Estimate(value, *bounds.tolist())
