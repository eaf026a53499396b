"""Files from the network: resumed where they were cut off, verified before use."""

import hashlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skmedimg._pixel_cache import cache_folder

if TYPE_CHECKING:
    import requests

PathLike = str | os.PathLike[str]

_TIMEOUT = 30  # seconds without a byte
# Of a transfer that is cut off, what was read of the last chunk is lost.
_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0  # seconds, whatever the server asks for
_PART, _NOTE = "part", "part.json"


class _Interrupted(OSError):
    """A transfer stopped; another attempt may go on with it."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def data_folder(data_home: PathLike | None, name: str) -> Path:
    """Folder of downloaded files of one kind; it need not be there yet.

    Parameters
    ----------
    data_home : path or None
        The user's choice; None is what the environment variable SKMEDIMG_DATA names,
        else a folder beside the image caches.
    name : str
        Subfolder.
    """
    home = data_home or os.environ.get("SKMEDIMG_DATA")
    base = Path(home).expanduser() if home else cache_folder(True).with_name("datasets")
    return base.absolute() / name


def fetch_file(
    url: str,
    path: Path,
    md5: str,
    *,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool | None = None,
) -> None:
    """See that the file of a known checksum is at `path`, by downloading if need be.

    Several processes and threads may ask for one file: one of them downloads, the
    others wait. The operating system frees the lock of a process that is killed.

    Parameters
    ----------
    url : str
        Where the file is.
    path : Path
        Where it shall be. Until it is whole and verified, what has come is in a folder
        beside it, whose name ends in .part.
    md5 : str
        Checksum, in hexadecimal digits.
    download_if_missing, n_retries, delay, verbose : object
        As in `fetch_medmnist`.

    Raises
    ------
    OSError
        If the file cannot be had, or what is had is another one.
    """
    from filelock import FileLock

    seen = _md5(path)
    if seen == md5:
        return
    if not download_if_missing:
        found = f"has the md5 {seen}, not {md5}" if seen else "is not there"
        raise OSError(
            f"{path.name} {found}: allow the download with download_if_missing=True, "
            f"or put the file into {path.parent}, which data_home= chooses."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if _md5(path) == md5:  # another process was quicker
            return
        _download(url, path, md5, _Transfer(path, n_retries, delay, verbose))


def _md5(path: Path) -> str | None:
    """Checksum of a file, None if there is no file."""
    try:
        with path.open("rb") as file:
            # MD5 guards against accidents here; machines in FIPS mode have it for that.
            digest = partial(hashlib.md5, usedforsecurity=False)
            return hashlib.file_digest(file, digest).hexdigest()
    except FileNotFoundError:
        return None


def _download(
    url: str, path: Path, md5: str, transfer: "_Transfer", *, again: bool = False
) -> None:
    """Have pooch verify what the transfer brings, then give it its name."""
    import pooch

    transfer.prepare()
    folder = transfer.folder
    try:
        with _silent(pooch.get_logger()):
            pooch.retrieve(
                url, f"md5:{md5}", fname=path.name, path=folder, downloader=transfer
            )
    except ValueError as error:  # the transfer's own errors are OSError
        shutil.rmtree(folder)
        if transfer.resumed and not again:
            # Its pieces may be of different files: begin again, once.
            return _download(url, path, md5, transfer, again=True)
        raise OSError(
            f"{path.name} from {_host(url)} is not the file it should be, and was "
            f"removed: {error}"
        ) from error
    except OSError:
        if not any(folder.iterdir()):  # nothing came
            folder.rmdir()
        raise
    os.replace(folder / path.name, path)
    shutil.rmtree(folder)


class _Transfer:
    """A downloader for pooch that goes on where an earlier transfer was cut off.

    What has come is in a folder of its own, with a note of which version of the file
    it is part of. A server that cannot say so, or cannot send the rest only, is asked
    for the whole file again.

    Parameters
    ----------
    path : Path
        Of the file to be.
    n_retries : int
        How often in a row to try again without a byte gained.
    delay : float
        Seconds between two attempts.
    verbose : bool or None
        Whether to show progress; None: on a terminal.
    """

    def __init__(
        self, path: Path, n_retries: int, delay: float, verbose: bool | None
    ) -> None:
        self.name = path.name
        self.folder = path.with_name(f"{path.name}.part")
        self.n_retries = n_retries
        self.delay = delay
        self.verbose = sys.stderr.isatty() if verbose is None else verbose
        self.resumed = False

    def prepare(self) -> None:
        """Make the folder, without what a process left there that was killed."""
        self.folder.mkdir(exist_ok=True)
        # After a power cut, a part may have its size and not its bytes.
        self.resumed = self._size() > 0
        for entry in self.folder.iterdir():
            if entry.name not in (self.name, _PART, _NOTE):
                entry.unlink()

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Bring the file, as pooch asks."""
        failures, furthest = 0, 0
        with self._progress() as show:
            while not self._is_whole(url):
                try:
                    self._attempt(url, show)
                except _Interrupted as error:
                    size = self._size()
                    failures = 1 if size > furthest else failures + 1
                    furthest = max(size, furthest)
                    if failures > self.n_retries:
                        raise OSError(self._complaint(url, error)) from error
                    time.sleep(max(self.delay, error.wait))
        os.replace(self.folder / _PART, output_file)
        (self.folder / _NOTE).unlink()

    def _attempt(self, url: str, show: Any) -> None:
        """One connection: the rest of the file if that can be had, else all of it."""
        import requests.exceptions as kinds

        passing = (
            kinds.ConnectionError,
            kinds.Timeout,
            kinds.ChunkedEncodingError,
            kinds.ContentDecodingError,
        )
        try:
            start, response = self._open(url)
            with response:
                self._receive(url, start, response, show)
        except passing as error:
            raise _Interrupted(f"{type(error).__name__}: {error}") from error
        except kinds.RequestException as error:
            raise OSError(self._complaint(url, error)) from error
        if not self._is_whole(url):
            raise _Interrupted("the connection ended before the file did")

    def _open(self, url: str) -> tuple[int, "requests.Response"]:
        """An answer whose body follows the first `start` bytes of the part."""
        start, version = self._size(), self._note(url).get("version")
        if start and version:
            asked = {"Range": f"bytes={start}-", "If-Range": version}
            response = self._get(url, asked)
            if response.status_code == 200:  # changed, or always sent whole
                return 0, response
            # Some servers do not look at If-Range.
            same = _version(response) in (version, None)
            if same and _first_byte(response) == start:
                self.resumed = True
                return start, response
            response.close()
        response = self._get(url, {})
        if response.status_code != 200:
            raise OSError(self._complaint(url, _status(response)))
        return 0, response

    def _get(self, url: str, headers: dict[str, str]) -> "requests.Response":
        import requests

        # A body that is compressed on the way cannot be continued by byte.
        headers = {"Accept-Encoding": "identity", "User-Agent": "skmedimg", **headers}
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
        if response.status_code in _PASSING:
            response.close()
            raise _Interrupted(_status(response), _retry_after(response))
        return response

    def _receive(
        self, url: str, start: int, response: "requests.Response", show: Any
    ) -> None:
        """Write the body behind the first `start` bytes of the part."""
        note = self._note(url)
        if not start:
            (self.folder / _PART).write_bytes(b"")
            note = _describe(url, response)
            self._write(note)
        with (self.folder / _PART).open("ab", buffering=0) as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                show(file.tell(), note["size"])
        if note["size"] is None:  # the server did not say; the checksum will
            self._write(note | {"size": self._size()})

    def _write(self, note: dict[str, Any]) -> None:
        (self.folder / _NOTE).write_text(json.dumps(note), encoding="utf-8")

    def _note(self, url: str) -> dict[str, Any]:
        """What the part is of; of no size and version where that is not known."""
        try:
            note = json.loads((self.folder / _NOTE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            note = None
        known = isinstance(note, dict) and note.get("source") == _source(url)
        return {"size": None} | note if known else {"size": None}

    def _size(self) -> int:
        part = self.folder / _PART
        return part.stat().st_size if part.exists() else 0

    def _is_whole(self, url: str) -> bool:
        size = self._note(url)["size"]
        return size is not None and self._size() == size

    @contextmanager
    def _progress(self) -> Iterator[Any]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.verbose,
        ) as bar:
            task = bar.add_task(self.name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _complaint(self, url: str, cause: Any) -> str:
        have = self._size()
        kept = f" {have} bytes are kept, the next call goes on there." if have else ""
        return (
            f"{self.name} could not be downloaded from {_host(url)}: {cause}.{kept} "
            "Behind a proxy, set HTTPS_PROXY (and REQUESTS_CA_BUNDLE for its "
            "certificate); mirror= takes the file from another server; or put it into "
            f"{self.folder.parent} yourself."
        )


def _describe(url: str, response: "requests.Response") -> dict[str, Any]:
    """What an answer with a whole file says of it."""
    length = response.headers.get("Content-Length", "")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return {"source": _source(url), "version": None, "size": None}
    size = int(length) if length.isdecimal() else None
    return {"source": _source(url), "version": _version(response), "size": size}


def _status(response: "requests.Response") -> str:
    return f"status {response.status_code} {response.reason}"


def _first_byte(response: "requests.Response") -> int | None:
    """Where in the file a part begins; None if the answer is no part."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0]
    if response.status_code != 206 or unit != "bytes" or not first.isdecimal():
        return None
    return int(first)


def _version(response: "requests.Response") -> str | None:
    """What tells this version of the file from others, byte by byte."""
    tag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if tag.startswith("W/") else tag


def _retry_after(response: "requests.Response") -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else 0.0


def _host(url: str) -> str:
    # Of a URL with a password, this is what may be shown.
    return urlsplit(url).hostname or "an address without a host"


def _source(url: str) -> str:
    return urlsplit(url)._replace(netloc=_host(url)).geturl()


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep what this thread logs from the user's screen, and nobody else's."""
    thread = threading.get_ident()

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
