"""Several predictions of each image: by augmentation, by dropout, by members."""

import copy
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import entr
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from skmedimg._modules import drawing_for, draws_by_itself
from skmedimg._random import seed_of
from skmedimg.architectures._layers import Dropout
from skmedimg.augmentation import PRESETS, Augmentation, make_augment
from skmedimg.classifier import CNNImageClassifier

_PARAMETERS: dict[str, Any] = {
    "estimator": "no_validation",
    "X": "no_validation",
    "n_samples": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}


class PredictionSamples(NamedTuple):
    """Several predictions of each of n images, and how far they disagree.

    Attributes
    ----------
    proba : ndarray of shape (n, n_classes)
        Mean probabilities.
    std : ndarray of shape (n, n_classes)
        Standard deviations of the probabilities over the samples.
    entropy : ndarray of shape (n,)
        Entropy of the mean, in nats: the whole uncertainty. For label indicators
        (n, n_labels), that of each label.
    mutual_information : ndarray of the shape of `entropy`
        The part of `entropy` that comes from the samples disagreeing (BALD): it less
        the mean entropy of a sample, in nats.
    samples : ndarray of shape (n_samples, n, n_classes)
        The probabilities themselves.
    """

    proba: np.ndarray
    std: np.ndarray
    entropy: np.ndarray
    mutual_information: np.ndarray
    samples: np.ndarray


def summarise(samples: np.ndarray, *, multilabel: bool = False) -> PredictionSamples:
    """Mean, spread and entropies of probabilities (n_samples, n, n_classes)."""
    proba = samples.mean(axis=0)
    whole, within = _entropy(proba, multilabel), _entropy(samples, multilabel).mean(0)
    return PredictionSamples(
        proba=proba,
        std=samples.std(axis=0, ddof=1 if len(samples) > 1 else 0),
        entropy=whole,
        # Of equal samples the difference may be a rounding error below 0.
        mutual_information=np.maximum(whole - within, 0.0),
        samples=samples,
    )


def _entropy(proba: np.ndarray, multilabel: bool) -> np.ndarray:
    if multilabel:
        return entr(proba) + entr(1 - proba)
    return entr(proba).sum(axis=-1)


