"""Transformers that change where pixels are: resizing, resampling, cropping."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skmedimg import _batch_ops as ops
from skmedimg._foreground import (
    bounding_box,
    largest_component,
    otsu_threshold,
    triangle_threshold,
)
from skmedimg._transformer import ImageTransformer, as_dtype, one_per_axis
from skmedimg.images import ImageSpec

_THRESHOLDS = {"otsu": otsu_threshold, "triangle": triangle_threshold}


class Resizer(ImageTransformer):
    """Resize images to one size, antialiased where they shrink.

    Parameters
    ----------
    size : int or sequence of int
        New size along each spatial axis, in pixels; one number stands for all.
    keep_aspect : bool, default=True
        Whether the image keeps its proportions and is centred in `size` with padding
        around it, instead of being stretched.
    fill : float, default=None
        Value of the padding, in the unit of the images; None takes the smallest value
        of each image.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    See Also
    --------
    Resampler : To a spacing in mm instead of a number of pixels.

    Notes
    -----
    Layout and dtype are those of X; integers are rounded. A list of images of differing
    shapes becomes one array. Interpolation is linear, in single precision: not for
    label maps.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import Resizer
    >>> scans = [np.full((40, 20), 7), np.full((30, 30), 9)]
    >>> X = Resizer(4, fill=0).fit_transform(scans)
    >>> X.shape
    (2, 4, 4)
    >>> X[0, 0]
    array([0, 7, 7, 0])
    """

    _keeps_dtype = True
    _parameter_constraints: ClassVar[dict] = {
        "size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "keep_aspect": ["boolean"],
        "fill": [Real, None],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        keep_aspect: bool = True,
        fill: float | None = None,
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.size = size
        self.keep_aspect = keep_aspect
        self.fill = fill
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        size = one_per_axis("size", self.size, x.ndim - 2)
        if self.keep_aspect:
            return ops.fit_into(x, size, self.fill)
        return ops.resize(x, size)

    def _check_spec(self, spec: ImageSpec) -> None:
        one_per_axis("size", self.size, spec.spatial_dims)
        _refuse_fill_beyond(self.fill, spec)


class Resampler(ImageTransformer):
    """Resample images from one spacing to another, antialiased where they shrink.

    Parameters
    ----------
    spacing : float or sequence of float
        Wanted distance between pixels along each spatial axis in the order of the axes,
        in mm; one number stands for all.
    from_spacing : float or sequence of float
        That of the images in mm, the same for all of them.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    See Also
    --------
    Resizer : To a number of pixels instead of a spacing.

    Notes
    -----
    Layout and dtype are those of X; integers are rounded. The field of view is kept and
    the number of pixels rounded, so that the spacing is met to half a pixel over the
    whole length of an axis. Interpolation is linear: not for label maps.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import Resampler
    >>> ct = np.zeros((2, 12, 64, 64), np.int16)  # slices of 5 mm, pixels of 0.75 mm
    >>> Resampler(1.5, from_spacing=(5, 0.75, 0.75)).fit_transform(ct).shape
    (2, 40, 32, 32)
    """

    _keeps_dtype = True
    _parameter_constraints: ClassVar[dict] = {
        "spacing": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "from_spacing": [Interval(Real, 0, None, closed="neither"), "array-like"],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        spacing: float | Sequence[float],
        from_spacing: float | Sequence[float],
        *,
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.spacing = spacing
        self.from_spacing = from_spacing
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        wanted = one_per_axis("spacing", self.spacing, x.ndim - 2, float)
        given = one_per_axis("from_spacing", self.from_spacing, x.ndim - 2, float)
        size = [
            max(1, round(length * old / new))
            for length, old, new in zip(x.shape[2:], given, wanted, strict=True)
        ]
        return ops.resize(x, size)

    def _check_spec(self, spec: ImageSpec) -> None:
        for name in ("spacing", "from_spacing"):
            one_per_axis(name, getattr(self, name), spec.spatial_dims, float)


class ForegroundCropper(ImageTransformer):
    """Crop each image to the box around what is brighter than the background.

    All images come out in one size: what is cropped is resized with its proportions
    kept, and padded.

    Parameters
    ----------
    size : int or sequence of int, default=None
        Size of the result along each spatial axis, in pixels; None takes that of X.
    threshold : float or {"otsu", "triangle"}, default="otsu"
        Pixels above are foreground: a number in the unit of the images (-500 HU for the
        body in CT), or a rule that finds one in the histogram of each image;
        "triangle" is the lower one, and wants a background without noise. Channels are
        averaged.
    margin : int, default=0
        Pixels left around the foreground.
    fill : float, default=None
        Value of the padding; None takes the smallest value of each image.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    See Also
    --------
    BreastCropper : For mammograms.

    Notes
    -----
    Layout and dtype are those of X; integers are rounded. Where nothing is brighter
    than the threshold the whole image is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import ForegroundCropper
    >>> X = np.zeros((1, 8, 8), int)
    >>> X[0, 2:4, 5:7] = 9
    >>> ForegroundCropper(size=2).fit_transform(X)
    array([[[9, 9],
            [9, 9]]])
    """

    _keeps_dtype = True
    _parameter_constraints: ClassVar[dict] = {
        "size": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "threshold": [Real, StrOptions(set(_THRESHOLDS))],
        "margin": [Interval(Integral, 0, None, closed="left")],
        "fill": [Real, None],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        *,
        threshold: float | str = "otsu",
        margin: int = 0,
        fill: float | None = None,
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.size = size
        self.threshold = threshold
        self.margin = margin
        self.fill = fill
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`; boxes are found on the CPU."""
        wanted = x.shape[2:] if self.size is None else self.size
        size = one_per_axis("size", wanted, x.ndim - 2)
        return torch.cat([self._crop(image, size) for image in x])

    def _crop(self, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """The box of (C, *spatial), as (1, C, *size)."""
        # The darkest pixel is outside the box as a rule.
        fill = float(image.amin()) if self.fill is None else self.fill
        mask, other, align = self._body(image)
        box = (slice(None), *bounding_box(mask, self.margin))
        if other is not None:
            blank = torch.from_numpy(other).to(image.device)
            image = torch.where(blank, fill, image)
        return ops.fit_into(image[box][None], size, fill, align)

    def _body(self, image: torch.Tensor) -> tuple[np.ndarray, Any, Any]:
        """Mask to crop to, mask to blank, and where the crop lies in the result."""
        return self._foreground(image), None, None

    def _foreground(self, image: torch.Tensor) -> np.ndarray:
        grey = image.mean(0).cpu().numpy()
        threshold = self.threshold
        if isinstance(threshold, str):
            threshold = _THRESHOLDS[threshold](grey)
        return grey > threshold

    def _check_spec(self, spec: ImageSpec) -> None:
        if self.size is not None:
            one_per_axis("size", self.size, spec.spatial_dims)
        _refuse_fill_beyond(self.fill, spec)


class BreastCropper(ForegroundCropper):
    """Crop mammograms to the breast: the largest bright component.

    Letters and markers beside the breast are blanked. Nothing is mirrored: the breast
    stays at the edge of the image where it was, so that laterality is kept.

    Parameters
    ----------
    size : int or sequence of int, default=None
        Height and width of the result in pixels; None takes those of X.
    threshold : float or {"otsu", "triangle"}, default="triangle"
        As in `ForegroundCropper`. "triangle" finds the foot of the dark peak; "otsu"
        separates dense from fatty tissue in many breasts, and would cut.
    margin : int, default=0
        Pixels left around the breast.
    fill : float, default=None
        Value of padding and blanks; None takes the smallest value of each image.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    Notes
    -----
    Layout and dtype are those of X; integers are rounded. The background must be dark
    (MONOCHROME1 inverted, as `skmedimg.io.read_image` does).

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import BreastCropper
    >>> X = np.zeros((1, 8, 8), int)
    >>> X[0, 2:6, 6:] = 9  # a breast on the right
    >>> X[0, 0, 0] = 5  # a marker
    >>> BreastCropper(size=4, threshold=1).fit_transform(X)
    array([[[0, 0, 9, 9],
            [0, 0, 9, 9],
            [0, 0, 9, 9],
            [0, 0, 9, 9]]])
    """

    _parameter_constraints: ClassVar[dict] = {
        name: constraint
        for name, constraint in ForegroundCropper._parameter_constraints.items()
        if name != "spatial_dims"
    }
    spatial_dims = 2

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        *,
        threshold: float | str = "triangle",
        margin: int = 0,
        fill: float | None = None,
        image_shape: Sequence[int] | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.size = size
        self.threshold = threshold
        self.margin = margin
        self.fill = fill
        self.image_shape = image_shape
        self.channel_axis = channel_axis

    def _body(self, image: torch.Tensor) -> tuple[np.ndarray, Any, Any]:
        mask = self._foreground(image)
        breast = largest_component(mask)
        half = breast.shape[1] // 2
        # The chest wall is on the side with more of the breast.
        more = np.sign(int(breast[:, -half:].sum()) - int(breast[:, :half].sum()))
        return breast, mask & ~breast, [0.5, 0.5 + 0.5 * float(more)]


def _refuse_fill_beyond(fill: float | None, spec: ImageSpec) -> None:
    dtype = np.dtype(spec.dtype)
    if fill is not None and as_dtype(np.array([fill]), dtype)[0] != fill:
        if dtype.kind in "biu":
            raise ValueError(
                f"fill={fill} is no value of {dtype} images: choose another, or "
                "convert the images first."
            )
