"""PNG, JPEG, TIFF, PNM and NumPy files as arrays, with every bit they store.

Pillow decodes; what it would drop (the lower half of 16-bit colour) or rescale (PGM) is
read here. The format is told from the first bytes of a file, not from its name.
"""

import itertools
import math
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from skmedimg._image_meta import ImageMeta
from skmedimg._limits import DEFLATE_RATIO, check_claim, fill, has_too_many_scans
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION_TAG = 0x0112
# A block of 64 pixels takes at least a bit, whatever the kind of JPEG.
_JPEG_RATIO = 64 * 8 * 3
# Best ratios by the number of the TIFF compression; the others know no bound.
_TIFF_RATIOS = {1: 1, 5: 2600, 7: _JPEG_RATIO, 8: DEFLATE_RATIO, 32773: 64}
_NPY_HEADER = 10_000
# A page of a few pixels takes a millisecond.
_MOST_PAGES = 10_000
_READ_KINDS = "buif"
_COLOURED = ("PNG", "JPEG", "TIFF", "PNM")


def read_raster(path: str | os.PathLike[str]) -> tuple[np.ndarray, ImageMeta]:
    """Read a PNG, JPEG, TIFF, PBM, PGM, PPM, NPY or NPZ file.

    Parameters
    ----------
    path : path
        The format is recognised by the content.

    Returns
    -------
    array : ndarray of shape (H, W), (H, W, 3) or (D, H, W)
        Values as stored: 8, 16 or 32 bits, integer or float. Single bits become 0 and
        255, palette colour RGB; EXIF and TIFF orientation is applied; alpha is dropped
        and the colours beneath it stay as they are stored. The pages of a TIFF are a
        volume. Arrays from NPY and NPZ come in their own shape of two to four axes.
    meta : ImageMeta
        The format; such files know neither patient nor spacing.

    Raises
    ------
    InvalidImageError
        If the file is of another format, is damaged, promises more than it holds, is a
        decompression bomb, or holds several images where one was expected.

    References
    ----------
    "Portable Network Graphics", ISO/IEC 15948; "TIFF", revision 6.0; Netpbm's pgm(5).
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(8)
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        name, read = _recognise(path.name, start)
        with _decoding(path.name, name):
            array = read(path.name, file, size)
    colour = array.ndim == 3 and array.shape[2] == 3 and name in _COLOURED
    meta = ImageMeta(format=name.lower(), units="displayed" if colour else "raw")
    return np.ascontiguousarray(array), meta


Reader = Callable[[str, IO[bytes], int], np.ndarray]


def _recognise(name: str, start: bytes) -> tuple[str, Reader]:
    if start == b"\x89PNG\r\n\x1a\n":
        return "PNG", _read_png
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG", _read_jpeg
    if start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF", _read_tiff
    if re.match(rb"P[1-6][\s#]", start):
        return "PNM", _read_pnm
    if start.startswith(b"\x93NUMPY"):
        return "NPY", _read_npy
    if start.startswith(b"PK"):
        return "NPZ", _read_npz
    raise InvalidImageError(
        f"{name}: is none of PNG, JPEG, TIFF, PBM, PGM, PPM, NPY and NPZ (it begins "
        f"with the bytes {start[:4].hex(' ') or 'of an empty file'})."
    )


@contextmanager
def _decoding(name: str, kind: str) -> Iterator[None]:
    try:
        yield
    except InvalidImageError:
        raise
    except Exception as error:  # on damaged files decoders raise whatever they meet
        cause = f"{type(error).__name__}: {error}".rstrip(": ")
        raise InvalidImageError(
            f"{name}: cannot be decoded as {kind} ({cause})."
        ) from error


def _read_png(name: str, file: IO[bytes], size: int) -> np.ndarray:
    from PIL.PngImagePlugin import PngImageFile

    def opened() -> PngImageFile:
        file.seek(0)
        # Not through Image.open: its limit is a global, and warns.
        return PngImageFile(file)

    image = opened()
    if getattr(image, "is_animated", False):
        raise InvalidImageError(
            f"{name}: is animated, {image.n_frames} frames: save the one that counts."
        )
    bits = _bits(_rawmode(image), len(image.getbands()))
    claimed = image.height * (1 + math.ceil(image.width * bits / 8))
    check_claim(name, claimed, size, ratio=DEFLATE_RATIO)
    image.verify()  # checksums; decoding alone would not notice a wrong pixel
    image = opened()
    array = _pixels(image, opened)
    return _upright(array, image.getexif().get(_ORIENTATION_TAG, 1))


def _read_jpeg(name: str, file: IO[bytes], size: int) -> np.ndarray:
    from PIL.JpegImagePlugin import JpegImageFile

    if has_too_many_scans(file.read()):
        raise ValueError("it has more scans than any image needs")
    file.seek(0)
    image = JpegImageFile(file)
    claimed = image.width * image.height * len(image.getbands())
    check_claim(name, claimed, size, ratio=_JPEG_RATIO)
    array = _pixels(image)
    return _upright(array, image.getexif().get(_ORIENTATION_TAG, 1))


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image as the EXIF orientation, 1 to 8, asks."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _rawmode(image: "ImageFile") -> str:
    """Storage of the pixels in Pillow's words, "RGB;16B" or "L;4" for example."""
    args = image.tile[0].args if image.tile else None
    return args[0] if isinstance(args, tuple) else args or ""


