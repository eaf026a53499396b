"""A decision threshold whose sensitivity is met with a confidence that is stated."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from skmedimg.metrics import threshold_at_sensitivity
from skmedimg.metrics._checks import positive_code
from skmedimg.uncertainty._held_out import HeldOutClassifier, OneEstimator, Part


class SensitivityThresholdClassifier(OneEstimator, HeldOutClassifier):
    """Decides between two classes at the highest threshold that is sensitive enough.

    Parameters
    ----------
    estimator : classifier
        Of two classes, gives probabilities. A fitted one in a
        `sklearn.frozen.FrozenEstimator` is taken as it is: fit then only chooses the
        threshold, on images that must be new to it.
    sensitivity : float, default=0.95
        Share of new positive cases to find.
    confidence : float, default=0.95
        Probability that the threshold finds that share.
    pos_label : int, float, bool or str, default=None
        Label of the positive class. None means 1, and is allowed where the labels are
        {0, 1} or {-1, 1}.
    cv : int, splitter, iterable or None, default=None
        None holds out `calibration_fraction` of the patients once. A number of folds
        or a splitter takes out-of-fold probabilities of all images, and then fits the
        estimator on all of them: the confidence holds approximately.
    calibration_fraction : float, default=0.25
        Share of the patients that are held out, with ``cv=None``.
    random_state : int, RandomState instance or None, default=None
        Draws the patients that are held out. No global generator is touched.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Class labels.
    estimator_ : classifier
        The fitted estimator.
    threshold_ : float
        Least probability of the positive class that is called positive.
    n_features_in_ : int
        Features seen by the estimator, if it tells.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names seen by the estimator, if it tells.

    See Also
    --------
    sklearn.model_selection.TunedThresholdClassifierCV : Maximises a score on average
        over folds; it knows no patients, and promises nothing.
    skmedimg.metrics.threshold_at_sensitivity : How the threshold is found.
    skmedimg.metrics.specificity_ci : What it costs, on a test set.

    Notes
    -----
    The threshold that has the sensitivity on the held-out cases themselves misses it on
    new ones about every second time. This one is lower: an order statistic of the
    held-out positive cases that is a tolerance bound, whatever the distribution (with
    groups approximately, see `threshold_at_sensitivity`). It holds for patients like
    those of fit. On others nothing is promised: thresholds
    drawn on PneumoniaMNIST's training set found enough of the pneumonias of its
    official test set as well, but their specificity fell from .96 to .70
    (``benchmarks/bench_uncertainty.py``).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmedimg.uncertainty import SensitivityThresholdClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["benign", "malignant"], size=1200)
    >>> X = rng.normal(loc=y == "malignant", size=(2, 1200)).T
    >>> clf = SensitivityThresholdClassifier(
    ...     LogisticRegression(), sensitivity=0.9, pos_label="malignant", random_state=0
    ... )
    >>> found = clf.fit(X[:800], y[:800]).predict(X[800:]) == "malignant"
    >>> print(f"{found[y[800:] == 'malignant'].mean():.2f}")
    0.94
    """

    _parameter_constraints: ClassVar[dict] = {
        **HeldOutClassifier._parameter_constraints,
        "sensitivity": [Interval(Real, 0, 1, closed="neither")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "pos_label": "no_validation",
    }

    def __init__(
        self,
        estimator: Any,
        *,
        sensitivity: float = 0.95,
        confidence: float = 0.95,
        pos_label: Any = None,
        cv: Any = None,
        calibration_fraction: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.sensitivity = sensitivity
        self.confidence = confidence
        self.pos_label = pos_label
        self.cv = cv
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    def _decide(
        self, X: Any, y: np.ndarray, patients: np.ndarray | None, parts: list[Part]
    ) -> None:
        self._positive = self._code_of_positive()
        score = [
            part.estimator.predict_proba(part.X)[:, self._positive] for part in parts
        ]
        true = np.concatenate([part.y for part in parts])
        groups = None
        if patients is not None:
            groups = np.concatenate([part.patients for part in parts])
        self.threshold_ = threshold_at_sensitivity(
            true == self.classes_[self._positive],
            np.concatenate(score),
            self.sensitivity,
            groups=groups,
            confidence=self.confidence,
        )
        self.estimator_ = self._refitted(X, y, patients, parts)

    def _code_of_positive(self) -> int:
        labels = self.classes_.tolist()
        if len(labels) != 2:
            raise ValueError(
                "Only binary classification is supported. The estimator knows "
                f"{len(labels)} classes, {labels[:5]}: a sensitivity is of one class "
                "against one other."
            )
        return positive_code(labels, self.pos_label, "y")

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels at `threshold_`.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            Classes.
        """
        found = self.predict_proba(X)[:, self._positive] >= self.threshold_
        return self.classes_[np.where(found, self._positive, 1 - self._positive)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
