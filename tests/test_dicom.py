"""Values of DICOM files, case by case, with the expected array asserted."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from skmedimg._dicom import read_dicom
from skmedimg._image_meta import ImageMeta
from skmedimg._privacy import find_identifying, pseudonym
from skmedimg._windows import apply_window
from skmedimg.exceptions import InvalidImageError

RAMP = np.arange(24, dtype=np.uint16).reshape(4, 6)
CT = {"Modality": "CT", "RescaleSlope": "1", "RescaleIntercept": "-1024"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


def lut(values, first=0, bits=16, **more):
    data = np.asarray(values, "<u2").tobytes()
    return {"LUTDescriptor": [len(values), first, bits], "LUTData": data} | more


# --- Rescaling ---


def test_ct_is_in_hu_and_no_window_is_applied(write_dicom):
    path = write_dicom(RAMP * 100, WindowCenter="40", WindowWidth="400", **CT)
    array, meta = read_dicom(path)
    assert array.dtype == np.int16
    assert np.array_equal(array, RAMP.astype(int) * 100 - 1024)
    assert (meta.units, meta.window, meta.mask) == ("HU", None, None)
    assert meta.voi == ("LINEAR centre 40 width 400",)


def test_integers_stay_integers_as_far_as_they_fit(write_dicom):
    stored = np.array([[0, 65535]], np.uint16)
    wide, _ = read_dicom(write_dicom(stored, **CT))
    assert wide.dtype == np.int32
    assert wide.tolist() == [[-1024, 64511]]
    wider, _ = read_dicom(
        write_dicom(stored, Modality="CT", RescaleSlope="1000000", RescaleIntercept="0")
    )
    assert wider.dtype == np.float32
    halves, _ = read_dicom(write_dicom(**CT | {"RescaleSlope": "0.5"}))
    assert halves.dtype == np.float32
    assert np.array_equal(halves, RAMP / 2 - 1024)


def test_ct_that_cannot_be_in_hu(write_dicom):
    with pytest.warns(UserWarning, match=r"image.dcm: CT without RescaleSlope"):
        array, meta = read_dicom(write_dicom(Modality="CT"))
    assert np.array_equal(array, RAMP)
    assert meta.units == "raw"
    # A picture of a CT, taken from the screen.
    array, meta = read_dicom(write_dicom(Modality="CT", SOPClassUID=SECONDARY_CAPTURE))
    assert meta.units == "raw"
    # A perfusion map.
    path = write_dicom(**CT, RescaleType="US", ImageType=["DERIVED", "PRIMARY"])
    array, meta = read_dicom(path)
    assert meta.units == "rescaled"
    assert meta.mask is None
    path = write_dicom(**CT, RescaleType="US", ImageType=["ORIGINAL", "PRIMARY"])
    assert read_dicom(path)[1].units == "HU"


def test_mr_without_a_trusted_rescale_is_left_raw(write_dicom):
    rescale = {"RescaleSlope": "3.5", "RescaleIntercept": "7"}
    for kind in (None, "US", "normalized"):
        array, meta = read_dicom(
            write_dicom(Modality="MR", RescaleType=kind, **rescale)
        )
        assert np.array_equal(array, RAMP)
        assert (array.dtype, meta.units) == (np.uint16, "raw")
    array, meta = read_dicom(write_dicom(Modality="MR", RescaleType="PCT", **rescale))
    assert np.allclose(array, RAMP * 3.5 + 7)
    assert meta.units == "PCT"


def test_modality_lut(write_dicom):
    table = np.arange(10, 20)[::-1]
    path = write_dicom(
        ModalityLUTSequence=lut(table, first=5, ModalityLUTType="US"),
        RescaleSlope="9",
        RescaleIntercept="9",
    )
    array, meta = read_dicom(path)
    assert np.array_equal(array, table[np.clip(RAMP.astype(int) - 5, 0, 9)])
    assert meta.units == "rescaled"


def test_slope_of_zero_and_dose(write_dicom):
    path = write_dicom(Modality="CR", RescaleSlope="0", RescaleIntercept="3")
    with pytest.warns(UserWarning, match="RescaleSlope is 0"):
        array, _ = read_dicom(path)
    assert np.array_equal(array, RAMP)
    stored = RAMP.astype(np.uint32) << 20
    path = write_dicom(
        stored, Modality="RTDOSE", DoseUnits="GY", DoseGridScaling="1e-6"
    )
    array, meta = read_dicom(path)
    assert np.allclose(array, stored * 1e-6)
    assert meta.units == "GY"


# --- Bits, bytes and signs ---


def test_overlay_bits_above_the_high_bit_are_masked(write_dicom):
    overlay = (RAMP % 2) << 12 | np.uint16(0x8000)
    array, _ = read_dicom(write_dicom(RAMP | overlay, BitsStored=12))
    assert np.array_equal(array, RAMP)
    signed = RAMP.astype(np.int16) - 12
    written = (signed & 0x0FFF) | overlay.view(np.int16)
    array, _ = read_dicom(write_dicom(written, BitsStored=12))
    assert array.dtype == np.int16
    assert np.array_equal(array, signed)


def test_values_that_lie_in_the_upper_bits(write_dicom):
    written = (RAMP << 4) | np.uint16(5)
    array, _ = read_dicom(write_dicom(written, BitsStored=12, HighBit=15))
    assert np.array_equal(array, RAMP)
    # An impossible high bit is a slip.
    array, _ = read_dicom(write_dicom(BitsStored=12, HighBit=3))
    assert np.array_equal(array, RAMP)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32])
def test_stored_values_keep_their_dtype(write_dicom, dtype):
    pixels = RAMP.astype(dtype) - np.array(
        12 if np.dtype(dtype).kind == "i" else 0, dtype
    )
    array, _ = read_dicom(write_dicom(pixels))
    assert array.dtype == dtype
    assert np.array_equal(array, pixels)
    assert array.flags.writeable


def test_other_transfer_syntaxes(write_dicom, tmp_path):
    path = write_dicom(**CT)
    expected, _ = read_dicom(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(tmp_path / "implicit.dcm", implicit_vr=True)
    # Without preamble and without any word about its syntax.
    bare = pydicom.Dataset()
    bare.update(dataset)
    bare.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True)
    big = pydicom.dcmread(path)
    big.PixelData = expected.astype(">i2").tobytes()
    big.PixelRepresentation, big.RescaleIntercept = 1, "0"
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(tmp_path / "big.dcm", big)
    packed = pydicom.dcmread(path)
    packed.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    packed.save_as(tmp_path / "deflated.dcm")
    for name in ("implicit", "bare", "big", "deflated"):
        array, _ = read_dicom(tmp_path / f"{name}.dcm")
        assert np.array_equal(array, expected), name
        assert array.dtype == np.int16


def test_one_bit_a_pixel_need_not_begin_at_a_byte(write_dicom):
    bits = np.random.default_rng(0).integers(0, 2, (3, 3, 5), dtype=np.uint8)
    path = write_dicom(
        bits,
        BitsAllocated=1,
        BitsStored=1,
        PixelData=np.packbits(bits, bitorder="little").tobytes(),
    )
    assert np.array_equal(read_dicom(path)[0], bits)
    assert np.array_equal(read_dicom(path, frame=1)[0], bits[1])


def test_floating_point_pixels(write_dicom):
    values = np.linspace(-1, 1, 24, dtype="<f4").reshape(4, 6)
    values[0, 0] = -999
    path = write_dicom(
        PixelData=None,
        FloatPixelData=values.tobytes(),
        BitsAllocated=32,
        FloatPixelPaddingValue=-999.0,
    )
    array, meta = read_dicom(path)
    assert array[0, 0] == values[0, 1]
    assert np.array_equal(array[1:], values[1:])
    assert np.argwhere(meta.mask).tolist() == [[0, 0]]


# --- Padding ---


def test_padding_of_signed_pixels_written_unsigned(write_dicom):
    hu = RAMP.astype(np.int16) * 10
    stored = hu.copy()
    stored[:, 0] = -2000
    path = write_dicom(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=0)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    dataset.save_as(path)
    array, meta = read_dicom(path)
    assert array.dtype == np.int16
    assert (array[:, 0] == -1024).all()
    assert np.array_equal(array[:, 1:], hu[:, 1:])
    assert meta.mask[:, 0].all()
    assert not meta.mask[:, 1:].any()


def test_padding_does_not_widen_the_dtype(write_dicom):
    stored = RAMP.copy()
    stored[0] = 63536
    path = write_dicom(stored, PixelPaddingValue=63536, **CT)
    array, _ = read_dicom(path)
    assert array.dtype == np.int16
    assert (array[0] == -1024).all()
    array, meta = read_dicom(path, fill=None)
    assert array.dtype == np.int32
    assert (array[0] == 63536 - 1024).all()
    assert meta.mask[0].all()


def test_values_below_air_are_padding_whatever_the_tag_says(write_dicom):
    stored = np.array([[-1024, 0, 1, 2000]], np.int16)
    array, meta = read_dicom(write_dicom(stored, PixelPaddingValue=-2000, **CT))
    assert array.tolist() == [[-1024, -1024, -1023, 976]]
    assert meta.mask.tolist() == [[True, False, False, False]]
    array, meta = read_dicom(write_dicom(stored, **CT), fill=0)
    assert array.tolist() == [[0, -1024, -1023, 976]]


def test_range_of_padding_values(write_dicom):
    for first, last in ((3, 6), (6, 3)):
        path = write_dicom(PixelPaddingValue=first, PixelPaddingRangeLimit=last)
        array, meta = read_dicom(path)
        assert np.array_equal(meta.mask, (RAMP >= 3) & (RAMP <= 6))
        assert np.array_equal(array, np.where(meta.mask, 0, RAMP))
        assert array.dtype == np.uint16


def test_padding_becomes_the_lowest_value_that_was_measured(write_dicom):
    stored = RAMP + np.uint16(50)
    stored[0] = 0
    path = write_dicom(stored, PixelPaddingValue=0)
    array, _ = read_dicom(path)
    assert (array[0] == 56).all()
    array, _ = read_dicom(path, fill=-1)
    assert array.dtype == np.float32
    assert (array[0] == -1).all()
    array, meta = read_dicom(path, fill=None)
    assert (array[0] == 0).all()
    assert meta.mask[0].all()
    everything, _ = read_dicom(write_dicom(RAMP * 0, PixelPaddingValue=0))
    assert not everything.any()


# --- MONOCHROME1 ---


def test_monochrome1_is_inverted_over_the_stored_range(write_dicom):
    path = write_dicom(PhotometricInterpretation="MONOCHROME1", BitsStored=12)
    array, _ = read_dicom(path)
    assert array.dtype == np.uint16
    assert np.array_equal(array, 4095 - RAMP)
    signed = RAMP.astype(np.int16) - 5
    path = write_dicom(signed, PhotometricInterpretation="MONOCHROME1", BitsStored=8)
    assert np.array_equal(read_dicom(path)[0], -1 - signed)
    path = write_dicom(
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=12,
        Modality="CR",
        RescaleSlope="0.5",
        RescaleIntercept="200",
    )
    assert np.array_equal(read_dicom(path)[0], 0.5 * (4095 - RAMP.astype(int)) + 200)


def test_monochrome1_is_never_inverted_in_hu(write_dicom):
    path = write_dicom(PhotometricInterpretation="MONOCHROME1", BitsStored=12, **CT)
    array, _ = read_dicom(path)
    assert np.array_equal(array, RAMP.astype(int) - 1024)


def test_padding_of_an_inverted_image_is_dark(write_dicom):
    stored = RAMP + np.uint16(100)
    stored[0] = 4095
    path = write_dicom(
        stored,
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=12,
        PixelPaddingValue=4095,
        WindowCenter="110",
        WindowWidth="20",
    )
    array, _ = read_dicom(path)
    assert np.array_equal(array[1:], 4095 - stored[1:])
    assert (array[0] == array[1:].min()).all()
    shown, _ = read_dicom(path, voi="file")
    assert np.allclose(shown[1:], 1 - apply_window(stored[1:], 110, 20))
    assert not shown[0].any()


# --- Windows ---


def test_window_by_numbers_and_by_name(write_dicom):
    path = write_dicom(RAMP * 100, **CT)
    hu, _ = read_dicom(path)
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        array, meta = read_dicom(path, window=(-100, 500), voi=function)
        assert np.array_equal(array, apply_window(hu, -100, 500, function))
        assert (meta.window, meta.units) == ((-100, 500), "displayed")
    array, _ = read_dicom(path, window="Lung")
    assert np.array_equal(array, apply_window(hu, -600, 1500))
    array, _ = read_dicom(write_dicom(Modality="MR"), window=(10, 5))
    assert np.array_equal(array, apply_window(RAMP, 10, 5))


def test_a_named_window_is_for_ct_only(write_dicom):
    with pytest.raises(ValueError, match=r"image.dcm is not CT .*window='lung'") as got:
        read_dicom(write_dicom(Modality="MR"), window="lung")
    assert not isinstance(got.value, InvalidImageError)
    with pytest.raises(ValueError, match="'lungg' is no CT window"):
        read_dicom("no such file", window="lungg")


def test_what_the_file_offers_is_taken_by_its_index(write_dicom):
    table = (np.arange(24) * 10) ** 2 % 4096
    path = write_dicom(
        WindowCenter=["10", "5"],
        WindowWidth=["6", "20"],
        VOILUTFunction="SIGMOID",
        VOILUTSequence=lut(table, bits=12),
    )
    _, meta = read_dicom(path)
    assert meta.voi == (
        "LUT of 24 entries",
        "SIGMOID centre 10 width 6",
        "SIGMOID centre 5 width 20",
    )
    shown, meta = read_dicom(path, voi=0)
    assert np.allclose(shown.ravel(), table / 4095)
    assert meta.window == "VOI LUT"
    shown, meta = read_dicom(path, voi=2)
    assert np.array_equal(shown, apply_window(RAMP, 5, 20, "SIGMOID"))
    assert meta.window == (5, 20)
    with pytest.raises(ValueError, match=r"offers 3 windows or tables .*0: LUT"):
        read_dicom(path, voi="file")
    with pytest.raises(ValueError, match="no voi=3"):
        read_dicom(path, voi=3)


def test_voi_lut_of_signed_values(write_dicom):
    # Unsigned pixels, but negative quantities: the first value is signed.
    table = np.arange(100, 124)
    path = write_dicom(**CT, VOILUTSequence=lut(table, first=65536 - 1024, bits=8))
    shown, _ = read_dicom(path, voi="file")
    assert np.allclose(shown.ravel(), table / 255)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"voi": "SIGMOID"}, "needs window="),
        ({"voi": "file", "window": (1, 2)}, "one of them"),
        ({"voi": "first"}, "pass one of"),
        ({"voi": True}, "pass one of"),
        ({"window": (40, 0)}, "at least 1"),
        ({"window": 40}, "centre, width"),
        ({"fill": "zero"}, "'auto', a number or None"),
        ({"frame": 1}, "has no frame=1: it has 1"),
        ({"voi": "file"}, "offers 0"),
    ],
)
def test_parameters_that_do_not_fit(write_dicom, parameters, message):
    with pytest.raises(ValueError, match=message):
        read_dicom(write_dicom(), **parameters)


# --- Meta ---


def test_meta_names_nobody(write_dicom):
    identity = {
        "PatientName": "Roe^Jane",
        "PatientID": "HILL-0042",
        "StudyInstanceUID": "1.2.3.77.1",
        "SeriesInstanceUID": "1.2.3.77.2",
        "InstitutionName": "Hilltop Clinic",
        "StudyDate": "20130717",
        "ViewPosition": "ROE_JANE",
    }
    path = write_dicom(**identity)
    _, meta = read_dicom(path)
    assert meta.patient == pseudonym("HILL-0042")
    assert meta.study == pseudonym("1.2.3.77.1")
    assert meta.series == pseudonym("1.2.3.77.2")
    assert meta.view is None
    assert find_identifying(repr(meta), pydicom.dcmread(path)) == []
    assert read_dicom(write_dicom())[1].patient is None


def test_meta_of_a_mammogram(write_dicom):
    path = write_dicom(
        Modality="MG",
        PresentationIntentType="FOR PROCESSING",
        ImageLaterality="L",
        ViewCodeSequence={"CodeValue": "R-10226"},
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
    )
    with pytest.warns(
        UserWarning, match=r"image.dcm: this mammogram is FOR PROCESSING"
    ):
        _, meta = read_dicom(path)
    assert (meta.modality, meta.laterality, meta.view) == ("MG", "L", "MLO")
    assert meta.presentation_intent == "FOR PROCESSING"
    assert meta.burned_in is False
    assert meta.lossy is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_dicom(
            Modality="MG",
            PresentationIntentType="FOR PRESENTATION",
            BurnedInAnnotation="YES",
            ViewPosition="CC",
        )
        _, meta = read_dicom(path)
    assert (meta.view, meta.burned_in, meta.lossy) == ("CC", True, None)


def test_metas_compare_without_their_masks(write_dicom):
    stored = RAMP.astype(np.int16)
    stored[0] = -2000
    first, second = (
        read_dicom(write_dicom(stored, **CT | {"RescaleIntercept": "0"}))[1]
        for _ in range(2)
    )
    assert first.mask is not None
    assert first == second
    assert hash(first) == hash(second)
    assert "mask" not in repr(first)
    assert isinstance(first, ImageMeta)


# --- Files that are no images ---


def test_what_is_no_image_is_said_with_the_name_of_the_file(tmp_path, write_dicom):
    def fails(name, message, **parameters):
        with pytest.raises(InvalidImageError, match=message) as error:
            read_dicom(tmp_path / name, **parameters)
        assert str(error.value).startswith(name)
        assert str(tmp_path) not in str(error.value)

    (tmp_path / "site 1").mkdir()
    fails("site 1", "is a folder")
    (tmp_path / "empty.dcm").touch()
    fails("empty.dcm", "is empty")
    (tmp_path / "notes.txt").write_text("Patient Roe, Jane\n" * 20)
    fails("notes.txt", "is not a DICOM file")
    (tmp_path / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM")
    fails("cut.dcm", "not a DICOM file, or holds nothing")
    write_dicom(
        name="report.dcm", PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"
    )
    fails("report.dcm", r"holds no image \(Basic Text SR")
    write_dicom(name="site 1/short.dcm", PixelData=bytes(40))
    fails("site 1/short.dcm", "is cut off: 40 bytes .* speaks of 48", root=tmp_path)
    with pytest.raises(FileNotFoundError):
        read_dicom(tmp_path / "missing.dcm")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Rows": 65535, "Columns": 65535}, "is cut off: 48 bytes"),
        ({"NumberOfFrames": 2000000000}, "is cut off: 48 bytes"),
        ({"NumberOfFrames": -1}, "NumberOfFrames is -1"),
        ({"Rows": 0}, "Rows is 0"),
        ({"Columns": None}, "Columns is missing"),
        ({"BitsAllocated": 12}, "says that values of 12 bits"),
        ({"BitsStored": 17, "HighBit": 16}, "says that values of 17 bits"),
        ({"SamplesPerPixel": 3}, "cannot be read together"),
        ({"PhotometricInterpretation": "Roe^Jane"}, "interpretation other"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a palette without Red"),
        ({"PhotometricInterpretation": None}, "interpretation missing"),
    ],
)
def test_headers_that_lie(write_dicom, elements, message):
    with pytest.raises(InvalidImageError, match=message) as error:
        read_dicom(write_dicom(**elements))
    assert "Roe" not in str(error.value)


def test_a_deflated_bomb_is_not_inflated(write_dicom, monkeypatch):
    path = write_dicom()
    whole = path.read_bytes()
    elements = whole[whole.index(b"\x08\x00\x60\x00CS") :]
    syntax = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    start = bytes(128) + b"DICM" + syntax

    def deflate(data):
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(data) + packer.flush()

    path.write_bytes(start + deflate(elements))
    assert np.array_equal(read_dicom(path)[0], RAMP)
    monkeypatch.setattr("skmedimg._dicom_header._FIRST", 1 << 20)
    path.write_bytes(start + deflate(elements + bytes(1 << 25)))
    with pytest.raises(InvalidImageError, match="made to fill the memory"):
        read_dicom(path)
    path.write_bytes(start + deflate(elements)[:-9])
    with pytest.raises(InvalidImageError, match="deflated data end too early"):
        read_dicom(path)


def test_ct_of_the_lungs(data_file):
    folder = Path(data_file("ct_contrast_dicom"))
    padded = 0
    for path in sorted(folder.rglob("*.dcm")):
        array, meta = read_dicom(path)
        dataset = pydicom.dcmread(path)
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(array.shape)
        hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert (meta.modality, meta.units) == ("CT", "HU")
        assert array.min() >= -1024
        assert np.allclose(array, np.maximum(hu, -1024))
        if meta.mask is None:
            assert hu.min() >= -1024
        else:
            padded += 1
            assert np.array_equal(meta.mask, hu == -2048)
        assert find_identifying(repr(meta), dataset) == []
    assert padded == 2
