"""Which fit it is: one name for all that the result of a fit depends on."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from numbers import Number
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch.nn.parameter import is_lazy

import skmedimg
from skmedimg._feed import Feed
from skmedimg._weights import fitted_in, state_dict_of
from skmedimg._words import without_address
from skmedimg.architectures import Pretrained

if TYPE_CHECKING:
    from skmedimg._net import ImageNet

# These change nothing, or are told by what is made of them: weights and seeds.
_APART = {"callbacks", "checkpoint", "device", "random_state", "verbose", "weights"}
_SIMPLE = (Number, str, bytes, tuple, type(None))
_HELD = list | dict | set | np.ndarray | torch.Tensor
_NAMED = FunctionType | MethodType | type
_CODE = _NAMED | partial
_FORMS = _NAMED | partial | ModuleType | CodeType
_MARKS = ("__wrapped__", "__qualname__")
_LASTING = _CODE | Number | str | bytes | None


def fit_key(
    params: Mapping[str, Any], net: "ImageNet", train: Feed, valid: Feed | None
) -> str:
    """Name of a fit, by all that its result depends on.

    Parameters
    ----------
    params : mapping
        Of the estimator.
    net : ImageNet
        Ready to begin: its weights stand for those of `weights` or of a warm start.
    train, valid : Feed
        Images, labels and weights; the split stands for the groups.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    told = {name: value for name, value in params.items() if name not in _APART}
    layers = list(dict.fromkeys(map(type, net.module_.modules())))
    parts = [
        skmedimg.__version__,
        torch.__version__,
        _described([told, layers], seen=set()),
        [_listener(entry) for entry in params["callbacks"] or ()],
        repr(net.module_),
        _described(net.module_.state_dict()),
        _described(net.optimizer_.state_dict()),
        [net.seed, len(net.history), str(net.device), net.precision],
        [net.max_epochs, net.horizon, net.patience],
        [_images(feed) for feed in (train, valid) if feed is not None],
    ]
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


class _CodeAlone(set):
    """What has been described, where no value counts that a run may change."""


class _ValuesAlone(set):
    """What has been described, where no code counts, nor what it holds."""


def code_of(param_distributions: Any, estimator: Any, scoring: Any) -> str:
    """Name of the user's own code in a search, whatever values go with it.

    Parameters
    ----------
    param_distributions : object
        Of the search; a function counts.
    estimator : estimator
        Its class counts, and functions and classes of its parameters.
    scoring : object
        Of the search; functions in it count.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    parts = [estimator, scoring, param_distributions]
    if isinstance(param_distributions, Mapping):
        parts[2:] = [getattr(v, "choices", v) for v in param_distributions.values()]
    text = repr(_described(parts, seen=_CodeAlone()))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def values_of(param_distributions: Any, estimator: Any) -> str:
    """Name of all that the fits of a search are given, beside data and weights.

    Parameters
    ----------
    param_distributions : object
        Of the search; what stands in lists counts.
    estimator : estimator
        Its parameters count, and those of its parts.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    given = estimator.get_params(deep=True)
    callbacks = {name: v for name, v in given.items() if name.endswith("callbacks")}
    plain = clone(estimator).set_params(**dict.fromkeys(callbacks))
    lists = []
    if isinstance(param_distributions, Mapping):
        lists = [getattr(v, "choices", v) for v in param_distributions.values()]
    listed = [
        entry
        for value in callbacks.values()
        for entry in (value if isinstance(value, list | tuple) else [value])
    ]
    described = partial(_described, seen=_ValuesAlone())
    parts = [
        described(plain),
        [_listener(entry, described) for entry in listed],
        [described(list(v)) for v in lists if isinstance(v, Sequence | np.ndarray)],
    ]
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def weights_key(weights: Any) -> str:
    """Name of starting weights by what they are, not by where."""
    source = weights.source if isinstance(weights, Pretrained) else weights
    # The classes decide whether the head is kept.
    classes = getattr(fitted_in(source), "classes_", None)
    text = repr([_described(state_dict_of(source)), _described(classes)])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _images(feed: Feed) -> list:
    return [
        repr(feed.spec),
        *map(_described, (feed.digest, feed.target, feed.weight, feed.windows)),
    ]


def _listener(entry: Any, described: Callable[[Any], Any] | None = None) -> Any:
    """A skorch callback, named or not; loggers hold what differs in every process."""
    described = described or _described
    if isinstance(entry, tuple):
        return [entry[0], _listener(entry[1], described)]
    if isinstance(entry, type) or not hasattr(entry, "get_params"):
        return described(entry)  # a class, or a function that makes one
    params = entry.get_params(deep=False)
    held = {
        name: value
        for name, value in params.items()
        if callable(value) or not hasattr(value, "__dict__")
    }
    return [described(type(entry)), described(held)]


