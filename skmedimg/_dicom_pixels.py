"""Pixel data of a DICOM file as arrays of stored values, or of RGB colours."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg import _dicom_codecs as codecs
from skmedimg._dicom_header import DEFLATED, element_of, integer, text, value_of
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, DEFLATED)
GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Bytes that pixel data may become whatever their size, and how many times their size
# beyond that: JPEG 2000 makes a picture of any size out of a hundred bytes.
_LARGEST_FREE = 1 << 25
_LARGEST_RATIO = 1000
# Frames so many and so small are no images: a file of a megabyte would take minutes.
_MANY_FRAMES, _FEW_PIXELS = 10_000, 256


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of a file are stored; attributes are those of DICOM.

    Attributes
    ----------
    rows, columns, frames, samples : int
        Size.
    photometric : str
        Photometric interpretation.
    allocated, stored, high : int
        Bits of a container, bits of a value, and the highest of these bits.
    signed : bool
        Whether values are signed.
    planar : bool
        Whether all red samples come first, then all green ones.
    syntax : str
        UID of the transfer syntax.
    big_endian : bool
        Order of bytes, where not compressed.
    words : bool
        Whether 8-bit samples are written as 16-bit words, which turns them about in
        big-endian files.
    keyword : str
        The element that holds the pixels.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    syntax: str
    big_endian: bool
    words: bool
    keyword: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a frame as it is stored, samples last."""
        size = (self.rows, self.columns)
        return size if self.samples == 1 else (*size, self.samples)

    @property
    def compressed(self) -> bool:
        """Whether frames are encapsulated codestreams."""
        return self.syntax in codecs.COMPRESSED

    @property
    def is_float(self) -> bool:
        """Whether values are stored as floating-point numbers."""
        return self.keyword != "PixelData"

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value that can be stored."""
        if self.signed:
            return -(1 << self.stored - 1), (1 << self.stored - 1) - 1
        return 0, (1 << self.stored) - 1

    @property
    def frame_bits(self) -> int:
        """Size of a frame that is not compressed."""
        pixels = self.rows * self.columns
        if self.photometric == "YBR_FULL_422" and not self.compressed:
            return pixels * 2 * self.allocated
        return pixels * self.samples * self.allocated

    @classmethod
    def from_dataset(cls, dataset: "Dataset", syntax: str) -> "PixelFormat":
        """Read and check the elements that describe the pixels.

        Raises
        ------
        InvalidImageError
            If there is no image, or its description makes no sense.
        """
        keyword = next((k for k in _KEYWORDS if k in dataset), "")
        if not keyword:
            raise InvalidImageError(_no_image(dataset))
        element = element_of(dataset, keyword)
        is_float = keyword != "PixelData"
        fmt = cls(
            rows=_positive(dataset, "Rows", 65535),
            columns=_positive(dataset, "Columns", 65535),
            frames=_frames(dataset),
            samples=_positive(dataset, "SamplesPerPixel", 4),
            photometric=(text(dataset, "PhotometricInterpretation") or "").upper(),
            allocated=_positive(dataset, "BitsAllocated", 64),
            stored=64 if is_float else _positive(dataset, "BitsStored", 64),
            high=_high_bit(dataset),
            signed=is_float or integer(dataset, "PixelRepresentation") == 1,
            planar=integer(dataset, "PlanarConfiguration") == 1,
            syntax=syntax,
            big_endian=_is_big_endian(dataset, syntax),
            words=element is not None and element[0] == "OW",
            keyword=keyword,
        )
        fmt._check()
        return fmt

    def _check(self) -> None:
        if self.syntax and self.syntax not in _NATIVE and not self.compressed:
            raise InvalidImageError(
                f"has the transfer syntax {_uid_name(self.syntax)}, which cannot be "
                "decoded"
            )
        if self.is_float:
            wanted = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}[self.keyword]
            if self.allocated != wanted or self.samples != 1 or self.compressed:
                raise InvalidImageError("describes its floating-point pixels wrongly")
        elif self.allocated not in (1, 8, 16, 32) or self.stored > self.allocated:
            raise InvalidImageError(
                f"says that values of {self.stored} bits are stored in {self.allocated}"
                ": containers of 1, 8, 16 or 32 bits can be read"
            )
        palette = self.photometric == "PALETTE COLOR"
        if self.samples == 1:
            fits = self.photometric in GREY or palette
        else:
            fits = self.samples == 3 and self.photometric in _COLOUR
            fits = fits and self.allocated in (8, 16, 32)
        if palette and (self.allocated > 16 or self.signed):
            fits = False
        if not fits:
            known = (*GREY, *_COLOUR, "PALETTE COLOR")
            name = self.photometric or "missing"
            name = name if name in (*known, "missing") else "other"
            raise InvalidImageError(
                f"has {self.samples} samples a pixel with the photometric "
                f"interpretation {name}, which cannot be read together"
            )
        if self.compressed and self.allocated == 1:
            raise InvalidImageError("has compressed pixels of one bit")


def _no_image(dataset: "Dataset") -> str:
    if not len(dataset):
        return "is not a DICOM file, or holds nothing"
    meta = getattr(dataset, "file_meta", None)
    kind = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    return f"holds no image ({_uid_name(kind or '')})"


def _uid_name(uid: str) -> str:
    """Name of a UID of the standard; others are not repeated, they may tell of whom."""
    from pydicom.uid import UID_dictionary

    return UID_dictionary[uid][0] if uid in UID_dictionary else "unknown"


def _positive(dataset: "Dataset", keyword: str, most: int) -> int:
    value = integer(dataset, keyword)
    if value is None or not 0 < value <= most:
        seen = "is missing or no number" if value is None else f"is {value}"
        raise InvalidImageError(f"is damaged: its {keyword} {seen}")
    return value


def _frames(dataset: "Dataset") -> int:
    if "NumberOfFrames" not in dataset:
        return 1
    # Some writers leave it empty, or put 0, where there is one image.
    element = element_of(dataset, "NumberOfFrames")
    if element is not None and not element[1]:
        return 1
    return _positive(dataset, "NumberOfFrames", 1 << 31)


def _high_bit(dataset: "Dataset") -> int:
    allocated = integer(dataset, "BitsAllocated") or 0
    stored = integer(dataset, "BitsStored") or allocated
    high = integer(dataset, "HighBit")
    # A high bit that cannot be is a slip of the writer: values then lie lowest.
    return high if high is not None and stored <= high + 1 <= allocated else stored - 1


def _is_big_endian(dataset: "Dataset", syntax: str) -> bool:
    if syntax:
        return syntax == _BIG_ENDIAN
    # No transfer syntax: as pydicom found the elements to be.
    return getattr(dataset, "original_encoding", (None, True))[1] is False


def stored_frames(
    dataset: "Dataset", fmt: PixelFormat, wanted: Sequence[int]
) -> Iterator[np.ndarray]:
    """Some frames of a file, one at a time.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        With its pixel data.
    fmt : PixelFormat
        Of the same file.
    wanted : sequence of int
        Frames to decode, counted from 0.

    Yields
    ------
    ndarray of shape (rows, columns) or (rows, columns, 3)
        Stored values with their sign, bits above the high bit masked; or RGB.

    Raises
    ------
    InvalidImageError
        If there is less than the header says, or a frame is damaged.
    """
    data = value_of(dataset, fmt.keyword)
    if not isinstance(data, bytes):
        raise InvalidImageError("holds no pixel data")
    palette = _palette(dataset, fmt) if fmt.photometric == "PALETTE COLOR" else None
    if fmt.compressed:
        decoded = _compressed(data, fmt, wanted)
    else:
        decoded = _native(data, fmt, wanted)
    for pixels, photometric in decoded:
        if palette is not None:
            yield palette(pixels)
        elif photometric.startswith("YBR"):
            yield _to_rgb(pixels, fmt.stored)
        else:
            yield pixels


def _refuse_countless(fmt: PixelFormat, wanted: Sequence[int]) -> None:
    if len(wanted) > _MANY_FRAMES and fmt.rows * fmt.columns < _FEW_PIXELS:
        raise InvalidImageError(
            f"has {fmt.frames} frames of {fmt.rows} × {fmt.columns} pixels: no images "
            "are so many and so small; pass frame=k to read one of them"
        )


def _native(
    data: bytes, fmt: PixelFormat, wanted: Sequence[int]
) -> Iterator[tuple[np.ndarray, str]]:
    if data[:4] == b"\xfe\xff\x00\xe0" and not fmt.syntax:
        raise InvalidImageError("does not say how its pixel data are compressed")
    expected = math.ceil(fmt.frame_bits * fmt.frames / 8)
    if len(data) < expected:
        raise InvalidImageError(
            f"is cut off: {len(data)} bytes of pixel data, its header speaks of "
            f"{expected} ({fmt.frames} frames of {fmt.rows} × {fmt.columns} pixels)"
        )
    _refuse_countless(fmt, wanted)
    if fmt.photometric in ("YBR_RCT", "YBR_ICT"):
        raise InvalidImageError(
            f"has uncompressed pixels with the photometric interpretation "
            f"{fmt.photometric}, which exists in JPEG 2000 only"
        )
    if fmt.photometric == "YBR_FULL_422" and fmt.columns % 2:
        raise InvalidImageError(
            "shares colours between two pixels in rows of odd width"
        )
    if fmt.big_endian and fmt.words and fmt.allocated <= 8:
        swapped = np.frombuffer(data, "<u2", len(data) // 2).byteswap().tobytes()
        data = swapped + data[len(swapped) :]
    for i in wanted:
        yield _native_frame(data, fmt, i), fmt.photometric


def _native_frame(data: bytes, fmt: PixelFormat, i: int) -> np.ndarray:
    count = fmt.frame_bits // fmt.allocated
    if fmt.allocated == 1:
        # Frames of bits need not begin at a byte.
        first = i * count
        part = np.frombuffer(data[first // 8 : (first + count + 7) // 8], np.uint8)
        bits = np.unpackbits(part, bitorder="little")[first % 8 :][:count]
        return bits.reshape(fmt.shape)
    n_bytes = fmt.allocated // 8
    kind = "f" if fmt.is_float else "u"
    dtype = np.dtype(f"{'>' if fmt.big_endian else '<'}{kind}{n_bytes}")
    flat = np.frombuffer(data, dtype, count, i * count * n_bytes)
    pixels = flat.astype(dtype.newbyteorder("="), copy=False)
    if fmt.is_float:
        return pixels.reshape(fmt.shape)
    return _values(_interleave(pixels, fmt), fmt, fmt.stored, fmt.high)


def _interleave(flat: np.ndarray, fmt: PixelFormat) -> np.ndarray:
    if fmt.photometric == "YBR_FULL_422":
        # Two brightnesses, then the colour that both pixels share.
        pairs = flat.reshape(-1, 4)
        colours = np.repeat(pairs[:, 2:], 2, axis=0)
        return np.column_stack([pairs[:, :2].ravel(), colours]).reshape(fmt.shape)
    if fmt.planar and fmt.samples > 1:
        planes = flat.reshape(fmt.samples, fmt.rows, fmt.columns)
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return flat.reshape(fmt.shape)


def _values(pixels: np.ndarray, fmt: PixelFormat, stored: int, high: int) -> np.ndarray:
    """Take the stored bits out of unsigned containers; the sign is their highest."""
    bits = 8 * pixels.dtype.itemsize
    left, right = bits - 1 - high, bits - stored
    kind = "i" if fmt.signed else "u"
    if left:
        pixels = pixels << left
    pixels = pixels.view(f"{kind}{pixels.dtype.itemsize}")
    return pixels >> right if right else pixels


def _compressed(
    data: bytes, fmt: PixelFormat, wanted: Sequence[int]
) -> Iterator[tuple[np.ndarray, str]]:
    size = math.prod(fmt.shape) * fmt.allocated // 8
    total = size * len(wanted)
    if total > max(_LARGEST_FREE, _LARGEST_RATIO * len(data)):
        raise InvalidImageError(
            f"says that {len(data)} bytes of pixel data become {total}: not an image, "
            "but what is made to fill the memory"
        )
    frames = codecs.frames_of(data, fmt.frames)
    _refuse_countless(fmt, wanted)
    for i in wanted:
        # Frames that hold far more than they decode to are no frames.
        if len(frames[i]) > 4 * size + (1 << 16):
            raise InvalidImageError(
                f"holds {len(frames[i])} bytes for a frame of {size} bytes"
            )
        pixels, stream, photometric = codecs.decode_frame(bytes(frames[i]), fmt)
        if fmt.samples == 1:
            pixels = _decoded_values(pixels, fmt, stream)
        yield pixels, photometric


def _decoded_values(
    pixels: np.ndarray, fmt: PixelFormat, stream: codecs.Codestream
) -> np.ndarray:
    """Signs and unused bits of decoded grey values, by what the frame says."""
    target = np.dtype(f"{'i' if fmt.signed else 'u'}{max(8, fmt.allocated) // 8}")
    bits = 8 * pixels.dtype.itemsize
    stored, high = min(fmt.stored, bits), min(fmt.stored, bits) - 1
    if stream.process in codecs.LOSSY:
        # Values that overshoot the stored bits must not be cut to what is left of them.
        if not fmt.signed:
            return pixels
        stored, high = stream.precision, stream.precision - 1
    elif stream.precision > fmt.stored:
        high = min(fmt.high, stream.precision - 1)
    elif stream.precision < fmt.stored and stream.process in (0, 0xF7):
        # JPEG-LS and JPEG 2000 of fewer bits: the sign moved down with them.
        stored, high = stream.precision, stream.precision - 1
    unsigned = pixels.view(f"<u{pixels.dtype.itemsize}")
    return _values(unsigned, fmt, stored, high).astype(target, copy=False)


def _to_rgb(pixels: np.ndarray, stored: int) -> np.ndarray:
    """YBR_FULL to RGB, PS3.3 C.7.6.3.1.2."""
    top = (1 << stored) - 1
    middle = 1 << stored - 1
    y, blue, red = np.moveaxis(pixels.astype(np.float64), -1, 0)
    blue, red = blue - middle, red - middle
    rgb = np.stack(
        [y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], -1
    )
    return np.clip(np.rint(rgb), 0, top).astype(pixels.dtype)


@dataclass(frozen=True)
class Table:
    """A look-up table.

    Attributes
    ----------
    first : int
        Value that the first entry is for; smaller ones get it too.
    data : ndarray of shape (n,)
        Entries, unsigned.
    bits : int
        Bits of an entry.
    """

    first: int
    data: np.ndarray
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Entries for an array of values."""
        index = np.asarray(values).astype(np.int64, copy=False) - self.first
        return self.data[np.clip(index, 0, len(self.data) - 1)]


