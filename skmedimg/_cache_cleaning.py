"""What is in a folder of image caches, and room made in it.

Only what this package wrote, for this user, is ever touched: folders are recognised by
their names and by what is in them, and files are removed by name, one at a time.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PIXELS, RECORDS = "pixels.npy", "records.json"
DRAFT = "draft-"
_CACHE_NAME = re.compile(r"[0-9a-f]{32}")
_PART_NAME = re.compile(r"part-\d+")
_DAY = 86400.0


@dataclass(frozen=True)
class _Folder:
    """A cache, or the draft of one."""

    path: Path
    size: int
    used: float

    @property
    def is_draft(self) -> bool:
        """Whether it is not finished, and has no name yet."""
        return self.path.name.startswith(DRAFT)

    @property
    def images(self) -> int:
        """Number of images, 0 where it cannot be told."""
        try:
            rows = json.loads((self.path / RECORDS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0
        return len(rows)

    def remove(self) -> bool:
        """Whether it could be removed: in Windows what is open cannot."""
        try:
            # The records first: what is left is then known to be no whole cache.
            for file in sorted(self.path.iterdir(), reverse=True):
                if not _is_ours(file.name):
                    return False
                file.unlink()
            self.path.rmdir()
        except OSError:
            return False
        return True


def list_cache(cache: bool | str | os.PathLike[str] = True) -> "pd.DataFrame":
    """List the caches of decoded images, the largest first.

    Parameters
    ----------
    cache : True or path, default=True
        As it was given to `ImageSequence`: True is the user's cache folder.

    Returns
    -------
    pandas.DataFrame
        One row a cache: `name`, number of `images`, `bytes` on disk, and when it was
        `last_used`, in universal time. Drafts of processes that were killed are among
        them; their names begin with "draft-".

    See Also
    --------
    clear_cache : Removes those that are not used any more.

    Examples
    --------
    >>> from skmedimg.io import list_cache
    >>> list_cache()["bytes"].sum()  # doctest: +SKIP
    """
    return _table([_row(folder) for folder in _folders(cache)])


def clear_cache(
    unused_days: float = 30, *, cache: bool | str | os.PathLike[str] = True
) -> "pd.DataFrame":
    """Remove caches of decoded images that were not used for some time.

    Nothing is lost but time: an `ImageSequence` that is made again from its files makes
    its cache again. One that is in memory, or pickled, must be made again.

    Parameters
    ----------
    unused_days : float, default=30
        Days since a cache was last used; 0 removes all of them.
    cache : True or path, default=True
        As it was given to `ImageSequence`: True is the user's cache folder.

    Returns
    -------
    pandas.DataFrame
        What was removed, as `list_cache` lists it. Drafts are removed when they are a
        day old: younger ones may be somebody's who is at work.

    Raises
    ------
    ValueError
        If `unused_days` is negative.
    TypeError
        If it is no number: the folder goes by its name, ``cache=``.

    See Also
    --------
    list_cache : What there is.

    Notes
    -----
    Files that this package did not write, and those of other users, stay.

    Examples
    --------
    >>> from skmedimg.io import clear_cache
    >>> clear_cache(unused_days=7)  # doctest: +SKIP
    """
    if not isinstance(unused_days, int | float | np.integer | np.floating):
        raise TypeError(
            f"unused_days={unused_days!r}: pass a number of days; the folder of caches "
            "is cache=."
        )
    if not unused_days >= 0:
        raise ValueError(f"unused_days={unused_days!r}: pass 0 or more days.")
    now = time.time()
    removed = []
    for folder in _folders(cache):
        days = max(unused_days, 1) if folder.is_draft else unused_days
        # Listed before it is gone.
        row = _row(folder)
        if now - folder.used >= days * _DAY and folder.remove():
            removed.append(row)
    return _table(removed)


def sweep_drafts(folder: Path) -> None:
    """Remove drafts that processes left behind which were killed a day ago or more."""
    now = time.time()
    for found in _folders_in(folder):
        if found.is_draft and now - found.used >= _DAY:
            found.remove()


def _folders(cache: bool | str | os.PathLike[str]) -> list[_Folder]:
    from skmedimg._pixel_cache import cache_folder

    found = list(_folders_in(cache_folder(cache)))
    return sorted(found, key=lambda folder: -folder.size)


def _folders_in(place: Path) -> Iterator[_Folder]:
    if not place.is_dir():
        return
    for path in place.iterdir():
        named = _CACHE_NAME.fullmatch(path.name) or path.name.startswith(DRAFT)
        if not named or path.is_symlink() or not path.is_dir():
            continue
        try:
            stats = [path.stat(), *(file.lstat() for file in path.iterdir())]
            ours = all(_is_ours(file.name) for file in path.iterdir())
        except OSError:  # somebody else's, or gone meanwhile
            continue
        users = {getattr(stat, "st_uid", 0) for stat in stats}
        if ours and users == {os.getuid() if hasattr(os, "getuid") else 0}:
            size = sum(stat.st_size for stat in stats[1:])
            yield _Folder(path, size, max(stat.st_mtime for stat in stats))


def _is_ours(name: str) -> bool:
    return name in (PIXELS, RECORDS) or _PART_NAME.fullmatch(name) is not None


def _row(folder: _Folder) -> tuple[str, int, int, float]:
    return folder.path.name, folder.images, folder.size, folder.used


def _table(rows: list[tuple[str, int, int, float]]) -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame(rows, columns=["name", "images", "bytes", "last_used"])
    table = table.astype({"name": "string", "images": "int64", "bytes": "int64"})
    used = pd.to_datetime(table.last_used.astype(float), unit="s", utc=True)
    return table.assign(last_used=used)
