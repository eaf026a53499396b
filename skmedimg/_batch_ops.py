"""Pure functions of a batch tensor (k, C, *spatial), on whatever device it is.

Sizes are read from the shape, never from the pixels, so that the same functions can be
traced into a graph.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import interpolate, pad


def window(
    x: torch.Tensor,
    centre: float,
    width: float,
    function: str = "LINEAR",
    out_range: tuple[float, float] = (0.0, 1.0),
) -> torch.Tensor:
    """Map values through a window; see `skmedimg._windows.apply_window`."""
    low, high = out_range
    if function == "SIGMOID":
        unit = torch.sigmoid(4 * (x - centre) / width)
    elif function == "LINEAR_EXACT":
        unit = ((x - centre) / width + 0.5).clamp(0, 1)
    elif width == 1:
        unit = (x - centre > -0.5).to(x.dtype)
    else:
        unit = ((x - centre + 0.5) / (width - 1) + 0.5).clamp(0, 1)
    return unit * (high - low) + low


def standardise(
    x: torch.Tensor, mask_threshold: float | None = None, per_channel: bool = False
) -> torch.Tensor:
    """Mean 0 and standard deviation 1 of each image over the pixels that count."""
    rows, counts = _rows(x, mask_threshold, per_channel)
    n = counts.sum(-1, keepdim=True)
    centred = rows - (rows * counts).sum(-1, keepdim=True) / n
    variance = (centred**2 * counts).sum(-1, keepdim=True) / n
    low, high = _percentiles(rows, counts, (0.0, 100.0))
    # Exactly constant, and not by the variance, which rounding keeps from zero.
    std = torch.where(high > low, variance.sqrt(), 1.0)
    return (centred / std).reshape(x.shape)


def rescale(
    x: torch.Tensor,
    percentiles: tuple[float, float] = (0.0, 100.0),
    mask_threshold: float | None = None,
    per_channel: bool = False,
) -> torch.Tensor:
    """Two percentiles of each image become 0 and 1; what lies beyond is clipped."""
    rows, counts = _rows(x, mask_threshold, per_channel)
    low, high = _percentiles(rows, counts, percentiles)
    width = torch.where(high > low, high - low, 1.0)
    return ((rows - low) / width).clamp(0, 1).reshape(x.shape)


def _rows(
    x: torch.Tensor, mask_threshold: float | None, per_channel: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels as (k, C or 1, p), and which of them count: all, if otherwise none did."""
    rows = x.flatten(2) if per_channel else x.flatten(1).unsqueeze(1)
    if mask_threshold is None:
        return rows, torch.ones_like(rows, dtype=torch.bool)
    counts = rows > mask_threshold
    return rows, counts | ~counts.any(-1, keepdim=True)


