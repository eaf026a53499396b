"""Augmentation: exact against NumPy, the same batched as one by one, seeded."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest

from skmedimg._feed import normalise
from skmedimg._photometry import bias_field, blur, gamma
from skmedimg._warp import mirror, turn, warp
from skmedimg.augmentation import PRESETS, Augmentation, make_augment
from skmedimg.images import ImageSpec

AXES = {2: ("H", "W"), 3: ("D", "H", "W")}
EVERYTHING = {
    "rotation": 20,
    "translation": 0.1,
    "scale": 0.2,
    "crop": 0.3,
    "elastic": 0.1,
    "quarter_turns": True,
    "gain": 0.3,
    "shift": 0.4,
    "gamma": 0.5,
    "bias_field": 0.5,
    "blur": 1.0,
    "noise": 0.2,
    "cutout": 0.4,
}


def batch(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator)


def unchanged(n, dims):
    """Numbers that change nothing, for a test to change some of them."""
    return {
        "flip": torch.zeros(n, dims, dtype=torch.bool),
        "angle": torch.zeros(n, dims * (dims - 1) // 2),
        "translation": torch.zeros(n, dims),
        "scale": torch.ones(n),
        "gain": torch.ones(n),
        "shift": torch.zeros(n),
    }


def one(params, i):
    return {name: value[i : i + 1] for name, value in params.items()}


@pytest.mark.parametrize("shape", [(6, 3, 9, 7), (6, 1, 8, 9, 7), (6, 2, 1, 9)])
@pytest.mark.parametrize("only", [*EVERYTHING, "flip", "everything"])
def test_batched_is_one_by_one(shape, only):
    dims = len(shape) - 2
    params = EVERYTHING | {"flip": AXES[dims]}
    params = params if only == "everything" else {only: params[only]}
    augment, x = Augmentation(**params), batch(*shape)
    drawn = augment.draw(x, torch.Generator().manual_seed(0))
    before = x.clone()
    together = augment.apply(x, drawn)
    assert together.shape == x.shape
    assert not torch.equal(together, x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    for i in range(len(x)):
        alone = augment.apply(x[i : i + 1], one(drawn, i))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(augment.apply(x, drawn), together, rtol=0, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("function", [mirror, warp])
def test_flips_are_numpys(dims, function):
    x = batch(2**dims, 2, *(7, 8, 5)[:dims])
    params = unchanged(len(x), dims)
    for i in range(len(x)):
        params["flip"][i] = torch.tensor([bool(i >> k & 1) for k in range(dims)])
    flipped = function(x, params["flip"] if function is mirror else params)
    for image, got, flip in zip(x, flipped, params["flip"], strict=True):
        axes = [int(k) + 1 for k in flip.nonzero()]
        expected = np.flip(image.numpy(), axes)
        np.testing.assert_allclose(
            got, expected, atol=0 if function is mirror else 1e-5
        )


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 6, 6)])
def test_quarter_turns_are_numpys(shape):
    dims, planes = len(shape), [(0, 1), (0, 2), (1, 2)]
    for k, (a, b) in enumerate(planes[: dims * (dims - 1) // 2]):
        for turns in (1, 2, 3):
            x, params = batch(2, 3, *shape), unchanged(2, dims)
            params["angle"][:, k] = turns * math.pi / 2
            got = warp(x, params).numpy()
            turned = [np.rot90(x, t, axes=(a + 2, b + 2)) for t in (turns, -turns)]
            assert any(np.allclose(got, t, atol=1e-4) for t in turned)


def test_rotation_stays_one_in_images_that_are_not_square():
    x, params = torch.zeros(1, 1, 9, 21), unchanged(1, 2)
    x[0, 0, 4, 10:13] = 1  # from the centre to the right
    params["angle"][:] = math.pi / 2
    rows, columns = np.nonzero(warp(x, params)[0, 0].numpy() > 0.5)
    assert set(columns) == {10}
    assert set(rows) in ({4, 5, 6}, {2, 3, 4})


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("pixels", [1, -2])
def test_translation_repeats_the_border(axis, pixels):
    x, params = batch(1, 1, 6, 8), unchanged(1, 2)
    params["translation"][0, axis] = 2 * pixels / x.shape[axis + 2]
    at = np.arange(x.shape[axis + 2])
    shifted = [
        x.numpy().take(np.clip(at + sign * pixels, 0, at[-1]), axis + 2)
        for sign in (1, -1)
    ]
    got = warp(x, params).numpy()
    assert any(np.allclose(got, s, atol=1e-5) for s in shifted)


def test_scale_enlarges_about_the_centre():
    ramp = torch.arange(9.0).expand(1, 1, 9, 9) - 4
    params = unchanged(1, 2)
    params["scale"][:] = 2
    torch.testing.assert_close(warp(ramp, params), ramp / 2)


def test_intensity_is_linear():
    x, params = batch(3, 2, 5, 5), unchanged(3, 2)
    params["gain"][:] = torch.tensor([0.5, 1.0, 1.5])
    params["shift"][:] = torch.tensor([0.0, 1.0, -1.0])
    got = Augmentation(gain=0.5, shift=1).apply(x, params)
    expected = [x[0] * 0.5, x[1] + 1, x[2] * 1.5 - 1]
    torch.testing.assert_close(got, torch.stack(expected))


@pytest.mark.parametrize("shape", [(4, 1, 1, 9), (4, 1, 9, 1), (4, 2, 1, 1, 9)])
def test_axes_of_one_pixel_are_never_touched(shape):
    dims = len(shape) - 2
    short = [a for a, s in zip(AXES[dims], shape[2:], strict=True) if s == 1]
    x, generator = batch(*shape), torch.Generator().manual_seed(0)
    for augment in (Augmentation(flip=short), Augmentation(rotation=180)):
        for _ in range(5):
            torch.testing.assert_close(augment(x, generator), x, rtol=0, atol=1e-6)
    everything = Augmentation(**EVERYTHING, flip=AXES[dims])(x, generator)
    assert everything.isfinite().all()


def test_numbers_stay_within_their_limits():
    params = EVERYTHING | {"crop": 0.0, "flip": ["W"]}
    augment, x = Augmentation(**params), torch.empty(2000, 1, 4, 4)
    drawn = augment.draw(x, torch.Generator().manual_seed(0))
    limits = {
        "angle": (-math.radians(20), math.radians(20)),
        "translation": (-0.2, 0.2),  # in halves of an axis
        "scale": (1 / 1.2, 1.2),
        "gain": (0.7, 1.3),
        "shift": (-0.4, 0.4),
        "gamma": (1 / 1.5, 1.5),
        "bias_field": (-math.log(1.5), math.log(1.5)),
        "blur": (0, 1.0),
        "elastic": (-0.2, 0.2),  # in halves of an axis
    }
    for name, (low, high) in limits.items():
        assert drawn[name].min() >= low - 1e-6
        assert drawn[name].max() <= high + 1e-6
        assert np.ptp(drawn[name].numpy()) > 0.95 * (high - low)
    assert not drawn["flip"][:, 0].any()
    assert 0.4 < drawn["flip"][:, 1].float().mean() < 0.6


def test_crop_enlarges_a_part_of_the_image():
    ramp = torch.arange(20.0).expand(500, 1, 20, 20)
    cropped = Augmentation(crop=0.5)(ramp, torch.Generator().manual_seed(0))
    seen = cropped[..., -1].amax((1, 2)) - cropped[..., 0].amin((1, 2))
    assert cropped.min() >= 0
    assert cropped.max() <= 19
    assert 9 <= seen.min() < 11
    assert seen.max() > 18


def test_eight_symmetries_of_a_square():
    x = batch(1, 1, 6, 6).expand(200, -1, -1, -1)
    augment = Augmentation(flip=["H", "W"], quarter_turns=True)
    seen = {image.numpy().tobytes() for image in augment(x, torch.Generator())}
    one_image = x[0, 0].numpy()
    turned = [np.rot90(one_image, k) for k in range(4)]
    expected = {np.ascontiguousarray(t).tobytes() for t in turned}
    expected |= {np.ascontiguousarray(t.T).tobytes() for t in turned}
    assert seen == expected


def test_images_that_are_not_square_make_half_turns():
    x = batch(4, 2, 5, 7)
    got = turn(x, torch.arange(4))
    torch.testing.assert_close(got[:2], x[:2])
    torch.testing.assert_close(got[2:], x[2:].rot90(2, (2, 3)))


@pytest.mark.parametrize("shape", [(9, 11), (7, 8, 9)])
def test_blur_is_scipys(shape):
    x, sigma = batch(3, 2, *shape), torch.tensor([0.0, 0.7, 1.3])
    got = blur(x, sigma, 2.0).numpy()
    for image, s, blurred in zip(x.numpy(), sigma.tolist(), got, strict=True):
        wide = {"mode": "nearest", "radius": 6}
        axes = range(1, len(shape) + 1)
        expected = gaussian_filter(image, max(s, 1e-3), axes=axes, **wide)
        np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_gamma_keeps_the_range_and_the_order():
    x = batch(3, 1, 6, 6) * 5 - 2
    bent = gamma(x, torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(bent.amin((1, 2, 3)), x.amin((1, 2, 3)))
    torch.testing.assert_close(bent.amax((1, 2, 3)), x.amax((1, 2, 3)))
    torch.testing.assert_close(bent[1], x[1])
    assert torch.equal(bent.flatten(1).argsort(), x.flatten(1).argsort())
    assert (bent[0] >= x[0] - 1e-5).all()
    assert (bent[2] <= x[2] + 1e-5).all()


def test_bias_field_leaves_the_background():
    x = torch.full((2, 1, 12, 12), -1.0)
    x[:, :, 3:9, 3:9] = 2.0
    nodes = torch.linspace(-0.5, 0.5, 4).expand(2, 4, 4)
    field = bias_field(x, nodes)
    torch.testing.assert_close(field[x == -1], x[x == -1])
    assert (field[:, :, 4:8, 3:9].diff(dim=3) > 0).all()  # smooth, one way


def test_cutout_is_the_mean_of_the_training_images():
    x = torch.ones(50, 1, 10, 10)
    cut = Augmentation(cutout=0.3)(x, torch.Generator().manual_seed(0))
    assert ((cut == 0).sum((1, 2, 3)) == 9).all()
    assert len({image.numpy().tobytes() for image in cut}) > 20


@pytest.mark.parametrize("shape", [(8, 8), (6, 6, 6)])
@pytest.mark.parametrize("params", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_mixtures_tell_their_shares(shape, params):
    n = 400
    x = torch.arange(float(n)).view(-1, 1, *[1] * len(shape)).expand(n, 1, *shape)
    augment = Augmentation(**params)
    drawn = augment.draw(x, torch.Generator().manual_seed(0))
    mixed, own = augment.apply(x, drawn), torch.arange(float(n))
    share, partner = drawn["share"], drawn["partner"].float()
    # The mean over pixels says how much of each image is there.
    expected = share * own + (1 - share) * partner
    torch.testing.assert_close(mixed.flatten(1).mean(1), expected, rtol=1e-4, atol=1e-2)
    assert sorted(partner.tolist()) == own.tolist()
    assert 0.4 < share.mean() < 0.6
    if "cutmix" in params:
        assert all(len(image.unique()) <= 2 for image in mixed)


def test_share_of_a_mixture_is_beta():
    x = torch.empty(20_000, 1, 2, 2)
    for alpha in (0.2, 1.0):
        drawn = Augmentation(mixup=alpha).draw(x, torch.Generator().manual_seed(0))
        assert kstest(drawn["share"].numpy(), "beta", (alpha,) * 2).statistic < 0.02


@pytest.mark.parametrize("name", ["xray", "mammography", "ct", "mri"])
def test_left_stays_left_where_it_means_something(name):
    assert not PRESETS[name].get("flip")


def test_hounsfield_units_stay():
    assert not {"gain", "shift", "gamma", "bias_field"} & set(PRESETS["ct"])


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(3, 16, 12), (1, 8, 9, 7)])
def test_presets_work_on_images_and_volumes(name, shape):
    x = batch(5, *shape)
    changed = Augmentation(**PRESETS[name])(x, torch.Generator().manual_seed(0))
    assert changed.shape == x.shape
    assert changed.isfinite().all()
    assert not torch.equal(changed, x)
    similar = torch.corrcoef(torch.stack([x.flatten(), changed.flatten()]))[0, 1]
    assert similar > 0


def test_default_does_nothing_and_auto_never_mirrors():
    x = batch(50, 1, 6, 6)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(Augmentation()(x, generator), x, rtol=0, atol=0)
    auto = Augmentation(**PRESETS["auto"])
    assert not auto.draw(x, generator)["flip"].any()
    assert not torch.equal(auto(x, generator), x)


def test_seed_decides():
    augment, x = Augmentation(**EVERYTHING, flip=["H"]), batch(4, 1, 6, 6)
    first, again, other = (
        augment(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class FromHost(torch.overrides.TorchFunctionMode):
    """Notes what would have to be copied to a GPU, which keeps the host waiting."""

    def __init__(self):
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        numbers = not all(isinstance(arg, torch.Tensor) for arg in args)
        copies = func in (torch.tensor, torch.from_numpy)
        # A number given to `where` becomes a tensor first.
        if copies or (func in (torch.where, torch.Tensor.where) and numbers):
            self.seen.append(func)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("size", [(10, 10), (1, 9), (6, 5, 7)])
def test_steps_after_the_first_take_nothing_from_the_host(size):
    dims, generator = len(size), torch.Generator()
    mixed = EVERYTHING | {"flip": AXES[dims], "mixup": 0.4, "cutmix": 1.0}
    augment, x = Augmentation(**mixed), batch(4, 1, *size)
    shapes = {"layout": "grey", "sample_shape": size, "channels": 1, "size": size}
    spec = ImageSpec(**shapes, mean=(0.5,), std=(0.2,))
    windows = torch.tensor([[0.1, 0.9]] * 4)

    def step():
        augment(normalise(x.clone(), spec, windows), generator)

    step()
    with FromHost() as host:
        step()
        assert not host.seen
        torch.tensor(1.0)
        assert host.seen  # it would have noticed


def test_what_predicting_has_made_serves_training():
    one_image = {"layout": "grey", "sample_shape": (3, 5), "size": (3, 5)}
    spec = ImageSpec(**one_image, channels=1, mean=(0.125,), std=(2.0,))
    x = torch.ones(2, 1, 3, 5)
    with torch.inference_mode():
        normalise(x.clone(), spec, None)
    x.requires_grad_()
    normalise(x.clone(), spec, None).sum().backward()
    assert (x.grad == 0.5).all()


# -- in an estimator -------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"mixup": 0.4}, {"mixup": 0.2, "cutmix": 1.0}])
@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label", "weighted"])
def test_mixtures_train(tiny, images, params, kind):
    X, y = images
    weight = None
    if kind == "multi-class":
        y = y + (np.arange(40) % 4 == 3)
    elif kind == "multi-label":
        y = np.column_stack([y, 1.0 - y, np.arange(40) % 4 == 3])
        y[::5, 2] = np.nan
    elif kind == "weighted":
        weight = np.linspace(0, 2, 40)
    clf = tiny(augmentation=Augmentation(**params), max_epochs=30, lr=0.02)
    clf.fit(X, y, sample_weight=weight)
    first = clf.predict(X) if kind != "multi-label" else clf.predict(X)[:, 0]
    truth = images[1]
    assert ((first > 0) == truth).mean() > 0.9


def test_mixed_labels_are_mixed_losses(tiny, images):
    """Mixing images of one class with each other changes no label."""
    spec = tiny().fit(*images).image_spec_
    x = batch(6, 1, 10, 10)
    augment = make_augment(Augmentation(mixup=1.0), spec, "cpu")
    mixed, (partner, share) = augment(x, torch.Generator().manual_seed(0))
    net = tiny().fit(*images).net_
    y, w = torch.tensor([0.0, 1, 0, 1, 1, 0]), torch.ones(6)
    logits = torch.linspace(-2, 2, 6)[:, None]
    by_hand = share * net.criterion_(logits, y)
    by_hand += (1 - share) * net.criterion_(logits, y[partner])
    loss = net._weighted_loss(logits, y, w, (partner, share))
    torch.testing.assert_close(loss, by_hand.mean())
    assert mixed.shape == x.shape


class Jitter:
    """A user's augmentation that draws from torch's global generator."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x):
        self.shapes.append((*x.shape, x.dtype))
        return x + torch.randn_like(x)


