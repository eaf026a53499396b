"""Decoded images on disk, in one file that all processes share."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from joblib import Parallel, delayed

import skmedimg
from skmedimg._cache_cleaning import DRAFT, PIXELS, RECORDS, sweep_drafts
from skmedimg._image_files import (
    Decoder,
    Form,
    Item,
    Record,
    create_private,
    stored,
    survey,
)
from skmedimg._privacy import pseudonym
from skmedimg._scan import files_below

_FULL = (
    "the image cache does not fit on its disk: skmedimg.io.list_cache() lists what is "
    "in it, clear_cache() removes what was not used for a month; or pass another "
    "folder as cache=, or a smaller image_size="
)


_UNUSABLE = (
    "the image cache cannot be kept in {}: {}. Pass another folder as cache=, or "
    "cache=None to keep nothing (skmedimg train: --no-cache), or have the environment "
    "variable XDG_CACHE_HOME name a folder (Linux)"
)


class CachedPixels:
    """An array of images in a file, read through the memory map of each process.

    It pickles as its path: worker processes map the same file, and share its pages.

    Parameters
    ----------
    path : Path
        File in NumPy's format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: np.ndarray | None = np.load(path, mmap_mode="r")
        self.shape: tuple[int, ...] = self._map.shape
        self.dtype = self._map.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if self._map is None:
            try:
                self._map = np.load(self.path, mmap_mode="r")
            except FileNotFoundError:
                raise FileNotFoundError(
                    "the cache of these images is gone: make the ImageSequence again "
                    "from its files."
                ) from None
        return np.array(self._map[key])  # a copy: the map cannot be written to

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}


def cache_folder(cache: bool | str | os.PathLike[str]) -> Path:
    """Folder of the caches: the one given, or one below the user's cache folder.

    Parameters
    ----------
    cache : True or path
        As in `ImageSequence`.
    """
    if not isinstance(cache, bool | str | os.PathLike):
        raise TypeError(f"cache={cache!r}: pass True, or a folder.")
    if not isinstance(cache, bool):
        return Path(cache).absolute()
    home = Path.home()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "skmedimg" / "images"


def cached(
    folder: Path,
    items: Sequence[Item],
    decoder: Decoder,
    *,
    skip: bool,
    n_jobs: int | None = None,
) -> tuple[list[Record], CachedPixels | None]:
    """Decoded images from the cache, which is made first where there is none.

    Parameters
    ----------
    folder : Path
        Of the caches; made where it is not there. What is put in it is readable by its
        owner only, whatever the folder's own mode.
    items : sequence of Item
        Files.
    decoder : Decoder
        What is done to each.
    skip : bool
        Whether to go on without files that cannot be read.
    n_jobs : int, default=None
        Worker processes.

    Returns
    -------
    records : list of Record
        One a file.
    pixels : CachedPixels or None
        Those that can be read; None if some cannot, and `skip` is False.
    """
    _make_folder(folder)
    place = folder / _key(items, decoder, n_jobs)
    found = _open(place)
    if found is None:
        sweep_drafts(folder)
        try:
            draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))  # mode 0700
        except PermissionError as error:
            raise PermissionError(
                error.errno, _UNUSABLE.format(folder, "it cannot be written")
            ) from error
        try:
            records = survey(items, decoder, n_jobs, draft)
            if not skip and any(record.failure for record in records):
                return records, None
            _fill(draft, items, records, decoder)
            _publish(draft, place)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(error.errno, _FULL) from error
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        found = _open(place)
        if found is None:
            raise OSError(f"the image cache {place.name} cannot be read back.")
    records, pixels = found
    if not skip and any(record.failure for record in records):
        return records, None
    return records, pixels


def _make_folder(folder: Path) -> None:
    """See that caches can be made in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cause = None if os.access(folder, os.R_OK | os.X_OK) else errno.EACCES
    except FileExistsError:
        cause = errno.ENOTDIR
    except OSError as error:
        cause = error.errno or errno.EIO
    if cause is not None:
        raise OSError(cause, _UNUSABLE.format(folder, os.strerror(cause).lower()))


def _open(place: Path) -> tuple[list[Record], CachedPixels] | None:
    """A whole cache, or None: one that was cut off is made again."""
    try:
        raw = json.loads((place / RECORDS).read_text(encoding="utf-8"))
        pixels = CachedPixels(place / PIXELS)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    try:
        os.utime(place / RECORDS)
    except OSError:
        pass  # a cache that may only be read: its last use is not known
    names = [one.name for one in fields(Record)]
    records = [Record(**dict(zip(names, row, strict=True))) for row in raw]
    return records, pixels


def _fill(
    draft: Path, items: Sequence[Item], records: list[Record], decoder: Decoder
) -> None:
    """Write all images in their common form, one after the other."""
    read = [i for i, record in enumerate(records) if record.failure is None]
    names = [decoder.name(items[i]) for i in read]
    form = Form.of([records[i] for i in read], names)
    header = {
        "descr": np.lib.format.dtype_to_descr(form.dtype),
        "fortran_order": False,
        "shape": (len(read), *form.shape),
    }
    # Written, not mapped: a full disk is then an error and not the end of the process.
    with create_private(draft / PIXELS) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for pixels in stored(draft, records):
            file.write(np.ascontiguousarray(form.fit(pixels)).data)
        file.flush()
        os.fsync(file.fileno())
    with create_private(draft / RECORDS) as file:
        rows = [list(asdict(record).values()) for record in records]
        file.write(json.dumps(rows).encode())


def _publish(draft: Path, place: Path) -> None:
    """Give the draft its name, unless another process was quicker."""
    try:
        draft.rename(place)
    except OSError:
        if _open(place) is not None:
            return
        shutil.rmtree(place, ignore_errors=True)  # cut off
        draft.rename(place)


def _key(items: Sequence[Item], decoder: Decoder, n_jobs: int | None) -> str:
    """Name of a cache: what is in the files, and what is done to them."""
    digests = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_digest)(item) for item in items
    )
    settings = (
        skmedimg.__version__,
        [one.name for one in fields(Record)],
        _identity(decoder.reader) if decoder.reader else None,
        decoder.image_size,
        decoder.spacing,
        decoder.window,
        decoder.channels,
        decoder.interpolation,
        # Another key gives other pseudonyms.
        pseudonym(RECORDS) if decoder.patients else None,
    )
    key = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for digest in digests:
        key.update(digest)
    return key.hexdigest()


def _digest(item: Item) -> bytes:
    """Of the bytes of a file, or of all files of a series."""
    try:
        if isinstance(item, Path) and not item.is_dir():
            with item.open("rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
        files = item if isinstance(item, tuple) else files_below(item)
        return hashlib.blake2b(b"".join(map(_digest, files))).digest()
    except OSError as error:
        return hashlib.blake2b(f"{error.strerror}".encode()).digest()


def _identity(reader: Any) -> Any:
    """What changes when a reader does: its name, arguments and code."""
    if isinstance(reader, partial):
        return _identity(reader.func), pickle.dumps((reader.args, reader.keywords))
    try:
        name = pickle.dumps(reader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"with cache=, the reader must be one that pickles ({error}): define it at "
            "the top level of a module, not as a lambda or inside a function."
        ) from error
    # A function pickles as its name, and in a notebook is edited under that name.
    code = getattr(reader, "__code__", None)
    return name, _code(code) if code else None


def _code(code: CodeType) -> Any:
    """What a function does, without where it stands."""
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return code.co_code, code.co_names, constants
