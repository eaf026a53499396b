"""Risk-coverage curve: errors among the cases that are not referred."""

from typing import Any

import numpy as np
from sklearn.utils._plotting import _validate_style_kwargs
from sklearn.utils.validation import check_is_fitted

from skmedimg.metrics._checks import check_column
from skmedimg.metrics._plot._drawing import (
    axes_for,
    groups_in,
    interval_text,
    legend_on_top,
    name_of,
    reference_line,
    with_name,
)
from skmedimg.metrics._selective import AURC, aurc, risk_coverage_curve


class RiskCoverageDisplay:
    """Mean error of the cases kept, over the share of cases kept.

    Make one by `from_predictions` or `from_estimator`; everything it draws is an
    attribute.

    Parameters
    ----------
    coverage, risk : ndarray of shape (n,)
        From `risk_coverage_curve`.
    oracle_risk : ndarray of shape (n,)
        The least risk that any order of the cases could have.
    aurc : AURC
        Area under the curve with its interval, from `skmedimg.metrics.aurc`.
    level : float, default=0.95
        Confidence level of that interval.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    random_, oracle_ : matplotlib Line2D or None
        Risk where cases are referred at random, and where those of the greatest error
        go first; None where the axes have them already.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    risk_coverage_curve : The numbers.
    aurc : The area.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skmedimg.metrics import RiskCoverageDisplay
    >>> rng = np.random.default_rng(0)
    >>> confidence = rng.uniform(0.5, 1, 500)
    >>> error = rng.random(500) > confidence
    >>> display = RiskCoverageDisplay.from_predictions(
    ...     error, confidence, random_state=0
    ... )
    >>> display.ax_.get_xlabel()
    'Coverage (share of cases kept)'
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        coverage: np.ndarray,
        risk: np.ndarray,
        oracle_risk: np.ndarray,
        aurc: AURC,
        level: float = 0.95,
        name: str | None = None,
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.oracle_risk = oracle_risk
        self.aurc = aurc
        self.level = level
        self.name = name

    def plot(
        self, *, ax: Any = None, name: str | None = None, curve_kwargs: Any = None
    ) -> "RiskCoverageDisplay":
        """Draw the curve between random and perfect referral.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`.

        Returns
        -------
        RiskCoverageDisplay
            Itself, with `ax_` and `figure_`.
        """
        self.ax_ = axes_for(ax, (5.0, 4.0))
        self.figure_ = self.ax_.figure
        text = f"AURC {interval_text(self.aurc, self.level)}"
        label = with_name(self.name if name is None else name, text)
        style = _validate_style_kwargs({"label": label}, curve_kwargs or {})
        (self.line_,) = self.ax_.plot(self.coverage, self.risk, **style)
        self.random_ = reference_line(
            self.ax_, [0, 1], [self.aurc.random] * 2, "Random referral"
        )
        self.oracle_ = reference_line(
            self.ax_, self.coverage, self.oracle_risk, "Perfect referral", style=":"
        )
        self.ax_.set(
            xlabel="Coverage (share of cases kept)",
            ylabel="Risk (mean error of cases kept)",
            xlim=(-0.01, 1.01),
        )
        # A classifier without an error has a curve at zero, and still an axis.
        low, high = min(0.0, self.ax_.dataLim.y0), max(self.ax_.dataLim.y1, 0.01)
        legend_on_top(self.ax_, low, high)
        return self

    @classmethod
    def from_predictions(
        cls,
        error: Any,
        confidence: Any,
        *,
        groups: Any = None,
        level: float = 0.95,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "RiskCoverageDisplay":
        """Draw the curve of errors and confidences.

        Parameters
        ----------
        error : array-like of shape (n,)
            Loss of each case: 1 where the prediction is wrong and 0 where it is right,
            or any other number.
        confidence : array-like of shape (n,)
            Confidence in each prediction; the least confident are referred first.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case, for the interval of the area.
        level : float, default=0.95
            Confidence level of that interval.
        random_state : int, RandomState instance or None, default=None
            Seed of its bootstrap.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`.

        Returns
        -------
        RiskCoverageDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `aurc`.
        """
        coverage, risk = risk_coverage_curve(error, confidence)
        loss = check_column(error, "error").astype(np.float64)
        display = cls(
            coverage=coverage,
            risk=risk,
            oracle_risk=risk_coverage_curve(loss, -loss)[1],
            aurc=aurc(
                error, confidence, groups=groups, level=level, random_state=random_state
            ),
            level=level,
            name=name,
        )
        return display.plot(ax=ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        level: float = 0.95,
        random_state: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> "RiskCoverageDisplay":
        """Draw how often the most probable class of a classifier is wrong.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier of any number of classes with `predict_proba`.
        X : array-like or ImageSequence of n images
            Test images.
        y : array-like of shape (n,)
            True labels.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case, for the interval of the area. None takes
            ``X.groups`` where X is an `ImageSequence`.
        level : float, default=0.95
            Confidence level of that interval.
        random_state : int, RandomState instance or None, default=None
            Seed of its bootstrap.
        name : str, default=None
            Name in the legend; None takes the name of the class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        curve_kwargs : dict, default=None
            Style of the curve, as for matplotlib's `plot`.

        Returns
        -------
        RiskCoverageDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As from `from_predictions`.
        """
        check_is_fitted(estimator)
        probability = estimator.predict_proba(X)
        predicted = np.asarray(estimator.classes_)[probability.argmax(axis=1)]
        return cls.from_predictions(
            predicted != check_column(y, "y"),
            probability.max(axis=1),
            groups=groups_in(X, groups),
            level=level,
            random_state=random_state,
            name=name_of(estimator, name),
            ax=ax,
            curve_kwargs=curve_kwargs,
        )
