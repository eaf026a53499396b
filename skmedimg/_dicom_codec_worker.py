"""Decodes JPEG, JPEG-LS and JPEG 2000 frames in a process of its own.

Run as a script by `skmedimg._dicom_codecs`. On a corrupt frame GDCM aborts the process
it runs in, and OpenJPEG takes gigabytes or minutes: here neither costs more than one
file. Imports nothing of skmedimg, so that it starts quickly.

A request is a line of JSON followed by ``request["bytes"]`` bytes of codestream; the
answer is a line of JSON followed by the decoded samples, interleaved by pixel.
"""

import json
import os
import signal
import sys
from importlib import import_module
from typing import Any, BinaryIO

_BASE_MEMORY = 256 << 20
# OpenJPEG holds 32-bit samples, their wavelet coefficients and the codeblocks.
_MEMORY_RATIO = 24
_BASE_SECONDS = 2.0
_SECONDS_PER_BYTE = 1e-6


def _decode(request: dict[str, Any], frame: bytes) -> bytes:
    if request["codec"] == "j2k":
        try:
            from openjpeg import decode_pixel_data
        except ImportError:
            return _decode_with_gdcm(request, frame)
        return bytes(decode_pixel_data(frame, version=2))
    return _decode_with_gdcm(request, frame)


def _decode_with_gdcm(request: dict[str, Any], frame: bytes) -> bytes:
    # Not by name: it ships no types.
    gdcm: Any = import_module("gdcm")
    precision, samples = request["precision"], request["samples"]
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((request["columns"], request["rows"], 1))
    image.SetDataElement(element)
    # Named so, the samples come back as they were encoded, whatever they mean.
    colour = "RGB" if samples == 3 else "MONOCHROME2"
    kind = gdcm.PhotometricInterpretation.GetPIType(colour)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(0)
    syntax = gdcm.TransferSyntax.GetTSType(request["syntax"])
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    container = 8 if precision <= 8 else 16 if precision <= 16 else 32
    image.SetPixelFormat(
        gdcm.PixelFormat(
            samples, container, precision, precision - 1, int(request["signed"])
        )
    )
    # SWIG hands a char array over as text.
    decoded: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")
    return decoded


def _limit(size: int) -> None:
    """Bound memory and time by the size of the image; the system ends what exceeds."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    seconds = _BASE_SECONDS + _SECONDS_PER_BYTE * size
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # only Linux tells
        return
    limit = now + _BASE_MEMORY + _MEMORY_RATIO * size
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while line := requests.readline():
        request = json.loads(line)
        frame = requests.read(request["bytes"])
        decoded, answer = b"", {"error": ""}
        try:
            _limit(request["size"])
            decoded = _decode(request, frame)
        except ImportError as error:
            answer["error"] = f"ImportError: {error.name}"
        # Whatever the libraries raise on corrupt data; the kind of error is told.
        except Exception as error:
            answer["error"] = type(error).__name__
        header = answer | {"bytes": len(decoded)}
        answers.write(json.dumps(header).encode() + b"\n" + decoded)
        answers.flush()


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    # The libraries print to standard output too; the answers go where they cannot.
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, private)
