"""Normalisations folded into the convolutions before them, for inference."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeGuard

import torch
from torch import nn

from skmedimg.architectures._layers import Network
from skmedimg.architectures.resnet import _Block

CONVS = (nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
OURS = {f"skmedimg.architectures.{name}" for name in ("_layers", "resnet", "simple")}


def folded(module: nn.Module) -> nn.Module:
    """One of our networks with its normalisations folded into the convolutions.

    For inference, where both are linear: a quarter faster on a CPU. Made anew at each
    call, in a tenth of a millisecond, for it shares what it does not change: a copy
    that is kept would go stale when weights are written to. A network that is not
    plain comes back as it is.
    """
    if not is_plain(module):
        return module
    uses = Counter(map(id, parts_of(module)))
    pairs = [
        pair
        for part in parts_of(module, _runs_in_order)
        for pair in _foldable(part)
        if all(uses[id(layer)] == 1 for layer in pair)
    ]
    if not pairs:
        return module
    replaced = dict(zip([id(conv) for conv, _ in pairs], _fuse(pairs), strict=True))
    passing = nn.Identity().eval()
    replaced |= {id(norm): passing for _, norm in pairs}
    return _rebuilt(module, replaced)


def is_plain(module: nn.Module) -> TypeGuard[Network]:
    """Whether a network is ours, without hooks, no part of it in training mode.

    Dropout that is wanted in evaluation is a part in training mode.
    """
    return isinstance(module, Network) and not any(
        m.training or m._forward_hooks or m._forward_pre_hooks for m in parts_of(module)
    )


def parts_of(
    module: nn.Module, within: Callable[[nn.Module], bool] = lambda part: True
) -> list[nn.Module]:
    """As ``module.modules()``, which takes five times as long; a shared one, twice.

    Parts of a part for which `within` is false are left out.
    """
    parts = [module]
    for part in parts:
        if part._modules and within(part):
            parts.extend(m for m in part._modules.values() if m is not None)
    return parts


def _runs_in_order(part: nn.Module) -> bool:
    """Whether a part is ours, or torch's, and runs its own parts once each."""
    kind = type(part)
    return (
        kind is nn.Sequential or kind.__module__ in OURS
    ) and not _has_a_forward_of_its_own(part)


def _has_a_forward_of_its_own(part: nn.Module) -> bool:
    """Whether a user has patched one object, or compiled it: bound to that object."""
    return "forward" in vars(part) or part._compiled_call_impl is not None


def _foldable(part: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Each convolution of a part with the BatchNorm after it.

    Only where layers run in the order of their names, and are torch's own: a user may
    have put others into one of our networks, or changed some (weight normalisation).
    """
    if type(part) not in (nn.Sequential, _Block) or not _runs_in_order(part):
        return
    layers: list[Any] = list(part._modules.values())
    for conv, norm in pairwise(layers):
        if type(conv) in CONVS and type(norm) in NORMS:
            if not any(map(_has_a_forward_of_its_own, (conv, norm))):
                if _has_tensors(conv, norm):
                    yield conv, norm


def _has_tensors(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether all that is folded is there; a filter may be a buffer, or be None."""
    known = (
        conv._parameters.get("weight"),
        *map(norm._parameters.get, ("weight", "bias")),
        *map(norm._buffers.get, ("running_mean", "running_var")),
    )
    return "bias" in conv._parameters and not any(t is None for t in known)


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
