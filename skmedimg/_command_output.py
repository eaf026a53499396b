"""Where the commands put their results."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_writable(out: Path | None, option: str = "--out") -> None:
    """Say before the work, not after, that its result cannot be written.

    Parameters
    ----------
    out : Path or None
        File that will be written.
    option : str, default="--out"
        Of the command line, for the message.

    Raises
    ------
    OSError
        If it is a folder, or in none, or may not be written.
    """
    if out is None:
        return
    if out.is_dir():
        raise IsADirectoryError(f"{option} {out} is a folder: give a file in it.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{option} {out}: there is no folder {out.parent}.")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise PermissionError(f"{option} {out} cannot be written.")


@contextmanager
def written(out: Path) -> Iterator[Path]:
    """A file that gets the name `out` once it is whole.

    Parameters
    ----------
    out : Path
        What is there already is replaced, unless the work ends before its time.

    Yields
    ------
    Path
        To write to.
    """
    if out.exists() and not out.is_file():
        yield out  # /dev/stdout and the like must stay what they are
        return
    handle, name = tempfile.mkstemp(prefix=f".{out.name}-", dir=out.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(out.stat().st_mode if out.exists() else 0o666 & ~_umask())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """Of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def printable(text: str, encoding: str = "utf-8") -> str:
    """A text that can be written, such as a file name of bytes that are no UTF-8."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
