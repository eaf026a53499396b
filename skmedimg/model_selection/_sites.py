"""Splits by site."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold

from skmedimg._per_image import one_per_image
from skmedimg.model_selection._held_out import (
    Fold,
    HeldOut,
    Split,
    check_n_splits,
)


class SiteKFold(HeldOut):
    """Test on sites that training has not seen, each site once.

    Scanners, protocols and patients differ from hospital to hospital. A model that was
    trained and tested at the same ones may have learned to tell hospitals apart; this
    split shows what it does at a new one (geographic validation). ``n_splits=None`` is
    leave-one-site-out, also known as internal–external cross-validation [1]_.

    A patient with images at several sites is never on both sides: while one of the
    sites is tested, the images at the others are left out of training, with a warning.

    Parameters
    ----------
    sites : array-like of shape (n,)
        Site of each image: hospital, scanner, study … The values of all images, in
        their order.
    n_splits : int, default=None
        Number of folds that sites are shared out to, of about equally many images each;
        at least 2. None makes a fold of each site, in sorted order.

    Raises
    ------
    ValueError
        If a site is missing (None, NaN), or if there are fewer than 2, or than
        `n_splits`.

    Warns
    -----
    UserWarning
        If patients have images at several sites, and images are left out for it. Sites
        that number their patients each from 1 look the same: tell those apart.

    See Also
    --------
    PatientKFold : Test on patients that training has not seen.
    TemporalSplit : Test on later images than those of training.
    sklearn.model_selection.LeaveOneGroupOut : The same for one kind of groups.

    Notes
    -----
    In nested cross-validation it may split at both levels, or either, if X is an
    `ImageSequence`: its parts know which of the images they hold.

    A site without a case of each class has no AUC; `describe` says how large they are.

    References
    ----------
    .. [1] E. W. Steyerberg and F. E. Harrell, "Prediction models need appropriate
       internal, internal-external, and external validation", Journal of Clinical
       Epidemiology 69, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.io import ImageSequence
    >>> from skmedimg.model_selection import SiteKFold
    >>> patients = np.repeat(np.arange(6), 2)
    >>> sites = np.repeat(["north", "south", "west"], [6, 4, 2])
    >>> X = ImageSequence.from_array(np.zeros((12, 8, 8)), groups=patients)
    >>> cv = SiteKFold(sites)
    >>> print(cv.describe(X).iloc[:, :3])
         test_sites  train_images  test_images
    fold
    0         north             6            6
    1         south             8            4
    2          west            10            2

    Its rows are those of ``cross_validate(clf, X, y, cv=cv)``.
    """

    _name = "sites"

    def __init__(self, sites: Any, n_splits: int | None = None) -> None:
        self.sites = self._values = one_per_image("sites", sites, "site")
        self.n_splits = check_n_splits(n_splits, 2)
        self._check_count(self.sites)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Tell the number of folds.

        Parameters
        ----------
        X : ImageSequence or array-like of shape (n, …), default=None
            As in `split`; None stands for all images.
        y, groups : object, default=None
            Ignored.

        Returns
        -------
        int
            `n_splits`, or the number of sites in X.
        """
        return self.n_splits or len(np.unique(self._of(X)))

    def _sides(self, values: np.ndarray) -> Iterator[Split]:
        self._check_count(values)
        if self.n_splits is None:
            for site in np.unique(values):
                yield values != site, values == site
            return
        for _, rows in GroupKFold(self.n_splits).split(values, groups=values):
            test = np.zeros(len(values), bool)
            test[rows] = True
            yield ~test, test

    def _check_count(self, values: np.ndarray) -> None:
        count, least = len(np.unique(values)), self.n_splits or 2
        if count < least:
            raise ValueError(
                f"{len(values)} images are of {count} sites: to test on new ones, "
                f"n_splits={self.n_splits} needs at least {least}."
            )

    def _test_of(self, values: np.ndarray) -> dict[str, Any]:
        return {"test_sites": ", ".join(map(str, np.unique(values)))}

    def _warn(
        self, values: np.ndarray, patients: np.ndarray | None, folds: list[Fold]
    ) -> None:
        left_out = np.any([fold.left_out for fold in folds], axis=0)
        if patients is None or not left_out.any():
            return
        n, shared = len(np.unique(patients)), len(np.unique(patients[left_out]))
        warnings.warn(
            f"{shared} of the {n} patients have images at more than one site. While "
            "one site is tested, their images at the others are left out of training: "
            f"{left_out.sum()} of {len(values)} images in one fold or another. If the "
            "sites number their patients each on their own, make the groups of site "
            "and number.",
            UserWarning,
            stacklevel=3,
        )

    def __repr__(self) -> str:
        # The names of sites may say where patients were treated: only their number.
        count = len(np.unique(self.sites))
        return (
            f"SiteKFold(sites=<{count} of {len(self.sites)} images>, "
            f"n_splits={self.n_splits})"
        )
