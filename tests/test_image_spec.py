"""How the shape of an array is read, and that predict takes what fit took."""

import numpy as np
import pytest

from skmedimg.images import ImageSpec
from skmedimg.io import ImageSequence

Y = np.arange(16) % 2
GREY = np.random.default_rng(0).integers(0, 255, (16, 9, 10), dtype=np.uint8)
RGB, VOLUMES = np.stack([GREY] * 3, axis=-1), np.stack([GREY] * 11, axis=-1)
U1, F4 = np.uint8, np.float32


@pytest.mark.parametrize("n", [1, 3, 4, 50])
@pytest.mark.parametrize(
    ("image", "dtype", "params", "layout"),
    [
        ((30, 40), F4, {}, "(n, H, W)"),
        ((3, 3), F4, {}, "(n, H, W)"),
        ((1, 30, 40), F4, {}, "(n, C, H, W)"),
        ((3, 30, 40), F4, {}, "(n, C, H, W)"),
        ((30, 40, 1), F4, {}, "(n, H, W, C)"),
        ((30, 40, 3), F4, {}, "(n, H, W, C)"),
        ((4, 40, 3), F4, {}, "(n, H, W, C)"),
        ((30, 40, 4), U1, {}, "(n, H, W, C)"),
        ((4, 40, 4), U1, {}, "(n, H, W, C)"),
        ((9, 40, 9), F4, {}, "(n, D, H, W)"),
        ((9, 1, 9), F4, {}, "(n, D, H, W)"),
        ((3, 30, 40), F4, {"spatial_dims": 3}, "(n, D, H, W)"),
        ((8, 30, 3), F4, {"spatial_dims": 3}, "(n, D, H, W)"),
        ((3, 30, 40), F4, {"spatial_dims": 2}, "(n, C, H, W)"),
        ((5, 30, 40), F4, {"channel_axis": 1}, "(n, C, H, W)"),
        ((30, 40, 5), F4, {"channel_axis": 3}, "(n, H, W, C)"),
        ((3, 30, 3), F4, {"channel_axis": -1}, "(n, H, W, C)"),
        ((30, 40, 50), F4, {"channel_axis": -1}, "(n, H, W, C)"),
        ((3, 9, 30, 40), F4, {}, "(n, C, D, H, W)"),
        ((9, 30, 40, 1), F4, {}, "(n, D, H, W, C)"),
        ((9, 30, 40, 4), U1, {}, "(n, D, H, W, C)"),
        ((2, 9, 30, 40), F4, {"channel_axis": 1}, "(n, C, D, H, W)"),
        ((9, 30, 40, 6), F4, {"channel_axis": -1}, "(n, D, H, W, C)"),
    ],
)
def test_reading_of_a_shape(n, image, dtype, params, layout):
    X = np.broadcast_to(dtype(0), (n, *image))
    assert ImageSpec.from_array(X, **params).layout == layout


@pytest.mark.parametrize(
    ("image", "dtype"),
    [
        *[((a, 30, b), F4) for a in (1, 3) for b in (1, 3)],
        ((3, 30, 4), U1),
        ((30, 30, 4), F4),
        ((30, 30, 4), np.uint16),
        *[((a, 30, 30), F4) for a in (2, 4, 5, 8)],
        *[((30, 30, a), F4) for a in (2, 5, 8)],
        ((2, 30, 2), F4),
    ],
)
def test_ambiguous_shape_shows_the_readings(tiny, image, dtype):
    X = np.zeros((16, *image), dtype)
    with pytest.raises(ValueError, match="more than one way") as error:
        tiny().fit(X, Y)
    for reading in (
        f"(n, {str(image)[1:]}",
        f"channel_axis=1 ({image[0]} channels first)",
        f"channel_axis=3 ({image[2]} channels last)",
        "spatial_dims=3 (grey volumes",
    ):
        assert reading in str(error.value)


