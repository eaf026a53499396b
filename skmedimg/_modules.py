"""What is done to a network from outside: layout, features out, memory saved."""

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from skmedimg.architectures._layers import Network

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_LAST_3D = torch.channels_last_3d


def trains_channels_last(module: nn.Module) -> bool:
    """Whether channels-last memory, 1.2 to 1.5 times faster on a CPU, is safe.

    oneDNN writes past its workspace in the gradient of a strided 1-wide convolution of
    few channels (its issue 6035): wrong weights, or a crash of the process.
    """
    return not any(
        isinstance(m, nn.Conv2d | nn.Conv3d)
        and max(m.kernel_size) == 1
        and max(m.stride) > 1
        and m.in_channels < 16
        for m in module.modules()
    )


def channels_last_filters(module: nn.Module, dims: int) -> nn.Module:
    """Store the filters of convolutions as channels last, in place, where safe."""
    if not trains_channels_last(module):
        return module
    memory = torch.channels_last if dims == 2 else torch.channels_last_3d
    for parameter in module.parameters():
        if parameter.ndim == dims + 2:
            parameter.data = parameter.data.contiguous(memory_format=memory)
    return module


def folded(module: nn.Module) -> nn.Module:
    """One of our networks with its normalisations folded into the convolutions.

    For inference, where both are linear: a fifth faster on a CPU, once there are more
    images than the copy costs. A foreign network, one with hooks, and one of which a
    part is in training mode (dropout that is wanted) comes back as it is.
    """
    if not isinstance(module, Network) or any(
        m.training or m._forward_hooks or m._forward_pre_hooks for m in module.modules()
    ):
        return module
    return _fold(copy.deepcopy(module))


def _fold(network: Network) -> Network:
    """Fold each BatchNorm into the convolution before it, in place.

    In our families layers are named in the order in which they run.
    """
    for part in list(network.modules()):
        layers = list(part.named_children())
        for (name, conv), (after, norm) in pairwise(layers):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, _NORMS):
                setattr(part, name, fuse_conv_bn_eval(conv, norm))
                setattr(part, after, nn.Identity())
    for parameter in network.parameters():
        if parameter.ndim > 3:
            memory = torch.channels_last if parameter.ndim == 4 else _LAST_3D
            parameter.data = parameter.data.contiguous(memory_format=memory)
    return network


def logits(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a network gives."""
    return module(x)


def pre_logits(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Features that one of our networks gives to its last layer."""
    return module.forward_head(module.forward_features(x), pre_logits=True)


def input_of_last_linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a foreign network and catch what its last linear layer is given."""
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise ValueError(
            "embed needs a network with a torch.nn.Linear layer; "
            f"{type(module).__name__} has none."
        )
    caught: list[torch.Tensor] = []
    handle = linear[-1].register_forward_pre_hook(
        lambda _, inputs: caught.append(inputs[0])
    )
    try:
        module(x)
    finally:
        handle.remove()
    return caught[-1].flatten(1)


class InParts:
    """`function` of a batch, in ever smaller parts where a GPU has too little memory.

    Parameters
    ----------
    function : callable
        Takes and gives a tensor whose first axis counts images.
    """

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.most: int | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.most is None or len(x) <= self.most:
            try:
                return self.function(x)
            except torch.OutOfMemoryError:
                if len(x) == 1:
                    raise
            # Not in the handler: the error holds on to the memory of what failed.
            self.most = len(x) // 2
        return torch.cat([self(part) for part in x.split(self.most)])

    def warn(self, device: torch.device) -> None:
        """Say that memory was short, if it was."""
        if self.most is not None:
            warnings.warn(
                f"Out of memory on {device}: the network was given {self.most} images "
                "at a time.",
                UserWarning,
                stacklevel=4,
            )
