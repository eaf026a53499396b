"""A baseline that has learnt nothing: a few statistics of the pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from skmedimg._transformer import (
    ImageTransformer,
    check_finite,
    images_of_differing_shapes,
)

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_CELLS = 4


class PixelStatistics(ImageTransformer):
    """Turn images into a table of statistics of their pixels.

    Of each channel: mean, standard deviation, seven quantiles, the mean step between
    neighbours along each axis, and the means of four parts of each axis by four of the
    others. What a network is worth shows beside a baseline of these.

    Parameters
    ----------
    image_shape : sequence of int, default=None
        Shape of one image where X is flattened to (n, p).
    spatial_dims : {2, 3}, default=None
        Axes of an image, where the shape of X alone does not tell.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last, where its shape alone does not tell.

    Attributes
    ----------
    n_features_in_ : int
        Columns, where X has two axes.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names where X was a DataFrame with string columns.

    See Also
    --------
    EmbeddingOutlierDetector : Finds unusual images by such features.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.uncertainty import PixelStatistics
    >>> X = np.random.default_rng(0).integers(0, 255, (5, 28, 28), dtype=np.uint8)
    >>> PixelStatistics().fit_transform(X).shape
    (5, 27)
    """

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

    def transform(self, X: Any) -> np.ndarray:
        """Compute the statistics.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Any layout; read batch by batch.

        Returns
        -------
        ndarray of shape (n, n_statistics)
            float32.

        Raises
        ------
        ValueError
            If X can be read in more than one way, or a value is not finite.
        """
        self._validate_params()
        singles = images_of_differing_shapes(X)
        if singles is not None:
            return np.concatenate([self.transform(image) for image in singles])
        images = self._check_images(X, reset=False)
        rows = []
        for part in images.chunks():
            batch = images.take(part)
            check_finite(batch, part.start)
            rows.append(_statistics(np.array(batch, dtype=np.float32, order="C")))
        return np.concatenate(rows)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _statistics(batch: np.ndarray) -> np.ndarray:
    """Statistics (k, n_statistics) of images (k, C, *spatial)."""
    x = torch.from_numpy(batch)
    size = x.shape[2:]
    rows = x.flatten(2)
    quantiles = np.quantile(rows.numpy(), _QUANTILES, axis=2).astype(np.float32)
    steps = [
        x.diff(dim=axis).abs().flatten(2).mean(2)
        for axis in range(2, x.ndim)
        if x.shape[axis] > 1
    ]
    pool: Any = adaptive_avg_pool2d if len(size) == 2 else adaptive_avg_pool3d
    cells = pool(x, [min(_CELLS, length) for length in size]).flatten(1)
    moments = [rows.mean(2), rows.std(2, correction=0), *steps, cells]
    columns = [column.numpy() for column in moments]
    return np.column_stack([*columns, *quantiles])
