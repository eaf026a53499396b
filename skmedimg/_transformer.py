"""What the transformers of images share: layouts in and out, chunks, laziness.

A transformer says what happens to a batch of (k, C, *spatial); everything else is here.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import Options
from sklearn.utils.validation import validate_data

from skmedimg.images import (
    ImageArray,
    ImageSpec,
    Reading,
    as_image_source,
    check_numeric,
    groups_of,
)
from skmedimg.io import ImageSequence


class ImageTransformer(TransformerMixin, BaseEstimator):
    """Base of the transformers: a subclass writes `apply`, or `_transform_batch`.

    Nothing is learnt: `transform` works without `fit`, which checks the parameters and
    the layout.
    """

    _parameter_constraints: ClassVar[dict] = {
        "image_shape": ["array-like", None],
        "spatial_dims": [Options(int, {2, 3}), None],
        "channel_axis": [Integral, None],
    }
    # Whether images come out in the data type they came in; else in float32.
    _keeps_dtype: ClassVar[bool] = False

    image_shape: Sequence[int] | None
    spatial_dims: int | None
    channel_axis: int | None

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "ImageTransformer":
        """Check the parameters and the layout of X; nothing is learnt.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Any layout of the class docstring.
        y : None
            Ignored.

        Returns
        -------
        self
            The transformer.

        Raises
        ------
        ValueError
            If a parameter does not fit, or X can be read in more than one way.
        """
        singles = images_of_differing_shapes(X)
        for array in [X] if singles is None else singles:
            self._check_spec(self._check_images(array, reset=True).spec)
        return self

    def transform(self, X: Any) -> Any:
        """Transform images.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Any layout of the class docstring.

        Returns
        -------
        ndarray or ImageSequence of n images
            In the layout of X. An `ImageSequence` (h5py and zarr arrays are read as
            one) gives another that transforms what is read when it is read, and
            carries the same groups, `kept_` and `skipped_`. Images of differing shapes
            give an array if they come out in one shape, otherwise an object array of
            images.

        Raises
        ------
        ValueError
            If a parameter does not fit, X can be read in more than one way, or a value
            is not finite.
        """
        self._validate_params()
        singles = images_of_differing_shapes(X)
        if singles is not None:
            return stack_if_alike([self.transform(image)[0] for image in singles])
        images = self._check_images(X, reset=False)
        self._check_spec(images.spec)
        if isinstance(images.source, ImageSequence):
            lazy = _TransformedImages(clone(self), images)
            return images.source._derived(lazy)
        return self._transform_images(images)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Transform a batch; a pure function of it, on the device it is on.

        Parameters
        ----------
        x : torch.Tensor of shape (k, C, *spatial)
            float32.

        Returns
        -------
        torch.Tensor of shape (k, C, *spatial)
            A new batch; channels and sizes may differ from those of `x`.
        """
        raise NotImplementedError

    def _check_spec(self, spec: ImageSpec) -> None:
        """Raise ValueError if the parameters do not fit such images."""

    def _transform_batch(self, batch: np.ndarray) -> np.ndarray:
        """Transform (k, C, *spatial) in the dtype of the images."""
        x = torch.from_numpy(np.array(batch, dtype=np.float32, order="C"))
        dtype = batch.dtype if self._keeps_dtype else np.dtype(np.float32)
        return as_dtype(self.apply(x).numpy(), dtype)

    def _check_images(self, X: Any, *, reset: bool) -> ImageArray:
        reading: Reading = {
            "spatial_dims": self.spatial_dims,
            "channel_axis": self.channel_axis,
        }
        source, _ = as_image_source(X, None, reading)
        if source.ndim <= 2:
            # Sets, or compares with, the number of features; a stateless transformer
            # that was not fitted has none to compare with.
            source = validate_data(self, source, dtype="numeric", reset=reset)
        elif reset:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        if isinstance(source, np.ndarray):
            source = check_numeric(source)
            if source.size == 0:
                raise ValueError(
                    f"X is empty: found array with {source.shape[0]} sample(s) of "
                    f"shape {source.shape[1:]} while a minimum of 1 is required."
                )
        if source.dtype.kind not in "biuf":
            raise ValueError(f"X has dtype {source.dtype}; images need numbers.")
        spec = ImageSpec.from_array(source, image_shape=self.image_shape, **reading)
        return ImageArray(source, spec, groups_of(X))

    def _transform_images(self, images: ImageArray) -> np.ndarray:
        shape, dtype = self._result_of(images.spec)
        result = np.empty((len(images), *shape), dtype)
        for part in images.chunks():
            batch = images.take(part)
            check_finite(batch, part.start)
            result[part] = in_layout_of(images.spec, self._transform_batch(batch))
        return result

    def _result_of(self, spec: ImageSpec) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of a transformed image: they depend on no pixel."""
        blank = np.zeros((1, spec.channels, *spec.size), spec.dtype)
        result = in_layout_of(spec, self._transform_batch(blank))
        return result.shape[1:], result.dtype

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = (
            ["float64", "float32"] if self._keeps_dtype else ["float32"]
        )
        return tags


class _TransformedImages:
    """Array-like source of an `ImageSequence`: transforms what it is asked for.

    Parameters
    ----------
    transformer : ImageTransformer
        Our own copy, so that parameters set later change nothing.
    images : ImageArray
        What is transformed.
    """

    def __init__(self, transformer: ImageTransformer, images: ImageArray) -> None:
        self._transformer = transformer
        self._source = images.source
        self._spec = images.spec
        self._shape, self.dtype = transformer._result_of(images.spec)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, then the shape of one after the transformation."""
        return (len(self), *self._shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + len(self._shape)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, rows: Any) -> np.ndarray:
        raw = self._source[rows].to_numpy()
        return self._transformer._transform_images(ImageArray(raw, self._spec))


