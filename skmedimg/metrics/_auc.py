"""Areas under ROC curves: intervals and comparisons, patients as clusters."""

from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit
from sklearn.utils._param_validation import Interval, Real, StrOptions, validate_params

from skmedimg.metrics._checks import (
    Estimate,
    check_binary,
    count_clusters,
    effective_clusters,
)

# Below it a variance is rounding error: the smallest real one, a single discordant pair
# among 10^6 cases of each class, is 1e-24.
NO_VARIANCE = 1e-28
# With fewer degrees of freedom intervals grow, and hardly cover more.
_LEAST_DF = 3


@validate_params(
    {
        "y_true": ["array-like"],
        "y_score": ["array-like"],
        "pos_label": "no_validation",
        "level": [Interval(Real, 0, 1, closed="neither")],
        "groups": ["array-like", None],
        "transform": [StrOptions({"logit"}), None],
    },
    prefer_skip_nested_validation=True,
)
def roc_auc_ci(
    y_true: Any,
    y_score: Any,
    *,
    pos_label: Any = None,
    level: float = 0.95,
    groups: Any = None,
    transform: Literal["logit"] | None = "logit",
) -> Estimate:
    """Area under the ROC curve with a confidence interval.

    DeLong's interval for independent cases, Obuchowski's where a patient contributes
    several (`groups`).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_score : array-like of shape (n,)
        Scores, higher for the positive class: probabilities or decision values.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient: cases of one cluster may depend
        on each other, clusters do not. None takes cases as independent.
    transform : {"logit"} or None, default="logit"
        Scale on which the interval is symmetric. None gives the plain (Wald) interval,
        clipped to [0, 1], that most other software prints.

    Returns
    -------
    Estimate
        Named tuple (value, low, high).

    Raises
    ------
    ValueError
        If lengths differ, labels or scores are missing, there are not exactly two
        classes, `pos_label` is not one of them or is needed and not given, or `level`
        is outside (0, 1).

    See Also
    --------
    sklearn.metrics.roc_auc_score : The estimate alone.

    Notes
    -----
    The variance is that of DeLong et al. [1]_ in O(n log n), as found by Sun and
    Xu [2]_; with `groups` that of Obuchowski [3]_, which for clusters of one case is
    the same. The interval takes Student's t at min(number of positive, number of
    negative cases) - 1 degrees of freedom, since the smaller class decides how well the
    variance is known; with `groups` it is the number of clusters that hold a class.
    Where a few of them make up the variance it is known less well than that: the
    degrees are then ``2 (Σ e²)² / Σ e⁴ - 1``, where e is what a cluster adds to the
    error of the area, or 3 if that is more. These are Satterthwaite's with a variance
    of Σ e² that is estimated from the e themselves, after an idea of Pan and Wall [5]_;
    not centred and one less, they are smaller on purpose. One patient of two images is
    enough for this rule: near 0 and 1 it may then widen an interval by a tenth. Where
    one cluster has most cases of a class, so that (Σ m)² / Σ m² of its clusters of m
    cases is below 2, they are one less than that.

    Two cases leave this variance zero or undefined: scores that separate the classes
    perfectly (or are constant), and a class of a single case. There method 5 of
    Newcombe [4]_ is used, whatever `transform`: the area is bounded by those values θ
    that satisfy ``|auc - θ| <= z * sqrt(V(θ))``, where V is the variance of Hanley and
    McNeil under exponential distributions with both sample sizes in its numerator
    replaced by their mean. It needs only the area and the two sample sizes, stays
    within [0, 1], has a width above zero at 0 and 1, and treats the classes alike.
    With `groups` the sample sizes are numbers of clusters, which errs on the wide side.

    Close to 0 and 1 a few discordant pairs decide the variance, and intervals built on
    it tend to be too narrow. In simulations of normal scores, 95 % intervals of areas
    of .6 to .95 covered 94 to 96 % where the smaller class had at least 60 cases and 92
    to 100 % where it had fewer; of an area of .99 as little as 86 %. With 30 patients
    of 1 to 30 images it was 92 to 97 %, least for an area of .95 and images that depend
    strongly on their patient (``benchmarks/bench_auc_coverage.py``).

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under
       two or more correlated receiver operating characteristic curves: a nonparametric
       approach", Biometrics 44:837-845, 1988.
    .. [2] X. Sun, W. Xu, "Fast implementation of DeLong's algorithm for comparing the
       areas under correlated receiver operating characteristic curves", IEEE Signal
       Processing Letters 21:1389-1393, 2014.
    .. [3] N. A. Obuchowski, "Nonparametric analysis of clustered ROC curve data",
       Biometrics 53:567-578, 1997.
    .. [4] R. G. Newcombe, "Confidence intervals for an effect size measure based on the
       Mann-Whitney statistic. Part 2: asymptotic methods and evaluation", Statistics in
       Medicine 25:559-573, 2006.
    .. [5] W. Pan, M. M. Wall, "Small-sample adjustments in using the sandwich variance
       estimator in generalized estimating equations", Statistics in Medicine
       21:1429-1441, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import roc_auc_ci
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["benign", "malignant"], [80, 40])
    >>> score = rng.normal(loc=y == "malignant")
    >>> auc, low, high = roc_auc_ci(y, score, pos_label="malignant")
    >>> print(f"{auc:.2f} ({low:.2f} to {high:.2f})")
    0.74 (0.63 to 0.82)

    Every case counted four times tells hardly more, which `groups` knows:

    >>> y, score = np.repeat(y, 4), np.repeat(score, 4)
    >>> patient = np.repeat(np.arange(120), 4)
    >>> for groups in (None, patient):
    ...     _, low, high = roc_auc_ci(y, score, pos_label="malignant", groups=groups)
    ...     print(f"{low:.2f} to {high:.2f}")
    0.69 to 0.78
    0.63 to 0.82
    """
    positive, score, cluster = check_binary(y_true, y_score, pos_label, groups)
    return auc_interval(positive, score, cluster, level, transform)