def _bits(rawmode: str, bands: int) -> int:
    """Bits that a PNG stores a pixel."""
    kind, _, depth = rawmode.partition(";")
    if depth in ("1", "2", "4"):
        return int(depth)
    return 1 if kind == "1" else bands * (16 if depth.startswith("16") else 8)


def _pixels(
    image: "ImageFile", opened: Callable[[], "ImageFile"] | None = None
) -> np.ndarray:
    """Decode, without alpha; `opened` opens the file once more."""
    rawmode = _rawmode(image)
    if opened is not None and re.match(r"(RGB|LA|CMYK).*;16", rawmode):
        return _wide_pixels(rawmode, opened)
    if image.mode == "1":
        return np.asarray(image, dtype=np.uint8) * np.uint8(255)
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("LA"))[..., 0]
    if image.mode in ("P", "PA", "RGBa"):
        array = np.asarray(image.convert("RGBA"))
    elif image.mode in ("L", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;"):
        array = np.asarray(image)
    else:
        array = np.asarray(image.convert("RGB"))
    array = array[..., :3] if array.ndim == 3 else array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _wide_pixels(rawmode: str, opened: Callable[[], "ImageFile"]) -> np.ndarray:
    """Colour of 16 bits, of which Pillow keeps the upper eight: decoded in halves."""

    def half(mode: str, rawmode: str) -> np.ndarray:
        image = opened()
        image._mode = mode
        for i, tile in enumerate(image.tile):
            args = tile.args
            args = (rawmode, *args[1:]) if isinstance(args, tuple) else rawmode
            image.tile[i] = tile._replace(args=args)
        return np.asarray(image).astype(np.uint16)

    kind, _, order = rawmode.partition(";16")
    if kind == "LA":  # two values of two bytes, as if four of one
        bytes_ = half("RGBA", "RGBA")
        return bytes_[..., 0] << 8 | bytes_[..., 1]
    if kind not in ("RGB", "RGBA", "RGBX"):
        raise ValueError(f"stores {kind} colour of 16 bits; RGB and grey are read")
    # Read in the other byte order, the upper half is the lower one.
    if order == "N":
        order = sys.byteorder[0].upper()
    other = "L" if order == "B" else "B"
    mode = "RGBA" if kind == "RGBA" else "RGB"
    high, low = half(mode, rawmode), half(mode, f"{kind};16{other}")
    return (high << 8 | low)[..., :3]


def _read_tiff(name: str, file: IO[bytes], size: int) -> np.ndarray:
    from PIL.TiffImagePlugin import TiffImageFile

    image = TiffImageFile(file)
    pages = _tiff_pages(name, image, size)
    shapes = sorted({(p.height, p.width, p.mode) for p in pages})
    if len(shapes) > 1:
        seen = ", ".join(f"{h} × {w} ({mode})" for h, w, mode in shapes)
        raise InvalidImageError(
            f"{name}: has {len(pages)} pages of different kinds, {seen}: they are no "
            "volume; save the page that counts as a file of its own."
        )

    def opened(index: int) -> TiffImageFile:
        file.seek(0)
        again = TiffImageFile(file)
        again.seek(index)
        return again

    arrays = []
    for page in pages:
        image.seek(page.index)
        array = _pixels(image, partial(opened, page.index))
        arrays.append(_as_stored(array, page))
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


@dataclass(frozen=True)
class _Page:
    """What the directory of a TIFF page says."""

    index: int
    width: int
    height: int
    mode: str
    bits: tuple[int, ...]
    sample_format: int  # 1 unsigned, 2 signed, 3 float
    photometric: int  # 0: the largest value is black
    reduced: bool

    @classmethod
    def of(cls, image: "TiffImageFile", index: int) -> "_Page":
        tags = image.tag_v2
        width, height = image.size
        return cls(
            index=index,
            width=width,
            height=height,
            mode=image.mode,
            bits=tuple(tags.get(258, (1,))),
            sample_format=tags.get(339, (1,))[0],
            photometric=tags.get(262, 1),
            reduced=bool(tags.get(254, 0) & 1),
        )


def _tiff_pages(name: str, image: "TiffImageFile", size: int) -> list[_Page]:
    """All pages but smaller copies, checked against the size of the file."""
    pages = []
    claimed = 0.0
    for index in itertools.count():
        try:
            image.seek(index)
        except EOFError:
            break
        if index == _MOST_PAGES:
            raise ValueError(f"it has more than {_MOST_PAGES} pages")
        page = _Page.of(image, index)
        tags = image.tag_v2
        bits = max(sum(page.bits), page.bits[0] * tags.get(277, 1))
        # A single tile of the decoder's buffer may be larger than the image.
        tile = tags.get(322, 1) * tags.get(323, 1)
        claimed += max(page.width * page.height, tile) * bits / 8
        ratio = _TIFF_RATIOS.get(tags.get(259, 1), math.inf)
        check_claim(name, int(claimed), size, ratio=ratio)
        if len(page.bits) > 1 and page.bits[0] > 8 and tags.get(284) == 2:
            raise ValueError("stores the planes of 16-bit colour apart")
        pages.append(page)
    return [page for page in pages if not page.reduced] or pages[:1]


def _as_stored(array: np.ndarray, page: _Page) -> np.ndarray:
    """Undo what Pillow takes for granted: signs, and black as the smallest value."""
    if array.dtype == np.uint16 and array.ndim == 2 and page.photometric == 0:
        return np.uint16((1 << page.bits[0]) - 1) - array
    if array.dtype == np.int32:
        kind = "i" if page.sample_format == 2 else "u"
        return array.astype(f"{kind}{max(page.bits[0] // 8, 1)}")
    if array.dtype == np.uint8 and page.sample_format == 2:
        return array.view(np.int8)
    return array


def _read_pnm(name: str, file: IO[bytes], size: int) -> np.ndarray:
    data = file.read()
    kind = data[1:2]
    bilevel, plain = kind in b"14", kind in b"123"
    channels = 3 if kind in b"36" else 1
    # Numbers, with comments between them; then a single white space.
    number = rb"(?:\s|#[^\n\r]*[\n\r])+(\d{1,9})"
    header = re.match(rb"P\d" + number * (2 if bilevel else 3) + rb"\s", data)
    if header is None:
        raise ValueError("its header is damaged")
    width, height, *rest = map(int, header.groups())
    largest = rest[0] if rest else 1
    if min(width, height) < 1 or not 0 < largest < 1 << 16:
        raise ValueError(f"{width} × {height} pixels with values up to {largest}")
    dtype = np.dtype("u1" if largest < 256 else ">u2")
    row = math.ceil(width / 8) if kind == b"4" else width * channels * dtype.itemsize
    stored = height * width * channels if plain else height * row
    check_claim(name, stored, len(data) - header.end())
    if plain:
        values = _plain_values(data[header.end() :], stored, bilevel, largest)
    else:
        values = np.frombuffer(data, dtype, stored // dtype.itemsize, header.end())
    if kind == b"4":
        values = np.unpackbits(values.reshape(height, row), axis=1)[:, :width]
    if bilevel:
        values = (1 - values) * np.uint8(255)  # 1 is black
    shape = (height, width, 3) if channels == 3 else (height, width)
    return values.reshape(shape).astype(dtype.newbyteorder("="))


def _plain_values(text: bytes, count: int, bilevel: bool, largest: int) -> np.ndarray:
    text = re.sub(rb"#[^\n\r]*", b"", text)
    if bilevel:  # the digits need not be apart
        digits = np.frombuffer(re.sub(rb"\s", b"", text), np.uint8, count)
        values = (digits - ord("0")).astype(np.uint8)
    else:
        values = np.array(text.split(None, count)[:count]).astype(np.int64)
    if len(values) < count or values.min() < 0 or values.max() > largest:
        raise ValueError(f"{count} values from 0 to {largest} were expected")
    return values


def _read_npy(name: str, file: IO[bytes], size: int) -> np.ndarray:
    return _read_array(name, file, size, ratio=1)


def _read_npz(name: str, file: IO[bytes], size: int) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        if len(members) != 1:
            names = ", ".join(m.filename[:-4] for m in members[:10])
            raise InvalidImageError(
                f"{name}: holds {len(members)} arrays{names and f' ({names})'}: one "
                "image a file is read; numpy.load(…)[name] gives the array itself."
            )
        ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE_RATIO}
        with archive.open(members[0]) as stream:
            best = ratio.get(members[0].compress_type, math.inf)
            return _read_array(name, stream, size, ratio=best)


def _read_array(name: str, stream: IO[bytes], size: int, *, ratio: float) -> np.ndarray:
    """Array in NumPy's format, never by pickle."""
    start = stream.read(_NPY_HEADER)
    head = BytesIO(start)
    version = np.lib.format.read_magic(head)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format, for tables")
    shape, fortran, dtype = readers[version](head)
    if dtype.kind not in _READ_KINDS or dtype.itemsize > 8:
        raise ValueError(f"its dtype is {dtype}; an image has integers, floats or bool")
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"its shape is {shape}; an image has two to four axes")
    count = math.prod(shape) * dtype.itemsize
    check_claim(name, head.tell() + count, size, ratio=ratio)
    data = bytearray(start[head.tell() : head.tell() + count])
    fill(name, stream, data, count)
    stream.read(1)  # at the end of a ZIP member its checksum is compared
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
