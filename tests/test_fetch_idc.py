"""Cohorts of a public archive: seen before they are fetched, and fetched whole."""

import logging
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from skmedimg._privacy import pseudonym
from skmedimg.datasets import _idc, fetch_idc

UUID = "0123456{}-0123-4567-89ab-0123456789ab"


@pytest.fixture
def archive(write_dicom, tmp_path):
    """Three series of two patients: what a bucket holds, and the cohort of it."""
    rows = []
    for number, patient in enumerate(("PAT-1", "PAT-1", "PAT-2")):
        uuid, n_files = UUID.format(number), number + 1
        (tmp_path / "bucket" / uuid).mkdir(parents=True)
        sizes = []
        for file in range(n_files):
            pixels = np.full((4, 6), 100 * number + file, np.uint16)
            name = f"bucket/{uuid}/{file}.dcm"
            uid = f"1.2.{number}"
            path = write_dicom(
                pixels, name, PatientID=patient, SeriesInstanceUID=uid, Modality="MR"
            )
            sizes.append(path.stat().st_size)
        rows.append(
            {
                "collection": "made_up",
                "patient": pseudonym(patient),
                "modality": "CT" if number == 1 else "MR",
                "body_part": "HEAD",
                "n_files": n_files,
                "n_bytes": sum(sizes),
                "licence": "CC BY-NC 3.0" if number == 1 else "CC BY 4.0",
                "doi": "10.0/made.up",
                "series": f"1.2.{number}",
                "url": f"s3://idc-open-data/{uuid}/*",
                "idc_version": 25,
            }
        )
    return pd.DataFrame(rows)


class Client:
    """Downloads from the folder `bucket`, as idc-index's client would."""

    def __init__(self, bucket):
        self.bucket, self.orders = bucket, []

    def download_from_manifest(self, orders, folder, **params):
        lines = Path(orders).read_text(encoding="utf-8").splitlines()
        self.orders.append([re.search(r"\w{8}-[\w-]+", line)[0] for line in lines])
        self.params = params
        for uuid in self.orders[-1]:
            source = self.bucket / uuid
            target = f"{folder}/1.2.{uuid[7]}"
            shutil.copytree(source, target, dirs_exist_ok=True)


@pytest.fixture
def client(monkeypatch, tmp_path):
    client = Client(tmp_path / "bucket")
    monkeypatch.setattr(_idc, "_client", lambda: client)
    return client


def test_what_a_cohort_is_before_anything_is_downloaded(archive, client, tmp_path):
    plan = fetch_idc(archive, dry_run=True, data_home=tmp_path)
    assert plan.licences == ["CC BY 4.0", "CC BY-NC 3.0"]
    assert plan.n_bytes == archive.n_bytes.sum()
    for part in ("2 patients, 3 series, 6 files", "v25", "CC BY-NC 3.0 (1 series)"):
        assert part in plan.DESCR
    assert "https://doi.org/10.0/made.up" in plan.DESCR
    assert len(fetch_idc(archive, n_patients=1, dry_run=True).cohort) == 2
    assert len(fetch_idc(archive, modality="MR", dry_run=True).cohort) == 2
    assert client.orders == []
    assert not plan.folder.exists()


