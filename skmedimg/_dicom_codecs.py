"""Compressed frames of DICOM files: looked at, then decoded, and never trusted.

What a codestream says of its size is compared with the header before anything is
allocated for it. Decoders written in C that break on corrupt data run in a process of
their own (`_dicom_codec_worker`); Pillow, zlib and the run-length code run here.
"""

import atexit
import io
import json
import math
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from skmedimg._limits import has_too_many_scans
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    from skmedimg._dicom_pixels import PixelFormat

RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
_JPEG = frozenset(
    f"1.2.840.10008.1.2.4.{i}" for i in (50, 51, 53, 55, 57, 59, 61, 63, 65, 70)
)
_JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{i}" for i in (90, 91, 201, 202, 203))
COMPRESSED = _JPEG | _JPEG_LS | _JPEG_2000 | {RLE, DEFLATED_FRAME}
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# Markers that begin a frame header; 0xF7 is that of JPEG-LS.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
LOSSY = frozenset({0xC0, 0xC1, 0xC2})
_RGB_IDS = ([82, 71, 66], [114, 103, 98])


@dataclass
class Codestream:
    """What the header of a compressed frame says.

    Attributes
    ----------
    rows, columns, samples : int
        Size of the frame, and samples a pixel.
    precision : int
        Bits of a sample.
    signed : bool
        Whether samples are signed (JPEG 2000 only: others do not say).
    process : int
        Low byte of the frame's marker: 0xC0 is baseline, 0xC3 lossless, 0xF7 JPEG-LS.
    ids : list of int
        Names of the components.
    jfif : bool
        Whether a JFIF marker says that colours are YCbCr.
    adobe : int or None
        Colour transform of an Adobe marker: 0 for none.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    process: int = 0
    ids: list[int] | None = None
    jfif: bool = False
    adobe: int | None = None


def fragments_of(data: bytes) -> tuple[list[int], list[memoryview]]:
    """Split encapsulated pixel data.

    Parameters
    ----------
    data : bytes
        Value of the element: items, the first of which is the table of offsets.

    Returns
    -------
    offsets : list of int
        Basic offset table, often empty.
    fragments : list of memoryview
        The other items.

    Raises
    ------
    InvalidImageError
        If an item begins with something else, or is longer than what is left.
    """
    view = memoryview(data)  # a copy of each fragment would be one of the whole file
    found, at, end = [], 0, len(data)
    while at + 8 <= end and data[at : at + 4] != b"\xfe\xff\xdd\xe0":
        if data[at : at + 4] != b"\xfe\xff\x00\xe0":
            raise InvalidImageError(
                "is damaged: its compressed pixel data are no items"
            )
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8
        if length > end - at:
            raise InvalidImageError(
                f"is cut off: its pixel data end {length - (end - at)} bytes too early"
            )
        found.append(view[at : at + length])
        at += length
    if not found:
        raise InvalidImageError("holds no pixel data")
    table = found[0]
    offsets = list(struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4]))
    return offsets, found[1:]


def frames_of(data: bytes, count: int) -> Sequence[bytes | memoryview]:
    """Compressed frames: a frame may lie in several fragments.

    Parameters
    ----------
    data : bytes
        Encapsulated pixel data.
    count : int
        Number of frames that the header says.

    Returns
    -------
    sequence of bytes or memoryview
        `count` of them.
    """
    offsets, fragments = fragments_of(data)
    if count == 1:
        return [b"".join(fragments)]
    if len(fragments) < count:
        raise InvalidImageError(
            f"holds {len(fragments)} of the {count} frames its header speaks of"
        )
    if len(fragments) == count:
        return fragments
    starts = _starts(offsets if len(offsets) == count else [], fragments)
    if len(starts) < count:
        raise InvalidImageError(
            f"holds {len(starts)} of the {count} frames its header speaks of"
        )
    ends = [*starts[1:], len(fragments)]
    groups = list(zip(starts, ends, strict=True))[:count]
    return [b"".join(fragments[start:end]) for start, end in groups]


def _starts(offsets: list[int], fragments: list[memoryview]) -> list[int]:
    """Fragments a frame begins with, by the table, else by how codestreams begin."""
    if offsets:
        at, numbers = 0, {}
        for i, fragment in enumerate(fragments):
            numbers[at] = i
            at += 8 + len(fragment)
        if all(offset in numbers for offset in offsets):
            return sorted({numbers[offset] for offset in offsets})
    marks = (b"\xff\xd8", _JPEG_2000_START[:2])
    return [i for i, fragment in enumerate(fragments) if fragment[:2] in marks]


def codestream_of(frame: bytes, syntax: str) -> tuple[Codestream, bytes]:
    """Header of a JPEG, JPEG-LS or JPEG 2000 frame, and where its codestream begins.

    Raises
    ------
    InvalidImageError
        If it has none.
    """
    try:
        if syntax in _JPEG_2000:
            return _jpeg_2000_header(frame)
        return _jpeg_header(frame), frame
    except (struct.error, IndexError):
        raise InvalidImageError("is damaged: a compressed frame is cut off") from None


def _jpeg_2000_header(frame: bytes) -> tuple[Codestream, bytes]:
    start = 0
    if frame[4:8] == b"jP  ":
        # The wrapping of a .jp2 file, which DICOM does not allow, and some write.
        start = max(0, frame.find(_JPEG_2000_START))
    if frame[start : start + 4] != _JPEG_2000_START:
        raise InvalidImageError("is damaged: a compressed frame is not JPEG 2000")
    fields = struct.unpack_from(">8IH", frame, start + 8)
    width, height, left, top, *_, samples = fields
    components = frame[start + 42 : start + 42 + 3 * samples]
    depths = set(components[::3])
    if set(components[1::3]) | set(components[2::3]) != {1} or len(depths) != 1:
        raise InvalidImageError(
            "holds a JPEG 2000 frame whose components differ in size or depth, which "
            "cannot be decoded"
        )
    depth = depths.pop()
    stream = Codestream(
        rows=height - top,
        columns=width - left,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        signed=depth > 0x7F,
    )
    return stream, frame[start:]


def _jpeg_header(frame: bytes) -> Codestream:
    if frame[:2] != b"\xff\xd8":
        raise InvalidImageError("is damaged: a compressed frame is not JPEG")
    at, jfif, adobe = 2, False, None
    while True:
        while frame[at] == 0xFF and frame[at + 1] == 0xFF:
            at += 1
        if frame[at] != 0xFF:
            raise InvalidImageError("is damaged: a compressed frame is not JPEG")
        marker = frame[at + 1]
        (length,) = struct.unpack_from(">H", frame, at + 2)
        segment = frame[at + 4 : at + 2 + length]
        if marker in _SIZES:
            break
        if marker == 0xDA or length < 2:
            raise InvalidImageError("is damaged: a JPEG frame does not say its size")
        jfif = jfif or (marker == 0xE0 and segment[:4] == b"JFIF")
        if marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        at += 2 + length
    precision, rows, columns, samples = struct.unpack_from(">BHHB", segment)
    return Codestream(
        rows=rows,
        columns=columns,
        samples=samples,
        precision=precision,
        process=marker,
        ids=list(segment[6 : 6 + 3 * samples : 3]),
        jfif=jfif,
        adobe=adobe,
    )


def decode_frame(
    frame: bytes, fmt: "PixelFormat"
) -> tuple[np.ndarray, Codestream, str]:
    """Decode one frame.

    Parameters
    ----------
    frame : bytes
        Compressed.
    fmt : PixelFormat
        What the header says.

    Returns
    -------
    pixels : ndarray of shape (rows, columns) or (rows, columns, samples)
        Unsigned containers of the stored bits; signed where the codestream says so.
    stream : Codestream
        What the frame said of itself.
    photometric : str
        What the samples are now: "RGB" where the decoder undid a colour transform.

    Raises
    ------
    InvalidImageError
        If the frame is damaged, or of another size than the header says.
    ImportError
        If the package that decodes it is not installed.
    """
    stream = Codestream(fmt.rows, fmt.columns, fmt.samples, fmt.allocated)
    if fmt.syntax == RLE:
        return _decode_rle(frame, fmt), stream, fmt.photometric
    if fmt.syntax == DEFLATED_FRAME:
        return _inflate_frame(frame, fmt), stream, fmt.photometric
    stream, frame = codestream_of(frame, fmt.syntax)
    if (stream.rows, stream.columns) != (fmt.rows, fmt.columns):
        raise InvalidImageError(
            f"holds a frame of {stream.rows} × {stream.columns} pixels, its header "
            f"says {fmt.rows} × {fmt.columns}"
        )
    if stream.samples != fmt.samples:
        raise InvalidImageError(
            f"holds a frame of {stream.samples} samples a pixel, its header says "
            f"{fmt.samples}"
        )
    if stream.process in LOSSY and stream.precision == 8:
        pixels, photometric = _decode_with_pillow(frame, stream, fmt.photometric)
        return pixels, stream, photometric
    transformed = fmt.photometric in ("YBR_RCT", "YBR_ICT")
    photometric = "RGB" if transformed else fmt.photometric
    return _decode_apart(frame, fmt, stream), stream, photometric


def _decode_apart(frame: bytes, fmt: "PixelFormat", stream: Codestream) -> np.ndarray:
    if not 1 <= stream.precision <= 32:
        raise InvalidImageError(f"holds samples of {stream.precision} bits")
    container = 1 if stream.precision <= 8 else 2 if stream.precision <= 16 else 4
    size = math.prod(fmt.shape) * container
    data = _WORKER.decode(frame, fmt.syntax, stream, size)
    if len(data) != size:
        raise InvalidImageError("is damaged: a compressed frame cannot be decoded")
    sign = "i" if stream.signed else "u"
    return np.frombuffer(data, f"<{sign}{container}").reshape(fmt.shape)


def _decode_with_pillow(
    frame: bytes, stream: Codestream, photometric: str
) -> tuple[np.ndarray, str]:
    """Baseline JPEG. Colours become RGB, by what the frame says, else the header."""
    from PIL import Image

    if has_too_many_scans(frame):
        raise InvalidImageError("is damaged: a JPEG frame has too many scans")
    plain = stream.adobe == 0 or stream.ids in _RGB_IDS
    says = stream.jfif or stream.adobe is not None or plain
    is_rgb = plain and not stream.jfif if says else photometric == "RGB"
    # libjpeg takes everything for YCbCr but these two, and can be told to leave it.
    known_rgb = not stream.jfif and (stream.adobe == 0 or stream.ids == _RGB_IDS[0])
    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
            if stream.samples == 3 and is_rgb and not known_rgb:
                image.draft("YCbCr", None)
            pixels = np.asarray(image)
    # Pillow raises OSError, SyntaxError, ValueError and its own bomb error.
    except Exception as error:
        raise InvalidImageError(
            f"is damaged: a JPEG frame cannot be decoded ({type(error).__name__})"
        ) from None
    return pixels, "RGB" if stream.samples == 3 else photometric


def _inflate_frame(frame: bytes, fmt: "PixelFormat") -> np.ndarray:
    n_bytes = fmt.allocated // 8
    size = math.prod(fmt.shape) * n_bytes
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size)
    except zlib.error:
        data = b""
    if len(data) != size:
        raise InvalidImageError("is damaged: a deflated frame cannot be inflated")
    return np.frombuffer(data, f"<u{n_bytes}").reshape(fmt.shape)


def _decode_rle(frame: bytes, fmt: "PixelFormat") -> np.ndarray:
    """Run-length code: a segment for each byte of each sample, the high byte first."""
    n_bytes, size = fmt.allocated // 8, fmt.rows * fmt.columns
    count = fmt.samples * n_bytes
    if len(frame) < 64 or struct.unpack_from("<I", frame)[0] != count:
        raise InvalidImageError(
            f"is damaged: a run-length frame does not hold {count} segments"
        )
    starts = struct.unpack_from(f"<{count}I", frame, 4)
    planes = []
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        plane = _unpack_runs(frame[start:end], size)
        if len(plane) != size:
            raise InvalidImageError("is cut off: a run-length frame ends too early")
        planes.append(np.frombuffer(plane, np.uint8))
    pixels = np.stack(planes, axis=-1).view(f">u{n_bytes}")
    return pixels.astype(f"<u{n_bytes}").reshape(fmt.shape)


def _unpack_runs(segment: bytes, size: int) -> bytes:
    out, at, end = bytearray(), 0, len(segment)
    while at < end and len(out) < size:
        code = segment[at]
        if code < 128:
            out += segment[at + 1 : at + 2 + code]
            at += 2 + code
        else:
            if code > 128:
                out += segment[at + 1 : at + 2] * (257 - code)
            at += 2 if code > 128 else 1
    return bytes(out[:size])


class _Worker:
    """The process that decodes; started when first needed, again when it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, frame: bytes, syntax: str, stream: Codestream, size: int) -> bytes:
        """Samples of a frame; b"" where it could not be decoded."""
        request = {
            "codec": "j2k" if syntax in _JPEG_2000 else "jpeg",
            "syntax": syntax,
            "rows": stream.rows,
            "columns": stream.columns,
            "samples": stream.samples,
            "precision": stream.precision,
            "signed": stream.signed,
            "size": size,
            "bytes": len(frame),
        }
        with self._lock:
            try:
                answer, decoded = self._ask(request, frame)
            except (OSError, ValueError):
                # It died of this frame.
                self.close()
                return b""
            except BaseException:
                self.close()  # an answer would be left in the pipe
                raise
        error = answer["error"]
        if error.startswith("ImportError"):
            raise ImportError(
                f"this DICOM file is compressed ({syntax}), which needs "
                f"{error.split()[-1]}: pip install 'skmedimg[dicom]'"
            )
        return decoded

    def _ask(self, request: dict[str, Any], frame: bytes) -> tuple[dict, bytes]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process is not None  # for mypy
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n" + frame)
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        return answer, process.stdout.read(answer["bytes"])

    def _start(self) -> None:
        self.close()
        script = Path(__file__).with_name("_dicom_codec_worker.py")
        # -P, or the package's own io.py would stand in for Python's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]
            except OSError:
                pass  # what was not yet written has nobody left to read it

    def forget(self) -> None:
        """In a forked process: the worker belongs to the parent."""
        if self._process is not None:
            self._process.returncode = 0  # nothing to wait for, and no warning of it
            for pipe in (self._process.stdin, self._process.stdout):
                # Not through the buffer, which may hold half of what a thread wrote.
                cast(Any, pipe).raw.close()
        self._process, self._lock = None, threading.Lock()


_WORKER = _Worker()
atexit.register(_WORKER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _WORKER.forget())
