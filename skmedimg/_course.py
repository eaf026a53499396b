"""The course of training: its length, batches, learning rate and optimizer."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

LEARNING_RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.05, "rmsprop": 1e-3}


def auto_epochs(n_images: int) -> int:
    """Epochs by the number of distinct images: few images are seen more often."""
    return int(np.clip(round(2800 / n_images**0.6), 5, 100))


def auto_batch_size(n_images: int) -> int:
    """A sixteenth of the distinct images, as a power of two from 16 to 64."""
    return int(np.clip(2 ** round(math.log2(max(n_images, 1) / 16)), 16, 64))


def schedule_factor(schedule: str, progress: float) -> float:
    """Factor on the learning rate after a share `progress` of all steps.

    "one_cycle" rises linearly over the first fifth and falls along a cosine to zero
    (Smith & Topin, 2018); "cosine" only falls (Loshchilov & Hutter, ICLR 2017).
    """
    if schedule == "constant":
        return 1.0
    rise = 0.2 if schedule == "one_cycle" else 0.0
    if progress < rise:
        return 0.05 + 0.95 * progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def make_optimizer(
    module: nn.Module,
    lr: float,
    *,
    optimizer: Any,
    weight_decay: float,
    lr_scale: float = 1.0,
    head: str = "",
) -> torch.optim.Optimizer:
    """Optimizer by name or class; only weights decay, not biases and norms.

    Parameters
    ----------
    module : torch.nn.Module
        Network whose parameters to optimise.
    lr : float
        Learning rate.
    optimizer : {"adamw", "adam", "sgd", "rmsprop"} or type
        "sgd" has Nesterov momentum .9; "rmsprop" has Keras' rho .9 and epsilon 1e-7.
    weight_decay : float
        Decoupled for "adamw", an L2 penalty for the others.
    lr_scale : float, default=1.0
        Factor on the rate of all parameters but those of `head`.
    head : str, default=""
        Name of the last layer. Not its parameters: this function is pickled, and made
        use of again for a copy of the network on another device.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for scale, in_head in ((1.0, True), (lr_scale, False)):
        rate = {"lr": lr * scale, "lr_scale": scale}
        part = [p for name, p in named if name.startswith(f"{head}.") == in_head]
        weights = [p for p in part if p.ndim > 1]
        others = [p for p in part if p.ndim <= 1]
        groups.append({"params": weights, "weight_decay": weight_decay, **rate})
        groups.append({"params": others, "weight_decay": 0.0, **rate})
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError(
            f"architecture gave a {type(module).__name__} without parameters to train."
        )
    fused = named[0][1].device.type in {"cpu", "cuda"}
    if optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=fused)
    if optimizer == "adam":
        return torch.optim.Adam(groups, lr=lr, fused=fused)
    if optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True, fused=fused)
    if optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, alpha=0.9, eps=1e-7)
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.SparseAdam):
        raise TypeError(
            "optimizer=SparseAdam takes sparse gradients, which images do not give: "
            "use 'adam'."
        )
    try:
        made = optimizer(groups, lr=lr)
    except (TypeError, ValueError) as error:
        raise type(error)(f"optimizer={optimizer!r} cannot be made: {error}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} gave a {type(made).__name__}; pass a class of "
            "torch.optim or one of 'adamw', 'adam', 'sgd', 'rmsprop'."
        )
    if weight_decay and "weight_decay" not in made.defaults:
        _warn_of_no_decay(made, weight_decay)
    return made


def _warn_of_no_decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    warnings.warn(
        f"{type(optimizer).__name__} knows no weight decay: weight_decay="
        f"{weight_decay:g} has no effect. Set weight_decay=0.",
        UserWarning,
        stacklevel=3,
    )
