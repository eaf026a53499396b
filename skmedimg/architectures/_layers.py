"""Pieces that every family shares: layers by number of axes, activations, dropout."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

# In place where torch can: what comes before is a sum or a normalisation, whose
# gradient does not need its result.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "elu": partial(nn.ELU, inplace=True),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class Network(nn.Module):
    """Base of the families built here; marks that dropout has a generator of its own.

    Subclasses give ``forward_features`` (images to feature maps) and
    ``forward_head`` (feature maps to logits, or to the features before the last
    layer with ``pre_logits=True``), as timm names them.
    """

    head: nn.Linear

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))

    def to_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Run the last layer, in single precision whatever the rest computes in.

        bfloat16 has 8 bits: logits of different images would be the same number.
        """
        kind = features.device.type
        if not torch.is_autocast_enabled(kind):  # nor is it in a graph that is exported
            return self.head(features)
        with torch.autocast(kind, enabled=False):
            return self.head(features.float())

    def set_generator(self, generator: torch.Generator | None) -> None:
        """Make every dropout layer draw from `generator` (None: torch's global one)."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator


class Dropout(nn.Module):
    """`torch.nn.Dropout` with a generator, so that no global state is moved."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * keep.div_(1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def global_average(x: torch.Tensor) -> torch.Tensor:
    """Mean over the spatial axes: (n, F, *spatial) to (n, F)."""
    return x.flatten(2).mean(2)


def global_max(x: torch.Tensor) -> torch.Tensor:
    """Maximum over the spatial axes: (n, F, *spatial) to (n, F)."""
    return x.flatten(2).amax(2)


def global_average_max(x: torch.Tensor) -> torch.Tensor:
    """Mean and maximum over the spatial axes: (n, F, *spatial) to (n, 2 F)."""
    return torch.cat([global_average(x), global_max(x)], dim=1)


POOLING: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "average": global_average,
    "max": global_max,
    "average_max": global_average_max,
}


def check_image_size(image_size: Sequence[int] | None, dims: int) -> tuple[int, ...]:
    """Spatial size as a tuple of `dims` positive integers."""
    if image_size is None or len(image_size) != dims or min(image_size) < 1:
        raise ValueError(
            f"image_size={image_size!r}: this network needs the size of its images, "
            f"{dims} positive integers."
        )
    return tuple(int(s) for s in image_size)
