"""What splits by a value an image have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils.validation import _num_samples

from skmedimg._sequence import ImageSequence
from skmedimg.model_selection._patients import patients_of

if TYPE_CHECKING:
    import pandas as pd

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Which of n images train, test, or do neither for the sake of a patient."""

    train: np.ndarray  # (n,) bool
    test: np.ndarray  # (n,) bool
    left_out: np.ndarray  # (n,) bool


class HeldOut(BaseCrossValidator):
    """Tests on the images that one value an image sets apart.

    Images of a patient of the test are left out of training, whatever their value.
    """

    __metadata_request__split: ClassVar = {"groups": True}

    _name: str  # of the parameter that has the values
    _values: np.ndarray

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Generate indices of training and test images.

        Parameters
        ----------
        X : ImageSequence or array-like of shape (n, …)
            All images, or some of those of an `ImageSequence`, as in the inner
            cross-validation of a search.
        y : object, default=None
            Ignored.
        groups : array-like of shape (n,), default=None
            Patient of each image; None takes ``X.groups``. Where neither knows, each
            image counts as a patient.

        Yields
        ------
        train, test : ndarray
            Indices of the images of each side, the patients of the test left out of
            training.

        Raises
        ------
        ValueError
            If X does not have an image a value, if a group is missing (None, NaN), or
            if a side has no image.
        """
        values = self._of(X)
        patients = patients_of(X, groups, len(values))
        folds = self._folds(values, patients)
        self._warn(values, patients, folds)
        return ((np.flatnonzero(f.train), np.flatnonzero(f.test)) for f in folds)

    def describe(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> "pd.DataFrame":
        """Tell what each fold tests, and how many images and patients it has.

        Parameters
        ----------
        X : ImageSequence or array-like of shape (n, …), default=None
            As in `split`; None stands for all images, without patients of their own.
        y : object, default=None
            Ignored.
        groups : array-like of shape (n,), default=None
            As in `split`.

        Returns
        -------
        DataFrame of shape (n_splits, …)
            A row a fold, in the order of `split`, hence of the scores of
            `cross_validate`: what is tested, the images of both sides, those left out
            of training for the sake of patients of the test, and the patients of both
            sides (without groups, absent).

        Raises
        ------
        ValueError
            As `split`.
        """
        import pandas as pd

        values = self._of(X)
        patients = patients_of(X, groups, len(values))
        rows = []
        for fold in self._folds(values, patients):
            row = self._test_of(values[fold.test])
            row |= {
                "train_images": int(fold.train.sum()),
                "test_images": int(fold.test.sum()),
                "left_out_images": int(fold.left_out.sum()),
            }
            if patients is not None:
                row["train_patients"] = len(np.unique(patients[fold.train]))
                row["test_patients"] = len(np.unique(patients[fold.test]))
            rows.append(row)
        return pd.DataFrame(rows).rename_axis("fold")

    def _of(self, X: Any) -> np.ndarray:
        """Values of the images in X."""
        n = len(self._values) if X is None else _num_samples(X)
        if n == len(self._values):
            return self._values
        # Out of order, nothing tells which order the values are in.
        if isinstance(X, ImageSequence) and (np.diff(X.kept_) > 0).all():
            if len(self._values) == X._n_made_from:
                return self._values[X.kept_]
            # Of the images alone that could be read, as the loaders' tables are.
            if len(self._values) == X._n_made_from - len(X._lost):
                return self._values[X.kept_ - np.searchsorted(X._lost, X.kept_)]
        raise ValueError(
            f"{self._name} has {len(self._values)} entries, but X has {n} images: give "
            "one an image. Within an outer cross-validation, where X is a part of the "
            "images, this needs X as an ImageSequence, in its order, and "
            f"{self._name} for each image that it was made from."
        )

    def _folds(self, values: np.ndarray, patients: np.ndarray | None) -> list[Fold]:
        folds: list[Fold] = []
        for before, test in self._sides(values):
            left_out = np.zeros(len(values), bool)
            if patients is not None:
                left_out = before & np.isin(patients, patients[test])
            train = before & ~left_out
            if not train.any() or not test.any():
                raise ValueError(
                    f"fold {len(folds)} of {self!r} has {int(train.sum())} images to "
                    f"train on and {int(test.sum())} to test; {int(left_out.sum())} "
                    "more are of patients of the test. Each side needs one: split "
                    "otherwise, or see whether the groups are the patients."
                )
            folds.append(Fold(train=train, test=test, left_out=left_out))
        return folds

    def _sides(self, values: np.ndarray) -> Iterator[Split]:
        """Masks of training and test images, patients not considered."""
        raise NotImplementedError

    def _test_of(self, values: np.ndarray) -> dict[str, Any]:
        """What the test images have in common, for `describe`."""
        raise NotImplementedError

    def _warn(
        self, values: np.ndarray, patients: np.ndarray | None, folds: list[Fold]
    ) -> None:
        """Say what of these folds a user may not expect."""


def check_n_splits(n_splits: Any, least: int) -> int | None:
    if n_splits is None:
        return None
    if not isinstance(n_splits, Integral) or n_splits < least:
        raise ValueError(
            f"n_splits={n_splits!r} must be an integer of at least {least}."
        )
    return int(n_splits)
