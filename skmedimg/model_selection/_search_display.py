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
    """Learning curves of the trials of a search, its history, or what mattered.

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
    importance : pandas.Series of shape (n_params,), default=None
        By parameter, its share of the spread of the scores; they sum to 1. Only
        ``kind="importance"`` needs it.
    name : str, default=None
        Title; None leaves it out.

    Attributes
    ----------
    lines_ : dict of int to matplotlib Line2D
        With ``kind="curves"``, the curve of each trial; with "history" that of the best
        score as number 0.
    bars_ : matplotlib BarContainer
        With ``kind="importance"``, a bar a parameter, in the order of `importance`.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    See Also
    --------
    optuna.visualization.matplotlib : Slices, contours and more, of ``search.study_``.

    Notes
    -----
    The importance of a parameter is Optuna's functional analysis of variance [1]_: a
    forest of 64 trees learns the score from the parameters, and its predictions over
    the whole space are taken apart into the share that each parameter makes alone. It
    tells of this space and these folds: a parameter tried over a wider range gets more.

    Only complete trials enter. The shares sum to 1 whether or not any parameter
    matters, and chance has its part in them: with five trials they say little, and of
    three parameters the one that makes half of the spread often does not come first;
    from about twenty on it does. Where much is pruned, what makes a trial fail early
    counts too little. Parameters that only some of the trials have are left out;
    Optuna's PED-ANOVA takes them in, but needs some fifty complete trials.

    References
    ----------
    .. [1] Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing
       hyperparameter importance", ICML 2014.

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
        importance: "pd.Series | None" = None,
        name: str | None = None,
    ) -> None:
        self.trials = trials
        self.curves = curves
        self.step_name = step_name
        self.importance = importance
        self.name = name

    def plot(self, *, kind: str = "curves", ax: Any = None) -> "SearchDisplay":
        """Draw it.

        Parameters
        ----------
        kind : {"curves", "history", "importance"}, default="curves"
            Scores of each trial by epoch, of all trials by their number, or the share
            of each parameter in their spread.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        SearchDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            If `kind` is none of these, or `importance` is not there to be drawn.
        """
        draw = {
            "curves": self._draw_curves,
            "history": self._draw_history,
            "importance": self._draw_importance,
        }
        if kind not in draw:
            raise ValueError(f"kind={kind!r} must be one of {sorted(draw)}.")
        if kind == "importance" and self.importance is None:
            raise ValueError(
                "this display has no importance to draw: make it by "
                'SearchDisplay.from_search(search, kind="importance").'
            )
        self.ax_ = axes_for(ax, (5.0, 3.6))
        self.figure_ = self.ax_.figure
        draw[kind]()
        self.ax_.set_title(self.name or "")
        return self

    def _finish_scores(self, xlabel: str) -> None:
        self.ax_.set(xlabel=xlabel, ylabel="Mean validation score")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        legend(self.ax_, "best")

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
        self._finish_scores(self.step_name)

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
        self._finish_scores("Trial")

    def _draw_importance(self) -> None:
        assert self.importance is not None
        self.bars_ = self.ax_.barh(
            self.importance.index, self.importance, color=_LOOKS["best"]["color"]
        )
        self.ax_.bar_label(self.bars_, fmt="%.2f", padding=3, fontsize="small")
        self.ax_.invert_yaxis()  # the greatest on top
        self.ax_.margins(x=0.12)  # room for the figures
        n_complete = (self.trials["state"] == "complete").sum()
        self.ax_.set_xlabel(f"Share of the spread of {n_complete} scores (fANOVA)")

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
        kind : {"curves", "history", "importance"}, default="curves"
            Scores of each trial by epoch, of all trials by their number, or the share
            of each parameter in their spread.
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
        ValueError
            If ``kind="importance"`` has fewer than two differing scores of complete
            trials to go by, or no parameter that all of them have.
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
        by_epoch = any(row["by_epoch"] for row in rows.values())
        display = cls(
            frame,
            curves,
            step_name="Epoch" if by_epoch else "Fold",
            importance=_importance(search.study_) if kind == "importance" else None,
            name=name,
        )
        return display.plot(kind=kind, ax=ax)


def _importance(study: Any) -> "pd.Series":
    """Share of each parameter in the spread of the scores, the greatest first."""
    import pandas as pd
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    scores = {trial.value for trial in trials}
    if len(scores) < 2:
        raise ValueError(
            f"importance needs differing scores; {len(trials)} complete trials have "
            f"{sorted(scores)}. Run more trials, or a pruner that lets more finish."
        )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    if not shares:
        raise ValueError(
            "importance goes by the parameters that all complete trials have, and "
            f"these {len(trials)} have none in common."
        )
    return pd.Series(shares, dtype=float, name="importance")
