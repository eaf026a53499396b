"""What an image array is: every form, dtype and size that fits and predicts."""

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr

from skmedimg.images import resize
from skmedimg.io import ImageSequence

Y = np.arange(16) % 2


def make_grey(shape=(9, 10)):
    """Sixteen uint8 images with a bright corner in those of class 1."""
    X = np.random.default_rng(0).integers(0, 80, (16, *shape), dtype=np.uint8)
    X[(Y == 1, *(slice(2, 6) for _ in shape))] += 100
    return X


GREY, VOLUMES = make_grey(), make_grey((9, 10, 11))
RGB = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
RGB_VOLUMES = np.stack([VOLUMES, VOLUMES // 2, 255 - VOLUMES], axis=-1)


def objects(images):
    array = np.empty(len(images), dtype=object)
    array[:] = list(images)
    return array


def frame(images):
    table = pd.DataFrame(images.reshape(len(images), -1))
    return table.rename(columns="pixel_{}".format)


def on_disk(kind, X, folder):
    if kind == "memmap":
        np.save(folder / "x.npy", X)
        return np.load(folder / "x.npy", mmap_mode="r")
    if kind == "h5py":
        return h5py.File(folder / "x.h5", "w").create_dataset("x", data=X)
    array = zarr.create_array(folder / "x.zarr", shape=X.shape, dtype=X.dtype)
    array[:] = X
    return array


# Other forms of the same images, with what must be said about them.
FORMS = {
    "grey": {
        "plain": (GREY, {}),
        "channel first": (GREY[:, None], {}),
        "channel last": (GREY[..., None], {}),
        "flattened": (GREY.reshape(16, -1), {"image_shape": (9, 10)}),
        "flattened with channel": (GREY.reshape(16, -1), {"image_shape": [9, 10, 1]}),
        "list": (list(GREY), {}),
        "tuple": (tuple(GREY), {}),
        "object array": (objects(GREY), {}),
        "Series": (pd.Series(list(GREY), index=range(90, 106)), {}),
        "DataFrame of arrays": (pd.DataFrame({"image": list(GREY)}), {}),
        "DataFrame of pixels": (frame(GREY), {"image_shape": (9, 10)}),
        "ImageSequence": (ImageSequence.from_array(GREY), {}),
        "read-only": (np.frombuffer(GREY.tobytes(), np.uint8).reshape(GREY.shape), {}),
        "negative strides": (GREY[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1], {}),
        "Fortran order": (np.asfortranarray(GREY), {}),
        "image_size": (GREY, {"image_size": (9, 10)}),
        "spatial_dims": (GREY, {"spatial_dims": 2}),
    },
    "rgb": {
        "last": (RGB, {}),
        "first": (np.moveaxis(RGB, -1, 1), {}),
        "first, contiguous": (np.moveaxis(RGB, -1, 1).copy(), {"channel_axis": 1}),
        "flattened": (RGB.reshape(16, -1), {"image_shape": (9, 10, 3)}),
        "list": (list(RGB), {}),
        "spatial_dims": (RGB, {"spatial_dims": 2, "channel_axis": -1}),
    },
    "volumes": {
        "plain": (VOLUMES, {}),
        "spatial_dims": (VOLUMES, {"spatial_dims": 3}),
        "channel first": (VOLUMES[:, None], {}),
        "channel last": (VOLUMES[..., None], {}),
        "flattened": (VOLUMES.reshape(16, -1), {"image_shape": (9, 10, 11)}),
        "list": (list(VOLUMES), {}),
    },
    "RGB volumes": {
        "last": (RGB_VOLUMES, {}),
        "first": (np.moveaxis(RGB_VOLUMES, -1, 1), {"spatial_dims": 3}),
    },
}


@pytest.mark.parametrize(
    ("kind", "form"), [(kind, form) for kind in FORMS for form in FORMS[kind]]
)
def test_forms_of_the_same_images_give_equal_bits(tiny, kind, form):
    plain, _ = next(iter(FORMS[kind].values()))
    expected = tiny().fit(plain, Y).predict_proba(plain)
    X, params = FORMS[kind][form]
    clf = tiny(**params).fit(X, Y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert clf.predict(X[:1]).shape == (1,)
    assert clf.n_features_in_ == plain[0].size


@pytest.mark.parametrize("kind", ["memmap", "h5py", "zarr"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("X", [GREY, RGB, VOLUMES], ids=["grey", "RGB", "volumes"])
def test_images_on_disk_give_equal_bits(tiny, tmp_path, kind, wrapped, X):
    stored = on_disk(kind, X, tmp_path)
    stored = ImageSequence.from_array(stored) if wrapped else stored
    got = tiny(batch_size=5).fit(stored, Y).predict_proba(stored)
    expected = tiny(batch_size=5).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "dtype",
    "u1 u2 u4 i1 i2 i4 i8 ? f2 f4 f8 >u2 >i2 >i4 >f2 >f4 >f8 <f4".split(),
)
@pytest.mark.parametrize("sequence", [False, True])
def test_every_dtype(tiny, dtype, sequence):
    X = (GREY // 2 if dtype != "?" else GREY > 60).astype(dtype)
    X = ImageSequence.from_array(X) if sequence else X
    clf = tiny(max_epochs=3).fit(X, Y)
    assert clf.image_spec_.dtype == str(np.dtype(dtype))
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("dtype", ["i2", "u2", "f4", "f8"])
def test_byte_order_does_not_matter(tiny, dtype):
    X = GREY.astype(dtype)
    swapped = X.astype(X.dtype.newbyteorder())
    expected = tiny().fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(
        tiny().fit(swapped, Y).predict_proba(swapped), expected
    )


@pytest.mark.parametrize("n_columns", [4, 255])
def test_rows_are_images_of_height_one(tiny, n_columns):
    X = np.random.default_rng(0).normal(size=(16, n_columns))
    spec = tiny().fit(X, Y).image_spec_
    assert (spec.size, spec.tabular) == ((1, n_columns), True)


def test_wide_rows_warn_of_flattened_images(tiny):
    X = make_grey((16, 16)).reshape(16, -1)
    with pytest.warns(UserWarning, match=r"256 columns.*image_shape=\(28, 28\)"):
        clf = tiny().fit(X, Y)
    clf.predict(X)  # says it once
    tiny(image_shape=(16, 16)).fit(X, Y)


# -- differing shapes, resizing --------------------------------------------------------

GROWING = [(8, 10), (9, 9), (12, 8)]
GROWING_3D = [(9, 10, 11), (10, 9, 12)]


def differing(images):
    """Crops and repetitions of the images, two or three shapes in turn."""
    dims = 3 if images[0].ndim == 3 and images[0].shape[-1] > 8 else 2
    shapes = GROWING if dims == 2 else GROWING_3D
    return [
        np.pad(image, [(0, 12)] * dims + [(0, 0)] * (image.ndim - dims), mode="wrap")[
            tuple(slice(s) for s in shapes[i % len(shapes)])
        ]
        for i, image in enumerate(images)
    ]


@pytest.mark.parametrize("form", [list, objects, pd.Series])
@pytest.mark.parametrize(
    ("images", "size", "params"),
    [
        (GREY, (8, 8), {}),
        (GREY[..., None], (8, 8), {}),
        (RGB, (8, 7), {}),
        (VOLUMES, (7, 8, 9), {}),
        (np.concatenate([RGB, RGB], axis=-1), (8, 8), {"channel_axis": -1}),
    ],
    ids=["grey", "channel last", "RGB", "volumes", "6 channels"],
)
def test_differing_shapes_are_resized(tiny, images, size, params, form):
    X = differing(images)
    clf = tiny(image_size=size, **params).fit(form(X), Y)
    assert clf.image_spec_.size == size
    proba = clf.predict_proba(form(X))
    for i in range(3):  # one by one, whether or not it has the size already
        one = clf.predict_proba(form([X[i]]))
        np.testing.assert_allclose(one, proba[[i]], atol=1e-5)
    with pytest.raises(ValueError, match=r"X\[0\] has .* X\[1\] has .*image_size"):
        tiny(**params).fit(form(X), Y)


def test_thin_volumes_of_differing_depth(tiny):
    X = [volume[: 5 + i % 4] for i, volume in enumerate(VOLUMES)]
    clf = tiny(image_size=(6, 8, 8), spatial_dims=3).fit(X, Y)
    assert clf.image_spec_.layout == "(n, D, H, W)"
    assert clf.predict(X).shape == (16,)


def test_images_of_another_size_are_resized_at_predict(tiny):
    # Without detail of a pixel, which no resizing keeps.
    smooth = resize(GREY[:, np.newaxis, :3, :3], (9, 10))[:, 0]
    for fitted in (smooth, list(smooth), differing(smooth)):
        clf = tiny(image_size=(9, 10)).fit(fitted, Y)
        twice = smooth.repeat(2, axis=1).repeat(2, axis=2)
        assert clf.predict(twice).shape == (16,)
        np.testing.assert_allclose(  # upscaled, then averaged again
            clf.predict_proba(twice), clf.predict_proba(smooth), atol=0.05
        )


def test_resize_keeps_dtype_and_constant_images():
    for dtype in (np.uint8, np.int16, np.float32, bool):
        for size in ((5, 12), (30, 3), (6, 7, 20)):
            x = np.ones((2, 3, *(9,) * len(size)), dtype)
            resized = resize(x, size)
            assert resized.dtype == dtype
            np.testing.assert_allclose(resized, np.ones((2, 3, *size)), rtol=1e-6)
