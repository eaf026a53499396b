"""A network tried on blank images, before hours of work."""

import re
import warnings
from typing import Any

import torch
from torch import nn

from skmedimg._feed import channels_last
from skmedimg._folding import OURS, is_plain
from skmedimg._modules import contiguous_inputs, lay_out_filters
from skmedimg.architectures._layers import Network
from skmedimg.images import ImageSpec

# As autograd calls the steps of a computation.
_PROBABILITIES = {
    "SigmoidBackward0": "sigmoid",
    "LogSigmoidBackward0": "logsigmoid",
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log_softmax",
}
_SAME_NUMBERS = re.compile(
    "(View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Select|Slice|Expand|T|Transpose|"
    r"Permute|Clone|Alias|ToCopy)Backward\d"
)


def blank(spec: ImageSpec, n: int) -> torch.Tensor:
    """So many images without anything in them."""
    return torch.zeros(n, spec.channels, *spec.size)


def output_shape(
    module: nn.Module, probe: torch.Tensor, architecture: Any
) -> tuple[int, ...]:
    """Shape of what a network gives for blank images.

    Raises
    ------
    ValueError
        If it cannot take them, or gives no tensor; names the parameter `architecture`,
        and its value.
    """
    try:
        with torch.no_grad():
            output = module(probe)
    except Exception as error:  # a network may raise anything
        raise ValueError(
            f"architecture={architecture!r} cannot take images of "
            f"{tuple(probe.shape[1:])} (channels, then pixels): {error}"
        ) from error
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"architecture={architecture!r} gives a {type(output).__name__}; a network "
            "needs to give one tensor of logits."
        )
    return tuple(output.shape)


def keep_to_its_layout(module: nn.Module, probe: torch.Tensor) -> None:
    """Give contiguous batches to a network that works on no others, in place.

    Such as one with ``x.view(len(x), -1)`` after a convolution.
    """
    if isinstance(module, Network):
        return
    lay_out_filters(module, channels_last=True)
    try:
        with torch.no_grad():
            module(channels_last(probe))
    except Exception:  # it has taken the same batch in the other order
        module.register_forward_pre_hook(contiguous_inputs)
        lay_out_filters(module, channels_last=False)


def warn_of_probabilities(module: nn.Module, probe: torch.Tensor) -> None:
    """Warn where a network ends in a step that leaves the loss no logits."""
    ours = is_plain(module) and type(module).__module__ in OURS
    if ours and type(module.head) is nn.Linear:
        return
    try:
        with torch.enable_grad():
            output = module(probe)
    except Exception:  # it has taken the same batch without gradients
        return
    step = getattr(output, "grad_fn", None)
    while step is not None and _SAME_NUMBERS.fullmatch(step.name()):
        step = step.next_functions[0][0]
    last = None if step is None else _PROBABILITIES.get(step.name())
    # The softmax of several logarithms of probabilities is these probabilities.
    if last is None or (last == "log_softmax" and output.shape[1] > 1):
        return
    warnings.warn(
        f"The network ends in a {last}, but the loss takes logits: it will learn "
        "little or nothing. Leave it out; predict_proba gives probabilities.",
        UserWarning,
        stacklevel=6,
    )
