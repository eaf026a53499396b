"""How intensities are measured, decided upon at fit, and compared at predict.

One pass over the images (`measure`) yields everything fit needs to know of them: a
content hash, finiteness, ranges, sums. It is linear in the bytes and keeps a few
numbers an image.
"""

import hashlib
import warnings
from dataclasses import dataclass, fields, replace

import numpy as np

from skmedimg.images import ImageArray, ImageSpec

# Air is -1024 HU and the densest bone about 3000: beyond lies padding and metal.
_HU_RANGE = (-1024.0, 3071.0)
_AIR_AT_MOST = -200.0
_BELOW_AIR = -1200.0
# An image is odd that is so many times as wide as the median one. A larger share of
# them is a scanner of its own, a smaller one are artefacts, markers and the like.
_ODD_WIDTH = 3.0
_ODD_SHARE = 0.05
_TAILS = (0.5, 99.5)
_TAIL_SAMPLE = 4096
_PATTERN_BLOCKS = 8
# Mean correlation of training images with the mean one from which they are alike.
_CLEAR_PATTERN = 0.3
# So many images tell what the mean one looks like.
_PATTERN_IMAGES = 1024


@dataclass
class Measures:
    """What one pass over n images tells of each of them."""

    digest: np.ndarray  # (n, 2) uint64, content hash of the canonical image
    low: np.ndarray  # (n,)
    high: np.ndarray  # (n,)
    tails: np.ndarray  # (n, 2), .5 and 99.5 percentiles
    total: np.ndarray  # (n, C), sum
    squares: np.ndarray  # (n, C), sum of squares

    @classmethod
    def empty(cls, n: int, channels: int) -> "Measures":
        """Room for those of n images: little beside the images themselves."""
        return cls(
            digest=np.empty((n, 2), dtype=np.uint64),
            low=np.empty(n, dtype=np.float32),
            high=np.empty(n, dtype=np.float32),
            tails=np.empty((n, 2)),
            total=np.empty((n, channels)),
            squares=np.empty((n, channels)),
        )

    def __getitem__(self, rows: np.ndarray) -> "Measures":
        return Measures(*(getattr(self, f.name)[rows] for f in fields(self)))


def measure(images: ImageArray) -> Measures:
    """Hash, range, tails and sums of every image.

    Raises
    ------
    ValueError
        If a value is NaN, infinite, or too large for float32; says how many and where.
    """
    measures = Measures.empty(len(images), images.spec.channels)
    for part in images.chunks():
        for name, values in _measure_chunk(images.take(part), images.spec).items():
            getattr(measures, name)[part] = values
    if not np.isfinite(measures.total).all():
        raise ValueError(where_not_finite(images))
    return measures


def finite_images(chunk: np.ndarray) -> np.ndarray:
    """Whether all values of each image are finite in single precision, shape (k,)."""
    if chunk.dtype.kind != "f":
        return np.ones(len(chunk), dtype=bool)
    with np.errstate(over="ignore"):
        single = chunk.astype(np.float32, copy=False)
    return np.logical_and.reduce(np.isfinite(single).reshape(len(chunk), -1), axis=1)


def _measure_chunk(chunk: np.ndarray, spec: ImageSpec) -> dict[str, np.ndarray]:
    chunk = np.ascontiguousarray(chunk)
    chunk = chunk.astype(chunk.dtype.newbyteorder("="), copy=False)
    n, channels = chunk.shape[:2]
    with np.errstate(over="ignore", invalid="ignore"):
        x = chunk.astype(np.float32)
        flat = x.reshape(n, -1)
        low, high = flat.min(1), flat.max(1)
        # In single precision the variance of 30,000 ± 1 would be mostly rounding.
        rows = x.astype(np.float64).reshape(n, channels, -1)
        total = rows.sum(-1)
        # 8 bits have one scale, unless the images of fit had many.
        wanted = chunk.dtype.itemsize > 1 or spec.intensity == "percentile"
        finite = bool(np.isfinite(total).all())
        tails = tails_of(chunk) if wanted and finite else np.zeros((n, 2))
        squares = np.square(rows, out=rows).sum(-1)
    return {
        "digest": np.array([digest_of(image) for image in chunk]).reshape(n, 2),
        "low": low,
        "high": high,
        "tails": tails,
        "total": total,
        "squares": squares,
    }


