"""Transformers: values by hand, every layout, laziness, pipelines, errors."""

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmedimg._windows import FUNCTIONS, apply_window
from skmedimg.images import resize
from skmedimg.io import ImageSequence
from skmedimg.preprocessing import (
    CLAHE,
    BreastCropper,
    ChannelStacker,
    ForegroundCropper,
    GrayToRGB,
    IntensityScaler,
    Resampler,
    Resizer,
    WindowLevel,
)

HU = np.random.default_rng(0).integers(-1000, 1000, (5, 9, 10), dtype=np.int16)
VOLUMES = np.random.default_rng(1).integers(-1000, 1000, (3, 9, 10, 11), np.int16)

# One of each that takes grey images of two or three axes.
TRANSFORMERS = [
    WindowLevel("lung"),
    ChannelStacker(["lung", (40, 80), "bone"]),
    IntensityScaler(),
    IntensityScaler("zscore", mask_threshold=0),
    IntensityScaler("minmax"),
    Resizer(6),
    Resizer(6, keep_aspect=False),
    Resampler(1, from_spacing=0.5),
    CLAHE(tiles=2),
    GrayToRGB(),
    ForegroundCropper(margin=1),
    BreastCropper(7),
]
ONLY_2D = (CLAHE, BreastCropper)
every = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=str)


@parametrize_with_checks(
    [
        WindowLevel((0, 4)),
        ChannelStacker([(0, 4), (1, 2)]),
        IntensityScaler(),
        IntensityScaler("zscore"),
        IntensityScaler("minmax"),
        Resizer((1, 6)),
        Resampler(1, 1),
        CLAHE(tiles=1),
        GrayToRGB(),
        ForegroundCropper(),
        BreastCropper(),
    ]
)
def test_sklearn_checks(estimator, check):
    state = np.random.get_state()  # noqa: NPY002
    try:
        check(estimator)
    finally:
        np.random.set_state(state)  # noqa: NPY002


# -- values ----------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("window", [(-600, 1500), (40, 80), (32, 8), (0, 1)])
def test_window_is_that_of_the_readers(function, window):
    out = WindowLevel(window, function=function, out_range=(-1, 1)).transform(HU)
    expected = apply_window(HU, *window, function, out=(-1, 1))
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert out.dtype == np.float32


def test_window_by_hand():
    x = np.array([[[-50, 0, 20, 40, 80, 500]]])
    out = WindowLevel((40, 80), function="LINEAR_EXACT").transform(x)
    np.testing.assert_allclose(out[0, 0], [0, 0, 0.25, 0.5, 1, 1])
    out = WindowLevel((40, 80), out_range=(0, 255)).transform(x)
    # LINEAR ends at 40 - 40 and 40 + 40 - 1.
    np.testing.assert_allclose(out[0, 0, [1, 4]], [0, 255])
    np.testing.assert_allclose(out[0, 0, 3], 255 * (0.5 / 79 + 0.5), rtol=1e-6)


def test_stacked_windows_are_the_single_ones():
    windows = ["lung", (40, 80)]
    out = ChannelStacker(windows).transform(HU)
    assert out.shape == (5, 9, 10, 2)
    for channel, window in enumerate(windows):
        np.testing.assert_array_equal(
            out[..., channel], WindowLevel(window).transform(HU)
        )


