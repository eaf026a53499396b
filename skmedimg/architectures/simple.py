"""The plain convolution-ReLU-pool stack of introductory articles."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skmedimg.architectures._layers import (
    ACTIVATIONS,
    CONV,
    MAX_POOL,
    Dropout,
    Network,
    check_image_size,
)


class SimpleCNN(BaseEstimator):
    """Unpadded 3-wide convolutions, each with a pool of 2, and one dense layer.

    With the defaults, on 150 x 150 RGB images of two classes: 32-64-128-128 filters,
    512 dense units, one sigmoid logit, 3,453,121 parameters, weight for weight the
    network of Keras tutorials. An axis that has become too short for an unpadded
    convolution (under 3 pixels) is padded, and one of a single pixel is not pooled, so
    that any size works.

    Parameters
    ----------
    width : int, default=32
        Filters of the first convolution; they double twice, then stay.
    depth : int, default=4
        Number of convolutions.
    hidden_units : int, default=512
        Units of the dense layer.
    activation : {"relu", "leaky_relu", "elu", "silu", "gelu"}, default="relu"
        Non-linearity.
    dropout : float, default=0.0
        Share of the flattened features that is dropped while training.

    Notes
    -----
    Keras users know this network with ``optimizer="rmsprop"``, which here has Keras'
    defaults: rate 1e-3, rho .9, epsilon 1e-7 (PyTorch's own are 1e-2, .99, 1e-8).

    Examples
    --------
    >>> from skmedimg.architectures import SimpleCNN
    >>> net = SimpleCNN().build(3, 1, spatial_dims=2, image_size=(150, 150))
    >>> sum(p.numel() for p in net.parameters())
    3453121
    """

    _parameter_constraints: ClassVar[dict] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        width: int = 32,
        *,
        depth: int = 4,
        hidden_units: int = 512,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        self.width = width
        self.depth = depth
        self.hidden_units = hidden_units
        self.activation = activation
        self.dropout = dropout

    def build(
        self,
        in_channels: int,
        n_outputs: int,
        spatial_dims: int,
        image_size: Sequence[int] | None = None,
    ) -> nn.Module:
        """Make the network.

        Parameters
        ----------
        in_channels : int
            Channels of the images.
        n_outputs : int
            Logits per image.
        spatial_dims : {2, 3}
            Axes of an image.
        image_size : sequence of int
            Pixels along each axis; the dense layer depends on it.

        Returns
        -------
        torch.nn.Module
            Takes float tensors of shape (n, in_channels, *image_size), gives logits of
            shape (n, n_outputs).

        Raises
        ------
        ValueError
            If `image_size` is missing or has not `spatial_dims` entries.
        """
        self._validate_params()
        return SimpleModule(
            in_channels,
            n_outputs,
            check_image_size(image_size, spatial_dims),
            filters=[self.width * 2 ** min(i, 2) for i in range(self.depth)],
            hidden_units=self.hidden_units,
            activation=self.activation,
            dropout=self.dropout,
        )


class SimpleModule(Network):
    """The module behind `SimpleCNN`."""

    def __init__(
        self,
        in_channels: int,
        n_outputs: int,
        image_size: Sequence[int],
        *,
        filters: Sequence[int],
        hidden_units: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        dims, act, size = len(image_size), ACTIVATIONS[activation], list(image_size)
        layers: list[nn.Module] = []
        for n_filters in filters:
            padding = [int(s < 3) for s in size]
            layers += [CONV[dims](in_channels, n_filters, 3, padding=padding), act()]
            size = [s if p else s - 2 for s, p in zip(size, padding, strict=True)]
            pool = [min(s, 2) for s in size]
            layers.append(MAX_POOL[dims](pool))
            size = [s // p for s, p in zip(size, pool, strict=True)]
            in_channels = n_filters
        self.features = nn.Sequential(*layers)
        flat = in_channels
        for s in size:
            flat *= s
        self.dropout = Dropout(dropout)
        self.dense = nn.Sequential(nn.Linear(flat, hidden_units), act())
        self.head = nn.Linear(hidden_units, n_outputs)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps of images of shape (n, C, *spatial)."""
        return self.features(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Logits of feature maps, or what the last layer is given."""
        hidden = self.dense(self.dropout(x.flatten(1)))
        return hidden if pre_logits else self.to_logits(hidden)
