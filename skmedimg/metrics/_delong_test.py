"""Comparison of two areas under ROC curves, on the same cases or on others."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import rankdata
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._auc import (
    NO_VARIANCE,
    auc_interval,
    auc_variance,
    cluster_errors,
    delong_components,
)
from skmedimg.metrics._checks import (
    Comparison,
    check_binary,
    check_score,
    encode,
)


class _Cases(NamedTuple):
    positive: np.ndarray
    score: np.ndarray
    cluster: np.ndarray


@validate_params(
    {
        "y_true": ["array-like"],
        "y_score_a": ["array-like"],
        "y_score_b": ["array-like"],
        "pos_label": "no_validation",
        "groups": ["array-like", None],
        "y_true_b": ["array-like", None],
        "groups_b": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def delong_test(
    y_true: Any,
    y_score_a: Any,
    y_score_b: Any,
    *,
    pos_label: Any = None,
    groups: Any = None,
    y_true_b: Any = None,
    groups_b: Any = None,
    level: float = 0.95,
) -> Comparison:
    """Difference of two areas under the ROC curve, with its interval and test.

    DeLong's test for independent cases, Obuchowski's where a patient contributes
    several (`groups`).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score_a : array-like of shape (n,)
        Scores of the first classifier, higher for the positive class.
    y_score_b : array-like of shape (n,) or (n_b,)
        Scores of the second, on the same cases or, with `y_true_b`, on others.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient: cases of one cluster may depend
        on each other, clusters do not. None takes cases as independent.
    y_true_b : array-like of shape (n_b,), default=None
        True labels of the cases of `y_score_b`. None means that both classifiers scored
        the same cases, in the same order.
    groups_b : array-like of shape (n_b,), default=None
        Clusters of those cases, given if and only if `groups` and `y_true_b` are. A
        cluster named in both is the same one, for example a patient with other images.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Comparison
        Named tuple (difference, low, high, statistic, p_value): first area less second.

    Raises
    ------
    ValueError
        If lengths differ, labels or scores are missing, there are not exactly two
        classes, `pos_label` is not one of them or is needed and not given, `groups_b`
        is given or left out against the rule above, or `level` is outside (0, 1).

    See Also
    --------
    roc_auc_ci : One area with its interval.
    mcnemar_test : Comparison of predicted labels.

    Notes
    -----
    The statistic is the difference over its standard error [1]_, with `groups` that of
    Obuchowski [2]_. It is compared with Student's t, not with the normal distribution,
    so that few cases do not make it too bold: at the degrees of freedom of
    :func:`roc_auc_ci`, for other cases combined from both samples by Satterthwaite's
    formula. The interval is symmetric,
    clipped to [-1, 1], and excludes 0 where the p-value is below 1 - `level`.

    Scores that rank all cases alike have a difference of 0 and a p-value of 1. Where
    the variance is zero or undefined for another reason (perfect separation, a class of
    one case) the interval is built from those of both areas [3]_, as if these were
    independent, and the standard error is taken from its side towards 0.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under
       two or more correlated receiver operating characteristic curves: a nonparametric
       approach", Biometrics 44:837-845, 1988.
    .. [2] N. A. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
       Biometrics 53:567-578, 1997.
    .. [3] G. Y. Zou, A. Donner, "Construction of confidence limits about effect
       measures: a general approach", Statistics in Medicine 27:1693-1702, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import delong_test
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], [80, 60])
    >>> easy = rng.normal(size=140) + y
    >>> noisy = easy + rng.normal(size=140)
    >>> result = delong_test(y, easy, noisy)
    >>> print(f"{result.difference:.2f} ({result.low:.2f} to {result.high:.2f})")
    0.08 (0.01 to 0.15)
    >>> print(f"p = {result.p_value:.3f}")
    p = 0.031
    """
    a = _Cases(
        *check_binary(
            y_true, y_score_a, pos_label, groups, ("y_true", "y_score_a", "groups")
        )
    )
    if y_true_b is None:
        if groups_b is not None:
            raise ValueError(
                "groups_b is given without y_true_b: for the same cases pass groups."
            )
        b = a._replace(
            score=check_score(y_score_b, len(a.score), "y_score_b", "y_true")
        )
        return _compare_paired(a, b, level)
    if (groups is None) != (groups_b is None):
        raise ValueError(
            "Only one of groups and groups_b is given: with y_true_b pass both or none."
        )
    names = ("y_true_b", "y_score_b", "groups_b")
    b = _Cases(*check_binary(y_true_b, y_score_b, pos_label, groups_b, names))
    shared = None
    if groups is not None:
        both = [*np.ravel(groups).tolist(), *np.ravel(groups_b).tolist()]
        shared = encode(np.array(both, dtype=object), "groups")[0]
    return _compare_unpaired(a, b, shared, level)


def _compare_paired(a: _Cases, b: _Cases, level: float) -> Comparison:
    if (rankdata(a.score) == rankdata(b.score)).all():
        return Comparison(0.0, 0.0, 0.0, 0.0, 1.0)
    # The difference of two areas is the area of the components' difference.
    components = delong_components(a.positive, a.score)
    components = components - delong_components(b.positive, b.score)
    variance, df = auc_variance(a.positive, components, a.cluster)
    if variance < NO_VARIANCE:
        return _compare_bounds(a, b, level)
    return _test(float(components[a.positive].mean()), variance, df, level)


def _compare_unpaired(
    a: _Cases, b: _Cases, shared: np.ndarray | None, level: float
) -> Comparison:
    """Compare areas on other cases, `shared` clusters counted over both samples."""
    components = [delong_components(cases.positive, cases.score) for cases in (a, b)]
    pairs = [
        auc_variance(cases.positive, own, cases.cluster)
        for cases, own in zip((a, b), components, strict=True)
    ]
    variances, dfs = zip(*pairs, strict=True)
    if min(variances) < NO_VARIANCE:
        return _compare_bounds(a, b, level)
    independent = variance = sum(variances)
    df = variance**2 / sum(v**2 / d for v, d in zip(variances, dfs, strict=True))
    if shared is not None:
        correlation = _correlation((a, b), components, shared)
        variance -= 2 * correlation * np.sqrt(variances[0] * variances[1])
    # Areas that err alike leave rounding error.
    if variance < 1e-12 * independent:
        return _compare_bounds(a, b, level)
    difference = components[0][a.positive].mean() - components[1][b.positive].mean()
    return _test(float(difference), variance, df, level)


def _correlation(
    samples: tuple[_Cases, _Cases], components: list[np.ndarray], shared: np.ndarray
) -> float:
    """Return the correlation of areas on other cases of partly the same clusters."""
    parts = np.split(shared, [len(samples[0].score)])
    of_a, of_b = (
        np.sum(cluster_errors(c.positive, own, part, shared.max() + 1), axis=0)
        for c, own, part in zip(samples, components, parts, strict=True)
    )
    norm = np.sqrt((of_a @ of_a) * (of_b @ of_b))
    return float(of_a @ of_b / norm) if norm > 0 else 0.0


def _test(difference: float, variance: float, df: float, level: float) -> Comparison:
    error = float(np.sqrt(variance))
    statistic = difference / error
    half = float(stdtrit(df, (1 + level) / 2)) * error
    low, high = max(difference - half, -1.0), min(difference + half, 1.0)
    p_value = float(2 * stdtr(df, -abs(statistic)))
    return Comparison(difference, low, high, statistic, p_value)


def _compare_bounds(a: _Cases, b: _Cases, level: float) -> Comparison:
    """Compare by the interval of either area, where the variance says nothing."""
    first, second = (auc_interval(*cases, level) for cases in (a, b))
    difference = first.value - second.value
    down = np.hypot(first.value - first.low, second.high - second.value)
    up = np.hypot(first.high - first.value, second.value - second.low)
    z = float(ndtri((1 + level) / 2))
    statistic = 0.0
    if difference != 0:
        statistic = float(difference * z / (down if difference > 0 else up))
    p_value = float(2 * stdtr(np.inf, -abs(statistic)))
    low, high = float(difference - down), float(difference + up)
    return Comparison(difference, max(low, -1.0), min(high, 1.0), statistic, p_value)
