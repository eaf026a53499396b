"""NIfTI: orientation, scaling and shapes against other readers; damaged files."""

import gzip
import itertools
import time
import tracemalloc
import warnings

import nibabel as nib
import numpy as np
import pytest

from skmedimg._nifti import read_nifti
from skmedimg._orientation import closest_code, reorient
from skmedimg.exceptions import InvalidImageError

CODES = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]
SPACING = {"S": 3.0, "P": 2.0, "L": 0.5}
# No value twice, so that a voxel is known by it.
SPL = np.random.default_rng(0).permutation(4000)[:210].reshape(5, 6, 7).astype("i2")


def affine_of(code, spacing=SPACING):
    """Voxel indices to RAS millimetres for axes that lie as `code` says."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    size = spacing | {"I": spacing["S"], "A": spacing["P"], "R": spacing["L"]}
    for k, letter in enumerate(code):
        world, sign = next(
            (i, 1 - 2 * pair.index(letter))
            for i, pair in enumerate(("RL", "AP", "SI"))
            if letter in pair
        )
        affine[world, k] = sign * size[letter]
    return affine


def write(
    path, voxels, affine, *, slope=1, inter=0, kind=nib.Nifti1Image, forms=(1, 1)
):
    """Store `voxels` as they are; the header says how to scale them."""
    image = kind(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, forms[0])
    image.set_sform(affine, forms[1])
    data = bytearray(image.to_bytes())
    at, dtype = (112, "<f4") if kind is nib.Nifti1Image else (176, "<f8")
    scaling = np.array([slope, inter], dtype).tobytes()
    data[at : at + len(scaling)] = scaling
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def patch(path, at, value):
    """Overwrite bytes of an uncompressed file."""
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("code", CODES)
def test_every_orientation_reads_as_the_same_volume(code, tmp_path):
    voxels = reorient(SPL, "SPL", code)[0]
    path = write(tmp_path / "a.nii.gz", voxels, affine_of(code), slope=2, inter=5)
    array, meta = read_nifti(path)
    np.testing.assert_array_equal(array, SPL * 2 + 5)
    assert array.dtype == np.int16
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert meta.spacing == (3.0, 2.0, 0.5)
    assert meta.orientation == "SPL"

    own, meta = read_nifti(path, orientation=None)
    np.testing.assert_array_equal(own, np.asanyarray(nib.load(path).dataobj))
    assert meta.orientation == code
    assert meta.spacing == pytest.approx(nib.load(path).header.get_zooms())


@pytest.mark.parametrize("forms", [(1, 0), (0, 1)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_versions_and_both_forms(kind, name, forms, tmp_path):
    voxels = reorient(SPL, "SPL", "AIL")[0]
    path = write(tmp_path / name, voxels, affine_of("AIL"), kind=kind, forms=forms)
    np.testing.assert_array_equal(read_nifti(path)[0], SPL)


def rotation(angle):
    """About an axis that is none of the patient's."""
    a, b = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, a, -b], [0, b, a]])
    return about_x @ np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]])


@pytest.mark.parametrize("code", CODES)
def test_every_voxel_keeps_its_place_in_the_patient(code, tmp_path):
    affine = affine_of(code)
    affine[:3, 3] = [-10, 20, 30]
    affine[:3, :3] = rotation(0.2) @ affine[:3, :3]
    voxels = reorient(SPL, "SPL", code)[0]
    path = write(tmp_path / "a.nii", voxels, affine)
    stored = np.array(np.unravel_index(np.argsort(voxels, axis=None), voxels.shape))
    lps = np.diag([-1, -1, 1]) @ (affine[:3, :3] @ stored + affine[:3, 3:])
    for orientation in ("SPL", "LPS", "ARI", None):
        array, meta = read_nifti(path, orientation=orientation)
        k, i, j = np.unravel_index(np.argsort(array, axis=None), array.shape)
        row, column = np.array(meta.cosines).reshape(2, 3)
        places = np.array(meta.positions)[k]
        places = places + np.outer(i * meta.spacing[1], column)
        places += np.outer(j * meta.spacing[2], row)
        np.testing.assert_allclose(places.T, lps, atol=1e-4)
        assert meta.orientation == (orientation or code)


