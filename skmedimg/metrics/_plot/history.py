"""Losses over the epochs of a training."""

from typing import Any

import numpy as np

from skmedimg.metrics._plot._drawing import axes_for, legend

_CURVES = {"train_loss": "Training", "valid_loss": "Validation"}


class HistoryDisplay:
    """Training and validation loss by epoch.

    Make one by `from_estimator`; everything it draws is an attribute.

    Parameters
    ----------
    history : pandas.DataFrame of shape (n_epochs, n_columns)
        With the columns `epoch`, `train_loss` and, where there was an internal
        validation set, `valid_loss`.
    name : str, default=None
        Title; None leaves it out.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The curves, by column of `history`.
    best_ : matplotlib Line2D or None
        Mark at the epoch of the least validation loss.
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from skmedimg.metrics import HistoryDisplay
    >>> history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [0.7, 0.5, 0.4]})
    >>> display = HistoryDisplay(history).plot()
    >>> display.ax_.get_xlabel()
    'Epoch'
    >>> plt.close(display.figure_)
    """

    def __init__(self, history: Any, *, name: str | None = None) -> None:
        self.history = history
        self.name = name

    def plot(self, *, ax: Any = None) -> "HistoryDisplay":
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        HistoryDisplay
            Itself, with `ax_` and `figure_`.
        """
        from matplotlib.ticker import MaxNLocator

        self.ax_ = axes_for(ax, (5.0, 3.6))
        self.figure_ = self.ax_.figure
        epoch = np.asarray(self.history["epoch"])
        # One epoch is a point, which no line shows.
        marker = "o" if len(epoch) == 1 else None
        self.lines_ = {
            column: self.ax_.plot(
                epoch, self.history[column], marker=marker, label=label
            )[0]
            for column, label in _CURVES.items()
            if column in self.history
        }
        self.best_ = self._mark_best(epoch)
        self.ax_.set(xlabel="Epoch", ylabel="Loss", title=self.name or "")
        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(self.ax_, "best")
        return self

    def _mark_best(self, epoch: np.ndarray) -> Any:
        if "valid_loss" not in self.lines_:
            return None
        loss = np.asarray(self.history["valid_loss"])
        best = int(np.nanargmin(loss))
        return self.ax_.plot(
            epoch[best],
            loss[best],
            "o",
            color=self.lines_["valid_loss"].get_color(),
            label=f"Least validation loss (epoch {epoch[best]})",
        )[0]

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None
    ) -> "HistoryDisplay":
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted image estimator of this package.
        name : str, default=None
            Title; None leaves it out.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        HistoryDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator has no `history_`.
        """
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"{type(estimator).__name__} has no history_ to draw: pass a fitted "
                "image estimator itself, for example pipeline[-1] or "
                "search.best_estimator_."
            )
        return cls(estimator.history_, name=name).plot(ax=ax)
