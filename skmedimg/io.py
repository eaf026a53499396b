"""Images from memory or disk as one lazy array that scikit-learn can split.

>>> import numpy as np
>>> from skmedimg.io import ImageSequence
>>> X = ImageSequence.from_array(np.zeros((6, 8, 8)), groups=list("aabbcc"))
>>> X[[0, 5]]
ImageSequence(shape=(2, 8, 8), dtype=float64, 2 groups)
"""

from typing import Any

import numpy as np


class ImageSequence:
    """A lazy array of n images that carries the groups (patients) they belong to.

    scikit-learn gives `groups` to the splitter only, unless metadata routing is on. A
    sequence takes them along into every fold, so that the estimator's internal split
    keeps patients apart too. Slices, index arrays and masks give another sequence that
    shares the pixels; an integer gives an image.

    Make one by `from_array`.

    Parameters
    ----------
    source : array-like with shape and dtype
        ndarray, memmap, h5py dataset or zarr array; the first axis counts images.
        Nothing is read until pixels are asked for.
    groups : array-like of shape (n,), default=None
        Group of each image, for example its patient.

    Attributes
    ----------
    shape : tuple of int
        (n, …) as in the source.
    dtype : numpy.dtype
        Of the source.
    groups : ndarray of shape (n,) or None
        Group of each image.
    """

    def __init__(self, source: Any, groups: Any = None) -> None:
        if len(getattr(source, "shape", ())) < 2 or not hasattr(source, "dtype"):
            raise TypeError(
                f"ImageSequence needs an array of images with a shape and a dtype; got "
                f"{type(source).__name__}."
            )
        n = int(source.shape[0])
        if groups is not None:
            groups = np.asarray(groups)
            if groups.shape != (n,):
                raise ValueError(
                    f"groups has shape {groups.shape}, but there are {n} images: give "
                    "one group an image."
                )
        self._source = source
        self._index = np.arange(n)
        self.groups = groups

    @classmethod
    def from_array(cls, X: Any, *, groups: Any = None) -> "ImageSequence":
        """Wrap an array of images.

        Parameters
        ----------
        X : array-like of shape (n, …)
            ndarray, memmap, h5py dataset, zarr array, or a list that makes an array.
        groups : array-like of shape (n,), default=None
            Group of each image, for example its patient.

        Returns
        -------
        ImageSequence
            Lazy view of X; nothing is copied.

        Raises
        ------
        ValueError
            If there is not one group an image.

        Examples
        --------
        >>> import numpy as np
        >>> from skmedimg.io import ImageSequence
        >>> X = ImageSequence.from_array(np.zeros((4, 8, 8)), groups=[1, 1, 2, 2])
        >>> X[X.groups == 1].shape
        (2, 8, 8)
        """
        if not hasattr(X, "shape"):
            try:
                X = np.asarray(X)
            except ValueError as error:
                raise ValueError(
                    f"X cannot be read as an array of images: {error}"
                ) from error
        if groups is None and isinstance(X, cls):
            groups = X.groups
        return cls(X, groups=groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, then the shape of one."""
        return (len(self._index), *map(int, self._source.shape[1:]))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the pixels."""
        return np.dtype(self._source.dtype)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            # scikit-learn indexes everything that has a shape as X[(rows, Ellipsis)].
            if len(key) != 2 or key[1] is not Ellipsis:
                raise IndexError(
                    "an ImageSequence is indexed by images only: X[rows]; take "
                    "numpy.asarray(X) to index pixels."
                )
            key = key[0]
        if isinstance(key, int | np.integer):
            return self._read(self._index[key : key + 1 or None])[0]
        part = object.__new__(ImageSequence)
        part._source = self._source
        key = key if isinstance(key, slice) else np.asarray(key)
        if isinstance(key, np.ndarray) and key.size == 0:
            key = key.astype(int)
        if np.ndim(key) > 1:
            raise IndexError(
                f"an ImageSequence is indexed by images only: X[rows] with rows of one "
                f"axis, not of shape {np.shape(key)}."
            )
        part._index = self._index[key]
        part.groups = None if self.groups is None else self.groups[key]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the pixels of an ImageSequence are always read as a copy")
        return self._read(self._index).astype(dtype or self.dtype, copy=False)

    def _read(self, index: np.ndarray) -> np.ndarray:
        source = self._source
        if isinstance(source, np.ndarray):
            return source[index]
        # h5py wants increasing indices without repeats, and reads them fastest.
        wanted, back = np.unique(index, return_inverse=True)
        if len(wanted) and wanted[-1] - wanted[0] + 1 == len(wanted):
            pixels = np.asarray(source[int(wanted[0]) : int(wanted[-1]) + 1])
        elif hasattr(source, "oindex"):
            pixels = np.asarray(source.oindex[wanted])
        else:
            pixels = np.asarray(source[wanted])
        return pixels if np.array_equal(wanted, index) else pixels[back]

    def __repr__(self) -> str:
        groups = "no groups"
        if self.groups is not None:
            groups = f"{len(set(map(str, self.groups)))} groups"
        return f"ImageSequence(shape={self.shape}, dtype={self.dtype}, {groups})"