def auc_interval(
    positive: np.ndarray,
    score: np.ndarray,
    cluster: np.ndarray,
    level: float,
    transform: Literal["logit"] | None = "logit",
) -> Estimate:
    """Return the area with its interval, from what `check_binary` gives."""
    components = delong_components(positive, score)
    auc = float(components[positive].mean())
    variance, df = auc_variance(positive, components, cluster)
    if variance < NO_VARIANCE:
        return without_variance(auc, positive, cluster, level)
    error = float(np.sqrt(variance))
    if transform is not None:
        return logit_interval(auc, error, df, level)
    half_width = float(stdtrit(df, (1 + level) / 2)) * error
    bounds = np.clip([auc - half_width, auc + half_width], 0, 1)
    return Estimate(auc, *bounds.tolist())


def logit_interval(auc: float, error: float, df: float, level: float) -> Estimate:
    """Return an area with the interval that is symmetric on the logit scale."""
    # d logit(a) / da = 1 / (a (1 - a))
    half_width = float(stdtrit(df, (1 + level) / 2)) * error / (auc * (1 - auc))
    bounds = expit(logit(auc) + half_width * np.array([-1, 1]))
    return Estimate(auc, *bounds.tolist())


def without_variance(
    auc: float, positive: np.ndarray, cluster: np.ndarray, level: float
) -> Estimate:
    """Return an area with the interval of method 5 of Newcombe 2006."""
    n_pos, n_neg = (count_clusters(cluster[s]) for s in (positive, ~positive))
    z = float(ndtri((1 + level) / 2))
    low = _newcombe_low(auc, n_pos, n_neg, z)
    # The method is symmetric in the classes.
    high = 1 - _newcombe_low(1 - auc, n_pos, n_neg, z)
    return Estimate(auc, low, high)


