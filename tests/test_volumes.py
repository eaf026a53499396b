"""Volumes of one series told apart: echoes, b-values, phases, planes, stations."""

import warnings

import numpy as np
import pytest
from series_files import (
    SPACING,
    SPL,
    enhanced,
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


def listing(folder, **options):
    with pytest.raises(InvalidImageError, match="choose one by series=") as caught:
        read_dicom_series(folder, **options)
    lines = str(caught.value).splitlines()
    return {line.split("'")[1]: line for line in lines[1:]}


def check_parts(folder, parts):
    """Each volume is listed under its name and comes when asked for by it."""
    listed = listing(folder)
    series = pseudonym("1.2.3.77.2")
    assert list(listed) == [f"{series}:{part}" for part in parts]
    for label, expected in zip(listed, parts.values(), strict=True):
        volume, _ = read_dicom_series(folder, series=label)
        np.testing.assert_array_equal(volume, expected)
    uid = "1.2.3.77.2:" + next(iter(parts))
    np.testing.assert_array_equal(
        read_dicom_series(folder, series=uid)[0], next(iter(parts.values()))
    )


def test_slice_of_another_direction_is_a_volume_of_its_own(tmp_path):
    datasets = slices()
    tilted = datasets[2]
    tilted.ImageOrientationPatient = [1, 0, 0, 0, np.cos(0.2), np.sin(0.2)]
    folder = save(tmp_path / "scan", datasets)
    assert sorted(" 4 × " in line for line in listing(folder).values()) == [False, True]


def test_echoes(tmp_path):
    first = slices(EchoNumbers=1, EchoTime=4.9)
    second = slices(SPL + 1000, EchoNumbers=2, EchoTime=7.4)
    folder = save(tmp_path / "scan", [*first, *second])
    check_parts(folder, {"echo=1": SPL, "echo=2": SPL + 1000})


def test_echoes_without_numbers(tmp_path):
    datasets = [*slices(EchoTime=4.9), *slices(SPL + 1000, EchoTime=7.4)]
    folder = save(tmp_path / "scan", datasets)
    check_parts(folder, {"echo=4.9": SPL, "echo=7.4": SPL + 1000})


def test_b_values_of_the_standard_and_of_vendors(tmp_path):
    datasets = [*slices(DiffusionBValue=0.0), *slices(SPL + 7, DiffusionBValue=800.0)]
    folder = save(tmp_path / "standard", datasets)
    check_parts(folder, {"b=0": SPL, "b=800": SPL + 7})

    datasets = [slices(), slices(SPL + 7)]
    for b, volume in zip((50, 1_000_000_800), datasets, strict=True):
        for one in volume:
            block = one.private_block(0x0043, "GEMS_PARM_01", create=True)
            block.add_new(0x39, "IS", [b, 8, 0, 0])
    folder = save(tmp_path / "vendor", [*datasets[0], *datasets[1]])
    check_parts(folder, {"b=50": SPL, "b=800": SPL + 7})


def test_times_and_phases(tmp_path):
    volumes = [SPL, SPL + 7, SPL + 70]
    datasets = [
        one
        for t, volume in enumerate(volumes, 1)
        for one in slices(volume, TemporalPositionIdentifier=t)
    ]
    folder = save(tmp_path / "times", datasets)
    check_parts(folder, {f"time={t}": v for t, v in enumerate(volumes, 1)})

    # A heart: the trigger times differ a little from slice to slice.
    datasets = []
    for t, volume in enumerate(volumes):
        datasets += slices(volume)
        for i, one in enumerate(datasets[-5:]):
            one.TriggerTime = 100 * t + i
    folder = save(tmp_path / "heart", datasets)
    check_parts(folder, {f"trigger={t}": v for t, v in enumerate(volumes, 1)})


def test_repetitions_by_time_of_day_do_not_show_it(tmp_path):
    datasets = [*slices(), *slices(SPL + 7)]
    for i, one in enumerate(datasets):
        one.AcquisitionTime = f"1314{i:02d}"
    folder = save(tmp_path / "scan", datasets)
    check_parts(folder, {"repetition=1": SPL, "repetition=2": SPL + 7})


def test_second_acquisition_of_a_part(tmp_path):
    second = slices(SPL + 7, AcquisitionNumber=2)[3:]
    folder = save(tmp_path / "scan", [*slices(AcquisitionNumber=1), *second])
    check_parts(folder, {"acquisition=1": SPL, "acquisition=2": SPL[3:] + 7})


def test_acquisition_numbers_alone_do_not_part_a_volume(tmp_path):
    datasets = slices()
    for i, one in enumerate(datasets):
        one.AcquisitionNumber = one.InstanceNumber = i
    np.testing.assert_array_equal(
        read_dicom_series(save(tmp_path / "scan", datasets))[0], SPL
    )


def test_two_stations_side_by_side(tmp_path):
    upper, lower = slices(), slices(SPL + 7)
    for one in lower:
        one.ImagePositionPatient[1] += 200
    folder = save(tmp_path / "scan", [*upper, *lower])
    check_parts(folder, {"station=1": SPL, "station=2": SPL + 7})


def test_localiser_is_listed_with_its_planes(tmp_path):
    datasets = slices(ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], SeriesNumber=2)
    for code in ("SPL", "PSL", "LSP"):
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        localiser = slices(code=code, ImageType=kind, SeriesNumber=1)[1]
        localiser.SeriesInstanceUID = "1.2.3.77.1"
        datasets.append(localiser)
    folder = save(tmp_path / "scan", datasets)
    listed = listing(folder)
    assert len(listed) == 4
    lines = list(listed.values())
    assert [
        plane in line
        for line, plane in zip(lines, ("axial", "coronal", "sagittal"), strict=False)
    ]
    assert all("LOCALIZER" in line for line in lines[:3])
    assert list(listed)[3] == pseudonym("1.2.3.77.2")
    volume = read_dicom_series(folder, series=list(listed)[3])[0]
    np.testing.assert_array_equal(volume, SPL)


