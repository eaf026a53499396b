"""The residual family, in two and three dimensions from the same code."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from skmedimg.architectures._layers import (
    ACTIVATIONS,
    BATCH_NORM,
    CONV,
    MAX_POOL,
    POOLING,
    Dropout,
    Network,
)

# Width of the first convolution, its stride, and whether a pool follows.
STEMS = {"small": (3, 1, False), "medium": (3, 2, False), "large": (7, 2, True)}


class ResNet(BaseEstimator):
    """Residual network of any width and depth, for images of any size.

    Parameters
    ----------
    width : int, default=16
        Filters of the first stage; each further stage doubles them.
    depth : int or "auto", default="auto"
        Number of stages (not of layers), at most 8. Each but the first halves the
        image and doubles the filters. "auto" goes on until the longest axis has at most
        7 pixels, and never beyond 5 stages.
    blocks : int, default=1
        Residual blocks in a stage.
    activation : {"relu", "leaky_relu", "elu", "silu", "gelu"}, default="relu"
        Non-linearity.
    dropout : float, default=0.0
        Share of the pooled features that is dropped while training.
    pooling : {"average", "max", "average_max"}, default="average_max"
        What the head is given of each feature map: its mean, its maximum, or both. A
        small finding raises the maximum and is lost in the mean.
    stem : {"auto", "small", "medium", "large"}, default="auto"
        First layer: "small" is a 3-wide convolution that keeps every pixel, "medium"
        the same with stride 2, "large" a 7-wide one with stride 2 followed by a max
        pool. "auto" goes by the longest axis: "medium" from 48 pixels on and "large"
        from 128 (24 and 64 voxels in 3-D). At 28 pixels a large stem throws away what
        it takes to see a lesion.

    References
    ----------
    He et al., "Identity mappings in deep residual networks", ECCV 2016.

    Examples
    --------
    >>> from skmedimg.architectures import ResNet
    >>> net = ResNet(width=8).build(1, 3, spatial_dims=2, image_size=(28, 28))
    >>> sum(p.numel() for p in net.parameters())
    19675
    """

    _parameter_constraints: ClassVar[dict] = {
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, 8, closed="both"), StrOptions({"auto"})],
        "blocks": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "pooling": [StrOptions({"average", "max", "average_max"})],
        "stem": [StrOptions({"auto", *STEMS})],
    }

    def __init__(
        self,
        width: int = 16,
        *,
        depth: int | str = "auto",
        blocks: int = 1,
        activation: str = "relu",
        dropout: float = 0.0,
        pooling: str = "average_max",
        stem: str = "auto",
    ) -> None:
        self.width = width
        self.depth = depth
        self.blocks = blocks
        self.activation = activation
        self.dropout = dropout
        self.pooling = pooling
        self.stem = stem

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
        image_size : sequence of int, default=None
            Pixels along each axis; needed only where `depth` or `stem` is "auto",
            which take 28 pixels without it.

        Returns
        -------
        torch.nn.Module
            Takes float tensors of shape (n, in_channels, *image_size), gives logits of
            shape (n, n_outputs).
        """
        self._validate_params()
        size = max(image_size) if image_size is not None else 28
        stem = self.stem
        if stem == "auto":
            medium, large = (48, 128) if spatial_dims == 2 else (24, 64)
            stem = "small" if size < medium else "medium" if size < large else "large"
        depth = self.depth
        if depth == "auto":
            _, stride, pooled = STEMS[stem]
            left = size / (stride * (2 if pooled else 1))
            depth = min(1 + math.ceil(math.log2(max(left / 7, 1))), 5)
        return ResNetModule(
            in_channels,
            n_outputs,
            spatial_dims,
            widths=[self.width * 2**i for i in range(int(depth))],
            blocks=self.blocks,
            activation=self.activation,
            dropout=self.dropout,
            pooling=self.pooling,
            stem=stem,
        )


class ResNetModule(Network):
    """The module behind `ResNet`: stem, stages of residual blocks, linear head."""

    def __init__(
        self,
        in_channels: int,
        n_outputs: int,
        spatial_dims: int,
        *,
        widths: Sequence[int],
        blocks: int,
        activation: str,
        dropout: float,
        pooling: str,
        stem: str,
    ) -> None:
        super().__init__()
        dims, act = spatial_dims, ACTIVATIONS[activation]
        kernel, stride, pooled = STEMS[stem]
        first: list[nn.Module] = [
            CONV[dims](in_channels, widths[0], kernel, stride, kernel // 2, bias=False),
            BATCH_NORM[dims](widths[0]),
            act(),
        ]
        if pooled:
            first.append(MAX_POOL[dims](3, 2, 1))
        self.stem = nn.Sequential(*first)
        stages: list[nn.Module] = []
        previous = widths[0]
        for i, width in enumerate(widths):
            for block in range(blocks):
                step = 2 if i > 0 and block == 0 else 1
                stages.append(_Block(previous, width, step, dims, act))
                previous = width
        self.stages = nn.Sequential(*stages)
        self.pool = POOLING[pooling]
        self.dropout = Dropout(dropout)
        n_features = 2 * previous if pooling == "average_max" else previous
        self.head = nn.Linear(n_features, n_outputs)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if isinstance(module, _Block):
                # Each block starts as the identity: training starts as a shallow net.
                nn.init.zeros_(module.norm2.get_parameter("weight"))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps of images of shape (n, C, *spatial)."""
        return self.stages(self.stem(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Logits of feature maps, or what the last layer is given."""
        pooled = self.pool(x)
        return pooled if pre_logits else self.to_logits(self.dropout(pooled))


class _Block(nn.Module):
    """Two convolutions and a shortcut, which is projected where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, dims: int, act) -> None:
        super().__init__()
        self.conv1 = CONV[dims](inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = BATCH_NORM[dims](outputs)
        self.conv2 = CONV[dims](outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = BATCH_NORM[dims](outputs)
        self.act = act()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            # Not one strided convolution: with few channels, channels last and several
            # threads, its gradient corrupts memory (oneDNN issue 6035).
            self.shortcut = nn.Sequential(
                MAX_POOL[dims](1, stride),
                CONV[dims](inputs, outputs, 1, bias=False),
                BATCH_NORM[dims](outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)).add_(self.shortcut(x)))
