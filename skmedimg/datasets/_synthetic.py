"""Synthetic medical images with known truth, drawn in whole batches."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, Options, validate_params

from skmedimg.datasets._synthetic_drawing import LESION, draw

# Contrast in HU of a lesion, and of what resembles it, at difficulty 0 and 1; geometric
# in between. Set so that at the default, 56 HU and 100 HU, the figures in the Notes of
# make_lesions and make_segmentation hold.
_LESIONS_CONTRAST = (120.0, 26.0)
_SEGMENTATION_CONTRAST = (200.0, 50.0)

# Radii of vessels, as fractions of the shortest axis. What is to be outlined is
# thicker: 2 to 4 of 48 pixels across.
_LESIONS_VESSELS = (0.015, 0.03)
_SEGMENTATION_VESSELS = (0.02, 0.04)

_LESIONS_DESCR = """\
Synthetic lesions
-----------------
{n_images} images of {size} pixels (int16, HU) of {n_patients} patients, {n_diseased} of
whom have a lesion in every image. The images show an organ in fat, its shape, density
and texture those of the patient. All may hold vessels and small bright dots; a lesion
is a soft irregular blob, {contrast:.0f} HU brighter than its surroundings.

Drawn by skmedimg.datasets.make_lesions with difficulty={difficulty:g}; there is no real
patient in it.
"""

_SEGMENTATION_DESCR = """\
Synthetic organ, vessels and lesions
------------------------------------
{n_images} images of {size} pixels (int16, HU) of {n_patients} patients, {n_diseased} of
whom have a lesion in every image, each with a label map (uint8): 0 background, 1 organ,
2 vessel, 3 lesion. The images show an organ in fat, its shape, density and texture
those of the patient. All may hold vessels (bent tubes) and small bright dots, which
count as organ; a lesion is a soft irregular blob, {contrast:.0f} HU brighter than its
surroundings.

