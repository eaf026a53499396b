"""Frames, slopes of frames, spacing and orientation of DICOM files."""

import numpy as np
import pytest

from skmedimg._dicom import read_dicom
from skmedimg._windows import apply_window
from skmedimg.exceptions import InvalidImageError

AXIAL = [1, 0, 0, 0, 1, 0]
FRAMES = np.arange(3 * 24, dtype=np.uint16).reshape(3, 4, 6)


def enhanced(frames, *, shared=None, **elements):
    """Elements of an enhanced object: `frames` has the groups of each frame."""
    shared = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": AXIAL},
        "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.7], "SliceThickness": 2},
    } | (shared or {})
    return {
        "SharedFunctionalGroupsSequence": shared,
        "PerFrameFunctionalGroupsSequence": frames,
    } | elements


def frame(z=None, slope=None, intercept=0, kind="US", window=None):
    groups = {}
    if z is not None:
        groups["PlanePositionSequence"] = {"ImagePositionPatient": [-5, -6, z]}
    if slope is not None:
        groups["PixelValueTransformationSequence"] = {
            "RescaleSlope": slope,
            "RescaleIntercept": intercept,
            "RescaleType": kind,
        }
    if window is not None:
        groups["FrameVOILUTSequence"] = {
            "WindowCenter": window[0],
            "WindowWidth": window[1],
        }
    return groups


def test_every_frame_has_its_own_slope(write_dicom):
    groups = enhanced([frame(z, slope) for z, slope in ((0, 1), (3, 2), (6, 0.5))])
    array, meta = read_dicom(write_dicom(FRAMES, Modality="MR", **groups))
    assert array.dtype == np.float32
    assert np.array_equal(array, FRAMES * np.array([1, 2, 0.5])[:, None, None])
    assert meta.units == "rescaled"
    assert meta.spacing == (3, 0.5, 0.7)
    assert meta.spacing_source == "PixelSpacing"
    assert meta.orientation == "SPL"
    assert meta.slice_thickness == 2
    assert meta.positions == ((-5, -6, 0), (-5, -6, 3), (-5, -6, 6))
    assert meta.frames == 3


def test_frames_of_a_stack_are_put_in_order(write_dicom):
    groups = enhanced([frame(z, 1, -1024, "HU") for z in (6, -2, 2)])
    path = write_dicom(FRAMES, Modality="CT", **groups)
    array, meta = read_dicom(path)
    assert array.dtype == np.int16
    assert np.array_equal(array, FRAMES[[1, 2, 0]].astype(int) - 1024)
    assert (meta.units, meta.spacing) == ("HU", (4, 0.5, 0.7))
    assert [z for *_, z in meta.positions] == [-2, 2, 6]
    # A single frame is asked for by its place in the file.
    array, meta = read_dicom(path, frame=1)
    assert np.array_equal(array, FRAMES[1].astype(int) - 1024)
    assert meta.positions == ((-5, -6, -2),)
    assert (meta.spacing, meta.orientation) == ((0.5, 0.7), "PL")
    assert meta.frames == 3


def test_a_window_for_every_frame(write_dicom):
    windows = ((10, 20), (30, 10), (50, 40))
    groups = enhanced([frame(z, window=window) for z, window in enumerate(windows)])
    path = write_dicom(FRAMES, Modality="MR", **groups)
    array, meta = read_dicom(path, voi=0)
    expected = [
        apply_window(f, *window) for f, window in zip(FRAMES, windows, strict=True)
    ]
    assert np.array_equal(array, expected)
    assert meta.voi == ("LINEAR centre 10 width 20",)


def test_frames_that_are_no_stack_keep_their_order(write_dicom):
    # Two phases of one slice, and one more.
    groups = enhanced([frame(z) for z in (5, 5, 0)])
    array, meta = read_dicom(write_dicom(FRAMES, Modality="MR", **groups))
    assert np.array_equal(array, FRAMES)
    assert meta.spacing == (None, 0.5, 0.7)
    assert meta.orientation is None
    # Slices at uneven distances.
    groups = enhanced([frame(z) for z in (0, 1, 5)])
    _, meta = read_dicom(write_dicom(FRAMES, Modality="MR", **groups))
    assert meta.spacing == (None, 0.5, 0.7)
    assert meta.orientation == "SPL"
    # No positions at all.
    array, meta = read_dicom(write_dicom(FRAMES, Modality="US"))
    assert np.array_equal(array, FRAMES)
    assert meta.spacing is None


