"""PNG, JPEG, TIFF, PNM, NPY, NPZ: every depth, turned files, damaged files, bombs."""

import io
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from skmedimg._raster import read_raster
from skmedimg.exceptions import InvalidImageError

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (9, 13), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (9, 13), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (9, 13, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (9, 13, 3), dtype=np.uint16)
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png(array, *, chunks=b""):
    """A PNG of 8 or 16 bits, every row filtered in another way."""
    rows = array.astype(array.dtype.newbyteorder(">")).reshape(len(array), -1)
    rows = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(array), -1).astype(int)
    channels = array.shape[2] if array.ndim == 3 else 1
    width = channels * array.itemsize
    left = np.pad(rows, ((0, 0), (width, 0)))[:, :-width]
    up = np.pad(rows, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(left, ((1, 0), (0, 0)))[:-1]
    near = [abs(left + up - corner - x) for x in (left, up, corner)]
    paeth = np.where(
        (near[0] <= near[1]) & (near[0] <= near[2]),
        left,
        np.where(near[1] <= near[2], up, corner),
    )
    guesses = [0 * rows, left, up, (left + up) // 2, paeth]
    filtered = b"".join(
        bytes([y % 5])
        + ((rows[y] - guesses[y % 5][y]) % 256).astype(np.uint8).tobytes()
        for y in range(len(rows))
    )
    kind = COLOUR_TYPES[channels]
    size = (array.shape[1], len(array), 8 * array.itemsize, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size))
        + chunks
        + chunk(b"IDAT", zlib.compress(filtered))
        + chunk(b"IEND", b"")
    )


