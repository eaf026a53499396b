"""ROC curve with its band of confidence."""

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve
from sklearn.utils._param_validation import Integral, Interval, Real, validate_params
from sklearn.utils._plotting import _validate_style_kwargs

from skmedimg.metrics._auc import roc_auc_ci
from skmedimg.metrics._bootstrap import draw_clusters
from skmedimg.metrics._checks import Estimate, check_binary, check_generator
from skmedimg.metrics._plot._drawing import (
    BAND,
    axes_for,
    groups_in,
    interval_text,
    legend,
    name_of,
    positive_label,
    positive_probability,
    reference_line,
    with_name,
    with_positive,
)
from skmedimg.metrics._proportions import proportion_ci

_GRID = 101
# Cases times replicates held at a time: such arrays stay in a processor's cache.
_ELEMENTS = 1 << 18


class RocBandDisplay:
    """ROC curve with a pointwise band of confidence, patients as clusters.

    Make one by `from_predictions` or `from_estimator`; everything it draws is an
    attribute.

    Parameters
    ----------
    fpr, tpr : ndarray of shape (n_points,)
        1 − specificity and sensitivity at every threshold.
    grid : ndarray of shape (n_grid,)
        Values of 1 − specificity that the band is given at.
    low, high : ndarray of shape (n_grid,)
        Bounds of sensitivity there.
    roc_auc : Estimate
        Area under the curve with its interval.
    level : float, default=0.95
        Confidence level of band and interval.
    n_skipped : int, default=0
        Bootstrap replicates left out, as they held one class only.
    name : str, default=None
        Name in the legend.
    pos_label : int, float, bool or str, default=None
        Label of the positive class, named on an axis.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    band_ : matplotlib PolyCollection
        The band.
    chance_level_ : matplotlib Line2D or None
        The diagonal; None where the axes have one already.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    roc_auc_ci : The area alone.
    sklearn.metrics.RocCurveDisplay : Without a band.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skmedimg.metrics import RocBandDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> display = RocBandDisplay.from_predictions(y, rng.normal(y), random_state=0)
    >>> print(display.line_.get_label())
    AUC 0.74 (95 % CI 0.63 to 0.83)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        fpr: np.ndarray,
        tpr: np.ndarray,
        grid: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        roc_auc: Estimate,
        level: float = 0.95,
        n_skipped: int = 0,
        name: str | None = None,
        pos_label: Any = None,
    ) -> None:
        self.fpr = fpr
        self.tpr = tpr
        self.grid = grid
        self.low = low
        self.high = high
        self.roc_auc = roc_auc
        self.level = level
        self.n_skipped = n_skipped
        self.name = name
        self.pos_label = pos_label

    def plot(
        self, *, ax: Any = None, name: str | None = None, curve_kwargs: Any = None
    ) -> "RocBandDisplay":
        """Draw curve, band and diagonal.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`; the band takes its colour.

        Returns
        -------
        RocBandDisplay
            Itself, with `ax_` and `figure_`.
        """
        self.ax_ = axes_for(ax, (4.6, 4.6))
        self.figure_ = self.ax_.figure
        text = f"AUC {interval_text(self.roc_auc, self.level)}"
        label = with_name(self.name if name is None else name, text)
        style = _validate_style_kwargs({"label": label}, curve_kwargs or {})
        (self.line_,) = self.ax_.plot(self.fpr, self.tpr, **style)
        self.band_ = self.ax_.fill_between(
            self.grid,
            self.low,
            self.high,
            color=self.line_.get_color(),
            alpha=BAND,
            linewidth=0,
        )
        self.chance_level_ = reference_line(self.ax_, [0, 1], [0, 1], "Chance")
        self.ax_.set(
            xlabel="1 − specificity",
            ylabel=with_positive("Sensitivity", self.pos_label),
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        legend(self.ax_, "lower right")
        return self

    @classmethod
    @validate_params(
        {
            "y_true": ["array-like"],
            "y_score": ["array-like"],
            "level": [Interval(Real, 0, 1, closed="neither")],
            "n_bootstrap": [Interval(Integral, 1, None, closed="left")],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        pos_label: Any = None,
        groups: Any = None,
        level: float = 0.95,
        n_bootstrap: int = 2000,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "RocBandDisplay":
        """Draw the curve of labels and scores.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels of two classes.
        y_score : array-like of shape (n,)
            Scores, higher for the positive class.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the labels
            are {0, 1} or {-1, 1}.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case; patients are resampled whole. None takes
            cases as independent.
        level : float, default=0.95
            Confidence level.
        n_bootstrap : int, default=2000
            Number of replicates.
        random_state : int, RandomState instance or None, default=None
            What replicates are drawn from.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`.

        Returns
        -------
        RocBandDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `roc_auc_ci`.

        Notes
        -----
        The band holds, at each value of 1 − specificity by itself, the percentiles of
        sensitivity over bootstrap replicates, between whose points curves go straight.
        Where the sample's own sensitivity is 0 or 1 replicates hardly differ, and the
        band reaches as far as the interval that `proportion_ci` gives such a
        proportion. The band says nothing about the curve as a whole, and is too narrow
        where 1 − specificity is worth less than two negative cases.
        """
        roc_auc = roc_auc_ci(
            y_true, y_score, pos_label=pos_label, level=level, groups=groups
        )
        positive, score, cluster = check_binary(y_true, y_score, pos_label, groups)
        fpr, tpr, _ = roc_curve(positive, score)
        grid = np.linspace(0, 1, _GRID)
        rng = check_generator(random_state)
        curves = _resampled_curves(positive, score, cluster, grid, n_bootstrap, rng)
        found = np.interp(grid, fpr, tpr)
        low, high = _pointwise_band(grid, found, curves, cluster[positive], level)
        display = cls(
            fpr=fpr,
            tpr=tpr,
            grid=grid,
            low=low,
            high=high,
            roc_auc=roc_auc,
            level=level,
            n_skipped=n_bootstrap - len(curves),
            name=name,
            pos_label=positive_label(pos_label),
        )
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        pos_label: Any = None,
        groups: Any = None,
        level: float = 0.95,
        n_bootstrap: int = 2000,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "RocBandDisplay":
        """Draw the curve of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier of two classes with `predict_proba`.
        X : array-like or ImageSequence of n images
            Test images.
        y : array-like of shape (n,)
            True labels.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the classes
            are {0, 1} or {-1, 1}.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case. None takes ``X.groups`` where X is an
            `ImageSequence`.
        level : float, default=0.95
            Confidence level.
        n_bootstrap : int, default=2000
            Number of replicates.
        random_state : int, RandomState instance or None, default=None
            What replicates are drawn from.
        name : str, default=None
            Name in the legend; None takes the name of the class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`.

        Returns
        -------
        RocBandDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `from_predictions`.
        """
        probability, label = positive_probability(estimator, X, pos_label)
        return cls.from_predictions(
            y,
            probability,
            pos_label=label,
            groups=groups_in(X, groups),
            level=level,
            n_bootstrap=n_bootstrap,
            random_state=random_state,
            name=name_of(estimator, name),
            ax=ax,
            curve_kwargs=curve_kwargs,
        )


def _pointwise_band(
    grid: np.ndarray,
    found: np.ndarray,
    curves: np.ndarray,
    cluster: np.ndarray,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of sensitivity at each value of 1 − specificity.

    Parameters
    ----------
    grid : ndarray of shape (n_grid,)
        Values of 1 − specificity.
    found : ndarray of shape (n_grid,)
        Sensitivity of the sample there.
    curves : ndarray of shape (n_replicates, n_grid)
        Sensitivity of the replicates.
    cluster : ndarray of shape (n_positive,)
        Clusters of the positive cases.
    level : float
        Confidence level.

    Returns
    -------
    low, high : ndarray of shape (n_grid,)
        Bounds.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(curves, [tail, 1 - tail], axis=0)
    missed = np.zeros(len(cluster), dtype=bool)
    none = proportion_ci(missed, groups=cluster, level=level)
    every = proportion_ci(~missed, groups=cluster, level=level)
    # Where everything is called positive, sensitivity is 1 by definition.
    low = np.where((found == 1) & (grid < 1), np.minimum(low, every.low), low)
    return low, np.where(found == 0, np.maximum(high, none.high), high)


def _resampled_curves(
    positive: np.ndarray,
    score: np.ndarray,
    cluster: np.ndarray,
    grid: np.ndarray,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return sensitivity at 1 − specificity of `grid`, a row a replicate of clusters.

    Replicates without cases of both classes are left out.
    """
    order = np.argsort(-score, kind="stable")
    # Cases of equal score become positive together.
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    positive, cluster = positive[order], cluster[order]
    width = max(1, _ELEMENTS // len(score))
    rows = []
    for times in draw_clusters(int(cluster.max()) + 1, n_bootstrap, width, rng):
        weight = times.T[:, cluster]
        true, false = (
            np.cumsum(weight * side, axis=1)[:, ends] for side in (positive, ~positive)
        )
        both = (true[:, -1] > 0) & (false[:, -1] > 0)
        rows.append(_sensitivity_at(grid, true[both], false[both]))
    return np.concatenate(rows)


def _sensitivity_at(
    grid: np.ndarray, true: np.ndarray, false: np.ndarray
) -> np.ndarray:
    """Return sensitivity on the curves through counts of true and false positives.

    Parameters
    ----------
    grid : ndarray of shape (n_grid,)
        Values of 1 − specificity.
    true, false : ndarray of shape (n_curves, n_thresholds)
        Positive cases of either class at falling thresholds; all cases at the last.

    Returns
    -------
    ndarray of shape (n_curves, n_grid)
        The highest sensitivity where a curve rises straight up.
    """
    true, false = (np.pad(count, ((0, 0), (1, 0))) for count in (true, false))
    # One interpolation for all curves: each is moved to the right of the one before.
    offset = (false.max(initial=0) + 1) * np.arange(len(false))[:, np.newaxis]
    at = grid * false[:, -1:] + offset
    found = np.interp(at, (false + offset).ravel(), (true / true[:, -1:]).ravel())
    return found.reshape(len(true), len(grid))