def _described(
    value: Any, above: tuple[int, ...] = (), seen: set[int] | None = None
) -> Any:
    """Lists and text, equal where two values do the same in a fit.

    Functions are known by their code. With `seen`, where those are noted that have been
    described, what the code of the user's own names counts too, and that of classes.
    """
    if id(value) in above:
        return "itself"
    code_alone = isinstance(seen, _CodeAlone)
    inside = partial(_described, above=(*above, id(value)), seen=seen)
    if isinstance(seen, _ValuesAlone) and isinstance(value, _NAMED):
        return _name(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return _described_array(value)
    if isinstance(value, Mapping):
        return sorted([repr(key), inside(item)] for key, item in value.items())
    if isinstance(value, set | frozenset):
        return sorted(repr(inside(item)) for item in value)
    if isinstance(value, list | tuple):
        return list(map(inside, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "iloc"):
        return [repr(getattr(value, "columns", "")), inside(value.to_numpy())]
    if isinstance(value, _FORMS) or any(hasattr(value, name) for name in _MARKS):
        return _described_code(value, inside, seen)
    if code_alone and not isinstance(value, _LASTING):
        return [inside(type(value)), inside(_code_in(value))]
    if isinstance(value, FrozenEstimator) and not hasattr(value.estimator, "net_"):
        return [inside(type(value.estimator)), inside(vars(value.estimator))]
    if hasattr(value, "get_params"):
        return [inside(type(value)), inside(value.get_params(deep=False))]
    if isinstance(seen, _ValuesAlone) and isinstance(value, torch.nn.Module):
        return [repr(value), inside(value.state_dict())]
    if hasattr(value, "__dict__"):
        return [inside(type(value)), inside(vars(value))]
    if attributes := _slots(value):
        return [inside(type(value)), inside(attributes)]
    return without_address(repr(value))


def _described_code(
    value: Any, inside: Callable[[Any], Any], seen: set[int] | None
) -> Any:
    """Functions, classes and what is made of them; `inside` describes their parts."""
    code_alone = isinstance(seen, _CodeAlone)
    if isinstance(value, partial):
        return inside([value.func, value.args, value.keywords])
    if isinstance(value, MethodType):
        owner = type(value.__self__) if code_alone else value.__self__
        return inside([value.__func__, owner])
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_names, inside(value.co_consts)]
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        if code_alone:
            held = [item for item in held if isinstance(item, _LASTING)]
        held += [value.__defaults__, value.__kwdefaults__, _named_by(value, seen)]
        code = None if _is_of_a_package(value) else value.__code__
        return [_name(value), *inside([code, held])]
    if hasattr(value, "__wrapped__"):  # by functools.lru_cache
        return inside(value.__wrapped__)
    # A class, or a function in C.
    return [_name(value), inside(_named_by(value, seen))]


def _slots(value: Any) -> dict[str, Any]:
    """Attributes of an object of a class with slots."""
    held = {}
    for of in type(value).__mro__:
        names = vars(of).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            hidden = name.startswith("__") and not name.endswith("__")
            kept = f"_{of.__name__.lstrip('_')}{name}" if hidden else name
            if hasattr(value, kept):
                held[kept] = getattr(value, kept)
    return held


def _code_in(value: Any) -> dict[str, Any]:
    """Functions and classes that an object holds, and the classes of its parts."""
    if hasattr(value, "get_params"):
        parts = value.get_params(deep=True)
        return {name: p if callable(p) else type(p) for name, p in parts.items()}
    held = getattr(value, "__dict__", {})
    return {name: item for name, item in held.items() if isinstance(item, _CODE)}


def _named_by(value: Any, seen: set[int] | None) -> dict[str, Any]:
    """Code, numbers and text that code of the user's own goes by beside itself."""
    if seen is None or id(value) in seen or _is_of_a_package(value):
        return {}
    seen.add(id(value))
    if isinstance(value, type):
        wrapped = staticmethod | classmethod
        named = {"bases": value.__bases__} | {
            name: item.__func__ if isinstance(item, wrapped) else item
            for name, item in vars(value).items()
        }
        named |= {k: v.fget for k, v in named.items() if isinstance(v, property)}
    else:
        known = getattr(value, "__globals__", {})
        named = {name: known[name] for name in _names(value) if name in known}
    named |= {
        name: item.__wrapped__
        for name, item in named.items()
        if not isinstance(item, FunctionType | type) and hasattr(item, "__wrapped__")
    }
    # Python's own, such as __file__ and __firstlineno__, differ where nothing does.
    counts = FunctionType | type
    if not isinstance(seen, _CodeAlone):
        counts |= _HELD
    return {
        name: item
        for name, item in named.items()
        if isinstance(item, counts)
        or (isinstance(item, _SIMPLE) and not name.startswith("__"))
    }


def _name(value: Any) -> str:
    """Of a function or class; a script is called __main__ or by its own name."""
    module = f"{_module(value)}." if _is_of_a_package(value) else ""
    return f"{module}{value.__qualname__}"


def _module(value: Any) -> str:
    return str(getattr(value, "__module__", None))


def _is_of_a_package(value: Any) -> bool:
    """Whether code is Python's, ours or installed: its name is enough."""
    package = _module(value).partition(".")[0]
    if package == "__main__":  # in a worker process a script of joblib's
        return False
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    known = package == "skmedimg" or package in sys.stdlib_module_names
    return known or "-packages" in file


def _names(function: Any) -> Iterator[str]:
    """Names that a function looks up, or functions within it."""
    code = getattr(function, "__code__", function)
    if isinstance(code, CodeType):
        yield from code.co_names
        for item in code.co_consts:
            yield from _names(item)


def _described_array(value: np.ndarray | torch.Tensor) -> list:
    if isinstance(value, torch.Tensor) and is_lazy(value):
        return ["lazy"]
    if isinstance(value, torch.Tensor):
        whole = value.detach().cpu().contiguous()
        raw = whole.flatten().view(torch.uint8).numpy()
    elif value.dtype.hasobject:
        return [_described(item) for item in value.tolist()]
    else:
        raw = np.ascontiguousarray(value)
    return [str(value.dtype), tuple(value.shape), blake2b(raw.data).hexdigest()]
