"""Drawing of an organ in fat, with vessels, dots and lesions, in whole batches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft
from scipy.special import expit

# What a pixel shows; of what overlaps, the last.
BACKGROUND, ORGAN, VESSEL, LESION = range(4)

_HU_RANGE = (-1024, 3071)
_N_VESSELS = 4
_N_DOTS = 3
# Pixels drawn at a time: the temporaries stay in the caches and out of the memory bill.
_BATCH_PIXELS = 1 << 18


def draw(
    rng: np.random.Generator,
    patient: np.ndarray,
    diseased: np.ndarray,
    size: tuple[int, ...],
    contrast: float,
    vessel_radii: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of all patients, some patients at a time, and what they show.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of everything drawn.
    patient : ndarray of shape (n,), int
        Patient of each image, numbered from 0, in order and without gaps.
    diseased : ndarray of shape (n,), bool
        Where to show a lesion.
    size : tuple of int
        Pixels along every axis.
    contrast : float
        That of a lesion, in HU.
    vessel_radii : tuple (min, max)
        Range of the radii of vessels, as fractions of the shortest axis.

    Returns
    -------
    images : ndarray of shape (n, *size), int16
        In HU.
    labels : ndarray of shape (n, *size), uint8
        `BACKGROUND`, `ORGAN`, `VESSEL` or `LESION` for each pixel.
    """
    images = np.empty((len(patient), *size), np.int16)
    labels = np.empty((len(patient), *size), np.uint8)
    n_patients = patient[-1] + 1
    first_image = np.searchsorted(patient, np.arange(n_patients + 1))
    most_pixels = int(np.diff(first_image).max() * np.prod(size))
    step = max(1, _BATCH_PIXELS // most_pixels)
    for first in range(0, n_patients, step):
        last = min(first + step, n_patients)
        rows = slice(first_image[first], first_image[last])
        images[rows], labels[rows] = _draw_patients(
            rng, patient[rows] - first, diseased[rows], size, contrast, vessel_radii
        )
    return images, labels


def _draw_patients(
    rng: np.random.Generator,
    patient: np.ndarray,
    diseased: np.ndarray,
    size: tuple[int, ...],
    contrast: float,
    vessel_radii: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images and labels of a few patients, numbered from 0 in order.

    Lesions are drawn for everyone and shown in the diseased only, so that neither
    `prevalence` nor `difficulty` moves anything else.
    """
    n_patients, d, scale = patient[-1] + 1, len(size), min(size)

    def own(low: float, high: float, *shape: int) -> np.ndarray:
        """Draw what the images of a patient have in common."""
        return rng.uniform(low, high, (n_patients, *shape))[patient]

    semi_axes = own(0.36, 0.5, d) * size
    shift = rng.normal(scale=0.02 * scale, size=(len(patient), d))
    organ = _Organ(size, (np.array(size) - 1) / 2 + shift, semi_axes)
    anatomy = _texture(rng, size, np.full((n_patients, d), 0.25 * scale))[patient]
    grain = own(0.012, 0.028, 1) * own(0.8, 1.25, d) * scale
    tissue = _spread(own(35, 85), d) + _spread(own(0, 25), d) * anatomy
    tissue += _spread(own(8, 28), d) * _texture(rng, size, grain)
    within_vessel = np.zeros(tissue.shape, bool)
    for _ in range(_N_VESSELS):
        strength, tube = _vessel(rng, organ, vessel_radii)
        tissue += contrast * (strength * tube)
        within_vessel |= (strength > 0) & (tube > 0.5)
    for _ in range(_N_DOTS):
        tissue += contrast * _dot(rng, organ)
    lesion = _lesion(rng, organ) * _spread(diseased, d)
    tissue += contrast * lesion
    fat = _spread(own(-110, -90), d)
    boundary = np.sqrt(organ.squares(organ.centre, semi_axes)) + 0.06 * anatomy
    # About two pixels of partial volume where organ and fat meet.
    image = fat + expit((1 - boundary) * (scale / 2)) * (tissue - fat)
    noise = rng.standard_normal(image.shape, np.float32)
    image += _spread(own(15, 30), d) * noise
    labels = np.where(boundary < 1, ORGAN, BACKGROUND)
    labels[within_vessel & (labels == ORGAN)] = VESSEL
    labels[lesion > 0.5] = LESION
    return np.rint(np.clip(image, *_HU_RANGE)), labels


@dataclass(frozen=True)
class _Organ:
    """The pixels of n images, and the ellipsoid in them that holds the organ."""

    size: tuple[int, ...]
    centre: np.ndarray  # (n, d) pixels
    semi_axes: np.ndarray  # (n, d) pixels

    def offsets(self, at: np.ndarray) -> list[np.ndarray]:
        """Signed distances of all pixels from points of shape (n, d), axis by axis."""
        d = len(self.size)
        axes = np.ogrid[tuple(slice(0.0, k) for k in self.size)]
        return [
            axis.astype(np.float32) - _spread(at[:, i], d)
            for i, axis in enumerate(axes)
        ]

    def squares(self, at: np.ndarray, unit: Any = 1.0) -> np.ndarray:
        """Squared distances of all pixels from such points, in a unit an axis."""
        unit = np.broadcast_to(unit, at.shape)
        terms = [
            np.square(offset / _spread(unit[:, i], len(self.size)))
            for i, offset in enumerate(self.offsets(at))
        ]
        return sum(terms[1:], terms[0])

    def points_inside(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a point of the inner organ for each image, far enough from its rim."""
        direction = _directions(rng, self.centre.shape)
        n, d = direction.shape
        return (
            self.centre
            + 0.6 * rng.random((n, 1)) ** (1 / d) * direction * self.semi_axes
        )


def _lesion(rng: np.random.Generator, organ: _Organ) -> np.ndarray:
    """Soft irregular blob in each image: 1 within, 0 outside."""
    n, d = organ.centre.shape
    # On a pixel's centre, so that the mask of the smallest lesion is not empty.
    at = np.rint(organ.points_inside(rng))
    radius = min(organ.size) * rng.uniform(0.085, 0.125, (n, 1))
    wobble = _texture(rng, organ.size, np.full((n, d), 0.05 * min(organ.size)))
    distance = np.sqrt(organ.squares(at, radius)) + 0.25 * np.clip(wobble, -2, 2)
    return expit((1 - distance) / 0.12)


def _dot(rng: np.random.Generator, organ: _Organ) -> np.ndarray:
    """Small round bright spot, sharper than a lesion, in half of the images."""
    n, d = organ.centre.shape
    radius = min(organ.size) * rng.uniform(0.025, 0.045, (n, 1))
    strength = rng.uniform(0.8, 1.6, n) * (rng.random(n) < 0.5)
    distance = np.sqrt(organ.squares(organ.points_inside(rng), radius))
    return _spread(strength, d) * expit((1 - distance) / 0.2)


def _vessel(
    rng: np.random.Generator, organ: _Organ, radii: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Bent tube with soft ends: strength, 0 in half of the images, and shape."""
    n, d = organ.centre.shape
    at = organ.points_inside(rng)
    along, across = _directions(rng, (n, d)), _directions(rng, (n, d))
    across -= (across * along).sum(axis=1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    width = _spread(min(organ.size) * rng.uniform(*radii, n), d)
    half_length = _spread(min(organ.size) * rng.uniform(0.15, 0.35, n), d)
    bend = _spread(rng.uniform(0, 1.5, n) / min(organ.size), d)
    strength = rng.uniform(0.6, 2.0, n) * (rng.random(n) < 0.5)
    offsets = organ.offsets(at)
    t = sum(_spread(along[:, i], d) * offset for i, offset in enumerate(offsets))
    s = sum(_spread(across[:, i], d) * offset for i, offset in enumerate(offsets))
    # The axis is the parabola s = bend * t^2; this is the distance from it at equal t.
    sag = bend * np.square(t)
    distance = np.sqrt(np.maximum(organ.squares(at) - t * t + sag * (sag - 2 * s), 0))
    inside = expit((half_length - np.abs(t)) / width) * expit(
        (1 - distance / width) / 0.2
    )
    return _spread(strength, d), inside


def _texture(
    rng: np.random.Generator, size: tuple[int, ...], grain: np.ndarray
) -> np.ndarray:
    """Gaussian noise of unit variance, smooth over `grain` (n, d) pixels."""
    n, d = grain.shape
    axes = range(1, d + 1)
    spectrum = fft.rfftn(rng.standard_normal((n, *size), np.float32), axes=axes)
    for i, k in enumerate(size):
        transfer = np.exp(-2 * np.square(np.pi * grain[:, i, None] * fft.fftfreq(k)))
        transfer /= np.sqrt(np.square(transfer).mean(axis=1, keepdims=True))
        # The last axis of a real transform has only the first half of the frequencies.
        shape = np.ones(d, int)
        shape[i] = spectrum.shape[i + 1]
        transfer = transfer[:, : shape[i]].astype(np.float32)
        spectrum *= transfer.reshape(n, *shape)
    return fft.irfftn(spectrum, size, axes=axes)


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _spread(values: Any, spatial_dims: int) -> np.ndarray:
    """Let a value an image meet all pixels of that image."""
    return values.astype(np.float32).reshape(-1, *(1,) * spatial_dims)
