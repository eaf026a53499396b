"""Decision curve: net benefit over thresholds."""

from typing import Any

import numpy as np
from sklearn.utils._plotting import _validate_style_kwargs

from skmedimg.metrics._decision import net_benefit
from skmedimg.metrics._plot._drawing import (
    axes_for,
    legend_on_top,
    name_of,
    positive_label,
    positive_probability,
    reference_line,
    with_positive,
)

_THRESHOLDS = np.linspace(0.01, 0.99, 99)


class DecisionCurveDisplay:
    """Net benefit of acting on a model, on everybody and on nobody.

    Make one by `from_predictions` or `from_estimator`; everything it draws is an
    attribute.

    Parameters
    ----------
    net_benefit : pandas.DataFrame of shape (n_thresholds, 3)
        From `skmedimg.metrics.net_benefit`.
    name : str, default=None
        Name of the model in the legend.
    pos_label : int, float, bool or str, default=None
        Label of the positive class, named on an axis.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Net benefit of the model.
    treat_all_, treat_none_ : matplotlib Line2D or None
        Those of the two extremes; None where the axes have them already.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    net_benefit : The numbers.

    Notes
    -----
    Treating all loses without bound as the threshold nears 1: the axis ends a little
    below zero.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skmedimg.metrics import DecisionCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(500)
    >>> y_true = (rng.random(500) < risk).astype(int)
    >>> display = DecisionCurveDisplay.from_predictions(y_true, risk, name="CNN")
    >>> display.line_.get_label()
    'CNN'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self, net_benefit: Any, *, name: str | None = None, pos_label: Any = None
    ) -> None:
        self.net_benefit = net_benefit
        self.name = name
        self.pos_label = pos_label

    def plot(
        self, *, ax: Any = None, name: str | None = None, curve_kwargs: Any = None
    ) -> "DecisionCurveDisplay":
        """Draw the three curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        name : str, default=None
            Name of the model in the legend; None takes that of the display.
        curve_kwargs : dict, default=None
            Style of the model's curve, as for matplotlib's `plot`.

        Returns
        -------
        DecisionCurveDisplay
            Itself, with `ax_` and `figure_`.
        """
        self.ax_ = axes_for(ax, (5.0, 4.0))
        self.figure_ = self.ax_.figure
        threshold, frame = np.asarray(self.net_benefit.index), self.net_benefit
        label = (self.name if name is None else name) or "Model"
        style = _validate_style_kwargs({"label": label}, curve_kwargs or {})
        (self.line_,) = self.ax_.plot(threshold, frame["model"], **style)
        self.treat_all_ = reference_line(
            self.ax_, threshold, frame["treat_all"], "Treat all"
        )
        self.treat_none_ = reference_line(
            self.ax_, threshold, frame["treat_none"], "Treat none", style=":"
        )
        top = max(self.ax_.dataLim.y1, 0.01)
        self.ax_.set(
            xlabel="Threshold probability",
            ylabel=with_positive("Net benefit", self.pos_label),
        )
        legend_on_top(self.ax_, -0.15 * top, top)
        return self

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        thresholds: Any = _THRESHOLDS,
        pos_label: Any = None,
        prevalence: float | None = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "DecisionCurveDisplay":
        """Draw the decision curve of labels and probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels of two classes.
        y_prob : array-like of shape (n,)
            Probabilities of the positive class.
        thresholds : array-like of shape (m,), default=.01, .02, … .99
            Probabilities from which on one acts. Choose those that a reasonable doctor
            could hold for the decision at hand.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the labels
            are {0, 1} or {-1, 1}.
        prevalence : float, default=None
            Share of positive cases where the model will be used; None takes that of
            `y_true`.
        name : str, default=None
            Name of the model in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the model's curve, as for matplotlib's `plot`.

        Returns
        -------
        DecisionCurveDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `net_benefit`.
        """
        frame = net_benefit(
            y_true, y_prob, thresholds, pos_label=pos_label, prevalence=prevalence
        )
        display = cls(frame, name=name, pos_label=positive_label(pos_label))
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        thresholds: Any = _THRESHOLDS,
        pos_label: Any = None,
        prevalence: float | None = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "DecisionCurveDisplay":
        """Draw the decision curve of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier of two classes with `predict_proba`.
        X : array-like or ImageSequence of n images
            Test images.
        y : array-like of shape (n,)
            True labels.
        thresholds : array-like of shape (m,), default=.01, .02, … .99
            Probabilities from which on one acts.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the classes
            are {0, 1} or {-1, 1}.
        prevalence : float, default=None
            Share of positive cases where the model will be used; None takes that of
            `y`.
        name : str, default=None
            Name in the legend; None takes the name of the class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the model's curve, as for matplotlib's `plot`.

        Returns
        -------
        DecisionCurveDisplay
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
            thresholds=thresholds,
            pos_label=label,
            prevalence=prevalence,
            name=name_of(estimator, name),
            ax=ax,
            curve_kwargs=curve_kwargs,
        )
