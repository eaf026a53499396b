"""Whether a probability of 30 % comes true three times in ten."""

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit, ndtri, stdtrit
from scipy.stats import rankdata
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils._param_validation import (
    Integral,
    Interval,
    Real,
    StrOptions,
    validate_params,
)

from skmedimg.metrics._checks import (
    Estimate,
    check_binary,
    check_generator,
    check_probability,
    check_several_clusters,
)
from skmedimg.metrics._proportions import proportion_ci

if TYPE_CHECKING:
    import pandas as pd

# The logit of 0 and of 1 is infinite; they are taken at this distance from themselves.
_CERTAIN = 1e-8
_N_NULL = 1000
# Labels drawn at once: more would only fill the memory.
_BLOCK = 2**20


class CalibrationFit(NamedTuple):
    """Calibration slope and intercepts with their intervals.

    Attributes
    ----------
    slope : Estimate
        1 where risks spread as they should; below 1 where they are too extreme, as
        those of an overfitted model are; above 1 where they are too timid.
    intercept : Estimate
        Intercept of the model that holds the slope.
    intercept_in_the_large : Estimate
        Intercept at a slope of 1: below 0 where risks are too high on the whole, above
        0 where they are too low.
    """

    slope: Estimate
    intercept: Estimate
    intercept_in_the_large: Estimate


