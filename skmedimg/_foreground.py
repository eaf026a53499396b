"""Where the body is in an image: thresholds, components, bounding boxes."""

import numpy as np
from scipy import ndimage

_BINS = 256


def otsu_threshold(image: np.ndarray) -> float:
    """Threshold that separates two classes of pixels best.

    Parameters
    ----------
    image : ndarray of any shape
        Pixels.

    Returns
    -------
    float
        In the unit of the pixels; in the middle of those that are equally good.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE
    Transactions on Systems, Man, and Cybernetics 9:62, 1979.
    """
    counts, edges = _histogram(image)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.where((below > 0) & (above > 0), below * above * distance**2, 0)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + best].mean())


def triangle_threshold(image: np.ndarray) -> float:
    """Threshold at the foot of the dark peak of a histogram with a long bright tail.

    Parameters
    ----------
    image : ndarray of any shape
        Pixels, most of them background.

    Returns
    -------
    float
        In the unit of the pixels.

    References
    ----------
    G. W. Zack et al., "Automatic measurement of sister chromatid exchange frequency",
    Journal of Histochemistry & Cytochemistry 25:741, 1977.
    """
    counts, edges = _histogram(image)
    peak, last = int(counts.argmax()), int(np.flatnonzero(counts)[-1])
    if peak == last:
        return otsu_threshold(image)
    line = np.linspace(counts[peak], counts[last], last - peak + 1)
    # Vertical distance: perpendicular ones differ from it by a constant factor.
    foot = peak + int((line - counts[peak : last + 1]).argmax())
    return float(edges[foot + 1] if foot == peak else edges[foot])


def _histogram(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.histogram(image.astype(np.float64), bins=_BINS)


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Smallest box around the true pixels, widened by `margin`; all if none is."""
    if not mask.any():
        return tuple(slice(0, length) for length in mask.shape)
    box = []
    for axis, length in enumerate(mask.shape):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        seen = np.flatnonzero(mask.any(others))
        start, stop = int(seen[0]) - margin, int(seen[-1]) + 1 + margin
        box.append(slice(max(0, start), min(length, stop)))
    return tuple(box)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Pixels of the largest connected component (neighbours share a side)."""
    labels, n = ndimage.label(mask)
    if n < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()