def test_padding_in_some_frames(write_dicom):
    stored = FRAMES.astype(np.int16)
    stored[1, 0] = -3000
    groups = enhanced([frame(z, 1, 0, "HU") for z in (0, 1, 2)])
    array, meta = read_dicom(write_dicom(stored, Modality="CT", **groups))
    assert meta.mask.shape == array.shape
    assert meta.mask.sum() == 6
    assert (array[1, 0] == -1024).all()


def test_colours_of_several_frames(write_dicom):
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    region = {
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.02,
        "PhysicalDeltaY": -0.03,
    }
    path = write_dicom(frames, Modality="US", SequenceOfUltrasoundRegions=region)
    array, meta = read_dicom(path)
    assert np.array_equal(array, frames)
    assert meta.spacing == pytest.approx((None, 0.3, 0.2))
    assert np.array_equal(read_dicom(path, frame=1)[0], frames[1])


def test_dose_grid(write_dicom):
    path = write_dicom(
        FRAMES,
        Modality="RTDOSE",
        GridFrameOffsetVector=["0", "2.5", "5"],
        PixelSpacing=["2", "3"],
        ImageOrientationPatient=AXIAL,
        ImagePositionPatient=["1", "2", "3"],
    )
    assert read_dicom(path)[1].spacing == (2.5, 2, 3)


@pytest.mark.parametrize(
    ("elements", "spacing", "source"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "ImagerPixelSpacing"),
        (
            {"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2]},
            (0.1, 0.1),
            "PixelSpacing",
        ),
        # A copy, which nobody corrected for magnification.
        (
            {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]},
            (0.2, 0.2),
            "ImagerPixelSpacing",
        ),
        (
            {
                "PixelSpacing": [0.2, 0.2],
                "ImagerPixelSpacing": [0.2, 0.2],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            (0.2, 0.2),
            "PixelSpacing",
        ),
        (
            {"NominalScannedPixelSpacing": [0.1, 0.1]},
            (0.1, 0.1),
            "NominalScannedPixelSpacing",
        ),
        ({"PixelSpacing": [0, 0.3]}, None, None),
        ({"PixelSpacing": [0.3]}, None, None),
        ({}, None, None),
    ],
)
def test_where_spacing_comes_from(write_dicom, elements, spacing, source):
    _, meta = read_dicom(write_dicom(Modality="DX", **elements))
    assert (meta.spacing, meta.spacing_source) == (spacing, source)


@pytest.mark.parametrize(
    ("elements", "letters"),
    [
        ({"ImageOrientationPatient": AXIAL}, "PL"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "IP"),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, -0.9, 0.43]}, "AR"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, None),
        ({"PatientOrientation": ["L", "F"]}, "IL"),
        ({"PatientOrientation": ["A", "FR"]}, "IA"),
        ({"PatientOrientation": ["Roe"]}, None),
        ({}, None),
    ],
)
def test_where_rows_and_columns_increase_to(write_dicom, elements, letters):
    assert read_dicom(write_dicom(**elements))[1].orientation == letters


def test_countless_tiny_frames_are_refused_and_one_can_be_read(write_dicom):
    """A megabyte of them took minutes."""
    points = np.arange(30_000, dtype=np.uint16).reshape(-1, 1, 1)
    path = write_dicom(points)
    with pytest.raises(InvalidImageError, match=r"30000 frames of 1 × 1 .* frame=k"):
        read_dicom(path)
    assert read_dicom(path, frame=700)[0].tolist() == [[700]]
    array, _ = read_dicom(write_dicom(points[:9000]))
    assert np.array_equal(array, points[:9000])