def read_table(
    dataset: Any, name: str, big_endian: bool, signed: bool = False
) -> Table | None:
    """Read a look-up table of the elements `name` + "Descriptor" and `name` + "Data".

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        That holds them, also as segments where it is a palette.
    name : str
        "LUT", "RedPaletteColorLookupTable" …
    big_endian : bool
        Order of bytes of the file.
    signed : bool, default=False
        Whether the values that are looked up are.

    Returns
    -------
    Table or None
        None where there is none.

    Raises
    ------
    InvalidImageError
        If it has not the length it says.
    """
    descriptor = value_of(dataset, f"{name}Descriptor")
    data = value_of(dataset, f"{name}Data")
    segments = None
    if data is None:
        segments = value_of(dataset, f"Segmented{name}Data")
    if descriptor is None or (data is None and segments is None):
        return None
    try:
        count, first, bits = (int(value) & 0xFFFF for value in descriptor)
        count = count or 1 << 16
        if segments is not None:
            words = _words(segments, 0, bits, big_endian)
            entries = _expand_segments(words.tolist(), count)
        else:
            entries = _words(data, count, bits, big_endian)[:count]
    except (TypeError, ValueError, IndexError, RecursionError):
        raise InvalidImageError(f"is damaged: its {name}Data cannot be read") from None
    if len(entries) != count:
        raise InvalidImageError(
            f"is damaged: {len(entries)} of {count} entries in its {name}Data"
        )
    if signed and first > 0x7FFF:
        first -= 1 << 16
    return Table(first, entries, bits)


