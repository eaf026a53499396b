"""Series of DICOM slices as volumes, volumes told apart, and folders listed."""

import itertools
import random
import time
import tracemalloc
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from skmedimg._nifti import read_nifti
from skmedimg._orientation import reorient
from skmedimg._privacy import find_identifying, pseudonym
from skmedimg._read_image import read_image
from skmedimg._scan import scan_dicom
from skmedimg._series import read_dicom_series
from skmedimg.exceptions import InvalidImageError

MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1, 0, 0, 0, 1, 0)
SPL = np.random.default_rng(0).permutation(4000)[:210].reshape(5, 6, 7).astype("i2")
SPACING = (3.0, 2.0, 0.5)
IDENTITY = {
    "PatientName": "Roe^Jane",
    "PatientID": "HILL-0042",
    "PatientBirthDate": "19660102",
    "InstitutionName": "Hilltop Clinic",
    "ReferringPhysicianName": "Poe^Edgar",
    "AccessionNumber": "ACC7781",
    "StationName": "SCANNER9",
    "StudyDate": "20130717",
    "SeriesDescription": "for Dr Poe",
    "StudyInstanceUID": "1.2.3.77.1",
}


@pytest.fixture(autouse=True)
def one_key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


def header(sop_class=MR, syntax=ExplicitVRLittleEndian, **elements):
    """A data set with an identity and nothing else in it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = sop_class
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    defaults = {"SOPClassUID": sop_class, "SOPInstanceUID": generate_uid()}
    defaults |= IDENTITY | {"SeriesInstanceUID": "1.2.3.77.2", "Modality": "MR"}
    for keyword, value in (defaults | elements).items():
        setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def image(pixels, **elements):
    """A single slice; position and cosines None leave these elements out."""
    geometry = {
        "PixelSpacing": SPACING[1:],
        "ImagePositionPatient": (0, 0, 0),
        "ImageOrientationPatient": AXIAL,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SliceThickness": 3,
    }
    elements = {k: v for k, v in (geometry | elements).items() if v is not None}
    dataset = header(**elements)
    fill(dataset, pixels)
    return dataset


def fill(dataset, pixels):
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = pixels.astype("<i2").tobytes()


def save(folder, datasets, start=0):
    """Write files whose names say nothing about their order."""
    folder.mkdir(exist_ok=True, parents=True)
    names = random.Random(len(datasets)).sample(range(10_000), len(datasets))
    for name, dataset in zip(names, datasets, strict=True):
        path = folder / f"{start}{name:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
    return folder


def slices(volume=SPL, code="SPL", **elements):
    """Slices of a volume in SPL, acquired along the axes that `code` says."""
    stored, order = reorient(volume, "SPL", code)
    toward = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)}
    toward |= {"R": (-1, 0, 0), "A": (0, -1, 0), "I": (0, 0, -1)}
    directions = np.array([toward[letter] for letter in code])
    steps = directions * np.array([SPACING[k] for k in order])[:, np.newaxis]
    # The corner that (L, P, S) = (-10, 20, 30) has in the volume as it is in SPL.
    corner = np.array([-10.0, 20.0, 30.0])
    ends = np.array([0.5 * 6, 2.0 * 5, 3.0 * 4])
    corner = corner + np.where(directions.sum(0) < 0, ends, 0)
    return [
        image(
            pixels,
            ImagePositionPatient=(corner + i * steps[0]).tolist(),
            ImageOrientationPatient=[*directions[2].tolist(), *directions[1].tolist()],
            PixelSpacing=[SPACING[order[1]], SPACING[order[2]]],
            **elements,
        )
        for i, pixels in enumerate(stored)
    ]


CODES = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]


@pytest.mark.parametrize("code", CODES)
def test_slices_in_any_direction_give_one_volume(code, tmp_path):
    volume, meta = read_dicom_series(save(tmp_path / "scan", slices(code=code)))
    np.testing.assert_array_equal(volume, SPL)
    assert volume.flags.c_contiguous
    assert meta.spacing == pytest.approx(SPACING)
    assert meta.orientation == "SPL"
    row, column = np.array(meta.cosines).reshape(2, 3)
    assert row.tolist() == [1, 0, 0]
    assert column.tolist() == [0, 1, 0]
    np.testing.assert_allclose(meta.positions[0], (-10, 20, 30))
    np.testing.assert_allclose(meta.positions[-1], (-10, 20, 42))


def test_own_axes_are_slices_along_the_normal_rows_and_columns(tmp_path):
    folder = save(tmp_path / "scan", slices(code="LIP"))
    volume, meta = read_dicom_series(folder, orientation=None)
    # Rows go to inferior, columns to posterior: their normal points to the right.
    assert meta.orientation == "RIP"
    np.testing.assert_array_equal(volume, reorient(SPL, "SPL", "RIP")[0])
    assert meta.spacing == pytest.approx((0.5, 3.0, 2.0))


def test_what_is_given_may_be_a_folder_with_subfolders_or_files(tmp_path):
    datasets = slices()
    save(tmp_path / "scan" / "one", datasets[:2])
    save(tmp_path / "scan" / "two", datasets[2:])
    files = sorted((tmp_path / "scan").rglob("*.dcm"))
    for source in (tmp_path / "scan", str(tmp_path / "scan"), files, map(str, files)):
        np.testing.assert_array_equal(read_dicom_series(source)[0], SPL)
    one = read_dicom_series(files[0])[0]
    assert one.shape == (1, 6, 7)


def test_meta_data_of_the_series(tmp_path):
    folder = save(tmp_path / "scan", slices(ImageType=["DERIVED", "SECONDARY"]))
    meta = read_dicom_series(folder)[1]
    assert meta.modality == "MR"
    assert meta.patient == pseudonym("HILL-0042")
    assert meta.study == pseudonym("1.2.3.77.1")
    assert meta.series == pseudonym("1.2.3.77.2")
    assert meta.mask is None


def test_oblique_series_and_nifti_of_it_are_one_array(tmp_path):
    """Written independently: the affine from the positions, LPS turned to RAS."""
    for i, code in enumerate(("SPL", "LIP", "AIR")):
        datasets = slices(code=code)
        q = rotation(0.25)
        for one in datasets:
            one.ImagePositionPatient = [
                round(x, 9) for x in q @ one.ImagePositionPatient
            ]
            axes = np.reshape(one.ImageOrientationPatient, (2, 3)) @ q.T
            one.ImageOrientationPatient = [round(x, 12) for x in axes.ravel()]
        folder = save(tmp_path / f"scan{i}", datasets)
        volume, meta = read_dicom_series(folder)
        np.testing.assert_array_equal(volume, SPL)
        assert_same_as_nifti(volume, meta, datasets, tmp_path / f"{i}.nii")


def rotation(angle):
    a, b = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, a, -b], [0, b, a]])
    return about_x @ np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]])


def assert_same_as_nifti(volume, meta, datasets, path):
    voxels = np.stack([d.pixel_array.T for d in datasets], axis=-1)
    first, last = (
        np.array(d.ImagePositionPatient, float) for d in (datasets[0], datasets[-1])
    )
    row, column = np.reshape(datasets[0].ImageOrientationPatient, (2, 3)).astype(float)
    down, right = map(float, datasets[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * right, column * down
    affine[:3, 2] = (last - first) / (len(datasets) - 1)
    affine[:3, 3] = first
    affine = np.diag([-1, -1, 1, 1]) @ affine
    nib.Nifti1Image(voxels, affine).to_filename(path)
    array, other = read_nifti(path)
    np.testing.assert_array_equal(array, volume)
    assert array.dtype == volume.dtype
    assert other.spacing == pytest.approx(meta.spacing, rel=1e-5)
    assert other.orientation == meta.orientation
    np.testing.assert_allclose(other.cosines, meta.cosines, atol=1e-4)
    np.testing.assert_allclose(other.positions, meta.positions, atol=1e-2)


def test_missing_slices_are_named_by_position(tmp_path):
    datasets = slices(np.arange(9 * 42, dtype="i2").reshape(9, 6, 7))
    del datasets[6], datasets[2:4]
    folder = save(tmp_path / "scan", datasets)
    message = r"scan: slices are missing \(3\), at 36, 39, 48 mm .* every 3 mm"
    with pytest.warns(UserWarning, match=message):
        volume, meta = read_dicom_series(folder)
    assert volume.shape == (6, 6, 7)
    assert meta.spacing == pytest.approx(SPACING)
    assert [z for _, _, z in meta.positions] == [30, 33, 42, 45, 51, 54]


def test_thick_gaps_without_a_pattern_are_uneven(tmp_path):
    datasets = slices()
    for one, z in zip(datasets, (0, 3, 6, 10, 15), strict=True):
        one.ImagePositionPatient[2] = z
    with pytest.warns(UserWarning, match=r"unevenly spaced, 3 to 5 mm; 3\.75 mm"):
        meta = read_dicom_series(save(tmp_path / "scan", datasets))[1]
    assert meta.spacing == pytest.approx((3.75, 2.0, 0.5))


def test_slices_thicker_than_their_distance_or_thinner_are_not_missing(tmp_path):
    folder = save(tmp_path / "scan", slices(SliceThickness=0.5))
    assert read_dicom_series(folder)[1].spacing == pytest.approx(SPACING)


def test_copies_are_used_once(tmp_path):
    datasets = slices()
    save(tmp_path / "scan", datasets)
    save(tmp_path / "scan" / "again", [datasets[2]])
    with pytest.warns(UserWarning, match=r"more than once, at 36 mm; one of each"):
        volume = read_dicom_series(tmp_path / "scan")[0]
    np.testing.assert_array_equal(volume, SPL)


def test_same_pixels_under_another_uid_are_used_once(tmp_path):
    datasets = slices()
    extra = slices()[2]
    folder = save(tmp_path / "scan", [*datasets, extra])
    with pytest.warns(UserWarning, match=r"more than once, at 36 mm"):
        np.testing.assert_array_equal(read_dicom_series(folder)[0], SPL)


def test_different_images_in_one_place_are_an_error(tmp_path):
    folder = save(tmp_path / "scan", [*slices(), slices(SPL + 1)[2]])
    message = r"different images lie in one place, at 36 mm.*0\d+\.dcm, 0\d+\.dcm"
    with pytest.raises(InvalidImageError, match=message):
        read_dicom_series(folder)


def test_tilted_gantry_is_said(tmp_path):
    datasets = slices()
    for i, one in enumerate(datasets):
        one.ImagePositionPatient[1] += i * 3 * np.tan(np.radians(15))
    with pytest.warns(UserWarning, match=r"tilted by 15°"):
        volume, meta = read_dicom_series(save(tmp_path / "scan", datasets))
    np.testing.assert_array_equal(volume, SPL)
    assert meta.spacing == pytest.approx(SPACING)
    assert meta.tilt == 15
    assert read_dicom_series(save(tmp_path / "straight", slices()))[1].tilt == 0


@pytest.mark.parametrize("orientation", [None, "SPL", "RAS"])
def test_tilted_frames_of_one_file_are_said(orientation, tmp_path):
    dataset = enhanced(SPL, [(30 + 3 * i, 1) for i in range(len(SPL))])
    for i, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient[0] -= i * 3 * np.tan(np.radians(10))
    path = tmp_path / "frames.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with pytest.warns(UserWarning, match=r"frames\.dcm: the stack is tilted by 10°"):
        _, meta = read_image(path, orientation=orientation)
    assert meta.tilt == 10
    with pytest.warns(UserWarning, match=r"tilted by 10°") as caught:
        _, meta = read_dicom_series(path, orientation=orientation)
    assert meta.tilt == 10
    assert len(caught) == 1


def test_slice_shifted_sideways_is_said(tmp_path):
    datasets = slices()
    datasets[3].ImagePositionPatient[0] += 40
    with pytest.warns(UserWarning, match=r"shifted sideways .* 40 mm, at 39 mm"):
        read_dicom_series(save(tmp_path / "scan", datasets))


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


def test_slices_without_a_position_have_no_order(tmp_path):
    datasets = slices()
    del datasets[1].ImagePositionPatient
    folder = save(tmp_path / "scan", datasets)
    with pytest.raises(InvalidImageError, match="1 of 5 slices do not say where"):
        read_dicom_series(folder)
    alone = save(tmp_path / "alone", [image(SPL[0], ImagePositionPatient=None)])
    with pytest.raises(InvalidImageError, match="orientation=None"):
        read_dicom_series(alone)
    volume, meta = read_dicom_series(alone, orientation=None)
    np.testing.assert_array_equal(volume, SPL[:1])
    assert meta.orientation is None


@pytest.mark.parametrize("cosines", [(1, 0, 0, 1, 0, 0), (0,) * 6, (9, 0, 0, 0, 9, 0)])
def test_impossible_directions_count_as_missing(cosines, tmp_path):
    datasets = [
        image(SPL[i], ImagePositionPatient=(0, 0, i), ImageOrientationPatient=cosines)
        for i in range(3)
    ]
    with pytest.raises(InvalidImageError, match="3 of 3 slices do not say where"):
        read_dicom_series(save(tmp_path / "scan", datasets))


def test_whatever_is_no_image_is_left_out_of_a_folder(tmp_path):
    folder = save(tmp_path / "scan", slices())
    save(folder, [header("1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")], start=1)
    (folder / "LICENSE").write_text("as you like")
    np.testing.assert_array_equal(read_dicom_series(folder)[0], SPL)
    with pytest.raises(
        InvalidImageError, match=r"1 of 2 files cannot be read.*LICENSE"
    ):
        read_dicom_series([folder / "LICENSE", next(folder.glob("0*.dcm"))])


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InvalidImageError, match="holds no DICOM image among 1 files"):
        read_dicom_series(tmp_path)
    with pytest.raises(InvalidImageError, match="holds no DICOM image among 0 files"):
        read_dicom_series([])


def enhanced(pixels, groups):
    """Multi-frame MR; `groups` has the elements that each frame's macros hold."""
    dataset = header(ENHANCED_MR, NumberOfFrames=len(pixels), ImageType=["DERIVED"])
    fill(dataset, pixels)
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING[1:]), 3
    plane = Dataset()
    plane.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z, echo in groups:
        frame, place, times = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-10, 20, z]
        times.EffectiveEchoTime = float(echo)
        frame.PlanePositionSequence, frame.MREchoSequence = [place], [times]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


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