def test_big_endian_file(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    voxels = reorient(SPL, "SPL", "RAS")[0]
    nib.Nifti1Image(voxels, affine_of("RAS"), header).to_filename(tmp_path / "b.nii")
    array = read_nifti(tmp_path / "b.nii")[0]
    assert (tmp_path / "b.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    np.testing.assert_array_equal(array, SPL)
    assert array.dtype.isnative


def rotations(n):
    rng = np.random.default_rng(1)
    for _ in range(n):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        yield q


def test_closest_axes_agree_with_nibabel():
    # Near 45 degrees the two may differ, and neither is wrong.
    clear = [q for q in rotations(200) if np.abs(q).max(0).min() > 0.75]
    assert len(clear) > 30
    for q in clear:
        assert closest_code(q) == "".join(nib.aff2axcodes(np.pad(q, (0, 1))))


def test_oblique_volume_goes_to_the_closest_axes_as_in_simpleitk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    compared = 0
    for i, q in enumerate(rotations(12)):
        affine = np.eye(4)
        affine[:3, :3] = q * [3.0, 2.0, 0.5]
        path = write(tmp_path / f"{i}.nii", SPL, affine)
        image = sitk.ReadImage(str(path))
        code = closest_code(q)
        oriented = sitk.DICOMOrient(image, "LPS")
        array, meta = read_nifti(path)
        other = sitk.GetArrayFromImage(oriented)
        if array.shape != other.shape:
            assert np.abs(q).max(0).min() < 0.75, code
            continue
        compared += 1
        np.testing.assert_array_equal(array, other)
        assert meta.spacing == pytest.approx(oriented.GetSpacing()[::-1], rel=1e-5)
    assert compared > 8


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype"),
    [
        (np.uint8, 1, 0, np.uint8),
        (np.uint8, 1, -1024, np.int16),
        (np.uint16, 1, -1024, np.int16),
        (np.int16, -3, 7, np.int16),
        (np.int16, 100, 0, np.int32),
        (np.int32, 2, 1, np.int32),
        (np.int16, 2**20, 0, np.int64),
        (np.int16, 0, 5, np.int16),  # slope 0: the standard's "not scaled"
        (np.int16, np.nan, 5, np.int16),
        (np.int16, 0.5, 0, np.float32),
        (np.uint16, 1 / 3, -1.5, np.float32),
        (np.int32, 0.5, 0, np.float64),
        (np.float32, 2, 5, np.float32),
        (np.float64, 0.1, 5, np.float64),
        (np.int64, 1, 0, np.int64),
        (np.uint32, 1, -5, np.int32),
        (np.int8, 1, 0, np.int8),
    ],
)
def test_values_and_dtypes_as_scaled(stored, slope, inter, dtype, tmp_path):
    voxels = np.linspace(0, 100 if stored in (np.int8, np.uint8) else 4000, 60)
    voxels = voxels.reshape(3, 4, 5).astype(stored)
    path = write(tmp_path / "a.nii", voxels, np.eye(4), slope=slope, inter=inter)
    array = read_nifti(path, orientation="RAS")[0]
    assert array.dtype == dtype
    slope32, inter32 = float(np.float32(slope)), float(np.float32(inter))
    scaled = np.isfinite(slope) and slope
    expected = voxels * slope32 + inter32 if scaled else voxels
    np.testing.assert_allclose(array, expected, rtol=1e-7)
    np.testing.assert_allclose(array, nib.load(path).get_fdata(), rtol=1e-7)


def test_extremes_of_a_dtype_stay_exact(tmp_path):
    voxels = np.array([[-32768, 32767]], np.int16)[..., None]
    path = write(tmp_path / "a.nii", voxels, np.eye(4), slope=1, inter=1)
    assert read_nifti(path, orientation="RAS")[0].ravel().tolist() == [-32767, 32768]


def test_millimetres_whatever_the_unit(tmp_path):
    image = nib.Nifti1Image(SPL, np.diag([50.0, 60.0, 70.0, 1.0]))
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "a.nii")
    for orientation, spacing in (
        ("RAS", (0.05, 0.06, 0.07)),
        (None, (0.05, 0.06, 0.07)),
    ):
        meta = read_nifti(tmp_path / "a.nii", orientation=orientation)[1]
        assert meta.spacing == pytest.approx(spacing)
    assert read_nifti(tmp_path / "a.nii")[1].spacing == pytest.approx(
        (0.07, 0.06, 0.05)
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 7), (7, 6)),  # a slice: (i right, j anterior) becomes (posterior, left)
        ((6, 7, 1), (1, 7, 6)),
        ((6, 7, 8, 1), (8, 7, 6)),
        ((6, 7, 8, 3), (8, 7, 6, 3)),
        ((6, 7, 8, 1, 2), (8, 7, 6, 2)),
        ((6, 7, 1, 4), (1, 7, 6, 4)),
    ],
)
def test_further_axes_stay_last(shape, expected, tmp_path):
    voxels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    path = write(tmp_path / "a.nii", voxels, np.diag([0.5, 2.0, 3.0, 1.0]))
    array, meta = read_nifti(path)
    assert array.shape == expected
    assert meta.spacing == {2: (2.0, 0.5), 3: (3.0, 2.0, 0.5)}[min(len(shape), 3)]
    first = array.reshape((*expected[: len(meta.spacing)], -1))[..., 0]
    stored = voxels.reshape(*(*shape, 1)[:3], -1)[..., 0]
    np.testing.assert_array_equal(
        first.reshape(-1), stored.transpose(2, 1, 0)[:, ::-1, ::-1].reshape(-1)
    )
    own = read_nifti(path, orientation=None)[0]
    np.testing.assert_array_equal(own, voxels.reshape(own.shape))