@validate_params(
    _PARAMETERS
    | {"augmentation": [StrOptions({"same", *PRESETS}), Augmentation, callable]},
    prefer_skip_nested_validation=True,
)
def predict_augmented(
    estimator: Any,
    X: Any,
    *,
    n_samples: int = 16,
    augmentation: Any = "same",
    random_state: Any = None,
) -> PredictionSamples:
    """Predict each image several times, changed at random (test-time augmentation).

    Parameters
    ----------
    estimator : CNNImageClassifier
        Fitted; also in a `sklearn.frozen.FrozenEstimator`.
    X : array-like or ImageSequence of n images
        In the layout of fit. Each image is read once.
    n_samples : int, default=16
        Predictions of each image, at least 2.
    augmentation : str, Augmentation or callable, default="same"
        How images are changed, as the `augmentation` of the estimator; "same" takes
        that one. Images are never mixed (`mixup`, `cutmix`): a mixture has no label.
    random_state : int, RandomState instance or None, default=None
        Seed of the changes.

    Returns
    -------
    PredictionSamples
        Named tuple (proba, std, entropy, mutual_information, samples).

    Raises
    ------
    ValueError
        If there is nothing to change an image by, or X is not like the images of fit.
    TypeError
        If `estimator` is no image classifier of this package.

    See Also
    --------
    predict_dropout : Samples from a network with dropout.
    DeepEnsembleClassifier : Samples from several networks.

    Notes
    -----
    The mean is over probabilities. The spread tells how stable a prediction is under
    changes that should not matter [1]_; it knows nothing of what the network has not
    learnt.

    References
    ----------
    .. [1] G. Wang, W. Li, M. Aertsen, J. Deprest, S. Ourselin, T. Vercauteren,
       "Aleatoric uncertainty estimation with test-time augmentation for medical image
       segmentation with convolutional neural networks", Neurocomputing 338:34-45, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.uncertainty import predict_augmented
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 50, (40, 12, 12), dtype=np.uint8)
    >>> y = np.repeat([0, 1], 20)
    >>> X[20:, 4:8, 4:8] += 100
    >>> clf = CNNImageClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> predicted = predict_augmented(clf, X, n_samples=8, random_state=0)
    >>> predicted.proba.shape, predicted.samples.shape
    ((40, 2), (8, 40, 2))
    """
    estimator = _image_classifier(estimator)
    if isinstance(augmentation, str) and augmentation == "same":
        augmentation = estimator.augmentation
    augment = make_augment(
        _unmixed(augmentation), estimator.image_spec_, estimator.device_
    )
    if augment is None:
        raise ValueError(
            "predict_augmented has nothing to change the images by: the estimator has "
            "augmentation=None, or was fitted on rows without image_shape. Pass "
            "augmentation=, or image_shape to the estimator."
        )
    generator = _generator(estimator, random_state)

    def changed_logits(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        # As in training, images are changed in full precision.
        with torch.autocast(x.device.type, enabled=False):
            changed, _ = augment(x, generator)
        return module(changed)

    return _draw(estimator, X, changed_logits, n_samples)


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def predict_dropout(
    estimator: Any, X: Any, *, n_samples: int = 16, random_state: Any = None
) -> PredictionSamples:
    """Predict each image several times, with dropout on (Monte-Carlo dropout).

    Parameters
    ----------
    estimator : CNNImageClassifier
        Fitted, with an architecture that has dropout; also in a
        `sklearn.frozen.FrozenEstimator`. The estimator itself stays as it is.
    X : array-like or ImageSequence of n images
        In the layout of fit. Each image is read once.
    n_samples : int, default=16
        Predictions of each image, at least 2.
    random_state : int, RandomState instance or None, default=None
        Seed of the dropout.

    Returns
    -------
    PredictionSamples
        Named tuple (proba, std, entropy, mutual_information, samples).

    Raises
    ------
    ValueError
        If the network has no dropout layer with a probability above 0, or X is not
        like the images of fit.
    TypeError
        If `estimator` is no image classifier of this package.

    See Also
    --------
    predict_augmented : Samples from changed images.
    DeepEnsembleClassifier : Samples from several networks.

    Notes
    -----
    Under the conditions of [1]_ these are samples from an approximate posterior. Only
    dropout layers leave their inference mode; normalisations keep their statistics.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing
       model uncertainty in deep learning", ICML 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.architectures import ResNet
    >>> from skmedimg.uncertainty import predict_dropout
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 50, (40, 12, 12), dtype=np.uint8)
    >>> y = np.repeat([0, 1], 20)
    >>> X[20:, 4:8, 4:8] += 100
    >>> clf = CNNImageClassifier(ResNet(4, dropout=0.3), max_epochs=5, random_state=0)
    >>> predicted = predict_dropout(clf.fit(X, y), X, n_samples=8, random_state=0)
    >>> predicted.std.shape
    (40, 2)
    """
    estimator = _image_classifier(estimator)
    # A copy: another thread may be predicting with the network itself.
    module = _with_dropout(copy.deepcopy(estimator.module_))
    generator = _generator(estimator, random_state)

    def dropped_logits(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with drawing_for(module, generator):
            return module(x)

    if draws_by_itself(module):
        module.set_generator(generator)
    return _draw(estimator, X, dropped_logits, n_samples)


def _draw(
    estimator: CNNImageClassifier, X: Any, function: Any, n_samples: int
) -> PredictionSamples:
    """Call `function` several times on each batch, in one pass over the images."""

    def draws(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([function(module, x) for _ in range(n_samples)], dim=1)

    outputs = estimator._forward(X, draws)
    logits = outputs.reshape(len(outputs) * n_samples, -1)
    proba = estimator._probabilities(logits)
    samples = proba.reshape(len(outputs), n_samples, -1).swapaxes(0, 1)
    return summarise(samples, multilabel=estimator._encoding.multilabel)


def _image_classifier(estimator: Any) -> CNNImageClassifier:
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if not isinstance(estimator, CNNImageClassifier):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}; samples are drawn from a "
            "fitted CNNImageClassifier. Of a pipeline, pass its last step and the "
            "images as the other steps give them: pipe[-1], pipe[:-1].transform(X)."
        )
    check_is_fitted(estimator)
    return estimator


def _unmixed(augmentation: Any) -> Any:
    if isinstance(augmentation, Augmentation):
        return clone(augmentation).set_params(mixup=0.0, cutmix=0.0)
    return augmentation


def _generator(estimator: CNNImageClassifier, random_state: Any) -> torch.Generator:
    return torch.Generator(estimator.device_).manual_seed(seed_of(random_state))


def _with_dropout(module: nn.Module) -> nn.Module:
    """Turn dropout on, in place."""
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, Dropout | _DropoutNd) and layer.p > 0
    ]
    if not layers:
        raise ValueError(
            f"the network ({type(module).__name__}) has no dropout layer with a "
            "probability above 0, so that all its predictions are alike. Fit one that "
            "has, for example with architecture=skmedimg.architectures.ResNet("
            "dropout=0.3), or use predict_augmented."
        )
    for layer in layers:
        layer.train()
    return module
