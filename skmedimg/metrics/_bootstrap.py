"""Bootstrap intervals of metrics and their differences, patients drawn whole."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils._param_validation import (
    Integral,
    Interval,
    Real,
    StrOptions,
    validate_params,
)

from skmedimg.metrics._checks import (
    check_column,
    check_generator,
    check_groups,
    check_several_clusters,
)
from skmedimg.metrics._statistics import METRICS, Statistic, make_statistic

# Cases times replicates held at once: fewer cost calls, more would leave the cache.
_BLOCK = 2**20
# More parts than this make the acceleration no better: its error falls as 1 / parts.
_MAX_PARTS = 400


class BootstrapEstimate(NamedTuple):
    """A figure with its bootstrap interval.

    Attributes
    ----------
    value : float
        Point estimate.
    low, high : float
        Bounds of the interval.
    n_skipped : int
        Replicates left out since the metric is undefined on them, as a class is absent.
    """

    value: float
    low: float
    high: float
    n_skipped: int


@validate_params(
    {
        "metric": [StrOptions(set(METRICS)), callable, list],
        "y_true": ["array-like"],
        "y_score": ["array-like"],
        "threshold": [Interval(Real, None, None, closed="neither")],
        "pos_label": "no_validation",
        "groups": ["array-like", None],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "n_bootstrap": [Interval(Integral, 100, None, closed="left")],
        "random_state": ["random_state"],
        "y_score_b": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap_ci(
    metric: Any,
    y_true: Any,
    y_score: Any,
    *,
    threshold: float = 0.5,
    pos_label: Any = None,
    groups: Any = None,
    level: float = 0.95,
    n_bootstrap: int = 2000,
    random_state: Any = None,
    y_score_b: Any = None,
) -> Any:
    """Bootstrap interval of a metric, or of the difference of two classifiers.

    Patients (`groups`) are drawn with all their cases; the bounds are bias-corrected
    and accelerated (BCa).

    Parameters
    ----------
    metric : str, callable or list of them
        "roc_auc", "average_precision"; "accuracy", "balanced_accuracy", "f1",
        "sensitivity", "specificity", all at `threshold`; "brier", "log_loss", for
        which scores are probabilities; "quadratic_kappa", for which `y_true` and
        `y_score` are grades. A callable ``metric(y_true, y_score) -> float`` gets the
        labels as given and is called once a replicate, which is slower. Metrics of a
        list share their replicates.
    y_true : array-like of shape (n,)
        True labels: of two classes for all but "quadratic_kappa" and callables.
    y_score : array-like of shape (n,), for callables also (n, k)
        Scores, higher for the positive class.
    threshold : float, default=0.5
        A case is called positive where its score is at least this.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    groups : array-like of shape (n,), default=None
        Cluster of each case, for example its patient. None takes cases as independent.
    level : float, default=0.95
        Confidence level, between 0 and 1.
    n_bootstrap : int, default=2000
        Number of replicates, at least 100.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.
    y_score_b : array-like of the shape of `y_score`, default=None
        Scores of a second classifier on the same cases. If given, the figure is the
        metric of `y_score` less that of `y_score_b`.

    Returns
    -------
    BootstrapEstimate or dict
        Named tuple (value, low, high, n_skipped); for a list of metrics a dictionary
        from each metric to its tuple.

    Raises
    ------
    ValueError
        If lengths differ, something is missing, a metric is unknown or undefined on
        these cases, or there are fewer than two clusters.

    Warns
    -----
    UndefinedMetricWarning
        If a metric is the same in every replicate, as an area of 1 is: the bounds are
        NaN then, since the bootstrap knows nothing of the doubt that remains.

    See Also
    --------
    roc_auc_ci : Interval of an area under the ROC curve in closed form.

    Notes
    -----
    Bounds are quantiles of the replicates at levels that correct for the bias of their
    median and for a variance that changes with the figure (Efron [1]_). The second
    correction comes from a jackknife over clusters; above 400 of them they are left out
    in 400 random parts. Drawing whole clusters is the first stage alone of a cluster
    bootstrap, as Davison and Hinkley [2]_ advise.

    Replicates that lack a class of `y_true` are skipped and counted where the metric
    needs it (callables: always). Where many are skipped, the interval holds for studies
    like this one that happen to have every class; a closed form is better then.

    With few clusters in a class (below about 20) any bootstrap interval is too narrow.

    Quadratic kappa weighs a disagreement by the squared difference of the grades
    themselves, so a grade that no case has makes no difference.

    References
    ----------
    .. [1] B. Efron, "Better bootstrap confidence intervals", Journal of the American
       Statistical Association 82:171-185, 1987.
    .. [2] A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application",
       section 3.8, Cambridge University Press, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.metrics import bootstrap_ci
    >>> rng = np.random.default_rng(0)
    >>> patient = np.arange(200) // 2
    >>> y = (rng.random(100) < 0.4)[patient].astype(int)
    >>> score = rng.normal(y) + rng.normal(size=100)[patient]
    >>> f1, low, high, n_skipped = bootstrap_ci(
    ...     "f1", y, score, threshold=0, groups=patient, random_state=0
    ... )
    >>> print(f"{f1:.2f} ({low:.2f} to {high:.2f}), {n_skipped} skipped")
    0.53 (0.42 to 0.64), 0 skipped
    """
    cluster = check_groups(groups, len(check_column(y_true, "y_true")))
    make = partial(
        make_statistic, cluster=cluster, pos_label=pos_label, threshold=threshold
    )
    metrics = metric if isinstance(metric, list) else [metric]
    statistics = [make(each, y_true, y_score) for each in metrics]
    if y_score_b is not None:
        second = [make(each, y_true, y_score_b) for each in metrics]
        statistics = list(map(_difference, statistics, second))
    rng = check_generator(random_state)
    if y_score_b is None or not np.array_equal(y_score, y_score_b):
        found = cluster_bootstrap(statistics, cluster, level, n_bootstrap, rng)
    else:
        # Zero beyond any doubt, and no warning that all replicates are equal.
        found = [BootstrapEstimate(0.0, 0.0, 0.0, 0)] * len(metrics)
    return dict(zip(metrics, found, strict=True)) if metric is metrics else found[0]


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda times: first(times) - second(times)


def cluster_bootstrap(
    statistics: Sequence[Statistic],
    cluster: np.ndarray,
    level: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> list[BootstrapEstimate]:
    """Return BCa intervals of statistics, all over the same replicates.

    Parameters
    ----------
    statistics : sequence of callables
        See `skmedimg.metrics._statistics`.
    cluster : ndarray of int, shape (n,)
        Cluster of each case, counted from 0.
    level : float
        Confidence level.
    n_bootstrap : int
        Number of replicates.
    rng : Generator
        Source of the draws.
    """
    check_several_clusters(cluster)
    n_clusters = int(cluster.max()) + 1
    width = max(1, _BLOCK // len(cluster))
    replicates = _apply(statistics, draw_clusters(n_clusters, n_bootstrap, width, rng))
    without = _apply(statistics, _parts_left_out(n_clusters, width, rng))
    values = _apply(statistics, [np.ones((n_clusters, 1))])[:, 0]
    return list(map(_estimate, values, replicates, without, [level] * len(values)))


def _apply(statistics: Sequence[Statistic], draws: Iterable[np.ndarray]) -> np.ndarray:
    """Return the figures of all statistics, shape (n_figures, n_draws)."""
    blocks = (np.vstack([of(times) for of in statistics]) for times in draws)
    return np.hstack(list(blocks))


def draw_clusters(
    n_clusters: int, n_draws: int, width: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield how often clusters are drawn, by blocks of at most `width` replicates."""
    for start in range(0, n_draws, width):
        n = min(width, n_draws - start)
        drawn = rng.integers(n_clusters, size=(n, n_clusters))
        cell = drawn * n + np.arange(n)[:, np.newaxis]
        times = np.bincount(cell.ravel(), minlength=n * n_clusters)
        yield times.reshape(n_clusters, n).astype(np.float64)


