"""SUVbw of PET by all the ways in which scanners say when the tracer was what."""

import math
import warnings

import numpy as np
import pytest

from skmedimg._dicom import read_dicom

STORED = np.arange(24, dtype=np.int16).reshape(4, 6) * 100
HALF_LIFE = 6586.2
# An hour from the injection to the start of the series.
DRUG = {
    "RadionuclideTotalDose": "370000000",
    "RadionuclideHalfLife": str(HALF_LIFE),
    "RadiopharmaceuticalStartTime": "100000.00",
}
PET = {
    "Modality": "PT",
    "Units": "BQML",
    "CorrectedImage": ["NORM", "ATTN", "DECY", "SCAT"],
    "DecayCorrection": "START",
    "PatientWeight": "74",
    "RescaleSlope": "2.5",
    "RescaleIntercept": "0",
    "SeriesDate": "20200305",
    "SeriesTime": "110000",
    "AcquisitionDate": "20200305",
    "AcquisitionTime": "110400",
    "FrameReferenceTime": "290000",
    "ActualFrameDuration": "120000",
}
PER_BQML = 74_000 / (370e6 * 2 ** (-3600 / HALF_LIFE))


@pytest.fixture
def suv(write_dicom):
    """Factor from Bq/ml to what is read; the elements of PET and DRUG changed."""

    def factor(drug=None, **elements):
        injected = {k: v for k, v in (DRUG | (drug or {})).items() if v is not None}
        path = write_dicom(
            STORED,
            RadiopharmaceuticalInformationSequence=injected,
            **PET | elements,
        )
        array, meta = read_dicom(path)
        assert array.dtype == np.float32
        assert meta.units == "SUVbw"
        found = array[3, 5] / (STORED[3, 5] * 2.5)
        assert np.allclose(array, STORED * 2.5 * found, rtol=1e-6)
        return found

    return factor


def test_decay_corrected_to_the_start_of_the_series(suv):
    assert suv() == pytest.approx(PER_BQML, rel=1e-6)


def test_decay_corrected_to_the_injection(suv):
    assert suv(DecayCorrection="ADMIN") == pytest.approx(74_000 / 370e6, rel=1e-6)


def test_injection_before_midnight(suv):
    night = {"RadiopharmaceuticalStartTime": "233000"}
    found = suv(night, SeriesTime="003000", AcquisitionTime="003400")
    assert found == pytest.approx(PER_BQML, rel=1e-6)


def test_date_and_time_of_the_injection(suv):
    stated = {"RadiopharmaceuticalStartTime": "090000"}
    stated["RadiopharmaceuticalStartDateTime"] = "20200305100000.000"
    assert suv(stated) == pytest.approx(PER_BQML, rel=1e-6)
    # In another time zone than the file's other times.
    stated["RadiopharmaceuticalStartDateTime"] = "20200305080000+0000"
    found = suv(stated, TimezoneOffsetFromUTC="+0200")
    assert found == pytest.approx(PER_BQML, rel=1e-6)
    # The date of a de-identified file does not fit: the time of day does.
    stated["RadiopharmaceuticalStartDateTime"] = "19990101100000"
    stated["RadiopharmaceuticalStartTime"] = None
    assert suv(stated) == pytest.approx(PER_BQML, rel=1e-6)


def test_series_time_after_the_acquisition_is_not_the_reference(suv):
    # The series was derived later. The frame began at 11:04 and lasts two minutes; its
    # mean activity is that of about a minute later, 290 s after the reference.
    decay = math.log(2) / HALF_LIFE
    average = math.log(decay * 120 / (1 - math.exp(-decay * 120))) / decay
    seconds = 3600 + 240 + average - 290
    expected = 74_000 / (370e6 * 2 ** (-seconds / HALF_LIFE))
    assert 59 < average < 60
    assert suv(SeriesTime="150000") == pytest.approx(expected, rel=1e-6)


def test_ge_keeps_the_time_of_the_scan_to_itself(write_dicom):
    import pydicom

    path = write_dicom(
        STORED,
        RadiopharmaceuticalInformationSequence=DRUG,
        **PET | {"SeriesTime": "150000"},
    )
    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20200305110000.00")
    dataset.save_as(path)
    array, _ = read_dicom(path)
    assert np.allclose(array, STORED * 2.5 * PER_BQML)


