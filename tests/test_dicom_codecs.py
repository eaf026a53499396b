"""Pixels against decoders that are not pydicom, and files that were damaged.

dcmtk's programs and SimpleITK (GDCM) read pydicom's test files and what dcmtk's own
encoders made of others; all that they and we can read must agree.
"""

import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from skmedimg import _dicom_codecs as codecs
from skmedimg._dicom import read_dicom
from skmedimg.exceptions import InvalidImageError

FILES = Path(pydicom.data.__file__).parent / "test_files"
DAMAGED = ("JPEG2000-embedded-sequence-delimiter", "MR_truncated", "badVR")
NATIVE = [
    "CT_small",
    "ExplVR_BigEnd",
    "MR_small",
    "MR_small_bigendian",
    "MR_small_expb",
    "MR_small_implicit",
    "MR_small_padded",
    "SC_rgb_jpeg_dcmd",
    "SC_rgb_small_odd",
    "SC_rgb_small_odd_big_endian",
    "examples_overlay",
    "examples_palette",
    "examples_rgb_color",
    "image_dfl",
]


def images():
    """Test files of pydicom that hold an image, compressed ones and others."""
    found = []
    for path in sorted(FILES.rglob("*")):
        relative = path.relative_to(FILES)
        if "TINY_ALPHA" in relative.parts or not path.is_file():
            continue
        if path.suffix == ".dcm" and relative.parent == Path():
            found.append(path)
        elif relative.parts[0] == "dicomdirtests" and path.name.isdigit():
            found.append(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        headers = [pydicom.dcmread(p, force=True) for p in found]
    pairs = zip(found, headers, strict=True)
    return [
        path
        for path, h in pairs
        if "PixelData" in h and path.stem not in DAMAGED and "Rows" in h
    ]


IMAGES = images()


def without(*parts):
    """Images whose name has none of these parts."""
    return [path for path in IMAGES if not any(part in path.name for part in parts)]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


@pytest.fixture
def run():
    """Run a program of dcmtk; skips where it is not installed."""

    def call(name, *arguments):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name} of dcmtk")
        command = [name, *map(str, arguments)]
        return subprocess.run(command, capture_output=True).returncode == 0

    return call


@pytest.fixture
def picture(run, tmp_path):
    """What dcmtk makes of a file, of 8 bits a sample."""

    def draw(path, *options):
        plain = path
        for program in ("dcmdjpeg", "dcmdjpls", "dcmdrle"):
            if run(program, path, tmp_path / "plain.dcm"):
                plain = tmp_path / "plain.dcm"
                break
        if not run("dcm2pnm", "-O", "+opb", *options, plain, tmp_path / "out.pnm"):
            return None
        with Image.open(tmp_path / "out.pnm") as image:
            return np.asarray(image).astype(int)

    return draw


# GDCM leaves DoseGridScaling out, and mixes up run lengths of several bytes: these are
# compared with dcmtk's raw bytes below.
@pytest.mark.parametrize(
    "path", without("rtdose", "rle_16", "rle_32"), ids=lambda path: path.name
)
def test_values_are_those_of_gdcm(path):
    sitk = pytest.importorskip("SimpleITK")
    array, meta = read_dicom(path, fill=None)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).reshape(array.shape)
    if meta.modality == "SEG":
        expected = expected // 255
    assert np.allclose(array, expected, rtol=1e-6)


# dcmtk decodes no JPEG 2000, and no marker of the wrong length, and draws no doses.
@pytest.mark.parametrize(
    "path",
    without(
        "J2K",
        "JPEG2000",
        "jpeg2k",
        "jp2k",
        "gdcm_KY",
        "SC_rgb_jpeg.",
        "pixelrep",
        "rtdose",
    ),
    ids=lambda path: path.name,
)
def test_colours_and_windows_are_those_of_dcmtk(path, picture):
    array, meta = read_dicom(path, frame=0)
    if array.ndim == 3:
        expected, seen = picture(path), array >> 8 * (array.dtype.itemsize - 1)
        most = 1 if "422_uncompressed" in path.name else 0
    else:
        if meta.voi:
            ours, theirs = {"voi": 0}, ("+Wi", 1)
        else:
            ours, theirs = {"window": (40, 400)}, ("+Ww", 40, 400)
        expected = picture(path, *theirs)
        seen, most = read_dicom(path, frame=0, **ours)[0] * 255, 1.001
    assert np.abs(expected - seen).max() <= most


