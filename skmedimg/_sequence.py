"""The lazy array of many images, from memory or from files."""

import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from copy import copy as shallow_copy
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._per_image import one_per_image
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    import pandas as pd

    from skmedimg._image_files import Item, Record

_NUMBER = int | float | np.integer | np.floating
_LOST_GROUPS = (
    "this step turns an ImageSequence with groups into a plain array, which has none: "
    "from here on, images of one patient may fall on both sides of an internal split. "
    "Use a transformer of skmedimg.preprocessing, which keeps groups; where a plain "
    "array is meant, let the step take X.to_numpy()."
)


class ImageSequence:
    """A lazy array of n images that carries the groups (patients) they belong to.

    scikit-learn gives `groups` to the splitter only, unless metadata routing is on. A
    sequence takes them along into every fold, so that the estimator's internal split
    keeps patients apart too. Slices, index arrays and masks give another sequence that
    shares the pixels; an integer gives an image.

    Made from files, it decodes each of them once when it is made, to learn what they
    have in common. With `cache`, that is the only time: pixels are then read from one
    file on disk, which all folds and worker processes share. Without, files are decoded
    again whenever they are needed.

    Parameters
    ----------
    source : sequence of paths, or array-like with shape and dtype
        Files, read as `reader` does. Or an ndarray, memmap, h5py dataset or zarr array,
        whose first axis counts images; nothing of it is read until pixels are asked
        for, and the parameters below `groups` do not apply.
    groups : array-like of shape (n,) or "patient", default=None
        Group of each image; "patient" takes the pseudonym of the patient from the
        header of each file (DICOM).
    reader : callable, default=None
        Gets a path and gives an array of shape (H, W), (H, W, C), (D, H, W) or
        (D, H, W, C), or the array and an `ImageMeta`. None is `read_image`;
        `read_dicom_series` makes a volume of each folder in `source`.
    image_size : int or tuple of int, default=None
        Pixels along each spatial axis, or along all, that images are resized to,
        antialiased. Needed where they differ in size.
    spacing : float or tuple of float, default=None
        Distance of neighbouring pixels along each spatial axis, or along all, in mm,
        that images are resampled to; they are then cropped or padded about their centre
        to `image_size`, with −1024 where values are in HU, else with the lowest value.
    window : tuple of float or str, default=None
        Window (centre, width) or a name of `list_windows`; values become 0 to 1.
    channels : {1, 3}, default=None
        1 makes colour grey by its luma, 3 repeats grey. None is 3 if any image is in
        colour, else 1, without an axis of its own.
    interpolation : {"linear", "nearest"}, default="linear"
        "nearest" keeps the values of masks.
    cache : True or path, default=None
        Keep decoded pixels in the user's cache folder, or in the folder given, readable
        by the user only. What is there is found again by the content of the files and
        the parameters above; `clear_cache` removes it. None keeps nothing.
    on_error : {"raise", "skip"}, default="raise"
        "skip" leaves out files that cannot be read, and lists them in `skipped_`.
    n_jobs : int, default=None
        Worker processes that decode, as everywhere in scikit-learn.
    root : path, default=None
        Folder that messages and tables name files from; None is the innermost folder
        that holds all of them.

    Attributes
    ----------
    shape : tuple of int
        (n, …), with channels last where it was made from files.
    dtype : numpy.dtype
        Of the pixels.
    size, nbytes : int
        Values, and bytes, that all images have together.
    groups : ndarray of shape (n,) or None
        Group of each image.
    kept_ : ndarray of shape (n,)
        Where in `source` each image comes from: ``y[X.kept_]`` are its labels.
    skipped_ : pandas.DataFrame
        `path` and `reason` of every file that was left out.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; names it and the cause.
    ValueError
        If images differ in size and `image_size` is None, with two of them; if there is
        not one group an image.
    TypeError
        If `source` is neither files nor an array of images.

    Warns
    -----
    UserWarning
        If files hold values on different scales, such as CT in HU beside MR; with the
        number of each.
    UserWarning
        If a step of scikit-learn turns it into a plain array and it has groups, which
        are lost; `to_numpy` says that this is meant.

    Notes
    -----
    Sent to worker processes, or pickled, a memory map or an h5py dataset goes as the
    name of its file and is opened there for reading.

    See Also
    --------
    skmedimg.datasets.load_image_folder : A folder for each class.
    read_image : How files are read.

    Examples
    --------
    >>> from glob import glob
    >>> from skmedimg.io import ImageSequence
    >>> paths = sorted(glob("xrays/*.png"))
    >>> X = ImageSequence(paths, image_size=(128, 128), cache=True)  # doctest: +SKIP
    """

    groups: np.ndarray | None

    def __init__(
        self,
        source: Any,
        groups: Any = None,
        *,
        reader: Callable[..., Any] | None = None,
        image_size: int | Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        window: tuple[float, float] | str | None = None,
        channels: int | None = None,
        interpolation: str = "linear",
        cache: bool | str | os.PathLike[str] | None = None,
        on_error: str = "raise",
        n_jobs: int | None = None,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        options = (reader, image_size, spacing, window, channels, cache, root)
        items = _items(source)
        if items is None:
            _check_array(source, any(option is not None for option in options))
            self._source = source
            self._skipped: list[tuple[str, str]] = []
            self._channels: int | None = None
            self.kept_ = np.arange(int(source.shape[0]))
            self.groups = _check_groups(groups, len(self.kept_))
        else:
            from skmedimg._image_files import Decoder

            _check_options(groups, channels, interpolation, on_error)
            decoder = Decoder(
                reader=reader,
                image_size=axis_numbers("image_size", image_size, int),
                spacing=axis_numbers("spacing", spacing, float),
                window=window,
                channels=channels,
                interpolation=interpolation,
                patients=isinstance(groups, str),
                root=Path(root) if root is not None else _common_folder(items),
            )
            self._open(items, decoder, groups, cache, on_error == "skip", n_jobs)
        self._index = np.arange(len(self.kept_))
        self._n_made_from = len(self.kept_) + len(self._skipped)
        self._lost = np.setdiff1d(np.arange(self._n_made_from), self.kept_)

    def _open(
        self,
        items: "list[Item]",
        decoder: Any,
        groups: Any,
        cache: Any,
        skip: bool,
        n_jobs: int | None,
    ) -> None:
        """Decode or find the files, and keep what belongs to those that can be read."""
        from skmedimg._image_files import Form, ImageFiles, survey, warn_of_scales

        if not decoder.patients:
            groups = _check_groups(groups, len(items))
        names = [decoder.name(item) for item in items]
        source: Any = None
        if cache is None or cache is False:
            records = survey(items, decoder, n_jobs)
        else:
            from skmedimg._pixel_cache import cache_folder, cached

            folder = cache_folder(cache)
            records, source = cached(folder, items, decoder, skip=skip, n_jobs=n_jobs)
        kept, self._skipped = _sort_out(names, records, skip)
        if decoder.interpolation != "nearest":  # masks have no scale
            warn_of_scales([records[i] for i in kept], [names[i] for i in kept])
        if source is None:
            form = Form.of([records[i] for i in kept], [names[i] for i in kept])
            source = ImageFiles([items[i] for i in kept], decoder, form)
        if decoder.patients:
            groups = _patients(names, records, kept)
        elif groups is not None:
            groups = groups[kept]
        self._source, self.kept_, self.groups = source, kept, groups
        self._channels = max(records[i].shape[0] for i in kept)

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
        if isinstance(X, cls):
            again = shallow_copy(X)
            if groups is not None:
                again.groups = _check_groups(groups, len(X))
            return again
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

    @property
    def size(self) -> int:
        """Number of values of all images."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that `to_numpy` takes."""
        return self.size * self.dtype.itemsize

    @property
    def skipped_(self) -> "pd.DataFrame":
        """Files that were left out, and why."""
        import pandas as pd

        return pd.DataFrame(self._skipped, columns=["path", "reason"])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            # scikit-learn indexes everything that has a shape as X[(rows, Ellipsis)].
            if len(key) != 2 or key[1] is not Ellipsis:
                raise IndexError(
                    "an ImageSequence is indexed by images only: X[rows]; take "
                    "X.to_numpy() to index pixels."
                )
            key = key[0]
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(
                    f"index {key} is out of bounds: there are {len(self)} images."
                )
            return self._read(self._index[key : key + 1 or None])[0]
        part = shallow_copy(self)
        key = key if isinstance(key, slice) else np.asarray(key)
        if isinstance(key, np.ndarray) and key.size == 0:
            key = key.astype(int)
        if np.ndim(key) > 1:
            raise IndexError(
                f"an ImageSequence is indexed by images only: X[rows] with rows of one "
                f"axis, not of shape {np.shape(key)}."
            )
        part._index = self._index[key]
        part.kept_ = self.kept_[key]
        part.groups = None if self.groups is None else self.groups[key]
        return part

    def to_numpy(self) -> np.ndarray:
        """All pixels, read into memory; groups stay behind.

        Returns
        -------
        ndarray of shape (n, …)
            A copy.

        Examples
        --------
        >>> import numpy as np
        >>> from skmedimg.io import ImageSequence
        >>> X = ImageSequence.from_array(np.zeros((4, 8, 8)), groups=[1, 1, 2, 2])
        >>> X[X.groups == 1].to_numpy().shape
        (2, 8, 8)
        """
        return self._read(self._index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the pixels of an ImageSequence are always read as a copy")
        if self.groups is not None and _is_step_of_sklearn():
            warnings.warn(_LOST_GROUPS, UserWarning, stacklevel=2)
        return self.to_numpy().astype(dtype or self.dtype, copy=False)

    def _derived(self, source: Any) -> "ImageSequence":
        """The same images with other pixels, one for each: all else is kept."""
        other = shallow_copy(self)
        other._source, other._index = source, np.arange(len(self))
        return other

    def __copy__(self) -> "ImageSequence":
        # Not by its state, which would open files once more.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        from skmedimg._on_disk import on_disk

        file = on_disk(self._source)
        if file is None:
            return self.__dict__
        return self.__dict__ | {"_source": None, "_file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        file = state.pop("_file", None)
        self.__dict__.update(state)
        if file is not None:
            self._source = file.open()

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
        skipped = f", {len(self._skipped)} skipped" if self._skipped else ""
        return (
            f"ImageSequence(shape={self.shape}, dtype={self.dtype}, {groups}{skipped})"
        )


def _is_step_of_sklearn() -> bool:
    """Whether scikit-learn asks for the pixels, or what it calls in its turn does.

    Who calls ``numpy.asarray`` with his own hands sees the array he gets. The package
    itself takes the groups apart before.
    """
    frame: FrameType | None = sys._getframe(2)
    package = _package(frame)
    if package == "skmedimg":
        return False
    while frame is not None and package not in ("sklearn", "imblearn"):
        frame = frame.f_back
        package = _package(frame)
    return frame is not None


def _package(frame: FrameType | None) -> str:
    name = "" if frame is None else frame.f_globals.get("__name__") or ""
    return name.partition(".")[0]


def _items(source: Any) -> "list[Item] | None":
    """Files in the order given, None if `source` holds no paths."""
    if isinstance(source, str | os.PathLike):
        raise TypeError(
            f"ImageSequence needs a list of files; got one path, {Path(source).name}: "
            "skmedimg.datasets.load_image_folder and load_dicom read folders."
        )
    # An array-like's shape, not its first entries: those would be read from disk.
    if len(getattr(source, "shape", (0,))) != 1 or not hasattr(source, "__len__"):
        return None
    entries = list(source)
    if not entries:
        raise ValueError("source is empty: it holds no file.")
    if all(isinstance(entry, str | os.PathLike) for entry in entries):
        return [Path(entry) for entry in entries]
    paths = (str, os.PathLike)
    if all(
        isinstance(entry, tuple) and entry and all(isinstance(p, paths) for p in entry)
        for entry in entries
    ):
        return [tuple(Path(path) for path in entry) for entry in entries]
    return None


def _check_array(source: Any, options: bool) -> None:
    if len(getattr(source, "shape", ())) < 2 or not hasattr(source, "dtype"):
        raise TypeError(
            "ImageSequence needs a list of files, or an array of images with a shape "
            f"and a dtype; got {type(source).__name__}."
        )
    if options:
        raise TypeError(
            "reader, image_size, spacing, window, channels, cache and root are for "
            "files; an array of images is taken as it is."
        )


def _check_options(
    groups: Any, channels: Any, interpolation: str, on_error: str
) -> None:
    if isinstance(groups, str) and groups != "patient":
        raise ValueError(f"groups={groups!r}: pass 'patient' or a group an image.")
    for name, value, allowed in (
        ("channels", channels, (None, 1, 3)),
        ("interpolation", interpolation, ("linear", "nearest")),
        ("on_error", on_error, ("raise", "skip")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: choose from {allowed}.")


def axis_numbers(name: str, value: Any, kind: type) -> Any:
    """A positive number for all spatial axes, a tuple of two or three, or None."""
    if value is None:
        return None
    entries = value if np.ndim(value) == 1 else (value,)
    if (np.ndim(value) == 1 and len(value) not in (2, 3)) or not all(
        isinstance(v, _NUMBER) and 0 < v < np.inf and kind(v) == v for v in entries
    ):
        what = "whole number" if kind is int else "number"
        raise ValueError(
            f"{name}={value!r}: pass a positive {what} for all spatial axes, or one "
            "for each, two for images and three for volumes."
        )
    numbers = tuple(kind(v) for v in entries)
    return numbers if np.ndim(value) == 1 else numbers[0]


def _check_groups(groups: Any, n: int) -> np.ndarray | None:
    return None if groups is None else one_per_image("groups", groups, "group", n)


def _common_folder(items: "list[Item]") -> Path | None:
    firsts = [item[0] if isinstance(item, tuple) else item for item in items]
    try:
        return Path(os.path.commonpath([first.parent for first in firsts]))
    except ValueError:  # several drives, or absolute and relative paths
        return None


def _sort_out(
    names: list[str], records: "list[Record]", skip: bool
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Which files can be read, and why the others cannot."""
    failed = [
        (name, record.failure)
        for name, record in zip(names, records, strict=True)
        if record.failure is not None
    ]
    if failed and (not skip or len(failed) == len(records)):
        name, reason = failed[0]
        more = ""
        if len(failed) > 1:
            more = f" {len(failed)} of {len(records)} files cannot be read."
        hint = "" if skip else " on_error='skip' leaves such files out, with a table."
        raise InvalidImageError(f"{name}: {reason.rstrip('.')}.{more}{hint}")
    kept = [i for i, record in enumerate(records) if record.failure is None]
    return np.array(kept, dtype=np.intp), failed


def _patients(
    names: list[str], records: "list[Record]", kept: np.ndarray
) -> np.ndarray:
    unknown = [names[i] for i in kept if not records[i].patient]
    if unknown:
        raise ValueError(
            f"groups='patient', but {len(unknown)} of {len(kept)} files do not name a "
            f"patient ({unknown[0]}): pass the groups themselves."
        )
    return np.array([records[i].patient for i in kept])