def test_frames_without_positions_are_no_volume(tmp_path):
    folder = save(tmp_path / "scan", [image(SPL, NumberOfFrames=5)])
    with pytest.raises(InvalidImageError, match=r"5 frames do not all say where"):
        read_dicom_series(folder, orientation=None)
    # Beside a series that is one, they do no harm.
    save(folder, slices(SeriesInstanceUID="1.2.3.77.9"), start=1)
    volume = read_dicom_series(folder, series="1.2.3.77.9")[0]
    np.testing.assert_array_equal(volume, SPL)


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


def test_what_all_slices_say_is_said_once(tmp_path):
    pet = "1.2.840.10008.5.1.4.1.1.128"
    datasets = slices(SOPClassUID=pet, Modality="PT", Units="BQML")
    for one in datasets:
        one.RescaleSlope, one.RescaleIntercept = 2, 0
    folder = save(tmp_path / "scan", datasets)
    with pytest.warns(UserWarning, match="scan, 5 files: .*SUV") as caught:
        read_dicom_series(folder)
    assert len(caught) == 1


def test_padding_of_slices_is_the_mask_of_the_volume(tmp_path):
    hounsfield = SPL % 500
    datasets = slices(hounsfield, SOPClassUID=CT, Modality="CT", code="IPR")
    for one in datasets[1:]:
        one.PixelPaddingValue = -2000
        pixels = one.pixel_array.copy()
        pixels[0, 1] = -2000
        one.PixelData = pixels.tobytes()
    for one in datasets:
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, 0, "HU"
    volume, meta = read_dicom_series(save(tmp_path / "scan", datasets))
    mask = np.zeros(SPL.shape, bool)
    mask[:4, 0, 5] = True  # slices from the head down, rows from left to right
    np.testing.assert_array_equal(meta.mask, mask)
    np.testing.assert_array_equal(volume, np.where(mask, -1024, hounsfield))
    assert meta.units == "HU"


