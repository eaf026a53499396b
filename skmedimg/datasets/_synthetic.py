"""Synthetic medical images with known truth, drawn in whole batches."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import fft
from scipy.special import expit
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, Options, validate_params

# Contrast in HU of a lesion, and of what resembles it, at difficulty 0 and 1; geometric
# in between. Set so that the default (the geometric mean) puts a small network trained
# on 240 patients at a test AUC of about .9; see the Notes of make_lesions.
_EASY_CONTRAST = 90.0
_HARD_CONTRAST = 12.0

_FAT_HU = -100.0
_ORGAN_HU = 60.0
_HU_RANGE = (-1024, 3071)
_MAX_VESSELS = 4
_MAX_DOTS = 3
# Voxels drawn at a time: the temporaries stay in the caches and out of the memory bill.
_CHUNK_VOXELS = 1 << 19

_DESCR = """\
Synthetic lesions
-----------------
{n_images} images of {size} pixels (int16, HU) of {n_patients} patients, {n_diseased} of
them with a lesion in every image. An organ in fat, textured in a way of its own in each
patient; vessels and small bright dots in all images, a lesion (a soft irregular blob of
about {contrast:.0f} HU) in those of diseased patients. Drawn by
skmedimg.datasets.make_lesions with difficulty={difficulty:g}; no real patient is in it.
"""


@validate_params(
    {
        "n_patients": [Interval(Integral, 1, None, closed="left")],
        "images_per_patient": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "image_size": [Interval(Integral, 8, None, closed="left"), tuple, list],
        "spatial_dims": [Options(Integral, {2, 3})],
        "prevalence": [Interval(Real, 0, 1, closed="both")],
        "difficulty": [Interval(Real, 0, 1, closed="both")],
        "return_X_y": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_lesions(
    n_patients: int = 300,
    *,
    images_per_patient: int | tuple[int, int] = (2, 4),
    image_size: int | tuple[int, ...] = 48,
    spatial_dims: int = 2,
    prevalence: float = 0.5,
    difficulty: float = 0.5,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make CT-like images of an organ with and without a lesion."""
    size = _check_size(image_size, spatial_dims)
    low, high = _check_images_per_patient(images_per_patient)
    rng = _generator(random_state)
    n_diseased = _count_diseased(n_patients, prevalence)
    diseased = rng.permutation(n_patients) < n_diseased
    patient = np.repeat(
        np.arange(n_patients), rng.integers(low, high, n_patients, endpoint=True)
    )
    target = diseased[patient].astype(np.int64)
    contrast = _EASY_CONTRAST * (_HARD_CONTRAST / _EASY_CONTRAST) ** difficulty
    images, masks = _draw(rng, patient, target == 1, size, contrast)
    if return_X_y:
        return images, target
    digits = max(4, len(str(n_patients)))
    return Bunch(
        images=images,
        target=target,
        target_names=np.array(["no lesion", "lesion"]),
        groups=np.array([f"P{i + 1:0{digits}d}" for i in patient]),
        masks=masks,
        DESCR=_DESCR.format(
            n_images=len(images),
            size=" × ".join(map(str, size)),
            n_patients=n_patients,
            n_diseased=n_diseased,
            contrast=contrast,
            difficulty=difficulty,
        ),
    )


def _check_size(image_size: Any, spatial_dims: int) -> tuple[int, ...]:
    size = (image_size,) * spatial_dims if np.ndim(image_size) == 0 else image_size
    whole = all(isinstance(n, Integral) and n >= 8 for n in size)
    if len(size) != spatial_dims or not whole:
        raise ValueError(
            f"image_size={image_size!r} is not a size in {spatial_dims} dimensions: pass "
            f"one integer of at least 8 or {spatial_dims} of them, or change "
            "spatial_dims."
        )
    return tuple(map(int, size))


def _check_images_per_patient(images_per_patient: Any) -> tuple[int, int]:
    if isinstance(images_per_patient, Integral):
        return int(images_per_patient), int(images_per_patient)
    whole = all(isinstance(n, Integral) and n >= 1 for n in images_per_patient)
    if len(images_per_patient) != 2 or not whole or np.diff(images_per_patient) < 0:
        raise ValueError(
            f"images_per_patient={images_per_patient!r} is not a range: pass a positive "
            "integer, or the fewest and the most as (min, max)."
        )
    return int(images_per_patient[0]), int(images_per_patient[1])