def test_callable_augmentation_is_seeded(tiny, images):
    X, y = images
    jitter = Jitter()
    first, again, other = (
        tiny(augmentation=jitter, random_state=seed).fit(X, y).predict_proba(X)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    plain = tiny(augmentation=None).fit(X, y).predict_proba(X)
    assert not np.array_equal(first, plain)
    assert {shape[1:] for shape in jitter.shapes} == {(1, 10, 10, torch.float32)}


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        (lambda x: x.numpy()[..., ::-1].copy(), TypeError, "made a ndarray of a batch"),
        (lambda x: None, TypeError, "made a NoneType"),
        (Augmentation, TypeError, r"is a class.*Augmentation\(rotation=10\)"),
        (lambda x: x.double(), ValueError, r"\(2, 1, 10, 10\), torch.float64 on cpu"),
        (lambda x: x.to("meta"), ValueError, "float32 on meta"),
        (lambda x: x[..., 1:], ValueError, r"shape \(2, 1, 10, 9\), torch.float32"),
    ],
)
def test_callable_that_gives_something_else(tiny, images, function, error, match):
    with pytest.raises(error, match=match):
        tiny(augmentation=function).fit(*images)


def test_rows_without_a_shape_are_never_augmented(tiny, images):
    X, y = images
    flat = X.reshape(40, -1)
    for params, changes in [({}, False), ({"image_shape": (10, 10)}, True)]:
        with_, without = (
            tiny(augmentation=a, **params).fit(flat, y).predict_proba(flat)
            for a in ("auto", None)
        )
        assert np.array_equal(with_, without) != changes


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"flip": ["D"]}, r"flip=\('D',\) names \['D'\].*\('H', 'W'\)"),
        ({"flip": ["H", "x"]}, r"names \['x'\]"),
        ({"flip": 3}, "'flip'"),
        ({"rotation": -1}, "'rotation'"),
        ({"rotation": 181}, "'rotation'"),
        ({"rotation": float("nan")}, "'rotation'"),
        ({"translation": 1.5}, "'translation'"),
        ({"scale": -0.1}, "'scale'"),
        ({"scale": float("inf")}, "'scale'"),
        ({"gain": 1.0}, "'gain'"),
        ({"shift": "much"}, "'shift'"),
        ({"crop": 1.0}, "'crop'"),
        ({"elastic": 0.6}, "'elastic'"),
        ({"gamma": -1}, "'gamma'"),
        ({"blur": -1}, "'blur'"),
        ({"cutout": 1.0}, "'cutout'"),
        ({"mixup": -0.1}, "'mixup'"),
        ({"quarter_turns": 2}, "'quarter_turns'"),
    ],
)
def test_bad_parameters(tiny, images, params, match):
    with pytest.raises(ValueError, match=match):
        Augmentation(**params).check(2)
    with pytest.raises(ValueError, match=match):
        tiny(augmentation=Augmentation(**params)).fit(*images)