@pytest.mark.parametrize(
    ("image", "params", "match"),
    [
        ((1, 9, 9, 3), {}, r"channel_axis=1 \(1 .*channel_axis=4 \(3 "),
        ((2, 9, 9, 9), {}, r"channel_axis=1 \(2 .*channel_axis=4 \(9 "),
        ((30, 30, 30), {"spatial_dims": 2}, r"channel_axis=1 .*channel_axis=3 "),
        ((9, 9), {"spatial_dims": 3}, "spatial_dims=3 does not fit"),
        ((9, 9, 9, 3), {"spatial_dims": 2}, "spatial_dims=2 does not fit"),
        ((9, 9), {"channel_axis": 1}, "channel_axis=1 does not fit"),
        ((9, 9, 3), {"channel_axis": 2}, "channel_axis=2 does not fit"),
        ((9, 9, 3), {"channel_axis": 0}, "channel_axis=0 does not fit"),
        ((9, 9, 3), {"channel_axis": 3, "spatial_dims": 3}, "5 axes"),
        ((9,) * 5, {}, "6 axes"),
        ((9, 9), {"image_shape": (9, 9, 1)}, "leave image_shape out"),
        ((81,), {"image_shape": (9, 10)}, "90 pixels.*81 columns"),
        ((9, 9), {"image_size": (9, 9, 9)}, "image_size.*3 entries"),
        ((9, 9), {"image_size": (9, 0)}, "image_size.*positive integers"),
        ((9, 9), {"image_size": 9}, "image_size"),
        ((81,), {"image_shape": (9.0, 9.0)}, "image_shape.*positive integers"),
    ],
)
def test_shape_that_cannot_be_read(tiny, image, params, match):
    with pytest.raises(ValueError, match=match):
        tiny(**params).fit(np.zeros((16, *image), F4), Y)


@pytest.mark.parametrize(
    ("fitted", "params", "other", "match"),
    [
        (GREY, {}, GREY.transpose(0, 2, 1), r"\(16, 10, 9\).*\(9, 10\).*another order"),
        (GREY, {}, GREY[:, :8], r"\(16, 8, 10\).*\(9, 10\)"),
        (GREY, {}, GREY[..., None], r"\(16, 9, 10, 1\).*\(n, H, W\)"),
        (GREY, {}, GREY[:, None], r"\(16, 1, 9, 10\)"),
        (GREY, {}, GREY.reshape(16, -1), r"\(16, 90\).*\(9, 10\)"),
        (GREY, {}, RGB, r"\(16, 9, 10, 3\)"),
        (GREY, {}, list(GREY[:, :8]), r"\(16, 8, 10\)"),
        (GREY, {}, ImageSequence.from_array(GREY[:, :8]), r"\(16, 8, 10\)"),
        (GREY, {}, GREY[0], r"\(9, 10\).*one image.*np.newaxis"),
        (RGB, {}, np.moveaxis(RGB, -1, 1), r"\(16, 3, 9, 10\).*\(n, H, W, C\)"),
        (RGB, {}, RGB[..., :1], r"\(16, 9, 10, 1\)"),
        (RGB, {"image_size": (8, 8)}, RGB[..., :1], r"\(16, 9, 10, 1\)"),
        (RGB, {"image_size": (8, 8)}, GREY, r"\(16, 9, 10\)"),
        (VOLUMES, {}, VOLUMES[:, :5], r"\(16, 5, 10, 11\)"),
        (VOLUMES, {}, VOLUMES[:, None], r"\(16, 1, 9, 10, 11\)"),
        (GREY.reshape(16, -1), {"image_shape": (9, 10)}, GREY, r"\(16, 9, 10\)"),
    ],
)
def test_predict_takes_the_layout_of_fit(tiny, fitted, params, other, match):
    clf = tiny(**params).fit(fitted, Y)
    with pytest.raises(ValueError, match=match):
        clf.predict(other)
