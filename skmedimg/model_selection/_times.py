"""Splits by time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from skmedimg._per_image import one_per_image
from skmedimg.model_selection._held_out import (
    HeldOut,
    Split,
    check_n_splits,
)


class TemporalSplit(HeldOut):
    """Train on earlier images, test on later ones.

    Scanners, protocols and patients change over the years, and a model is used on what
    comes after its training (temporal validation, which the TRIPOD statement [1]_
    counts as a stronger test than a random split). Images of one time are never on both
    sides.

    Nor is a patient: whoever is in the test has no earlier image in training. In
    follow-up this is common, hence no warning; `describe` says how many images are left
    out.

    Parameters
    ----------
    times : array-like of shape (n,)
        When each image was taken: datetimes (NumPy, pandas or Python), strings in
        ISO 8601 ("2021-03-05", "20210305", "2021"), or numbers (a year, or days since
        an event). The values of all images, in their order.
    test_from : time or sequence of times, default=None
        When the test begins, of the kind of `times`; training has all before. Several,
        increasing, give a fold each, whose test ends where the next begins; training
        grows from fold to fold.
    n_splits : int, default=None
        Instead of `test_from`: so many folds, at least 1, where `n_splits` + 1 periods
        of about equally many images follow one another. Each but the first is tested,
        with all before it as training.

    Raises
    ------
    ValueError
        If a time is missing (None, NaN, NaT) or cannot be read, if `times` has no more
        than `n_splits` different values, if `test_from` does not increase, or unless
        there is one of `test_from` and `n_splits`.

    See Also
    --------
    PatientKFold : Test on patients that training has not seen.
    SiteKFold : Test on sites that training has not seen.
    sklearn.model_selection.TimeSeriesSplit : The same for rows in order of time.

    Notes
    -----
    Times without a zone are taken as UTC. As with `TimeSeriesSplit`, the first images
    are never tested, so that `cross_val_predict` does not apply.

    In nested cross-validation it may split at both levels, or either, if X is an
    `ImageSequence`: its parts know which of the images they hold. The inner one needs
    `n_splits`, which cuts the times of its fold; an outer `test_from` has left nothing
    behind it to train on.

    References
    ----------
    .. [1] G. S. Collins et al., "Transparent reporting of a multivariable prediction
       model for individual prognosis or diagnosis (TRIPOD): the TRIPOD statement", BMJ
       350, g7594, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.io import ImageSequence
    >>> from skmedimg.model_selection import TemporalSplit
    >>> patients = [1, 1, 2, 3, 3, 4, 5, 5]
    >>> years = [2018, 2018, 2018, 2019, 2020, 2020, 2021, 2021]
    >>> X = ImageSequence.from_array(np.zeros((8, 8, 8)), groups=patients)
    >>> cv = TemporalSplit(years, test_from=[2020, 2021])
    >>> for train, test in cv.split(X):
    ...     print(train, test)
    [0 1 2] [4 5]
    [0 1 2 3 4 5] [6 7]
    >>> cv.describe(X)["left_out_images"].tolist()  # patient 3 in 2019
    [1, 0]
    >>> TemporalSplit(["2020-01-30", "2020-03-01"], test_from="2020-02").get_n_splits()
    1
    """

    _name = "times"

    def __init__(
        self, times: Any, *, test_from: Any = None, n_splits: int | None = None
    ) -> None:
        if (test_from is None) == (n_splits is None):
            raise ValueError(
                f"test_from={test_from!r} and n_splits={n_splits!r}: pass one of them, "
                "the time from which images are tested, or a number of folds."
            )
        self.times = self._values = _as_times("times", times)
        self.test_from = test_from
        self.n_splits = check_n_splits(n_splits, 1)
        if self.n_splits is not None:
            self._starts = _cuts(self.times, self.n_splits)
        else:
            self._starts = _check_starts(test_from, self.times)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Tell the number of folds.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored.

        Returns
        -------
        int
            `n_splits`, or how many times `test_from` has.
        """
        return len(self._starts)

    def _sides(self, values: np.ndarray) -> Iterator[Split]:
        starts = self._starts
        if self.n_splits is not None:
            starts = _cuts(values, self.n_splits)
        for i, start in enumerate(starts):
            test = values >= start
            if i + 1 < len(starts):
                test &= values < starts[i + 1]
            yield values < start, test

    def _test_of(self, values: np.ndarray) -> dict[str, Any]:
        return {"test_first": values.min(), "test_last": values.max()}

    def __repr__(self) -> str:
        # When patients were imaged is theirs: only how many images there are.
        return (
            f"TemporalSplit(times=<{len(self.times)} images>, "
            f"test_from={self.test_from!r}, n_splits={self.n_splits})"
        )


def _as_times(name: str, values: Any) -> np.ndarray:
    """Numbers as they are, all else as datetime64 in UTC."""
    import pandas as pd

    times = one_per_image(name, values, "time")
    if times.dtype.kind in "iuf":
        return times
    read = pd.to_datetime(
        pd.Series(times), format="ISO8601", utc=True, errors="coerce"
    ).dt.tz_localize(None)
    if read.isna().any():
        raise ValueError(
            f"{name} has {int(read.isna().sum())} entries that are no time, the first "
            f"at {int(read.isna().argmax())}: pass datetimes, numbers, or strings in "
            "ISO 8601, for example 2021-03-05."
        )
    return read.to_numpy()


def _check_starts(test_from: Any, times: np.ndarray) -> np.ndarray:
    """Times where tests begin, increasing and of the kind of `times`."""
    single = isinstance(test_from, str) or np.ndim(test_from) == 0
    starts = _as_times("test_from", [test_from] if single else test_from)
    if (starts.dtype.kind == "M") != (times.dtype.kind == "M"):
        raise ValueError(
            f"test_from={test_from!r} is of another kind than times: pass numbers for "
            "both or dates for both."
        )
    if len(starts) == 0 or (starts[1:] <= starts[:-1]).any():
        raise ValueError(f"test_from={test_from!r} must be one time or increase.")
    return starts


def _cuts(times: np.ndarray, n_splits: int) -> np.ndarray:
    """Times that cut the images to `n_splits` + 1 periods, as equal as ties allow."""
    distinct, n_before = np.unique(np.sort(times), return_index=True)
    if len(distinct) <= n_splits:
        raise ValueError(
            f"times has {len(distinct)} different values among {len(times)} images, "
            f"but n_splits={n_splits} needs {n_splits + 1}: lower n_splits."
        )
    cuts, low = [], 1
    for i in range(1, n_splits + 1):
        high = len(distinct) - (n_splits - i)
        wanted = len(times) * i / (n_splits + 1)
        cuts.append(low + int(np.argmin(np.abs(n_before[low:high] - wanted))))
        low = cuts[-1] + 1
    return distinct[cuts]
