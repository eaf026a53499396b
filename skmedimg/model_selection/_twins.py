"""Finds images that are copies of one another, exact or nearly so.

An image is described by its lowest frequencies, which survive a change of size, of
brightness and contrast, and a lossy compression. Mirroring an axis changes signs among
these numbers, and exchanging axes their order. Their magnitudes, sorted within each set
of exchanged frequencies, are thus the same for all copies, and one matrix product finds
the pairs worth a closer look, without missing any.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from skmedimg._intensity import digest_of, finite_images, where_not_finite
from skmedimg.images import ImageArray

# Frequencies along an axis, by number of axes. Finer ones are lost to JPEG and to
# halving the size of small images; fewer do not tell organs of like shape apart.
_FREQUENCIES = {2: 10, 3: 8}
# Features of the first look. More dismiss more pairs at once and cost more; smooth
# volumes need all.
_COARSE = {2: 64, 3: 8**3}
_ROWS, _COLUMNS = 1024, 8192
_PAIRS_AT_ONCE = 1 << 15
# Of a product in single precision.
_ROUNDING = 1e-4

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass
class Descriptions:
    """What is known of n images, to find copies among them."""

    digest: np.ndarray  # (n, 2) uint64, content hash
    spectrum: np.ndarray  # (n, K, K) or (n, K, K, K), of unit norm, or 0 if constant

    def __add__(self, other: "Descriptions") -> "Descriptions":
        return Descriptions(
            np.concatenate([self.digest, other.digest]),
            np.concatenate([self.spectrum, other.spectrum]),
        )


@dataclass
class Twins:
    """Pairs of distinct images that are alike, closest first."""

    first: np.ndarray  # (m,) int
    second: np.ndarray  # (m,) int
    correlation: np.ndarray  # (m,)
    change: np.ndarray  # (m,) str, what makes the second of the first
    change_back: np.ndarray  # (m,) str, and the first of the second
    n_found: int  # pairs that there are; more than m where only the closest were kept


def describe(images: ImageArray) -> Descriptions:
    """Hash and spectrum of every image, in one pass.

    Raises
    ------
    ValueError
        If a value is not finite; says how many and where.
    """
    digests: list[np.ndarray] = []
    spectra: list[np.ndarray] = []
    for part in images.chunks():
        chunk = np.ascontiguousarray(images.take(part))
        if not finite_images(chunk).all():
            raise ValueError(where_not_finite(images))
        digests.extend(digest_of(image) for image in chunk)
        spectra.append(_spectrum(chunk))
    return Descriptions(np.array(digests), np.concatenate(spectra))


def _spectrum(chunk: np.ndarray) -> np.ndarray:
    """Lowest frequencies of each image, weighted as in its edges, of unit norm.

    Parameters
    ----------
    chunk : ndarray of shape (k, C, *spatial)
        Images, whose channels are averaged.

    Returns
    -------
    ndarray of shape (k, K, K) or (k, K, K, K)
        Coefficients of the cosine transform times their frequency: those of the
        gradient. Neighbouring pixels are alike in all images; their edges are not.
    """
    x = chunk.astype(np.float32).mean(axis=1)
    # From zero, a constant image leaves no rounding that could pass for a structure; to
    # one, the squares of no unit leave single precision.
    axes = tuple(range(1, x.ndim))
    x -= x.min(axis=axes, keepdims=True)
    high = x.max(axis=axes, keepdims=True)
    np.divide(x, high, out=x, where=high > 0)
    count = _FREQUENCIES[x.ndim - 1]
    for _ in range(x.ndim - 1):
        # Each axis in turn is the last one, and then the first of the image.
        x = np.moveaxis(x @ _cosines(x.shape[-1], count), -1, 1)
    x *= np.sqrt((np.indices(x.shape[1:]) ** 2).sum(0), dtype=np.float32)
    flat = x.reshape(len(x), -1)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    np.divide(flat, norm, out=flat, where=norm > 0)
    return flat.reshape(x.shape)


def _cosines(length: int, count: int) -> np.ndarray:
    """Orthonormal cosines of the lowest frequencies, of shape (length, count)."""
    at = (np.arange(length)[:, np.newaxis] + 0.5) / length
    basis = np.cos(np.pi * at * np.arange(count)) * np.sqrt(2 / length)
    basis[:, 0] /= np.sqrt(2)
    # An axis of few pixels has no higher frequencies.
    basis[:, length:] = 0
    return basis.astype(np.float32)


def find_twins(
    spectrum: np.ndarray,
    threshold: float,
    most: int,
    wanted: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Twins:
    """Find pairs whose spectra correlate, whichever way one of them is turned.

    Parameters
    ----------
    spectrum : ndarray of shape (n, K, …)
        Of distinct images.
    threshold : float
        Least correlation of a pair, above 0.
    most : int
        How many pairs to keep; beyond, the closest are kept.
    wanted : callable
        Gets two index arrays, and tells which of these pairs matter.

    Returns
    -------
    Twins
        Pairs, the first with the lower index.
    """
    kept, n_found = np.empty((4, 0)), 0
    for first, second in _candidates(_coarse(spectrum), threshold):
        matters = wanted(first, second)
        first, second = first[matters], second[matters]
        correlation, code = _compare(spectrum[first], spectrum[second])
        near = correlation >= threshold
        n_found += int(near.sum())
        new = np.stack([first, second, correlation, code])[:, near]
        kept = np.concatenate([kept, new], axis=1)
        if kept.shape[1] > 2 * most:
            kept = _closest(kept, most)
    first, second, correlation, code = _closest(kept, most)
    names = np.array(_names(spectrum.ndim - 1))
    change = code.astype(int)
    return Twins(
        first=first.astype(int),
        second=second.astype(int),
        correlation=correlation,
        change=names[change],
        change_back=names[_inverses(spectrum.ndim - 1)[change]],
        n_found=n_found,
    )


def _closest(pairs: np.ndarray, most: int) -> np.ndarray:
    first, second, correlation, _ = pairs
    return pairs[:, np.lexsort((second, first, -correlation))[:most]]


def _coarse(spectrum: np.ndarray) -> np.ndarray:
    """Unit vectors whose product is never below the best correlation of two images.

    Magnitudes, and sorting, bring two vectors closer together or leave them; so does
    taking the norm of all that is not among the lowest frequencies (Cauchy-Schwarz).
    """
    n_axes, size = spectrum.ndim - 1, spectrum.shape[1]
    ordered = [
        index for index in product(range(size), repeat=n_axes)
        if list(index) == sorted(index) and any(index)
    ]  # fmt: skip
    ordered.sort(key=lambda index: sum(u**2 for u in index))
    flat = spectrum.reshape(len(spectrum), -1)
    features: list[np.ndarray] = []
    for index in ordered:
        orbit = np.array(sorted(set(permutations(index)))).T
        at = np.ravel_multi_index(tuple(orbit), spectrum.shape[1:])
        features.extend(np.sort(np.abs(flat[:, at]), axis=1).T)
    found = np.stack(features, axis=1)
    kept = _COARSE[n_axes] - 1
    rest = np.linalg.norm(found[:, kept:], axis=1, keepdims=True)
    return np.concatenate([found[:, :kept], rest], axis=1)


def _candidates(features: np.ndarray, threshold: float) -> Iterator[Pairs]:
    """Pairs whose features have a product of at least `threshold`, in parts."""
    n = len(features)
    for top in range(0, n, _ROWS):
        rows = features[top : top + _ROWS]
        for left in range(top, n, _COLUMNS):
            columns = features[left : left + _COLUMNS]
            high = rows @ columns.T >= threshold - _ROUNDING
            first, second = np.divmod(np.flatnonzero(high), len(columns))
            first, second = first + top, second + left
            above = first < second
            first, second = first[above], second[above]
            for start in range(0, len(first), _PAIRS_AT_ONCE):
                part = slice(start, start + _PAIRS_AT_ONCE)
                yield first[part], second[part]


def _changes(n_axes: int) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Orders of the axes, and which of them are then mirrored; none of it first."""
    orders = permutations(range(n_axes))
    return list(product(orders, product((False, True), repeat=n_axes)))


