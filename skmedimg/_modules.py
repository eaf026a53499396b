"""What is done to a network from outside: layout, features out, memory saved."""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard

import torch
from torch import nn

from skmedimg._folding import CONVS, NORMS, OURS, is_plain, parts_of
from skmedimg._random import drawing_from
from skmedimg.architectures._layers import Network

# Where layers come from that draw nothing from torch's global generator.
_SILENT = OURS | {
    f"torch.nn.modules.{name}"
    for name in (
        "activation batchnorm container conv flatten instancenorm linear normalization "
        "pooling"
    ).split()
}
# PyTorch's number, of channels × depth × height.
_LOOPED_UP_TO = 20_480


def trains_channels_last(
    module: nn.Module, device: torch.device, precision: torch.dtype
) -> bool:
    """Whether channels-last memory is safe in training, and the faster layout.

    It is 1.2 to 1.5 times faster on a CPU, but for two cases. oneDNN writes past its
    workspace in the gradient of a strided 1-wide convolution of few channels (its issue
    6035): wrong weights, or a crash of the process. And threads sum side by side in
    PyTorch's BatchNorm: below 16 channels they write to one cache line, and two are no
    faster than one. Single-precision volumes gain more from their convolutions.
    """
    if contiguous_inputs in module._forward_pre_hooks.values():
        return False
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    for m in module.modules():
        if isinstance(m, CONVS) and max(m.kernel_size) == 1 and max(m.stride) > 1:
            if m.in_channels < 16:
                return False
        elif threads > 1 and isinstance(m, NORMS) and m.num_features < 16:
            if isinstance(m, nn.BatchNorm2d) or precision == torch.bfloat16:
                return False
    return True


def contiguous_inputs(_: nn.Module, inputs: tuple) -> tuple:
    """A hook for networks that cannot take channels-last batches.

    Clones, as a grey one counts as contiguous and as channels-last at once.
    """
    return tuple(
        x.clone(memory_format=torch.contiguous_format)
        if isinstance(x, torch.Tensor)
        else x
        for x in inputs
    )


def lay_out_filters(module: nn.Module, *, channels_last: bool) -> None:
    """Store the filters of convolutions in one order of memory, in place."""
    orders = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in orders:
            order = orders[parameter.ndim] if channels_last else torch.contiguous_format
            parameter.data = parameter.data.contiguous(memory_format=order)


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Store what an optimizer has gathered in the order of memory of its parameters.

    Fused steps walk through both without a look at their strides: where weights have
    been laid out anew since, moments would be taken for those of other weights.
    """
    for parameter, gathered in optimizer.state.items():
        for name, value in gathered.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                like = torch.empty_like(parameter, dtype=value.dtype)
                gathered[name] = like.copy_(value)


def hand_over_moments(
    before: torch.optim.Optimizer,
    optimizer: torch.optim.Optimizer,
    successor: dict[torch.Tensor, torch.Tensor],
) -> None:
    """Copy what an optimizer has gathered to another, on the device of its parameters.

    Parameters
    ----------
    before, optimizer : torch.optim.Optimizer
        Of one class; in whatever groups their parameters are.
    successor : dict of torch.Tensor to torch.Tensor
        For each parameter of the one network that of the other.
    """
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    number = {parameter: i for i, parameter in enumerate(trained)}
    state = optimizer.state_dict()
    # A copy: torch would train on the moments of `before`, and an interrupted call
    # would leave them half-way.
    state["state"] = {
        number[new]: copy.deepcopy(before.state[old])
        for old, new in successor.items()
        if old in before.state and new in number
    }
    optimizer.load_state_dict(state)
    lay_out_moments(optimizer)


def draws_by_itself(module: nn.Module) -> TypeGuard[Network]:
    """Whether all that a network draws comes from the generator it has been given.

    So it does in ours, unless a user has put something else into one.
    """
    return isinstance(module, Network) and all(
        type(part).__module__ in _SILENT and not isinstance(part, nn.RReLU)
        for part in parts_of(module)
    )


def drawing_for(
    module: nn.Module, generator: torch.Generator
) -> AbstractContextManager[None]:
    """Let a network draw from `generator` that would draw from torch's global one.

    In evaluation too: some draw there, against the convention.
    """
    return nullcontext() if draws_by_itself(module) else drawing_from(generator)


def logits(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a network gives."""
    return module(torch.cat([x, x]))[:1] if _slow_alone(module, x) else module(x)


def pre_logits(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Features that one of our networks gives to its last layer."""
    if _slow_alone(module, x):
        return pre_logits(module, torch.cat([x, x]))[:1]
    return module.forward_head(module.forward_features(x), pre_logits=True)


def _slow_alone(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether a batch is one volume that a CPU is done with sooner if it is two.

    PyTorch leaves a small convolution of a batch of one to a loop of its own, and all
    others to oneDNN, which is up to five times faster. For volumes it calls those small
    whose channels times depth times height, without the width, are 20,480 or less,
    unless they are wider than 3. Here that goes by the first layer: its input and its
    output. Two volumes then take .4 to .9 of the time of one, and, of 8 voxels a side,
    more. Not where a user's layer would see two.
    """
    if x.ndim != 5 or len(x) != 1 or x.device.type != "cpu":
        return False
    first = next((m for m in module.modules() if isinstance(m, nn.Conv3d)), None)
    if first is None or not (is_plain(module) and draws_by_itself(module)):
        return False
    depth, height = (-(-x.shape[2 + i] // first.stride[i]) for i in (0, 1))
    return (
        max(first.kernel_size) <= 3
        and math.prod(x.shape[1:4]) <= _LOOPED_UP_TO
        and first.out_channels * depth * height <= _LOOPED_UP_TO
        and math.prod(x.shape[2:]) >= 1_500
    )


def input_of_last_linear(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a foreign network and catch what the last linear layer it runs is given."""
    last: list[torch.Tensor] = []

    def catch(_: nn.Module, args: tuple, kwargs: dict) -> None:
        last[:] = [*args, *kwargs.values()][:1]

    handles = [
        layer.register_forward_pre_hook(catch, with_kwargs=True)
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        module(x)
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ValueError(
            "embed needs a network that ends in a torch.nn.Linear layer; "
            f"{type(module).__name__} runs none."
        )
    if len(last[0]) != len(x):
        raise ValueError(
            f"embed needs one row an image, but {type(module).__name__} gives its last "
            f"linear layer {len(last[0])} rows for {len(x)} image(s)."
        )
    return last[0].flatten(1)


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