def test_dose_and_run_lengths_of_several_bytes(run, tmp_path):
    # The raw bytes, as dcmtk writes them.
    for name in ("rtdose.dcm", "rtdose_rle.dcm", "SC_rgb_rle_16bit.dcm"):
        source = FILES / name
        if run("dcmdrle", source, tmp_path / name):
            source = tmp_path / name
        assert run("dcmdump", "+W", tmp_path, source)
        (raw,) = tmp_path.glob("*.raw")
        header = pydicom.dcmread(source, stop_before_pixels=True)
        array, _ = read_dicom(FILES / name)
        expected = np.fromfile(raw, f"<u{header.BitsAllocated // 8}")
        raw.unlink()
        if array.shape[-1] == 3 and header.PlanarConfiguration:
            expected = np.moveaxis(expected.reshape(3, *array.shape[:2]), 0, -1)
        scaling = float(header.get("DoseGridScaling", 1))
        assert np.allclose(array.ravel(), expected.ravel() * scaling, rtol=1e-6)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize(
    "encoder", ["dcmcjpeg +e1", "dcmcjpeg +el", "dcmcjpls +el", "dcmcrle"]
)
def test_what_dcmtk_compressed_without_loss_comes_back(name, encoder, run, tmp_path):
    source, packed = FILES / f"{name}.dcm", tmp_path / "packed.dcm"
    if not run(*encoder.split(), source, packed):
        pytest.skip("dcmtk does not compress this one")
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID.is_compressed
    expected, _ = read_dicom(source)
    array, _ = read_dicom(packed)
    assert array.dtype == expected.dtype
    assert np.array_equal(array, expected)


