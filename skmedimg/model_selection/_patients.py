"""Splits by patient, and who the patients are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.validation import _num_samples

from skmedimg._per_image import one_per_image
from skmedimg.images import groups_of


class PatientKFold(StratifiedGroupKFold):
    """Stratified k-fold in which no patient is on both sides.

    `sklearn.model_selection.StratifiedGroupKFold`, with one addition: without `groups`
    it takes those that the images carry (`skmedimg.io.ImageSequence`), so that
    ``cross_validate(clf, X, y, cv=PatientKFold(5))`` needs nothing else.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle patients of equal class distribution first.
    random_state : int, RandomState instance or None, default=None
        Decides the shuffling; only with ``shuffle=True``.

    See Also
    --------
    MultilabelStratifiedGroupKFold : The same for several labels an image.
    SiteKFold : Test on sites that training has not seen.
    TemporalSplit : Test on later images than those of training.
    sklearn.model_selection.StratifiedGroupKFold : The same for explicit groups.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.io import ImageSequence
    >>> from skmedimg.model_selection import PatientKFold
    >>> patients = np.repeat(np.arange(6), 2)
    >>> X = ImageSequence.from_array(np.zeros((12, 8, 8)), groups=patients)
    >>> y = np.tile([0, 0, 1, 1], 3)
    >>> for train, test in PatientKFold(3).split(X, y):
    ...     print(sorted(set(patients[test].tolist())))
    [0, 3]
    [1, 4]
    [2, 5]

    A single test set of a third of the patients, stratified and drawn at random:

    >>> cv = PatientKFold(3, shuffle=True, random_state=0)
    >>> train, test = next(cv.split(X, y))
    >>> X[train].shape, X[test].shape
    ((8, 8, 8), (4, 8, 8))
    """

    def split(
        self, X: Any, y: Any, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate indices of training and test images.

        Parameters
        ----------
        X : ImageSequence or array-like of shape (n, …)
            Images.
        y : array-like of shape (n,) or (n, n_labels)
            Labels, for the stratification; indicators count by their combination.
        groups : array-like of shape (n,), default=None
            Patient of each image; None takes ``X.groups``.

        Yields
        ------
        train, test : ndarray
            Indices of the images of each side.

        Raises
        ------
        ValueError
            If there are no groups in either place, if one is missing (None, NaN), or if
            there is not one an image.
        """
        import pandas as pd

        patients = patients_of(X, groups, _num_samples(X))
        if patients is None:
            raise ValueError(
                "PatientKFold needs to know the patients: pass groups=, or X as "
                "ImageSequence.from_array(X, groups=...)."
            )
        # Numbered as they appear: scikit-learn goes by their order, and that of
        # pseudonyms is another with every key.
        return super().split(X, one_label(y), pd.factorize(patients)[0])


def patients_of(X: Any, groups: Any, n: int) -> np.ndarray | None:
    """Patient of each of n images, from `groups` or X; None where neither knows."""
    if groups is None:
        groups = groups_of(X)
    return None if groups is None else one_per_image("groups", groups, "patient", n)


def wants_groups(cv: Any) -> bool:
    """Whether a splitter goes by groups, as far as it tells."""
    routing = getattr(cv, "get_metadata_routing", None)
    return routing is None or "groups" in routing().split.requests


def one_label(y: Any) -> Any:
    """Indicators of several labels as their combinations; NaN is a value of its own."""
    if np.ndim(y) != 2 or np.shape(y)[1] < 2:
        return y
    indicator = np.nan_to_num(np.asarray(y, dtype=float), nan=-1.0)
    return np.unique(indicator, axis=0, return_inverse=True)[1].ravel()
