"""What an image array is: its layout, its intensities, and how both are recognised.

`ImageSpec` is inferred once, at fit, from the array alone, and checked at every
predict; `ImageArray` is the one way the rest of the package reads pixels. Whatever the
layout a user has, `ImageArray.take` gives (k, C, *spatial) in the array's own dtype.

>>> import numpy as np
>>> from skmedimg.images import ImageSpec
>>> ImageSpec.from_array(np.zeros((5, 64, 64, 3), np.uint8)).layout
'(n, H, W, C)'
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array

# Elements read at a time: large enough that NumPy's overhead vanishes, small enough to
# stay in the caches and out of the memory account.
_CHUNK_ELEMENTS = 1 << 20
_WIDE_ROW = 256

# The parameters `spatial_dims` and `channel_axis`.
Reading = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Layout and intensities of the images an estimator was fitted on.

    Attributes
    ----------
    layout : str
        Axes as the user passes them: "(n, H, W)", "(n, H, W, C)", "(n, C, D, H, W)",
        "(n, p)" …
    sample_shape : tuple of int
        Shape of one image in that layout.
    channels : int
        Number of channels.
    size : tuple of int
        Pixels along each spatial axis, as the network sees them (`image_size` where
        images are resized).
    channel_axis : int or None
        Channel axis of one image in `sample_shape`, None where there is none.
    folded : bool
        Whether X has two axes although the images have more (`image_shape`, or rows
        read as images of height 1).
    tabular : bool
        Whether X has two axes and nothing said what the images are: rows are then read
        as images of height 1 and never augmented.
    resized : bool
        Whether images of other sizes are resized to `size`.
    dtype : str
        Data type seen at fit.
    intensity : {"dataset", "window", "clipped", "percentile"}
        What happens to intensities before they are standardised by `mean` and `std`:
        nothing; clipped to `window`, that of Hounsfield units or, where up to 5 % of
        the images are more than three times as wide as the median one (markers,
        artefacts), that of the others; or each image scaled so that its .5 and 99.5
        percentiles become 0 and 1, where more are so (scanners without a common unit).
        Values of 8 bits, and those that fill the range from 0 to 1, are on one scale
        already.
    window : tuple of float or None
        Lower and upper end, in the unit of the images, where they are clipped.
    mean, std : tuple of float
        One of each a channel, over the training images after clipping or scaling.
    value_range : tuple of float or None
        Smallest and largest training value; for ``intensity="clipped"`` of the images
        that lie within `window`.
    """

    layout: str
    sample_shape: tuple[int, ...]
    channels: int
    size: tuple[int, ...]
    channel_axis: int | None = None
    folded: bool = False
    tabular: bool = False
    resized: bool = False
    dtype: str = ""
    intensity: str = "dataset"
    window: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    value_range: tuple[float, float] | None = None
    # Coarse mean image and how well training images agree with it: tells an inverted
    # scan (MONOCHROME1 taken for MONOCHROME2) from an ordinary one.
    pattern: tuple[float, ...] = field(default=(), repr=False)
    pattern_agreement: tuple[float, float] | None = None

    @property
    def spatial_dims(self) -> int:
        """Axes of an image, 2 or 3."""
        return len(self.size)

    @property
    def reading(self) -> Reading:
        """What makes a batch of such images readable in one way only."""
        axis = None if self.channel_axis is None else self.channel_axis + 1
        return {"spatial_dims": self.spatial_dims, "channel_axis": axis}

    @classmethod
    def from_array(
        cls,
        X: Any,
        *,
        image_shape: Sequence[int] | None = None,
        image_size: Sequence[int] | None = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
    ) -> "ImageSpec":
        """Read the layout from the shape of X.

        Parameters
        ----------
        X : array-like with a shape, of n images
            Only `shape` and `dtype` are used.
        image_shape : sequence of int, default=None
            Shape of one image where X is flattened to (n, p).
        image_size : sequence of int, default=None
            Size that images are resized to.
        spatial_dims : {2, 3}, default=None
            Axes of an image; None reads them from the shape.
        channel_axis : int, default=None
            Channel axis of X, 1 or the last; None reads it from the shape.

        Returns
        -------
        ImageSpec
            Layout only; intensities are filled in by `fit`.

        Raises
        ------
        ValueError
            If the shape can be read in more than one way, or in none.
        """
        shape = tuple(int(s) for s in X.shape)
        folded = len(shape) == 2
        tabular = folded and image_shape is None
        if folded:
            sample = _unfold(shape[1], image_shape)
        else:
            sample = shape[1:]
            if image_shape is not None and tuple(image_shape) != sample:
                raise ValueError(
                    f"image_shape={tuple(image_shape)} is for X flattened to two axes; "
                    f"X has shape {shape}: leave image_shape out."
                )
        axis = _channel_axis(sample, X.dtype, spatial_dims, channel_axis)
        spatial = tuple(s for i, s in enumerate(sample) if i != axis)
        if image_size is not None and len(image_size) != len(spatial):
            raise ValueError(
                f"image_size={tuple(image_size)} has {len(image_size)} entries, but "
                f"the images have {len(spatial)} spatial axes {spatial}."
            )
        size = spatial if image_size is None else tuple(int(s) for s in image_size)
        return cls(
            layout="(n, p)" if folded else _describe(len(sample), axis),
            sample_shape=sample,
            channels=1 if axis is None else sample[axis],
            size=size,
            channel_axis=axis,
            folded=folded,
            tabular=tabular,
            resized=image_size is not None,
            dtype=str(X.dtype),
        )

    def check(self, X: Any) -> None:
        """Raise unless X has the layout of fit.

        Parameters
        ----------
        X : array-like with a shape, of n images
            What predict was given.

        Raises
        ------
        ValueError
            If an axis differs; the message has both shapes.
        """
        shape = tuple(int(s) for s in X.shape)
        expected = (math.prod(self.sample_shape),) if self.folded else self.sample_shape
        if self._fits(shape[1:], expected):
            return
        if shape == expected and not self.folded:
            raise ValueError(
                f"X has shape {shape}, that of one image: pass X[np.newaxis] to "
                "predict a single one."
            )
        seen = ""
        if sorted(shape[1:]) == sorted(expected) and len(shape) > 2:
            seen = " The axes are those of fit in another order:"
        raise ValueError(
            f"X has shape {shape}, but this estimator was fitted on images of shape "
            f"{expected} in the layout {self.layout}.{seen} Pass the layout, size and "
            "channels of fit, or set image_size to have images resized."
        )

    def _fits(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
        if not self.resized or self.folded or len(shape) != len(expected):
            return shape == expected
        axis = self.channel_axis
        return axis is None or shape[axis] == expected[axis]

    def canonical(self, batch: np.ndarray) -> np.ndarray:
        """View a batch in the layout of fit as (k, C, *spatial); no copy if possible.

        Parameters
        ----------
        batch : ndarray of shape (k, *sample_shape) or (k, p)
            Images as the user passes them.

        Returns
        -------
        ndarray of shape (k, C, *spatial)
            The same values, dtype unchanged.
        """
        if self.folded:
            batch = batch.reshape(len(batch), *self.sample_shape)
        if self.channel_axis is None:
            return batch[:, np.newaxis]
        return np.moveaxis(batch, self.channel_axis + 1, 1)


class ImageArray:
    """n images as (C, *spatial), whatever array they come from.

    Parameters
    ----------
    source : array-like with a shape, of n images
        An ndarray or an `ImageSequence`.
    spec : ImageSpec
        How to read it.
    groups : array-like of shape (n,), default=None
        Groups that the source carries.
    """

    def __init__(self, source: Any, spec: ImageSpec, groups: Any = None) -> None:
        self.source = source
        self.spec = spec
        self.groups = groups

    def __len__(self) -> int:
        return int(self.source.shape[0])

    def take(self, index: Any) -> np.ndarray:
        """Images at `index` (slice or integer array), of shape (k, C, *size)."""
        raw = self.source[index]
        if not isinstance(raw, np.ndarray):
            raw = raw.to_numpy()
        batch = self.spec.canonical(raw)
        if self.spec.resized:
            return resize(batch, self.spec.size)
        return batch

    def chunks(
        self, elements: int = _CHUNK_ELEMENTS, images: int | None = None
    ) -> Iterator[slice]:
        """Slices that cover all images, of about `elements`, at most `images` each."""
        step = self.chunk_length(elements)
        step = step if images is None else min(step, images)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def chunk_length(self, elements: int = _CHUNK_ELEMENTS) -> int:
        """How many images have about `elements`; at least one."""
        # What is read counts, be it larger than what it is resized to.
        largest = max(
            math.prod(self.source.shape[1:]),
            self.spec.channels * math.prod(self.spec.size),
        )
        return max(1, elements // max(1, largest))


def as_image_source(
    X: Any, image_size: Sequence[int] | None, reading: Reading
) -> tuple[Any, Reading]:
    """Turn what a user may hold into an ndarray or a lazy `ImageSequence`.

    Parameters
    ----------
    X : array-like, list of images, DataFrame, Series, or lazy array
        ndarrays, memmaps included, and `ImageSequence` come back as they are; h5py and
        zarr arrays are wrapped and stay on disk.
    image_size : sequence of int or None
        Size that images of differing shapes are resized to.
    reading : dict
        `spatial_dims` and `channel_axis` as the user, or fit, said.

    Returns
    -------
    source : ndarray or ImageSequence
        Something with `shape` and `dtype` whose first axis counts images.
    reading : dict
        How to read it: images of differing shapes have been read already.

    Raises
    ------
    ValueError
        If images differ in shape and `image_size` is None; names two of them.
    TypeError
        If X is sparse, or holds file names.
    """
    from skmedimg.io import ImageSequence

    if isinstance(X, ImageSequence) or sp.issparse(X):
        return X, reading
    if isinstance(X, np.ma.MaskedArray):
        X = _from_masked(X)
    if hasattr(X, "iloc"):
        X = _from_pandas(X)
        if hasattr(X, "iloc"):
            return X, reading
    if isinstance(X, list | tuple) or _is_object_vector(X):
        X, reading = _from_list(X, image_size, reading)
    if is_lazy(X):
        return ImageSequence.from_array(X), reading
    try:
        array = np.asanyarray(X)
    except (ValueError, RuntimeError) as error:  # torch: a tensor with a gradient
        raise ValueError(f"X cannot be read as an array of images: {error}") from error
    if array.ndim == 0:
        raise ValueError(f"X is {X!r:.60}, not an array of images.")
    return array, reading


def groups_of(X: Any) -> Any:
    """Groups that X carries (`ImageSequence`); a column of that name is not meant."""
    return None if hasattr(X, "iloc") else getattr(X, "groups", None)


def _is_object_vector(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1


def is_lazy(X: Any) -> bool:
    """Whether X is an array on disk: it has a shape and a dtype and is no tensor."""
    return (
        all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__", "__len__"))
        and not isinstance(X, np.ndarray)
        and not hasattr(X, "detach")
        and not hasattr(X, "__array_namespace__")
    )


def _from_masked(X: np.ma.MaskedArray) -> np.ndarray:
    if np.ma.is_masked(X):
        raise ValueError(
            f"X is a masked array with {int(np.ma.getmaskarray(X).sum())} masked "
            "pixels, which have no value to learn from: fill them first, for example "
            "X.filled(0)."
        )
    return X.data


def _from_pandas(X: Any) -> Any:
    if getattr(X, "ndim", 2) == 2:
        if X.shape[1] != 1 or X.dtypes.iloc[0].kind != "O":
            return X
        X = X.iloc[:, 0]
    return list(X)


def _from_list(
    X: Any, image_size: Sequence[int] | None, reading: Reading
) -> tuple[Any, Reading]:
    first = X[0] if len(X) else None
    if isinstance(first, str | bytes) or hasattr(first, "__fspath__"):
        raise TypeError(
            f"X holds file names (the first is a {type(first).__name__}); pass the "
            "images themselves, as an array, a list of arrays or an ImageSequence."
        )
    if first is None or isinstance(first, list | tuple) or np.ndim(first) < 2:
        return X, reading
    images = [np.asarray(image) for image in X]
    empty = [i for i, image in enumerate(images) if image.size == 0]
    if empty:
        raise ValueError(
            f"X[{empty[0]}] has shape {images[empty[0]].shape}: no pixels."
        )
    shapes = [image.shape for image in images]
    if len(set(shapes)) == 1:
        return np.stack(images), reading
    other = next(i for i, shape in enumerate(shapes) if shape != shapes[0])
    seen = (
        f"X holds images of differing shapes: X[0] has {shapes[0]}, X[{other}] has "
        f"{shapes[other]}"
    )
    if image_size is None:
        raise ValueError(f"{seen}. Set image_size to have them resized to one.")
    specs = [
        ImageSpec.from_array(image[np.newaxis], image_size=image_size, **reading)
        for image in images
    ]
    kinds = {f"{spec.channels} channels in {spec.layout}" for spec in specs}
    if len(kinds) > 1:
        raise ValueError(f"{seen}: {sorted(kinds)}. Make their axes alike first.")
    dtype = np.result_type(*images)
    resized = [
        resize(spec.canonical(image[np.newaxis]), spec.size).astype(dtype, copy=False)
        for spec, image in zip(specs, images, strict=True)
    ]
    stacked, axis = np.concatenate(resized), specs[0].channel_axis
    stacked = stacked[:, 0] if axis is None else np.moveaxis(stacked, 1, axis + 1)
    return stacked, specs[0].reading


def resize(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize images by linear interpolation, antialiased where they shrink.

    Parameters
    ----------
    images : ndarray of shape (k, C, *spatial)
        Images of any numeric dtype.
    size : sequence of int
        New size along each spatial axis, in pixels.

    Returns
    -------
    ndarray of shape (k, C, *size)
        Same dtype; integers are rounded.
    """
    if images.shape[2:] == tuple(size):
        return images
    import torch
    from torch.nn.functional import interpolate

    with np.errstate(over="ignore"):  # what becomes infinite is found afterwards
        x = torch.from_numpy(np.array(images, dtype=np.float32, order="C"))
    if len(size) == 2:
        x = interpolate(x, tuple(size), mode="bilinear", antialias=True)
    else:
        # Linear interpolation of volumes has no antialiasing: average first.
        smaller = [min(s, t) for s, t in zip(images.shape[2:], size, strict=True)]
        x = interpolate(x, smaller, mode="area")
        x = interpolate(x, tuple(size), mode="trilinear")
    resized = x.numpy()
    if images.dtype.kind in "biu":
        resized = np.rint(resized)
    return resized.astype(images.dtype)


def check_numeric(X: Any) -> np.ndarray:
    """Numeric ndarray behind X, in its own dtype; uint8 stays uint8."""
    if type(X) is np.ndarray and X.dtype.kind in "biuf":
        return X
    try:
        return check_array(
            X,
            dtype="numeric",
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=0,
            input_name="X",
        )
    except TypeError as error:
        raise TypeError(f"X of dtype {X.dtype} holds no numbers: {error}") from error


def _unfold(n_features: int, image_shape: Sequence[int] | None) -> tuple[int, ...]:
    if image_shape is None:
        if n_features >= _WIDE_ROW:
            warnings.warn(
                f"X has two axes and {n_features} columns: each row is read as an "
                f"image of 1 x {n_features} pixels. If the images were flattened, set "
                "image_shape, for example image_shape=(28, 28).",
                UserWarning,
                stacklevel=2,
            )
        return (1, n_features)
    shape = tuple(int(s) for s in image_shape)
    if math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={shape} has {math.prod(shape)} pixels, but X has "
            f"{n_features} columns."
        )
    return shape


def _describe(n_axes: int, channel_axis: int | None) -> str:
    spatial = ["H", "W"] if n_axes - (channel_axis is not None) == 2 else list("DHW")
    if channel_axis is not None:
        spatial.insert(channel_axis, "C")
    return f"(n, {', '.join(spatial)})"


def _channel_axis(
    sample: tuple[int, ...],
    dtype: Any,
    spatial_dims: int | None,
    channel_axis: int | None,
) -> int | None:
    """Channel axis of one image of shape `sample`, None where it is grey.

    Of the first and the last axis exactly one of 1 or 3 entries (4 in the last one of
    uint8 images: RGBA) is the channel axis. With none, four axes are grey volumes,
    unless an axis of at most 8 entries could be channels after all.
    """
    n_axes, shape = len(sample), ("n", *sample)
    shown = f"({', '.join(map(str, shape))})"
    if not 2 <= n_axes <= 4:
        raise ValueError(
            f"X of shape {shown} has {n_axes + 1} axes; images need 3 (grey), 4 "
            "(colour, or grey volumes) or 5 (volumes with channels). Reshape your data."
        )
    if channel_axis is not None:
        return _given_axis(n_axes, shown, spatial_dims, channel_axis)
    if spatial_dims is not None and n_axes not in (spatial_dims, spatial_dims + 1):
        raise ValueError(
            f"spatial_dims={spatial_dims} does not fit X of shape {shown}."
        )
    if n_axes == 2 or n_axes == spatial_dims:
        return None
    if n_axes == 4 and spatial_dims is None:
        spatial_dims = 3
    candidates = _candidates(sample, dtype)
    if len(candidates) == 1:
        return candidates[0]
    undecided = [s for s in (sample[0], sample[-1]) if s <= 8]
    if not candidates and not undecided and spatial_dims is None:
        return None
    last = n_axes
    readings = [
        f"channel_axis=1 ({sample[0]} channels first)",
        f"channel_axis={last} ({sample[-1]} channels last)",
    ]
    if n_axes == 3 and spatial_dims is None:
        readings.append("spatial_dims=3 (grey volumes without a channel axis)")
    raise ValueError(
        f"X of shape {shown} can be read in more than one way. Say which by one of: "
        f"{'; '.join(readings)}."
    )


def _given_axis(
    n_axes: int, shown: str, spatial_dims: int | None, channel_axis: int
) -> int:
    axis = channel_axis if channel_axis >= 0 else channel_axis + n_axes + 1
    if n_axes == 2 or axis not in (1, n_axes):
        raise ValueError(
            f"channel_axis={channel_axis} does not fit X of shape {shown}: the channel "
            f"axis is 1 or the last of an array with at least 4 axes."
        )
    if spatial_dims is not None and spatial_dims != n_axes - 1:
        raise ValueError(
            f"channel_axis={channel_axis} and spatial_dims={spatial_dims} need X with "
            f"{spatial_dims + 2} axes; it has shape {shown}."
        )
    return axis - 1


def _candidates(sample: tuple[int, ...], dtype: Any) -> list[int]:
    last = len(sample) - 1
    candidates = [i for i in (0, last) if sample[i] in (1, 3)]
    if sample[last] == 4 and dtype == np.uint8:
        candidates.append(last)
    return candidates
