"""Synthetic medical images with known truth, drawn in whole batches."""

from dataclasses import dataclass, fields
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


@dataclass
class _Patients:
    """What the images of a patient have in common; arrays with a row a patient."""

    fat: np.ndarray  # (n,) HU
    organ: np.ndarray  # (n,) HU
    semi_axes: np.ndarray  # (n, d) pixels
    grain: np.ndarray  # (n, d) pixels, correlation length of the texture
    roughness: np.ndarray  # (n,) HU, standard deviation of the texture
    noise: np.ndarray  # (n,) HU, standard deviation of the scanner's noise

    def __getitem__(self, rows: np.ndarray) -> "_Patients":
        return _Patients(*(getattr(self, f.name)[rows] for f in fields(self)))


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
    lesion: np.ndarray,
    size: tuple[int, ...],
    contrast: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw all images, a batch of whole patients at a time."""
    images = np.empty((len(patient), *size), np.int16)
    masks = np.empty((len(patient), *size), np.uint8)
    step = max(1, _CHUNK_VOXELS // int(np.prod(size)))
    patients = _draw_patients(rng, patient[-1] + 1, size)
    anatomy = None
    for start in range(0, len(patient), step):
        rows = slice(start, start + step)
    ...
