"""Weights from elsewhere into a network: all of them, or all but its head."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from skmedimg._random import drawing_from
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.architectures._layers import Network
from skmedimg.architectures.resnet import STEMS, ResNetModule

State = dict[str, torch.Tensor]
_CONVS = (nn.Conv2d, nn.Conv3d)


def load_weights(
    module: nn.Module, weights: Any, probe: torch.Tensor, classes: np.ndarray
) -> bool:
    """Load a state dict, a file of one, or the network of a frozen estimator.

    Parameters
    ----------
    module : torch.nn.Module
        Gets the weights.
    weights : mapping, path, FrozenEstimator or Pretrained
        Only `Pretrained` may leave out the head and differ in input channels.
    probe : torch.Tensor of shape (n, C, *spatial)
        Images that `module` takes, to find its head.
    classes : ndarray of shape (n_classes,)
        What the head is to tell.

    Returns
    -------
    bool
        Whether the head was left as it is, to be trained from its start.

    Raises
    ------
    ValueError
        If weights cannot be read or do not fit.
    """
    if not isinstance(weights, Pretrained):
        _load(module, _unwrapped(state_dict_of(weights), module))
        return False
    weights._validate_params()
    name, _ = head_of(module, probe)
    state = _unwrapped(state_dict_of(weights.source), module)
    known = getattr(_fitted_in(weights.source), "classes_", None)
    same_task = known is not None and np.array_equal(known, classes)
    state, left_out = _fitted_to(module, state, name, same_task)
    _load(module, state)
    if left_out:
        warnings.warn(
            f"The head of the pretrained weights is not known to tell these classes: "
            f"{', '.join(left_out)} were left out, and {name!r} starts anew.",
            UserWarning,
            stacklevel=6,
        )
    return bool(left_out)


def as_pretrained(architecture: Any, weights: Any) -> Any:
    """The architecture; for "auto", where an estimator gives weights, what it chose.

    "auto" goes by the number of images and their size, and weights fit one choice.
    """
    fitted = _fitted_in(weights.source if isinstance(weights, Pretrained) else weights)
    module: Any = getattr(fitted, "module_", None)
    named = isinstance(architecture, str) and architecture == "auto"
    if not named or type(module) is not ResNetModule or fitted.architecture != "auto":
        return architecture
    first: Any = next(module.stem.children())
    kind = (first.kernel_size[0], first.stride[0])
    stem = next(name for name, known in STEMS.items() if known[:2] == kind)
    return ResNet(width=first.out_channels, depth=len(module.stages), stem=stem)


def _fitted_in(source: Any) -> Any:
    if not isinstance(source, FrozenEstimator):
        return None
    fitted = source.estimator
    return fitted[-1] if isinstance(fitted, Pipeline) else fitted


def head_of(module: nn.Module, probe: torch.Tensor) -> tuple[str, nn.Module]:
    """Name and module of the layer that gives the logits: the last that is run."""
    if isinstance(module, Network):
        return "head", module.head
    ran: list[tuple[str, int]] = []
    handles = [
        layer.register_forward_hook(
            lambda _, __, output, name=name: ran.append((name, output.numel()))
        )
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, *_CONVS))
    ]
    try:
        with torch.no_grad(), drawing_from(torch.Generator(probe.device)):
            n_logits = module(probe).numel()
    finally:
        for handle in handles:
            handle.remove()
    if not ran or ran[-1][1] != n_logits:
        raise ValueError(
            f"Pretrained needs to know which layer gives the logits, but "
            f"{type(module).__name__} does not end in a linear layer or convolution."
        )
    return ran[-1][0], module.get_submodule(ran[-1][0])


def _load(module: nn.Module, state: Mapping) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        differences = _differences(module.state_dict(), state) or str(error)
        raise ValueError(
            f"weights do not fit the architecture: {differences}. Name the one that "
            'they are of: "auto" goes by the number of images and their size.'
        ) from error


def _differences(own: Mapping, state: Mapping) -> str:
    """In what the names and shapes of weights differ from those of a network."""
    kinds = {
        "missing": [k for k in own if k not in state],
        "unknown": [k for k in state if k not in own],
        "of another shape": [
            f"{k}, {_shape(state[k])} for {_shape(own[k])}"
            for k in own
            if k in state and _shape(state[k]) != _shape(own[k])
        ],
    }
    return "; ".join(
        f"{len(found)} {kind} ({', '.join(found[:3])}{', …' * (len(found) > 3)})"
        for kind, found in kinds.items()
        if found
    )


def _shape(value: Any) -> Any:
    known = isinstance(value, torch.Tensor)
    return tuple(value.shape) if known else type(value).__name__


def _unwrapped(state: Mapping, module: nn.Module) -> Mapping:
    """Names without what torch.nn.DataParallel or torch.compile puts before them."""
    own = module.state_dict()
    for prefix in ("module.", "_orig_mod."):
        if state and all(k.startswith(prefix) and k not in own for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _fitted_to(
    module: nn.Module, state: Mapping, name: str, same_task: bool
) -> tuple[State, list[str]]:
    """Weights for images of other channels, and what of the head was left out."""
    own = module.state_dict()
    head = {key for key in own if key.startswith(f"{name}.")}
    taken = dict(state)
    first = next((k for k in own if _differs_in_channels(own[k], state.get(k))), "")
    if first and first not in head:
        taken[first] = _other_channels(taken[first], own[first].shape[1])
    shapes = {key: getattr(state.get(key), "shape", None) for key in head}
    if same_task and all(shapes[key] == own[key].shape for key in head):
        return taken, []
    # The head of another task may go by another name: one layer, and no more.
    others = {key for key in state if key not in own}
    layers = {key.rpartition(".")[0] for key in others}
    left_out = head & set(state) | (others if len(layers) == 1 else set())
    for key in left_out:
        del taken[key]
    return taken | {key: own[key] for key in head}, sorted(left_out or head)


def _differs_in_channels(own: torch.Tensor, given: Any) -> bool:
    """Whether filters are for images of another number of channels, and alike else."""
    if not isinstance(given, torch.Tensor) or own.ndim < 4 or given.ndim != own.ndim:
        return False
    here, there = list(own.shape), list(given.shape)
    return here.pop(1) != there.pop(1) and here == there


def _other_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """First filters for another number of channels; grey shown in all gives the same.

    Filters are summed over the old channels and shared out among the new ones.
    """
    if weight.ndim < 4 or weight.shape[1] == channels:
        return weight
    summed = weight.sum(1, keepdim=True) / channels
    return summed.repeat(1, channels, *[1] * (weight.ndim - 2))


def state_dict_of(weights: Any) -> Mapping:
    if isinstance(weights, FrozenEstimator):
        fitted = _fitted_in(weights)
        if not hasattr(fitted, "module_"):
            raise ValueError(
                "weights is a FrozenEstimator around something that is not fitted, or "
                "has no network: fit the image estimator first."
            )
        return fitted.module_.state_dict()
    if isinstance(weights, Mapping):
        state, shown = weights, "weights"
    else:
        shown = f"weights={str(weights)!r}"
        state = _read(weights, shown)
    if isinstance(state, Mapping) and not _holds_tensors(state):
        # A checkpoint: the weights are one entry, by whatever name, among others.
        inner = [v for v in state.values() if _holds_tensors(v)]
        state = inner[0] if len(inner) == 1 else state
    if not isinstance(state, Mapping) or not all(isinstance(k, str) for k in state):
        raise ValueError(f"{shown} holds no state dict (names and their tensors).")
    return state


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(v, torch.Tensor) for v in value.values()
    )


def _read(path: Any, shown: str) -> Any:
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes either of them raise anything
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{shown} cannot be read as weights of torch.save or safetensors: {reason} "
            "Save module.state_dict(), not the module; or load a whole model with "
            "joblib, and pass FrozenEstimator(model)."
        ) from error
