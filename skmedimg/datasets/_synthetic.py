"""Synthetic medical images with known truth, drawn in whole batches."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import fft
from scipy.special import expit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, Options, validate_params

# Contrast in HU of a lesion, and of what resembles it, at difficulty 0 and 1; geometric
# in between. Set so that at the default, 56 HU, the figures in the Notes of
# make_lesions hold.
_EASY_CONTRAST = 120.0
_HARD_CONTRAST = 26.0

_HU_RANGE = (-1024, 3071)
_N_VESSELS = 4
_N_DOTS = 3
# Pixels drawn at a time: the temporaries stay in the caches and out of the memory bill.
_BATCH_PIXELS = 1 << 18

_DESCR = """\
Synthetic lesions
-----------------
{n_images} images of {size} pixels (int16, HU) of {n_patients} patients, {n_diseased} of
whom have a lesion in every image. The images show an organ in fat, its shape, density
and texture those of the patient. All may hold vessels and small bright dots; a lesion
is a soft irregular blob, {contrast:.0f} HU brighter than its surroundings.

Drawn by skmedimg.datasets.make_lesions with difficulty={difficulty:g}; there is no real
patient in it.
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
    """Make CT-like images of an organ with and without a lesion.

    Disease belongs to the patient: all images of a diseased patient show a lesion,
    those of the others none. Images of one patient share the organ's shape, density and
    texture, so that a split with a patient on both sides rewards recognising patients:
    keep them apart by `groups`.

    Parameters
    ----------
    n_patients : int, default=300
        Number of patients.
    images_per_patient : int or tuple (min, max), default=(2, 4)
        Images of each patient: their number, or the range it is drawn from, both ends
        included.
    image_size : int or tuple of int, default=48
        Pixels along every axis, or along each; at least 8. Everything in the image
        scales with the shortest axis, except the grain of the noise.
    spatial_dims : {2, 3}, default=2
        Number of spatial axes: slices or volumes.
    prevalence : float, default=0.5
        Fraction of patients with a lesion, between 0 and 1, rounded to whole patients;
        strictly between 0 and 1 there is at least one of each kind.
    difficulty : float, default=0.5
        From 0 (easy) to 1 (hard). It sets the contrast of lesions, and that of vessels
        and dots with it; for one `random_state` all else stays as it is.
    return_X_y : bool, default=False
        Whether to return (images, target) alone.
    random_state : int, RandomState instance or None, default=None
        Decides everything that is drawn; pass an int for the same images every time.

    Returns
    -------
    data : Bunch
        Dictionary-like object with the attributes

        images : ndarray of shape (n, H, W) or (n, D, H, W), int16
            Images in HU, those of a patient in a row.
        target : ndarray of shape (n,), int64
            1 where there is a lesion, else 0.
        target_names : ndarray of shape (2,), str
            "no lesion" and "lesion".
        groups : ndarray of shape (n,), str
            Patient of each image: "P0001", "P0002" …
        masks : ndarray of the shape of `images`, uint8
            1 within a lesion, up to half its contrast; else 0.
        DESCR : str
            Description of the data set.

    (images, target) : tuple of two ndarray
        Instead, with ``return_X_y=True``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `image_size` does not fit `spatial_dims`.

    See Also
    --------
    sklearn.datasets.make_classification : The same idea for tables.

    Notes
    -----
    Lesions are bright, and so are vessels (bent tubes) and dots (small and sharp) in
    all images, hence brightness alone does not give a lesion away. At the default
    difficulty and size, `CNNImageClassifier` trained on 240 patients has an AUC of
    about .9 on new ones, a logistic regression on percentiles and moments of the
    intensities one of about .7. Fewer pixels make it harder, small volumes in
    particular: at 24 voxels an axis only a difficulty near 0 is learned from so few.

    Examples
    --------
    >>> from skmedimg.datasets import make_lesions
    >>> data = make_lesions(n_patients=20, prevalence=0.3, random_state=0)
    >>> data.images.shape, data.images.dtype
    ((57, 48, 48), dtype('int16'))
    >>> print(data.groups[:4], data.target[:4])
    ['P0001' 'P0001' 'P0001' 'P0002'] [1 1 1 0]
    >>> volumes, y = make_lesions(
    ...     n_patients=4,
    ...     images_per_patient=1,
    ...     image_size=(16, 24, 24),
    ...     spatial_dims=3,
    ...     return_X_y=True,
    ...     random_state=0,
    ... )
    >>> volumes.shape
    (4, 16, 24, 24)
    """
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
    whole = all(isinstance(n, int | np.integer) and n >= 8 for n in size)
    if len(size) != spatial_dims or not whole:
        raise ValueError(
            f"image_size={image_size!r} is no size in {spatial_dims} dimensions: pass "
            f"one integer of at least 8 or {spatial_dims} of them, or another "
            "spatial_dims."
        )
    return tuple(map(int, size))


def _check_images_per_patient(images_per_patient: Any) -> tuple[int, int]:
    if isinstance(images_per_patient, Integral):
        return int(images_per_patient), int(images_per_patient)
    whole = all(isinstance(n, int | np.integer) and n >= 1 for n in images_per_patient)
    if len(images_per_patient) != 2 or not whole or np.diff(images_per_patient) < 0:
        raise ValueError(
            f"images_per_patient={images_per_patient!r} is not a range: pass a "
            "positive integer, or the fewest and the most as (min, max)."
        )
    return int(images_per_patient[0]), int(images_per_patient[1])


def _generator(random_state: Any) -> np.random.Generator:
    # check_random_state(None) is NumPy's global generator: drawing would move it.
    if random_state is not None and not isinstance(random_state, Integral):
        random_state = check_random_state(random_state)
        random_state = random_state.randint(1 << 32, size=4, dtype=np.uint64)
    return np.random.default_rng(random_state)


def _count_diseased(n_patients: int, prevalence: float) -> int:
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
    n_patients = patient[-1] + 1
    first_image = np.searchsorted(patient, np.arange(n_patients + 1))
    most_pixels = int(np.diff(first_image).max() * np.prod(size))
    step = max(1, _BATCH_PIXELS // most_pixels)
    for first in range(0, n_patients, step):
        last = min(first + step, n_patients)
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
    """Draw images and masks of a few patients, numbered from 0 in order.

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
    for _ in range(_N_VESSELS):
        tissue += contrast * _vessel(rng, organ)
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
    return np.rint(np.clip(image, *_HU_RANGE)), lesion > 0.5


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


def _vessel(rng: np.random.Generator, organ: _Organ) -> np.ndarray:
    """Bent tube with soft ends, in half of the images."""
    n, d = organ.centre.shape
    at = organ.points_inside(rng)
    along, across = _directions(rng, (n, d)), _directions(rng, (n, d))
    across -= (across * along).sum(axis=1, keepdims=True) * along
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    width = _spread(min(organ.size) * rng.uniform(0.015, 0.03, n), d)
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
    return _spread(strength, d) * inside


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