def digest_of(image: np.ndarray) -> np.ndarray:
    """Content hash of one image, as two numbers."""
    hashed = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    return np.frombuffer(hashed, dtype="<u8")


def tails_of(chunk: np.ndarray) -> np.ndarray:
    """.5 and 99.5 percentile of each image, of shape (k, 2), from a regular sample."""
    flat = chunk.reshape(len(chunk), -1)
    # An odd step does not stay in the columns of an image of even width.
    step = max(1, flat.shape[1] // _TAIL_SAMPLE) | 1
    sample = flat[:, ::step].astype(np.float64)
    return np.percentile(sample, _TAILS, axis=1).T


def patterns_of(images: ImageArray, rows: np.ndarray) -> np.ndarray:
    """Coarse patterns, of shape (k, blocks), of the first 1024 images at `rows`."""
    rows = rows[:_PATTERN_IMAGES]
    parts = np.array_split(rows, -(-len(rows) // images.chunk_length()))
    return np.concatenate([_pattern(images.take(p).astype(np.float32)) for p in parts])


def _pattern(x: np.ndarray) -> np.ndarray:
    """Means over at most 8 blocks along each spatial axis, all channels together."""
    coarse = x.mean(1) if x.shape[1] > 1 else x[:, 0]
    for axis in range(1, coarse.ndim):
        length = coarse.shape[axis]
        blocks = min(_PATTERN_BLOCKS, length)
        edges = np.arange(blocks) * length // blocks
        sums = np.add.reduceat(coarse, edges, axis=axis)
        sizes = np.diff(edges, append=length).astype(np.float32)
        coarse = sums / sizes.reshape((-1,) + (1,) * (coarse.ndim - axis - 1))
    return coarse.reshape(len(x), -1)


def where_not_finite(images: ImageArray) -> str:
    """Say how many values are not finite, and where the first one is."""
    finite = [finite_images(images.take(part)) for part in images.chunks()]
    bad = np.flatnonzero(~np.concatenate(finite))
    first, n_nan, n_infinite = None, 0, 0
    for i in bad:
        image = images.source[int(i)]
        nan, infinite = np.isnan(image), np.isinf(image)
        n_nan, n_infinite = n_nan + int(nan.sum()), n_infinite + int(infinite.sum())
        if first is None and (nan | infinite).any():
            first = (int(i), *map(int, np.argwhere(nan | infinite)[0]))
    if first is None:
        return (
            f"X[{bad[0]}] holds a value too large for float32 (the largest is 3.4e38): "
            "infinity after conversion. Rescale the images."
        )
    return (
        f"X contains {n_nan} NaN and {n_infinite} infinite values (inf) in {len(bad)} "
        f"of {len(images)} images, the first at X{list(first)}. Replace them, for "
        "example by numpy.nan_to_num, or drop these images."
    )


def fit_intensity(
    images: ImageArray, rows: np.ndarray, measures: Measures, weight: np.ndarray
) -> ImageSpec:
    """Decide how intensities are brought to one scale, from the weighted images alone.

    Parameters
    ----------
    images : ImageArray
        All images.
    rows : ndarray of shape (m,)
        The distinct ones that count, in the order of their hashes: the first are then a
        random sample that no order of the rows changes.
    measures : Measures
        Of these m images.
    weight : ndarray of shape (m,)
        Their weights.

    Returns
    -------
    ImageSpec
        With `intensity`, `window`, `mean`, `std`, `value_range` and the pattern set.
    """
    spec = images.spec
    intensity, window = _choose(spec, measures)
    spec = replace(spec, intensity=intensity, window=window)
    total, squares = measures.total, measures.squares
    if intensity != "dataset":
        total, squares = _rescaled_sums(images, rows, spec, measures.tails)
    pixels = np.prod(spec.size, dtype=float)
    share = (weight / weight.sum())[:, np.newaxis]
    mean = (share * total).sum(0) / pixels
    variance = (share * squares).sum(0) / pixels - mean**2
    # A constant channel (variance zero up to rounding) is centred and left unscaled.
    flat = variance <= 1e-10 * np.maximum(mean**2, 1e-30)
    pattern, agreement = _fit_pattern(images, rows, weight, spec)
    low, high = measures.low, measures.high
    if intensity == "clipped" and window is not None:
        # An artefact is no range to compare other images with.
        inside = (low >= window[0]) & (high <= window[1])
        if inside.any():
            low, high = low[inside], high[inside]
    return replace(
        spec,
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(np.where(flat, 1.0, variance)).tolist()),
        value_range=(float(low.min()), float(high.max())),
        pattern=pattern,
        pattern_agreement=agreement,
    )


def _choose(
    spec: ImageSpec, measures: Measures
) -> tuple[str, tuple[float, float] | None]:
    if spec.tabular or np.dtype(spec.dtype).itemsize == 1:
        return "dataset", None
    if _in_hounsfield_units(measures):
        low = max(_HU_RANGE[0], float(measures.tails[:, 0].min()))
        high = min(_HU_RANGE[1], float(measures.tails[:, 1].max()))
        return ("window", (low, high)) if low < high else ("dataset", None)
    width = measures.tails[:, 1] - measures.tails[:, 0]
    reach = _ODD_WIDTH * float(np.median(width))
    odd = width > reach
    # Between 0 and 1, not in some small unit, somebody has brought them to one scale.
    on_one_scale = measures.low.min() >= 0 and measures.high.max() <= 1
    on_one_scale &= np.median(measures.high) > 0.1
    if reach == 0 or on_one_scale or not odd.any():
        return "dataset", None
    if odd.mean() > _ODD_SHARE:
        return "percentile", None
    low, high = measures.tails[~odd, 0].min(), measures.tails[~odd, 1].max()
    # With room for a rare finding that is brighter than all else.
    return "clipped", (float(min(low, high - reach)), float(max(high, low + reach)))


def _in_hounsfield_units(measures: Measures) -> bool:
    """Whether air lies hundreds below zero in most images, and next to nothing below.

    Padding of CT lies there, but is of one value. Phases and velocities of MR, signed
    as well, have a tail.
    """
    if np.median(measures.low) > _AIR_AT_MOST or measures.high.max() >= 1e5:
        return False
    tail = measures.tails[:, 0]
    return bool(np.mean((tail < _BELOW_AIR) & (tail > measures.low)) <= 0.5)


def _rescaled_sums(
    images: ImageArray, rows: np.ndarray, spec: ImageSpec, tails: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    totals, squares = [], []
    for row, tail in zip(rows, tails, strict=True):
        x = images.take(np.array([row])).astype(np.float64)
        if spec.window is not None:
            x = np.clip(x, *spec.window)
        else:
            x = (np.clip(x, *tail) - tail[0]) / (np.ptp(tail) or 1.0)
        flat = x.reshape(spec.channels, -1)
        totals.append(flat.sum(1))
        squares.append(np.square(flat).sum(1))
    return np.array(totals), np.array(squares)


def _fit_pattern(
    images: ImageArray, rows: np.ndarray, weight: np.ndarray, spec: ImageSpec
) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    if spec.tabular or len(rows) < 2:
        return (), None
    pattern = patterns_of(images, rows)
    share = weight[: len(pattern)] / weight[: len(pattern)].sum()
    mean = share @ pattern
    agreement = _agreement(pattern, mean)
    centre = float(share @ agreement)
    spread = float(np.sqrt(share @ (agreement - centre) ** 2))
    return tuple(mean.tolist()), (centre, spread)


def _agreement(pattern: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Correlation of each coarse image with the mean one; 0 for a constant one."""
    x = pattern - pattern.mean(1, keepdims=True)
    m = mean - mean.mean()
    norm = np.sqrt((x**2).sum(1) * (m**2).sum())
    return np.divide(x @ m, norm, out=np.zeros(len(x)), where=norm > 0)


class ShiftMonitor:
    """Collects the range and pattern of the images to predict; warns when far off."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        centre, _ = spec.pattern_agreement or (0.0, 0.0)
        # Only where training images share a clear pattern does its absence say much.
        self.has_pattern = centre > _CLEAR_PATTERN
        self.low, self.high = np.inf, -np.inf
        self.minima: list[np.ndarray] = []
        self.maxima: list[np.ndarray] = []
        self.agreement: list[np.ndarray] = []

    def update(self, chunk: np.ndarray) -> None:
        """Take note of a chunk of shape (k, C, *size)."""
        flat = chunk.reshape(len(chunk), -1)
        pattern = _pattern(chunk.astype(np.float32)) if self.has_pattern else None
        self.note(flat.min(1), flat.max(1), pattern)

    def note(
        self, low: np.ndarray, high: np.ndarray, pattern: np.ndarray | None
    ) -> None:
        """Take note of k images by their ranges and coarse patterns."""
        self.minima.append(low)
        self.maxima.append(high)
        ends = np.array([low.min(), high.max()], dtype=float)
        if self.spec.intensity == "window" and self.spec.window is not None:
            # Metal is clipped, and no shift of scale.
            ends = np.clip(ends, *self.spec.window)
        self.low, self.high = min(self.low, ends[0]), max(self.high, ends[1])
        if self.has_pattern and pattern is not None:
            self.agreement.append(_agreement(pattern, np.array(self.spec.pattern)))

    def warn(self) -> None:
        """Warn if values or polarity are far from those of the training images."""
        low, high = self.spec.value_range or (self.low, self.high)
        width = high - low
        shown = (
            f"X has values from {self.low:g} to {self.high:g}, the training images had "
            f"{low:g} to {high:g}"
        )
        lowest, highest = self.low, self.high
        if self.spec.intensity == "clipped":  # an artefact is no shift of scale
            lowest, highest = self._median(self.minima), self._median(self.maxima)
        too_wide = lowest < low - width or highest > high + width
        too_narrow = 0 < highest - lowest < 0.02 * width
        # Images that are scaled one by one have no common range to leave.
        common = width > 0 and self.spec.intensity != "percentile"
        if common and (too_wide or too_narrow):
            warnings.warn(
                f"{shown}: bring them to the same unit and scale first, or the "
                "predictions mean little.",
                UserWarning,
                stacklevel=4,
            )
        elif common and self._lacks_air(low, width):
            warnings.warn(
                f"{shown}; only one of the two goes far below zero. CT in Hounsfield "
                "units does, stored values do not: apply RescaleSlope and "
                "RescaleIntercept to both (skmedimg.io.read_image does).",
                UserWarning,
                stacklevel=4,
            )
        if self._inverted():
            warnings.warn(
                f"{shown}; bright and dark look exchanged (the mean images correlate "
                "negatively). Invert X if its files are MONOCHROME1, for example.",
                UserWarning,
                stacklevel=4,
            )

    def _lacks_air(self, low: float, width: float) -> bool:
        """Whether HU stand on one side and stored values on the other."""
        if self.spec.intensity == "window":
            return low <= _AIR_AT_MOST and self._median(self.minima) >= 0
        limit = min(_AIR_AT_MOST, low - 0.1 * width)
        return low >= 0 and self.low <= limit and self._median(self.minima) <= limit

    @staticmethod
    def _median(ends: list[np.ndarray]) -> float:
        return float(np.median(np.concatenate(ends)))

    def _inverted(self) -> bool:
        if not self.agreement or self.spec.pattern_agreement is None:
            return False
        centre, spread = self.spec.pattern_agreement
        agreement = np.concatenate(self.agreement)
        limit = centre - 4 * spread / np.sqrt(len(agreement))
        return agreement.mean() < min(-0.2, limit)


def windows_of(spec: ImageSpec, chunk: np.ndarray) -> np.ndarray | None:
    """Lower and upper end for each image of `chunk` where images are scaled one by one.

    Returns
    -------
    ndarray of shape (k, 2) or None
        None unless ``spec.intensity == "percentile"``.
    """
    if spec.intensity != "percentile":
        return None
    return tails_of(np.ascontiguousarray(chunk))