def _names(n_axes: int) -> list[str]:
    """What each change does, all of them as they are, then all inverted."""
    axes = "DHW"[-n_axes:]
    names = []
    for order, mirrored in _changes(n_axes):
        words = []
        if list(order) != sorted(order):
            words.append("axes " + " ".join(axes[i] for i in order))
        if any(mirrored):
            flipped = (a for a, m in zip(axes, mirrored, strict=True) if m)
            words.append("mirrored " + " ".join(flipped))
        names.append(", ".join(words))
    return [name or "none" for name in names] + [
        f"{name}, inverted" if name else "inverted" for name in names
    ]


def _inverses(n_axes: int) -> np.ndarray:
    """Number of the change that takes each change back."""
    changes = _changes(n_axes)
    found = []
    for order, mirrored in changes:
        back = tuple(order.index(axis) for axis in range(n_axes))
        found.append(changes.index((back, tuple(mirrored[axis] for axis in back))))
    return np.array(found + [len(changes) + number for number in found])


def _compare(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greatest absolute correlation over all changes, and the number of the change."""
    n_pairs, n_axes = len(first), first.ndim - 1
    sign = (-1.0) ** np.indices(first.shape[1:])
    mirrors = [
        np.prod(sign[list(mirrored)], axis=0).ravel()
        for mirrored in product((False, True), repeat=n_axes)
    ]
    signs = np.stack(mirrors, axis=1).astype(np.float32)
    found = [
        (first.transpose(0, *order) * second).reshape(n_pairs, len(signs)) @ signs
        for order in permutations(range(1, n_axes + 1))
    ]
    correlation = np.concatenate(found, axis=1)
    code = np.abs(correlation).argmax(axis=1)
    best = correlation[np.arange(n_pairs), code]
    code += correlation.shape[1] * (best < 0)
    return np.minimum(np.abs(best), 1.0), code
