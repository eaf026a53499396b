"""ImageSequence: indexed as scikit-learn indexes, lazy, groups taken along."""

import pickle

import h5py
import numpy as np
import pytest
import zarr
from sklearn.utils import _safe_indexing

from skmedimg.io import ImageSequence

PIXELS = np.random.default_rng(0).integers(0, 255, (10, 4, 5), dtype=np.uint8)
GROUPS = np.array(list("aabbccddee"))


class Counting:
    """An array on disk that notes what is read of it."""

    def __init__(self, pixels):
        self.pixels, self.reads = pixels, []
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, key):
        part = self.pixels[key]
        self.reads.append(len(part))
        return part


@pytest.fixture(params=["ndarray", "memmap", "h5py", "zarr", "counting"])
def source(request, tmp_path):
    if request.param == "ndarray":
        yield PIXELS
    elif request.param == "memmap":
        np.save(tmp_path / "x.npy", PIXELS)
        yield np.load(tmp_path / "x.npy", mmap_mode="r")
    elif request.param == "h5py":
        with h5py.File(tmp_path / "x.h5", "w") as file:
            yield file.create_dataset("x", data=PIXELS)
    elif request.param == "zarr":
        array = zarr.create_array(tmp_path / "x.zarr", shape=(10, 4, 5), dtype="u1")
        array[:] = PIXELS
        yield array
    else:
        yield Counting(PIXELS)


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(2, 7),
        slice(None, None, -2),
        slice(20, 30),
        [3, 1, 1, 8],
        [-1, 0],
        (5, 6),
        range(2, 4),
        [],
        np.array([9, 0]),
        np.array([], int),
        np.arange(10) % 3 == 1,
        (np.arange(10) % 3 == 1).tolist(),
        [False] * 10,
    ],
    ids=str,
)
@pytest.mark.parametrize("ellipsis", [False, True])
def test_subsets_are_numpys(source, key, ellipsis):
    X = ImageSequence.from_array(source, groups=GROUPS)
    if isinstance(key, tuple | range):
        key = list(key)
    part = X[(key, Ellipsis)] if ellipsis else X[key]
    index = np.asarray(key, int) if isinstance(key, list) and not key else key
    expected = PIXELS[index]
    assert isinstance(part, ImageSequence)
    assert (part.shape, part.ndim, len(part)) == (expected.shape, 3, len(expected))
    assert part.dtype == np.uint8
    np.testing.assert_array_equal(part.to_numpy(), expected)
    np.testing.assert_array_equal(part.groups, GROUPS[index])
    again = part[::-1]
    np.testing.assert_array_equal(again.to_numpy(), expected[::-1])
    np.testing.assert_array_equal(again.groups, GROUPS[index][::-1])


@pytest.mark.parametrize("i", [0, 9, -1, np.int64(3), np.uint8(4)])
def test_an_integer_gives_an_image(source, i):
    image = ImageSequence.from_array(source)[i]
    assert isinstance(image, np.ndarray)
    np.testing.assert_array_equal(image, PIXELS[i])


def test_iteration_ends(source):
    images = list(ImageSequence.from_array(source)[4:])
    np.testing.assert_array_equal(images, PIXELS[4:])


def test_scikit_learn_indexes_it(source):
    X = ImageSequence.from_array(source, groups=GROUPS)
    for key in ([2, 0], np.array([5]), slice(1, 3), np.arange(10) > 6):
        part = _safe_indexing(X, key)
        np.testing.assert_array_equal(part.to_numpy(), PIXELS[key])
        np.testing.assert_array_equal(part.groups, GROUPS[key])


def test_subsets_read_nothing_and_fits_read_batches(tiny):
    source = Counting(np.concatenate([PIXELS] * 8))
    X = ImageSequence.from_array(source, groups=np.arange(80))
    part = X[::2][[3, 1, 2]][:2]
    assert (part.shape, repr(part), source.reads) == (
        (2, 4, 5),
        "ImageSequence(shape=(2, 4, 5), dtype=uint8, 2 groups)",
        [],
    )
    part.to_numpy()
    assert source.reads == [2]
    big = Counting(np.random.default_rng(0).integers(0, 255, (40, 256, 256), np.uint8))
    clf = tiny(batch_size=4).fit(ImageSequence.from_array(big), np.arange(40) % 2)
    clf.predict(ImageSequence.from_array(big))
    assert max(big.reads) < 20  # chunks and batches, never the whole
    big.reads.clear()
    clf.predict(big)  # wrapped by itself
    assert 0 < max(big.reads) < 20


def test_forms_of_arrays(source):
    X = ImageSequence.from_array(source)
    assert np.asarray(X, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.array(X), PIXELS)
    X.to_numpy()[:] = 0  # a copy, the images stay
    np.testing.assert_array_equal(X.to_numpy(), PIXELS)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(X, copy=False)
    assert repr(X) == "ImageSequence(shape=(10, 4, 5), dtype=uint8, no groups)"
    assert ImageSequence.from_array(PIXELS.tolist()).shape == (10, 4, 5)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_pickling(groups):
    X = ImageSequence.from_array(PIXELS, groups=groups)[2:5]
    back = pickle.loads(pickle.dumps(X))
    np.testing.assert_array_equal(back.to_numpy(), PIXELS[2:5])
    assert repr(back) == repr(X)
    if groups is not None:
        np.testing.assert_array_equal(back.groups, GROUPS[2:5])


@pytest.mark.parametrize("groups", [list("aabbccddee"), np.arange(10) // 2])
def test_groups_of_any_kind(groups):
    X = ImageSequence.from_array(PIXELS, groups=groups)
    np.testing.assert_array_equal(X.groups, groups)
    assert "5 groups" in repr(X)


@pytest.mark.parametrize(
    ("X", "groups", "error", "match"),
    [
        (PIXELS, GROUPS[:3], ValueError, r"groups has shape \(3,\).*10 images"),
        (PIXELS, "a", ValueError, r"groups has shape \(\)"),
        (PIXELS, GROUPS[:, None], ValueError, r"groups has shape \(10, 1\)"),
        (PIXELS[:, 0, 0], None, TypeError, "ImageSequence needs a"),
        (3, None, TypeError, "ImageSequence needs a"),
        ([[1], [1, 2]], None, ValueError, "X cannot be read as an array"),
        (None, None, TypeError, "ImageSequence needs a"),
    ],
)
def test_bad_array_or_groups(X, groups, error, match):
    with pytest.raises(error, match=match):
        ImageSequence.from_array(X, groups=groups)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ((0, 1), r"by images only: X\[rows\]"),
        ((slice(None), 0), "by images only"),
        ((slice(None), Ellipsis, 0), "by images only"),
        (Ellipsis, "integer"),
        (None, "integer"),
        ("a", "integer"),
        (1.5, "integer"),
        ([1.5], "integer"),
        ([[0, 1]], "by images"),
        (10, "out of bounds"),
        ([3, 10], "out of bounds"),
        ([True, False], "boolean index"),
    ],
)
def test_bad_index(key, match):
    with pytest.raises(IndexError, match=match):
        ImageSequence.from_array(PIXELS, groups=GROUPS)[key]
