"""Random changes of whole batches on the device; drawing is apart from applying.

`Augmentation.draw` makes the numbers, one row an image, and `Augmentation.apply` is a
pure function of batch and numbers: the same batched as one by one, and replayable.

>>> import torch
>>> from skmedimg.augmentation import Augmentation
>>> augment = Augmentation(flip=("W",), rotation=10)
>>> x = torch.rand(4, 1, 8, 8)
>>> params = augment.draw(x, torch.Generator().manual_seed(0))
>>> augment.apply(x, params).shape
torch.Size([4, 1, 8, 8])
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any, ClassVar

import torch
from scipy.special import betaincinv
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from skmedimg._constants import constant
from skmedimg._photometry import bias_field, blur, boxes, cut_out, gamma, linear
from skmedimg._random import drawing_from
from skmedimg._warp import Params, mirror, turn, warp
from skmedimg.images import ImageSpec

_AXES = {2: ("H", "W"), 3: ("D", "H", "W")}
# Nodes along each axis of the coarse grids that smooth fields are drawn on.
_ELASTIC_NODES, _FIELD_NODES = 5, 4
_TABLE = 1024

# Partner of each image, and the share of its own label: what the loss has to mix.
Mix = tuple[torch.Tensor, torch.Tensor]


class Augmentation(BaseEstimator):
    """Changes of place, of intensity and mixtures, drawn anew for each image.

    Whatever is left at its default costs nothing. Axes of a single pixel are never
    touched.

    Parameters
    ----------
    flip : sequence of {"D", "H", "W"}, default=()
        Axes along which an image is mirrored with probability one half. Mirroring the
        width exchanges left and right: a heart that is on the right is a diagnosis.
    quarter_turns : bool, default=False
        Whether images are turned by multiples of 90° about the axis of slices; with
        ``flip=("H", "W")`` these are all eight symmetries of a square. By 180° only
        where height and width differ.
    rotation : float, default=0.0
        Largest angle in degrees, either way; in 3-D, in each of the three planes.
    translation : float, default=0.0
        Largest shift along each axis, as a share of its length.
    scale : float, default=0.0
        Largest change of size: 0.1 draws factors from 1/1.1 to 1.1.
    crop : float, default=0.0
        Largest share of each axis that is cut off; what is left, anywhere in the image,
        is enlarged to the full size.
    elastic : float, default=0.0
        Largest displacement, as a share of each axis, at the points of a coarse grid
        that a smooth random field is drawn at. In 2-D the field reaches up to half as
        far again between them.
    gain : float, default=0.0
        Largest relative change of contrast.
    shift : float, default=0.0
        Largest change of brightness, in standard deviations of the training set.
    gamma : float, default=0.0
        Bends the grey scale of each image by a power: 0.3 draws exponents from 1/1.3
        to 1.3.
    bias_field : float, default=0.0
        Largest factor, less one, of a smooth field that brightens one part of the image
        and darkens another, as the coils of an MR scanner do: at the points of a coarse
        grid that it is drawn at. In 2-D 0.3 may reach factors of 1/1.45 and 1.45
        between them.
    blur : float, default=0.0
        Largest standard deviation of a Gaussian blur, in pixels.
    noise : float, default=0.0
        Largest standard deviation of added Gaussian noise, in standard deviations of
        the training set.
    cutout : float, default=0.0
        Length of a box, as a share of each axis, that is set to the mean (DeVries &
        Taylor, 2017).
    mixup : float, default=0.0
        α of mixtures of two images and their labels with the shares λ and 1 − λ, λ from
        Beta(α, α) (Zhang et al., ICLR 2018). Probabilities of a network trained on
        mixtures are too cautious: calibrate them.
    cutmix : float, default=0.0
        The same, with a box of the other image instead of a mixture (Yun et al., ICCV
        2019). With `mixup` as well, each image gets one of the two.

    Examples
    --------
    >>> from skmedimg.augmentation import Augmentation
    >>> Augmentation(rotation=15).rotation
    15
    """

    _parameter_constraints: ClassVar[dict] = {
        "flip": ["array-like"],
        "quarter_turns": ["boolean"],
        "rotation": [Interval(Real, 0, 180, closed="both")],
        "translation": [Interval(Real, 0, 1, closed="both")],
        "scale": [Interval(Real, 0, None, closed="left")],
        "crop": [Interval(Real, 0, 1, closed="left")],
        "elastic": [Interval(Real, 0, 0.5, closed="both")],
        "gain": [Interval(Real, 0, 1, closed="left")],
        "shift": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "bias_field": [Interval(Real, 0, None, closed="left")],
        "blur": [Interval(Real, 0, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "cutout": [Interval(Real, 0, 1, closed="left")],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "cutmix": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        flip: Sequence[str] = (),
        quarter_turns: bool = False,
        rotation: float = 0.0,
        translation: float = 0.0,
        scale: float = 0.0,
        crop: float = 0.0,
        elastic: float = 0.0,
        gain: float = 0.0,
        shift: float = 0.0,
        gamma: float = 0.0,
        bias_field: float = 0.0,
        blur: float = 0.0,
        noise: float = 0.0,
        cutout: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        self.flip = flip
        self.quarter_turns = quarter_turns
        self.rotation = rotation
        self.translation = translation
        self.scale = scale
        self.crop = crop
        self.elastic = elastic
        self.gain = gain
        self.shift = shift
        self.gamma = gamma
        self.bias_field = bias_field
        self.blur = blur
        self.noise = noise
        self.cutout = cutout
        self.mixup = mixup
        self.cutmix = cutmix

    def check(self, spatial_dims: int) -> None:
        """Raise ValueError if a parameter is out of range or names no axis."""
        self._validate_params()
        unknown = [axis for axis in self.flip if axis not in _AXES[spatial_dims]]
        if unknown:
            raise ValueError(
                f"flip={tuple(self.flip)} names {unknown}, but images with "
                f"{spatial_dims} axes have {_AXES[spatial_dims]}."
            )

    def draw(self, x: torch.Tensor, generator: torch.Generator) -> Params:
        """Draw the numbers for a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, C, *spatial)
            Only its shape and device are used.
        generator : torch.Generator
            On the device of `x`.

        Returns
        -------
        dict of str to torch.Tensor
            What `apply` takes, one row an image: "flip" (n, d), "quarters" (n,),
            "angle" (n, planes) in radians, "translation" (n, d) as a share of half the
            axis, "scale" (n,), "elastic" (n, d, *nodes); "gain", "shift", "gamma",
            "blur" (n,), "bias_field" (n, *nodes), "noise" of the shape of `x`, "cutout"
            (n, d); "partner", "share" and "boxed" (n,), "box" (n, 1, *spatial). Those
            of changes that are not wanted are left out.
        """
        params = self._draw_places(x, generator)
        params |= self._draw_intensities(x, generator)
        if self.mixup or self.cutmix:
            params |= self._draw_mixtures(x, generator)
        return params

    def _draw_places(self, x: torch.Tensor, generator: torch.Generator) -> Params:
        dims, n = x.ndim - 2, len(x)
        planes = dims * (dims - 1) // 2
        u = torch.rand(n, 2 * dims + planes + 1, generator=generator, device=x.device)
        flip, rest = u[:, :dims], u[:, dims:] * 2 - 1
        angle, translation, scale = rest.split([planes, dims, 1], 1)
        wanted = tuple(axis in self.flip for axis in _AXES[dims])
        params = {
            "flip": (flip < 0.5) & constant(wanted, torch.bool, x.device),
            "angle": angle * math.radians(self.rotation),
            "translation": translation * 2 * self.translation,
            "scale": (scale[:, 0] * math.log1p(self.scale)).exp(),
        }
        if self.crop:
            u = torch.rand(n, dims + 1, generator=generator, device=x.device)
            left = 1 - u[:, :1] * self.crop
            params["scale"] = params["scale"] / left[:, 0]
            params["translation"] += (u[:, 1:] * 2 - 1) * (1 - left)
        if self.elastic:
            nodes = (n, dims, *[_ELASTIC_NODES] * dims)
            u = torch.rand(nodes, generator=generator, device=x.device)
            params["elastic"] = (u * 2 - 1) * 2 * self.elastic
        if self.quarter_turns:
            params["quarters"] = torch.randint(
                4, (n,), generator=generator, device=x.device
            )
        return params

    def _draw_intensities(self, x: torch.Tensor, generator: torch.Generator) -> Params:
        dims, n = x.ndim - 2, len(x)
        at: dict[str, Any] = {"generator": generator, "device": x.device}
        gain, shift, bend, width, strength = torch.rand(n, 5, **at).unbind(1)
        params = {}
        if self.gain or self.shift:
            params["gain"] = 1 + (gain * 2 - 1) * self.gain
            params["shift"] = (shift * 2 - 1) * self.shift
        if self.gamma:
            params["gamma"] = ((bend * 2 - 1) * math.log1p(self.gamma)).exp()
        if self.bias_field:
            nodes = torch.rand(n, *[_FIELD_NODES] * dims, **at)
            params["bias_field"] = (nodes * 2 - 1) * math.log1p(self.bias_field)
        if self.blur:
            params["blur"] = width * self.blur
        if self.noise:
            column = (-1,) + (1,) * (x.ndim - 1)
            normal = torch.randn(x.shape, **at)
            params["noise"] = normal * (strength * self.noise).view(column)
        if self.cutout:
            params["cutout"] = torch.rand(n, dims, **at)
        return params

    def _draw_mixtures(self, x: torch.Tensor, generator: torch.Generator) -> Params:
        dims, n = x.ndim - 2, len(x)
        at: dict[str, Any] = {"generator": generator, "device": x.device}
        u = torch.rand(n, dims + 2, **at)
        params = {"partner": torch.randperm(n, **at)}
        if self.mixup:
            params["share"] = _beta(u[:, 1], self.mixup)
        if self.cutmix:
            cut = 1 - _beta(u[:, 1], self.cutmix)
            inside = boxes(x.shape[2:], u[:, 2:], cut ** (1 / dims))
            left = 1 - inside.flatten(1).float().mean(1)
            boxed = u[:, 0] < (0.5 if self.mixup else 1.0)
            params |= {"box": inside[:, None], "boxed": boxed}
            params["share"] = torch.where(boxed, left, params.get("share", left))
        return params

    def apply(self, x: torch.Tensor, params: Params) -> torch.Tensor:
        """Change a batch by the numbers drawn.

        Parameters
        ----------
        x : torch.Tensor of shape (n, C, *spatial)
            Standardised images.
        params : dict of str to torch.Tensor
            From `draw`.

        Returns
        -------
        torch.Tensor of shape (n, C, *spatial)
            A new tensor.
        """
        x = self._move(x, params)
        if "gamma" in params:
            x = gamma(x, params["gamma"])
        if "gain" in params:
            x = linear(x, params["gain"], params["shift"])
        if "bias_field" in params:
            x = bias_field(x, params["bias_field"])
        if "blur" in params:
            x = blur(x, params["blur"], self.blur)
        if "noise" in params:
            x = x + params["noise"]
        if "cutout" in params:
            x = cut_out(x, params["cutout"], self.cutout)
        return _mixed(x, params) if "partner" in params else x

    def _move(self, x: torch.Tensor, params: Params) -> torch.Tensor:
        if "quarters" in params:
            x = turn(x, params["quarters"])
        affine = self.rotation or self.translation or self.scale or self.crop
        if affine or self.elastic:
            return warp(x, params)
        return mirror(x, params["flip"]) if len(self.flip) else x

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw and apply."""
        return self.apply(x, self.draw(x, generator))