def _generator(random_state: Any) -> np.random.Generator:
    # check_random_state(None) would draw from, and so move, NumPy's global state.
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(0, 2**32, size=4, dtype=np.uint64)
    elif random_state is np.random:
        random_state = np.random.randint(0, 2**32, size=4, dtype=np.uint64)
    return np.random.default_rng(random_state)


def _count_diseased(n_patients: int, prevalence: float) -> int:
    """Round to whole patients, one of each kind at least unless none is asked for."""
    count = round(prevalence * n_patients)
    if 0 < prevalence < 1 and n_patients > 1:
        count = min(max(count, 1), n_patients - 1)
    return count


def _draw(
    rng: np.random.Generator,
    patient: np.ndarray,
    diseased: np.ndarray,
    size: tuple[int, ...],
    contrast: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of all patients, some patients at a time."""
    images = np.empty((len(patient), *size), np.int16)
    masks = np.empty((len(patient), *size), np.uint8)
    first_image = np.searchsorted(patient, np.arange(patient[-1] + 2))
    per_patient = np.diff(first_image).max() * np.prod(size)
    step = max(1, _CHUNK_VOXELS // int(per_patient))
    for first in range(0, patient[-1] + 1, step):
        last = min(first + step, patient[-1] + 1)
        rows = slice(first_image[first], first_image[last])
        images[rows], masks[rows] = _draw_patients(
            rng, patient[rows] - first, diseased[rows], size, contrast
        )
    return images, masks


def _draw_patients(
    rng: np.random.Generator,
    patient: np.ndarray,
    diseased: np.ndarray,
    size: tuple[int, ...],
    contrast: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images and masks of a few patients, numbered from 0 in order."""
    scale = min(size)
    n, d, n_patients = len(patient), len(size), patient[-1] + 1
    axes = np.ogrid[tuple(slice(0, k) for k in size)]

    def per_patient(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (n_patients, *shape)).astype(np.float32)[patient]

    semi_axes = per_patient(0.36, 0.5, d) * np.array(size, np.float32)
    centre = (np.array(size) - 1) / 2 + rng.normal(0, 0.02 * scale, (n, d))
    anatomy = _texture(rng, size, np.full((n_patients, d), 0.25 * scale))[patient]
    grain = per_patient(0.012, 0.028)[:, None] * per_patient(0.8, 1.25, d) * scale
    radius = np.sqrt(_squares(axes, centre, semi_axes)) + 0.06 * anatomy
    tissue = _column(per_patient(35, 85), d) + _column(per_patient(0, 25), d) * anatomy
    tissue += _column(per_patient(8, 28), d) * _texture(rng, size, grain)
    for _ in range(_MAX_VESSELS):
        tissue += contrast * _vessel(rng, axes, centre, semi_axes, scale)
    for _ in range(_MAX_DOTS):
        tissue += contrast * _dot(rng, axes, centre, semi_axes, scale)
    lesion = _lesion(rng, axes, centre, semi_axes, scale, size)
    lesion *= _column(diseased, d)
    tissue += contrast * lesion
    fat = _column(per_patient(-110, -90), d)
    # One pixel of partial volume where organ and fat meet.
    organ = expit((1 - radius) * scale / 2)
    image = fat + organ * (tissue - fat)
    noise = rng.standard_normal(image.shape, np.float32)
    image += _column(per_patient(8, 22), d) * noise
    return np.rint(np.clip(image, *_HU_RANGE)), lesion > 0.5


def _column(values: np.ndarray, spatial_dims: int) -> np.ndarray:
    """Let a value an image meet the pixels of that image."""
    return values.reshape(-1, *(1,) * spatial_dims)


def _squares(axes: Any, centre: np.ndarray, scale: Any = 1.0) -> np.ndarray:
    """Squared distance of every pixel from a centre of shape (n, d), in units."""
    scale = np.broadcast_to(scale, centre.shape)
    total: Any = 0.0
    for i, axis in enumerate(axes):
        offset = axis - _column(centre[:, i], len(axes))
        total = total + np.square(offset / _column(scale[:, i], len(axes)))
    return total.astype(np.float32)


def _texture(
    rng: np.random.Generator, size: tuple[int, ...], grain: np.ndarray
) -> np.ndarray:
    """Gaussian noise of unit variance, smooth over `grain` (n, d) pixels."""
    spectrum = fft.rfftn(
        rng.standard_normal((len(grain), *size), np.float32),
        axes=range(1, grain.shape[1] + 1),
    )
    for i, k in enumerate(size):
        transfer = np.exp(-2 * (np.pi * grain[:, i, None] * fft.fftfreq(k)) ** 2)
        transfer /= np.sqrt(np.square(transfer).mean(axis=1, keepdims=True))
        shape = [len(grain)] + [1] * len(size)
        shape[i + 1] = spectrum.shape[i + 1]
        # The last axis of a real transform holds the first half of the frequencies,
        # which fftfreq gives with the same squares.
        spectrum *= transfer[:, : shape[i + 1]].reshape(shape).astype(np.float32)
    return fft.irfftn(spectrum, size, axes=range(1, grain.shape[1] + 1))


def _inside(
    rng: np.random.Generator, centre: np.ndarray, semi_axes: np.ndarray
) -> np.ndarray:
    """Points at random in the inner part of the organ, of shape (n, d)."""
    n, d = centre.shape
    direction = rng.standard_normal((n, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return centre + 0.6 * rng.random((n, 1)) ** (1 / d) * direction * semi_axes


def _lesion(
    rng: np.random.Generator,
    axes: Any,
    centre: np.ndarray,
    semi_axes: np.ndarray,
    scale: int,
    size: tuple[int, ...],
) -> np.ndarray:
    """Soft irregular blob, 1 inside and 0 outside."""
    n, d = centre.shape
    # On a pixel's centre, so that the mask of the smallest lesion is not empty.
    at = np.rint(_inside(rng, centre, semi_axes))
    radius = np.maximum(scale * rng.uniform(0.11, 0.16, (n, 1)), 1)
    wobble = _texture(rng, size, np.full((n, d), 0.05 * scale))
    distance = np.sqrt(_squares(axes, at, radius)) + 0.25 * np.clip(wobble, -2, 2)
    return expit((1 - distance) / 0.12)


def _dot(
    rng: np.random.Generator,
    axes: Any,
    centre: np.ndarray,
    semi_axes: np.ndarray,
    scale: int,
) -> np.ndarray:
    """Small round bright spot, sharper than a lesion; absent from half of the images."""
    n, d = centre.shape
    at = _inside(rng, centre, semi_axes)
    radius = scale * rng.uniform(0.025, 0.045, (n, 1))
    strength = rng.uniform(0.8, 1.6, n) * (rng.random(n) < 0.5)
    distance = np.sqrt(_squares(axes, at, radius))
    return _column(strength, d) * expit((1 - distance) / 0.2)


def _vessel(
    rng: np.random.Generator,
    axes: Any,
    centre: np.ndarray,
    semi_axes: np.ndarray,
    scale: int,
) -> np.ndarray:
    """Bent tube with tapered ends; absent from half of the images."""
    n, d = centre.shape
    at = _inside(rng, centre, semi_axes)
    along = rng.standard_normal((n, d))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = rng.standard_normal((n, d))
    across -= (across * along).sum(axis=1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    width = _column(scale * rng.uniform(0.015, 0.03, n), d)
    half_length = _column(scale * rng.uniform(0.15, 0.35, n), d)
    bend = _column(rng.uniform(0, 1.5, n) / scale, d)
    strength = rng.uniform(0.5, 1.5, n) * (rng.random(n) < 0.5)
    t: Any = 0.0
    s: Any = 0.0
    for i, axis in enumerate(axes):
        offset = axis - _column(at[:, i], d)
        t = t + offset * _column(along[:, i], d)
        s = s + offset * _column(across[:, i], d)
    # Distance from the parabola bend * t^2 in the plane of along and across.
    off = _squares(axes, at) - t**2 - 2 * bend * t**2 * s + bend**2 * t**4
    distance = np.sqrt(np.maximum(off, 0)) / width
    taper = expit((half_length - np.abs(t)) / width)
    return _column(strength, d) * taper * expit((1 - distance) / 0.2)