Drawn by skmedimg.datasets.make_segmentation with difficulty={difficulty:g}; there is no
real patient in it.
"""

_PARAMETERS = {
    "n_patients": [Interval(Integral, 1, None, closed="left")],
    "images_per_patient": [Interval(Integral, 1, None, closed="left"), tuple, list],
    "image_size": [Interval(Integral, 8, None, closed="left"), tuple, list],
    "spatial_dims": [Options(Integral, {2, 3})],
    "prevalence": [Interval(Real, 0, 1, closed="both")],
    "difficulty": [Interval(Real, 0, 1, closed="both")],
    "return_X_y": ["boolean"],
    "random_state": ["random_state"],
}


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
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
    make_segmentation : The same with a class for each pixel.
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
    cohort = _make_cohort(
        n_patients,
        images_per_patient,
        _check_size(image_size, spatial_dims),
        prevalence,
        difficulty,
        _LESIONS_CONTRAST,
        _LESIONS_VESSELS,
        random_state,
    )
    target = cohort.diseased.astype(np.int64)
    if return_X_y:
        return cohort.images, target
    return Bunch(
        images=cohort.images,
        target=target,
        target_names=np.array(["no lesion", "lesion"]),
        groups=cohort.groups,
        masks=(cohort.labels == LESION).view(np.uint8),
        DESCR=_LESIONS_DESCR.format(**cohort.facts),
    )


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def make_segmentation(
    n_patients: int = 100,
    *,
    images_per_patient: int | tuple[int, int] = (2, 4),
    image_size: int | tuple[int, ...] = 48,
    spatial_dims: int = 2,
    prevalence: float = 0.5,
    difficulty: float = 0.5,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make CT-like images of an organ with vessels and lesions, and their label maps.

    As `make_lesions`, with more contrast and vessels thick enough to be outlined, and
    a class not for each image but for each of its pixels. Images of patients without a
    lesion have no pixel of that class, and some images have none of a vessel. Images of
    one patient share the organ's shape, density and texture.

    Parameters
    ----------
    n_patients : int, default=100
        Number of patients.
    images_per_patient : int or tuple (min, max), default=(2, 4)
        Images of each patient: their number, or the range it is drawn from, both ends
        included.
    image_size : int or tuple of int, default=48
        Pixels along every axis, or along each; at least 8. Everything in the image
        scales with the shortest axis, except the grain of the noise. Below about 32
        pixels some vessels are thinner than two of them, and have gaps in their labels.
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
        target : ndarray of the shape of `images`, uint8
            Label map of each image: the index in `target_names` of what every pixel
            shows. Each structure reaches to where it has half its contrast.
        target_names : ndarray of shape (4,), str
            "background", "organ", "vessel" and "lesion". Of two that overlap a pixel
            has the later one.
        groups : ndarray of shape (n,), str
            Patient of each image: "P0001", "P0002" …
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
    make_lesions : The same with a class for each image.

    Notes
    -----
    Vessels and lesions are equally bright on average, and small bright dots count as
    organ: intensity finds the organ, shape tells the rest apart. At the default
    difficulty and size, gradient boosting on the intensity of single pixels of 60
    patients has on 40 new ones a Dice coefficient of about .95 for the organ, .6 for
    vessels and .15 for lesions; with blurred intensities and their curvature at four
    scales about .7 for vessels and .5 for lesions.

    Examples
    --------
    >>> from skmedimg.datasets import make_segmentation
    >>> data = make_segmentation(n_patients=10, random_state=0)
    >>> data.images.shape == data.target.shape
    True
    >>> print(data.target_names)
    ['background' 'organ' 'vessel' 'lesion']
    >>> lesion = (data.target == 3).any(axis=(1, 2))
    >>> print(f"a lesion in {lesion.sum()} of {len(lesion)} images")
    a lesion in 18 of 33 images
    """
    cohort = _make_cohort(
        n_patients,
        images_per_patient,
        _check_size(image_size, spatial_dims),
        prevalence,
        difficulty,
        _SEGMENTATION_CONTRAST,
        _SEGMENTATION_VESSELS,
        random_state,
    )
    if return_X_y:
        return cohort.images, cohort.labels
    return Bunch(
        images=cohort.images,
        target=cohort.labels,
        target_names=np.array(["background", "organ", "vessel", "lesion"]),
        groups=cohort.groups,
        DESCR=_SEGMENTATION_DESCR.format(**cohort.facts),
    )


@dataclass(frozen=True, kw_only=True)
class _Cohort:
    """n images of some patients, with the truth about them."""

    images: np.ndarray  # (n, *size) HU
    labels: np.ndarray  # (n, *size)
    diseased: np.ndarray  # (n,) bool
    groups: np.ndarray  # (n,) str
    facts: dict[str, Any]  # for the description


def _make_cohort(
    n_patients: int,
    images_per_patient: Any,
    size: tuple[int, ...],
    prevalence: float,
    difficulty: float,
    contrasts: tuple[float, float],
    vessel_radii: tuple[float, float],
    random_state: Any,
) -> _Cohort:
    """Draw who is ill and how often each patient is imaged, then the images."""
    low, high = _check_images_per_patient(images_per_patient)
    rng = _generator(random_state)
    n_diseased = _count_diseased(n_patients, prevalence)
    diseased = rng.permutation(n_patients) < n_diseased
    patient = np.repeat(
        np.arange(n_patients), rng.integers(low, high, n_patients, endpoint=True)
    )
    easy, hard = contrasts
    contrast = easy * (hard / easy) ** difficulty
    images, labels = draw(rng, patient, diseased[patient], size, contrast, vessel_radii)
    digits = max(4, len(str(n_patients)))
    return _Cohort(
        images=images,
        labels=labels,
        diseased=diseased[patient],
        groups=np.array([f"P{i + 1:0{digits}d}" for i in patient]),
        facts={
            "n_images": len(images),
            "size": " × ".join(map(str, size)),
            "n_patients": n_patients,
            "n_diseased": n_diseased,
            "contrast": contrast,
            "difficulty": difficulty,
        },
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