def test_coronal_slice_of_two_axes(tmp_path):
    affine = affine_of("LSP")
    path = write(tmp_path / "a.nii", SPL[:, 0].T.copy(), affine)
    array, meta = read_nifti(path)
    np.testing.assert_array_equal(array, SPL[:, 0])
    assert (meta.orientation, meta.spacing) == ("SL", (3.0, 0.5))


def test_colour_stays_last(tmp_path):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    voxels = colour.copy().view(kind)[..., 0]
    nib.Nifti1Image(voxels, affine_of("LPS")).to_filename(tmp_path / "a.nii")
    array = read_nifti(tmp_path / "a.nii")[0]
    np.testing.assert_array_equal(array, colour.transpose(2, 1, 0, 3))


def test_sheared_affine_is_said(tmp_path):
    affine = np.diag([2.0, 3, 4, 1])
    affine[1, 2] = -4 * np.tan(np.radians(20))  # slices shifted toward posterior
    nib.Nifti1Image(SPL, affine).to_filename(tmp_path / "a.nii")
    with pytest.warns(UserWarning, match=r"a\.nii: its affine is sheared.* 20°"):
        _, meta = read_nifti(tmp_path / "a.nii")
    assert meta.tilt == 20
    nib.Nifti1Image(SPL, np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii")[1].tilt == 0


def test_unknown_orientation_is_said(tmp_path):
    path = write(tmp_path / "a.nii", SPL, np.eye(4), forms=(0, 0))
    with pytest.warns(UserWarning, match="a.nii: its header does not say how"):
        array = read_nifti(path)[0]
    np.testing.assert_array_equal(array, reorient(SPL, "RAS", "SPL")[0])
    own, meta = read_nifti(path, orientation=None)
    np.testing.assert_array_equal(own, SPL)
    assert (meta.orientation, meta.spacing) == (None, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("orientation", ["LR", "RAA", "spine", "", "XYZ", 3])
def test_orientation_that_is_none(orientation, tmp_path):
    with pytest.raises(ValueError, match="three letters"):
        read_nifti(tmp_path / "a.nii", orientation=orientation)


def test_useless_affine_is_an_error_unless_the_own_axes_are_wanted(tmp_path):
    path = write(tmp_path / "a.nii", SPL, np.eye(4))
    patch(path, 280, bytes(48))  # srow_x, srow_y, srow_z
    with pytest.raises(InvalidImageError, match=r"a.nii: the affine.*orientation=None"):
        read_nifti(path)
    np.testing.assert_array_equal(read_nifti(path, orientation=None)[0], SPL)


def header_cases():
    """Position and bytes in a NIfTI-1 header, and what the message must say."""
    yield "no size", 0, b"\1\2\3\4", "is not a NIfTI"
    yield "no magic", 344, b"abcd", "lacks the mark"
    yield "pair", 344, b"ni1\0", "one .nii"
    yield "no axes", 40, np.int16(0).tobytes(), "0 axes"
    yield "many axes", 40, np.int16(9).tobytes(), "9 axes"
    yield "one axis", 40, np.int16(1).tobytes(), "1 axes"
    yield "negative", 42, np.int16(-5).tobytes(), "-5"
    yield "empty", 44, np.int16(0).tobytes(), "none of them empty"
    yield "too large", 42, np.int16([32767] * 3).tobytes(), "promises 63.99 TiB"
    yield "a little too large", 46, np.int16(8).tobytes(), "cut off"
    yield "complex", 70, np.int16(32).tobytes(), "complex"
    yield "unknown type", 70, np.int16(77).tobytes(), "unknown type 77"
    yield "offset nan", 108, np.float32(np.nan).tobytes(), "byte nan"
    yield "offset within", 108, np.float32(100).tobytes(), "byte 100"
    yield "offset beyond", 108, np.float32(1e30).tobytes(), "byte 1e"
    yield "intercept", 112, np.float32([2, np.inf]).tobytes(), "intercept is inf"


@pytest.mark.parametrize("packed", [False, True], ids=["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("at", "value", "message"),
    [c[1:] for c in header_cases()],
    ids=[c[0] for c in header_cases()],
)
def test_header_that_lies(at, value, message, packed, tmp_path):
    path = patch(write(tmp_path / "a.nii", SPL, np.eye(4)), at, value)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
        message = message.replace("cut off", "ends 420? bytes|ends")
    with pytest.raises(InvalidImageError, match=f"^a.nii: .*(?:{message})"):
        read_nifti(path)


def test_offset_zero_means_right_after_the_header(tmp_path):
    path = patch(write(tmp_path / "a.nii", SPL, np.eye(4)), 108, bytes(4))
    np.testing.assert_array_equal(read_nifti(path, orientation=None)[0], SPL)


def test_header_extensions_are_passed_over(tmp_path):
    image = nib.Nifti1Image(SPL, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    for name in ("a.nii", "a.nii.gz"):
        image.to_filename(tmp_path / name)
        array = read_nifti(tmp_path / name, orientation=None)[0]
        np.testing.assert_array_equal(array, SPL)


@pytest.mark.parametrize("cut", [0, 1, 3, 100, 347, 352, 400])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_file(name, cut, tmp_path):
    path = write(tmp_path / name, SPL, np.eye(4))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidImageError, match=f"^{name}: "):
        read_nifti(path)


def test_damaged_checksum_is_noticed(tmp_path):
    path = write(tmp_path / "a.nii.gz", SPL, np.eye(4))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidImageError, match=r"compressed data are damaged.*CRC"):
        read_nifti(path)


def test_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    header = nib.Nifti1Header()
    header.set_data_shape((2048, 2048, 1024))
    header.set_data_dtype(np.uint8)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(256):
            file.write(bytes(1 << 20))
    # As much again is promised by the gzip members' sheer size.
    with path.open("ab") as file:
        file.write(bytes(5_000_000))
    start = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(InvalidImageError, match="SKMEDIMG_MAX_EXPANSION to 4294967"):
        read_nifti(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
    assert time.perf_counter() - start < 1

    monkeypatch.setenv("SKMEDIMG_MAX_EXPANSION", "1000")
    small = write(
        tmp_path / "zeros.nii.gz", np.zeros((60, 60, 60), np.uint8), np.eye(4)
    )
    with pytest.raises(InvalidImageError, match=r"would expand to 211\.3 KiB"):
        read_nifti(small)
    monkeypatch.setenv("SKMEDIMG_MAX_EXPANSION", "300000")
    assert not read_nifti(small)[0].any()


def test_almost_empty_mask_is_no_bomb(tmp_path):
    mask = np.zeros((256, 256, 200), np.float64)
    mask[4, 5, 6] = 1
    nib.Nifti1Image(mask, np.eye(4)).to_filename(tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").stat().st_size * 200 < mask.nbytes
    assert read_nifti(tmp_path / "mask.nii.gz")[0].sum() == 1


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_any_damage_gives_an_image_or_a_clear_error(name, tmp_path):
    path = write(tmp_path / name, SPL, affine_of("LPS"), slope=2, inter=5)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    slowest, messages = 0.0, []
    tracemalloc.start()
    for i in range(400):
        data = bytearray(good)
        # Most of the damage goes to the header: the voxels cannot be wrong.
        end = len(data) if i % 4 == 0 else min(352, len(data))
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(end)] ^= 1 << rng.integers(8)
        if i % 5 == 0:
            del data[rng.integers(len(data)) :]
        path.write_bytes(data)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not say how the axes")
            warnings.filterwarnings("ignore", message=".*affine is sheared")
            try:
                read_nifti(path)
            except InvalidImageError as error:
                messages.append(str(error))
        slowest = max(slowest, time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(messages) > 100
    assert all(message.startswith(f"{name}: ") for message in messages)
    assert slowest < 1
    assert peak < 3e7


@pytest.mark.data
def test_hippocampus_volumes_and_their_masks(data_file):
    sitk = pytest.importorskip("SimpleITK")
    folder = data_file("hippocampus_nifti")
    paths = sorted((folder / "images").glob("*.nii.gz"))
    assert len(paths) == 30
    for path in paths:
        image, meta = read_nifti(path)
        mask, mask_meta = read_nifti(folder / "labels" / path.name)
        assert image.shape == mask.shape
        assert meta.spacing == mask_meta.spacing == (1.0, 1.0, 1.0)
        assert image.dtype in (np.uint8, np.float32)
        assert set(np.unique(mask)) <= {0, 1, 2}
        other = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
        np.testing.assert_array_equal(image, sitk.GetArrayFromImage(other))
        # The hippocampus lies lengthwise from front to back.
        assert np.ptp(np.nonzero(mask)[1]) > np.ptp(np.nonzero(mask)[0])
