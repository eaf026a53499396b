"""Which learning rates train at all."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from skmedimg.metrics._plot._drawing import axes_for, legend

# As in fastai: training that has got so much worse does not come back.
_DIVERGED = 4.0
_SMOOTHING = 0.9


class LearningRateRangeDisplay:
    """Loss by learning rate, as the rate rises from step to step.

    Made by `lr_range_test`; everything it draws is an attribute.

    Parameters
    ----------
    lr : ndarray of shape (n_steps,)
        Learning rate of each step.
    loss : ndarray of shape (n_steps,)
        Loss of its batch, before the step.

    Attributes
    ----------
    smoothed : ndarray of shape (n_steps,)
        Exponential mean of the losses.
    lines_ : dict of str to matplotlib Line2D
        "loss" and "smoothed".
    ax_ : matplotlib Axes
        Axes drawn on.
    figure_ : matplotlib Figure
        Figure of these axes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skmedimg.model_selection import LearningRateRangeDisplay
    >>> lr = np.geomspace(1e-5, 1, 6)
    >>> display = LearningRateRangeDisplay(lr, np.array([0.7, 0.7, 0.6, 0.3, 0.2, 0.9]))
    >>> display = display.plot()
    >>> display.ax_.get_xlabel()
    'Learning rate'
    >>> plt.close(display.figure_)
    """

    def __init__(self, lr: np.ndarray, loss: np.ndarray) -> None:
        self.lr = lr
        self.loss = loss
        self.smoothed = _smooth(loss)

    def plot(self, *, ax: Any = None) -> "LearningRateRangeDisplay":
        """Draw the losses over the rates.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        LearningRateRangeDisplay
            Itself, with `ax_` and `figure_`.
        """
        self.ax_ = ax = axes_for(ax, (5.0, 3.6))
        self.figure_ = ax.figure
        points = ax.plot(self.lr, self.loss, ".", alpha=0.3, label="Loss of a batch")
        curve = ax.plot(self.lr, self.smoothed, label="Smoothed")
        self.lines_ = {"loss": points[0], "smoothed": curve[0]}
        ax.set(xscale="log", xlabel="Learning rate", ylabel="Loss")
        legend(ax, "best")
        return self


@validate_params(
    {
        "estimator": [HasMethods(["fit", "known_images"])],
        "lr_min": [Interval(Real, 0, None, closed="neither")],
        "lr_max": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 10, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def lr_range_test(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    lr_min: float = 1e-6,
    lr_max: float = 1.0,
    n_steps: int = 100,
) -> LearningRateRangeDisplay:
    """Train while the learning rate rises step by step, and watch the loss.

    Network, images, augmentation, optimizer and batch size are those that `fit` would
    use. The test ends where the loss is four times its least (it has diverged), or
    after `n_steps`.

    Parameters
    ----------
    estimator : CNNImageClassifier
        Unfitted or fitted; a clone of it is trained, from its first weights.
    X : array-like or ImageSequence of n images
        Images, as in `fit`.
    y : array-like of shape (n,) or (n, n_labels)
        Labels, as in `fit`.
    lr_min, lr_max : float, default=1e-6 and 1.0
        First and last rate; they grow by a constant factor.
    n_steps : int, default=100
        Steps, of a batch each, at least 10.

    Returns
    -------
    LearningRateRangeDisplay
        Rates and losses, and `plot`.

    Raises
    ------
    ValueError
        If `lr_min` is not below `lr_max`, or X and y are not what `fit` takes.

    Notes
    -----
    The learning rate range test of Smith [1]_, with the exponential growth and the
    stopping rule that are common since. The maximum of a one-cycle schedule is to be
    where the loss falls steeply, before its least.

    No rate is suggested: on BreastMNIST and PneumoniaMNIST, the steepest and the lowest
    point of 100 noisy batches moved by a factor of about 1,000, or more, between seeds.
    The curve shows which rates are far too low, and from which on training diverges, if
    it does: with batch normalisation and AdamW it seldom does below 1.

    Callbacks of the estimator are not called, and `early_stopping` does not hold out
    images.

    References
    ----------
    .. [1] L. N. Smith, "Cyclical learning rates for training neural networks", WACV
       2017.

    Examples
    --------
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.datasets import make_lesions
    >>> from skmedimg.model_selection import lr_range_test
    >>> X, y = make_lesions(10, image_size=16, return_X_y=True, random_state=0)
    >>> clf = CNNImageClassifier(architecture="simple", random_state=0)
    >>> found = lr_range_test(clf, X, y, lr_min=1e-4, n_steps=10)
    >>> found.lr[:3].round(4)
    array([0.0001, 0.0003, 0.0008])
    >>> found.loss.shape == found.lr.shape
    True

    ``found.plot()`` draws the losses.
    """
    if lr_min >= lr_max:
        raise ValueError(f"lr_min={lr_min:g} must be below lr_max={lr_max:g}.")
    from skmedimg.model_selection._rate_riser import RangeEnd, RateRiser

    riser = RateRiser(np.geomspace(lr_min, lr_max, n_steps), _DIVERGED)
    trained = clone(estimator).set_params(
        callbacks=[riser],
        checkpoint=None,
        early_stopping=False,
        # An epoch has a step at least; the end comes first.
        max_epochs=n_steps + 1,
        schedule="constant",
        verbose=0,
        warm_start=False,
    )
    try:
        trained.fit(X, y)
    except RangeEnd as end:
        loss = np.array(end.losses)
    return LearningRateRangeDisplay(np.array(riser.rates[: len(loss)]), loss)


def _smooth(loss: np.ndarray) -> np.ndarray:
    """Exponential mean, from its start without bias towards zero."""
    weights = _SMOOTHING ** np.arange(len(loss))
    sums = [weights[i::-1] @ loss[: i + 1] for i in range(len(loss))]
    return np.array(sums) / np.cumsum(weights)
