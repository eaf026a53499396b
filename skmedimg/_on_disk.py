"""Arrays on disk that go to worker processes as the name of their file.

Pickled as they are, memory maps would send all their pixels, and h5py datasets nothing
but an error. Zarr arrays pickle as names by themselves.
"""

import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

_JOBLIBS = "joblib_memmapping_folder"


class OnDisk(Protocol):
    """What is sent in place of an array."""

    def open(self) -> Any:
        """The same array, for reading."""
        ...


@dataclass(frozen=True)
class MappedFile:
    """Where the values of a memory map lie.

    Attributes
    ----------
    file : str
        Absolute path.
    start, length : int
        First byte of the file that is needed, and how many.
    first : int
        Where in these bytes the first value lies: strides may be negative.
    dtype : numpy.dtype
        Of the values.
    shape, strides : tuple of int
        As of any array, strides in bytes.
    """

    file: str
    start: int
    length: int
    first: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> np.ndarray:
        """Map the file for reading.

        Raises
        ------
        FileNotFoundError
            If it is gone.
        """
        try:
            data = np.memmap(self.file, np.uint8, "r", self.start, (self.length,))
        except FileNotFoundError:
            raise _gone() from None
        return np.ndarray(self.shape, self.dtype, data, self.first, self.strides)


@dataclass(frozen=True)
class Hdf5Dataset:
    """A dataset of an HDF5 file.

    Attributes
    ----------
    file : str
        Absolute path.
    name : str
        Path of the dataset in the file.
    """

    file: str
    name: str

    def open(self) -> Any:
        """Open the file for reading; it stays open as long as the dataset is used.

        Raises
        ------
        FileNotFoundError
            If it is gone.
        """
        import h5py

        try:
            return h5py.File(self.file, "r")[self.name]
        except FileNotFoundError:
            raise _gone() from None


def _gone() -> FileNotFoundError:
    return FileNotFoundError(
        "the file that these images were read from is gone: make the ImageSequence "
        "again."
    )


def on_disk(source: Any) -> OnDisk | None:
    """Name of the file that an array lies in.

    Parameters
    ----------
    source : array-like
        What an `ImageSequence` was made from.

    Returns
    -------
    OnDisk or None
        None where it lies in none, or pickles by itself.

    Raises
    ------
    TypeError
        If it lies in a file that another process cannot read at the same time.
    """
    if isinstance(source, np.ndarray):
        return _mapped_file(source)
    # By the name, so that who has no h5py need not have it.
    if type(source).__module__.partition(".")[0] == "h5py":
        return _hdf5_dataset(source)
    return None


def _mapped_file(array: np.ndarray) -> MappedFile | None:
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    # Changes of a copy-on-write map are in no file.
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c":
        return None
    if array.dtype.hasobject or array.size == 0:
        return None
    # joblib hands large arrays to its workers in such files, which soon are gone.
    if _JOBLIBS in str(root.filename):
        return None
    if root.mode != "r":
        root.flush()
    address = array.__array_interface__["data"][0]
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    low = address + sum(min(0, r) for r in reach)
    high = address + sum(max(0, r) for r in reach) + array.itemsize
    return MappedFile(
        file=str(root.filename),
        start=root.offset + low - root.__array_interface__["data"][0],
        length=high - low,
        first=address - low,
        dtype=array.dtype,
        shape=array.shape,
        strides=array.strides,
    )


def _hdf5_dataset(dataset: Any) -> Hdf5Dataset:
    file, cause = dataset.file, None
    if file.mode != "r":
        cause = f"its file is open for writing (mode {file.mode!r})"
    elif dataset.name is None:
        cause = "it has no name in its file"
    elif not os.path.isfile(file.filename):
        cause = "its file is in memory only"
    if cause is not None:
        raise TypeError(
            f"this h5py dataset cannot be sent to another process: {cause}. Close the "
            "file and open it by h5py.File(name, 'r'), or use n_jobs=1."
        )
    return Hdf5Dataset(os.path.abspath(file.filename), dataset.name)
