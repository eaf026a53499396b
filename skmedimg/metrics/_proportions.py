"""Shares of cases: sensitivity, specificity, accuracy and predictive values."""

from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtri, stdtrit
from sklearn.utils._param_validation import Interval, Real, StrOptions, validate_params

from skmedimg.metrics._checks import (
    Estimate,
    check_column,
    check_decisions,
    check_groups,
    check_labels,
    count_clusters,
    effective_clusters,
    encode,
)

_INTERVAL_PARAMS = {
    "groups": ["array-like", None],
    "level": [Interval(Real, 0, 1, closed="neither")],
    "method": [StrOptions({"wilson", "exact"})],
}
_DECISION_PARAMS = {
    "y_true": ["array-like"],
    "y_pred": ["array-like"],
    "pos_label": "no_validation",
}


class PredictiveValues(NamedTuple):
    """Predictive values with their confidence intervals.

    Attributes
    ----------
    ppv : Estimate
        Positive predictive value: share of truly positive cases among those predicted
        positive.
    npv : Estimate
        Negative predictive value, of those predicted negative.
    """

    ppv: Estimate
    npv: Estimate


@validate_params(
    {"success": ["array-like"], **_INTERVAL_PARAMS},
    prefer_skip_nested_validation=True,
)
def proportion_ci(
    success: Any,
    *,
    groups: Any = None,
    level: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
) -> Estimate:
    """Proportion with a confidence interval, for independent or clustered cases.

    Parameters
    ----------
    success : array-like of shape (n,)
        Whether each case is a success: booleans, or 0 and 1.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient: cases of one cluster may depend
        on each other, clusters do not. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    method : {"wilson", "exact"}, default="wilson"
        "wilson" gives Wilson's score interval, which covers `level` on average.
        "exact" gives the interval of Clopper and Pearson, which for independent cases
        covers at least `level` and is wider.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If `success` is empty or holds anything but true and false, `groups` has
        another length or misses values, or `level` is outside (0, 1).

    See Also
    --------
    sensitivity_ci : The proportion of positive cases predicted positive.
    accuracy_ci : The proportion of cases predicted right.

    Notes
    -----
    Cases of a cluster share part of what they tell. With `groups` the number of cases
    is replaced by the effective one of Korn and Graubard [3]_: the number divided by
    the design effect, which is the variance between clusters of a ratio estimate over
    that of independent cases [4]_, times the squared ratio of Student's quantiles at
    n - 1 and (number of clusters) - 1 degrees of freedom. Three things differ from the
    original, for few clusters of unequal size and few failures. The number of clusters
    is the effective one, (Σ m)² / Σ m² where a cluster has m cases. The design effect
    is at least one, and it is estimated after half a cluster of average size of
    successes and half a one of failures are added, in the manner of Agresti and
    Coull [5]_. Where all cases are successes, or none, effective clusters are counted
    in place of cases. With one case a cluster the interval is that of independent
    cases.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical
       inference", Journal of the American Statistical Association 22:209-212, 1927.
    .. [2] C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits
       illustrated in the case of the binomial", Biometrika 26:404-413, 1934.
    .. [3] E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small
       expected number of positive counts estimated from survey data", Survey
       Methodology 24:193-201, 1998.
    .. [4] J. N. K. Rao, A. J. Scott, "A simple method for the analysis of clustered
       binary data", Biometrics 48:577-585, 1992.
    .. [5] A. Agresti, B. A. Coull, "Approximate is better than 'exact' for interval
       estimation of binomial proportions", The American Statistician 52:119-126, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import proportion_ci
    >>> found = np.repeat([True, False], [81, 182])
    >>> value, low, high = proportion_ci(found)
    >>> print(f"{value:.3f} ({low:.3f} to {high:.3f})")
    0.308 (0.255 to 0.366)
    """
    success = _check_success(success)
    cluster = check_groups(groups, len(success))
    return _interval(success, cluster, level, method)