def _mixed(x: torch.Tensor, params: Params) -> torch.Tensor:
    other = x[params["partner"]]
    column = (-1,) + (1,) * (x.ndim - 1)
    share = params["share"].view(column)
    if "box" in params:
        # Where a box is pasted, all of one image or all of the other.
        pasted = 1.0 - params["box"].to(x.dtype)
        share = torch.where(params["boxed"].view(column), pasted, share)
    return torch.lerp(other, x, share)


def _beta(u: torch.Tensor, alpha: float) -> torch.Tensor:
    """Numbers of Beta(alpha, alpha) from uniform ones, without leaving the device."""
    table = _beta_quantiles(alpha, u.device)
    at = u * _TABLE
    below = at.floor().long().clamp(max=_TABLE - 1)
    return torch.lerp(table[below], table[below + 1], at - below)


@lru_cache
def _beta_quantiles(alpha: float, device: torch.device) -> torch.Tensor:
    grid = torch.linspace(0, 1, _TABLE + 1, dtype=torch.float64)
    quantiles = betaincinv(alpha, alpha, grid.numpy())
    return torch.from_numpy(quantiles).float().to(device)


#: What ``augmentation=`` knows by name: changes that leave a finding what it is. Left
#: and right are exchanged only where they mean nothing.
PRESETS: dict[str, dict[str, Any]] = {
    # Cannot know the modality, and therefore never mirrors.
    "auto": {
        "rotation": 12,
        "translation": 0.06,
        "scale": 0.1,
        "gain": 0.15,
        "shift": 0.15,
    },
    "xray": {
        "rotation": 10,
        "translation": 0.06,
        "scale": 0.1,
        "gain": 0.2,
        "shift": 0.2,
        "gamma": 0.2,
        "noise": 0.05,
    },
    # The breast points to one side, which the reader knows by the view.
    "mammography": {
        "rotation": 10,
        "translation": 0.06,
        "scale": 0.1,
        "gain": 0.15,
        "shift": 0.15,
        "gamma": 0.2,
    },
    # A slide has no upper side.
    "microscopy": {
        "flip": ("H", "W"),
        "quarter_turns": True,
        "translation": 0.05,
        "scale": 0.1,
        "gain": 0.15,
        "shift": 0.15,
        "blur": 0.5,
    },
    # Hounsfield units mean what they are: neither gain nor gamma.
    "ct": {
        "rotation": 10,
        "translation": 0.06,
        "scale": 0.1,
        "elastic": 0.02,
        "noise": 0.1,
    },
    "mri": {
        "rotation": 10,
        "translation": 0.06,
        "scale": 0.1,
        "elastic": 0.02,
        "gain": 0.2,
        "shift": 0.2,
        "gamma": 0.3,
        "bias_field": 0.3,
        "noise": 0.1,
    },
    # How the probe is held decides what is left; the skin stays above.
    "ultrasound": {
        "flip": ("W",),
        "rotation": 10,
        "translation": 0.06,
        "scale": 0.15,
        "gain": 0.2,
        "shift": 0.2,
        "gamma": 0.3,
        "noise": 0.1,
    },
    # A mirrored left eye is a right eye.
    "fundus": {
        "flip": ("W",),
        "rotation": 20,
        "translation": 0.05,
        "scale": 0.1,
        "gain": 0.15,
        "shift": 0.15,
        "blur": 0.5,
    },
}


