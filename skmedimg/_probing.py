"""A network tried on blank images, before hours of work."""

from typing import Any

import torch
from torch import nn

from skmedimg.images import ImageSpec


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
        If it cannot take them; names the parameter `architecture`, and its value.
    """
    try:
        with torch.no_grad():
            output = module(probe)
    except Exception as error:  # a network may raise anything
        raise ValueError(
            f"architecture={architecture!r} cannot take images of "
            f"{tuple(probe.shape[1:])} (channels, then pixels): {error}"
        ) from error
    return tuple(getattr(output, "shape", ()))
