"""Folders listed from their headers, and what no list or message may show."""

import time
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from series_files import (
    CT,
    SPL,
    enhanced,
    header,
    image,
    save,
    slices,
)

from skmedimg._privacy import find_identifying, pseudonym
from skmedimg._scan import scan_dicom
from skmedimg._series import read_dicom_series
from skmedimg.exceptions import InvalidImageError


@pytest.fixture(autouse=True)
def one_key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


# Listing folders.


def archive(folder):
    """Images of several kinds, objects without pixels, and what is no DICOM."""
    save(folder / "mr", slices()[:2])
    kernel = {"ConvolutionKernel": ["B30f", "3"], "Modality": "CT", "SOPClassUID": CT}
    save(folder / "ct", [image(SPL[0], PixelSpacing=(0.7, 0.8), **kernel)])
    mammogram = {"ImageLaterality": "L", "ViewPosition": "CC", "Modality": "MG"}
    spacing = {"PixelSpacing": None, "ImagerPixelSpacing": (0.1, 0.1)}
    save(folder / "mg", [image(SPL[0], SliceThickness=None, **mammogram, **spacing)])
    save(folder / "enhanced", [enhanced(SPL, [(3 * i, 5) for i in range(5)])])
    for i, modality in enumerate(("SR", "PR", "KO")):
        save(folder / "objects", [header(f"1.2.840.9.{i}", Modality=modality)], start=i)
    (folder / "LICENSE").write_text("as you like")
    (folder / "empty").touch()
    data = next((folder / "ct").iterdir()).read_bytes()
    (folder / "cut.dcm").write_bytes(data[:140])
    return folder


def test_table_of_a_folder(tmp_path):
    table = scan_dicom(archive(tmp_path / "archive"))
    assert len(table) == 11
    table.index = pd.Index([p.split("/")[0] for p in table.path])
    images = table[table.image]
    assert list(images.index) == ["ct", "enhanced", "mg", "mr", "mr"]
    assert images.modality.tolist() == ["CT", "MR", "MG", "MR", "MR"]
    assert set(images.patient) == {pseudonym("HILL-0042")}
    assert set(images.study) == {pseudonym("1.2.3.77.1")}
    assert set(images.series) == {pseudonym("1.2.3.77.2")}
    assert images.rows.tolist() == [6] * 5
    assert images["columns"].tolist() == [7] * 5
    assert images.frames.tolist() == [1, 5, 1, 1, 1]
    assert images.row_spacing.tolist() == [0.7, 2.0, 0.1, 2.0, 2.0]
    assert images.column_spacing.tolist() == [0.8, 0.5, 0.1, 0.5, 0.5]
    assert images.loc["ct", "kernel"] == "B30f\\3"
    assert images.loc["mg", ["laterality", "view"]].tolist() == ["L", "CC"]
    assert np.isnan(images.loc["mg", "slice_thickness"])
    assert images.loc["enhanced", "slice_thickness"] == 3
    assert images.error.isna().all()
    objects = table.loc["objects"]
    assert objects.modality.tolist() == ["SR", "PR", "KO"]
    assert not objects.image.any()
    assert objects.error.isna().all()
    assert table.loc["LICENSE", "error"] == "is not a DICOM file"
    assert table.loc["empty", "error"] == "is empty"


def test_table_in_parallel_is_the_same(tmp_path):
    folder = archive(tmp_path / "archive")
    pd.testing.assert_frame_equal(scan_dicom(folder), scan_dicom(folder, n_jobs=2))


def test_linked_folders_are_listed_once(tmp_path):
    disk = save(tmp_path / "disk", slices()[:2])
    folder = save(tmp_path / "archive" / "patient", slices()[:1]).parent
    own = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*"))
    linked = [f"patient/year/linked/{path.name}" for path in sorted(disk.iterdir())]
    (folder / "patient" / "year").mkdir()
    (folder / "patient" / "year" / "linked").symlink_to(disk)
    assert scan_dicom(folder).path.tolist() == own + linked
    # To a folder above, to itself, and to one that lies below without a link.
    (folder / "patient" / "year" / "up").symlink_to(tmp_path)
    (disk / "loop").symlink_to(disk)
    (folder / "a").symlink_to(folder / "patient")
    assert scan_dicom(folder).path.tolist() == own + linked


