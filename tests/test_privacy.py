"""Pseudonyms and their key; what a text may not hold; names of files in messages."""

import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset

from skmedimg._image_files import Decoder
from skmedimg._privacy import (
    IDENTIFYING_KEYWORDS,
    _kept_key,
    find_identifying,
    identifying_values,
    key_source,
    pseudonym,
    relative_to,
)
from skmedimg.io import ImageSequence, scan_dicom


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """A user without a key yet; returns where it will be kept."""
    monkeypatch.delenv("SKMEDIMG_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    _kept_key.cache_clear()
    yield tmp_path / "skmedimg" / "pseudonym.key"
    _kept_key.cache_clear()


def test_pseudonym_is_keyed_stable_and_blind_to_padding():
    first = pseudonym("PAT-1", key="k")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == pseudonym("PAT-1 ", key=b"k") == pseudonym(" PAT-1\0", key="k")
    assert first != pseudonym("PAT-1", key="other")
    assert first != pseudonym("PAT-2", key="k")
    assert pseudonym(7, key="k") == pseudonym("7", key="k")


def test_pseudonym_is_the_standard_hmac():
    # RFC 4231, test case 2.
    assert pseudonym("what do ya want for nothing?", "Jefe") == "5bdcc146bf60754e"


@pytest.mark.parametrize("value", [None, "", "  ", "\0"])
def test_no_identifier_no_pseudonym(value):
    assert pseudonym(value, key="k") == ""


def test_identifier_in_any_bytes_has_a_pseudonym():
    assert len(pseudonym("M\udcfcller", key="k")) == 16


def test_key_is_made_once_and_for_its_owner_only(own_home):
    first = pseudonym("PAT-1")
    assert stat.S_IMODE(own_home.stat().st_mode) == 0o600
    assert [p.name for p in own_home.parent.iterdir()] == ["pseudonym.key"]
    _kept_key.cache_clear()
    assert pseudonym("PAT-1") == first
    own_home.unlink()
    _kept_key.cache_clear()
    assert pseudonym("PAT-1") != first


def test_key_from_the_environment_wins(own_home, monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "k")
    assert pseudonym("PAT-1") == pseudonym("PAT-1", key="k")
    assert not own_home.exists()


def test_processes_that_start_together_share_one_key(own_home):
    code = "from skmedimg._privacy import pseudonym; print(pseudonym('PAT-1'))"
    environment = {k: v for k, v in os.environ.items() if k != "SKMEDIMG_KEY"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in started}) == 1


def test_broken_or_impossible_key_says_what_to_do(own_home, monkeypatch):
    own_home.parent.mkdir()
    own_home.write_text("short")
    with pytest.raises(RuntimeError, match=r"holds 5 characters.*remove the file"):
        pseudonym("PAT-1")
    blocker = own_home.parent / "file"
    blocker.touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(blocker))
    with pytest.raises(RuntimeError, match="SKMEDIMG_KEY") as caught:
        pseudonym("PAT-1")
    assert str(own_home.parent) not in str(caught.value)


def test_keywords_are_dicom_and_span_the_profile():
    assert {k for k in IDENTIFYING_KEYWORDS if tag_for_keyword(k) is None} == set()
    assert {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "InstitutionName",
        "ReferringPhysicianName",
        "AccessionNumber",
        "StudyInstanceUID",
        "StudyDate",
        "StationName",
        "SeriesDescription",
    } <= IDENTIFYING_KEYWORDS


@pytest.fixture
def dataset():
    dataset = Dataset()
    dataset.PatientName = "Roe^Jane"
    dataset.PatientID = "02"
    dataset.PatientBirthDate = "19660101"
    dataset.PatientSex = "F"
    dataset.OtherPatientIDs = ["A77", "B78"]
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.Modality = "MR"
    item = Dataset()
    item.InstitutionName = "Hilltop Clinic"
    dataset.RequestAttributesSequence = [item]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    return dataset


def test_values_are_found_in_sequences_and_in_the_file_header(dataset):
    assert identifying_values(dataset) == {
        "PatientName": ["Roe^Jane"],
        "PatientID": ["02"],
        "PatientBirthDate": ["19660101"],
        "OtherPatientIDs": ["A77", "B78"],
        "StudyInstanceUID": ["1.2.3.4"],
        "InstitutionName": ["Hilltop Clinic"],
        "MediaStorageSOPInstanceUID": ["1.2.3.4.5"],
    }


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        ("scan of ROE, J.", ["PatientName"]),
        ("patient 02: no position", ["PatientID"]),
        ("born 1966-01-01", ["PatientBirthDate"]),
        ("ids b78", ["OtherPatientIDs"]),
        ("at Hilltop clinic.", ["InstitutionName"]),
        ("study 1.2.3.4", ["StudyInstanceUID"]),
        ("study 1.2.3.4.", ["StudyInstanceUID"]),
        ("uid 1.2.3.4.5", ["MediaStorageSOPInstanceUID"]),
        ("a heroe in 1.02 mm, 0.02, 020, 11.2.3.4, MR, F", []),
    ],
)
def test_leaks_are_named_by_keyword(dataset, text, keywords):
    assert find_identifying(text, dataset) == keywords


def test_file_is_named_below_the_folder_asked_for():
    assert relative_to("/data", "/data/a/b.dcm") == "a/b.dcm"
    assert relative_to(Path("/data"), Path("/home/jane roe/b.dcm")) == "b.dcm"
    assert relative_to("/data/b.dcm", "/data/b.dcm") == "b.dcm"
    assert relative_to(None, "x/b.dcm") == "b.dcm"


def test_workers_use_the_key_that_their_parent_has_now(write_dicom, monkeypatch):
    for i in range(300):
        path = write_dicom(name=f"{i}.dcm", PatientID=f"PAT-{i % 3}")
    # They keep the environment of their first call.
    Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
    monkeypatch.setenv("SKMEDIMG_KEY", "a key that came later")
    expected = [pseudonym(f"PAT-{i}", key="a key that came later") for i in range(3)]
    table = scan_dicom(path.parent, n_jobs=2)
    assert len(table) == 300
    assert set(table.patient) == set(expected)
    paths = [path.with_name(f"{i}.dcm") for i in range(99)]
    X = ImageSequence(paths, "patient", n_jobs=2)
    assert X.groups.tolist() == expected * 33
    assert b"a key that came later" not in pickle.dumps(X)


def test_a_key_on_its_way_is_not_shown(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a secret key")
    assert "secret" not in repr(key_source())
    assert "secret" not in repr(Decoder(patients=True))


def test_without_a_home_only_pseudonyms_fail(tmp_path, monkeypatch):
    monkeypatch.delenv("SKMEDIMG_KEY", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    assert ImageSequence([tmp_path / "a.npy"]).shape == (1, 4, 4)
    with pytest.raises(RuntimeError):
        pseudonym("PAT-1")
