"""Decisions on images that the estimator has not seen, patients whole."""

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    check_cv,
)
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_is_fitted

from skmedimg._fingerprints import last_step
from skmedimg._random import seed_of
from skmedimg._sequence import ImageSequence
from skmedimg.images import is_lazy
from skmedimg.model_selection._patients import patients_of
from skmedimg.uncertainty._members import adopt_features, fit_member, input_tags_of


class Part(NamedTuple):
    """A fitted estimator, and images that it has not seen."""

    estimator: Any
    X: Any
    y: np.ndarray
    patients: np.ndarray | None


class HeldOutClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of what fits a classifier on some images and decides something on others.

    A subclass writes `_decide`.
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "cv": ["cv_object"],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    estimator: Any
    cv: Any
    calibration_fraction: float
    random_state: Any

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, groups: Any = None) -> "HeldOutClassifier":
        """Fit the estimator, and decide on images that it has not seen.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Whatever `estimator` takes; all of them are held out where that is a
            `sklearn.frozen.FrozenEstimator`.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), default=None
            Patient of each image: none is on both sides of a split. None takes
            ``X.groups`` where X is an `skmedimg.io.ImageSequence`.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If there are too few held-out images or patients, a class is not among
            those that the estimator was fitted on, or `cv` splits a patient or holds
            an image out more than once.
        """
        self._is_fitted = False
        X, y = indexable(on_disk_as_sequence(X), y)
        y = _check_y(y, estimator=self)
        check_classification_targets(y)
        patients = patients_of(X, groups, len(y))
        warn_of_seen_images(self.estimator, X, patients)
        parts = list(self._fit_parts(X, y, patients))
        self.classes_ = parts[0].estimator.classes_
        self._decide(X, y, patients, parts)
        adopt_features(self, parts[0].estimator)
        self._is_fitted = True
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_is_fitted", False)

    def _decide(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None, parts: list[Part]
    ) -> None:
        """Set the fitted attributes from what the parts say of unseen images."""
        raise NotImplementedError

    def _fit_parts(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None
    ) -> Iterator[Part]:
        if isinstance(self.estimator, FrozenEstimator):
            _check_known(y, self.estimator.classes_, self.estimator)
            yield Part(self.estimator, X, y, patients)
            return
        for train, held_out in self._splits(X, y, patients):
            _check_known(y, np.unique(y[train]), self.estimator)
            seen, own, others = _safe_indexing(X, train), None, None
            if patients is not None:
                own, others = patients[train], patients[held_out]
            fitted = fit_member(self.estimator, seen, y[train], groups=own)
            yield Part(fitted, _safe_indexing(X, held_out), y[held_out], others)

    def _splits(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        seed = seed_of(self.random_state)
        if self.cv is None:
            return [split_off(len(y), patients, self.calibration_fraction, seed)]
        if isinstance(self.cv, Integral):
            # Not stratified: held-out patients are then a random draw of all of them.
            kind = KFold if patients is None else GroupKFold
            cv = kind(self.cv, shuffle=True, random_state=seed)
        else:
            cv = check_cv(self.cv)
        splits = list(cv.split(X, y, patients))
        held_out = np.concatenate([held_out for _, held_out in splits])
        n_again = len(held_out) - len(np.unique(held_out))
        if n_again:
            raise ValueError(
                f"cv={self.cv!r} holds {n_again} images out again that another fold "
                "has held out, and would count each as several: pass folds that hold "
                "an image out at most once, such as a number of folds."
            )
        for train, held_out in splits:
            if patients is None:
                break
            both = np.intersect1d(patients[train], patients[held_out])
            if len(both):
                raise ValueError(
                    f"cv={self.cv!r} puts {len(both)} patients on both sides of a "
                    "split, so that the estimator has seen them: pass a number of "
                    "folds, or skmedimg.model_selection.PatientKFold."
                )
        return splits

    def _refitted(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None, parts: list[Part]
    ) -> Any:
        """The only estimator, or one that is fitted on all images."""
        if len(parts) == 1:
            return parts[0].estimator
        return fit_member(self.estimator, X, y, groups=patients)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = input_tags_of(self.estimator)
        return tags


class OneEstimator:
    """Probabilities of the one fitted estimator, `estimator_`."""

    estimator_: Any

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of the estimator, unchanged.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Probabilities, in the order of `classes_`.
        """
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)


def split_off(
    n: int, patients: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split n images at random, patients whole, into indices of two sides.

    Not stratified: what holds for the held-out side on average holds for new patients
    because both are a random draw of patients.
    """
    if patients is not None and len(np.unique(patients)) < 2:
        raise ValueError(
            f"all {n} images are of one patient, and some patients are to be held out: "
            "add images of others, or leave out groups if these are not patients."
        )
    kind = ShuffleSplit if patients is None else GroupShuffleSplit
    splitter = kind(1, test_size=fraction, random_state=seed)
    return next(splitter.split(np.zeros(n), groups=patients))


def one_score_a_patient(score: np.ndarray, patients: np.ndarray | None) -> np.ndarray:
    """Sorted scores, of each patient the largest: images of one are not exchangeable.

    Parameters
    ----------
    score : ndarray of shape (n,)
        One an image.
    patients : ndarray of shape (n,) or None
        Patient of each image; None keeps all scores.

    Returns
    -------
    ndarray of shape (n_patients,)
        Increasing.
    """
    if patients is None:
        return np.sort(score)
    code = np.unique(patients, return_inverse=True)[1]
    largest = np.full(code.max(initial=-1) + 1, -np.inf)
    np.maximum.at(largest, code, score)
    return np.sort(largest)


def needed(rate: float) -> int:
    """Fewest calibration scores for which an error rate can be promised: 1/rate - 1."""
    # Up to rounding: 1 / 0.1 - 1 must be 9.
    return int(np.ceil(1 / rate - 1 - 1e-9))


def on_disk_as_sequence(X: Any) -> Any:
    """Memory maps, h5py and zarr images wrapped: a part of them is then no copy."""
    on_disk = isinstance(X, np.memmap) or is_lazy(X)
    if on_disk and len(X.shape) > 2:
        return ImageSequence.from_array(X)
    return X


def warn_of_seen_images(estimator: Any, X: Any, patients: np.ndarray | None) -> None:
    """Say that a frozen estimator was fitted on what is to be held out, if it knows."""
    if not isinstance(estimator, FrozenEstimator):
        return
    network, X = last_step(estimator, X)
    if not hasattr(network, "known_images"):
        return
    seen = network.known_images(X)
    if patients is not None:
        seen = seen | network.known_patients(patients)
    if seen.any():
        warnings.warn(
            f"The frozen estimator was fitted on {int(seen.sum())} of the {len(seen)} "
            "images, or on others of their patients: it is surer of them than of new "
            "ones, and what is decided here will not hold. Pass images of patients "
            "that it has not seen.",
            UserWarning,
            stacklevel=4,
        )


def _check_known(y: np.ndarray, known: np.ndarray, estimator: Any) -> None:
    unknown = np.setdiff1d(y, known).tolist()
    if unknown and isinstance(estimator, FrozenEstimator):
        raise ValueError(
            f"y has labels {unknown}, but the frozen estimator was fitted on "
            f"{known.tolist()}: leave these images out, or fit it on them too."
        )
    if unknown:
        raise ValueError(
            f"all images with the labels {unknown} were held out, so that the "
            "estimator cannot learn them: too few patients have them. Add data, leave "
            "these classes out, or draw another split by random_state."
        )
