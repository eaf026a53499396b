"""The callback of `lr_range_test`; apart from it, as it needs skorch and PyTorch."""

import math
from typing import Any

import numpy as np
from skorch.callbacks import Callback


class RangeEnd(Exception):
    """Ends the fit of a range test, with the losses seen."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__("the range test is over")
        self.losses = losses


class RateRiser(Callback):
    """Sets the learning rate of each step, and ends training after the last.

    Parameters
    ----------
    rates : ndarray of shape (n_steps,)
        Learning rates.
    diverged : float
        Multiple of the least loss so far at which training ends before.
    """

    def __init__(self, rates: np.ndarray, diverged: float) -> None:
        self.rates = rates
        self.diverged = diverged

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start anew: also after an out-of-memory error."""
        self.losses_: list[float] = []

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        """Set the rate of the step to come."""
        net.lr = float(self.rates[len(self.losses_)])

    def on_batch_end(self, net: Any, loss: Any = None, **kwargs: Any) -> None:
        """Note the loss; end after the last step, or where it has diverged."""
        value = float(loss)
        if not math.isfinite(value):
            raise RangeEnd(self.losses_)
        self.losses_.append(value)
        over = value > self.diverged * min(self.losses_)
        if over or len(self.losses_) == len(self.rates):
            raise RangeEnd(self.losses_)