def chunk(kind, data):
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def tiff(array, order="<", **tags):
    """An uncompressed TIFF of one strip; tags by number, such as t262=0."""
    data = array.astype(array.dtype.newbyteorder(order)).tobytes()
    channels = array.shape[2] if array.ndim == 3 else 1
    bits = [8 * array.itemsize] * channels
    entries = {
        256: [array.shape[1]],
        257: [array.shape[0]],
        258: bits,
        259: [1],
        262: [2 if channels == 3 else 1],
        273: [8],
        277: [channels],
        278: [array.shape[0]],
        279: [len(data)],
        339: [{"u": 1, "i": 2, "f": 3}[array.dtype.kind]] * channels,
    }
    entries |= {int(key[1:]): [value] for key, value in tags.items()}
    start = 8 + len(data) + len(data) % 2
    extra = start + 2 + 12 * len(entries) + 4
    directory, tail = struct.pack(order + "H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        kind = "I" if tag in (273, 279, 256, 257) else "H"
        packed = struct.pack(order + kind * len(values), *values)
        if len(packed) > 4:
            at = struct.pack(order + "I", extra + len(tail))
            tail, packed = tail + packed + b"\0" * (len(packed) % 2), at
        number = 4 if kind == "I" else 3
        head = struct.pack(order + "HHI", tag, number, len(values))
        directory += head + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = data + b"\0" * (len(data) % 2)
    return mark + struct.pack(order + "I", start) + body + directory + bytes(4) + tail


def pillow(array, kind, mode=None, **options):
    stream = io.BytesIO()
    image = Image.fromarray(array)
    if mode:
        image = image.convert(mode)
    image.save(stream, kind, **options)
    return stream.getvalue()


def numpy_file(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ALPHA8, ALPHA16 = RGB8[..., :1], RGB16[..., :1]
BITS = GREY8 > 99
LOSSLESS = {
    "PNG grey 8": (png(GREY8), GREY8),
    "PNG grey 16": (png(GREY16), GREY16),
    "PNG RGB 8": (png(RGB8), RGB8),
    "PNG RGB 16": (png(RGB16), RGB16),
    "PNG grey alpha 8": (png(np.dstack([GREY8, ALPHA8])), GREY8),
    "PNG grey alpha 16": (png(np.dstack([GREY16, ALPHA16])), GREY16),
    "PNG RGBA 8": (png(np.dstack([RGB8, ALPHA8])), RGB8),
    "PNG RGBA 16": (png(np.dstack([RGB16, ALPHA16])), RGB16),
    "PNG 1 bit": (pillow(BITS, "PNG"), BITS * np.uint8(255)),
    "PNG transparent grey": (png(GREY8, chunks=chunk(b"tRNS", b"\0\x07")), GREY8),
    "TIFF grey 8": (pillow(GREY8, "TIFF"), GREY8),
    "TIFF grey 16": (tiff(GREY16), GREY16),
    "TIFF grey 16 big": (tiff(GREY16, ">"), GREY16),
    "TIFF LZW": (pillow(GREY16, "TIFF", compression="tiff_lzw"), GREY16),
    "TIFF deflate": (pillow(GREY16, "TIFF", compression="tiff_adobe_deflate"), GREY16),
    "TIFF packbits": (pillow(GREY8, "TIFF", compression="packbits"), GREY8),
    "TIFF 1 bit": (pillow(BITS, "TIFF", compression="group4"), BITS * np.uint8(255)),
    "TIFF RGB 8": (pillow(RGB8, "TIFF"), RGB8),
    "TIFF RGB 16": (tiff(RGB16), RGB16),
    "TIFF RGB 16 big": (tiff(RGB16, ">"), RGB16),
    "TIFF RGBA 16": (tiff(np.dstack([RGB16, ALPHA16]), t262=2, t338=2), RGB16),
    "TIFF float": (tiff(GREY16.astype(np.float32) / 3), GREY16.astype("f4") / 3),
    "TIFF float big": (tiff(GREY16.astype("f4"), ">"), GREY16.astype("f4")),
    "TIFF int8": (tiff(GREY8.view(np.int8)), GREY8.view(np.int8)),
    "TIFF int16": (tiff(GREY16.view(np.int16)), GREY16.view(np.int16)),
    "TIFF int16 big": (tiff(GREY16.view(np.int16), ">"), GREY16.view(np.int16)),
    "TIFF int32": (tiff(GREY16.astype("i4") - 70000), GREY16.astype("i4") - 70000),
    "TIFF uint32": (tiff(GREY16.astype("u4") << 16), GREY16.astype("u4") << 16),
    "TIFF inverted 8": (tiff(255 - GREY8, t262=0), GREY8),
    "TIFF inverted 16": (tiff(65535 - GREY16, t262=0), GREY16),
    "NPY": (numpy_file(GREY16), GREY16),
    "NPY big endian": (numpy_file(GREY16.astype(">u2")), GREY16),
    "NPY Fortran": (numpy_file(np.asfortranarray(RGB8)), RGB8),
    "NPY float16": (numpy_file(GREY8.astype("f2")), GREY8.astype("f2")),
    "NPY bool volume": (numpy_file(RGB8 > 99), RGB8 > 99),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_every_bit_arrives(case, tmp_path):
    data, expected = LOSSLESS[case]
    (tmp_path / "image").write_bytes(data)
    array, meta = read_raster(tmp_path / "image")
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert array.flags.c_contiguous
    assert meta.format == case.split()[0].lower()
    assert meta.units == ("displayed" if "RGB" in case else "raw")
    assert meta.spacing is None


# SimpleITK has no grey with alpha, and leaves inverted and single bits as they are.
COMPARED = [
    case
    for case in LOSSLESS
    if case.split()[0] in ("PNG", "TIFF")
    and not any(word in case for word in ("grey alpha", "transparent", "inv", "1 bit"))
]


@pytest.mark.parametrize("case", COMPARED)
def test_same_values_as_simpleitk(case, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / f"a.{case.split()[0].lower()}"
    path.write_bytes(LOSSLESS[case][0])
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = read_raster(path)[0]
    np.testing.assert_array_equal(array, other[..., :3] if other.ndim == 3 else other)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("array", [GREY16, RGB16], ids=["grey", "colour"])
def test_tiff_written_by_simpleitk(array, compression, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    path = str(tmp_path / "a.tif")
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 3)
    sitk.WriteImage(image, path, compression is not None, compressor=compression or "")
    np.testing.assert_array_equal(read_raster(path)[0], array)


def test_interlaced_png_of_16_bits(tmp_path):
    """Adam7 by hand: seven small images, one after the other."""
    start, data = struct.pack(">IIBBBBB", 13, 9, 16, 2, 0, 0, 1), b""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
    for y, x, dy, dx in [*passes, (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]:
        for row in RGB16[y::dy, x::dx]:
            data += b"\0" + row.astype(">u2").tobytes()
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start)
    file += chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(file)
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png")[0], RGB16)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(0, 256, 4))])
def test_palette_becomes_rgb(transparency, tmp_path):
    palette = RNG.integers(0, 256, (64, 3), dtype=np.uint8)
    index = GREY8 % 64
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    array = read_raster(tmp_path / "a.png")[0]
    np.testing.assert_array_equal(array, palette[index])
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_raster(tmp_path / "a.tif")[0], palette[index])


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_span_the_whole_range(bits, tmp_path):
    levels = GREY8 >> (8 - bits)
    rows = np.packbits(
        np.unpackbits(levels[..., None], axis=2)[..., -bits:].reshape(9, -1), axis=1
    )
    head = struct.pack(">IIBBBBB", 13, 9, bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    file = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + file)
    expected = levels * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read_raster(tmp_path / "a.png")[0], expected)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_turned_files_stand_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for array, kind in ((RGB8, "PNG"), (GREY16, "PNG"), (GREY16, "TIFF")):
        path = tmp_path / f"a.{kind}"
        Image.fromarray(array).save(path, kind, exif=exif)
        np.testing.assert_array_equal(read_raster(path)[0], TURNS[orientation](array))
    path.write_bytes(tiff(RGB16, t274=orientation))
    np.testing.assert_array_equal(read_raster(path)[0], TURNS[orientation](RGB16))
    path.write_bytes(png(RGB16, chunks=chunk(b"eXIf", exif.tobytes()[6:])))
    np.testing.assert_array_equal(read_raster(path)[0], TURNS[orientation](RGB16))
    # Whole blocks of one grey survive JPEG exactly.
    blocks = np.kron(RNG.integers(0, 256, (2, 3)), np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(blocks).save(path, "JPEG", exif=exif, quality=100)
    np.testing.assert_allclose(read_raster(path)[0], TURNS[orientation](blocks), atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(mode, progressive, tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8) * 2
    colour = np.dstack([smooth, 255 - smooth, smooth // 2])
    image = Image.fromarray(smooth if mode == "L" else colour).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95, subsampling=0, progressive=progressive)
    array = read_raster(tmp_path / "a.jpg")[0]
    assert array.dtype == np.uint8
    np.testing.assert_allclose(
        array.astype(int), smooth if mode == "L" else colour, atol=8
    )


def test_pages_are_a_volume(tmp_path):
    volume = RNG.integers(0, 65536, (4, 9, 13), dtype=np.uint16)
    first, *rest = map(Image.fromarray, volume)
    path = tmp_path / "a.tif"
    for compression in (None, "tiff_lzw"):
        first.save(path, save_all=True, append_images=rest, compression=compression)
        np.testing.assert_array_equal(read_raster(path)[0], volume)
    colour = [Image.fromarray(RGB8), Image.fromarray(255 - RGB8)]
    colour[0].save(path, save_all=True, append_images=colour[1:])
    np.testing.assert_array_equal(read_raster(path)[0], np.stack([RGB8, 255 - RGB8]))


def test_pages_of_several_sizes_are_no_volume(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(GREY8), Image.fromarray(GREY8[:5])]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(InvalidImageError, match=r"2 pages.*5 × 13 .L., 9 × 13"):
        read_raster(path)


def test_smaller_copy_in_a_tiff_is_passed_over(tmp_path):
    path = tmp_path / "a.tif"
    copy = Image.fromarray(GREY8[::2, ::2])
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(GREY8).save(path, save_all=True, append_images=[copy])
    np.testing.assert_array_equal(read_raster(path)[0], GREY8)


def pnm(kind, array, largest=None, comment=""):
    """Binary for P4 to P6, else plain; 1 is black in P1 and P4."""
    height, width = array.shape[:2]
    size = f"{kind}\n{comment}{width} {height}\n"
    head = (size + (f"{largest}\n" if largest else "")).encode()
    if kind == "P4":
        return head + np.packbits(array, axis=1).tobytes()
    if kind in ("P1", "P2", "P3"):
        return head + " ".join(map(str, array.ravel().astype(int))).encode() + b"\n"
    return head + array.astype("u1" if largest < 256 else ">u2").tobytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pnm("P1", BITS), ~BITS * np.uint8(255)),
        (b"P1 3 2 101\n010", np.array([[0, 255, 0], [255, 0, 255]], np.uint8)),
        (pnm("P2", GREY8, 255, "# by hand\n# twice\n"), GREY8),
        (pnm("P2", GREY16, 65535), GREY16),
        (pnm("P3", RGB8, 255), RGB8),
        (pnm("P4", BITS), ~BITS * np.uint8(255)),
        (pnm("P5", GREY8, 255), GREY8),
        (pnm("P5", GREY8 >> 4, 15), GREY8 >> 4),
        (pnm("P5", GREY16 >> 4, 4095, "#\n"), GREY16 >> 4),
        (pnm("P5", GREY16, 65535), GREY16),
        (pnm("P6", RGB8, 255), RGB8),
        (pnm("P6", RGB16, 65535), RGB16),
    ],
)
def test_pnm_values_are_those_stored(data, expected, tmp_path):
    (tmp_path / "a.pgm").write_bytes(data)
    array, meta = read_raster(tmp_path / "a.pgm")
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert meta.format == "pnm"


@pytest.mark.parametrize(
    "data",
    [
        b"P5 4 4 255\n123",
        b"P5 4 4 0\n" + bytes(16),
        b"P5 4 4 70000\n" + bytes(99),
        b"P5 0 4 255\n",
        b"P5 999999999 999999999 255\n" + bytes(99),
        b"P5 4 four 255\n" + bytes(99),
        b"P2 2 2 9\n1 2 3",
        b"P2 2 2 9\n1 2 3 x",
        b"P2 2 2 9\n1 2 3 10",
        b"P2 2 2 9\n1 2 3 -1",
        b"P1 2 2 1021",
        b"P6 2 2",
    ],
)
def test_damaged_pnm(data, tmp_path):
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(InvalidImageError, match=r"^a\.pgm: "):
        read_raster(tmp_path / "a.pgm")


def test_npz_of_one_array(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", image=GREY16)
        array, meta = read_raster(tmp_path / "a.npz")
        np.testing.assert_array_equal(array, GREY16)
        assert array.flags.writeable
        assert meta.format == "npz"
    np.savez(tmp_path / "a.npz", image=GREY16, mask=GREY16 > 9)
    with pytest.raises(InvalidImageError, match=r"holds 2 arrays .image, mask.:"):
        read_raster(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(InvalidImageError, match="holds 0 arrays:"):
        read_raster(tmp_path / "a.npz")


def test_pickles_are_never_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([[{}]]), allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InvalidImageError, match=f"^{name}: "):
            read_raster(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((3, 3), complex), "complex128"),
        (np.zeros((3, 3), "U3"), "<U3"),
        (np.zeros(9), r"shape is \(9,\)"),
        (np.zeros((3, 0)), r"shape is \(3, 0\)"),
        (np.zeros((2,) * 5), "two to four axes"),
        (np.zeros((2, 2), [("a", "u1")]), "dtype is"),
    ],
)
def test_array_that_is_no_image(array, cause, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InvalidImageError, match=cause):
        read_raster(tmp_path / "a.npy")


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a..", b"PK\3\4", b"\xff\xd8\xff"])
def test_not_an_image(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InvalidImageError, match=r"^a\.png: "):
        read_raster(tmp_path / "a.png")


def test_files_that_cannot_be_opened_stay_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_raster(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        read_raster(tmp_path)


def test_colour_of_16_bits_in_planes_is_refused(tmp_path):
    planes = np.moveaxis(RGB16, -1, 0).reshape(9, 13, 3)
    (tmp_path / "a.tif").write_bytes(tiff(planes, t284=2))
    with pytest.raises(InvalidImageError, match=r"planes of 16-bit colour"):
        read_raster(tmp_path / "a.tif")


def test_wrong_pixel_in_a_png_is_noticed(tmp_path):
    data = bytearray(png(GREY16))
    data[-20] ^= 1  # the checksum of the pixels
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InvalidImageError, match=r"a\.png: .*PNG"):
        read_raster(tmp_path / "a.png")


def bombs():
    zeros = zlib.compressobj(9)
    rows = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(1200)) + zeros.flush()
    head = struct.pack(">IIBBBBB", 35000, 35000, 8, 0, 0, 0, 0)
    file = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    yield "PNG", b"\x89PNG\r\n\x1a\n" + file
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    yield "lying PNG", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + file[25:]
    jpeg = pillow(np.zeros((16, 16), np.uint8), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield "lying JPEG", jpeg[:at] + b"\xff\x00\xff\x00" + jpeg[at + 4 :]
    yield "lying TIFF", tiff(GREY16, t256=60000, t257=60000)
    yield "lying LZW TIFF", tiff(GREY16, t256=60000, t257=60000, t259=5)
    yield "lying fax TIFF", tiff(GREY8, t256=200000, t257=200000, t259=4)
    yield "TIFF with a giant tile", tiff(GREY16, t322=65000, t323=65000, t259=8)
    yield "NPY", numpy_file(GREY16).replace(b"(9, 13)", b"(90000, 900000)")
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (35000, 35000)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(200):
            member.write(bytes(1 << 20))
    yield "NPZ", stream.getvalue() + bytes(1_000_000)


@pytest.mark.parametrize(
    "data", [pytest.param(data, id=name) for name, data in bombs()]
)
def test_bombs_are_refused_before_they_go_off(data, tmp_path):
    (tmp_path / "bomb").write_bytes(data)
    before = Image.MAX_IMAGE_PIXELS
    start = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(InvalidImageError, match=r"^bomb: "):
        read_raster(tmp_path / "bomb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 1
    assert peak < 2e7
    assert before == Image.MAX_IMAGE_PIXELS


def test_large_honest_image_is_read_without_a_warning(tmp_path):
    # Beyond the number of pixels at which Pillow warns.
    row = b"\0" + RNG.integers(0, 256, 1200, dtype=np.uint8).tobytes()
    packed = zlib.compress(b"".join(row for _ in range(9600)), 1)
    head = struct.pack(">IIBBBBB", 9600, 9600, 1, 0, 0, 0, 0)
    file = chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + file)
    array = read_raster(tmp_path / "a.png")[0]
    assert array.size > Image.MAX_IMAGE_PIXELS
    bits = np.unpackbits(np.frombuffer(row[1:], np.uint8))
    np.testing.assert_array_equal(array[[0, -1]], [bits * 255] * 2)


FUZZED = {
    **{case: LOSSLESS[case][0] for case in LOSSLESS},
    "JPEG": pillow(np.kron(GREY8, np.ones((4, 4), np.uint8)), "JPEG"),
    "progressive JPEG": pillow(RGB8, "JPEG", progressive=True),
    "JPEG in TIFF": pillow(RGB8, "TIFF", compression="jpeg"),
    "PGM": pnm("P5", GREY16, 65535),
    "plain PPM": pnm("P3", RGB8, 255),
}


@pytest.mark.parametrize("case", FUZZED)
def test_any_damage_gives_an_image_or_a_clear_error(case, tmp_path):
    good, path = FUZZED[case], tmp_path / "image"
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    slowest, messages = 0.0, []
    tracemalloc.start()
    for i in range(60):
        data = bytearray(good)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        if i % 4 == 0:
            del data[rng.integers(len(data)) :]
        path.write_bytes(data)
        start = time.perf_counter()
        try:
            read_raster(path)
        except InvalidImageError as error:
            messages.append(str(error))
        slowest = max(slowest, time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert messages
    assert all(message.startswith("image: ") for message in messages)
    assert slowest < 1
    assert peak < 3e7


def test_scans_without_end_are_refused(tmp_path):
    """A megabyte of them keeps a decoder busy for minutes."""
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path, progressive=True)
    data = path.read_bytes()
    last = data[data.rfind(b"\xff\xda") : -2]
    assert read_raster(path)[0].shape == (64, 64)
    path.write_bytes(data[:-2] + 100 * last + data[-2:])
    with pytest.raises(InvalidImageError, match="more scans than any image needs"):
        read_raster(path)
