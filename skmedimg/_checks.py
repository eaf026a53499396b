"""What a user passes beside the images, checked: shapes, groups, devices, callbacks."""

import copy
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight
from skorch.callbacks import BatchScoring, Callback, LRScheduler

from skmedimg._fit_names import next_fit_name

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}
_OF_THIS_FIT = "of this fit "


def check_shape_parameter(name: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    shape = tuple(value) if np.ndim(value) == 1 else ()
    if not shape or not all(isinstance(s, Integral) and int(s) > 0 for s in shape):
        raise ValueError(
            f"{name}={value!r} must be a sequence of positive integers, for example "
            "(28, 28)."
        )
    return tuple(int(s) for s in shape)


def check_weight(sample_weight: Any, X: Any) -> np.ndarray:
    """Weights in double precision, 1 each where none are given."""
    if sample_weight is None:
        return np.ones(len(X))
    if np.ma.is_masked(sample_weight):
        raise ValueError(
            "sample_weight is a masked array with masked entries: write 0 to leave an "
            "image out."
        )
    weight = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not weight.any():
        raise ValueError(
            "sample_weight is zero for every image: at least one weight must be "
            "positive."
        )
    return weight


def check_device(device: Any) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        checked = torch.device(device)
        torch.zeros(1, device=checked).item()  # "meta" has no numbers to give
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not available here ({str(error).splitlines()[0]}); "
            'use "auto" or "cpu".'
        ) from error
    return str(checked)


def check_callbacks(callbacks: list | None, estimator: Any) -> list:
    """Callbacks of a fit: copies of those given, and those that functions make for it.

    skorch callbacks may be named or be classes. A function is called with the name of
    the fit and the estimator; what it makes is marked as one of this fit.
    """
    given = [entry for entry in callbacks or () if not _is_function(entry)]
    for entry in given:
        _check_callback(entry)
    functions = [entry for entry in callbacks or () if _is_function(entry)]
    name = next_fit_name() if functions else ""
    made = [function(name, estimator) for function in functions]
    for callback in made:
        _check_callback(callback)
    return [
        *_copied(given),
        *((f"{_OF_THIS_FIT}{i}", callback) for i, callback in enumerate(made)),
    ]


def is_of_this_fit(entry: Any) -> bool:
    """Whether a function made it for one fit, with which it is to go."""
    return isinstance(entry, tuple) and str(entry[0]).startswith(_OF_THIS_FIT)


def _is_function(entry: Any) -> bool:
    return callable(entry) and not isinstance(entry, type | Callback)


def _check_callback(entry: Any) -> None:
    callback = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
    kind = callback if isinstance(callback, type) else type(callback)
    if not issubclass(kind, Callback):
        raise TypeError(
            f"callbacks holds {entry!r}; each must be a skorch.callbacks.Callback, a "
            "pair of a name and one, or a function of the name of the fit and the "
            "estimator that makes one."
        )
    if issubclass(kind, LRScheduler | BatchScoring):
        raise TypeError(
            f"callbacks holds {entry!r}, which cannot work here: the learning rate "
            "follows schedule=, and losses stay on the device within an epoch."
        )
    if getattr(callback, "use_caching", True) is False:
        raise TypeError(
            f"callbacks holds {entry!r} with use_caching=False: leave it out, the "
            "predictions of the epoch are at hand."
        )


def _copied(given: list) -> list:
    try:
        return copy.deepcopy(given)
    except TypeError as error:
        raise TypeError(
            f"callbacks={given!r} cannot be copied, as each fit needs ({error}): pass "
            "a function that makes one, such as "
            "lambda name, estimator: TensorBoard(SummaryWriter(name))."
        ) from error


def check_precision(
    precision: str, device: torch.device, *, narrow_on_cpu: bool
) -> tuple[torch.dtype, torch.dtype]:
    """Types that the network computes in while it trains, and afterwards.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        The estimator's parameter.
    device : torch.device
        Where it computes.
    narrow_on_cpu : bool
        Whether "auto" may train in bfloat16 on a processor with units for it (AMX):
        there it is up to 1.7 times faster, on any other CPU several times slower.
    """
    if precision != "auto":
        return PRECISIONS[precision], PRECISIONS[precision]
    if device.type == "cuda":
        narrow = torch.cuda.is_bf16_supported(including_emulation=False)
        chosen = torch.bfloat16 if narrow else torch.float32
        return chosen, chosen
    narrow = narrow_on_cpu and device.type == "cpu" and _has_matrix_units()
    return torch.bfloat16 if narrow else torch.float32, torch.float32


def _has_matrix_units() -> bool:
    # torch 2.5 cannot tell.
    known: dict = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16", False))
