"""Where the commands put their results."""

import os
import secrets
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
    draft = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    try:
        draft.touch(exist_ok=False)
        yield draft
        if out.exists():
            draft.chmod(out.stat().st_mode)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def printable(text: str, encoding: str = "utf-8") -> str:
    """A text that can be written, such as a file name of bytes that are no UTF-8."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
