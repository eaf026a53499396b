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

from skmedimg._folding import CONVS
from skmedimg._random import drawing_from
from skmedimg._targets import LabelEncoding
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.architectures._layers import Network
from skmedimg.architectures.resnet import STEMS, ResNetModule

State = dict[str, torch.Tensor]


def load_weights(
    module: nn.Module, weights: Any, probe: torch.Tensor, labels: LabelEncoding
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
    labels : LabelEncoding
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
    same_task = _same_classes(fitted_in(weights.source), labels)
    state, left_out = _fitted_to(module, state, name, same_task)
    _load(module, state)
    if left_out is None:
        return False
    reason = "has another shape" if same_task else "is not known to tell these classes"
    warnings.warn(
        f"The head of the pretrained weights {reason}: left out "
        f"{', '.join(left_out) or 'nothing, for there is none'}; {name!r} starts as "
        "the architecture makes it. FrozenEstimator(model) tells the classes.",
        UserWarning,
        stacklevel=6,
    )
    return True


def _same_classes(fitted: Any, labels: LabelEncoding) -> bool:
    """Whether a fitted classifier tells these classes; of labels it is not known."""
    known = getattr(fitted, "_encoding", None)
    if not isinstance(known, LabelEncoding) or known.multilabel or labels.multilabel:
        return False
    return np.array_equal(known.classes, labels.classes)


def as_pretrained(architecture: Any, weights: Any) -> Any:
    """The architecture; for "auto", where an estimator gives weights, what it chose.

    "auto" goes by the number of images and their size, and weights fit one choice.
    """
    fitted = fitted_in(weights.source if isinstance(weights, Pretrained) else weights)
    module: Any = getattr(fitted, "module_", None)
    both = architecture, getattr(fitted, "architecture", None)
    are_auto = all(isinstance(one, str) and one == "auto" for one in both)
    if not are_auto or type(module) is not ResNetModule:
        return architecture
    first: Any = next(module.stem.children())
    kind = (first.kernel_size[0], first.stride[0])
    stem = next(name for name, known in STEMS.items() if known[:2] == kind)
    return ResNet(width=first.out_channels, depth=len(module.stages), stem=stem)


def fitted_in(source: Any) -> Any:
    """The estimator that a frozen one, or a frozen pipeline, holds; else None."""
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
        if isinstance(layer, (nn.Linear, *CONVS))
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
            'they are of; "auto", and depth and stem of ResNet, go by the images.'
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
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        if state and all(k.startswith(prefix) and k not in own for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state


def _fitted_to(
    module: nn.Module, state: Mapping, name: str, same_task: bool
) -> tuple[State, list[str] | None]:
    """Weights for images of other channels, and what was left out if the head was."""
    own = module.state_dict()
    head = {key for key in own if key.startswith(f"{name}.")}
    taken = dict(state)
    first = next((k for k in own if _differs_in_channels(own[k], state.get(k))), "")
    if first and first not in head:
        taken[first] = _other_channels(taken[first], own[first].shape[1])
    if same_task and all(_shape(state.get(key)) == _shape(own[key]) for key in head):
        return taken, None
    left_out = head & set(state)
    if not left_out:
        # The head of another task may go by another name: one layer, and no more.
        others = {key for key in state if key not in own}
        if len({key.rpartition(".")[0] for key in others}) == 1:
            left_out = others
    for key in left_out:
        del taken[key]
    return taken | {key: own[key] for key in head}, sorted(left_out)


def _differs_in_channels(own: Any, given: Any) -> bool:
    """Whether filters are for images of another number of channels, and alike else."""
    if not isinstance(given, torch.Tensor) or not isinstance(own, torch.Tensor):
        return False
    if own.ndim < 4 or given.ndim != own.ndim:
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
        fitted = fitted_in(weights)
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
        state = _weights_in(state, shown)
    if not isinstance(state, Mapping) or not all(isinstance(k, str) for k in state):
        raise ValueError(f"{shown} holds no state dict (names and their tensors).")
    return state


def _weights_in(checkpoint: Mapping, shown: str) -> Mapping:
    """The entry of a checkpoint that the weights are, or all where it is none."""
    for name in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(checkpoint.get(name), Mapping):
            return checkpoint[name]
    inner = [k for k, v in checkpoint.items() if _holds_tensors(v)]
    if len(inner) > 1:
        raise ValueError(
            f"{shown} holds several state dicts, {', '.join(map(str, inner))}: pass "
            "one of them."
        )
    whole = _holds_tensors(checkpoint) or not inner
    return checkpoint if whole else checkpoint[inner[0]]


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
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error}") from error
    except Exception as error:  # a broken file makes either of them raise anything
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{shown} cannot be read as weights of torch.save or safetensors: {reason} "
            "Save module.state_dict(), not the module; or load a whole model with "
            "joblib, and pass FrozenEstimator(model)."
        ) from error
