"""Weights of another task to start from."""

from collections.abc import Mapping
from numbers import Real
from os import PathLike
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions


class Pretrained(BaseEstimator):
    """Weights that a network starts from, for ``weights=``: fine-tuning.

    The last layer is left out, with a warning that says so, unless `source` is an
    estimator of the same classes: weights do not tell what their outputs mean, nor do
    the columns of label indicators. With an estimator that chose its network by
    ``architecture="auto"``, "auto" is that network. Where the images have another
    number of channels, the first filters are summed over the old channels and shared
    out among the new ones: grey images then give what they would give as colour.

    Parameters
    ----------
    source : path, mapping or FrozenEstimator
        File of `torch.save` or safetensors, a state dict, or a fitted estimator in
        `sklearn.frozen.FrozenEstimator`. The prefixes ``module.`` and ``_orig_mod.`` of
        names are dropped; of a checkpoint the entry that holds tensors is taken.
    freeze : {"features"} or None, default=None
        "features" trains the last layer only; statistics of normalisations stay too.
    lr_scale : float, default=1.0
        Factor on the learning rate of all but the last layer.

    Examples
    --------
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.architectures import Pretrained, ResNet
    >>> clf = CNNImageClassifier(
    ...     architecture=ResNet(width=16),
    ...     weights=Pretrained("chest.safetensors", lr_scale=0.1),
    ... )
    """

    _parameter_constraints: ClassVar[dict] = {
        "source": [str, PathLike, Mapping, FrozenEstimator],
        "freeze": [StrOptions({"features"}), None],
        "lr_scale": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, source: Any, *, freeze: str | None = None, lr_scale: float = 1.0
    ) -> None:
        self.source = source
        self.freeze = freeze
        self.lr_scale = lr_scale