@validate_params(
    {**_DECISION_PARAMS, **_INTERVAL_PARAMS}, prefer_skip_nested_validation=True
)
def sensitivity_ci(
    y_true: Any,
    y_pred: Any,
    *,
    pos_label: Any = None,
    groups: Any = None,
    level: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
) -> Estimate:
    """Sensitivity (recall) with a confidence interval.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes; the positive one must occur.
    y_pred : array-like of shape (n,)
        Predicted labels.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    method : {"wilson", "exact"}, default="wilson"
        The interval, see :func:`proportion_ci`.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If lengths differ, labels are missing or of more than two classes, there is no
        positive case, `pos_label` is not a label or is needed and not given, or `level`
        is outside (0, 1).

    See Also
    --------
    specificity_ci : The same of negative cases.
    predictive_values_ci : Predictive values at a stated prevalence.
    sensitivity_at_specificity : Sensitivity where scores are given and no threshold.

    Examples
    --------
    >>> from skmedimg.metrics import sensitivity_ci
    >>> y_true = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    >>> y_pred = [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    >>> value, low, high = sensitivity_ci(y_true, y_pred)
    >>> print(f"{value:.3f} ({low:.3f} to {high:.3f})")
    0.875 (0.529 to 0.978)
    """
    positive, called, cluster = check_decisions(y_true, y_pred, pos_label, groups)
    _require(positive, "positive", "sensitivity")
    return _interval(called[positive], cluster[positive], level, method)


@validate_params(
    {**_DECISION_PARAMS, **_INTERVAL_PARAMS}, prefer_skip_nested_validation=True
)
def specificity_ci(
    y_true: Any,
    y_pred: Any,
    *,
    pos_label: Any = None,
    groups: Any = None,
    level: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
) -> Estimate:
    """Specificity with a confidence interval.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes; the negative one must occur.
    y_pred : array-like of shape (n,)
        Predicted labels.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    method : {"wilson", "exact"}, default="wilson"
        The interval, see :func:`proportion_ci`.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If lengths differ, labels are missing or of more than two classes, there is no
        negative case, `pos_label` is not a label or is needed and not given, or `level`
        is outside (0, 1).

    See Also
    --------
    sensitivity_ci : The same of positive cases.

    Examples
    --------
    >>> from skmedimg.metrics import specificity_ci
    >>> y_true = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    >>> y_pred = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    >>> value, low, high = specificity_ci(y_true, y_pred, method="exact")
    >>> print(f"{value:.3f} ({low:.3f} to {high:.3f})")
    0.875 (0.473 to 0.997)
    """
    positive, called, cluster = check_decisions(y_true, y_pred, pos_label, groups)
    _require(~positive, "negative", "specificity")
    return _interval(~called[~positive], cluster[~positive], level, method)


@validate_params(
    {"y_true": ["array-like"], "y_pred": ["array-like"], **_INTERVAL_PARAMS},
    prefer_skip_nested_validation=True,
)
def accuracy_ci(
    y_true: Any,
    y_pred: Any,
    *,
    groups: Any = None,
    level: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
) -> Estimate:
    """Accuracy with a confidence interval, for any number of classes.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_pred : array-like of shape (n,)
        Predicted labels.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    method : {"wilson", "exact"}, default="wilson"
        The interval, see :func:`proportion_ci`.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If lengths differ, labels are missing, or `level` is outside (0, 1).

    See Also
    --------
    mcnemar_test : The difference of two accuracies on the same cases.

    Examples
    --------
    >>> from skmedimg.metrics import accuracy_ci
    >>> y_true = ["cyst", "cyst", "mass", "mass", "none", "none"]
    >>> y_pred = ["cyst", "mass", "mass", "mass", "none", "none"]
    >>> value, low, high = accuracy_ci(y_true, y_pred)
    >>> print(f"{value:.2f} ({low:.2f} to {high:.2f})")
    0.83 (0.44 to 0.97)
    """
    y_true = check_column(y_true, "y_true")
    right = correct(y_true, y_pred, "y_pred")
    return _interval(right, check_groups(groups, len(y_true)), level, method)