def _words(data: Any, count: int, bits: int, big_endian: bool) -> np.ndarray:
    if not isinstance(data, bytes):
        values = np.atleast_1d(np.asarray(data, dtype=np.int64))
        return (values & 0xFFFF).astype(np.uint16)
    if bits <= 8 and count <= len(data) < 2 * count:
        packed = np.frombuffer(data, np.uint8)
        if big_endian:  # two entries in a word
            packed = packed[: len(packed) // 2 * 2].view("<u2").byteswap().view("u1")
        return packed.astype(np.uint16)
    order = ">" if big_endian else "<"
    return np.frombuffer(data, f"{order}u2", len(data) // 2).astype(np.uint16)


def _expand_segments(words: list[int], count: int) -> np.ndarray:
    """Palette of segments, PS3.3 C.7.9.2: listed, linear, or a repetition of others."""
    out: list[int] = []
    at, starts = 0, list[int]()

    def one(at: int) -> int:
        kind, length = words[at], words[at + 1]
        if kind == 0:
            out.extend(words[at + 2 : at + 2 + length])
            return at + 2 + length
        if kind != 1:
            raise ValueError("a segment of an unknown kind")
        begin, end = out[-1], words[at + 2]
        steps = np.arange(1, length + 1) / length
        out.extend(np.rint(begin + (end - begin) * steps).astype(int).tolist())
        return at + 3

    while at < len(words) and len(out) < count:
        if words[at] == 2:
            back = words[at + 2] | words[at + 3] << 16
            # In bytes; some count words.
            first = starts.index(back // 2 if back // 2 in starts else back)
            for start in starts[first : first + words[at + 1]]:
                if len(out) < count:  # or a few bytes would become gigabytes
                    one(start)
            at += 4
        else:
            starts.append(at)
            at = one(at)
    return np.array(out[:count], dtype=np.uint16)


def _palette(
    dataset: "Dataset", fmt: PixelFormat
) -> Callable[[np.ndarray], np.ndarray]:
    """Function from indices to RGB of 8 bits."""
    tables = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        table = read_table(dataset, name, fmt.big_endian)
        if table is None:
            raise InvalidImageError(f"has a palette without {name}Data")
        tables.append(table)
    # By the values, not by the bits they are said to have: tables of 16 bits that hold
    # 8 exist.
    shift = 8 if max(int(table.data.max()) for table in tables) > 255 else 0

    def look_up(pixels: np.ndarray) -> np.ndarray:
        colours = np.stack([table(pixels) for table in tables], axis=-1)
        return (colours >> shift).astype(np.uint8)

    return look_up