def test_table_of_nothing(tmp_path):
    table = scan_dicom(tmp_path)
    assert len(table) == 0
    assert "series" in table
    with pytest.raises(NotADirectoryError):
        scan_dicom(tmp_path / "nowhere")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_two_thousand_files_in_seconds(syntax, tmp_path):
    dataset = image(SPL[0])
    dataset.file_meta.TransferSyntaxUID = syntax
    for i in range(2000):
        if i % 200 == 0:
            folder = tmp_path / "archive" / str(i)
            folder.mkdir(parents=True)
        if i == 0:
            dataset.save_as(folder / "0.dcm", enforce_file_format=True)
            data = (folder / "0.dcm").read_bytes()
        (folder / f"{i}.dcm").write_bytes(data)
    start = time.perf_counter()
    table = scan_dicom(tmp_path / "archive", n_jobs=2)
    elapsed = time.perf_counter() - start
    assert table.image.sum() == 2000
    assert elapsed < 12  # ten thousand in a minute


def test_nothing_identifying_in_tables_messages_and_representations(tmp_path):
    folder = archive(tmp_path / "archive")
    dataset = next(d for d in slices() if d.Modality == "MR")
    table = scan_dicom(folder)
    texts = [table.to_csv(), repr(table), str(table.to_dict())]
    with pytest.raises(InvalidImageError) as caught:
        read_dicom_series(folder / "mr", series="1.2.3.77.2:echo=9")
    texts += [str(caught.value), repr(caught.value)]
    meta = read_dicom_series(folder / "mr")[1]
    texts += [repr(meta), str(meta)]
    for shown in texts:
        assert find_identifying(shown, dataset) == []
        assert str(tmp_path) not in shown


def test_warnings_of_the_parser_do_not_quote_the_header(tmp_path, capsys):
    datasets = slices()
    data = []
    for i, one in enumerate(datasets):
        one.save_as(tmp_path / f"{i}.dcm", enforce_file_format=True)
        # Not what the standard allows in a UID, a date, a number.
        raw = (tmp_path / f"{i}.dcm").read_bytes()
        raw = raw.replace(b"1.2.3.77.2", b"1.2.3.77.x").replace(
            b"19660102", b"1966-1-2"
        )
        (tmp_path / f"{i}.dcm").write_bytes(raw)
        data.append(raw)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = scan_dicom(tmp_path)
        read_dicom_series(tmp_path)
    assert table.image.all()
    shown = " ".join(str(w.message) for w in caught) + "".join(capsys.readouterr())
    assert "77.x" not in shown
    assert "1966" not in shown


def test_any_damage_gives_a_table_and_a_volume_or_a_clear_error(tmp_path):
    folder = save(tmp_path / "scan", slices()[:2])
    path, _ = sorted(folder.iterdir())
    good = path.read_bytes()
    dataset = pydicom.dcmread(path)
    rng = np.random.default_rng(0)
    slowest, messages = 0.0, []
    tracemalloc.start()
    for i in range(120):
        data = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(132, len(data))] ^= 1 << rng.integers(8)
        if i % 4 == 0:
            del data[rng.integers(len(data)) :]
        path.write_bytes(data)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(scan_dicom(folder)) == 2
            try:
                read_dicom_series(folder)
            except InvalidImageError as error:
                messages.append(str(error))
        slowest = max(slowest, time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(messages) > 20
    assert not any(find_identifying(message, dataset) for message in messages)
    assert slowest < 1
    assert peak < 3e7


@pytest.mark.data
def test_real_folder_of_patients_is_listed(data_file):
    folder = data_file("ct_contrast_dicom")
    table = scan_dicom(folder, n_jobs=2)
    images = table[table.image]
    assert len(images) == 24
    assert images.patient.nunique() == 24
    assert (images.modality == "CT").all()
    assert images.slice_thickness.notna().all()
    assert images.kernel.notna().all()
    for path in images.path:
        dataset = pydicom.dcmread(folder / path, stop_before_pixels=True)
        assert find_identifying(images.drop(columns="path").to_csv(), dataset) == []
