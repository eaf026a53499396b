"""Changes of what pixels hold: pure functions of a batch and of the numbers drawn."""

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import conv1d, interpolate, pad


def linear(x: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """``x * gain + shift``, with one number of each an image."""
    return x * _column(gain, x) + _column(shift, x)


def gamma(x: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Power curve between the least and the greatest value of each image."""
    low, width = _range(x)
    unit = (x - low) / width.masked_fill(width <= 0, 1.0)
    return unit.pow(_column(exponent, x)) * width + low


def blur(x: torch.Tensor, sigma: torch.Tensor, widest: float) -> torch.Tensor:
    """Gaussian of standard deviation sigma[i], in pixels, along each spatial axis.

    The kernel reaches three times as far as `widest`; the border is repeated.
    """
    radius = math.ceil(3 * widest)
    at = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    for axis in range(2, x.ndim):
        if x.shape[axis] > 1:
            x = _filter(x, kernel, axis)
    return x


def _filter(x: torch.Tensor, kernel: torch.Tensor, axis: int) -> torch.Tensor:
    """Correlate image i with kernel[i] along one axis."""
    n, radius = len(x), kernel.shape[1] // 2
    lines = x.movedim(axis, -1)
    rows = lines.reshape(n, -1, lines.shape[-1]).transpose(0, 1)
    rows = pad(rows, (radius, radius), mode="replicate")
    rows = conv1d(rows, kernel[:, None, :], groups=n)
    return rows.transpose(0, 1).reshape(lines.shape).movedim(-1, axis)


def bias_field(x: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """Multiply by a smooth field, as an MR coil does; the darkest value stays.

    Parameters
    ----------
    x : torch.Tensor of shape (n, C, *spatial)
        Images.
    nodes : torch.Tensor of shape (n, *nodes)
        Logarithm of the field at the nodes of a coarse grid.
    """
    mode = "bicubic" if x.ndim == 4 else "trilinear"
    size = list(x.shape[2:])
    field = interpolate(nodes[:, None], size, mode=mode, align_corners=True).exp()
    low, _ = _range(x)
    return (x - low) * field + low


def cut_out(x: torch.Tensor, corner: torch.Tensor, share: float) -> torch.Tensor:
    """Set a box of each image to zero, the mean of the training images.

    Parameters
    ----------
    x : torch.Tensor of shape (n, C, *spatial)
        Standardised images.
    corner : torch.Tensor of shape (n, d)
        Where the box begins, from 0 to 1 of the places it may begin at.
    share : float
        Length of the box as a share of each axis.
    """
    inside = boxes(x.shape[2:], corner, torch.full((len(x),), share, device=x.device))
    return x.masked_fill(inside[:, None], 0.0)


def boxes(
    size: Sequence[int], corner: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Mask of shape (n, *spatial), True in a box of each image; see `cut_out`."""
    inside = torch.ones(len(corner), *size, dtype=torch.bool, device=corner.device)
    for axis, length in enumerate(size):
        # An axis of one pixel is not cut: the box spans it.
        long = (share * length).round() if length > 1 else torch.ones_like(share)
        start = (corner[:, axis] * (length - long)).round()
        at = torch.arange(length, device=corner.device)
        within = (at >= start[:, None]) & (at < (start + long)[:, None])
        shape = [-1] + [1] * len(size)
        shape[axis + 1] = length
        inside &= within.view(shape)
    return inside


def _range(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least value of each image, and how far the greatest lies above it."""
    flat = x.flatten(1)
    low = flat.min(1).values
    return _column(low, x), _column(flat.max(1).values - low, x)


def _column(value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return value.view((-1,) + (1,) * (x.ndim - 1))