def test_philips_counts(write_dicom):
    import pydicom

    for offset, factor, expected in ((0x00, 0.003, 0.003), (0x09, 2.0, 2 * PER_BQML)):
        path = write_dicom(
            STORED,
            RadiopharmaceuticalInformationSequence=DRUG,
            **PET | {"Units": "CNTS"},
        )
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(offset, "DS", str(factor))
        dataset.save_as(path)
        array, meta = read_dicom(path)
        assert meta.units == "SUVbw"
        assert np.allclose(array, STORED * 2.5 * expected)


def test_values_that_are_suv_already(write_dicom):
    array, meta = read_dicom(write_dicom(STORED, **PET | {"Units": "GML"}))
    assert np.array_equal(array, STORED * 2.5)
    assert meta.units == "SUVbw"


@pytest.mark.parametrize(
    ("drug", "elements", "missing"),
    [
        ({}, {"PatientWeight": None}, "PatientWeight"),
        ({}, {"PatientWeight": "0"}, "PatientWeight"),
        ({"RadionuclideTotalDose": None}, {}, "RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": None}, {}, "RadionuclideHalfLife"),
        ({"RadiopharmaceuticalStartTime": None}, {}, "RadiopharmaceuticalStartTime"),
        ({}, {"CorrectedImage": ["NORM", "ATTN"]}, "CorrectedImage has no DECY"),
        ({}, {"CorrectedImage": ["DECY"]}, "CorrectedImage has no ATTN"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection"),
        ({}, {"AcquisitionTime": None}, "AcquisitionTime"),
        ({}, {"SeriesTime": None, "FrameReferenceTime": None}, "FrameReferenceTime"),
        ({"RadionuclideHalfLife": "282240"}, {}, "StartDateTime"),
    ],
)
def test_what_suv_lacks_is_said_and_values_stay_in_bq_per_ml(
    write_dicom, drug, elements, missing
):
    injected = {k: v for k, v in (DRUG | drug).items() if v is not None}
    path = write_dicom(
        STORED, RadiopharmaceuticalInformationSequence=injected, **PET | elements
    )
    with pytest.warns(UserWarning, match=rf"SUV cannot .*{missing}.*Bq/ml") as caught:
        array, meta = read_dicom(path)
    assert meta.units == "BQML"
    assert np.array_equal(array, STORED * 2.5)
    for value in ("20200305", "110000", "370000000"):
        assert value not in str(caught[0].message)


def test_other_units_and_screenshots(write_dicom):
    with pytest.warns(UserWarning, match="Units is not BQML"):
        _, meta = read_dicom(write_dicom(STORED, **PET | {"Units": "PROPCPS"}))
    assert meta.units == "rescaled"
    path = write_dicom(STORED, **PET | {"Units": "GML", "SUVType": "LBM"})
    with pytest.warns(UserWarning, match="another SUV"):
        _, meta = read_dicom(path)
    assert meta.units == "rescaled"
    bare = {"RescaleSlope": None, "RescaleIntercept": None, "Units": "GML"}
    path = write_dicom(STORED, **PET | bare)
    with pytest.warns(UserWarning, match="without RescaleSlope"):
        array, meta = read_dicom(path)
    assert meta.units == "raw"
    assert np.array_equal(array, STORED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        screenshot = "1.2.840.10008.5.1.4.1.1.7"
        _, meta = read_dicom(
            write_dicom(Modality="PT", SOPClassUID=screenshot, Units="BQML")
        )
    assert meta.units == "raw"


def real_world(units, slope=None, intercept=0.0, **elements):
    """One real-world value map."""
    one = {"MeasurementUnitsCodeSequence": {"CodeValue": units}}
    if slope is not None:
        one |= {"RealWorldValueSlope": slope, "RealWorldValueIntercept": intercept}
    return one | elements


def enhanced(write_dicom, maps, **elements):
    """Enhanced PET of three frames; `maps` are those of each frame, or of all."""
    pixels = np.arange(72, dtype=np.uint16).reshape(3, 4, 6)
    plane = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    shared = {"PlaneOrientationSequence": plane}
    frames = [
        {"PlanePositionSequence": {"ImagePositionPatient": [0, 0, 2 * z]}}
        for z in range(3)
    ]
    if isinstance(maps, dict):
        shared["RealWorldValueMappingSequence"] = maps
    else:
        for frame, own in zip(frames, maps, strict=True):
            frame["RealWorldValueMappingSequence"] = own
    defaults = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.130",
        "Modality": "PT",
        "AttenuationCorrected": "YES",
        "DecayCorrected": "YES",
        "DecayCorrectionDateTime": "20200305110000",
        "PatientWeight": "74",
        "SharedFunctionalGroupsSequence": shared,
        "PerFrameFunctionalGroupsSequence": frames,
        "RadiopharmaceuticalInformationSequence": {
            "RadionuclideTotalDose": "370",  # MBq, unlike that of PET slices
            "RadionuclideHalfLife": str(HALF_LIFE),
            "RadiopharmaceuticalStartDateTime": "20200305100000",
        },
    }
    return pixels, write_dicom(pixels, **defaults | elements)


