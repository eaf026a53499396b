"""Weights from elsewhere into a network: all of them, or all but its head."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skmedimg.architectures import Pretrained
from skmedimg.architectures._layers import Network

State = dict[str, torch.Tensor]


def load_weights(module: nn.Module, weights: Any) -> bool:
    """Load a state dict, a file of one, or the network of a frozen estimator.

    Parameters
    ----------
    module : torch.nn.Module
        Gets the weights.
    weights : mapping, path, FrozenEstimator or Pretrained
        Only `Pretrained` may leave out the head and differ in input channels.

    Returns
    -------
    bool
        Whether the head was left as it is, to be trained from its start.

    Raises
    ------
    ValueError
        If weights cannot be read or do not fit.
    """
    new_head = False
    if isinstance(weights, Pretrained):
        weights._validate_params()
        state = _unwrapped(_state_dict(weights.source), module)
        state, new_head = _fitted_to(module, state)
        _load(module, state)
        if weights.freeze == "features":
            _freeze_all_but(module, head_of(module))
    else:
        _load(module, _unwrapped(_state_dict(weights), module))
    return new_head


def head_of(module: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the last layer, which gives the logits."""
    if isinstance(module, Network):
        return "head", module.head
    linear = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(
            f"Pretrained needs to know the last layer, but {type(module).__name__} has "
            "no torch.nn.Linear."
        )
    return linear[-1]


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


def _fitted_to(module: nn.Module, state: Mapping) -> tuple[State, bool]:
    """Weights without a head of another task, for images of other channels."""
    own = module.state_dict()
    name, _ = head_of(module)
    head = {key for key in own if key.startswith(f"{name}.")}
    fits = all(key in state and state[key].shape == own[key].shape for key in head)
    taken = {key: value for key, value in state.items() if key in own}
    first = next((k for k, v in own.items() if v.ndim > 3), "")
    if first in taken:
        taken[first] = _other_channels(taken[first], own[first].shape[1])
    if not fits:
        taken |= {key: own[key] for key in head}
        left = sorted(set(state) - set(taken) | head)
        warnings.warn(
            f"The pretrained weights have no head for {own[f'{name}.weight'].shape[0]} "
            f"output(s): {', '.join(left)} were left out, and {name!r} starts anew.",
            UserWarning,
            stacklevel=6,
        )
    return taken, not fits


def _other_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """First filters for another number of channels; grey shown in all gives the same.

    Filters are summed over the old channels and shared out among the new ones.
    """
    if weight.ndim < 4 or weight.shape[1] == channels:
        return weight
    summed = weight.sum(1, keepdim=True) / channels
    return summed.repeat(1, channels, *[1] * (weight.ndim - 2))


def _freeze_all_but(module: nn.Module, head: tuple[str, nn.Module]) -> None:
    module.requires_grad_(False)
    head[1].requires_grad_(True)


def _state_dict(weights: Any) -> Mapping:
    if isinstance(weights, FrozenEstimator):
        if not hasattr(weights.estimator, "module_"):
            raise ValueError(
                "weights is a FrozenEstimator around something that is not fitted, or "
                "has no network: fit the image estimator first."
            )
        return weights.estimator.module_.state_dict()
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
