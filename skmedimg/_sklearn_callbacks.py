"""scikit-learn's callbacks, from 1.9 on: what a fit tells them, one task an epoch."""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without `set_callbacks`: there is nothing to call yet."""


__all__ = ["CallbackSupportMixin", "begin_context", "told"]


def begin_context(estimator: Any) -> Any:
    """The context of a fit, None in scikit-learn 1.8; the callbacks are set up.

    To be called outside of whatever takes a failed fit back: scikit-learn finds there
    what it has to end.
    """
    if not hasattr(estimator, "set_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=None)


def told(
    estimator: Any,
    context: Any,
    epochs: Generator[int, None, None],
    n_epochs: int,
    X: Any,
    y: Any,
    sample_weight: Any = None,
) -> Iterator[int]:
    """Pass epochs of an estimator on, and tell callbacks when each begins and ends.

    Parameters
    ----------
    estimator, context : BaseImageEstimator, CallbackContext or None
        In training, and what `begin_context` gave.
    epochs : generator of int
        Trains one at each step; tells how many are done, by a checkpoint included.
    n_epochs : int
        So many at most.
    X, y, sample_weight : array-like
        As given to fit.

    Yields
    ------
    int
        What `epochs` gives.
    """
    if context is None:
        yield from epochs
        return
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    context.max_subtasks = n_epochs  # learnt from the number of images
    context.call_on_fit_task_begin(**data)
    task = context.subcontext("epoch").call_on_fit_task_begin(**data)
    with closing(epochs):  # where a callback fails, training comes to its end
        for told_of, epoch in enumerate(epochs, 1):
            # Fewer where a checkpoint had some, more where a GPU was too small.
            context.max_subtasks = told_of + n_epochs - epoch
            stop = task.call_on_fit_task_end(
                **data, reconstruction_attributes=estimator._as_it_stands
            )
            net = estimator.net_
            net.ends_ = net.ends_ or stop
            yield epoch
            if not net.ends_:
                task = context.subcontext("epoch").call_on_fit_task_begin(**data)
    context.call_on_fit_task_end(
        **data, reconstruction_attributes=estimator._as_it_stands
    )