def test_enhanced_pet_in_bq_per_ml_becomes_suv(write_dicom):
    pixels, path = enhanced(write_dicom, real_world("Bq/ml", 2.5, 10.0))
    array, meta = read_dicom(path)
    assert meta.units == "SUVbw"
    assert array.dtype == np.float32
    assert np.allclose(array, (pixels * 2.5 + 10) * PER_BQML, rtol=1e-6)


def test_enhanced_pet_with_a_map_for_each_frame(write_dicom):
    slopes = (0.5, 1.0, 0.25)
    maps = [
        [real_world("Bq/ml", 1000 * s), real_world("{SUVbw}g/ml", s)] for s in slopes
    ]
    # SUV that the scanner worked out needs neither weight nor dose.
    pixels, path = enhanced(write_dicom, maps, PatientWeight=None)
    array, meta = read_dicom(path)
    assert meta.units == "SUVbw"
    assert np.array_equal(array, pixels * np.reshape(slopes, (3, 1, 1)))


def test_enhanced_pet_without_what_suv_needs(write_dicom):
    for name, value in (
        ("DecayCorrected", "NO"),
        ("AttenuationCorrected", None),
        ("DecayCorrectionDateTime", None),
        ("PatientWeight", None),
    ):
        maps = real_world("Bq/ml", 2.5)
        pixels, path = enhanced(write_dicom, maps, **{name: value})
        with pytest.warns(UserWarning, match=rf"{name} is .*Bq/ml"):
            array, meta = read_dicom(path)
        assert meta.units == "BQML"
        assert np.array_equal(array, pixels * 2.5)
    pixels, path = enhanced(write_dicom, real_world("{propcounts}", 2.5))
    with pytest.warns(UserWarning, match="in no known unit; values are left as stored"):
        array, meta = read_dicom(path)
    assert np.array_equal(array, pixels)


def test_slices_whose_scanner_says_suv(write_dicom):
    maps = [real_world("Bq/ml", 2.5), real_world("{SUVbw}g/ml", 0.0125, -0.5)]
    path = write_dicom(STORED, RealWorldValueMappingSequence=maps, **PET)
    array, meta = read_dicom(path)
    assert meta.units == "SUVbw"
    assert np.allclose(array, STORED * 0.0125 - 0.5, rtol=1e-6)


def test_parametric_maps(write_dicom):
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6)
    path = write_dicom(
        stored, Modality="MR", RealWorldValueMappingSequence=real_world("um2/s", 2.0)
    )
    array, meta = read_dicom(path)
    assert meta.units == "um2/s"
    assert np.array_equal(array, stored * 2)
    table = real_world(
        "ms",
        RealWorldValueFirstValueMapped=2,
        RealWorldValueLUTData=[0.5, 1.5, 4.0],
    )
    path = write_dicom(stored, Modality="MR", RealWorldValueMappingSequence=table)
    array, meta = read_dicom(path)
    assert meta.units == "ms"
    assert array[0].tolist() == [0.5, 0.5, 0.5, 1.5, 4.0, 4.0]
    # Of several quantities none is the image, and free text is no unit.
    several = [real_world("ms", 2.0), real_world("%", 3.0)]
    for maps in (several, real_world("for Dr Poe", 2.0)):
        path = write_dicom(stored, Modality="MR", RealWorldValueMappingSequence=maps)
        array, meta = read_dicom(path)
        assert meta.units == "raw"
        assert np.array_equal(array, stored)


def test_maps_of_several_ranges_are_not_half_applied(write_dicom):
    stored = np.array([[100, 300]], np.uint16)
    maps = [
        real_world("mm2/s", slope, RealWorldValueFirstValueMapped=first)
        for slope, first in ((1.0, 0), (10.0, 251))
    ]
    path = write_dicom(stored, Modality="MR", RealWorldValueMappingSequence=maps)
    array, meta = read_dicom(path)
    assert (array.tolist(), meta.units) == ([[100, 300]], "raw")
