"""How much a file may claim to hold, checked before anything is allocated."""

import os
from typing import Protocol

from skmedimg.exceptions import InvalidImageError

_VARIABLE = "SKMEDIMG_MAX_EXPANSION"
# An almost empty mask of 512 x 512 x 512 voxels in float64 is a file of a megabyte.
_ROOM = 1 << 30
_PLAUSIBLE_RATIO = 200
# Deflate cannot do better than 258 bytes in 2 bits.
DEFLATE_RATIO = 1032
# Progressive JPEG has about ten scans. Each costs a walk over the whole image, and may
# take thirty bytes.
_MOST_SCANS = 100
_HEADERS = 1 << 16
_CHUNK = 1 << 20


class Stream(Protocol):
    """A binary file, compressed or not."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        ...


def fill(name: str, stream: Stream, data: bytearray, count: int) -> None:
    """Read on until `data` has `count` bytes.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    stream : binary file
        Read from where it stands.
    data : bytearray
        What was read already; grows in place.
    count : int
        Bytes wanted in all.

    Raises
    ------
    InvalidImageError
        If the file ends before.
    """
    # In pieces: what is allocated grows with what is there, not with what is claimed.
    while len(data) < count:
        part = stream.read(min(_CHUNK, count - len(data)))
        if not part:
            raise InvalidImageError(
                f"{name}: ends {count - len(data)} bytes before its header says."
            )
        data += part


def check_claim(name: str, claimed: int, stored: int, *, ratio: float = 1.0) -> None:
    """Refuse a header that promises more than its file can hold, and bombs.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    claimed : int
        Bytes of pixels that the header promises.
    stored : int
        Bytes of the file.
    ratio : float, default=1.0
        Best ratio the compression can reach; 1 where there is none, infinity where no
        bound is known.

    Raises
    ------
    InvalidImageError
        If the file cannot hold so much; or if it expands more than 200-fold to more
        than a gibibyte (the environment variable SKMEDIMG_MAX_EXPANSION sets another
        number of bytes).
    """
    slack = _HEADERS if ratio > 1 else 0
    if claimed > stored * ratio + slack:
        raise InvalidImageError(
            f"{name}: its header promises {in_words(claimed)} of pixels, but the file "
            f"has only {in_words(stored)}: it is cut off, or its header is wrong."
        )
    room = int(os.environ.get(_VARIABLE) or _ROOM)
    if claimed > max(room, _PLAUSIBLE_RATIO * stored):
        raise InvalidImageError(
            f"{name}: {in_words(stored)} would expand to {in_words(claimed)}, as only "
            "decompression bombs and all but empty images do. If you trust the file, "
            f"set the environment variable {_VARIABLE} to {claimed} (bytes) or more."
        )


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG codestream is made to keep a decoder busy."""
    return data.count(b"\xff\xda") > _MOST_SCANS


def in_words(count: int) -> str:
    """Bytes as people say them.

    Examples
    --------
    >>> from skmedimg._limits import in_words
    >>> in_words(700), in_words(5 << 30)
    ('700 bytes', '5 GiB')
    """
    if count < 1024:
        return f"{count} bytes"
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:.4g} {'KMGT'[power - 1]}iB"
