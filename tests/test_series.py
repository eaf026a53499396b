"""Series of DICOM slices as volumes: order, geometry, what is uneven or missing."""

import itertools
import random
import warnings

import nibabel as nib
import numpy as np
import pydicom
import pytest
from series_files import (
    CT,
    SPACING,
    SPL,
    enhanced,
    header,
    image,
    save,
    slices,
)

from skmedimg._nifti import read_nifti
from skmedimg._orientation import reorient
from skmedimg._privacy import find_identifying, pseudonym
from skmedimg._read_image import read_image
from skmedimg._scan import scan_dicom
from skmedimg._series import read_dicom_series
from skmedimg.exceptions import InvalidImageError


@pytest.fixture(autouse=True)
def one_key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


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


def test_frames_without_positions_are_no_volume(tmp_path):
    folder = save(tmp_path / "scan", [image(SPL, NumberOfFrames=5)])
    with pytest.raises(InvalidImageError, match=r"5 frames do not all say where"):
        read_dicom_series(folder, orientation=None)
    # Beside a series that is one, they do no harm.
    save(folder, slices(SeriesInstanceUID="1.2.3.77.9"), start=1)
    volume = read_dicom_series(folder, series="1.2.3.77.9")[0]
    np.testing.assert_array_equal(volume, SPL)


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