def test_noncommercial_licences_want_consent(archive, client, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 3 .*BY-NC 3.0.*accept_noncommercial"):
        fetch_idc(archive, data_home=tmp_path)
    assert client.orders == []
    free = fetch_idc(archive, modality="MR", data_home=tmp_path)
    assert len(free.images) == 4
    everything = fetch_idc(archive, accept_noncommercial=True, data_home=tmp_path)
    assert len(everything.images) == 6


def test_licences_that_are_not_known_want_consent_too(archive, client, tmp_path):
    blank = archive.assign(licence=["CC BY 4.0", None, float("nan")], doi=[None] * 3)
    assert "unknown (2 series)" in fetch_idc(blank, dry_run=True).DESCR
    with pytest.raises(ValueError, match=r"2 of 3 series are licensed unknown"):
        fetch_idc(blank, data_home=tmp_path)
    assert client.orders == []
    params = {"accept_noncommercial": True, "data_home": tmp_path}
    data = fetch_idc(blank, **params)
    assert fetch_idc(data.folder / "manifest.csv", **params).licences == data.licences


@pytest.mark.parametrize("off", [-4000, 4000])
def test_sizes_that_the_index_rounds(archive, client, tmp_path, off):
    """To hundredths of a MB: 30000 bytes are 25000 to 35000."""
    file = tmp_path / "bucket" / UUID.format(0) / "0.dcm"
    body = file.read_bytes()
    file.write_bytes(body + bytes(30_000 + off - len(body)))
    series = archive[:1].assign(n_bytes=30_000)
    for _ in range(2):
        fetch_idc(series, data_home=tmp_path)
    assert len(client.orders) == 1
    (tmp_path / "again").mkdir()
    file.write_bytes(body + bytes(30_000 + 2 * off - len(body)))
    with pytest.raises(OSError, match="1 of 1 series"):
        fetch_idc(series, data_home=tmp_path / "again")


def test_images_patients_and_the_way_back(archive, client, tmp_path):
    params = {"accept_noncommercial": True, "data_home": tmp_path, "image_size": (4, 6)}
    data = fetch_idc(archive, **params)
    assert data.images.shape == (6, 4, 6)
    assert sorted(data.images.to_numpy()[:, 0, 0]) == [0, 100, 101, 200, 201, 202]
    assert set(data.groups) == set(data.cohort.patient)
    assert "6 images of 2 patients" in data.DESCR
    fetch_idc(archive, **params)
    assert len(client.orders) == 1  # what is there is not downloaded again

    manifest = data.folder / "manifest.csv"
    text = manifest.read_text()
    assert "PAT-" not in text
    assert pseudonym("PAT-1") not in text
    elsewhere = tmp_path / "elsewhere"
    again = fetch_idc(manifest, **params | {"data_home": elsewhere})
    np.testing.assert_array_equal(again.images, data.images)
    assert again.folder.name == data.folder.name
    X, y = fetch_idc(manifest, return_X_y=True, **params)
    assert len(X) == 6
    assert y is None


def test_a_download_that_is_not_whole(archive, client, tmp_path):
    params = {"accept_noncommercial": True, "data_home": tmp_path}
    lost = client.bucket / UUID.format(2) / "1.dcm"
    body = lost.read_bytes()
    lost.write_bytes(body[:-10])
    with pytest.raises(OSError, match=r"1 of 3 series.*not whole.*goes on there"):
        fetch_idc(archive, **params)
    lost.write_bytes(body)
    with pytest.raises(OSError, match=r"1 of 3.*download_if_missing=True"):
        fetch_idc(archive, download_if_missing=False, **params)
    assert len(fetch_idc(archive, **params).images) == 6
    assert [len(order) for order in client.orders] == [3, 1]
    assert client.params["use_s5cmd_sync"]


def test_refusals(archive, client, tmp_path):
    with pytest.raises(ValueError, match="modality='PT': there is CT, MR"):
        fetch_idc(archive, modality="PT")
    with pytest.raises(ValueError, match="n_patients=0"):
        fetch_idc(archive, n_patients=0)
    with pytest.raises(ValueError, match="max_gigabytes=1e-07"):
        fetch_idc(archive[:1], max_gigabytes=1e-7, data_home=tmp_path)
    with pytest.raises(ValueError, match="no column 'licence'"):
        fetch_idc(archive.drop(columns="licence"))
    for column, value in (("series", ".."), ("url", "s3://a/b\nrm *"), ("series", "")):
        with pytest.raises(ValueError, match=f"no valid {column}; the first is row 1"):
            fetch_idc(archive.assign(**{column: [archive[column][0], value, value]}))
    assert client.orders == []


def test_without_idc_index(monkeypatch, archive, tmp_path):
    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    with pytest.raises(ImportError, match=r"pip install 'skmedimg\[idc\]'"):
        fetch_idc("prostate_3t", dry_run=True)
    with pytest.raises(ImportError, match=r"pip install 'skmedimg\[idc\]'"):
        fetch_idc(archive[:1], data_home=tmp_path)


# With the real index, where it is installed


@pytest.fixture
def index():
    return pytest.importorskip("idc_index_data", reason="needs skmedimg[idc]")


def test_a_real_collection(index):
    plan = fetch_idc("prostate_3t", dry_run=True)
    assert len(set(plan.cohort.patient)) == 64
    assert plan.n_bytes == 297_715_610
    assert plan.licences == ["CC BY 3.0"]
    assert len(fetch_idc("prostate_3t", n_patients=3, dry_run=True).cohort) == 3
    with pytest.raises(ValueError, match="Similar ones: prostate_3t"):
        fetch_idc("Prostate-3T")
    with pytest.raises(ValueError, match=r"CC BY-NC 3\.0"):
        fetch_idc("nsclc_radiomics_interobserver1")


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as s5cmd needs to list and copy."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        if "location" in query:
            return self.answer(b"<LocationConstraint/>")
        if "list-type" in query:
            return self.answer(self.listing(query.get("prefix", [""])[0]))
        if url.path.strip("/") == "idc-open-data":
            return self.answer(b"")
        uuid, _, name = url.path.removeprefix("/idc-open-data/").partition("/")
        body = self.server.files[uuid][name]
        self.server.sent.append(name)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span is None:
            return self.answer(body)
        start, end = int(span[1]), min(int(span[2]) + 1, len(body))
        place = f"bytes {start}-{end - 1}/{len(body)}"
        return self.answer(body[start:end], 206, place)

    def listing(self, prefix):
        uuid = prefix.partition("/")[0]
        contents = "".join(
            f"<Contents><Key>{uuid}/{name}</Key><Size>{len(body)}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            '<ETag>"e"</ETag><StorageClass>STANDARD</StorageClass></Contents>'
            for name, body in self.server.files.get(uuid, {}).items()
        )
        return (
            '<?xml version="1.0"?><ListBucketResult><Name>idc-open-data</Name>'
            f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        ).encode()

    def answer(self, body, status=200, place=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("ETag", '"e"')
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def bucket(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as web:
        web.daemon_threads = True
        web.files, web.sent = {}, []
        thread = threading.Thread(target=web.serve_forever, args=(0.02,))
        thread.start()
        yield web
        web.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_real_program_downloads(index, archive, bucket, monkeypatch, tmp_path):
    """Real addresses of the archive, served from this machine."""
    pytest.importorskip("idc_index", reason="needs skmedimg[idc]")
    before = logging.getLogger().handlers[:]
    _idc._client()
    assert logging.getLogger().handlers == before
    url = f"http://127.0.0.1:{bucket.server_port}"
    monkeypatch.setattr("idc_index.index.aws_endpoint_url", url)
    cohort = fetch_idc("prostate_3t", n_patients=3, dry_run=True).cohort
    uuids = [address.split("/")[3] for address in cohort.url]
    for number, uuid in enumerate(uuids):
        folder = tmp_path / "bucket" / UUID.format(number)
        bucket.files[uuid] = {p.name: p.read_bytes() for p in folder.iterdir()}
    cohort[["n_files", "n_bytes"]] = archive[["n_files", "n_bytes"]]
    held_back = bucket.files[uuids[2]].pop("1.dcm")
    with pytest.raises(OSError, match="1 of 3 series"):
        fetch_idc(cohort, data_home=tmp_path)
    bucket.files[uuids[2]]["1.dcm"] = held_back
    bucket.sent.clear()
    data = fetch_idc(cohort, data_home=tmp_path)
    assert sorted(data.images.to_numpy()[:, 0, 0]) == [0, 100, 101, 200, 201, 202]
    assert set(bucket.sent) == {"1.dcm"}  # and nothing that was there
    fetch_idc(data.folder / "manifest.csv", data_home=tmp_path)
