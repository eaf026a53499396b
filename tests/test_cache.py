"""What is in the image cache, what removes it, and what is never removed."""

import errno
import os
import time

import numpy as np
import pytest
from PIL import Image

from skmedimg.io import ImageSequence, clear_cache, list_cache

DAY = 86400


@pytest.fixture
def make(tmp_path):
    """Make a cache of `n` images below `tmp_path`, used some days ago."""

    def cache(n, days=0, folder="cache"):
        paths = [tmp_path / f"{n}-{i}.png" for i in range(n)]
        for i, path in enumerate(paths):
            Image.fromarray(np.full((8, 8 + n), i, np.uint8)).save(path)
        known = set(list_cache(tmp_path / folder).name)
        X = ImageSequence(paths, cache=tmp_path / folder)
        (name,) = set(list_cache(tmp_path / folder).name) - known or {None}
        if name is not None:
            age(tmp_path / folder / name, days)
        return X, name

    return cache


def age(folder, days):
    then = time.time() - days * DAY
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (then, then))


def test_caches_are_listed_with_their_size_and_last_use(make, tmp_path):
    assert list_cache(tmp_path / "nothing").empty
    _, small = make(2, days=3)
    _, large = make(9)
    table = list_cache(tmp_path / "cache")
    assert table.name.tolist() == [large, small]
    assert table.images.tolist() == [9, 2]
    folder = tmp_path / "cache" / large
    assert table["bytes"][0] == sum(p.stat().st_size for p in folder.iterdir())
    ages = (table.last_used.max() - table.last_used).dt.total_seconds() / DAY
    assert ages.round(2).tolist() == [0, 3]


def test_what_was_not_used_is_removed_and_made_again(make, tmp_path):
    _, old = make(2, days=31)
    _, new = make(3, days=29)
    removed = clear_cache(cache=tmp_path / "cache")
    assert removed.name.tolist() == [old]
    assert removed.images.tolist() == [2]
    assert list_cache(tmp_path / "cache").name.tolist() == [new]
    X, again = make(2)
    assert again == old
    assert X.to_numpy()[:, 0, 0].tolist() == [0, 1]
    assert len(clear_cache(0, cache=tmp_path / "cache")) == 2
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(ValueError, match="unused_days=-1"):
        clear_cache(-1, cache=tmp_path / "cache")


def test_use_is_what_counts(make, tmp_path):
    make(2, days=40)
    make(2)  # finds it again
    assert clear_cache(cache=tmp_path / "cache").empty


def test_drafts_of_killed_processes_are_swept_after_a_day(make, tmp_path):
    cache = tmp_path / "cache"
    for name, days in (("draft-killed", 2), ("draft-at-work", 0.5)):
        (cache / name).mkdir(parents=True)
        (cache / name / "part-0").write_bytes(bytes(99))
        age(cache / name, days)
    assert set(list_cache(cache).name) == {"draft-killed", "draft-at-work"}
    make(2)  # sweeps before it makes its own
    names = set(os.listdir(cache))
    assert "draft-killed" not in names
    assert "draft-at-work" in names
    clear_cache(0, cache=cache)
    assert os.listdir(cache) == ["draft-at-work"]


def test_what_is_not_ours_stays(make, tmp_path, monkeypatch):
    cache, name = tmp_path / "cache", "0123456789abcdef" * 2
    make(2, days=99)
    (cache / name).mkdir()
    (cache / name / "thesis.docx").write_text("mine")
    (cache / "draft-thesis").mkdir()
    (cache / "draft-thesis" / "thesis.docx").write_text("mine")
    (cache / "notes").mkdir()
    (cache / "pixels.npy").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "records.json").write_text("[]")
    (cache / name[::-1]).symlink_to(elsewhere)
    for folder in (name, "draft-thesis", "notes"):
        age(cache / folder, 99)
    assert len(clear_cache(0, cache=cache)) == 1
    left = {name, name[::-1], "draft-thesis", "notes", "pixels.npy"}
    assert set(os.listdir(cache)) == left
    assert (elsewhere / "records.json").exists()
    if hasattr(os, "getuid"):
        make(3, days=99)
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        assert list_cache(cache).empty
        assert clear_cache(0, cache=cache).empty


def test_a_full_disk_says_what_makes_room(make, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("skmedimg._pixel_cache._fill", full)
    with pytest.raises(OSError, match=r"does not fit.*clear_cache\(\)"):
        make(2)


def test_arguments_that_are_mixed_up(tmp_path):
    with pytest.raises(TypeError, match=r"unused_days='a': .* is cache="):
        clear_cache("a")
    for call in (lambda: list_cache(7), lambda: clear_cache(cache=None)):
        with pytest.raises(TypeError, match="pass True, or a folder"):
            call()


def test_a_folder_that_cannot_be_used_says_the_way_out(make, tmp_path, monkeypatch):
    way = r"cache=None .*--no-cache.*XDG_CACHE_HOME"
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/below"):
        with pytest.raises(NotADirectoryError, match=f"{folder}: not a dir.*{way}"):
            make(2, folder=folder)

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("skmedimg._pixel_cache.tempfile.mkdtemp", refuse)
    with pytest.raises(PermissionError, match=f"cannot be written.*{way}"):
        make(2)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(PermissionError, match=f"permission denied.*{way}"):
        make(2)