@pytest.mark.parametrize("stored", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encoder", ["dcmcjpeg", "dcmcjpls", "dcmcrle"])
def test_signs_of_compressed_values(write_dicom, run, stored, signed, encoder):
    rng = np.random.default_rng(stored)
    low = -(1 << stored - 1) if signed else 0
    size = 1 if stored == 8 else 2
    pixels = rng.integers(low, low + (1 << stored), (16, 16))
    pixels = pixels.astype(f"{'i' if signed else 'u'}{size}")
    identity = {"SOPInstanceUID": "1.2.3", "SOPClassUID": "1.2"}
    path = write_dicom(pixels, BitsStored=stored, **identity)
    packed = path.with_name("packed.dcm")
    if not run(encoder, path, packed):
        pytest.skip("dcmtk does not compress this one")
    array, _ = read_dicom(packed)
    assert array.dtype == pixels.dtype
    assert np.array_equal(array, pixels)


def test_values_of_12_bits_compressed_with_loss(write_dicom, run):
    pixels = np.linspace(0, 4095, 400).astype(np.uint16).reshape(20, 20)
    identity = {"SOPInstanceUID": "1.2.3", "SOPClassUID": "1.2"}
    path = write_dicom(pixels, BitsStored=12, **identity)
    packed, plain = path.with_name("packed.dcm"), path.with_name("plain.dcm")
    assert run("dcmcjpeg", "+ee", "+bt", path, packed)
    assert run("dcmdjpeg", packed, plain)
    array, _ = read_dicom(packed)
    assert np.abs(array.astype(int) - pixels).max() < 60
    assert np.array_equal(array, read_dicom(plain)[0])
    # The same bits, signed.
    dataset = pydicom.dcmread(packed)
    dataset.PixelRepresentation = 1
    dataset.save_as(packed)
    signed, _ = read_dicom(packed)
    assert signed.dtype == np.int16
    assert np.array_equal(signed, (array.astype(int) ^ 0x800) - 0x800)


def test_frames_in_several_fragments_are_found(write_dicom):
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    encoded = []
    for frame in frames:
        stream = Path(write_dicom(frame)).with_suffix(".jpg")
        Image.fromarray(frame).save(stream, quality=95)
        encoded.append(stream.read_bytes())
    whole = {"syntax": JPEGBaseline8Bit, "NumberOfFrames": 3}
    arrays = []
    for per_frame, offsets in ((1, True), (2, True), (2, False), (1, False)):
        data = encapsulate(encoded, fragments_per_frame=per_frame, has_bot=offsets)
        path = write_dicom(frames, PixelData=data, **whole)
        arrays.append(read_dicom(path)[0])
        assert np.array_equal(read_dicom(path, frame=2)[0], arrays[0][2])
    assert all(np.array_equal(array, arrays[0]) for array in arrays)
    assert np.abs(arrays[0].astype(int) - frames).mean() < 5
    path = write_dicom(frames, PixelData=encapsulate(encoded[:2]), **whole)
    with pytest.raises(InvalidImageError, match="holds 2 of the 3 frames"):
        read_dicom(path)


def test_a_codestream_of_another_size_is_not_decoded(write_dicom, tmp_path):
    data = pydicom.dcmread(FILES / "MR_small_jp2klossless.dcm").PixelData
    pixels = np.zeros((8, 8), np.int16)
    path = write_dicom(pixels, syntax=JPEG2000Lossless, PixelData=data)
    with pytest.raises(
        InvalidImageError, match=r"64 × 64 pixels, its header says 8 × 8"
    ):
        read_dicom(path)
    # Both agree on a size that the bytes cannot be worth.
    huge = data.replace((64).to_bytes(4, "big"), (60000).to_bytes(4, "big"))
    path = write_dicom(
        pixels, syntax=JPEG2000Lossless, PixelData=huge, Rows=60000, Columns=60000
    )
    with pytest.raises(InvalidImageError, match="made to fill the memory"):
        read_dicom(path)


def test_a_run_length_bomb(write_dicom):
    frame = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\x81\0" * 200_000
    path = write_dicom(
        np.zeros((8, 8), np.uint8), syntax=RLELossless, PixelData=encapsulate([frame])
    )
    with pytest.raises(InvalidImageError, match="bytes for a frame of 64 bytes"):
        read_dicom(path)


def test_jpeg_colours_by_what_the_frame_says_then_by_the_header(write_dicom, tmp_path):
    rgb = np.zeros((16, 16, 3), np.uint8) + np.array([200, 80, 40], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "ybr.jpg", quality=100, subsampling=0)
    Image.fromarray(rgb).save(tmp_path / "rgb.jpg", quality=100, keep_rgb=True)
    ybr = (tmp_path / "ybr.jpg").read_bytes()
    bare = ybr[:2] + ybr[20:]  # without the JFIF marker
    assert b"JFIF" in ybr[:20]
    for stream, photometric, colour in [
        (ybr, "YBR_FULL_422", [200, 80, 40]),
        (ybr, "RGB", [200, 80, 40]),
        (bare, "YBR_FULL", [200, 80, 40]),
        # Samples that are RGB, and nothing in the frame that says so.
        (bare, "RGB", np.asarray(Image.fromarray(rgb).convert("YCbCr"))[0, 0]),
        ((tmp_path / "rgb.jpg").read_bytes(), "YBR_FULL", [200, 80, 40]),
    ]:
        path = write_dicom(
            rgb,
            syntax=JPEGBaseline8Bit,
            PhotometricInterpretation=photometric,
            PixelData=encapsulate([stream]),
        )
        array, _ = read_dicom(path)
        assert np.abs(array.astype(int) - colour).max() <= 3, photometric


# --- The process that decodes ---


def test_a_frame_that_kills_the_decoder_costs_one_file(write_dicom):
    good = FILES / "MR_small_jpeg_ls_lossless.dcm"
    expected, _ = read_dicom(good)
    frame = bytearray(pydicom.dcmread(good).PixelData)
    for i in range(200, len(frame) - 20, 97):
        frame[i] ^= 0xA5
    dataset = pydicom.dcmread(good)
    dataset.PixelData = bytes(frame)
    path = write_dicom()
    dataset.save_as(path)
    for _ in range(2):
        with pytest.raises(InvalidImageError, match="cannot be decoded"):
            read_dicom(path)
        assert np.array_equal(read_dicom(good)[0], expected)


def test_threads_and_forks_have_decoders_of_their_own():
    good = FILES / "MR_small_jp2klossless.dcm"
    expected, _ = read_dicom(good)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(read_dicom(good)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(array, expected) for array in results)
    # In a process of its own: pytest has threads that must not be forked.
    script = (
        "import os, sys\n"
        "from skmedimg._dicom import read_dicom\n"
        "first, _ = read_dicom(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    again, _ = read_dicom(sys.argv[1])\n"
        "    os._exit(0 if (first == again).all() else 1)\n"
        "assert os.wait()[1] == 0\n"
        "assert (read_dicom(sys.argv[1])[0] == first).all()\n"
    )
    if hasattr(os, "fork"):
        command = [sys.executable, "-W", "error", "-c", script, str(good)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_decoder_is_named(monkeypatch):
    monkeypatch.setattr(codecs, "_WORKER", codecs._Worker())
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        ImportError, match=r"needs gdcm: pip install 'skmedimg\[dicom\]'"
    ):
        read_dicom(FILES / "MR_small_jpeg_ls_lossless.dcm")
    codecs._WORKER.close()


# --- Damaged files ---


def damage(data, rng):
    """Cut a file short, or flip some bits of it, half of them in the header."""
    data = bytearray(data)
    if rng.random() < 0.3:
        del data[rng.randrange(1, len(data)) :]
    for _ in range(rng.choice([0, 1, 2, 5, 20])):
        end = len(data) if rng.random() < 0.5 else min(len(data), 1500)
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(data)


def test_damaged_files_are_invalid_quickly_and_without_memory(tmp_path):
    rng = random.Random(0)
    small = [p.read_bytes() for p in IMAGES if p.stat().st_size < 20_000]
    read_dicom(FILES / "MR_small_jpeg_ls_lossless.dcm")  # all is imported by now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    invalid, nameless, slowest = 0, 0, 0.0
    for i in range(400):
        path = tmp_path / f"{i}.dcm"
        path.write_bytes(damage(small[i % len(small)], rng))
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SUV|CT without|.*RescaleSlope")
            try:
                read_dicom(path)
            except InvalidImageError as error:
                invalid += 1
                nameless += not str(error).startswith(path.name)
        slowest = max(slowest, time.process_time() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert invalid > 100
    assert nameless == 0
    assert slowest < 1
    assert peak < 32 << 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # KiB