@validate_params(
    {
        **_DECISION_PARAMS,
        "prevalence": [Interval(Real, 0, 1, closed="neither"), None],
        "groups": _INTERVAL_PARAMS["groups"],
        "level": _INTERVAL_PARAMS["level"],
    },
    prefer_skip_nested_validation=True,
)
def predictive_values_ci(
    y_true: Any,
    y_pred: Any,
    *,
    prevalence: float | None = None,
    pos_label: Any = None,
    groups: Any = None,
    level: float = 0.95,
) -> PredictiveValues:
    """Positive and negative predictive value with confidence intervals.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels; both classes must occur.
    y_pred : array-like of shape (n,)
        Predicted labels.
    prevalence : float, default=None
        Share of positive cases where the classifier is to be used, between 0 and 1,
        taken as known. None takes that of the sample, and counts its uncertainty in:
        right only where the cases are a random sample of such a place.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    PredictiveValues
        Named tuple (ppv, npv) of named tuples (value, low, high). The value is NaN,
        with bounds 0 and 1, where no case at all is predicted so.

    Raises
    ------
    ValueError
        If lengths differ, labels are missing or not of two classes, `pos_label` is not
        a label or is needed and not given, or `prevalence` or `level` is outside
        (0, 1).

    See Also
    --------
    sensitivity_ci : What does not depend on the prevalence.

    Notes
    -----
    The intervals are symmetric on the logit scale. At a stated prevalence they are
    those of [1]_, from the errors of sensitivity and specificity; without one, that of
    a proportion among the cases predicted so. Where sensitivity or specificity (the
    proportion) is 0 or 1, z²/2 cases are added to each cell, "adjusted logit" in [1]_,
    and the bounds are widened to hold the value if need be. With `groups` each
    proportion has the effective number of cases of :func:`proportion_ci`.

    References
    ----------
    .. [1] N. D. Mercaldo, K. F. Lau, X. H. Zhou, "Confidence intervals for predictive
       values with an emphasis to case-control studies", Statistics in Medicine
       26:2170-2183, 2007.

    Examples
    --------
    A test for Alzheimer's disease from [1]_, where the disease is rare:

    >>> import numpy as np
    >>> from skmedimg.metrics import predictive_values_ci
    >>> y_true = np.repeat([1, 1, 0, 0], [240, 178, 87, 288])
    >>> y_pred = np.repeat([1, 0, 1, 0], [240, 178, 87, 288])
    >>> ppv, npv = predictive_values_ci(y_true, y_pred, prevalence=0.03)
    >>> print(f"{ppv.value:.3f} ({ppv.low:.3f} to {ppv.high:.3f})")
    0.071 (0.059 to 0.086)
    >>> print(f"{npv.value:.3f} ({npv.low:.3f} to {npv.high:.3f})")
    0.983 (0.981 to 0.985)
    """
    positive, called, cluster = check_decisions(y_true, y_pred, pos_label, groups)
    _require(positive, "positive", "a predictive value")
    _require(~positive, "negative", "a predictive value")
    ppv = _predictive_value(positive, called, cluster, prevalence, level)
    # What is said of negative calls is what is said of positive ones, labels swapped.
    mirrored = None if prevalence is None else 1 - prevalence
    npv = _predictive_value(~positive, ~called, cluster, mirrored, level)
    return PredictiveValues(ppv, npv)


def correct(y_true: np.ndarray, y_pred: Any, name: str) -> np.ndarray:
    """Return whether each case is predicted right."""
    y_pred = check_labels(y_pred, y_true, name)
    code, _ = encode(np.append(y_true, y_pred), f"y_true or {name}")
    true, predicted = np.split(code, 2)
    return true == predicted


def effective_size(values: np.ndarray, cluster: np.ndarray, level: float) -> float:
    """Return how many independent cases a mean of clustered ones is worth.

    Parameters
    ----------
    values : ndarray of shape (n,)
        What is averaged: successes, or differences of them.
    cluster : ndarray of int, shape (n,)
        Cluster of each case.
    level : float
        Confidence level of the interval to be built.
    """
    n, n_clusters = len(values), count_clusters(cluster)
    if n_clusters in (1, n):
        return n_clusters
    effective = effective_clusters(cluster)
    size = effective
    if values.min() < values.max():
        size = n / max(_design_effect(values, cluster), 1)
    quantile = (1 + level) / 2
    widening = stdtrit(effective - 1, quantile) / stdtrit(n - 1, quantile)
    return max(size / float(widening) ** 2, 1.0)


