"""How good a classifier is on the cases that it does not refer."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._bootstrap import cluster_bootstrap
from skmedimg.metrics._checks import (
    Estimate,
    check_column,
    check_generator,
    check_groups,
)
from skmedimg.metrics._statistics import Statistic

_N_BOOTSTRAP = 2000


class AURC(NamedTuple):
    """Area under a risk-coverage curve with its interval and its neighbours.

    Attributes
    ----------
    value : float
        Mean risk over all coverages; less is better.
    low, high : float
        Bounds of the interval.
    random : float
        The area expected where cases are referred at random: the mean error.
    oracle : float
        The area where the cases of the greatest error are referred first.
    gain : Estimate
        `random` less `value`, with its interval: above 0 where confidence tells errors
        from successes.
    """

    value: float
    low: float
    high: float
    random: float
    oracle: float
    gain: Estimate


@validate_params(
    {"error": ["array-like"], "confidence": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def risk_coverage_curve(error: Any, confidence: Any) -> tuple[np.ndarray, np.ndarray]:
    """Risk among the cases kept, for every share of cases kept.

    Parameters
    ----------
    error : array-like of shape (n,)
        Loss of each case: 1 where the prediction is wrong and 0 where it is right, or
        any other finite number.
    confidence : array-like of shape (n,)
        Confidence in each prediction; the least confident are referred first.

    Returns
    -------
    coverage : ndarray of shape (n,)
        Share of cases kept, 1 / n to 1.
    risk : ndarray of shape (n,)
        Mean error of the cases kept. Of equally confident cases a random part is kept,
        and the risk is the expected one.

    Raises
    ------
    ValueError
        If lengths differ or something is missing.

    See Also
    --------
    aurc : The area under this curve, with an interval.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks",
       NeurIPS 2017.

    Examples
    --------
    >>> from skmedimg.metrics import risk_coverage_curve
    >>> coverage, risk = risk_coverage_curve([0, 1, 0, 1], [0.9, 0.6, 0.8, 0.7])
    >>> coverage
    array([0.25, 0.5 , 0.75, 1.  ])
    >>> risk.round(2)
    array([0.  , 0.  , 0.33, 0.5 ])
    """
    error, confidence = _check(error, confidence)
    tie, mean = _ties(error, confidence)
    kept = np.arange(1, len(error) + 1)
    return kept / len(error), np.cumsum(mean[np.sort(tie)]) / kept


@validate_params(
    {
        "error": ["array-like"],
        "confidence": ["array-like"],
        "groups": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def aurc(
    error: Any,
    confidence: Any,
    *,
    groups: Any = None,
    level: float = 0.95,
    random_state: Any = None,
) -> AURC:
    """Area under the risk-coverage curve, against random and perfect referral.

    Parameters
    ----------
    error : array-like of shape (n,)
        Loss of each case: 1 where the prediction is wrong and 0 where it is right, or
        any other finite number.
    confidence : array-like of shape (n,)
        Confidence in each prediction; the least confident are referred first.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level of the intervals, between 0 and 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the bootstrap.

    Returns
    -------
    AURC
        Named tuple (value, low, high, random, oracle, gain).

    Raises
    ------
    ValueError
        If lengths differ, something is missing, or all cases are of one group.

    Warns
    -----
    UndefinedMetricWarning
        If all errors are equal: bounds are NaN then.

    See Also
    --------
    risk_coverage_curve : The curve itself.

    Notes
    -----
    The area is the mean of the curve over its n points [1]_. Intervals are those of
    `bootstrap_ci`, of 2,000 replicates in which value and gain share their draws, so
    that the gain over random referral is compared on the same cases.

    References
    ----------
    .. [1] Y. Geifman, G. Uziel, R. El-Yaniv, "Bias-reduced uncertainty estimation for
       deep neural classifiers", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import aurc
    >>> rng = np.random.default_rng(0)
    >>> confidence = rng.random(500)
    >>> error = rng.random(500) > confidence
    >>> area = aurc(error, confidence, random_state=0)
    >>> print(f"{area.value:.2f}; random {area.random:.2f}, oracle {area.oracle:.2f}")
    0.23; random 0.47, oracle 0.14
    >>> print("better than random by {:.2f} ({:.2f} to {:.2f})".format(*area.gain))
    better than random by 0.25 (0.22 to 0.27)
    """
    error, confidence = _check(error, confidence)
    cluster = check_groups(groups, len(error))
    area = _area(error, confidence, cluster)
    n_cases, loss = np.bincount(cluster), np.bincount(cluster, weights=error)

    def area_and_gain(times: np.ndarray) -> np.ndarray:
        value = area(times)
        return np.stack([value, loss @ times / (n_cases @ times) - value])

    # The same confidence for all is random referral itself, beyond any doubt.
    constant = np.ptp(confidence) == 0
    found = cluster_bootstrap(
        [area if constant else area_and_gain],
        cluster,
        level,
        _N_BOOTSTRAP,
        check_generator(random_state),
    )
    gain = Estimate(0.0, 0.0, 0.0) if constant else Estimate(*found[1][:3])
    oracle = float(risk_coverage_curve(error, -error)[1].mean())
    return AURC(*found[0][:3], random=float(error.mean()), oracle=oracle, gain=gain)


def _check(error: Any, confidence: Any) -> tuple[np.ndarray, np.ndarray]:
    columns = []
    for values, name in (error, "error"), (confidence, "confidence"):
        column = check_column(values, name).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise ValueError(
                f"{name} holds {len(bad)} NaN or infinite values, the first at index "
                f"{bad[0]}: drop these cases from error and confidence."
            )
        columns.append(column)
    if len(columns[0]) != len(columns[1]):
        raise ValueError(
            f"error has {len(columns[0])} entries and confidence {len(columns[1])}: "
            "pass one of each a case."
        )
    return columns[0], columns[1]


def _ties(error: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each case's tie, the most confident first, and the mean error of ties."""
    _, tie = np.unique(-confidence, return_inverse=True)
    return tie, np.bincount(tie, weights=error) / np.bincount(tie)


def _area(error: np.ndarray, confidence: np.ndarray, cluster: np.ndarray) -> Statistic:
    """Return the area as a function of how often each cluster is drawn."""
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.diff(-confidence[order], prepend=-np.inf))

    def area(times: np.ndarray) -> np.ndarray:
        drawn = times[cluster[order]]
        n = np.add.reduceat(drawn, starts)
        loss = np.add.reduceat(error[order, np.newaxis] * drawn, starts)
        n_upto, loss_upto = np.cumsum(n, axis=0), np.cumsum(loss, axis=0)
        # The risk after k cases, of which j are of this tie, is that of the cases
        # before plus j times the mean loss of the tie, over k. Summed over j this has a
        # closed form in harmonic numbers.
        harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, n_upto.max() + 1))])
        steps = np.diff(harmonic[n_upto.astype(int)], axis=0, prepend=0)
        before = loss_upto - loss - (n_upto - n) * loss / np.maximum(n, 1)
        return (loss_upto[-1] + np.einsum("ij,ij->j", before, steps)) / n_upto[-1]

    return area
