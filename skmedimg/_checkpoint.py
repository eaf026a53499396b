"""A fit that outlives its process: what it needs to go on, in a file, every epoch.

The file is named by all that a fit depends on. So the same call finds it, and no other
does: several fits may share a folder, and none reads or removes what is another's.
"""

import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from numbers import Integral, Real
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.callbacks import Callback

from skmedimg._feed import Feed
from skmedimg._fit_key import fit_key
from skmedimg._modules import lay_out_moments

if TYPE_CHECKING:
    from skmedimg._net import ImageNet

_DIGEST = 32
_ADVICE = (
    "the fit cannot go on from it. Delete it, and the same call trains from the first "
    "epoch."
)


class Checkpoint:
    """State of a fit, written after each epoch and removed with the last.

    Parameters
    ----------
    folder : path
        Where the file is.
    key : str
        Its name, from `fit_key`.
    """

    def __init__(self, folder: str | os.PathLike, key: str) -> None:
        self.path = Path(folder, f"{key}.checkpoint")
        self._proven = False

    def write(self, net: "ImageNet", train: Feed, done: int) -> None:
        """Keep what the epochs after the first `done` depend on.

        A warning says where the file cannot be written: the fit is well, and an older
        file is still whole.
        """
        buffer = io.BytesIO()
        torch.save(_state_of(net, train, done), buffer)
        content = buffer.getbuffer()
        if not self._proven:
            self._prove(content)
        try:
            self._replace(blake2b(content, digest_size=_DIGEST).digest(), content)
        except OSError as error:
            warnings.warn(
                f"checkpoint: nothing could be written after epoch {done} ({error}). "
                "Training goes on; if it is killed, the same call goes on from an "
                "earlier epoch.",
                UserWarning,
                stacklevel=2,
            )

    def _prove(self, content: memoryview) -> None:
        """Learn now, and not after a crash, that a file could not be read."""
        try:
            _read(content)
        except UnpicklingError as error:
            raise TypeError(
                "checkpoint cannot keep this fit: the state of the optimizer, or what "
                "callbacks have recorded in the history, is more than numbers, text "
                f"and tensors ({str(error).splitlines()[0]}). Set checkpoint=None."
            ) from error
        self._proven = True

    def _replace(self, *parts: Any) -> None:
        """Write a draft, and give it the name once it is whole on the disk."""
        with tempfile.NamedTemporaryFile(
            dir=self.path.parent,
            prefix=f"{self.path.stem}.",
            suffix=".part",
            delete=False,
        ) as draft:
            try:
                for part in parts:
                    draft.write(part)
                draft.flush()
                os.fsync(draft.fileno())
            except OSError:
                os.unlink(draft.name)
                raise
        os.replace(draft.name, self.path)

    def restore(self, net: "ImageNet", train: Feed, valid: Feed | None) -> int:
        """Bring a net that is to begin to where the file left one.

        Returns
        -------
        int
            Epochs done already; 0 where there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, or holds what cannot be read.
        """
        try:
            content = memoryview(self.path.read_bytes())
        except FileNotFoundError:
            return 0
        digest, content = content[:_DIGEST], content[_DIGEST:]
        if blake2b(content, digest_size=_DIGEST).digest() != digest:
            raise ValueError(f"{self.path} is damaged: {_ADVICE}")
        try:
            state = _read(content)
        except UnpicklingError as error:
            raise ValueError(
                f"{self.path} cannot be read, as callbacks have recorded more than "
                f"numbers, text and arrays in the history: {_ADVICE}"
            ) from error
        _restore(net, train, valid, state)
        if net.verbose:
            print(f"goes on after epoch {state['done']}, from {self.path}")
        return state["done"]

    def remove(self) -> None:
        """Delete the file, and drafts that killed processes have left of it."""
        self.path.unlink(missing_ok=True)
        for draft in self.path.parent.glob(f"{self.path.stem}.*.part"):
            draft.unlink(missing_ok=True)


def check_folder(folder: str | os.PathLike | None, random_state: Any) -> None:
    """Find out before hours of work whether a fit can be kept.

    Parameters
    ----------
    folder : path or None
        The estimator's `checkpoint`.
    random_state : object
        The estimator's.

    Raises
    ------
    ValueError
        If nothing can be written there, or no second call could be the same.
    """
    if folder is None:
        return
    if not isinstance(random_state, Integral):
        raise ValueError(
            f"checkpoint needs an integer random_state, not {random_state!r}: without "
            "one no second call is the same fit, and none could go on. Set "
            "random_state=0, for example."
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=os.fspath(folder)):
            pass
    except OSError as error:
        raise ValueError(
            f"checkpoint={str(folder)!r} is no folder that can be written to ({error})."
        ) from error


def open_checkpoint(
    folder: str | os.PathLike | None,
    params: Mapping[str, Any],
    net: "ImageNet",
    train: Feed,
    valid: Feed | None,
) -> Checkpoint | None:
    """The checkpoint of a fit that is about to begin; None without a folder."""
    if folder is None:
        return None
    return Checkpoint(folder, fit_key(params, net, train, valid))


# -- the state of a fit ----------------------------------------------------------------


def _state_of(net: "ImageNet", train: Feed, done: int) -> dict[str, Any]:
    return {
        "done": done,
        "module": net.module_.state_dict(),
        "frozen": [not p.requires_grad for p in net.module_.parameters()],
        "optimizer": net.optimizer_.state_dict(),
        "step": net.step_,
        "batch_size": net.batch_size,
        "generator": net.generator_.get_state(),
        "shuffler": _shuffler(train).state,
        "best": net.best_,
        "history": _plain(list(net.history)),
        "callbacks": {name: dict(_own_state(cb)) for name, cb in net.callbacks_},
    }


def _restore(
    net: "ImageNet", train: Feed, valid: Feed | None, state: dict[str, Any]
) -> None:
    net.module_.load_state_dict(state["module"])
    parameters = net.module_.parameters()
    for parameter, frozen in zip(parameters, state["frozen"], strict=True):
        parameter.requires_grad_(not frozen)
    net.optimizer_.load_state_dict(state["optimizer"])
    lay_out_moments(net.optimizer_)
    net.step_, net.best_ = state["step"], state["best"]
    net.generator_.set_state(state["generator"])
    _shuffler(train).state = state["shuffler"]
    # Halved, where the GPU was too small.
    net.batch_size = state["batch_size"]
    for feed in (train, valid):
        if feed is not None:
            feed.part_into(net.batch_size)
    net.history.clear()
    net.history.extend(state["history"])
    for name, callback in net.callbacks_:
        vars(callback).update(state["callbacks"][name])


def _shuffler(train: Feed) -> Any:
    assert train.rng is not None  # only those to validate on keep their order
    return train.rng.bit_generator


def _read(content: memoryview) -> dict[str, Any]:
    # In main memory: where the weights go, the net knows.
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: torch loads no others without running code."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value


def _own_state(callback: Callback) -> Iterator[tuple[str, Any]]:
    """What a callback keeps from epoch to epoch: ends in an underscore, as in skorch.

    Lists are left out: they hold the batches of an epoch, which is over.
    """
    for name, value in vars(callback).items():
        simple = value is None or isinstance(value, Real | str)
        weights = isinstance(value, Mapping) and all(
            isinstance(item, torch.Tensor) for item in value.values()
        )
        if name.endswith("_") and (simple or weights):
            yield name, _plain(value)