def _design_effect(values: np.ndarray, cluster: np.ndarray) -> float:
    """Return the variance of a mean of clustered cases over that of independent ones.

    Half a cluster of average size of the lowest value and half a one of the highest are
    added: without them a few failures that happen to come from different clusters would
    seem to show that failures do not cluster.
    """
    sizes = np.bincount(cluster)
    sizes, totals = sizes[sizes > 0], np.bincount(cluster, values)[sizes > 0]
    half = sizes.mean() / 2
    extremes = np.array([values.min(), values.max()])
    totals, squares = np.append(totals, half * extremes), np.sum(values**2.0)
    squares += half * np.sum(extremes**2.0)
    sizes = np.append(sizes, [half, half])
    n, m = sizes.sum(), len(sizes)
    mean = totals.sum() / n
    deviation = totals - sizes * mean
    between = m / (m - 1) * deviation @ deviation / n**2
    return float(between / ((squares / n - mean**2) / (n - 1)))


def _check_success(success: Any) -> np.ndarray:
    success = check_column(success, "success")
    encode(success, "success")
    strange = [value for value in success.tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(
            f"success holds {strange[0]!r}: pass booleans, for example "
            "y_true == y_pred."
        )
    return success.astype(bool)


def _require(cases: np.ndarray, name: str, figure: str) -> None:
    if not cases.any():
        raise ValueError(
            f"y_true holds no {name} case among {len(cases)}: {figure} needs at least "
            "one. Is pos_label the label you mean?"
        )


def _interval(
    success: np.ndarray, cluster: np.ndarray, level: float, method: str
) -> Estimate:
    share = float(success.mean())
    size = effective_size(success, cluster, level)
    bounds = wilson_bounds if method == "wilson" else exact_bounds
    return Estimate(share, *bounds(share, size, level))


def wilson_bounds(share: float, size: float, level: float) -> tuple[float, float]:
    """Return Wilson's bounds of a proportion of `size` cases, a whole number or not."""
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = np.sqrt(z2 * (share * (1 - share) / size + z2 / (4 * size**2)))
    half /= 1 + z2 / size
    # Rounding must not part the bound from a share of 0 or 1.
    low, high = float(centre - half), float(centre + half)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def exact_bounds(share: float, size: float, level: float) -> tuple[float, float]:
    """Return the bounds of Clopper and Pearson, by quantiles of beta distributions."""
    hits, misses, tail = share * size, (1 - share) * size, (1 - level) / 2
    low = 0.0 if share == 0 else float(betaincinv(hits, misses + 1, tail))
    high = 1.0 if share == 1 else float(betaincinv(hits + 1, misses, 1 - tail))
    return low, high


def _predictive_value(
    positive: np.ndarray,
    called: np.ndarray,
    cluster: np.ndarray,
    prevalence: float | None,
    level: float,
) -> Estimate:
    """Return the positive predictive value with its interval."""
    z = float(ndtri((1 + level) / 2))
    if not called.any():
        return Estimate(float("nan"), 0.0, 1.0)
    if prevalence is None:
        value = positive[called].mean()
        sizes = np.array([effective_size(positive[called], cluster[called], level)])
        shares, sizes = _adjusted(np.array([value]), sizes, z)
        log_odds = logit(shares[0])
        variance = 1 / (shares * (1 - shares) * sizes).sum()
    else:
        sides = (positive, ~positive)
        rates = np.array([called[side].mean() for side in sides])
        weights = rates * [prevalence, 1 - prevalence]
        value = weights[0] / weights.sum()
        sizes = np.array(
            [effective_size(called[side], cluster[side], level) for side in sides]
        )
        shares, sizes = _adjusted(rates, sizes, z)
        log_odds = np.log(shares[0] / shares[1]) + logit(prevalence)
        variance = ((1 - shares) / (shares * sizes)).sum()
    bounds = expit(log_odds + z * np.sqrt(variance) * np.array([-1, 1]))
    low, high = bounds.tolist()
    return Estimate(float(value), min(low, float(value)), max(high, float(value)))


def _adjusted(
    shares: np.ndarray, sizes: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add z²/2 successes and failures to all, where a share has no logit."""
    if ((shares > 0) & (shares < 1)).all():
        return shares, sizes
    return (shares * sizes + z**2 / 2) / (sizes + z**2), sizes + z**2
