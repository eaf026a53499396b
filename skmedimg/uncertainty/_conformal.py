"""Sets of labels that hold the true one with a probability that is promised."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmedimg.uncertainty._held_out import (
    HeldOutClassifier,
    Part,
    needed,
    one_score_a_patient,
)


class ConformalClassifier(HeldOutClassifier):
    """Sets of labels that hold the true one with probability 1 - `alpha` at least.

    Parameters
    ----------
    estimator : classifier
        Gives probabilities. A fitted one in a `sklearn.frozen.FrozenEstimator` is
        taken as it is: fit then calibrates on all of its images, which must be new to
        it.
    alpha : float, default=0.1
        Share of new patients (images, without groups) whose set may miss the truth.
    method : {"marginal", "per_class"}, default="marginal"
        "marginal" promises this on average over all classes, and may fail a rare one;
        "per_class" for the patients of each class.
    cv : int, splitter, iterable or None, default=None
        None holds out `calibration_fraction` of the patients once. A number of folds
        or a splitter calibrates on all patients (cross-conformal), and promises
        1 - 2 `alpha` only.
    calibration_fraction : float, default=0.25
        Share of the patients that calibrate, with ``cv=None``.
    random_state : int, RandomState instance or None, default=None
        Draws the patients that are held out. No global generator is touched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    coverage_guarantee_ : float
        Probability that the sets of a new patient are right: 1 - `alpha`, with `cv`
        1 - 2 `alpha`.
    estimators_ : list of classifiers
        One, or one a fold.
    n_calibration_ : ndarray of shape (n_classes,)
        Patients (images, without groups) that calibrate the sets of each class.
    n_features_in_ : int
        Features seen by the estimator, if it tells.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names seen by the estimator, if it tells.

    Notes
    -----
    A label is in the set where its conformal p-value exceeds `alpha`: the share of the
    calibration scores, the new one counted, that are not smaller. The score is one
    minus the probability of the label [1]_, which makes the smallest sets on average.
    A set may be empty: then no label is typical.

    Images of one patient are not exchangeable, patients are. With groups, a patient's
    score is the largest of its images (per class, of its images of that class), and
    the promise is that *all* sets of a new patient are right; hence each single one is,
    at least as often. The mean score of a patient would promise nothing of its images.

    The promise is an average over calibration sets as well. Given one of n scores,
    the share of m new patients that are right is beta-binomial with parameters k and
    n + 1 - k, k = ⌈(n + 1)(1 - `alpha`)⌉, where scores have no ties [2]_: at n = 100
    and `alpha` = 0.1, of very many patients between .84 and .95 nineteen times in
    twenty.

    With `cv`, the p-values of the folds are averaged. Twice a mean of p-values is a
    p-value [3]_, hence the factor; as a rule coverage is close to 1 - `alpha`.

    All this holds for new patients like those of fit. On those of another hospital,
    scanner or prevalence nothing is promised: sets per class that held the truth of
    90 % of the held-out healthy children in PneumoniaMNIST's training set held that of
    54 % in its official test set (``benchmarks/bench_uncertainty.py``).

    References
    ----------
    .. [1] M. Sadinle, J. Lei, L. Wasserman, "Least ambiguous set-valued classifiers
       with bounded error levels", Journal of the American Statistical Association
       114:223-234, 2019.
    .. [2] V. Vovk, "Conditional validity of inductive conformal predictors", Machine
       Learning 92:349-376, 2013.
    .. [3] V. Vovk, R. Wang, "Combining p-values via averaging", Biometrika
       107:791-808, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmedimg.uncertainty import ConformalClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=1000)
    >>> X = rng.normal(loc=y, size=(2, 1000)).T
    >>> clf = ConformalClassifier(LogisticRegression(), alpha=0.1, random_state=0)
    >>> sets = clf.fit(X[:800], y[:800]).predict_set(X[800:])
    >>> sets[:4]
    array([[False,  True],
           [ True,  True],
           [ True,  True],
           [False,  True]])
    >>> print(f"{sets[np.arange(200), y[800:]].mean():.2f}")
    0.92
    """

    _parameter_constraints: ClassVar[dict] = {
        **HeldOutClassifier._parameter_constraints,
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "method": [StrOptions({"marginal", "per_class"})],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        alpha: float = 0.1,
        method: str = "marginal",
        cv: Any = None,
        calibration_fraction: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.alpha = alpha
        self.method = method
        self.cv = cv
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    def _decide(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None, parts: list[Part]
    ) -> None:
        self.estimators_ = [part.estimator for part in parts]
        self._scores = [self._calibrate(part) for part in parts]
        self.n_calibration_ = np.sum(
            [[len(scores) for scores in part] for part in self._scores], axis=0
        )
        self.coverage_guarantee_ = 1 - self.alpha * (1 if len(parts) == 1 else 2)

    def _calibrate(self, part: Part) -> list[np.ndarray]:
        """Sorted calibration scores for each class."""
        true = np.searchsorted(self.classes_, part.y)
        score = 1 - part.estimator.predict_proba(part.X)[np.arange(len(true)), true]
        scores = []
        for code in range(len(self.classes_)):
            rows = true == code if self.method == "per_class" else slice(None)
            patients = None if part.patients is None else part.patients[rows]
            scores.append(one_score_a_patient(score[rows], patients))
        self._check_enough(scores, "images" if part.patients is None else "patients")
        return scores

    def _check_enough(self, scores: list[np.ndarray], units: str) -> None:
        counts = [len(own) for own in scores]
        least = needed(self.alpha)
        if min(counts) >= least:
            return
        of_class = ""
        if self.method == "per_class":
            of_class = f" of class {self.classes_[int(np.argmin(counts))].item()!r}"
        raise ValueError(
            f"alpha={self.alpha} needs at least {least} calibration {units}{of_class} "
            f"(1/alpha - 1); there are {min(counts)}, and every set would hold the "
            "label. Hold out more by calibration_fraction, use fewer folds in cv, "
            "raise alpha, or add data."
        )

    def predict_set(self, X: Any) -> np.ndarray:
        """Predict sets of labels.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of bool, shape (n, n_classes)
            Whether each label of `classes_` is in the set.
        """
        check_is_fitted(self)
        p_value = np.zeros((), dtype=float)
        for estimator, scores in zip(self.estimators_, self._scores, strict=True):
            score = 1 - estimator.predict_proba(X)
            columns = zip(scores, score.T, strict=True)
            p_value = p_value + np.column_stack(
                [_p_values(calibration, new) for calibration, new in columns]
            )
        return p_value / len(self.estimators_) > self.alpha

    def predict(self, X: Any) -> np.ndarray:
        """Predict single labels, as the estimator does.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            Classes; with `cv`, the most probable ones on average over the folds.
        """
        check_is_fitted(self)
        if len(self.estimators_) == 1:
            return self.estimators_[0].predict(X)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of the estimator, with `cv` their mean.

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
        return np.mean([each.predict_proba(X) for each in self.estimators_], axis=0)


def _p_values(calibration: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Share of the scores, the new one counted, that are not below the new one."""
    n = len(calibration)
    return (1 + n - np.searchsorted(calibration, new, side="left")) / (n + 1)
