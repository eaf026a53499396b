"""A classifier that may say "refer" instead of an answer that it is unsure of."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skmedimg.metrics import AURC, aurc
from skmedimg.model_selection._patients import patients_of
from skmedimg.uncertainty._held_out import HeldOutClassifier, OneEstimator, Part


class SelectiveClassifier(OneEstimator, HeldOutClassifier):
    """Answers the images it is surest of, and refers the others to a human.

    Parameters
    ----------
    estimator : classifier
        Gives labels and probabilities. A fitted one in a
        `sklearn.frozen.FrozenEstimator` is taken as it is: fit then only draws the
        line between answering and referring, on images that must be new to it.
    coverage : float, default=0.8
        Share of images like those of fit that is answered, on average at least.
    refer_label : object, default="refer"
        What `predict` gives for an image that is referred; none of the classes.
    cv : int, splitter, iterable or None, default=None
        None holds out `calibration_fraction` of the patients once. A number of folds
        or a splitter takes out-of-fold confidences of all images, and then fits the
        estimator on all of them.
    calibration_fraction : float, default=0.25
        Share of the patients that are held out, with ``cv=None``.
    random_state : int, RandomState instance or None, default=None
        Draws the patients that are held out. No global generator is touched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, without `refer_label`.
    estimator_ : classifier
        The fitted estimator.
    threshold_ : float
        Least confidence of an answer.
    n_features_in_ : int
        Features seen by the estimator, if it tells.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names seen by the estimator, if it tells.

    See Also
    --------
    skmedimg.metrics.risk_coverage_curve : Errors at every coverage.
    EmbeddingOutlierDetector : Finds images that are unlike those of training.

    Notes
    -----
    The confidence of an answer is the probability that the estimator gives to the very
    label that it answers [1]_; with two classes, neither is treated as the positive
    one. The threshold is the order statistic of n held-out confidences that a new image
    reaches with probability `coverage` at least; with ``coverage=1`` nothing is
    referred. Patients are whole in the split, and images count alike.

    What is answered is easier than what is referred: sensitivity and specificity among
    the answered are not those of the classifier on all patients.

    References
    ----------
    .. [1] Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks",
       NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmedimg.uncertainty import SelectiveClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["benign", "malignant"], size=1000)
    >>> X = rng.normal(loc=y == "malignant", size=(2, 1000)).T
    >>> clf = SelectiveClassifier(LogisticRegression(), coverage=0.7, random_state=0)
    >>> clf.fit(X[:800], y[:800]).predict(X[800:804])
    array(['malignant', 'refer', 'refer', 'malignant'], dtype='<U9')
    >>> print(f"{clf.decision_mask(X[800:]).mean():.2f}")
    0.73
    """

    _parameter_constraints: ClassVar[dict] = {
        **HeldOutClassifier._parameter_constraints,
        "coverage": [Interval(Real, 0, 1, closed="right")],
        "refer_label": "no_validation",
    }

    def __init__(
        self,
        estimator: Any,
        *,
        coverage: float = 0.8,
        refer_label: Any = "refer",
        cv: Any = None,
        calibration_fraction: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.refer_label = refer_label
        self.cv = cv
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    def _decide(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None, parts: list[Part]
    ) -> None:
        if self.refer_label in self.classes_.tolist():
            raise ValueError(
                f"refer_label={self.refer_label!r} is one of the classes "
                f"{self.classes_.tolist()}: an answer could not be told from a "
                "referral. Choose another."
            )
        confidence = np.sort(
            np.concatenate([_answer(part.estimator, part.X)[1] for part in parts])
        )
        # A new confidence is below the j-th of n with probability j / (n + 1).
        j = int(np.floor((1 - self.coverage) * (len(confidence) + 1) + 1e-9))
        self.threshold_ = float(confidence[j - 1]) if j else -np.inf
        self.estimator_ = self._refitted(X, y, patients, parts)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels, or `refer_label`.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            Classes and `refer_label`; of dtype object where these are of two kinds.
        """
        answer, confidence = self._answer(X)
        answered = confidence >= self.threshold_
        if answered.all():
            return answer
        refer = np.asarray(self.refer_label)
        alike = refer.dtype.kind == answer.dtype.kind
        result = answer.astype(np.result_type(answer, refer) if alike else object)
        result[~answered] = self.refer_label
        return result

    def confidence(self, X: Any) -> np.ndarray:
        """Probability that the estimator gives to its own answer.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            Confidences.
        """
        return self._answer(X)[1]

    def decision_mask(self, X: Any) -> np.ndarray:
        """Tell which images are answered.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of bool, shape (n,)
            False where an image is referred.
        """
        return self.confidence(X) >= self.threshold_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy among the answered images.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.
        y : array-like of shape (n,)
            True labels.
        sample_weight : array-like of shape (n,), default=None
            Weights of the images.

        Returns
        -------
        float
            Share of right answers; NaN where nothing is answered.
        """
        answer, confidence = self._answer(X)
        answered = confidence >= self.threshold_
        if not answered.any():
            return float("nan")
        weight = None if sample_weight is None else np.asarray(sample_weight)[answered]
        true = np.asarray(y).reshape(len(answer))
        return accuracy_score(true[answered], answer[answered], sample_weight=weight)

    def risk(self, X: Any, y: Any, groups: Any = None) -> AURC:
        """Error rate on average over all coverages, of this order of referral.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit; new to the estimator.
        y : array-like of shape (n,)
            True labels.
        groups : array-like of shape (n,), default=None
            Patient of each image, for the interval. None takes ``X.groups``.

        Returns
        -------
        AURC
            As of `skmedimg.metrics.aurc`.
        """
        answer, confidence = self._answer(X)
        patients = patients_of(X, groups, len(answer))
        error = (answer != np.asarray(y).reshape(len(answer))).astype(float)
        return aurc(error, confidence, groups=patients, random_state=self.random_state)

    def _answer(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        check_is_fitted(self)
        return _answer(self.estimator_, X)


def _answer(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,), and the probability of each (n,)."""
    # Not the most probable label: an estimator may decide by another threshold.
    answer, proba = estimator.predict(X), estimator.predict_proba(X)
    code = np.searchsorted(estimator.classes_, answer)
    return answer, proba[np.arange(len(answer)), code]