def images_of_differing_shapes(X: Any) -> list[np.ndarray] | None:
    """Arrays of one image each, where X lists images that do not make one array."""
    if hasattr(X, "iloc") and getattr(X, "ndim", 2) == 1:
        X = list(X)
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    if not isinstance(X, list | tuple) or not all(hasattr(x, "ndim") for x in X):
        return None
    images = [np.asarray(image) for image in X]
    shapes = {image.shape for image in images}
    if len(shapes) < 2:
        return None
    if len({len(shape) for shape in shapes}) > 1:
        first, other = sorted(shapes, key=len)[:: len(shapes) - 1]
        raise ValueError(
            f"X holds images of shapes {first} and {other}, among others: make their "
            "axes alike first, for example all grey or all with a channel axis."
        )
    return [image[np.newaxis] for image in images]


def stack_if_alike(images: list[np.ndarray]) -> np.ndarray:
    """One array if the shapes are alike, else an object array of images."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    array = np.empty(len(images), dtype=object)
    array[:] = images
    return array


def check_finite(batch: np.ndarray, start: int) -> None:
    """Raise ValueError if a value is not finite in single precision.

    Parameters
    ----------
    batch : ndarray of shape (k, C, *spatial)
        Images.
    start : int
        Index of the first of them, for the message.
    """
    if batch.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(batch.astype(np.float32, copy=False))
    if not bad.any():
        return
    nan = np.isnan(batch)
    images = np.flatnonzero(bad.any(axis=tuple(range(1, batch.ndim))))
    raise ValueError(
        f"X[{start + images[0]}] is not finite: X[{start}:{start + len(batch)}] "
        f"contains {nan.sum()} NaN and {(bad & ~nan).sum()} infinite values (inf, "
        f"or too large for float32) in {len(images)} images. Replace them, for example "
        "by numpy.nan_to_num, or drop these images."
    )


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in `dtype`, in the byte order of the machine; rounded to integers."""
    if dtype.kind in "biu" and values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(dtype.newbyteorder("="), copy=False)


def in_layout_of(spec: ImageSpec, batch: np.ndarray) -> np.ndarray:
    """(k, C, *spatial) in the layout the user passed; new channels come last."""
    axis = spec.channel_axis
    if axis is not None:
        batch = np.moveaxis(batch, 1, axis + 1)
    elif batch.shape[1] == 1:
        batch = batch[:, 0]
    else:
        batch = np.moveaxis(batch, 1, -1)
    if spec.folded:
        batch = batch.reshape(len(batch), math.prod(batch.shape[1:]))
    return batch


def one_per_axis(
    name: str, value: Any, n_axes: int, kind: type = int
) -> tuple[Any, ...]:
    """`value` as one positive number an axis; a single number stands for all.

    Raises
    ------
    ValueError
        If there is another number of entries, or one is not positive.
    """
    given = np.ravel(np.asarray(value))
    numbers = np.repeat(given, n_axes) if np.ndim(value) == 0 else given
    ok = len(numbers) == n_axes and numbers.dtype.kind in (
        "iu" if kind is int else "iuf"
    )
    if not ok or not (np.isfinite(numbers).all() and (numbers > 0).all()):
        wanted = "positive integers" if kind is int else "positive numbers"
        raise ValueError(
            f"{name}={value!r}: the images have {n_axes} spatial axes; give one "
            f"number, or {n_axes} {wanted}."
        )
    return tuple(kind(number) for number in numbers)
