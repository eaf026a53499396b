"""Good files of every format, small, and bombs: what the fuzz damages."""

import gzip
import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

IDENTITY = {
    "PatientName": "Featherstone^Ottilie",
    "PatientID": "HILL-0042-7781",
    "PatientBirthDate": "19660102",
    "InstitutionName": "Hilltop Clinic of Nowhere",
}


@dataclass
class Seed:
    """A good file that damaged ones are made from.

    `wrap` turns what may be damaged into the file: compresses it, mends checksums.
    Damage beneath a checksum is never met by a file that does not mend it.
    """

    kind: str
    data: bytes
    suffix: str
    axes: int = 2
    wrap: Callable[[bytes], bytes] = bytes
    # Where the header says how large the image is, as (place, format of struct).
    sizes: list[tuple[int, str]] = field(default_factory=list)


def seeds():
    """Every format, small."""
    rng = np.random.default_rng(7)
    smooth = np.add.outer(np.arange(40), np.arange(48)) * 20
    grey = (smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint16)
    return [*_dicoms(grey), *_niftis(grey), *_rasters(grey), *_numpys(grey)]


def _dicoms(grey):
    for syntax in (
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        yield _dicom("DICOM native", _dataset(grey, syntax))
    rle = _dataset(grey, ExplicitVRLittleEndian)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rle.compress(RLELossless)
    yield _dicom("DICOM RLE", rle)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG2000", no_jp2=True)
    j2k = _dataset(grey, JPEG2000Lossless)
    j2k.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    yield _dicom("DICOM JPEG 2000", j2k)
    frames = np.stack([grey[:16, :16], grey[16:32, :16], grey[:16, 16:32]])
    enhanced = _enhanced(frames)
    yield _dicom("DICOM frames", enhanced, axes=3)
    yield _dicom("DICOM frames", _pet(frames), axes=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        enhanced.compress(RLELossless)
    yield _dicom("DICOM frames", enhanced, axes=3)
    yield from _dicoms_of_pydicom()


def _dicoms_of_pydicom():
    """Those of its test files that are small, in kinds that we cannot write."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    kinds = {"4.5": "JPEG", "4.7": "JPEG", "4.8": "JPEG", "4.9": "JPEG 2000"}
    for path in sorted(folder.glob("*.dcm")):
        data = path.read_bytes()
        found = re.search(rb"1\.2\.840\.10008\.1\.2\.?(4\.\d|5)?", data[132:600])
        tail = (found[1] or b"").decode() if found else ""
        if len(data) < 12_000 and b"\xe0\x7f\x10\0" in data:
            kind = "RLE" if tail == "5" else kinds.get(tail, "native")
            axes = 3 if "frame" in path.name or path.name.startswith("rtd") else 2
            yield Seed(f"DICOM {kind}", data, ".dcm", axes, sizes=_dicom_sizes(data))


def _dataset(pixels, syntax):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    bits = 8 * pixels.dtype.itemsize
    elements = IDENTITY | {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "PixelSpacing": [0.5, 0.5],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelPaddingValue": 0,
        "WindowCenter": 40,
        "WindowWidth": 400,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _enhanced(frames):
    dataset = _dataset(frames, ExplicitVRLittleEndian)
    dataset.NumberOfFrames = f"{len(frames):010d}"  # room for a lie
    groups = []
    for i in range(len(frames)):
        place, plane, own = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 3 * i]
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        own.PlanePositionSequence, own.PlaneOrientationSequence = [place], [plane]
        groups.append(own)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def _pet(frames):
    """Enhanced PET in Bq/ml with what SUV needs."""
    dataset = _enhanced(frames)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.130"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.Modality = "PT"
    dataset.AttenuationCorrected = dataset.DecayCorrected = "YES"
    dataset.DecayCorrectionDateTime = "20200305110000"
    dataset.PatientWeight = "74"
    unit, drug = Dataset(), Dataset()
    unit.CodeValue = "Bq/ml"
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "370", "6586.2"
    drug.RadiopharmaceuticalStartDateTime = "20200305100000"
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    for i, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        mapped = Dataset()
        mapped.RealWorldValueSlope, mapped.RealWorldValueIntercept = 2.5 + i, 0.0
        mapped.MeasurementUnitsCodeSequence = [unit]
        group.RealWorldValueMappingSequence = [mapped]
    return dataset


def _dicom(kind, dataset, axes=2):
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    data = file.getvalue()
    if dataset.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return Seed(kind, data, ".dcm", axes, sizes=_dicom_sizes(data))
    start = len(data) - len(_deflated_part(data))
    plain = data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)

    def deflate(raw):
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return raw[:start] + packer.compress(raw[start:]) + packer.flush()

    return Seed(kind, plain, ".dcm", axes, deflate, _dicom_sizes(plain))


def _deflated_part(data):
    # Its file meta group says its own length.
    (length,) = struct.unpack_from("<I", data, 140)
    return data[144 + length :]


def _dicom_sizes(data):
    """Rows, columns, frames, bits …, and the lengths of some elements."""
    found = []
    for tag in (0x02, 0x08, 0x10, 0x11, 0x100, 0x101, 0x102):
        for order in "<>":
            mark = struct.pack(f"{order}HH", 0x28, tag)
            at = data.find(mark)
            if at >= 0:
                found += [(at + 8, f"{order}H"), (at + 6, f"{order}H")]
    frames = re.search(rb"(?<!\d)0{9}\d", data)
    if frames:
        found += [(frames.start(), "10s")] * 6
    pixels = data.rfind(b"\xe0\x7f\x10\0")
    if pixels >= 0:
        found.append((pixels + 8, "<I"))
    return found


def _niftis(grey):
    shapes = {"<i2": (8, 9, 5), "<f4": (8, 9, 5), ">i4": (8, 9, 5), "<u1": (8, 9, 3, 2)}
    values = np.resize(grey, 8 * 9 * 6)
    for i, (dtype, shape) in enumerate(shapes.items()):
        header = _nifti_header(shape, dtype, version=2 if i == 1 else 1)
        count = math.prod(shape)
        data = header + values[:count].astype(dtype).tobytes()
        order = dtype[0]
        at, size = (16, "q") if i == 1 else (40, "h")
        width = struct.calcsize(size)
        sizes = [(at + k * width, f"{order}{size}") for k in range(1 + len(shape))]
        if i != 1:
            sizes += [(108, f"{order}f"), (112, f"{order}f"), (70, f"{order}h")]
        yield Seed("NIfTI", data, ".nii", 3, sizes=sizes)
        yield Seed("NIfTI gz", data, ".nii.gz", 3, _gzipped, sizes)


def _nifti_header(shape, dtype, version):
    import nibabel as nib

    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = kind(endianness=dtype[0])
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.diag([2, 2, 3, 1]), code=1)
    header["vox_offset"] = header.sizeof_hdr + 4
    header["scl_slope"], header["scl_inter"] = 2, -5
    header["magic"] = b"n+1" if version == 1 else b"n+2\0\r\n\x1a\n"
    return header.binaryblock + bytes(4)


def _gzipped(data):
    return gzip.compress(data, 1, mtime=0)


def _rasters(grey):
    eight = (grey >> 3).astype(np.uint8)
    colour = np.dstack([eight, eight[::-1], eight[:, ::-1]])
    pictures = {
        "8": Image.fromarray(eight),
        "16": Image.fromarray(grey),
        "RGB": Image.fromarray(colour),
        "palette": Image.fromarray(colour).quantize(32),
        "bits": Image.fromarray(eight > 90),
        "alpha": Image.fromarray(eight).convert("LA"),
        "float": Image.fromarray(grey.astype(np.float32)),
    }
    for name, picture in pictures.items():
        if name != "float":
            data = _saved(picture, "PNG")
            sizes = [(16, ">I"), (20, ">I"), (24, ">B"), (25, ">B")]
            yield Seed("PNG", data, ".png", wrap=_png_mended, sizes=sizes)
        packings = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
        packings += ["jpeg"] * (name in ("8", "RGB"))
        for packing in packings:
            data = _saved(picture, "TIFF", compression=packing)
            yield Seed("TIFF", data, ".tif", sizes=_tiff_sizes(data))
        if name in ("8", "RGB"):
            data = _saved(picture, "JPEG")
            at = re.search(rb"\xff\xc0", data).end() + 3
            yield Seed("JPEG", data, ".jpg", sizes=[(at, ">H"), (at + 2, ">H")])
            yield Seed("PNM", _saved(picture, "PPM"), ".pnm")
    pages = [pictures["16"], Image.fromarray(grey[::-1].copy())]
    data = _saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    yield Seed("TIFF", data, ".tif", 3, sizes=_tiff_sizes(data))
    data = b"P2 4 3 255\n" + b" ".join(b"%d" % i for i in range(12)) + b"\n"
    yield Seed("PNM", data, ".pnm")


def _saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **{k: v for k, v in options.items() if v is not None})
    return file.getvalue()


def _png_mended(data):
    """Right checksums for whatever is in the chunks."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        checksum = struct.pack(">I", zlib.crc32(body))
        out += data[at : at + 4] + body + checksum
        at += 12 + length
    return bytes(out) + data[at:]


def _tiff_sizes(data):
    """Values and counts of all entries of the first directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    found = []
    for i in range(count):
        at = start + 2 + 12 * i
        tag, kind = struct.unpack_from("<HH", data, at)
        value = (at + 8, "<H" if kind == 3 else "<I")
        # Width, height, bits, compression, samples, tile or strip: more often.
        often = 4 if tag in (256, 257) else 1
        found += [value] * often + [(at + 4, "<I")]
    return found


def _numpys(grey):
    file = io.BytesIO()
    np.save(file, grey)
    yield Seed("NumPy", file.getvalue(), ".npy")
    file = io.BytesIO()
    np.savez_compressed(file, grey)
    yield Seed("NumPy", file.getvalue(), ".npz")


def _many_scans():
    """A progressive JPEG that ends with its last scan, again and again."""
    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + 1000 * last + data[-2:]


def bombs():
    """Small files of which a decoder would make gigabytes; all of them true."""
    zeros = zlib.compress(bytes(48 << 20), 9)
    side = 40_000
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + bytes(4)

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zeros) + chunk(b"IEND", b"")
    yield Seed("PNG", _png_mended(png), ".png")
    head = _nifti_header((1200, 1200, 1200), "<i2", 1)
    yield Seed("NIfTI gz", _gzipped(head + bytes(48 << 20)), ".nii.gz", 3)
    picture = Image.fromarray(np.zeros((256, 256), np.uint8))
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = bytearray(_saved(picture, "TIFF", compression=packing))
        for at, kind in _tiff_sizes(bytes(data))[:10]:
            if struct.unpack_from(kind, data, at)[0] == 256:
                struct.pack_into(kind, data, at, 30_000)
        yield Seed("TIFF", bytes(data), ".tif")
    yield Seed("JPEG", _many_scans(), ".jpg")
    yield from _dicom_bombs()


def _dicom_bombs():
    blank = np.zeros((8, 8), np.uint16)
    dataset = _dataset(blank, DeflatedExplicitVRLittleEndian)
    dataset.PixelData = bytes(48 << 20)
    dataset.Rows = dataset.Columns = 12_000
    data = io.BytesIO()
    dataset.save_as(data, enforce_file_format=True)
    yield Seed("DICOM native", data.getvalue(), ".dcm")
    for many in (10_000, 1_000_000):
        points = _dataset(np.zeros((1, 1), np.uint16), ExplicitVRLittleEndian)
        points.NumberOfFrames = str(many)
        points.PixelData = bytes(2 * many)
        yield _dicom("DICOM frames", points)
    rle = _dataset(np.zeros((64, 64), np.uint16), ExplicitVRLittleEndian)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rle.compress(RLELossless)
    rle.Rows = rle.Columns = 60_000
    yield _dicom("DICOM RLE", rle)
    for side, frames in ((500, 10_000), (8000, 1), (2500, 1)):
        stream = io.BytesIO()
        Image.new("L", (side, side)).save(stream, "JPEG2000", no_jp2=True)
        j2k = _dataset(np.zeros((4, 4), np.uint16), JPEG2000Lossless)
        j2k.Rows = j2k.Columns = side
        j2k.BitsAllocated, j2k.BitsStored, j2k.HighBit = 8, 8, 7
        j2k.NumberOfFrames = str(frames)
        j2k.PixelData = pydicom.encaps.encapsulate([stream.getvalue()] * frames)
        yield _dicom("DICOM JPEG 2000", j2k)
