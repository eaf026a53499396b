"""Comparison of two accuracies on the same cases."""

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.signal import convolve
from scipy.special import ndtri
from scipy.stats import binom
from sklearn.utils._param_validation import Interval, Real, validate_params

from skmedimg.metrics._checks import Comparison, check_column, check_groups
from skmedimg.metrics._proportions import correct, effective_size


@validate_params(
    {
        "y_true": ["array-like"],
        "y_pred_a": ["array-like"],
        "y_pred_b": ["array-like"],
        "groups": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def mcnemar_test(
    y_true: Any,
    y_pred_a: Any,
    y_pred_b: Any,
    *,
    groups: Any = None,
    level: float = 0.95,
) -> Comparison:
    """Difference of two accuracies on the same cases, with its interval and test.

    Of positive cases alone it compares sensitivities, of negative ones specificities.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels, of any number of classes.
    y_pred_a : array-like of shape (n,)
        Labels predicted by the first classifier.
    y_pred_b : array-like of shape (n,)
        Labels predicted by the second.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient: cases of one cluster may depend
        on each other, clusters do not. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Comparison
        Named tuple (difference, low, high, statistic, p_value): first accuracy less
        second.

    Raises
    ------
    ValueError
        If lengths differ, labels are missing, or `level` is outside (0, 1).

    See Also
    --------
    accuracy_ci : One accuracy with its interval.
    delong_test : Comparison of areas under ROC curves, without a threshold.

    Notes
    -----
    Only clusters (cases, without `groups`) in which one classifier is right more often
    than the other tell which is better. Let d be that excess. If neither is better its
    sign is a coin's; the p-value is that of Σ d among all 2^k patterns of signs, exact,
    with half the probability of what was seen (mid-p) [1]_. For independent cases this
    is McNemar's mid-p test. The statistic is Σ d / sqrt(Σ d²) [2]_, for independent
    cases McNemar's.

    The interval is the score interval of Tango [3]_. With `groups` its counts are
    divided by the design effect of the difference, as in :func:`proportion_ci`. Test
    and interval are each the better of their kind, and may disagree at the edge.

    References
    ----------
    .. [1] M. W. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary
       matched-pairs data: mid-p and asymptotic are better than exact conditional", BMC
       Medical Research Methodology 13:91, 2013.
    .. [2] Z. Yang, X. Sun, J. W. Hardin, "A note on the tests for clustered
       matched-pair binary data", Biometrical Journal 52:638-652, 2010.
    .. [3] T. Tango, "Equivalence test and confidence interval for the difference in
       proportions for the paired-sample design", Statistics in Medicine 17:891-908,
       1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import mcnemar_test
    >>> y_true = np.ones(100, int)
    >>> first = np.repeat([1, 1, 0, 0], [70, 15, 5, 10])
    >>> second = np.repeat([1, 0, 1, 0], [70, 15, 5, 10])
    >>> result = mcnemar_test(y_true, first, second)
    >>> print(f"{result.difference:.2f} ({result.low:.2f} to {result.high:.2f})")
    0.10 (0.01 to 0.19)
    >>> print(f"p = {result.p_value:.3f}")
    p = 0.027
    """
    y_true = check_column(y_true, "y_true")
    excess = correct(y_true, y_pred_a, "y_pred_a").astype(int)
    excess -= correct(y_true, y_pred_b, "y_pred_b")
    cluster = check_groups(groups, len(y_true))
    n = len(excess)
    scale = effective_size(excess, cluster, level) / n
    better, worse = np.array([(excess > 0).sum(), (excess < 0).sum()]) * scale
    high = _tango_high(better, worse, n * scale, level)
    low = -_tango_high(worse, better, n * scale, level)
    by_cluster = np.bincount(cluster, excess).round().astype(int)
    norm = np.sqrt(by_cluster @ by_cluster)
    statistic = float(by_cluster.sum() / norm) if norm else 0.0
    p_value = _sign_flip_mid_p(by_cluster)
    return Comparison(float(excess.mean()), low, high, statistic, p_value)


def _sign_flip_mid_p(values: np.ndarray) -> float:
    """Return the two-sided mid-p value of the sum of integers under random signs."""
    sizes, counts = np.unique(np.abs(values[values != 0]), return_counts=True)
    total = int((sizes * counts).sum())
    # Distribution of the sum of those that are positive, one size after another.
    density = np.ones(1)
    for size, count in zip(sizes, counts, strict=True):
        step = np.zeros(size * count + 1)
        step[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        density = convolve(density, step)
    most = (total + abs(int(values.sum()))) // 2
    beyond = 2 * density[most + 1 :].sum() + density[most]
    return float(np.clip(beyond, 0, 1))


def _tango_high(better: float, worse: float, n: float, level: float) -> float:
    """Return the upper score bound of (better - worse) / n in matched pairs."""
    z = float(ndtri((1 + level) / 2))
    estimate = (better - worse) / n

    def excess(difference: float) -> float:
        # The maximum-likelihood share of worse pairs at that difference.
        b = (2 * n - better + worse) * difference - better - worse
        c = -worse * difference * (1 - difference)
        share = (np.sqrt(b**2 - 8 * n * c) - b) / (4 * n)
        variance = n * max(2 * share + difference * (1 - difference), 0)
        return better - worse - n * difference + z * np.sqrt(variance)

    # Without a discordant pair the estimate is itself a root; the bound lies above it.
    start = estimate + 1e-12
    return float(brentq(excess, start, 1)) if start < 1 else 1.0