def test_intensity_by_hand():
    x = np.array([[[0, 0, 2, 4, 6, 8]], [[5, 5, 5, 5, 5, 5]]], dtype=np.uint16)
    minmax = IntensityScaler("minmax").transform(x)
    np.testing.assert_allclose(minmax[0, 0], [0, 0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(minmax[1], 0)
    zscore = IntensityScaler("zscore", mask_threshold=0).transform(x)
    # Of 2, 4, 6 and 8: mean 5, variance 5.
    np.testing.assert_allclose(
        zscore[0, 0], (x[0, 0].astype(float) - 5) / 5**0.5, rtol=1e-6
    )
    np.testing.assert_array_equal(zscore[1], 0)
    middle = IntensityScaler(percentiles=(20, 80)).transform(x)
    # Percentiles 20 and 80 lie at 0 and 6.
    np.testing.assert_allclose(middle[0, 0], [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("mask_threshold", [None, 0])
def test_percentiles_are_those_of_numpy(mask_threshold):
    out = IntensityScaler(percentiles=(3, 91), mask_threshold=mask_threshold)
    for image, scaled in zip(HU, out.transform(HU), strict=True):
        counted = image if mask_threshold is None else image[image > mask_threshold]
        low, high = np.percentile(counted, [3, 91])
        expected = np.clip((image - low) / (high - low), 0, 1)
        np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_nothing_above_the_mask_measures_the_whole_image():
    x = -np.arange(4.0).reshape(1, 2, 2)
    masked = IntensityScaler("zscore", mask_threshold=100).transform(x)
    np.testing.assert_array_equal(masked, IntensityScaler("zscore").transform(x))


def test_a_constant_image_becomes_zero_whatever_its_value():
    x = np.full((1, 64, 64), 0.1, np.float32)
    for method in ("zscore", "minmax", "percentile"):
        np.testing.assert_allclose(IntensityScaler(method).transform(x), 0, atol=1e-6)
    np.testing.assert_array_equal(CLAHE().transform(x), 0)


def test_channels_together_or_each_by_itself():
    x = np.zeros((1, 2, 2, 3))
    x[0, 0, 0] = [1, 2, 4]
    together = IntensityScaler("minmax").transform(x)
    np.testing.assert_array_equal(together[0, 0, 0], [0.25, 0.5, 1])
    alone = IntensityScaler("minmax", per_channel=True).transform(x)
    np.testing.assert_array_equal(alone[0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("X", [HU, VOLUMES], ids=["2-D", "3-D"])
def test_stretching_is_that_of_the_estimators(X):
    size = (5, 14, 8)[: X.ndim - 1]
    out = Resizer(size, keep_aspect=False).transform(X)
    np.testing.assert_array_equal(out, resize(X[:, np.newaxis], size)[:, 0])


def test_aspect_is_kept_by_padding():
    x = np.array([[[4, 4], [4, 4], [4, 4], [4, 4]]], dtype=np.int16)
    np.testing.assert_array_equal(
        Resizer((2, 4), fill=-7).transform(x)[0], [[-7, 4, -7, -7], [-7, 4, -7, -7]]
    )
    x[0, 0, 0] = -1024
    assert (
        Resizer((4, 6)).transform(x)[0, 0].tolist() == [-1024] * 3 + [4] + [-1024] * 2
    )


def test_padding_of_a_volume():
    x = np.full((2, 2, 4, 4), 9, np.uint8)
    out = Resizer(4, fill=1).transform(x)
    np.testing.assert_array_equal(out[:, 1:3], 9)
    np.testing.assert_array_equal(out[:, [0, 3]], 1)


def test_shrinking_is_antialiased():
    stripes = np.tile([0.0, 100.0], (1, 32, 16))
    out = Resizer(8).transform(stripes)[0, 2:-2, 2:-2]
    np.testing.assert_allclose(out, 50, atol=5)


def test_spacing_gives_the_size():
    assert Resampler(2, from_spacing=(1, 0.5)).transform(HU).shape == (5, 4, 2)
    ramp = np.tile(np.arange(8.0), (1, 4, 1))
    out = Resampler((1, 2), from_spacing=1).transform(ramp)
    # Centres of pixels of 2 mm lie between those of 1 mm.
    np.testing.assert_allclose(out[0, 0, 1:3], [2.5, 4.5], atol=1e-5)


def slow_clahe(image, clip_limit, tiles, n_bins):
    """Pixel by pixel, from the paper."""
    low, high = image.min(), image.max()
    level = np.rint((image - low) / (high - low) * (n_bins - 1)).astype(int)
    owner = [np.arange(s) * t // s for s, t in zip(image.shape, tiles, strict=True)]
    centre = [
        np.array([np.flatnonzero(o == j).mean() for j in range(t)])
        for o, t in zip(owner, tiles, strict=True)
    ]
    curves = np.zeros((*tiles, n_bins))
    for i, j in np.ndindex(*tiles):
        part = level[np.ix_(owner[0] == i, owner[1] == j)]
        counts = np.bincount(part.ravel(), minlength=n_bins).astype(float)
        limit = max(1, clip_limit * part.size / n_bins)
        excess = np.maximum(counts - limit, 0).sum()
        curves[i, j] = np.cumsum(np.minimum(counts, limit) + excess / n_bins)
        curves[i, j] /= part.size
    out = np.zeros(image.shape)
    for y, x in np.ndindex(*image.shape):
        of_row = [
            np.interp(x, centre[1], curves[i, :, level[y, x]]) for i in range(tiles[0])
        ]
        out[y, x] = np.interp(y, centre[0], of_row)
    return out


@pytest.mark.parametrize("tiles", [(1, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("clip_limit", [1.0, 2.5, 1000])
def test_clahe_is_that_of_the_paper(tiles, clip_limit):
    X = np.random.default_rng(0).gamma(2, 50, (2, 13, 17))
    out = CLAHE(clip_limit, tiles=tiles, n_bins=16).transform(X)
    for image, equalised in zip(X, out, strict=True):
        expected = slow_clahe(image, clip_limit, tiles, 16)
        np.testing.assert_allclose(equalised, expected, atol=1e-5)


def test_grey_is_repeated_with_every_bit():
    x = np.array([[[2**31 - 1, -5]]], dtype=np.int32)
    out = GrayToRGB().transform(x)
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out[0, 0], [[2**31 - 1] * 3, [-5] * 3])
    assert GrayToRGB().transform(np.zeros((2, 8, 8, 3))).shape == (2, 8, 8, 3)


@pytest.mark.parametrize("threshold", ["otsu", 20])
def test_foreground_is_what_is_cropped_to(threshold):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 40, 40))
    x[0, 10:18, 20:28] += 50
    x[1, 0:8, 30:38] += 50
    out = ForegroundCropper(8, threshold=threshold).transform(x)
    np.testing.assert_allclose(out[0], x[0, 10:18, 20:28], rtol=1e-6)
    np.testing.assert_allclose(out[1], x[1, 0:8, 30:38], rtol=1e-6)


def test_margin_stops_at_the_border_and_padding_is_the_darkest_pixel():
    x = np.full((1, 8, 8), 1)
    x[0, 0:2, 3:5] = 9
    x[0, 7, 7] = 0
    out = ForegroundCropper(4, threshold=5, margin=1).transform(x)[0]
    # The box is 3 × 4: one row of padding.
    assert out.tolist() == [[1, 9, 9, 1], [1, 9, 9, 1], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_volumes_are_cropped_along_three_axes():
    x = np.full((1, 9, 9, 9), -1000, np.int16)
    x[0, 2:5, 4:7, 0:3] = 40
    np.testing.assert_array_equal(
        ForegroundCropper(3, threshold=-500).transform(x), np.full((1, 3, 3, 3), 40)
    )


def test_without_foreground_the_image_stays():
    x = np.full((1, 6, 6), 3)
    np.testing.assert_array_equal(ForegroundCropper().transform(x), x)
    np.testing.assert_array_equal(BreastCropper().transform(x), x)


def mammogram(side):
    """A noisy half-disc at the left, a bright label at the right; or mirrored."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:80, :60]
    image = rng.integers(0, 4, (80, 60))
    breast = (y - 40) ** 2 + x**2 < 30**2
    image[breast] = 300 + rng.integers(0, 600, breast.sum())
    image[4:9, 45:55] = 900
    return image if side == "left" else image[:, ::-1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_breast_keeps_its_side_and_loses_its_label(side):
    out = BreastCropper((60, 60)).transform(mammogram(side)[None])[0]
    wall, away = (0, -1) if side == "left" else (-1, 0)
    assert (out[:, wall] >= 300).mean() > 0.9
    assert (out[:, away] < 4).all()
    tall = BreastCropper((80, 80), threshold=100).transform(mammogram(side)[None])[0]
    # Corners beyond the round outline hold no label.
    assert (tall[:4, away] < 4).all()
    mirrored = BreastCropper((60, 60)).transform(mammogram(side)[None, :, ::-1])[0]
    np.testing.assert_array_equal(out, mirrored[:, ::-1])


# -- layouts and data types ------------------------------------------------------------


@every
def test_every_layout_of_the_same_images(transformer):
    grey = transformer.transform(HU)
    channels = grey[..., None] if grey.ndim == 3 else grey
    last = transformer.transform(HU[..., None])
    first = transformer.transform(HU[:, None])
    np.testing.assert_array_equal(last, channels)
    np.testing.assert_array_equal(first, np.moveaxis(channels, -1, 1))
    flat = clone(transformer).set_params(image_shape=(9, 10))
    np.testing.assert_array_equal(
        flat.fit_transform(HU.reshape(5, -1)), grey.reshape(5, -1)
    )
    for form in (list(HU), pd.Series(list(HU)), pd.DataFrame({"image": list(HU)})):
        np.testing.assert_array_equal(transformer.transform(form), grey)


@every
def test_volumes(transformer):
    if isinstance(transformer, ONLY_2D):
        with pytest.raises(ValueError, match="can be read"):
            transformer.transform(VOLUMES)
        return
    out = transformer.fit_transform(VOLUMES)
    assert len(out) == 3
    last = transformer.transform(VOLUMES[..., None])
    np.testing.assert_array_equal(last, out[..., None] if out.ndim == 4 else out)


@every
@pytest.mark.parametrize("dtype", ["uint16", ">i2", "float16", "float64", "int32"])
def test_data_types_give_the_same(transformer, dtype):
    x = (HU // 8 + 200).astype("int16")
    if dtype == "uint16" and "lung" in str(transformer):
        pytest.skip("not in HU")
    out, expected = transformer.transform(x.astype(dtype)), transformer.transform(x)
    kept = isinstance(transformer, Resizer | Resampler | GrayToRGB | ForegroundCropper)
    native = np.dtype(dtype).newbyteorder("=")
    assert out.dtype == (native if kept else np.float32)
    np.testing.assert_allclose(out, expected, atol=0.51 if kept else 1e-6)


@every
def test_views_are_read_and_never_written(transformer):
    expected = transformer.transform(HU)
    view = HU[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(transformer.transform(view), expected)
    before = HU.copy()
    result = transformer.transform(HU)
    result += 1
    np.testing.assert_array_equal(HU, before)


@every
def test_batched_is_the_same_as_one_by_one(transformer):
    alone = np.concatenate([transformer.transform(HU[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(transformer.transform(HU), alone)


@every
def test_apply_is_the_same_on_a_tensor(transformer):
    x = torch.from_numpy(HU.astype(np.float32))[:, None]
    out = transformer.apply(x).numpy()
    expected = transformer.transform(HU[:, None])
    atol = 0.51 if expected.dtype.kind == "i" else 1e-6
    np.testing.assert_allclose(out, expected, atol=atol)
    assert x.equal(torch.from_numpy(HU.astype(np.float32))[:, None])


@pytest.mark.parametrize(
    "transformer",
    [
        WindowLevel("lung"),
        ChannelStacker(["lung", "bone"]),
        IntensityScaler(),
        IntensityScaler("zscore", mask_threshold=0),
        IntensityScaler("minmax"),
        Resizer(6),
        Resampler(1, from_spacing=0.5),
        GrayToRGB(),
    ],
    ids=str,
)
def test_apply_goes_into_a_graph_of_any_batch_size(transformer):
    class Step(torch.nn.Module):
        def forward(self, x):
            return transformer.apply(x)

    x = torch.from_numpy(HU.astype(np.float32))[:, None]
    any_size = ({0: torch.export.Dim("n", min=2, max=64)},)
    graph = torch.export.export(Step(), (x[:3],), dynamic_shapes=any_size)
    torch.testing.assert_close(graph.module()(x), transformer.apply(x))


def test_images_of_differing_shapes():
    scans = [np.full((10, 20), 1.0), np.full((30, 30), 2.0)]
    np.testing.assert_allclose(Resizer(8, fill=0).transform(scans)[1], 2, rtol=1e-6)
    kept = WindowLevel((0, 2)).fit_transform(scans)
    assert [image.shape for image in kept] == [(10, 20), (30, 30)]
    assert Resizer(6).transform(kept).shape == (2, 6, 6)
    with pytest.raises(ValueError, match=r"shapes \(10, 20\) and \(8, 8, 3\)"):
        Resizer(6).transform([scans[0], np.zeros((8, 8, 3))])


# -- laziness --------------------------------------------------------------------------


class Counting:
    """Array on disk that counts the images read."""

    def __init__(self, array):
        self.array, self.read = array, 0
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.read += len(self.array[rows])
        return self.array[rows]


@every
def test_a_sequence_is_transformed_as_it_is_read(transformer):
    source = Counting(HU)
    X = ImageSequence.from_array(source, groups=list("aabbc"))
    out = transformer.fit_transform(X)
    expected = transformer.transform(HU)
    assert source.read == 0
    assert isinstance(out, ImageSequence)
    assert (out.shape, out.dtype) == (expected.shape, expected.dtype)
    assert out.groups.tolist() == list("aabbc")
    part = out[[4, 0, 4]]
    assert part.groups.tolist() == list("cac")
    np.testing.assert_array_equal(part.to_numpy(), expected[[4, 0, 4]])
    assert source.read == 2
    np.testing.assert_array_equal(out[-1], expected[-1])


def test_lazy_steps_follow_one_another_and_pickle(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        lazy = make_pipeline(WindowLevel("lung"), Resizer(4), GrayToRGB())
        expected = lazy.fit_transform(HU)
        out = lazy.transform(file.create_dataset("x", data=HU))
        assert isinstance(out, ImageSequence)
        np.testing.assert_array_equal(out.to_numpy(), expected)
    again = pickle.loads(pickle.dumps(lazy.transform(ImageSequence.from_array(HU))))
    np.testing.assert_array_equal(np.asarray(again[1:3]), expected[1:3])


def test_parameters_set_later_do_not_reach_what_is_lazy():
    scaler = WindowLevel("lung")
    out = scaler.transform(ImageSequence.from_array(HU))
    expected = scaler.transform(HU)
    scaler.set_params(window="bone")
    np.testing.assert_array_equal(out.to_numpy(), expected)


def test_an_empty_part_of_a_sequence_stays_empty():
    out = Resizer(4).transform(ImageSequence.from_array(HU))
    assert np.asarray(out[[]]).shape == (0, 4, 4)


# -- with an estimator -----------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True], ids=["array", "sequence"])
def test_pipeline_with_a_classifier(images, tiny, lazy):
    X, y = images
    X = X.astype(np.int16) * 8 - 1000
    given = ImageSequence.from_array(X, groups=np.arange(40) // 2) if lazy else X
    pipe = make_pipeline(WindowLevel("lung"), tiny(early_stopping=True))
    probability = pipe.fit(given, y).predict_proba(given)
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.predict_proba(X), probability)
    cross_validate(pipe, given, y, cv=2, error_score="raise")


def test_grid_search_over_windows(images, tiny):
    X, y = images
    X = X.astype(np.int16) * 8 - 1000
    pipe = make_pipeline(WindowLevel("lung"), tiny())
    grid = {"windowlevel__window": ["lung", (40, 80), "bone"]}
    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["windowlevel__window"] in grid["windowlevel__window"]
    assert len(search.cv_results_["params"]) == 3


@every
def test_clone_and_pickle(transformer):
    expected = transformer.transform(HU)
    for other in (clone(transformer), pickle.loads(pickle.dumps(transformer))):
        np.testing.assert_array_equal(other.transform(HU), expected)


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (WindowLevel("lungs"), "Did you mean 'lung'"),
        (WindowLevel((1, 2, 3)), r"centre, width"),
        (WindowLevel((40, 0)), "width of at least 1"),
        (WindowLevel("lung", out_range=(1, 0)), "out_range=.* two increasing numbers"),
        (WindowLevel("lung", function="LOG"), "'function' parameter"),
        (ChannelStacker([]), "windows is empty"),
        (IntensityScaler("max"), "'method' parameter"),
        (IntensityScaler(percentiles=(5, 101)), "from 0 to 100"),
        (Resizer((4, 4, 4)), "2 spatial axes"),
        (Resizer((4, 0)), "2 positive integers"),
        (Resizer((4, 4.5)), "2 positive integers"),
        (Resizer(0), "'size' parameter"),
        (Resizer(4, fill=1e6), "no value of int16"),
        (Resampler((1, 1, 1), 1), "spacing=.*2 spatial axes"),
        (Resampler(1, (1, -1)), "from_spacing=.*positive"),
        (CLAHE(0.5), "'clip_limit' parameter"),
        (CLAHE(tiles=32), "fewer tiles"),
        (ForegroundCropper(threshold="mean"), "'threshold' parameter"),
        (ForegroundCropper(margin=-1), "'margin' parameter"),
        (BreastCropper((1, 2, 3)), "2 spatial axes"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit(transformer, message):
    with pytest.raises(ValueError, match=message):
        transformer.fit(HU).transform(HU)
    with pytest.raises(ValueError, match=message):
        transformer.transform(HU)


def test_named_windows_are_for_hu():
    x = HU.astype(np.uint8)
    with pytest.raises(ValueError, match="uint8 images have no values below 0"):
        WindowLevel("lung").fit(x)
    WindowLevel((128, 256)).fit(x)


@every
def test_what_is_not_finite_is_found(transformer):
    x = HU.astype(float)
    x[3, 2, 1], x[4] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"X\[3\].* 1 NaN and 90 infinite"):
        transformer.transform(x)
    lazy = transformer.transform(ImageSequence.from_array(x))
    with pytest.raises(ValueError, match="not finite"):
        np.asarray(lazy)


def test_layouts_that_are_not_clear():
    x = np.zeros((4, 2, 16, 16))
    with pytest.raises(ValueError, match="channel_axis=1"):
        IntensityScaler().fit(x)
    assert IntensityScaler(channel_axis=1).fit_transform(x).shape == x.shape
    assert Resizer(8, spatial_dims=3).fit_transform(x).shape == (4, 8, 8, 8)
    with pytest.raises(ValueError, match="3 channels"):
        ChannelStacker(["lung"]).fit(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match="alpha"):
        GrayToRGB().fit(np.zeros((2, 8, 8, 4), np.uint8))
    with pytest.raises(ValueError, match="X is empty"):
        Resizer(4).transform(np.zeros((0, 8, 8)))
