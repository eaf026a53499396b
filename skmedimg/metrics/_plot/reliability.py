"""Reliability diagram: observed against predicted risk."""

from typing import Any, Literal

import numpy as np
from sklearn.utils._plotting import _validate_style_kwargs

from skmedimg.metrics._calibration import reliability_curve
from skmedimg.metrics._plot._drawing import (
    BAND,
    axes_for,
    groups_in,
    interval_lengths,
    legend,
    name_of,
    positive_label,
    positive_probability,
    reference_line,
    with_positive,
)

# The strip below the diagram that holds the distribution of predictions.
_STRIP_BOTTOM, _STRIP_HEIGHT, _STRIP_BINS = -0.15, 0.1, 50


class ReliabilityDisplay:
    """Observed against predicted risk with intervals, above the predictions made.

    Make one by `from_predictions` or `from_estimator`; everything it draws is an
    attribute.

    Parameters
    ----------
    curve : pandas.DataFrame of shape (n_bins, 5)
        From `reliability_curve`.
    y_prob : ndarray of shape (n,), default=None
        Probabilities predicted; their distribution is drawn where given.
    level : float, default=0.95
        Confidence level of the intervals in `curve`.
    name : str, default=None
        Name in the legend.
    pos_label : int, float, bool or str, default=None
        Label of the positive class, named on an axis.

    Attributes
    ----------
    line_ : matplotlib ErrorbarContainer
        Points of the bins with their intervals.
    distribution_ : matplotlib StepPatch or None
        Distribution of the predictions, in a strip below 0.
    ideal_ : matplotlib Line2D or None
        The diagonal; None where the axes have one already.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    reliability_curve : The numbers.
    calibration_fit : Slope and intercept, which belong beside this figure.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skmedimg.metrics import ReliabilityDisplay
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(500)
    >>> y_true = (rng.random(500) < risk).astype(int)
    >>> display = ReliabilityDisplay.from_predictions(y_true, risk)
    >>> display.ax_.get_xlabel()
    'Predicted probability'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        curve: Any,
        *,
        y_prob: np.ndarray | None = None,
        level: float = 0.95,
        name: str | None = None,
        pos_label: Any = None,
    ) -> None:
        self.curve = curve
        self.y_prob = y_prob
        self.level = level
        self.name = name
        self.pos_label = pos_label

    def plot(
        self, *, ax: Any = None, name: str | None = None, curve_kwargs: Any = None
    ) -> "ReliabilityDisplay":
        """Draw points, intervals, the diagonal and the distribution of predictions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        curve_kwargs : dict, default=None
            Style of the points, as for matplotlib's `errorbar`.

        Returns
        -------
        ReliabilityDisplay
            Itself, with `ax_` and `figure_`.
        """
        self.ax_ = axes_for(ax, (4.6, 4.9))
        self.figure_ = self.ax_.figure
        self.ideal_ = reference_line(self.ax_, [0, 1], [0, 1], "Ideal")
        predicted, observed = self.curve["predicted"], self.curve["observed"]
        name = (self.name if name is None else name) or "Observed"
        label = f"{name} ({100 * self.level:g} % CI)"
        style = {"label": label, "fmt": "o-", "markersize": 5}
        self.line_ = self.ax_.errorbar(
            predicted,
            observed,
            yerr=interval_lengths(observed, self.curve["low"], self.curve["high"]),
            **_validate_style_kwargs(style, curve_kwargs or {}),
        )
        self.distribution_ = self._draw_distribution()
        self.ax_.set(
            xlabel="Predicted probability",
            ylabel=with_positive("Observed proportion", self.pos_label),
            xlim=(-0.02, 1.02),
            yticks=np.linspace(0, 1, 6),
            aspect="equal",
        )
        self.ax_.spines["left"].set_bounds(0, 1)
        bottom = -0.02 if self.distribution_ is None else _STRIP_BOTTOM - 0.01
        bottom = min(bottom, self.ax_.get_ylim()[0])
        self.ax_.set_ylim(bottom, 1.02)
        # Risks that are too low leave the corner below the diagonal free, and the
        # other way round.
        above = np.average(observed - predicted, weights=self.curve["n"]) > 0
        at_zero = -bottom / (1.02 - bottom)
        legend(
            self.ax_,
            "lower right" if above else "upper left",
            within=(0, at_zero, 1, 1 - at_zero),
        )
        return self

    def _draw_distribution(self) -> Any:
        if self.y_prob is None:
            return None
        count, edges = np.histogram(self.y_prob, bins=_STRIP_BINS, range=(0, 1))
        return self.ax_.stairs(
            _STRIP_BOTTOM + _STRIP_HEIGHT * count / count.max(),
            edges,
            baseline=_STRIP_BOTTOM,
            fill=True,
            color=self.line_.lines[0].get_color(),
            alpha=2 * BAND,
            label="Distribution of predictions",
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        pos_label: Any = None,
        n_bins: int = 10,
        strategy: Literal["quantile", "uniform"] = "quantile",
        groups: Any = None,
        level: float = 0.95,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "ReliabilityDisplay":
        """Draw the diagram of labels and probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels of two classes.
        y_prob : array-like of shape (n,)
            Probabilities of the positive class.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the labels
            are {0, 1} or {-1, 1}.
        n_bins : int, default=10
            Number of bins.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins of equally many cases, or of equal width.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case. None takes cases as independent.
        level : float, default=0.95
            Confidence level of the intervals.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the points, as for matplotlib's `errorbar`.

        Returns
        -------
        ReliabilityDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `reliability_curve`.
        """
        curve = reliability_curve(
            y_true,
            y_prob,
            pos_label=pos_label,
            n_bins=n_bins,
            strategy=strategy,
            groups=groups,
            level=level,
        )
        display = cls(
            curve,
            y_prob=np.ravel(y_prob),
            level=level,
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
        n_bins: int = 10,
        strategy: Literal["quantile", "uniform"] = "quantile",
        groups: Any = None,
        level: float = 0.95,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "ReliabilityDisplay":
        """Draw the diagram of a fitted classifier.

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
        n_bins : int, default=10
            Number of bins.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins of equally many cases, or of equal width.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case. None takes ``X.groups`` where X is an
            `ImageSequence`.
        level : float, default=0.95
            Confidence level of the intervals.
        name : str, default=None
            Name in the legend; None takes the name of the class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the points, as for matplotlib's `errorbar`.

        Returns
        -------
        ReliabilityDisplay
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
            n_bins=n_bins,
            strategy=strategy,
            groups=groups_in(X, groups),
            level=level,
            name=name_of(estimator, name),
            ax=ax,
            curve_kwargs=curve_kwargs,
        )
