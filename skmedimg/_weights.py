"""Weights from elsewhere into a network: all of them, or all but its head."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from skmedimg._random import drawing_from
from skmedimg.architectures import Pretrained
from skmedimg.architectures._layers import Network

State = dict[str, torch.Tensor]
_CONVS = (nn.Conv2d, nn.Conv3d)


def load_weights(module: nn.Module, weights: Any, probe: torch.Tensor) -> bool:
    """Load a state dict, a file of one, or the network of a frozen estimator.

    Parameters
    ----------
    module : torch.nn.Module
        Gets the weights.
    weights : mapping, path, FrozenEstimator or Pretrained
        Only `Pretrained` may leave out the head and differ in input channels.
    probe : torch.Tensor of shape (n, C, *spatial)
        Images that `module` takes, to find its head.

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
    state, left_out = _fitted_to(module, state, name)
    _load(module, state)
    if left_out:
        warnings.warn(
            f"The pretrained weights have no head of this shape: "
            f"{', '.join(left_out)} were left out, and {name!r} starts anew.",
            UserWarning,
            stacklevel=6,
        )
    return bool(left_out)


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
        raise ValueError(f"weights do not fit the architecture: {error}") from error


def _unwrapped(state: Mapping, module: nn.Module) -> Mapping:
    """Names without the prefix that torch.nn.DataParallel leaves."""
    own = module.state_dict()
    if all(k.startswith("module.") and k not in own for k in state):
        return {k.removeprefix("module."): v for k, v in state.items()}
    return state


def _fitted_to(module: nn.Module, state: Mapping, name: str) -> tuple[State, list[str]]:
    """Weights for images of other channels, and what of the head was left out."""
    own = module.state_dict()
    head = {key for key in own if key.startswith(f"{name}.")}
    taken = dict(state)
    first = next((k for k in own if _differs_in_channels(own[k], state.get(k))), "")
    if first and first not in head:
        taken[first] = _other_channels(taken[first], own[first].shape[1])
    shapes = {key: getattr(state.get(key), "shape", None) for key in head}
    if all(shapes[key] == own[key].shape for key in head):
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
        fitted = weights.estimator
        if isinstance(fitted, Pipeline):
            fitted = fitted[-1]
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
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(isinstance(k, str) for k in state):
        raise ValueError(f"{shown} holds no state dict (names and their tensors).")
    return state


def _read(path: Any, shown: str) -> Any:
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes either of them raise anything
        raise ValueError(
            f"{shown} cannot be read as a file of torch.save or safetensors: {error}"
        ) from error
