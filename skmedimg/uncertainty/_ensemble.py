"""Deep ensembles: equal networks from different seeds, and their mean."""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
    clone,
)
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skmedimg._random import seed_of
from skmedimg.classifier import CNNImageClassifier
from skmedimg.uncertainty._members import adopt_features, fit_member, input_tags_of
from skmedimg.uncertainty._samples import PredictionSamples, summarise


class DeepEnsembleClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Several networks that differ by their seed, and the mean of their probabilities.

    Parameters
    ----------
    estimator : classifier, default=None
        What is fitted several times; it, or a step of it, has a `random_state`. None
        is a `CNNImageClassifier` with its defaults.
    n_members : int, default=5
        Number of networks.
    random_state : int, RandomState instance or None, default=None
        Decides the seed of each member. None takes fresh seeds.
    n_jobs : int, default=None
        Members fitted at the same time, in threads of this process. It makes networks
        of this library faster; those from elsewhere draw from torch's global generator,
        and compute in turn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; for label indicators the label indices.
    estimators_ : list of n_members classifiers
        The members.
    n_features_in_ : int
        Pixels of an image, all channels together.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names where X was a DataFrame with string columns.

    See Also
    --------
    predict_augmented : Several predictions from one network.
    sklearn.calibration.CalibratedClassifierCV : With ``method="temperature"``, makes
        the mean calibrated; an ensemble tends to be too cautious [2]_.

    Notes
    -----
    Every member learns from all images [1]_: seeds alone make networks differ enough,
    and resampling them would cost each member a third of the images.

    An ensemble does not always beat one network with as many augmented predictions,
    which cost the same: with five each, on PneumoniaMNIST, its log loss was .116 to
    .114 on held-out images of the training set, a tie, and .238 to .324 on the official
    test set, of another distribution (``benchmarks/bench_uncertainty.py``).

    X is passed on as it is: members read the same array, memory map or
    `skmedimg.io.ImageSequence`, also with `n_jobs`. On a GPU each member that is being
    fitted holds its own images there until it is done.

    `groups` go to members whose `fit` takes them. A pipeline takes none without
    metadata routing: pass X as an `skmedimg.io.ImageSequence`, which carries them.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and scalable predictive
       uncertainty estimation using deep ensembles", NeurIPS 2017.
    .. [2] R. Rahaman, A. H. Thiery, "Uncertainty quantification and deep ensembles",
       NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.uncertainty import DeepEnsembleClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 50, (40, 12, 12), dtype=np.uint8)
    >>> y = np.repeat(["healthy", "lesion"], 20)
    >>> X[20:, 4:8, 4:8] += 100
    >>> member = CNNImageClassifier(max_epochs=10)
    >>> clf = DeepEnsembleClassifier(member, n_members=3, random_state=0).fit(X, y)
    >>> clf.predict(X[[0, -1]])
    array(['healthy', 'lesion'], dtype='<U7')
    >>> clf.predict_samples(X).samples.shape
    (3, 40, 2)
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def __init__(
        self,
        estimator: Any = None,
        n_members: int = 5,
        *,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_members = n_members
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> "DeepEnsembleClassifier":
        """Fit the members.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Passed on to the members as it is.
        y : array-like of shape (n,) or (n, n_labels)
            Labels.
        sample_weight : array-like of shape (n,), default=None
            Weights of the images, for members that take them.
        groups : array-like of shape (n,), default=None
            Patient of each image, for members that take them: `early_stopping` never
            splits one.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If nothing in `estimator` has a `random_state`, or a member cannot be
            fitted.
        """
        seeds = np.random.default_rng(seed_of(self.random_state)).integers(
            2**31 - 1, size=self.n_members
        )
        self.estimators_ = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(fit_member)(
                _seeded(self._base(), seed), X, y, sample_weight, groups
            )
            for seed in seeds.tolist()
        )
        first = self.estimators_[0]
        self.classes_ = first.classes_
        self._multilabel = np.asarray(y).shape[1:] not in ((), (1,))
        adopt_features(self, first)
        return self

    def _base(self) -> Any:
        return CNNImageClassifier() if self.estimator is None else self.estimator

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels by the mean of the members' probabilities.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
            Classes, or label indicators.
        """
        proba = self.predict_proba(X)
        if self._multilabel:
            return (proba > 0.5).astype(int)
        return self.classes_[proba.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the mean of the members' probabilities.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n, n_classes) or (n, n_labels)
            Probabilities, in the order of `classes_`.
        """
        return self._samples(X).mean(axis=0)

    def predict_samples(self, X: Any) -> PredictionSamples:
        """Predict with each member, and tell how far they disagree.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        PredictionSamples
            Named tuple (proba, std, entropy, mutual_information, samples), with
            n_members samples.
        """
        return summarise(self._samples(X), multilabel=self._multilabel)

    def _samples(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return np.stack([member.predict_proba(X) for member in self.estimators_])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        base = get_tags(self._base())
        tags.input_tags = input_tags_of(self._base())
        tags.classifier_tags.multi_label = base.classifier_tags.multi_label
        return tags


def _seeded(estimator: Any, seed: int) -> Any:
    """Clone an estimator and give each `random_state` in it the seed."""
    member = clone(estimator)
    names = [
        name
        for name in member.get_params()
        if name == "random_state" or name.endswith("__random_state")
    ]
    if not names:
        raise ValueError(
            f"estimator={estimator!r:.80} has no random_state: its "
            "members would all be alike. Pass one that has."
        )
    return member.set_params(**dict.fromkeys(names, seed))