def test_slopes_that_differ_from_slice_to_slice(tmp_path):
    pet = "1.2.840.10008.5.1.4.1.1.128"
    datasets = slices(SPL, SOPClassUID=pet, Modality="PT", Units="BQML")
    for i, one in enumerate(datasets):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + i, 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*SUV.*")
        volume = read_dicom_series(save(tmp_path / "scan", datasets))[0]
    expected = SPL * (0.5 + np.arange(5))[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(volume, expected, rtol=1e-6)


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
def test_real_series_shuffled_is_one_volume_in_order(data_file, tmp_path):
    paths = sorted(data_file("t1_dicom").glob("*.dcm"))
    random.Random(0).shuffle(paths)
    for i, path in enumerate(paths):
        (tmp_path / f"{i}.dcm").write_bytes(path.read_bytes())
    volume, meta = read_dicom_series(tmp_path)
    datasets = sorted(map(pydicom.dcmread, paths), key=lambda d: d.InstanceNumber)
    np.testing.assert_array_equal(volume, [d.pixel_array for d in datasets])
    assert volume.shape == (40, 384, 274)
    # One slice in nine was handed out: the distance is not the slice thickness.
    assert meta.spacing == pytest.approx((6.0, 0.6667, 0.7), rel=1e-3)
    assert meta.orientation == "SPL"
    assert_same_as_nifti(volume, meta, datasets, tmp_path / "t1.nii.gz")
    shown = repr(meta) + scan_dicom(tmp_path).to_csv()
    assert [k for k in find_identifying(shown, datasets[0]) if k != "PatientID"] == []


@pytest.mark.data
def test_real_series_and_nifti_of_it_by_simpleitk(data_file, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    folder = data_file("t1_dicom")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    scan = reader.Execute()
    volume, meta = read_dicom_series(folder)
    np.testing.assert_array_equal(volume, sitk.GetArrayFromImage(scan))
    assert meta.spacing == pytest.approx(scan.GetSpacing()[::-1])
    sitk.WriteImage(scan, str(tmp_path / "scan.nii.gz"))
    array, other = read_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(array, volume)
    assert other.spacing == pytest.approx(meta.spacing, rel=1e-5)
    np.testing.assert_allclose(other.positions, meta.positions, atol=1e-2)


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