class BrierParts(NamedTuple):
    """Brier score and its parts, ``brier = reliability - resolution + uncertainty``.

    Attributes
    ----------
    brier : float
        Mean squared error of the probabilities.
    reliability : float
        What miscalibration costs; 0 is best.
    resolution : float
        What discrimination gains.
    uncertainty : float
        Brier score of the prevalence given to every case.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float


class CalibrationError(NamedTuple):
    """Calibration error, and what it would be by chance alone.

    Attributes
    ----------
    value : float
        Debiased calibration error.
    null_low, null_high : float
        Where 95 % of the values lie that a perfectly calibrated model gives with these
        probabilities.
    """

    value: float
    null_low: float
    null_high: float


_BINARY = {
    "y_true": ["array-like"],
    "y_prob": ["array-like"],
    "pos_label": "no_validation",
}


@validate_params(
    {
        **_BINARY,
        "groups": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def calibration_fit(
    y_true: Any,
    y_prob: Any,
    *,
    pos_label: Any = None,
    groups: Any = None,
    level: float = 0.95,
) -> CalibrationFit:
    """Calibration slope and intercept, and calibration in the large.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    CalibrationFit
        Named tuple (slope, intercept, intercept_in_the_large) of `Estimate`.

    Raises
    ------
    ValueError
        If lengths differ, something is missing, there are not exactly two classes, or
        values lie outside [0, 1].

    Warns
    -----
    UndefinedMetricWarning
        If no finite slope fits: the probabilities separate the classes, ties aside (the
        slope is infinite then), or are all equal (it is NaN). Bounds are NaN.
    UserWarning
        If probabilities are exactly 0 or 1, whose logits are infinite.

    See Also
    --------
    reliability_curve : Observed against predicted risk, without a model.

    Notes
    -----
    Slope and intercept are those of the logistic regression of the label on the logit
    of the probability (Cox [1]_), calibration in the large the intercept where the
    logit is an offset; Van Calster et al. [2]_ call this weak calibration. Logits are
    cut off at ±18.4, the probabilities 1e-8 and 1 - 1e-8.

    For independent cases the intervals are Wald's, from the information matrix. With
    `groups` they come from the sandwich covariance of clusters with the correction for
    leverage of Mancl and DeRouen [3]_, which is a jackknife over clusters by one Newton
    step, and from Student's t at one degree of freedom less than there are clusters.

    References
    ----------
    .. [1] D. R. Cox, "Two further applications of a model for binary regression",
       Biometrika 45:562-565, 1958.
    .. [2] B. Van Calster et al., "Calibration: the Achilles heel of predictive
       analytics", BMC Medicine 17:230, 2019.
    .. [3] L. A. Mancl, T. A. DeRouen, "A covariance estimator for GEE with improved
       small-sample properties", Biometrics 57:126-134, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit
    >>> from skmedimg.metrics import calibration_fit
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=1000)
    >>> y = (rng.random(1000) < expit(truth)).astype(int)
    >>> slope, _, in_the_large = calibration_fit(y, expit(2 * truth + 1))
    >>> print("too extreme: {:.2f} ({:.2f} to {:.2f})".format(*slope))
    too extreme: 0.42 (0.34 to 0.50)
    >>> print("too high: {:.2f} ({:.2f} to {:.2f})".format(*in_the_large))
    too high: -0.92 (-1.08 to -0.77)
    """
    positive, prob, cluster = check_binary(y_true, y_prob, pos_label, groups)
    check_probability(prob)
    x = _finite_logit(prob)
    fit = partial(_fit_logistic, positive, level=level)
    if groups is not None:
        check_several_clusters(cluster)
        fit = partial(fit, cluster=cluster)
    ones = np.ones((len(x), 1))
    in_the_large = fit(ones, offset=x)[0]
    limit = _slope_at_the_limit(positive, x)
    if limit is None:
        intercept, slope = fit(np.column_stack([ones, x]), offset=np.zeros(len(x)))
    else:
        slope = Estimate(limit, np.nan, np.nan)
        intercept = Estimate(np.nan, np.nan, np.nan)
    return CalibrationFit(slope, intercept, in_the_large)


def _finite_logit(prob: np.ndarray) -> np.ndarray:
    n_certain = np.count_nonzero((prob == 0) | (prob == 1))
    if n_certain:
        warnings.warn(
            f"{n_certain} of {len(prob)} probabilities are exactly 0 or 1, whose "
            f"logit is infinite: {_CERTAIN:g} and 1 - {_CERTAIN:g} stand for them, and "
            "slope and intercept depend on that choice. Pass probabilities that were "
            "not rounded.",
            UserWarning,
            stacklevel=4,
        )
    return logit(np.clip(prob, _CERTAIN, 1 - _CERTAIN))


def _slope_at_the_limit(positive: np.ndarray, x: np.ndarray) -> float | None:
    """Return the slope where no finite one has the greatest likelihood, else None."""
    if np.ptp(x) < 1e-6:
        limit, seen = np.nan, "the probability is the same for every case"
    elif x[positive].min() >= x[~positive].max():
        limit, seen = np.inf, "the probabilities separate the classes (ties aside)"
    elif x[positive].max() <= x[~positive].min():
        limit, seen = -np.inf, "the probabilities separate the classes the wrong way"
    else:
        return None
    warnings.warn(
        f"{seen}: no finite calibration slope fits, it is {limit} without an interval. "
        "Calibration in the large remains; a slope needs more cases.",
        UndefinedMetricWarning,
        stacklevel=4,
    )
    return limit


def _fit_logistic(
    positive: np.ndarray,
    design: np.ndarray,
    *,
    offset: np.ndarray,
    level: float,
    cluster: np.ndarray | None = None,
) -> list[Estimate]:
    """Return the coefficients of a logistic regression, without penalty."""
    coef = _maximise_likelihood(design, positive, offset)
    risk = expit(offset + design @ coef)
    information = np.einsum("ij,ik,i->ijk", design, design, risk * (1 - risk))
    quantile = ndtri((1 + level) / 2)
    if cluster is None:
        covariance = np.linalg.inv(information.sum(axis=0))
    else:
        score = design * (positive - risk)[:, np.newaxis]
        covariance = _jackknife_covariance(
            _sum_by(cluster, score), _sum_by(cluster, information)
        )
        quantile = stdtrit(cluster.max(), (1 + level) / 2)
    half = quantile * np.sqrt(np.diag(covariance))
    bounds = np.stack([coef, coef - half, coef + half], axis=1)
    return [Estimate(*row) for row in bounds.tolist()]


def _jackknife_covariance(score: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Return the covariance from one Newton step without each of the clusters."""
    total = information.sum(axis=0)
    others = total - information
    # Relative to the total, from which the difference has its rounding error.
    rank = np.linalg.matrix_rank(others, 1e-12 * np.trace(total), hermitian=True)
    if np.any(rank < len(total)):
        return np.full(total.shape, np.inf)
    moved = np.linalg.solve(others, score[..., np.newaxis])[..., 0]
    return (len(score) - 1) / len(score) * moved.T @ moved


def _sum_by(cluster: np.ndarray, rows: np.ndarray) -> np.ndarray:
    total = np.zeros((cluster.max() + 1, *rows.shape[1:]))
    np.add.at(total, cluster, rows)
    return total


