"""What would make the figures lie: looked for, and said."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.metrics._units import what_counts_tell


class Known(NamedTuple):
    """What an estimator recognises of the images it is evaluated on.

    Attributes
    ----------
    images : ndarray of bool, shape (n,), or None
        Which were trained on; None where the estimator cannot tell.
    n_patients : int or None
        Patients that were trained on; None where nobody knows the patients.
    """

    images: np.ndarray | None
    n_patients: int | None


def known_from_training(estimator: Any, X: Any, groups: np.ndarray | None) -> Known:
    """Look for training images and training patients.

    Parameters
    ----------
    estimator : object
        What is evaluated; a pipeline passes its images on to its last step.
    X : array-like of n images
        Images of the evaluation.
    groups : ndarray of shape (n,) or None
        Their patients.

    Returns
    -------
    Known
        Nothing where only probabilities are evaluated.
    """
    images, n_patients = None, None
    last, X = _last_step(estimator, X)
    if hasattr(last, "known_images"):
        images = np.asarray(last.known_images(X), dtype=bool)
    if hasattr(last, "known_patients") and groups is not None:
        n_patients = int(last.known_patients(np.unique(groups)).sum())
    return Known(images, n_patients)


def _last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """What was fitted on images, below pipelines, searches and frozen estimators."""
    while True:
        if hasattr(estimator, "steps"):
            X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
            estimator = estimator.steps[-1][1]
            continue
        inner = getattr(estimator, "best_estimator_", None)
        inner = getattr(estimator, "estimator_", None) if inner is None else inner
        if inner is None and type(estimator).__name__ == "FrozenEstimator":
            inner = estimator.estimator
        if inner is None:
            return estimator, X
        estimator = inner


def say_known(known: Known, n_images: int) -> Iterator[str]:
    """Sentences about training images and patients among those scored."""
    if known.images is not None and known.images.any():
        yield (
            f"The model was trained on {int(known.images.sum())} of the {n_images} "
            "images: the figures say little about new images. Evaluate on images that "
            "fit has not seen; Discrimination has the area without them."
        )
    if known.n_patients:
        yield (
            f"The model was trained on {known.n_patients} of the patients: the figures "
            "say little about new patients. Split by patient, for example with "
            "skmedimg.model_selection.PatientKFold."
        )


def say_shared(
    partitions: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    groups: np.ndarray | None,
) -> Iterator[str]:
    """Sentences about patients of other partitions among those evaluated."""
    if groups is None:
        return
    for name, (_, patients) in partitions.items():
        shared = set() if patients is None else set(patients.tolist())
        shared &= set(groups.tolist())
        if shared:
            yield (
                f"{len(shared)} patients are both among those evaluated and in the "
                f"partition {name}: the figures are too good. Take other patients."
            )


def overlap_text(known: Known) -> str | None:
    """What was found, for the checklists; None where it could not be looked for."""
    parts = []
    if known.images is not None:
        parts.append(f"{int(known.images.sum())} of the images scored")
    if known.n_patients is not None:
        parts.append(f"{known.n_patients} of the patients that fit was told of")
    if not parts:
        return None
    return f"In the training data: {', '.join(parts)}"


def say_units(cases: Cases) -> Iterator[str]:
    """Sentences about what is scored and what is taken as independent."""
    told = None
    if cases.by_unit:
        told = what_counts_tell(cases.named_y, cases.n_images, cases.groups)
    if told is not None:
        yield told[0].upper() + told[1:]
    if cases.groups is None:
        yield (
            f"Patients are not known: the intervals take every {cases.noun} as "
            "independent, and are too narrow if a patient has several. Pass groups=."
        )
        return
    n_patients = len(np.unique(cases.groups))
    if not cases.by_unit and n_patients < len(cases.y):
        yield (
            f"The figures are per image, {len(cases.y)} images of {n_patients} "
            "patients: a patient of many images counts many times. Pass unit= to "
            "score lesions or patients. The intervals go by patient."
        )


def distortions(estimator: Any) -> tuple[str, ...]:
    """What in the parameters of an estimator moves its probabilities off the risk.

    Parameters
    ----------
    estimator : object
        What is evaluated.

    Returns
    -------
    tuple of str
        Parameters with values; none under calibration, which is fitted after them.
    """
    if type(estimator).__name__ == "CalibratedClassifierCV":
        return ()
    if not hasattr(estimator, "get_params"):
        return ()
    found = []
    for name, value in estimator.get_params(deep=True).items():
        last = name.rpartition("__")[2]
        weighted = last in ("class_weight", "scale_pos_weight") and value is not None
        focal = last == "loss" and isinstance(value, str) and "focal" in value
        # A bool is not a number here, and None is none.
        mixed = last in ("mixup", "cutmix") and isinstance(value, int | float) and value
        if weighted or focal or mixed:
            found.append(f"{name}={value!r}")
        elif type(value).__module__.startswith("imblearn."):
            found.append(f"resampling by {type(value).__name__}")
    return tuple(dict.fromkeys(found))


def say_threshold(estimator: Any, threshold: float) -> Iterator[str]:
    """A sentence where the estimator itself decides at another threshold."""
    own = getattr(estimator, "best_threshold_", getattr(estimator, "threshold", None))
    if isinstance(own, float) and not np.isclose(own, threshold):
        yield (
            f"The estimator decides at {own:.4g}, this report at {threshold:.4g}: pass "
            f"threshold={own:.4g} for the decisions of predict."
        )


def say_distortions(found: tuple[str, ...]) -> Iterator[str]:
    """A sentence about what distorts risks, and the way back."""
    if found:
        yield (
            f"The probabilities are not risks: {', '.join(found)} distorts them. "
            "Ranking is unharmed; calibration and net benefit are not. Fit without, "
            "recalibrate on images held out of training "
            "(sklearn.calibration.CalibratedClassifierCV), or where classes were "
            "weighted or resampled, undo it by skmedimg.evaluation.correct_prior."
        )
