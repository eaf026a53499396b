"""What a download promises: the official file, whole, or an error and no file."""

import dataclasses
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from skmedimg.datasets import fetch_medmnist, load_medmnist
from skmedimg.datasets._medmnist_facts import MEDMNIST

NAME = "breastmnist.npz"
ROOT = Path(__file__).parents[1]


class Handler(BaseHTTPRequestHandler):
    """Serves the bytes of `server.body`, in the way that the test has set."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        with server.guard:
            server.asked.append(asked)
            server.paths.append(self.path)
            cut = server.cuts.pop(0) if server.cuts else None
            status = server.statuses.pop(0) if server.statuses else None
        if status is not None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start = server.body, 0
        known = self.headers.get("If-Range") in (None, server.tag)
        if asked and server.ranges and (known or server.careless):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            place = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", place)
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.measured:
            self.send_header("Content-Length", str(len(body) - start))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        self.send(body[start : start + cut] if cut is not None else body[start:])
        if cut is not None:
            self.close_connection = True

    def send(self, body):
        for at in range(0, len(body), 1 << 14):
            time.sleep(self.server.pause)
            part = body[at : at + (1 << 14)]
            # Counted first: who has read the last part may look before we go on.
            self.server.sent += len(part)
            try:
                self.wfile.write(part)
            except (ConnectionError, TimeoutError):
                return

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; a proxy is for other machines."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        web.guard = threading.Lock()
        web.asked, web.paths, web.cuts, web.statuses = [], [], [], []
        web.ranges, web.careless, web.measured = True, False, True
        web.tag, web.pause, web.sent = '"first"', 0.0, 0
        web.url = f"http://127.0.0.1:{web.server_port}"
        web.body = _file(0)
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield web
        web.shutdown()
        thread.join()


@pytest.fixture
def official(server, monkeypatch):
    """The file that the server has is the official one."""
    _make_official(monkeypatch, server.body)


@pytest.fixture
def fetch(server, tmp_path):
    def call(**params):
        params = {"data_home": tmp_path, "mirror": server.url, "delay": 0.01} | params
        return fetch_medmnist("breastmnist", **params)

    return call


def _file(seed):
    """Random images cannot be compressed: about 400 kB in the form of MedMNIST."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, n in (("train", 60), ("val", 20), ("test", 20)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 64, 64), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(n, dtype=np.uint8)[:, np.newaxis] % 2
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _make_official(monkeypatch, body):
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    facts = dataclasses.replace(MEDMNIST["breastmnist"], md5={28: digest})
    monkeypatch.setitem(MEDMNIST, "breastmnist", facts)


