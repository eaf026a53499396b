"""The one path from images to numbers: checks, batches through the network, warnings.

Whatever asks the fitted network anything goes through `_forward`.
"""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skmedimg._checks import check_shape_parameter
from skmedimg._feed import to_tensor
from skmedimg._folding import folded
from skmedimg._intensity import ShiftMonitor, finite_images, where_not_finite
from skmedimg._modules import (
    InParts,
    drawing_for,
    input_of_last_linear,
    logits,
    pre_logits,
)
from skmedimg._net import ImageNet, autocast
from skmedimg.architectures._layers import Network
from skmedimg.images import (
    ImageArray,
    ImageSpec,
    as_image_source,
    check_numeric,
    groups_of,
)

# Elements of one inference slice: enough to fill the cores, little enough for a laptop.
_SLICE_ELEMENTS = 1 << 20
# Folding costs as much as it saves on 16 images. Their size matters little: networks
# make larger ones smaller at once.
_FOLDED_FROM = 24
# On a CPU larger slices leave the caches: 28 pixels then took twice the time.
_SLICE_IMAGES = 128


class ImageInference(BaseEstimator):
    """What a fitted image estimator does with images; base of all of them."""

    image_size: Any
    image_shape: Any
    spatial_dims: Any
    channel_axis: Any

    image_spec_: ImageSpec
    net_: ImageNet
    device_: str

    @property
    def module_(self) -> nn.Module:
        """The fitted network, that of `net_`."""
        return self.net_.module_

    def _check_images(self, X: Any, *, reset: bool) -> ImageArray:
        """Read X as images of the layout of fit; scikit-learn's own checks included."""
        groups = groups_of(X)
        size = check_shape_parameter("image_size", self.image_size)
        given = {"spatial_dims": self.spatial_dims, "channel_axis": self.channel_axis}
        reading = given if reset else self.image_spec_.reading
        X, reading = as_image_source(X, size, reading)
        if X.ndim == 2 and not reset and not self.image_spec_.folded:
            self.image_spec_.check(X)
        if X.ndim <= 2:
            X = validate_data(
                self, X, dtype="numeric", ensure_all_finite=False, reset=reset
            )
        elif isinstance(X, np.ndarray):
            X = check_numeric(X)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X has dtype {X.dtype}; images need numbers.")
        if X.ndim > 2:
            self._check_shape(X, size, reset=reset)
        if reset:
            self.image_spec_ = ImageSpec.from_array(
                X,
                image_shape=check_shape_parameter("image_shape", self.image_shape),
                image_size=size,
                **reading,
            )
        else:
            self.image_spec_.check(X)
        return ImageArray(X, self.image_spec_, groups)

    def _check_shape(self, X: Any, size: Any, *, reset: bool) -> None:
        if min(X.shape) == 0:
            raise ValueError(
                f"X is empty: found array with {X.shape[0]} sample(s) of shape "
                f"{tuple(X.shape[1:])} while a minimum of 1 is required."
            )
        if reset or self.image_spec_.folded:
            # The check compares numbers of features only; no pixel is read.
            flat = np.broadcast_to(0, (X.shape[0], math.prod(X.shape[1:])))
            if not reset:
                self.image_spec_.check(X)
            validate_data(self, flat, skip_check_array=True, reset=reset)

    def _logits(self, X: Any) -> np.ndarray:
        """Logits of shape (n, n_outputs), in the single precision of the network."""
        check_is_fitted(self)
        return self._forward(X, logits)

    def embed(self, X: Any) -> np.ndarray:
        """Features before the last layer.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n, n_features)
            float32; what the last linear layer is given.

        Raises
        ------
        ValueError
            If X is not like the images of fit, or the network ends in no linear layer
            that is given one row an image.
        """
        check_is_fitted(self)
        if isinstance(self.module_, Network):
            return self._forward(X, pre_logits)
        # A copy: another thread may be predicting with the network itself.
        hooked = partial(input_of_last_linear, copy.deepcopy(self.module_))
        return self._forward(X, lambda _, x: hooked(x))

    def _forward(
        self, X: Any, function: Callable[[nn.Module, torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        """THE inference loop: slices of X through the network, one copy back."""
        images = self._check_images(X, reset=False)
        if len(images) == 0:
            raise ValueError("X is empty: found array with 0 sample(s).")
        device, spec = torch.device(self.device_), self.image_spec_
        monitor, results = ShiftMonitor(spec), []
        module = self.module_
        if len(images) >= _FOLDED_FROM:
            module = folded(module)
        frugal = InParts(partial(function, module))
        generator = torch.Generator(device).manual_seed(self.net_.seed)
        with (
            torch.inference_mode(),
            autocast(device, self.net_.inference_precision),
        ):
            most = _SLICE_IMAGES if device.type == "cpu" else None
            for part in images.chunks(_SLICE_ELEMENTS, most):
                chunk = images.take(part)
                if not finite_images(chunk).all():
                    raise ValueError(where_not_finite(images))
                monitor.update(chunk)
                x = to_tensor(chunk, spec, device)
                with drawing_for(module, generator):
                    results.append(frugal(x))
        monitor.warn()
        frugal.warn(device)
        outputs = torch.cat(results).float().cpu().numpy()
        if not np.isfinite(outputs).all():
            bad = int(np.argmin(np.isfinite(outputs).all(1)))
            raise ValueError(
                f"The network gives NaN or infinite values for X[{bad}]: training has "
                "diverged, or precision is too narrow. Fit with a lower lr, or with "
                'precision="float32".'
            )
        return outputs

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "net_"):
            # The net has come back on a device that exists here.
            self.device_ = str(self.net_.device)
