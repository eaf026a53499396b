"""Errors that a scikit-learn user already knows how to catch."""

from typing import Any


class NonFiniteLossError(ValueError):
    """Training stopped because the loss became NaN or infinite.

    Attributes
    ----------
    epoch : int
        Epoch in which it happened, counted from 1.
    batch : int
        First batch of that epoch with a non-finite loss, counted from 1.
    module : torch.nn.Module
        The network with the last finite weights: those the epoch began with.
    """

    # Defaults let pickle, which passes the message only, bring it out of a worker.
    def __init__(
        self, message: str, *, epoch: int = 0, batch: int = 0, module: Any = None
    ) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.module = module


class InvalidImageError(ValueError):
    """A file is not an image that can be read; names the file and the cause."""
