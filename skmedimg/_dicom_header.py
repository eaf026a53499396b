"""The data set of a DICOM file, read within the file's bounds, and values out of it.

Elements are read one at a time and leniently: what cannot be understood counts as
missing, and whoever needs it says so.
"""

import io
import logging
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DEFLATED = "1.2.840.10008.1.2.1.99"
# A deflated data set may grow a thousandfold; an image that is worth reading does not.
_LARGEST_FREE = 1 << 28
_LARGEST_RATIO = 250
# Inflated to read the header: all that comes before the pixels of almost any file.
_FIRST = 1 << 24
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UN", b"UT", b"UC"})


class _Silence:
    """The warning filters of the process, changed while any thread is reading.

    Threads that each saved and restored them would leave them changed for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._filters: Any = None

    def begin(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"(pydicom|PIL)(\.|$)")

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._filters.__exit__()


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom and Pillow silent: their warnings and log lines quote the header."""
    thread = threading.get_ident()

    def other_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("pydicom")
    logger.addFilter(other_thread)
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()
        logger.removeFilter(other_thread)


class _BoundedFile(io.BufferedReader):
    """A file of which no more is asked for than there is.

    Python allocates what `read` is asked for before it looks at the file, and a corrupt
    length asks for gigabytes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, all that is left by default."""
        left = max(0, self.size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def read_dataset(
    path: str | os.PathLike[str], *, pixels: bool = True
) -> tuple["Dataset", str]:
    """Read a DICOM file's data set.

    Parameters
    ----------
    path : path
        With or without the 128 bytes and "DICM" at the start.
    pixels : bool, default=True
        Whether to read the pixel data too.

    Returns
    -------
    dataset : pydicom.dataset.Dataset
        Elements are still raw: take them by `text`, `number` …
    syntax : str
        UID of the transfer syntax, "" where the file does not say it.

    Raises
    ------
    InvalidImageError
        If it is no DICOM file, or one that cannot be parsed; does not name the file.
    """
    if Path(path).is_dir():
        raise InvalidImageError("is a folder, not a file")
    with _BoundedFile(path) as file:
        start, syntax = _file_meta(file)
        file.seek(0)
        source: BinaryIO = cast(BinaryIO, file)
        if syntax == DEFLATED:
            source = io.BytesIO(_inflate(file, start, pixels))
        dataset = _parse(source, pixels)
    if not syntax:
        found = text(getattr(dataset, "file_meta", None), "TransferSyntaxUID")
        syntax = found or ""
    return dataset, syntax


def _parse(source: BinaryIO, pixels: bool) -> "Dataset":
    from pydicom import dcmread

    try:
        with quiet():
            return dcmread(source, force=True, stop_before_pixels=not pixels)
    # pydicom promises no set of errors for corrupt files: struct.error, ValueError,
    # EOFError, KeyError, AttributeError, RecursionError, NotImplementedError … were
    # seen. Its message may quote the header, so that only the kind is told.
    except Exception as error:
        raise InvalidImageError(
            f"is damaged: its DICOM elements cannot be parsed ({type(error).__name__})"
        ) from None


def _file_meta(file: _BoundedFile) -> tuple[int, str]:
    """Where the data set begins, and the transfer syntax ("" if it is not said)."""
    head = file.read(132)
    if not head:
        raise InvalidImageError("is empty")
    if head[128:] != b"DICM":
        # Without the preamble a data set begins with group 8, or 2, in either order.
        if head[:2] not in (b"\2\0", b"\0\2", b"\x08\0", b"\0\x08") or len(head) < 16:
            raise InvalidImageError("is not a DICOM file")
        file.seek(0)
    syntax, start = "", file.tell()
    while True:
        element = file.read(8)
        if len(element) < 8 or element[:2] != b"\2\0":
            return start, syntax
        if element[4:6] in _LONG_VRS:
            (length,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
        else:
            (length,) = struct.unpack("<H", element[6:])
        value = file.read(length)
        if element[2:4] == b"\x10\0":
            syntax = value.decode("ascii", "replace").strip(" \0")
        start = file.tell()


def _inflate(file: _BoundedFile, start: int, pixels: bool) -> bytes:
    """The data set; without its pixels it may end after the header."""
    file.seek(start)
    packed = file.read()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, _FIRST)
        if inflater.unconsumed_tail and not pixels:
            return data
        if inflater.unconsumed_tail:
            limit = max(_LARGEST_FREE, _LARGEST_RATIO * len(packed))
            promised = _promised(data)
            if promised <= limit:
                data += inflater.decompress(inflater.unconsumed_tail, promised + 1)
    except zlib.error:
        raise InvalidImageError("is damaged: it cannot be inflated") from None
    if inflater.unconsumed_tail:
        raise InvalidImageError(
            f"holds {len(packed)} deflated bytes that become more than {len(data)}, "
            f"for {promised} bytes of pixels: not an image, but what is made to fill "
            "the memory"
        )
    if not inflater.eof:
        raise InvalidImageError("is damaged: its deflated data end too early")
    return data


def _promised(start: bytes) -> int:
    """Bytes of pixels that the beginning of a data set speaks of."""
    header = _parse(io.BytesIO(start), False)
    keywords = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated")
    counts = [max(1, integer(header, keyword) or 1) for keyword in keywords]
    return -(-math.prod(counts) // 8)


def element_of(dataset: Any, keyword: str | int) -> "tuple[str, Any] | None":
    """VR and value of an element; None where it is missing or cannot be read."""
    try:
        if dataset is None or keyword not in dataset:
            return None
        element = dataset[keyword]
        return str(element.VR), element.value
    # As in `_parse`: elements are converted when they are asked for.
    except Exception:
        return None


def value_of(dataset: Any, keyword: str | int) -> Any:
    """Value of an element; None where it is missing, empty or cannot be read."""
    element = element_of(dataset, keyword)
    if element is None or (isinstance(element[1], str) and not element[1]):
        return None
    return element[1]


def private_value_of(dataset: Any, creator: str, group: int, offset: int) -> Any:
    """Value of the element at `offset` of the block that `creator` has reserved."""
    for block in range(0x10, 0x100):
        if text(dataset, group << 16 | block) == creator:
            return value_of(dataset, group << 16 | block << 8 | offset)
    return None


def _values(dataset: Any, keyword: str | int) -> list[Any]:
    value = value_of(dataset, keyword)
    if value is None:
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def text(dataset: Any, keyword: str | int) -> str | None:
    """First value as text, without white space around it."""
    values = texts(dataset, keyword)
    return values[0] if values else None


def texts(dataset: Any, keyword: str | int) -> list[str]:
    """All values as text; empty ones left out."""
    found = [str(value).strip(" \0\t\r\n") for value in _values(dataset, keyword)]
    return [value for value in found if value]


def code(dataset: Any, keyword: str) -> str | None:
    """A code string of DICOM; what is none may be anything, a name too."""
    value = (text(dataset, keyword) or "").upper()
    return value if re.fullmatch(r"[A-Z0-9_ ]{1,16}", value) else None


def number(dataset: Any, keyword: str) -> float | None:
    """First value as a finite number."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def numbers(dataset: Any, keyword: str, count: int | None = None) -> tuple[float, ...]:
    """All values as finite numbers; none where one is not, or there are not `count`."""
    try:
        found = tuple(float(value) for value in _values(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return ()
    if not all(map(math.isfinite, found)) or count not in (None, len(found)):
        return ()
    return found


def integer(dataset: Any, keyword: str) -> int | None:
    """First value as a whole number."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value == int(value) else None


def items(dataset: Any, keyword: str) -> list["Dataset"]:
    """Items of a sequence."""
    from pydicom.dataset import Dataset

    return [item for item in _values(dataset, keyword) if isinstance(item, Dataset)]


def item(dataset: Any, keyword: str) -> "Dataset | None":
    """First item of a sequence."""
    found = items(dataset, keyword)
    return found[0] if found else None


def group(dataset: Any, frame: int, keyword: str) -> "Dataset | None":
    """Item of a functional group: that of the frame, else the one all frames share.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of an enhanced multi-frame object; None comes back for others.
    frame : int
        Counted from 0.
    keyword : str
        "PixelMeasuresSequence", "PlanePositionSequence" …
    """
    own, shared = functional_groups(dataset, frame)
    found = item(own, keyword)
    return item(shared, keyword) if found is None else found


def differ_by_frame(dataset: Any) -> bool:
    """Whether frames say anything of their own; if not, what is true of one is of all.

    A hundred thousand frames of a pixel each are asked once then.
    """
    return bool(items(dataset, "PerFrameFunctionalGroupsSequence"))


def functional_groups(
    dataset: Any, frame: int
) -> tuple["Dataset | None", "Dataset | None"]:
    """Functional groups of a frame of its own, and those that all frames share."""
    per_frame = value_of(dataset, "PerFrameFunctionalGroupsSequence")
    has_own = hasattr(per_frame, "__len__") and frame < len(per_frame)
    own = per_frame[frame] if has_own else None
    return own, item(dataset, "SharedFunctionalGroupsSequence")