def _percentiles(
    rows: torch.Tensor, counts: torch.Tensor, percentiles: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Percentiles of the pixels that count, linear between neighbours."""
    infinity = torch.tensor(torch.inf, dtype=rows.dtype, device=rows.device)
    if percentiles == (0.0, 100.0):
        low = torch.where(counts, rows, infinity).amin(-1, keepdim=True)
        return low, torch.where(counts, rows, -infinity).amax(-1, keepdim=True)
    # torch.quantile refuses more than 16 million values, and knows no mask.
    ordered = torch.where(counts, rows, infinity).sort(-1).values
    last = counts.sum(-1, keepdim=True) - 1
    found = []
    for percentile in percentiles:
        position = last.double() * (percentile / 100)
        below = position.floor().long()
        above = torch.minimum(below + 1, last)
        a, b = ordered.gather(-1, below), ordered.gather(-1, above)
        found.append(a + (b - a) * (position - below).to(rows.dtype))
    return found[0], found[1]


def resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear interpolation, antialiased where images shrink.

    The same numbers as `skmedimg.images.resize`, which takes ndarrays.
    """
    size = tuple(size)
    if tuple(x.shape[2:]) == size:
        return x
    if len(size) == 2:
        return interpolate(x, size, mode="bilinear", antialias=True)
    # Linear interpolation of volumes has no antialiasing: average first.
    smaller = [min(s, t) for s, t in zip(x.shape[2:], size, strict=True)]
    return interpolate(interpolate(x, smaller, mode="area"), size, mode="trilinear")


def fit_into(
    x: torch.Tensor,
    size: Sequence[int],
    fill: float | None = None,
    align: Sequence[float] | None = None,
) -> torch.Tensor:
    """Resize with the aspect kept and pad to `size`.

    Parameters
    ----------
    x : torch.Tensor of shape (k, C, *spatial)
        Images.
    size : sequence of int
        Pixels along each spatial axis.
    fill : float, default=None
        Value of the padding; None takes the smallest of each image.
    align : sequence of float, default=None
        Where the image lies along each axis: 0 at its begin, 1 at its end; None
        centres it.

    Returns
    -------
    torch.Tensor of shape (k, C, *size)
        A new batch.
    """
    ratio = min(t / s for s, t in zip(x.shape[2:], size, strict=True))
    inner = [
        min(t, max(1, round(s * ratio))) for s, t in zip(x.shape[2:], size, strict=True)
    ]
    x = resize(x, inner)
    if inner == list(size):
        return x
    before = [
        int((t - s) * a)
        for s, t, a in zip(inner, size, align or [0.5] * len(inner), strict=True)
    ]
    sides: list[int] = []  # torch counts axes from the last
    for s, t, b in reversed(list(zip(inner, size, before, strict=True))):
        sides += [b, t - s - b]
    if fill is not None:
        return pad(x, sides, value=fill)
    inside = pad(torch.ones_like(x, dtype=torch.bool), sides)
    darkest = x.amin(tuple(range(1, x.ndim)), keepdim=True)
    return torch.where(inside, pad(x, sides), darkest)


def equalise(
    x: torch.Tensor, clip_limit: float, tiles: Sequence[int], n_bins: int = 256
) -> torch.Tensor:
    """Contrast-limited adaptive histogram equalisation of (k, C, H, W), into [0, 1]."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    varied = high > low
    unit = (x - low) / torch.where(varied, high - low, 1.0)
    level = (unit * (n_bins - 1)).round().long().flatten(0, 1)
    rows, columns = (
        _tiles_of_axis(s, t, x.device) for s, t in zip(x.shape[2:], tiles, strict=True)
    )
    image = torch.arange(len(level), device=x.device)[:, None, None]
    curves = _tile_curves(level, image, rows[0], columns[0], clip_limit, tiles, n_bins)
    result = torch.zeros_like(unit).flatten(0, 1)
    for row, row_share in ((rows[1], 1 - rows[3]), (rows[2], rows[3])):
        for column, share in ((columns[1], 1 - columns[3]), (columns[2], columns[3])):
            mapped = curves[image, row[:, None], column[None, :], level]
            result += row_share[:, None] * share[None, :] * mapped
    return result.reshape(x.shape) * varied


def _tile_curves(
    level: torch.Tensor,
    image: torch.Tensor,
    row: torch.Tensor,
    column: torch.Tensor,
    clip_limit: float,
    tiles: Sequence[int],
    n_bins: int,
) -> torch.Tensor:
    """Clipped cumulative histogram of every tile, (k, rows, columns, n_bins)."""
    shape = (len(level), *tiles, n_bins)
    tile = (image * tiles[0] + row[:, None]) * tiles[1] + column[None, :]
    counted = torch.bincount(
        (tile * n_bins + level).flatten(), minlength=torch.Size(shape).numel()
    )
    histogram = counted.reshape(shape).to(torch.float32)
    area = histogram.sum(-1, keepdim=True)
    limit = (clip_limit * area / n_bins).clamp(min=1)
    excess = (histogram - limit).clamp(min=0).sum(-1, keepdim=True)
    histogram = torch.minimum(histogram, limit) + excess / n_bins
    return histogram.cumsum(-1) / area


def _tiles_of_axis(length: int, n_tiles: int, device: torch.device) -> tuple:
    """For each pixel: its tile, the tiles whose centres it lies between, the share."""
    pixel = torch.arange(length, device=device)
    own = pixel * n_tiles // length
    ends = -(-torch.arange(n_tiles + 1, device=device) * length // n_tiles)
    centre = (ends[:-1] + ends[1:] - 1) / 2
    after = torch.searchsorted(centre, pixel.to(centre.dtype), right=True)
    before = (after - 1).clamp(min=0)
    after = after.clamp(max=n_tiles - 1)
    gap = centre[after] - centre[before]
    share = (pixel - centre[before]) / torch.where(gap > 0, gap, 1.0)
    return own, before, after, torch.where(gap > 0, share, 0.0)
