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
from functools import partial
from itertools import combinations
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch.nn.functional import affine_grid, grid_sample

from skmedimg._random import drawing_from
from skmedimg.images import ImageSpec

_AXES = {2: ("H", "W"), 3: ("D", "H", "W")}


class Augmentation(BaseEstimator):
    """Flips, an affine transformation, and changes of intensity, drawn for each image.

    Axes of a single pixel are never touched.

    Parameters
    ----------
    flip : sequence of {"D", "H", "W"}, default=()
        Axes along which an image is mirrored with probability one half. Mirroring the
        width exchanges left and right: a heart that is on the right is a diagnosis.
    rotation : float, default=0.0
        Largest angle in degrees, either way; in 3-D, in each of the three planes.
    translation : float, default=0.0
        Largest shift along each axis, as a share of its length.
    scale : float, default=0.0
        Largest change of size: 0.1 draws factors from 1/1.1 to 1.1.
    gain : float, default=0.0
        Largest relative change of contrast.
    shift : float, default=0.0
        Largest change of brightness, in standard deviations of the training set.

    Examples
    --------
    >>> from skmedimg.augmentation import Augmentation
    >>> Augmentation(rotation=15).rotation
    15
    """

    _parameter_constraints: ClassVar[dict] = {
        "flip": ["array-like"],
        "rotation": [Interval(Real, 0, 180, closed="both")],
        "translation": [Interval(Real, 0, 1, closed="both")],
        "scale": [Interval(Real, 0, None, closed="left")],
        "gain": [Interval(Real, 0, 1, closed="left")],
        "shift": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        flip: Sequence[str] = (),
        rotation: float = 0.0,
        translation: float = 0.0,
        scale: float = 0.0,
        gain: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        self.flip = flip
        self.rotation = rotation
        self.translation = translation
        self.scale = scale
        self.gain = gain
        self.shift = shift

    def check(self, spatial_dims: int) -> None:
        """Raise ValueError if a parameter is out of range or names no axis."""
        self._validate_params()
        unknown = [axis for axis in self.flip if axis not in _AXES[spatial_dims]]
        if unknown:
            raise ValueError(
                f"flip={tuple(self.flip)} names {unknown}, but images with "
                f"{spatial_dims} axes have {_AXES[spatial_dims]}."
            )

    def draw(
        self, x: torch.Tensor, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
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
            "flip" (n, d), "angle" (n, planes) in radians, "translation" (n, d) as a
            share of half the axis, "scale" (n,), "gain" (n,), "shift" (n,).
        """
        dims, n = x.ndim - 2, len(x)
        planes = dims * (dims - 1) // 2
        u = torch.rand(n, 2 * dims + planes + 3, generator=generator, device=x.device)
        flip, rest = u[:, :dims], u[:, dims:] * 2 - 1
        angle, translation, scale, gain, shift = rest.split([planes, dims, 1, 1, 1], 1)
        wanted = torch.tensor(
            [axis in self.flip for axis in _AXES[dims]], device=x.device
        )
        return {
            "flip": (flip < 0.5) & wanted,
            "angle": angle * math.radians(self.rotation),
            "translation": translation * 2 * self.translation,
            "scale": (scale[:, 0] * math.log1p(self.scale)).exp(),
            "gain": 1 + gain[:, 0] * self.gain,
            "shift": shift[:, 0] * self.shift,
        }

    def apply(self, x: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
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
        if self.rotation or self.translation or self.scale:
            x = warp(x, params)
        elif len(self.flip):
            x = mirror(x, params["flip"])
        if self.gain or self.shift:
            column = (-1,) + (1,) * (x.ndim - 1)
            x = x * params["gain"].view(column) + params["shift"].view(column)
        return x

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw and apply."""
        return self.apply(x, self.draw(x, generator))


def mirror(x: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Mirror image i of (n, C, *spatial) along each axis where flip[i] is True."""
    for axis in range(flip.shape[1]):
        if x.shape[axis + 2] > 1:
            chosen = flip[:, axis].view((-1,) + (1,) * (x.ndim - 1))
            x = torch.where(chosen, x.flip(axis + 2), x)
    return x


def warp(x: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
    """Flip, rotate, scale and translate in one linear interpolation.

    Beyond the border the nearest pixel goes on. Sizes are taken in pixels, so that a
    rotation stays one in images that are not square.
    """
    matrix = _matrix(x.shape[2:], params)
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    memory = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    warped = grid_sample(x, grid, padding_mode="border", align_corners=False)
    return warped.contiguous(memory_format=memory)


def _matrix(
    size: torch.Size | Sequence[int], params: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Output-to-input matrices of shape (n, d, d + 1) in [-1, 1], last axis first."""
    n, dims = params["flip"].shape
    device = params["angle"].device
    live = [s > 1 for s in size]
    linear = torch.eye(dims, device=device).repeat(n, 1, 1)
    for k, (a, b) in enumerate(combinations(range(dims), 2)):
        if live[a] and live[b]:
            linear = linear @ _plane_rotation(params["angle"][:, k], a, b, dims)
    alive = torch.tensor(live, device=device)
    factor = params["scale"][:, None].where(alive, 1.0)
    sign = 1.0 - 2.0 * (params["flip"] & alive)
    # Diagonals on the right act first: flip and scale, then rotate, then shift.
    linear = linear * (sign / factor)[:, None, :]
    length = torch.tensor(list(size), dtype=torch.float32, device=device)
    linear = linear * length[None, None, :] / length[None, :, None]
    offset = params["translation"].where(alive, 0.0)
    matrix = torch.cat([linear, offset[:, :, None]], dim=2)
    # grid_sample counts axes from the last, we from the first.
    return torch.cat([matrix[:, :, :dims].flip(1, 2), matrix[:, :, dims:].flip(1)], 2)


def _plane_rotation(angle: torch.Tensor, a: int, b: int, dims: int) -> torch.Tensor:
    rotation = torch.eye(dims, device=angle.device).repeat(len(angle), 1, 1)
    cos, sin = angle.cos(), angle.sin()
    rotation[:, a, a], rotation[:, b, b] = cos, cos
    rotation[:, a, b], rotation[:, b, a] = -sin, sin
    return rotation


#: What ``augmentation=`` knows by name. "auto" cannot know the modality and therefore
#: never mirrors.
PRESETS: dict[str, dict] = {
    "auto": {
        "rotation": 12,
        "translation": 0.06,
        "scale": 0.1,
        "gain": 0.15,
        "shift": 0.15,
    },
}


def make_augment(
    augmentation: Any, spec: ImageSpec, device: str
) -> Callable[..., torch.Tensor] | None:
    """Function ``(batch, generator) -> batch`` for what ``augmentation=`` was given.

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
        None where nothing is to be done.

    Raises
    ------
    ValueError
        If a parameter does not fit, or a callable changes the shape of a batch.
    """
    if augmentation is None or spec.tabular:
        return None
    if isinstance(augmentation, str):
        augmentation = Augmentation(**PRESETS[augmentation])
    if isinstance(augmentation, Augmentation):
        augmentation.check(spec.spatial_dims)
        return augmentation
    probe = torch.zeros(2, spec.channels, *spec.size, device=device)
    changed = _call_on_batch(
        augmentation, probe, torch.Generator(device).manual_seed(0)
    )
    if getattr(changed, "shape", None) != probe.shape:
        shape = getattr(changed, "shape", None)
        seen = type(changed).__name__ if shape is None else tuple(shape)
        raise ValueError(
            f"augmentation={augmentation!r} made {seen} of a batch of shape "
            f"{tuple(probe.shape)}: it must give a batch of the same shape."
        )
    return partial(_call_on_batch, augmentation)


def _call_on_batch(function: Callable, x: torch.Tensor, generator: Any) -> torch.Tensor:
    """A user's augmentation, drawing from our generator instead of the global one."""
    with drawing_from(generator):
        return function(x)
