"""scikit-learn transformers of image arrays that learn nothing, and of file names.

They take what the estimators take, give back the layout they were given, and are lazy
where X is. `apply` is the same on a batch tensor.

>>> import numpy as np
>>> from skmedimg.preprocessing import WindowLevel
>>> hu = np.array([[[-1350, -601, 149]]], dtype=np.int16)
>>> WindowLevel("lung").fit_transform(hu).round(3)
array([[[0. , 0.5, 1. ]]], dtype=float32)
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skmedimg import _batch_ops as ops
from skmedimg._geometry import BreastCropper, ForegroundCropper, Resampler, Resizer
from skmedimg._image_reader import ImageReader
from skmedimg._transformer import ImageTransformer, as_dtype, one_per_axis
from skmedimg._windows import FUNCTIONS, check_window, ct_window
from skmedimg.images import ImageSpec

__all__ = [
    "CLAHE",
    "BreastCropper",
    "ChannelStacker",
    "ForegroundCropper",
    "GrayToRGB",
    "ImageReader",
    "IntensityScaler",
    "Resampler",
    "Resizer",
    "WindowLevel",
]

_Window = str | Sequence[float]


class WindowLevel(ImageTransformer):
    """Map values through a window (centre and width), as a viewer does.

    Parameters
    ----------
    window : str or (centre, width)
        Name of a CT window ("lung", "bone", "brain", "mediastinum", "soft tissue" …),
        for images in HU; or two numbers in the unit of the images.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, default="LINEAR"
        As DICOM defines them. "LINEAR" is meant for integers and ends at ``centre -
        width / 2`` and ``centre + width / 2 - 1``; "LINEAR_EXACT" lacks the 1 and takes
        widths below 1 too.
    out_range : tuple of float, default=(0.0, 1.0)
        What the two ends of the window become.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    See Also
    --------
    ChannelStacker : Several windows as channels.

    Notes
    -----
    The result is float32, in the layout of X.

    References
    ----------
    DICOM PS3.3, sections C.11.2.1.2 and C.11.2.1.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import WindowLevel
    >>> hu = np.array([[[-1000, 0, 40, 1000]]])
    >>> WindowLevel((40, 80), function="LINEAR_EXACT").transform(hu)
    array([[[0. , 0. , 0.5, 1. ]]], dtype=float32)
    """

    _parameter_constraints: ClassVar[dict] = {
        "window": [str, "array-like"],
        "function": [StrOptions(set(FUNCTIONS))],
        "out_range": ["array-like"],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        window: _Window,
        *,
        function: str = "LINEAR",
        out_range: tuple[float, float] = (0.0, 1.0),
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.window = window
        self.function = function
        self.out_range = out_range
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        centre, width = _centre_width(self.window, self.function)
        out_range = _increasing("out_range", self.out_range)
        return ops.window(x, centre, width, self.function, out_range)

    def _check_spec(self, spec: ImageSpec) -> None:
        _refuse_without_hu(self.window, spec)


class ChannelStacker(ImageTransformer):
    """Several windows of a grey image as its channels.

    What a network sees at once then holds lung, soft tissue and bone, each with the
    contrast that a radiologist would choose.

    Parameters
    ----------
    windows : sequence of str or (centre, width)
        One a channel, each as in `WindowLevel`.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, default="LINEAR"
        As in `WindowLevel`.
    out_range : tuple of float, default=(0.0, 1.0)
        What the two ends of each window become.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    See Also
    --------
    WindowLevel : One window.

    Notes
    -----
    The result is float32. The channels take the channel axis of X where it has one,
    otherwise they come last: (n, H, W) gives (n, H, W, C). An estimator knows one or
    three channels by itself; with another number, tell it ``channel_axis=-1``.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import ChannelStacker
    >>> hu = np.zeros((5, 32, 32), np.int16)
    >>> ChannelStacker(["lung", "mediastinum", "bone"]).fit_transform(hu).shape
    (5, 32, 32, 3)
    """

    _parameter_constraints: ClassVar[dict] = {
        "windows": [list, tuple, np.ndarray],
        "function": [StrOptions(set(FUNCTIONS))],
        "out_range": ["array-like"],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        windows: Sequence[_Window],
        *,
        function: str = "LINEAR",
        out_range: tuple[float, float] = (0.0, 1.0),
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.windows = windows
        self.function = function
        self.out_range = out_range
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        out_range = _increasing("out_range", self.out_range)
        pairs = [_centre_width(window, self.function) for window in self.windows]
        return torch.cat(
            [ops.window(x, *p, self.function, out_range) for p in pairs], 1
        )

    def _check_spec(self, spec: ImageSpec) -> None:
        if len(self.windows) == 0:
            raise ValueError("windows is empty: give one window a channel.")
        if spec.channels != 1:
            raise ValueError(
                f"ChannelStacker makes channels of grey images; X has {spec.channels} "
                f"channels in the layout {spec.layout}."
            )
        for window in self.windows:
            _refuse_without_hu(window, spec)


class IntensityScaler(ImageTransformer):
    """Bring each image to one scale by its own intensities.

    For images without a common unit: MR, radiographs of several makers. CT has one, HU:
    use `WindowLevel`.

    Parameters
    ----------
    method : {"percentile", "zscore", "minmax"}, default="percentile"
        "percentile" maps the two `percentiles` to 0 and 1 and clips; "minmax" does so
        with the smallest and the largest value; "zscore" gives mean 0 and standard
        deviation 1.
    percentiles : tuple of float, default=(0.5, 99.5)
        For ``method="percentile"``, from 0 to 100.
    mask_threshold : float, default=None
        Only pixels above it are measured, in the unit of the images, all are scaled: 0
        leaves the air around a head out. An image without such a pixel is measured as a
        whole.
    per_channel : bool, default=False
        Whether each channel is measured by itself (several MR sequences) instead of all
        together (colour).
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    Notes
    -----
    The result is float32, in the layout of X. A constant image becomes 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import IntensityScaler
    >>> mr = np.array([[[0, 100, 300]], [[0, 10, 50]]])
    >>> IntensityScaler("minmax").transform(mr).round(2)
    array([[[0.  , 0.33, 1.  ]],
           [[0.  , 0.2 , 1.  ]]], dtype=float32)
    >>> IntensityScaler("zscore", mask_threshold=0).transform(mr)
    array([[[-2. , -1. ,  1. ]],
           [[-1.5, -1. ,  1. ]]], dtype=float32)
    """

    _parameter_constraints: ClassVar[dict] = {
        "method": [StrOptions({"percentile", "zscore", "minmax"})],
        "percentiles": ["array-like"],
        "mask_threshold": [Real, None],
        "per_channel": ["boolean"],
        **ImageTransformer._parameter_constraints,
    }

    def __init__(
        self,
        method: str = "percentile",
        *,
        percentiles: tuple[float, float] = (0.5, 99.5),
        mask_threshold: float | None = None,
        per_channel: bool = False,
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.method = method
        self.percentiles = percentiles
        self.mask_threshold = mask_threshold
        self.per_channel = per_channel
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        if self.method == "zscore":
            return ops.standardise(x, self.mask_threshold, self.per_channel)
        ends = (0.0, 100.0)
        if self.method == "percentile":
            ends = _increasing("percentiles", self.percentiles, 0, 100)
        return ops.rescale(x, ends, self.mask_threshold, self.per_channel)


class CLAHE(ImageTransformer):
    """Contrast-limited adaptive histogram equalisation of 2-D images.

    Parameters
    ----------
    clip_limit : float, default=2.0
        Most that a histogram may hold in a bin, as a multiple of what it would hold if
        it were flat; bounds how much noise is amplified.
    tiles : int or sequence of int, default=(8, 8)
        Number of tiles along height and width, each with its own histogram.
    n_bins : int, default=256
        Number of bins of a histogram.
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    Notes
    -----
    The result is float32 from 0 to 1, in the layout of X. Bins go from the smallest to
    the largest value of each image; each channel is equalised by itself, which changes
    colours. A constant image becomes 0.

    References
    ----------
    K. Zuiderveld, "Contrast limited adaptive histogram equalization", in Graphics Gems
    IV, Academic Press, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import CLAHE
    >>> ramp = np.array([[[0, 1, 2, 100]]])
    >>> CLAHE(clip_limit=100, tiles=1).transform(ramp)
    array([[[0.25, 0.5 , 0.75, 1.  ]]], dtype=float32)
    """

    _parameter_constraints: ClassVar[dict] = {
        "clip_limit": [Interval(Real, 1, None, closed="left")],
        "tiles": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "image_shape": ["array-like", None],
        "channel_axis": [Integral, None],
    }
    spatial_dims = 2

    def __init__(
        self,
        clip_limit: float = 2.0,
        *,
        tiles: int | Sequence[int] = (8, 8),
        n_bins: int = 256,
        image_shape: Sequence[int] | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.clip_limit = clip_limit
        self.tiles = tiles
        self.n_bins = n_bins
        self.image_shape = image_shape
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        tiles = one_per_axis("tiles", self.tiles, 2)
        return ops.equalise(x, self.clip_limit, tiles, self.n_bins)

    def _check_spec(self, spec: ImageSpec) -> None:
        tiles = one_per_axis("tiles", self.tiles, 2)
        if any(t > s for t, s in zip(tiles, spec.size, strict=True)):
            raise ValueError(
                f"tiles={self.tiles!r} is more than the images have pixels "
                f"{spec.size}: take fewer tiles, each with many pixels."
            )


class GrayToRGB(ImageTransformer):
    """Repeat the channel of grey images three times, for networks made for colour.

    Parameters
    ----------
    image_shape : sequence of int, default=None
        Shape of one image, where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image; None reads them from the shape of X.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last; None reads it from the shape of X.

    Notes
    -----
    The dtype is that of X. The channels take the channel axis of X where it has one,
    otherwise they come last. Images that have three channels stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.preprocessing import GrayToRGB
    >>> GrayToRGB().fit_transform(np.zeros((5, 32, 32), np.uint8)).shape
    (5, 32, 32, 3)
    """

    _keeps_dtype = True

    def __init__(
        self,
        *,
        image_shape: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> None:
        self.image_shape = image_shape
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """See `ImageTransformer.apply`."""
        return x.repeat(1, 3 // x.shape[1], *[1] * (x.ndim - 2))

    def _check_spec(self, spec: ImageSpec) -> None:
        if spec.channels not in (1, 3):
            raise ValueError(
                f"GrayToRGB takes images of 1 or 3 channels; X has {spec.channels} in "
                f"the layout {spec.layout}. Drop the alpha channel first."
            )

    def _transform_batch(self, batch: np.ndarray) -> np.ndarray:
        # Single precision would round integers beyond 2 ** 24.
        return as_dtype(np.repeat(batch, 3 // batch.shape[1], axis=1), batch.dtype)


def _centre_width(window: Any, function: str) -> tuple[float, float]:
    if isinstance(window, str):
        return ct_window(window)
    pair = np.asarray(window)
    if pair.shape != (2,) or pair.dtype.kind not in "iuf":
        raise ValueError(
            f"window={window!r}: give the name of a CT window or (centre, width)."
        )
    centre, width = map(float, pair)
    check_window(centre, width, function)
    return centre, width


def _refuse_without_hu(window: Any, spec: ImageSpec) -> None:
    if isinstance(window, str) and np.dtype(spec.dtype).kind in "bu":
        ct_window(window)
        raise ValueError(
            f"window={window!r} is a window in HU, and {spec.dtype} images have no "
            "values below 0, so that they cannot be in HU. Read the files as HU, or "
            "pass (centre, width) in the unit of the images."
        )


def _increasing(
    name: str, pair: Any, lowest: float = -np.inf, highest: float = np.inf
) -> tuple[float, float]:
    values = np.asarray(pair)
    if values.shape == (2,) and values.dtype.kind in "iuf":
        low, high = map(float, values)
        if np.isfinite([low, high]).all() and lowest <= low < high <= highest:
            return low, high
    within = "" if lowest == -np.inf else f" from {lowest:g} to {highest:g}"
    raise ValueError(f"{name}={pair!r}: give two increasing numbers{within}.")
