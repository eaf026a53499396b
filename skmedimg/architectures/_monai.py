"""Networks of MONAI by name, for ``architecture="monai:DenseNet121"``."""

import re
from typing import Any

from torch import nn

# How the families call the channels of the images and the logits. Names without a
# number are those of modules and of classes that take other arguments.
_FAMILIES = {
    r"densenet\d": ("in_channels", "out_channels"),
    r"resnet\d": ("n_input_channels", "num_classes"),
    r"se(net|resnet|resnext)\d": ("in_channels", "num_classes"),
    "efficientnet": ("in_channels", "num_classes"),
}


class MonaiNetwork:
    """A network of `monai.networks.nets`, without its pretrained weights.

    Parameters
    ----------
    name : str
        "DenseNet121" and its like, "resnet18" …, "SEResNet50" …, "efficientnet-b0" ….
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def build(
        self,
        in_channels: int,
        n_outputs: int,
        spatial_dims: int,
        image_size: Any = None,
    ) -> nn.Module:
        """Make the network; parameters as in `ResNet.build`."""
        nets = _import_nets()
        family = next((f for f in _FAMILIES if re.match(f, self.name.lower())), "")
        options: dict[str, Any] = {"spatial_dims": spatial_dims, "pretrained": False}
        if family:
            inputs, outputs = _FAMILIES[family]
            options |= {inputs: in_channels, outputs: n_outputs}
        if family == "efficientnet":
            try:
                return nets.EfficientNetBN(self.name, **options)
            except ValueError as error:
                raise ValueError(
                    f"architecture='monai:{self.name}': {error}"
                ) from error
        make = getattr(nets, self.name, None)
        if not family or make is None:
            raise ValueError(
                f"architecture='monai:{self.name}' is unknown; DenseNet121, resnet18, "
                "SEResNet50, efficientnet-b0 and their like are. Other networks: pass "
                "a function of (in_channels, n_outputs, spatial_dims)."
            )
        return make(**options)


def _import_nets() -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise ImportError(
            "architecture='monai:…' needs MONAI: pip install 'skmedimg[monai]'."
        ) from error
    return nets
