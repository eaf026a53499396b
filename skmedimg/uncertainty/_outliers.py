"""Images unlike those of training, by what the network makes of them."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, _fit_context
from sklearn.covariance import LedoitWolf
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d

from skmedimg._random import seed_of
from skmedimg.model_selection._patients import patients_of
from skmedimg.uncertainty._held_out import (
    needed,
    on_disk_as_sequence,
    one_score_a_patient,
    split_off,
    warn_of_seen_images,
)
from skmedimg.uncertainty._members import adopt_features, fit_member, input_tags_of

_N_NEIGHBORS = 5


class EmbeddingOutlierDetector(OutlierMixin, MetaEstimatorMixin, BaseEstimator):
    """Finds images that are unlike those of fit, by their distance in feature space.

    Parameters
    ----------
    estimator : image classifier or transformer
        Gives the features, by `embed` or else by `transform`: a `CNNImageClassifier`, a
        pipeline that ends in one, or for example `PixelStatistics`, a baseline. In a
        `sklearn.frozen.FrozenEstimator` it is taken as it is; the images of fit must
        then be new to it, whose own training images lie too close together.
    method : {"mahalanobis", "knn"}, default="mahalanobis"
        Distance: "mahalanobis" to the nearest class mean, with one covariance for all
        classes [1]_; "knn" to the fifth nearest image of fit [2]_.
    false_alarm_rate : float, default=0.05
        Share of patients (images, without groups) like those of fit with an image that
        is called an outlier, on average at most.
    calibration_fraction : float, default=0.25
        Share of the patients of fit that are held out to set the threshold.
    random_state : int, RandomState instance or None, default=None
        Draws the patients that are held out. No global generator is touched.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    offset_ : float
        Least score of an image that is called normal.
    n_features_in_ : int
        Features seen by the estimator, if it tells.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names seen by the estimator, if it tells.

    Notes
    -----
    Features are standardised, and the covariance is shrunk (Ledoit and Wolf). The
    threshold is the order statistic of held-out scores that makes calling an image an
    outlier a test at level `false_alarm_rate` [3]_. With groups, a patient's score is
    that of its most unusual image: images of one patient are not exchangeable.

    A network sees what separates its classes, and does not report what it has learnt to
    ignore: compare with `PixelStatistics`. On PneumoniaMNIST these found more of the
    inverted (100 to 66 %) and turned radiographs (99 to 46 % by 90°), the network more
    of the noisy ones (53 to 46 %), and neither found cropped ones
    (``benchmarks/bench_uncertainty.py``).

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018.
    .. [2] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution detection with deep
       nearest neighbors", ICML 2022.
    .. [3] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with
       conformal p-values", Annals of Statistics 51:149-178, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.uncertainty import EmbeddingOutlierDetector, PixelStatistics
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(100, 10, (200, 12, 12))
    >>> detector = EmbeddingOutlierDetector(PixelStatistics(), random_state=0).fit(X)
    >>> detector.predict(np.stack([X[0], 255 - X[0]]))
    array([ 1, -1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [
            HasMethods(["fit", "embed"]),
            HasMethods(["fit", "transform"]),
            Pipeline,
            FrozenEstimator,
        ],
        "method": [StrOptions({"mahalanobis", "knn"})],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def __init__(
        self,
        estimator: Any,
        *,
        method: str = "mahalanobis",
        false_alarm_rate: float = 0.05,
        calibration_fraction: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.false_alarm_rate = false_alarm_rate
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> "EmbeddingOutlierDetector":
        """Learn what normal images are, and from held-out ones how far they may lie.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Normal images, whatever `estimator` takes.
        y : array-like of shape (n,), default=None
            Their labels: what a network that is not frozen learns, and whose means
            "mahalanobis" takes. None takes all images as one class.
        groups : array-like of shape (n,), default=None
            Patient of each image: none is on both sides of the split. None takes
            ``X.groups`` where X is an `skmedimg.io.ImageSequence`.

        Returns
        -------
        self
            The detector.

        Raises
        ------
        ValueError
            If there are too few held-out patients for `false_alarm_rate`.
        """
        X, y = indexable(on_disk_as_sequence(X), y)
        n = _num_samples(X)
        y = None if y is None else column_or_1d(y)
        patients = patients_of(X, groups, n)
        warn_of_seen_images(self.estimator, X, patients)
        reference, held_out = split_off(
            n, patients, self.calibration_fraction, seed_of(self.random_state)
        )
        X_reference = _safe_indexing(X, reference)
        labels = None if y is None else y[reference]
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = self.estimator
        else:
            own = None if patients is None else patients[reference]
            self.estimator_ = fit_member(
                self.estimator, X_reference, labels, groups=own
            )
        self._learn(_features(self.estimator_, X_reference), labels)
        adopt_features(self, self.estimator_)
        scores = self._score(_safe_indexing(X, held_out))
        self._set_offset(scores, None if patients is None else patients[held_out])
        return self

    def _learn(self, features: np.ndarray, labels: np.ndarray | None) -> None:
        self._scaler = StandardScaler().fit(features)
        scaled = self._scaler.transform(features)
        if self.method == "knn":
            self._neighbours = NearestNeighbors(
                n_neighbors=min(_N_NEIGHBORS, len(scaled))
            ).fit(scaled)
            return
        code = np.zeros(len(scaled), dtype=int)
        if labels is not None:
            code = np.unique(labels, return_inverse=True)[1]
        self._means = np.stack(
            [scaled[code == c].mean(axis=0) for c in range(code.max() + 1)]
        )
        centred = scaled - self._means[code]
        self._covariance = LedoitWolf(assume_centered=True).fit(centred)

    def _set_offset(self, scores: np.ndarray, patients: np.ndarray | None) -> None:
        scores = -one_score_a_patient(-scores, patients)[::-1]
        n, rate = len(scores), self.false_alarm_rate
        # A new score is below the j-th of n with probability j / (n + 1).
        j = int(np.floor(rate * (n + 1) + 1e-9))
        if j == 0:
            units = "images" if patients is None else "patients"
            raise ValueError(
                f"false_alarm_rate={rate} needs at least {needed(rate)} held-out "
                f"{units} (1/rate - 1); there are {n}, and nothing could be called an "
                "outlier. Hold out more by calibration_fraction, raise "
                "false_alarm_rate, or add data."
            )
        self.offset_ = float(scores[j - 1])

    def score_samples(self, X: Any) -> np.ndarray:
        """Score how normal images are.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            Minus the distance, squared for "mahalanobis": larger is more normal.
        """
        check_is_fitted(self)
        return self._score(X)

    def _score(self, X: Any) -> np.ndarray:
        scaled = self._scaler.transform(_features(self.estimator_, X))
        if self.method == "knn":
            return -self._neighbours.kneighbors(scaled)[0][:, -1]
        distances = [self._covariance.mahalanobis(scaled - m) for m in self._means]
        return -np.min(distances, axis=0)

    def decision_function(self, X: Any) -> np.ndarray:
        """Score how normal images are, 0 at the threshold.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            `score_samples` less `offset_`; negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Tell outliers from normal images.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of int, shape (n,)
            1 for normal images, -1 for outliers.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = input_tags_of(self.estimator)
        return tags


def _features(estimator: Any, X: Any) -> np.ndarray:
    """Embeddings, or what a transformer gives, of shape (n, n_features)."""
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if isinstance(estimator, Pipeline) and hasattr(estimator[-1], "embed"):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    for name in ("embed", "transform"):
        if hasattr(estimator, name):
            return np.asarray(getattr(estimator, name)(X), dtype=np.float64)
    raise TypeError(
        f"estimator is a {type(estimator).__name__}, which has neither embed nor "
        "transform to give features by: pass a CNNImageClassifier, a pipeline that "
        "ends in one, or a transformer such as PixelStatistics()."
    )
