"""Networks by name: one file a family, two and three dimensions from the same code.

A parameter object (`ResNet`, `SimpleCNN`) holds what belongs to the network, so that a
search reaches it with scikit-learn's double underscore (``architecture__width``).
"""

import copy
import difflib
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from skmedimg.architectures._monai import MonaiNetwork
from skmedimg.architectures.pretrained import Pretrained
from skmedimg.architectures.resnet import ResNet
from skmedimg.architectures.simple import SimpleCNN

__all__ = [
    "Pretrained",
    "ResNet",
    "SimpleCNN",
    "list_architectures",
    "make_architecture",
]

_FAMILIES: dict[str, Callable[[], Any]] = {"resnet": ResNet, "simple": SimpleCNN}


def list_architectures() -> list[str]:
    """Names that `make_architecture` and ``architecture=`` know.

    Returns
    -------
    list of str
        Sorted names.

    Examples
    --------
    >>> from skmedimg.architectures import list_architectures
    >>> list_architectures()
    ['auto', 'resnet', 'simple']
    """
    return sorted(["auto", *_FAMILIES])


def make_architecture(
    architecture: Any,
    in_channels: int,
    n_outputs: int,
    spatial_dims: int = 2,
    *,
    image_size: Sequence[int] | None = None,
    n_images: int | None = None,
) -> nn.Module:
    """Build a network from a name, a parameter object, a callable or a module.

    Parameters
    ----------
    architecture : str, object, callable, type or torch.nn.Module
        A name of `list_architectures`, or of MONAI's as "monai:DenseNet121"; a
        parameter object such as ``ResNet(width=32)``; a callable or `torch.nn.Module`
        class called as ``(in_channels, n_outputs, spatial_dims)``; or a module, which
        is copied.
    in_channels : int
        Channels of the images.
    n_outputs : int
        Logits per image: 1 for two classes, else one per class or label.
    spatial_dims : {2, 3}, default=2
        Axes of an image.
    image_size : sequence of int, default=None
        Pixels along each axis, for families that depend on it.
    n_images : int, default=None
        Number of distinct training images, for "auto".

    Returns
    -------
    torch.nn.Module
        Takes float tensors of shape (n, in_channels, *image_size), gives logits of
        shape (n, n_outputs).

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones.
    TypeError
        If a callable returns something that is not a module.

    Examples
    --------
    >>> from skmedimg.architectures import make_architecture
    >>> net = make_architecture("resnet", 1, 2, image_size=(28, 28))
    >>> type(net).__name__
    'ResNetModule'
    """
    if isinstance(architecture, nn.Module):
        return copy.deepcopy(architecture)
    if isinstance(architecture, str):
        architecture = _by_name(architecture, spatial_dims, n_images)
    if isinstance(architecture, type) and hasattr(architecture, "build"):
        architecture = architecture()
    if hasattr(architecture, "build"):
        return architecture.build(in_channels, n_outputs, spatial_dims, image_size)
    if not callable(architecture):
        raise TypeError(
            f"architecture={architecture!r} is neither a name of "
            f"{list_architectures()}, a parameter object, a callable nor a module."
        )
    module = architecture(in_channels, n_outputs, spatial_dims)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"architecture={architecture!r} returned {type(module).__name__}, not a "
            "torch.nn.Module."
        )
    # A callable may hand out a module that it keeps.
    return module if isinstance(architecture, type) else copy.deepcopy(module)


def _by_name(name: str, spatial_dims: int, n_images: int | None) -> Any:
    if name == "auto":
        return _auto(spatial_dims, n_images)
    if name in _FAMILIES:
        return _FAMILIES[name]()
    if name.startswith("monai:"):
        return MonaiNetwork(name.removeprefix("monai:"))
    close = difflib.get_close_matches(name, list_architectures(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"architecture={name!r} is unknown; known are {list_architectures()}.{hint}"
    )


def _auto(spatial_dims: int, n_images: int | None) -> ResNet:
    """Residual network whose cost fits a laptop: narrow for volumes and few images."""
    narrow = spatial_dims == 3 or (n_images is not None and n_images < 200)
    return ResNet(width=8 if narrow else 16)
