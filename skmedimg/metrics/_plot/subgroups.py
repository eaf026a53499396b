"""A figure and its interval in each subgroup, below each other."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skmedimg.metrics._auc import roc_auc_ci
from skmedimg.metrics._checks import Estimate, check_binary, check_column, encode
from skmedimg.metrics._plot._drawing import (
    GREY,
    axes_for,
    groups_in,
    interval_lengths,
    positive_label,
    positive_probability,
)


class SubgroupDisplay:
    """Forest plot: one estimate with its interval in all cases and in each subgroup.

    Make one by `from_predictions` or `from_estimator`, or from estimates of your own;
    everything it draws is an attribute.

    Parameters
    ----------
    estimates : dict of str to Estimate or None
        Estimate of each subgroup, in the order of the rows; None for a subgroup too
        small to say anything about.
    overall : Estimate, default=None
        Estimate over all cases: the first row, and a line through all rows.
    n : dict of str to int, default=None
        Number of cases in each subgroup, "Overall" included; shown where given.
    metric_name : str, default="AUC"
        What the estimates are: the label of the axis.
    level : float, default=0.95
        Confidence level of the intervals.

    Attributes
    ----------
    points_ : matplotlib ErrorbarContainer
        Estimates of the subgroups that have one.
    overall_ : matplotlib ErrorbarContainer or None
        The overall estimate.
    overall_line_ : matplotlib Line2D or None
        Line at it, through all rows.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skmedimg.metrics import Estimate, SubgroupDisplay
    >>> estimates = {"Site A": Estimate(0.9, 0.8, 0.95), "Site B": None}
    >>> display = SubgroupDisplay(estimates, n={"Site A": 120, "Site B": 4}).plot()
    >>> [tick.get_text() for tick in display.ax_.get_yticklabels()]
    ['Site A (n = 120)', 'Site B (n = 4)']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        estimates: Mapping[str, Estimate | None],
        *,
        overall: Estimate | None = None,
        n: Mapping[str, int] | None = None,
        metric_name: str = "AUC",
        level: float = 0.95,
    ) -> None:
        self.estimates = estimates
        self.overall = overall
        self.n = n
        self.metric_name = metric_name
        self.level = level

    def plot(self, *, ax: Any = None) -> "SubgroupDisplay":
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as high as the rows need.

        Returns
        -------
        SubgroupDisplay
            Itself, with `ax_` and `figure_`.
        """
        rows: dict[str, Estimate | None] = {}
        if self.overall is not None:
            rows["Overall"] = self.overall
        rows |= self.estimates
        self.ax_ = axes_for(ax, (6.4, 0.9 + 0.32 * len(rows)))
        self.figure_ = self.ax_.figure
        for place, estimate in enumerate(rows.values()):
            self._write(place, estimate)
        first = len(rows) - len(self.estimates)
        known = {
            place: estimate
            for place, estimate in enumerate(self.estimates.values(), first)
            if estimate is not None
        }
        self.points_ = self._draw(known, fmt="s")
        self.overall_, self.overall_line_ = None, None
        if self.overall is not None:
            self.overall_ = self._draw({0: self.overall}, fmt="D", color=GREY)
            self.overall_line_ = self.ax_.axvline(
                self.overall.value, color=GREY, linestyle="--", linewidth=1, zorder=0
            )
        self._label(list(rows))
        return self

    def _draw(self, known: Mapping[int, Estimate], **style: Any) -> Any:
        value, low, high = np.reshape(list(known.values()), (-1, 3)).T
        ends = interval_lengths(value, low, high)
        return self.ax_.errorbar(value, list(known), xerr=ends, markersize=5, **style)

    def _write(self, place: int, estimate: Estimate | None) -> None:
        """Give the numbers of a row, to the right of the axes."""
        text = "too few cases"
        if estimate is not None:
            text = f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
        self.ax_.text(
            1.02, place, text, va="center", transform=self.ax_.get_yaxis_transform()
        )

    def _label(self, names: list[str]) -> None:
        counts = self.n or {}
        labels = [f"{m} (n = {counts[m]:,})" if m in counts else m for m in names]
        self.ax_.set_yticks(range(len(names)), labels)
        self.ax_.set_ylim(len(names) - 0.5, -0.5)
        self.ax_.tick_params(axis="y", length=0)
        self.ax_.set_xlabel(f"{self.metric_name} ({100 * self.level:g} % CI)")

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        subgroups: Any,
        *,
        metric: Callable[..., Estimate] = roc_auc_ci,
        metric_name: str = "AUC",
        pos_label: Any = None,
        groups: Any = None,
        level: float = 0.95,
        min_cases: int = 10,
        ax: Any = None,
    ) -> "SubgroupDisplay":
        """Draw an estimate in all cases and in each subgroup.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels of two classes.
        y_score : array-like of shape (n,)
            What `metric` compares them with: scores, or predicted labels for
            `sensitivity_ci` and its like.
        subgroups : array-like of shape (n,), dict of them, or DataFrame
            Subgroup of each case, for example its hospital; several divisions by
            name, for example ``{"Sex": sex, "Hospital": site}``.
        metric : callable, default=roc_auc_ci
            Called as ``metric(y_true, y_score, pos_label=..., groups=..., level=...)``;
            gives an `Estimate`.
        metric_name : str, default="AUC"
            What the estimates are: the label of the axis.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the labels
            are {0, 1} or {-1, 1}.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case.
        level : float, default=0.95
            Confidence level.
        min_cases : int, default=10
            Subgroups with fewer positive or fewer negative cases (patients, with
            `groups`) are named without an estimate.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        SubgroupDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If lengths differ, a label or a subgroup is missing, there are not exactly
            two classes, or `pos_label` is needed and not given.
        """
        y_true = check_column(y_true, "y_true")
        y_score = check_column(y_score, "y_score")
        # What is compared may be labels, which are no scores.
        positive, _, cluster = check_binary(
            y_true, np.zeros(len(y_score)), pos_label, groups
        )
        label = positive_label(pos_label)

        def estimate(rows: np.ndarray) -> Estimate | None:
            sides = (positive[rows], ~positive[rows])
            if min(len(np.unique(cluster[rows][side])) for side in sides) < min_cases:
                return None
            own = None if groups is None else cluster[rows]
            return metric(
                y_true[rows], y_score[rows], pos_label=label, groups=own, level=level
            )

        parts = {"Overall": np.ones(len(y_true), dtype=bool)}
        parts |= _rows_of(subgroups, len(y_true))
        estimates = {name: estimate(rows) for name, rows in parts.items()}
        display = cls(
            estimates,
            overall=estimates.pop("Overall"),
            n={name: int(rows.sum()) for name, rows in parts.items()},
            metric_name=metric_name,
            level=level,
        )
        return display.plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        subgroups: Any,
        *,
        pos_label: Any = None,
        groups: Any = None,
        level: float = 0.95,
        min_cases: int = 10,
        ax: Any = None,
    ) -> "SubgroupDisplay":
        """Draw the area under the ROC curve of a classifier in each subgroup.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier of two classes with `predict_proba`.
        X : array-like or ImageSequence of n images
            Test images.
        y : array-like of shape (n,)
            True labels.
        subgroups : array-like of shape (n,), dict of them, or DataFrame
            Subgroup of each case; several divisions by name.
        pos_label : int, float, bool or str, default=None
            Label of the positive class. None means 1, and is allowed where the classes
            are {0, 1} or {-1, 1}.
        groups : array-like of shape (n,), default=None
            Cluster (patient) of each case. None takes ``X.groups`` where X is an
            `ImageSequence`.
        level : float, default=0.95
            Confidence level.
        min_cases : int, default=10
            Subgroups with fewer positive or fewer negative cases (patients, with
            `groups`) are named without an estimate.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        SubgroupDisplay
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
            subgroups,
            pos_label=label,
            groups=groups_in(X, groups),
            level=level,
            min_cases=min_cases,
            ax=ax,
        )


def _rows_of(subgroups: Any, n: int) -> dict[str, np.ndarray]:
    """Return which cases are in each subgroup, by the label of its row."""
    divisions = {"": subgroups}
    if isinstance(subgroups, Mapping) or getattr(subgroups, "ndim", 1) == 2:
        divisions = {f"{name}: ": subgroups[name] for name in subgroups}
    rows = {}
    for prefix, values in divisions.items():
        name = f"subgroups[{prefix[:-2]!r}]" if prefix else "subgroups"
        column = check_column(values, name)
        if len(column) != n:
            raise ValueError(
                f"{name} has {len(column)} entries for {n} cases: pass one a case."
            )
        code, labels = encode(column, name)
        for k in sorted(range(len(labels)), key=lambda k: _natural(labels[k])):
            rows[f"{prefix}{labels[k]}"] = code == k
    return rows


def _natural(label: Any) -> tuple[bool, Any, str]:
    """Sort numbers by size and before everything else, which goes by its text."""
    is_number = isinstance(label, int | float)
    return (not is_number, label if is_number else 0, str(label))