def _left(folder):
    """What a user finds in the folder of downloads."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    )


# The set


def test_all_sets_are_known():
    assert len(MEDMNIST) == 18
    digests = [md5 for facts in MEDMNIST.values() for md5 in facts.md5.values()]
    assert len(set(digests)) == 12 * 4 + 6 * 2
    assert all(len(md5) == 32 and int(md5, 16) for md5 in digests)
    for name, facts in MEDMNIST.items():
        assert list(facts.md5) == ([28, 64] if "3d" in name else [28, 64, 128, 224])
        assert facts.title.lower() == name
    assert MEDMNIST["dermamnist"].licence == "CC BY-NC 4.0"


@pytest.mark.usefixtures("official")
def test_all_splits_and_what_they_are(fetch, server, tmp_path):
    data = fetch()
    assert data.images.shape == (100, 64, 64)
    assert data.target.shape == data.split.shape == (100,)
    assert data.target_names.tolist() == ["malignant", "normal, benign"]
    assert np.unique(data.split).tolist() == ["test", "train", "validation"]
    assert data.groups is None
    assert data.licence == "CC BY 4.0"
    for part in ("Yang et al.", "Al-Dhabyani", "CC BY 4.0", "100 images, 64 × 64"):
        assert part in data.DESCR
    X, y = fetch(split="validation", return_X_y=True)
    np.testing.assert_array_equal(X, data.images[data.split == "validation"])
    np.testing.assert_array_equal(y, data.target[data.split == "validation"])
    assert server.paths == [f"/{NAME}"]  # the second call needs no network
    assert _left(tmp_path) == [f"medmnist/{NAME}"]


def test_several_labels_are_an_indicator(server, monkeypatch, tmp_path):
    y = (np.arange(6 * 14).reshape(6, 14) % 3 == 0).astype(np.uint8)
    file = io.BytesIO()
    np.savez(file, test_images=np.zeros((6, 28, 28), np.uint8), test_labels=y)
    server.body = file.getvalue()
    digest = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    facts = dataclasses.replace(MEDMNIST["chestmnist"], md5={64: digest})
    monkeypatch.setitem(MEDMNIST, "chestmnist", facts)
    data = fetch_medmnist(
        "chestmnist", 64, split="test", data_home=tmp_path, mirror=server.url + "/a/"
    )
    np.testing.assert_array_equal(data.target, y)
    assert len(data.target_names) == 14
    assert server.paths == ["/a/chestmnist_64.npz"]


def test_what_cannot_be_had(tmp_path):
    with pytest.raises(ValueError, match="choose from pathmnist, chestmnist"):
        fetch_medmnist("mnist")
    with pytest.raises(ValueError, match="size=128: nodulemnist3d has 28, 64 pixels"):
        fetch_medmnist("nodulemnist3d", 128)
    with pytest.raises(ValueError, match="did you mean 'breastmnist'"):
        fetch_medmnist("brestmnist")
    with pytest.raises(ValueError, match="split='dev'"):
        fetch_medmnist("breastmnist", split="dev")
    with pytest.raises(ValueError, match="data_home"):
        fetch_medmnist("breastmnist", mirror="/mnt/share")
    with pytest.raises(OSError, match=r"is not there.*download_if_missing=True"):
        fetch_medmnist("breastmnist", data_home=tmp_path, download_if_missing=False)
    assert _left(tmp_path) == []


@pytest.mark.usefixtures("official")
def test_names_as_published(server, tmp_path):
    place = {"data_home": tmp_path, "mirror": server.url}
    for name, split in (("BreastMNIST", "val"), ("breastmnist", "validation")):
        assert len(fetch_medmnist(name, split=split, **place).images) == 20
    assert server.paths == [f"/{NAME}"]


@pytest.mark.usefixtures("official")
def test_folder_from_the_environment(fetch, monkeypatch, tmp_path):
    monkeypatch.setenv("SKMEDIMG_DATA", str(tmp_path / "shared"))
    fetch(data_home=None)
    assert _left(tmp_path) == [f"shared/medmnist/{NAME}"]


@pytest.mark.usefixtures("official")
def test_a_file_put_there_is_verified(fetch, server, tmp_path):
    path = tmp_path / "medmnist" / NAME
    path.parent.mkdir()
    path.write_bytes(server.body)
    path.parent.chmod(0o500)  # a share that only its owner may write to
    assert len(fetch(download_if_missing=False, split="test").images) == 20
    path.parent.chmod(0o700)
    assert server.paths == []
    path.write_bytes(server.body[:-1])
    with pytest.raises(OSError, match="has the md5"):
        fetch(download_if_missing=False)
    fetch()
    assert path.read_bytes() == server.body


# The transfer


@pytest.mark.usefixtures("official")
def test_a_cut_transfer_goes_on_in_the_same_call(fetch, server, tmp_path):
    server.cuts = [150_000, 100_000]
    fetch()
    assert len(server.asked) == 3
    starts = [int(asked[6:-1]) for asked in server.asked[1:]]
    assert 150_000 - (1 << 16) < starts[0] <= 150_000
    assert starts[0] < starts[1] <= starts[0] + 100_000
    assert _left(tmp_path) == [f"medmnist/{NAME}"]


@pytest.mark.usefixtures("official")
def test_a_cut_transfer_goes_on_in_the_next_call(fetch, server, tmp_path):
    server.cuts = [150_000]
    with pytest.raises(OSError, match=r"127\.0\.0\.1.*(\d+) bytes are kept"):
        fetch(n_retries=0)
    have = (tmp_path / "medmnist" / f"{NAME}.part" / "part").stat().st_size
    assert not (tmp_path / "medmnist" / NAME).exists()
    server.sent = 0
    fetch()
    assert server.asked == [None, f"bytes={have}-"]
    assert server.sent == len(server.body) - have  # the missing bytes only
    assert _left(tmp_path) == [f"medmnist/{NAME}"]


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("tag", ['"first"', None, 'W/"weak"'])
def test_servers_that_cannot_send_the_rest(fetch, server, tag, tmp_path):
    server.ranges, server.tag, server.cuts = False, tag, [150_000]
    fetch()
    assert [asked is None for asked in server.asked] == [True, tag != '"first"']
    assert (tmp_path / "medmnist" / NAME).read_bytes() == server.body


@pytest.mark.parametrize("careless", [False, True])
@pytest.mark.parametrize("tag", ['"first"', '"second"'])
def test_a_file_that_changed_meanwhile(fetch, server, monkeypatch, careless, tag):
    """Also behind a server that passes over If-Range, or has one tag for all files."""
    server.cuts = [150_000]
    with pytest.raises(OSError, match="are kept"):
        fetch(n_retries=0)
    server.body, server.tag, server.careless = _file(1), tag, careless
    _make_official(monkeypatch, server.body)
    data = fetch()
    with np.load(io.BytesIO(server.body)) as archive:
        np.testing.assert_array_equal(data.images[:60], archive["train_images"])


@pytest.mark.usefixtures("official")
def test_a_part_from_another_server_is_not_continued(fetch, server):
    server.cuts = [150_000]
    with pytest.raises(OSError, match="are kept"):
        fetch(n_retries=0)
    fetch(mirror=server.url + "/other")
    assert server.asked == [None, None]


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("size", [None, 150_000])
def test_a_part_of_wrong_bytes_is_fetched_whole_once_more(
    fetch, server, tmp_path, size
):
    """As a power cut leaves it: of the right size, of zeros."""
    server.cuts = [150_000]
    with pytest.raises(OSError, match="are kept"):
        fetch(n_retries=0)
    part = tmp_path / "medmnist" / f"{NAME}.part" / "part"
    part.write_bytes(bytes(size or len(server.body)))
    server.asked.clear()
    fetch()
    assert server.asked[-1] is None
    assert (tmp_path / "medmnist" / NAME).read_bytes() == server.body


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("note", ["[1, 2]", "null", "7", '{"size": 3}', "{"])
def test_a_note_that_says_nothing_is_passed_over(fetch, server, tmp_path, note):
    server.cuts = [150_000]
    with pytest.raises(OSError, match="are kept"):
        fetch(n_retries=0)
    folder = tmp_path / "medmnist" / f"{NAME}.part"
    (folder / "part.json").write_text(note)
    fetch()
    assert server.asked == [None, None]


@pytest.mark.usefixtures("official")
def test_a_corrupted_file_is_removed(fetch, server, tmp_path):
    right = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    body = bytearray(server.body)
    body[5000] ^= 1
    server.body = bytes(body)
    wrong = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    with pytest.raises(OSError, match=f"removed.*{right}.*{wrong}"):
        fetch()
    assert _left(tmp_path) == []
    assert len(server.asked) == 1


@pytest.mark.usefixtures("official")
def test_a_body_of_unknown_length_that_is_cut_is_not_taken(fetch, server, tmp_path):
    server.measured, server.cuts = False, [150_000]
    with pytest.raises(OSError, match="not the file it should be"):
        fetch()
    assert _left(tmp_path) == []
    assert len(fetch().images) == 100


@pytest.mark.usefixtures("official")
def test_a_busy_server_is_asked_again_and_a_lost_file_is_not(fetch, server):
    server.statuses = [503, 429]
    fetch()
    assert len(server.asked) == 3


def test_a_file_that_is_not_on_the_server(fetch, server, tmp_path):
    server.statuses = [404]
    with pytest.raises(OSError, match=r"status 404.*HTTPS_PROXY.*mirror="):
        fetch()
    assert len(server.asked) == 1
    assert _left(tmp_path) == []
    assert not (tmp_path / "medmnist" / f"{NAME}.part").exists()


def test_no_server(fetch, server):
    secret = "http://user:hush@127.0.0.1:9"  # nothing listens there
    begun = time.monotonic()
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        fetch(mirror=secret, n_retries=1)
    assert "hush" not in str(caught.value)
    assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("official")
def test_through_a_proxy(fetch, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    assert len(fetch(mirror="http://archive.invalid/sets").images) == 100
    assert server.paths == [f"http://archive.invalid/sets/{NAME}"]


@pytest.mark.usefixtures("official")
def test_quiet_off_a_terminal(fetch, capfd, tmp_path):
    fetch()
    assert capfd.readouterr() == ("", "")
    fetch(data_home=tmp_path / "again", verbose=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert NAME in shown.err
    assert str(tmp_path) not in shown.err


# Several at once

CHILD = """
import sys
from pathlib import Path
from skmedimg.datasets._download import fetch_file
url, path, md5 = sys.argv[1:]
fetch_file(url, Path(path), md5, delay=0.01)
assert Path(path).exists()
"""


def _start(server, path):
    digest = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    arguments = [f"{server.url}/{NAME}", str(path), digest]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.usefixtures("official")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_leaves_a_part_that_is_continued(fetch, server, tmp_path):
    path = tmp_path / "medmnist" / NAME
    part = path.with_name(f"{NAME}.part") / "part"
    server.pause = 0.1
    child = _start(server, path)
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    have = part.stat().st_size
    assert 0 < have < len(server.body)
    assert not path.exists()
    server.pause = 0.0
    assert len(fetch().images) == 100
    assert server.asked == [None, f"bytes={have}-"]
    assert _left(tmp_path) == [f"medmnist/{NAME}"]


def test_four_processes_at_once(server, tmp_path):
    path = tmp_path / NAME
    server.pause = 0.02
    children = [_start(server, path) for _ in range(4)]
    assert [child.wait(120) for child in children] == [0, 0, 0, 0]
    assert path.read_bytes() == server.body
    assert server.asked == [None]
    assert _left(tmp_path) == [NAME]


@pytest.mark.usefixtures("official")
def test_four_threads_at_once(fetch, server):
    server.pause = 0.002
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: len(fetch().images), range(4)))
    assert found == [100] * 4
    assert server.asked == [None]


# Real files


@pytest.mark.data
def test_the_official_file(fetch, server, data_file, tmp_path):
    server.body = data_file("medmnist/breastmnist.npz").read_bytes()
    X, y = fetch(split="train", return_X_y=True)
    assert X.shape == (546, 28, 28)
    assert y.mean() == pytest.approx(399 / 546)
    np.testing.assert_array_equal(
        fetch(split="test").images,
        load_medmnist(tmp_path / "medmnist" / NAME, "test").images,
    )
    assert len(server.asked) == 1


@pytest.mark.data
def test_the_official_volumes(server, data_file, tmp_path):
    server.body = data_file("medmnist/adrenalmnist3d.npz").read_bytes()
    data = fetch_medmnist("adrenalmnist3d", data_home=tmp_path, mirror=server.url)
    assert data.images.shape == (1188 + 98 + 298, 28, 28, 28)
    counts = [int((data.split == s).sum()) for s in ("train", "validation", "test")]
    assert counts == list(MEDMNIST["adrenalmnist3d"].n_images)


@pytest.mark.data
def test_a_rebuilt_file_is_refused(server, data_file, tmp_path):
    server.body = data_file("medmnist/pneumoniamnist.npz").read_bytes()
    with pytest.raises(OSError, match="28209eda62fecd6e6a2d98b1501bb15f"):
        fetch_medmnist("pneumoniamnist", data_home=tmp_path, mirror=server.url)
    assert _left(tmp_path) == []
