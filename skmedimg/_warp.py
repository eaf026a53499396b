"""Changes of where pixels lie: pure functions of a batch and of the numbers drawn."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

from skmedimg._constants import constant

# Numbers drawn for a batch, one row an image.
Params = dict[str, torch.Tensor]


def mirror(x: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Mirror image i of (n, C, *spatial) along each axis where flip[i] is True."""
    for axis in range(flip.shape[1]):
        if x.shape[axis + 2] > 1:
            chosen = flip[:, axis].view((-1,) + (1,) * (x.ndim - 1))
            x = torch.where(chosen, x.flip(axis + 2), x)
    return x


def turn(x: torch.Tensor, quarters: torch.Tensor) -> torch.Tensor:
    """Turn image i by quarters[i] times 90° in the plane of its last two axes.

    By half turns only where these axes differ in length.
    """
    chosen = quarters.view((-1,) + (1,) * (x.ndim - 1))
    if x.shape[-1] == x.shape[-2]:
        x = torch.where(chosen % 2 == 1, x.rot90(1, (-2, -1)), x)
    return torch.where(chosen >= 2, x.flip(-2, -1), x)


def warp(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Flip, rotate, scale, crop, translate and bend in one linear interpolation.

    Beyond the border the nearest pixel goes on. Sizes are taken in pixels, so that a
    rotation stays one in images that are not square.

    Parameters
    ----------
    x : torch.Tensor of shape (n, C, *spatial)
        Images.
    params : dict of str to torch.Tensor
        "flip" (n, d), "angle" (n, planes), "translation" (n, d) as a share of half the
        axis, "scale" (n,); and where wanted "elastic" (n, d, *nodes), displacements of
        the nodes of a coarse grid as a share of half the axis.

    Returns
    -------
    torch.Tensor of shape (n, C, *spatial)
        Channels last in memory.
    """
    matrix = _matrix(x.shape[2:], params)
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    if "elastic" in params:
        grid = grid + _displacement(params["elastic"], x.shape[2:])
    memory = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    warped = grid_sample(x, grid, padding_mode="border", align_corners=False)
    return warped.contiguous(memory_format=memory)


def _displacement(nodes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Displacement of every pixel, smooth between the nodes, last axis first."""
    flat = _flat(size, nodes.device)
    nodes = nodes.masked_fill(flat.view(1, -1, *[1] * len(size)), 0.0)
    # There is no cubic interpolation of volumes.
    mode = "bicubic" if len(size) == 2 else "trilinear"
    dense = interpolate(nodes.flip(1), list(size), mode=mode, align_corners=True)
    return dense.movedim(1, -1)


def _matrix(size: Sequence[int], params: Params) -> torch.Tensor:
    """Output-to-input matrices of shape (n, d, d + 1) in [-1, 1], last axis first."""
    n, dims = params["flip"].shape
    device = params["angle"].device
    linear = torch.eye(dims, device=device).repeat(n, 1, 1)
    for k, (a, b) in enumerate(combinations(range(dims), 2)):
        if size[a] > 1 and size[b] > 1:
            linear = linear @ _plane_rotation(params["angle"][:, k], a, b, dims)
    flat = _flat(size, device)
    factor = params["scale"][:, None].masked_fill(flat, 1.0)
    sign = 1.0 - 2.0 * (params["flip"] & ~flat)
    # Diagonals on the right act first: flip and scale, then rotate, then shift.
    linear = linear * (sign / factor)[:, None, :]
    length = constant(tuple(size), torch.float32, device)
    linear = linear * length[None, None, :] / length[None, :, None]
    offset = params["translation"].masked_fill(flat, 0.0)
    matrix = torch.cat([linear, offset[:, :, None]], dim=2)
    # grid_sample counts axes from the last, we from the first.
    return torch.cat([matrix[:, :, :dims].flip(1, 2), matrix[:, :, dims:].flip(1)], 2)


def _flat(size: Sequence[int], device: torch.device) -> torch.Tensor:
    """Which axes have a single pixel, and are not to be touched."""
    return constant(tuple(s == 1 for s in size), torch.bool, device)


def _plane_rotation(angle: torch.Tensor, a: int, b: int, dims: int) -> torch.Tensor:
    rotation = torch.eye(dims, device=angle.device).repeat(len(angle), 1, 1)
    cos, sin = angle.cos(), angle.sin()
    rotation[:, a, a], rotation[:, b, b] = cos, cos
    rotation[:, a, b], rotation[:, b, a] = -sin, sin
    return rotation