def test_several_series_are_chosen_by_pseudonym_or_uid(tmp_path):
    save(tmp_path / "scan", slices())
    save(tmp_path / "scan", slices(SPL + 7, SeriesInstanceUID="1.2.3.77.9"), start=1)
    table = scan_dicom(tmp_path / "scan")
    assert table.series.nunique() == 2
    by_uid = read_dicom_series(tmp_path / "scan", series="1.2.3.77.9")[0]
    np.testing.assert_array_equal(by_uid, SPL + 7)
    for series in table.series.unique():
        assert read_dicom_series(tmp_path / "scan", series=series)[1].series == series
    listed = listing(tmp_path / "scan", series="1.2.3.77.666")
    assert set(listed) == set(table.series)


def test_sizes_and_image_types_are_told_apart(tmp_path):
    phase = slices(SPL + 7, ImageType=["ORIGINAL", "PRIMARY", "P"])
    folder = save(tmp_path / "scan", [*slices(), *phase])
    names = {"type=ORIGINAL/PRIMARY/M": SPL, "type=ORIGINAL/PRIMARY/P": SPL + 7}
    check_parts(folder, names)
    small = slices(SPL[:, :3])
    folder = save(tmp_path / "sizes", [*slices(), *small])
    check_parts(folder, {"size=3×7": SPL[:, :3], "size=6×7": SPL})


def test_enhanced_image_in_any_order_of_its_frames(tmp_path):
    order = [3, 0, 4, 1, 2]
    dataset = enhanced(SPL[order], [(30 + 3 * i, 5) for i in order])
    folder = save(tmp_path / "scan", [dataset])
    for source in (folder, next(folder.iterdir())):
        volume, meta = read_dicom_series(source)
        np.testing.assert_array_equal(volume, SPL)
        assert meta.spacing == pytest.approx(SPACING)
    with_echoes = enhanced(
        np.concatenate([SPL, SPL + 7])[::-1],
        [(30 + 3 * i, echo) for echo in (9, 5) for i in reversed(range(5))],
    )
    check_parts(
        save(tmp_path / "echoes", [with_echoes]), {"echo=5": SPL, "echo=9": SPL + 7}
    )


def test_codes_that_are_none_are_not_shown(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strange = slices(SPL + 7, ImageType=["ORIGINAL", "PRIMARY", "Jane Roe"])
        folder = save(tmp_path / "scan", [*slices(Modality="Edgar Poe"), *strange])
    listed = listing(folder)
    assert find_identifying(str(listed), slices()[0]) == []
    label = next(label for label in listed if "PRIMARY/M" not in label)
    volume = read_dicom_series(folder, series=label)[0]
    np.testing.assert_array_equal(volume, SPL + 7)