def degrees_of_freedom(
    errors: np.ndarray, positive: np.ndarray, cluster: np.ndarray
) -> float:
    """Return how well a variance is known that sums squared errors of clusters.

    Parameters
    ----------
    errors : ndarray of shape (n_clusters,)
        What each cluster adds to the error of an area; sums to 0.
    positive, cluster : ndarray of shape (n,)
        Class and cluster of each case; see `auc_variance`.
    """
    sides = (positive, ~positive)
    fewest = min(count_clusters(cluster[side]) for side in sides)
    effective = min(effective_clusters(cluster[side]) for side in sides)
    if effective < 2:  # one has most cases, and its errors sum to almost nothing
        return effective - 1
    second, fourth = np.sum(errors**2), np.sum(errors**4)
    if len(errors) == len(positive) or fourth == 0:
        return fewest - 1
    return float(min(fewest - 1, max(2 * second**2 / fourth - 1, _LEAST_DF)))


def delong_components(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return DeLong's structural components, V10 of positive and V01 of negative cases.

    A case's component is the share of the other class that it is ranked correctly
    against, ties counting half; the mean over either class is the area.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Whether a case is positive.
    score : ndarray of shape (n,)
        Scores.

    Returns
    -------
    ndarray of shape (n,)
        Components, between 0 and 1.
    """
    # One sort, then counts by distinct score.
    _, at = np.unique(score, return_inverse=True)
    n_distinct = at.max() + 1
    of_pos = np.bincount(at[positive], minlength=n_distinct)
    of_neg = np.bincount(at[~positive], minlength=n_distinct)
    neg_below = np.cumsum(of_neg) - of_neg / 2
    pos_above = of_pos.sum() - np.cumsum(of_pos) + of_pos / 2
    right = np.where(positive, neg_below[at], pos_above[at])
    return right / np.where(positive, of_neg.sum(), of_pos.sum())


def auc_variance(
    positive: np.ndarray, components: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
    """Return the variance of an area, or of a difference of areas on the same cases.

    Obuchowski 1997; where every case is a cluster of its own, DeLong 1988. With its
    degrees of freedom; both are 0 where one cluster alone holds a class.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
        Whether a case is positive.
    components : ndarray of shape (n,)
        Structural components, or their differences.
    cluster : ndarray of int, shape (n,)
        Cluster of each case, counted from 0.
    """
    of_pos, of_neg = cluster_errors(positive, components, cluster)
    df = degrees_of_freedom(of_pos + of_neg, positive, cluster)
    if df == 0:
        return 0.0, 0.0
    n_clusters = len(of_pos)
    variance = 2 * n_clusters / (n_clusters - 1) * of_pos @ of_neg
    for side, errors in ((positive, of_pos), (~positive, of_neg)):
        n = count_clusters(cluster[side])
        variance += n / (n - 1) * errors @ errors
    return float(variance), df


def cluster_errors(
    positive: np.ndarray,
    components: np.ndarray,
    cluster: np.ndarray,
    n_clusters: int | None = None,
) -> list[np.ndarray]:
    """Return what each cluster's positive, and negative, cases add to an area's error.

    Returns
    -------
    list of two ndarray of shape (n_clusters,)
        Each sums to 0.
    """
    if n_clusters is None:
        n_clusters = cluster.max() + 1
    errors = []
    for side in (positive, ~positive):
        own = components[side]
        share = (own - own.mean()) / len(own)
        errors.append(np.bincount(cluster[side], share, minlength=n_clusters))
    return errors


def _hanley_mcneil_variance(auc: float, n_pos: float, n_neg: float) -> float:
    """Return the variance of an area if scores are exponential in either class."""
    of_pos = (n_pos - 1) * (1 - auc) / (2 - auc)
    of_neg = (n_neg - 1) * auc / (1 + auc)
    return auc * (1 - auc) * (1 + of_pos + of_neg) / (n_pos * n_neg)


def _newcombe_low(auc: float, n_pos: int, n_neg: int, z: float) -> float:
    """Return the lower bound of an area by method 5 of Newcombe 2006."""
    if auc == 0:
        return 0.0
    mean = (n_pos + n_neg) / 2
    scale = mean**2 / (n_pos * n_neg)

    def excess(theta: float) -> float:
        variance = scale * _hanley_mcneil_variance(theta, mean, mean)
        return auc - theta - z * np.sqrt(variance)

    # An area of 1 is itself a root, as V(1) = 0; the bound is the root below it.
    return float(brentq(excess, 0, auc * (1 - 1e-12)))
