"""What is done to a network from outside: layout, features out, memory saved."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, TypeGuard

import torch
from torch import nn

from skmedimg._random import drawing_from
from skmedimg.architectures._layers import Network
from skmedimg.architectures.resnet import _Block

_CONVS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
# Where layers come from that draw nothing from torch's global generator.
_SILENT = {
    f"torch.nn.modules.{name}"
    for name in (
        "activation batchnorm container conv flatten instancenorm linear normalization "
        "pooling"
    ).split()
} | {f"skmedimg.architectures.{name}" for name in ("_layers", "resnet", "simple")}


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
        if isinstance(m, _CONVS) and max(m.kernel_size) == 1 and max(m.stride) > 1:
            if m.in_channels < 16:
                return False
        elif threads > 1 and isinstance(m, _NORMS) and m.num_features < 16:
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


def folded(module: nn.Module) -> nn.Module:
    """One of our networks with its normalisations folded into the convolutions.

    For inference, where both are linear: a quarter faster on a CPU. Made anew at each
    call, in a tenth of a millisecond, for it shares what it does not change: a copy
    that is kept would go stale when weights are written to. A foreign network, one
    with hooks, and one of which a part is in training mode (dropout that is wanted)
    comes back as it is.
    """
    parts = _parts_of(module)
    if not isinstance(module, Network) or any(
        m.training or m._forward_hooks or m._forward_pre_hooks for m in parts
    ):
        return module
    pairs = [pair for part in parts for pair in _foldable(part)]
    if not pairs:
        return module
    replaced = dict(zip([id(conv) for conv, _ in pairs], _fuse(pairs), strict=True))
    passing = nn.Identity().eval()
    replaced |= {id(norm): passing for _, norm in pairs}
    return _rebuilt(module, replaced)


def _parts_of(module: nn.Module) -> list[nn.Module]:
    """As ``module.modules()``, which takes five times as long; a shared one, twice."""
    parts = [module]
    for part in parts:
        if part._modules:
            parts.extend(m for m in part._modules.values() if m is not None)
    return parts


def _foldable(part: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Each convolution of a part with the BatchNorm after it.

    Only where layers run in the order of their names, and are torch's own: a user may
    have put others into one of our networks, or changed some (weight normalisation).
    """
    if type(part) not in (nn.Sequential, _Block):
        return
    layers: list[Any] = list(part._modules.values())
    for conv, norm in pairwise(layers):
        if type(conv) in _CONVS and type(norm) in _NORMS:
            if norm.affine and norm.track_running_stats:
                yield conv, norm


def _fuse(pairs: list[tuple[Any, Any]]) -> list[nn.Module]:
    """Convolutions that scale and shift as the BatchNorm after them does."""
    norms = [norm for _, norm in pairs]
    mean, var = (
        [norm._buffers[name] for norm in norms]
        for name in ("running_mean", "running_var")
    )
    weight, bias = (
        [norm._parameters[name] for norm in norms] for name in ("weight", "bias")
    )
    with torch.no_grad():
        # End to end, what is done for each channel is one operation for all layers.
        spread = torch._foreach_add(var, [norm.eps for norm in norms])
        scales = torch.cat(spread).rsqrt_().mul_(torch.cat(weight))
        shifts = torch.cat(bias).sub_(torch.cat(mean).mul_(scales))
        channels = [len(v) for v in var]
        fused = []
        for (conv, _), scale, shift in zip(
            pairs, scales.split(channels), shifts.split(channels), strict=True
        ):
            filters, offset = conv._parameters["weight"], conv._parameters["bias"]
            column = scale.view((-1,) + (1,) * (filters.ndim - 1))
            if offset is not None:
                shift = torch.addcmul(shift, offset, scale)
            made = {"weight": filters * column, "bias": shift}
            fused.append(_shell(conv, _parameters=made))
    return fused


def _rebuilt(module: nn.Module, replaced: dict[int, nn.Module]) -> nn.Module:
    """The same tree of modules with some replaced; all else is shared."""
    changed = {}
    for name, child in module._modules.items():
        new = replaced.get(id(child))
        if new is None and child is not None and child._modules:
            new = _rebuilt(child, replaced)
        if new is not None and new is not child:
            changed[name] = new
    if not changed:
        return module
    return _shell(module, _modules=module._modules | changed)


def _shell(module: nn.Module, **changes: dict[str, Any]) -> Any:
    """A module with the tensors of another: copying these takes milliseconds."""
    shell = object.__new__(type(module))
    # Past nn.Module.__setattr__, which takes as long as the rest.
    vars(shell).update(vars(module), **changes)
    return shell


def draws_by_itself(module: nn.Module) -> TypeGuard[Network]:
    """Whether all that a network draws comes from the generator it has been given.

    So it does in ours, unless a user has put something else into one.
    """
    return isinstance(module, Network) and all(
        type(part).__module__ in _SILENT and not isinstance(part, nn.RReLU)
        for part in _parts_of(module)
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


def slow_alone(x: torch.Tensor) -> bool:
    """Whether a batch is one volume that a CPU is done with sooner if it is two.

    PyTorch leaves a small convolution of a batch of one to a loop of its own, and all
    others to oneDNN, which is up to five times faster; for volumes it calls those small
    whose channels times depth times height, without the width, are 20,480 or less.
    Two of 12 to 48 voxels a side take .4 to .9 of the time of one.
    """
    return (
        x.ndim == 5
        and len(x) == 1
        and x.device.type == "cpu"
        and math.prod(x.shape[1:4]) <= 20_480
        and 1_500 <= math.prod(x.shape[2:]) <= 125_000
    )


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