def make_augment(
    augmentation: Any, spec: ImageSpec, device: str
) -> Callable[..., tuple[torch.Tensor, Mix | None]] | None:
    """Function ``(batch, generator) -> (batch, mix)`` for the estimator's parameter.

    Parameters
    ----------
    augmentation : str, Augmentation, callable or None
        The estimator's parameter.
    spec : ImageSpec
        The images; rows that nothing said to be images are never changed.
    device : str
        Where batches will be.

    Returns
    -------
    callable or None
        None where nothing is to be done. `mix` is None unless images were mixed.

    Raises
    ------
    ValueError
        If a parameter does not fit, or a callable changes the shape, dtype or device of
        a batch.
    TypeError
        If a callable gives something that is not a tensor.
    """
    if augmentation is None or spec.tabular:
        return None
    if isinstance(augmentation, str):
        augmentation = Augmentation(**PRESETS[augmentation])
    if isinstance(augmentation, type):
        raise TypeError(
            f"augmentation={augmentation.__name__} is a class: pass an object of it "
            "that knows what to change, for example Augmentation(rotation=10)."
        )
    if isinstance(augmentation, Augmentation):
        augmentation.check(spec.spatial_dims)
        return _Drawn(augmentation)
    probe = torch.zeros(2, spec.channels, *spec.size, device=device)
    called = _Called(augmentation)
    changed, _ = called(probe, torch.Generator(device).manual_seed(0))
    if not isinstance(changed, torch.Tensor):
        raise TypeError(
            f"augmentation={augmentation!r} made a {type(changed).__name__} of a batch "
            "tensor: it must give a tensor of the same shape, dtype and device."
        )
    given, made = (
        f"{tuple(t.shape)}, {t.dtype} on {t.device}" for t in (probe, changed)
    )
    if made != given:
        raise ValueError(
            f"augmentation={augmentation!r} made a tensor of shape {made} of a batch "
            f"of shape {given}: it must give the same shape, dtype and device."
        )
    return called


class _Drawn:
    """An `Augmentation` that also tells how labels are to be mixed."""

    def __init__(self, augmentation: Augmentation) -> None:
        self.augmentation = augmentation

    def __call__(
        self, x: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mix | None]:
        params = self.augmentation.draw(x, generator)
        mix = (params["partner"], params["share"]) if "partner" in params else None
        return self.augmentation.apply(x, params), mix


class _Called:
    """A user's function, drawing from our generator instead of the global one."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __call__(self, x: torch.Tensor, generator: Any) -> tuple[torch.Tensor, None]:
        with drawing_from(generator):
            return self.function(x), None
