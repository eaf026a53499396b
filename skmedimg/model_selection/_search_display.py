"""The course of a search, drawn."""

from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg.metrics._plot._drawing import GREY, axes_for, legend

if TYPE_CHECKING:
    import pandas as pd

_LOOKS: dict[str, dict[str, Any]] = {
    "fail": {"color": "#D55E00", "linewidth": 0.8},
    "pruned": {"color": GREY, "linewidth": 0.8, "alpha": 0.5},
    "complete": {"color": "#56B4E9", "linewidth": 1.0},
    "best": {"color": "#0072B2", "linewidth": 2.0},
}
_NAMES = {"fail": "Failed", "pruned": "Pruned", "complete": "Finished", "best": "Best"}


class SearchDisplay:
    """Learning curves of the trials of a search, or the best score as it went.

    Make one by `from_search`; everything it draws is an attribute.

    Parameters
    ----------
    trials : pandas.DataFrame of shape (n_trials, 2)
        A row a trial, by its number: `state` ("complete", "pruned" or "fail") and
        `score`, what the search maximises.
    curves : pandas.DataFrame of shape (n_steps, 3)
        `trial`, `step` (epoch or fold) and `score`, the mean over the folds there.
    step_name : str, default="Epoch"
        What a step is.
    name : str, default=None
        Title; None leaves it out.

    Attributes
    ----------
    lines_ : dict of int to matplotlib Line2D
        With ``kind="curves"``, the curve of each trial; with "history" that of the best
        score as number 0.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    optuna.visualization.matplotlib : Importance of parameters, slices and more, of
        ``search.study_``.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from skmedimg.model_selection import SearchDisplay
    >>> trials = pd.DataFrame({"state": ["complete", "pruned"], "score": [0.9, 0.6]})
    >>> curves = pd.DataFrame(
    ...     {"trial": [0, 0, 1], "step": [1, 2, 1], "score": [0.7, 0.9, 0.6]}
    ... )
    >>> display = SearchDisplay(trials, curves).plot()
    >>> len(display.lines_)
    2
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        trials: "pd.DataFrame",
        curves: "pd.DataFrame",
        *,
        step_name: str = "Epoch",
        name: str | None = None,
    ) -> None:
        self.trials = trials
        self.curves = curves
        self.step_name = step_name
        self.name = name

    def plot(self, *, kind: str = "curves", ax: Any = None) -> "SearchDisplay":
        """Draw it.

        Parameters
        ----------
        kind : {"curves", "history"}, default="curves"
            Scores of each trial by epoch, or of all trials by their number.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        SearchDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            If `kind` is neither.
        """
        draw = {"curves": self._draw_curves, "history": self._draw_history}
        if kind not in draw:
            raise ValueError(f"kind={kind!r} must be one of {sorted(draw)}.")
        self.ax_ = axes_for(ax, (5.0, 3.6))
        self.figure_ = self.ax_.figure
        draw[kind]()
        self.ax_.set(ylabel="Mean validation score", title=self.name or "")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        legend(self.ax_, "best")
        return self

    def _looks(self) -> "pd.Series":
        """State of each trial, "best" for the best of the complete ones."""
        looks = self.trials["state"].copy()
        complete = self.trials.loc[looks == "complete", "score"]
        if complete.notna().any():
            looks[looks.index == complete.idxmax()] = "best"
        return looks

    def _draw_curves(self) -> None:
        looks = self._looks()
        self.lines_ = {}
        for look, style in _LOOKS.items():  # the best is drawn last, above the others
            label = _NAMES[look]
            for trial in looks.index[looks == look]:
                curve = self.curves[self.curves["trial"] == trial]
                if curve.empty:  # of the same parameters as an earlier one
                    continue
                marker = "." if len(curve) == 1 else None
                (line,) = self.ax_.plot(
                    curve["step"], curve["score"], marker=marker, label=label, **style
                )
                self.lines_[trial] = line
                label = "_nolegend_"
        self.ax_.set_xlabel(self.step_name)

    def _draw_history(self) -> None:
        looks = self._looks()
        for look, style in _LOOKS.items():
            rows = self.trials[looks == look]
            if len(rows):
                self.ax_.plot(
                    rows.index,
                    rows["score"],
                    "o",
                    color=style["color"],
                    label=_NAMES[look],
                )
        complete = self.trials.loc[self.trials["state"] == "complete", "score"]
        (line,) = self.ax_.step(
            complete.index,
            np.maximum.accumulate(complete.to_numpy()),
            where="post",
            label="Best so far",
            **_LOOKS["best"],
        )
        self.lines_ = {0: line}
        self.ax_.set_xlabel("Trial")

    @classmethod
    def from_search(
        cls,
        search: Any,
        *,
        kind: str = "curves",
        name: str | None = None,
        ax: Any = None,
    ) -> "SearchDisplay":
        """Draw a search.

        Parameters
        ----------
        search : OptunaSearchCV
            Fitted; all trials of its study are drawn.
        kind : {"curves", "history"}, default="curves"
            Scores of each trial by epoch, or of all trials by their number.
        name : str, default=None
            Title; None leaves it out.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        SearchDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If it is no fitted `OptunaSearchCV`.
        """
        import pandas as pd

        if not hasattr(search, "study_"):
            raise TypeError(
                f"{type(search).__name__} has no study_ to draw: pass a fitted "
                "OptunaSearchCV."
            )
        from skmedimg.model_selection._study import RESULT, finished

        trials = finished(search.study_)
        rows = {t.number: t.user_attrs[RESULT] for t in trials}
        frame = pd.DataFrame(
            {
                "state": [row["state"] for row in rows.values()],
                "score": [row["value"] for row in rows.values()],
            },
            index=pd.Index(rows, name="trial"),
        )
        steps = [
            (t.number, step, score)
            for t in trials
            for step, score in t.intermediate_values.items()
        ]
        curves = pd.DataFrame(steps, columns=["trial", "step", "score"])
        by_epoch = any(row["n_epochs"] for row in rows.values())
        display = cls(
            frame, curves, step_name="Epoch" if by_epoch else "Fold", name=name
        )
        return display.plot(kind=kind, ax=ax)