def _maximise_likelihood(
    design: np.ndarray, positive: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    sign = np.where(positive, -1, 1)

    def loss(coef: np.ndarray) -> float:
        return float(np.logaddexp(0, sign * (offset + design @ coef)).sum())

    coef = np.zeros(design.shape[1])
    for _ in range(200):
        risk = expit(offset + design @ coef)
        gradient = design.T @ (positive - risk)
        step = np.linalg.solve((design.T * (risk * (1 - risk))) @ design, gradient)
        # Squared, in standard errors: after this step only its square remains, and the
        # likelihood could no longer tell a smaller step from rounding.
        if gradient @ step < 1e-8:
            return coef + step
        # Newton's step overshoots where most risks are close to 0 or 1, up to where all
        # are and nothing leads back: a logit may change by this much.
        step = step * min(1, 3 / np.abs(design @ step).max())
        while loss(coef + step) > loss(coef):
            step = step / 2
        coef = coef + step
    raise RuntimeError("the logistic regression did not converge in 200 steps")


@validate_params(_BINARY, prefer_skip_nested_validation=True)
def brier_decomposition(
    y_true: Any, y_prob: Any, *, pos_label: Any = None
) -> BrierParts:
    """Brier score, and its reliability, resolution and uncertainty.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.

    Returns
    -------
    BrierParts
        Named tuple (brier, reliability, resolution, uncertainty).

    Raises
    ------
    ValueError
        If lengths differ, something is missing, there are not exactly two classes, or
        values lie outside [0, 1].

    See Also
    --------
    calibration_error : Miscalibration set against chance.

    Notes
    -----
    The parts are Murphy's [1]_, with recalibrated probabilities from isotonic
    regression in place of bins (CORP, Dimitriadis et al. [2]_): the score less that of
    the recalibrated probabilities is the reliability, that of the prevalence less that
    of the recalibrated ones the resolution. Bins need two more terms for what varies
    within them, or the parts do not add up, and the parts move with the number of bins;
    these add up exactly, are never negative and leave nothing to choose. Isotonic
    regression fits chance too: in small samples reliability and resolution both come
    out too large, so a reliability above 0 alone is no sign of miscalibration.

    References
    ----------
    .. [1] A. H. Murphy, "A new vector partition of the probability score", Journal of
       Applied Meteorology 12:595-600, 1973.
    .. [2] T. Dimitriadis, T. Gneiting, A. I. Jordan, "Stable reliability diagrams for
       probabilistic classifiers", PNAS 118:e2016191118, 2021.

    Examples
    --------
    >>> from skmedimg.metrics import brier_decomposition
    >>> y_true = [0, 0, 0, 1, 0, 1, 1, 1]
    >>> y_prob = [0.1, 0.1, 0.4, 0.4, 0.6, 0.6, 0.7, 0.9]
    >>> parts = brier_decomposition(y_true, y_prob)
    >>> print("{:.3f} = {:.3f} - {:.3f} + {:.3f}".format(*parts))
    0.145 = 0.020 - 0.125 + 0.250
    """
    positive, prob, _ = check_binary(y_true, y_prob, pos_label, None)
    check_probability(prob)
    _, place, n = np.unique(prob, return_inverse=True, return_counts=True)
    observed = np.bincount(place, weights=positive) / n
    recalibrated = isotonic_regression(observed, weights=n).x[place]
    brier = np.mean((prob - positive) ** 2)
    best = np.mean((recalibrated - positive) ** 2)
    uncertainty = positive.mean() * (1 - positive.mean())
    parts = brier, brier - best, uncertainty - best, uncertainty
    return BrierParts(*map(float, parts))


@validate_params(
    {
        **_BINARY,
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def calibration_error(
    y_true: Any,
    y_prob: Any,
    *,
    pos_label: Any = None,
    n_bins: int = 15,
    random_state: Any = None,
) -> CalibrationError:
    """Debiased calibration error, and what a calibrated model would give.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    n_bins : int, default=15
        Number of bins, equally filled but for ties.
    random_state : int, RandomState instance or None, default=None
        Seed of the labels drawn for the null band.

    Returns
    -------
    CalibrationError
        Named tuple (value, null_low, null_high). A value above `null_high` speaks of
        miscalibration.

    Raises
    ------
    ValueError
        If lengths differ, something is missing, there are not exactly two classes, or
        values lie outside [0, 1].

    See Also
    --------
    calibration_fit : The direction of miscalibration, with intervals.

    Notes
    -----
    Over bins, the root of the mean squared difference of observed and predicted risk.
    The usual estimate is biased upwards, since observed risks scatter; each bin's
    square is less its variance here (Bröcker [1]_, Kumar et al. [2]_), which makes the
    square unbiased. It is 0 where bins differ no more than their scatter. What differs
    within a bin goes unseen. The expected calibration error of the literature takes
    absolute differences, whose bias cannot be removed so.

    The null band holds 95 % of the values on 1,000 sets of labels that are drawn with
    the given probabilities. It takes cases as independent.

    References
    ----------
    .. [1] J. Bröcker, "Estimating reliability and resolution of probability forecasts
       through decomposition of the empirical score", Climate Dynamics 39:655-667, 2012.
    .. [2] A. Kumar, P. Liang, T. Ma, "Verified uncertainty calibration", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import calibration_error
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(1000)
    >>> y_true = (rng.random(1000) < risk).astype(int)
    >>> error = calibration_error(y_true, risk**2, random_state=0)
    >>> print("{:.3f}; if calibrated {:.3f} to {:.3f}".format(*error))
    0.189; if calibrated 0.000 to 0.047
    """
    positive, prob, _ = check_binary(y_true, y_prob, pos_label, None)
    check_probability(prob)
    bins = _bins(prob, n_bins, "quantile")
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.diff(bins[order], prepend=-1))
    n = np.diff(starts, append=len(prob))
    predicted = np.add.reduceat(prob[order], starts) / n

    def error(labels: np.ndarray) -> np.ndarray:
        observed = np.add.reduceat(labels[:, order], starts, axis=1, dtype=float) / n
        # A bin of one case has no variance of its own, and tells nothing.
        variance = observed * (1 - observed) / np.maximum(n - 1, 1)
        square = np.where(n > 1, (observed - predicted) ** 2 - variance, 0)
        return np.sqrt(np.maximum(square @ n / len(prob), 0))

    rng = check_generator(random_state)
    block = max(1, _BLOCK // len(prob))
    null = [
        error(rng.random((min(block, _N_NULL - start), len(prob))) < prob)
        for start in range(0, _N_NULL, block)
    ]
    band = np.quantile(np.concatenate(null), [0.025, 0.975])
    return CalibrationError(error(positive[np.newaxis]).item(), *band.tolist())


@validate_params(
    {
        **_BINARY,
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "strategy": [StrOptions({"quantile", "uniform"})],
        "groups": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def reliability_curve(
    y_true: Any,
    y_prob: Any,
    *,
    pos_label: Any = None,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    groups: Any = None,
    level: float = 0.95,
) -> "pd.DataFrame":
    """Observed against predicted risk, by bins.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels of two classes.
    y_prob : array-like of shape (n,)
        Probabilities of the positive class.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    n_bins : int, default=10
        Number of bins; those without a case are left out.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equally many cases, but for ties, or of equal width.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level of the intervals, between 0 and 1.

    Returns
    -------
    DataFrame of shape (n_bins, 5)
        Columns "predicted" (mean probability), "observed" (share of positive cases),
        "low" and "high" (its interval, of `proportion_ci`) and "n" (cases), a row a
        bin.

    Raises
    ------
    ValueError
        If lengths differ, something is missing, there are not exactly two classes, or
        values lie outside [0, 1].

    See Also
    --------
    calibration_fit : Slope and intercept with intervals.
    proportion_ci : How clusters widen the intervals.
    sklearn.calibration.calibration_curve : The two curves alone.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import reliability_curve
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(1000)
    >>> y_true = (rng.random(1000) < risk).astype(int)
    >>> reliability_curve(y_true, risk**2, n_bins=4).round(2)
       predicted  observed   low  high    n
    0       0.03      0.14  0.11  0.19  250
    1       0.17      0.41  0.35  0.47  250
    2       0.42      0.66  0.60  0.71  250
    3       0.78      0.88  0.83  0.91  250
    """
    import pandas as pd

    positive, prob, cluster = check_binary(y_true, y_prob, pos_label, groups)
    check_probability(prob)
    bins = _bins(prob, n_bins, strategy)
    rows = []
    for one in np.unique(bins):
        own = bins == one
        observed = proportion_ci(positive[own], groups=cluster[own], level=level)
        rows.append((prob[own].mean(), *observed, np.count_nonzero(own)))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "n"])


def _bins(prob: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Return the bin of each case, counted from 0; equal values share one."""
    if strategy == "uniform":
        return np.minimum((prob * n_bins).astype(int), n_bins - 1)
    rank = rankdata(prob, method="min").astype(int) - 1
    return rank * n_bins // len(prob)