def _parts_left_out(
    n_clusters: int, width: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the clusters that stay where one, or one of the parts, is left out."""
    n_parts = min(n_clusters, _MAX_PARTS)
    # At random: clusters often come sorted by class.
    part = rng.permutation(n_clusters) % n_parts
    for start in range(0, n_parts, width):
        left_out = np.arange(start, min(start + width, n_parts))
        yield (part[:, np.newaxis] != left_out).astype(np.float64)


def _estimate(
    value: float, replicates: np.ndarray, without: np.ndarray, level: float
) -> BootstrapEstimate:
    """Return the BCa interval of a figure.

    Parameters
    ----------
    value : float
        The figure.
    replicates : ndarray of shape (n_bootstrap,)
        The figure on the replicates, NaN where it is undefined.
    without : ndarray of shape (n_parts,)
        The figure without each part of the clusters.
    level : float
        Confidence level.
    """
    kept = np.sort(replicates[~np.isnan(replicates)])
    if np.isnan(value) or len(kept) == 0:
        raise ValueError("the metric is undefined on these cases: is a class missing?")
    n_skipped = len(replicates) - len(kept)
    if np.ptp(kept) < 1e-12:
        warnings.warn(
            f"every bootstrap replicate gave {value:g}, so the bootstrap cannot tell "
            "how certain this is and the bounds are NaN: use an interval in closed "
            "form (roc_auc_ci, proportion_ci).",
            UndefinedMetricWarning,
            stacklevel=5,
        )
        return BootstrapEstimate(float(value), np.nan, np.nan, n_skipped)
    # Half of the replicates equal to the figure count as below it.
    rank = (np.searchsorted(kept, value) + np.searchsorted(kept, value, "right")) / 2
    # Not even one beyond the figure says less than one in so many, not infinitely few.
    bias = ndtri(np.clip(rank, 0.5, len(kept) - 0.5) / len(kept))
    acceleration = _acceleration(without[~np.isnan(without)])
    shifted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    # Below 0 the transformation has left its domain: take the extreme replicate.
    scale = np.maximum(1 - acceleration * shifted, 1e-9)
    low, high = np.quantile(kept, ndtr(bias + shifted / scale))
    return BootstrapEstimate(float(value), float(low), float(high), n_skipped)


def _acceleration(without: np.ndarray) -> float:
    deviation = without.mean() - without
    spread = np.sum(deviation**2)
    return float(np.sum(deviation**3) / (6 * spread**1.5)) if spread > 0 else 0.0
