"""One seed, one model, whatever the order, copies and layout of the images."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_predict
from skorch.callbacks import Callback
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg._feed import to_tensor
from skmedimg._random import drawing_from
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.augmentation import Augmentation
from skmedimg.io import ImageSequence

# BatchNorm, dropout, augmentation, and more images than fit a batch.
CLF = CNNImageClassifier(
    ResNet(width=4, depth=2, dropout=0.3), max_epochs=2, batch_size=8, random_state=0
)


class Foreign(nn.Module):
    """A network from elsewhere, which draws from torch's global generator."""

    def __init__(self, in_channels, n_outputs, spatial_dims):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.LazyLinear(n_outputs)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def _with_dropout_of_torch(in_channels, n_outputs, spatial_dims):
    """One of our networks, with a part that draws from torch's global generator."""
    net = ResNet(4, depth=1, dropout=0.3).build(in_channels, n_outputs, spatial_dims)
    net.head = nn.Sequential(nn.Dropout(0.5), net.head)
    return net


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def _with_noise(in_channels, n_outputs, spatial_dims):
    net = ResNet(4, depth=1).build(in_channels, n_outputs, spatial_dims)
    net.head = nn.Sequential(Noise(), nn.RReLU(), net.head)
    return net


def _noisy(x):
    return x + 0.1 * torch.randn_like(x)


SETTINGS = {
    "standard": {},
    "sgd": {"optimizer": "sgd", "schedule": "cosine"},
    "rmsprop": {"optimizer": "rmsprop", "l1": 1e-4, "loss": "focal"},
    "balanced": {"class_weight": "balanced", "label_smoothing": 0.0},
    "class weights": {"class_weight": {0: 1.0, 1: 2.5}},
    "flips": {"augmentation": Augmentation(flip=("H", "W"), rotation=20, gain=0.2)},
    "own augmentation": {"augmentation": _noisy},
    "foreign": {"architecture": Foreign},
    "foreign head": {"architecture": _with_dropout_of_torch},
    "noisy head": {"architecture": _with_noise},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "resized": {"image_size": (8, 8)},
}


@pytest.fixture
def data(images):
    X, y = images
    return X, y, np.arange(40) // 4


def _fit(settings, X, y, **fit_params):
    return clone(CLF).set_params(**settings).fit(X, y, **fit_params)


def _assert_same(one, other, X, at=None):
    p, q = one.predict_proba(X), other.predict_proba(X if at is None else at)
    assert np.isfinite(p).all()
    assert np.ptp(p[:, 0]) > 0
    assert np.array_equal(p, q)
    assert one.history_.train_loss.equals(other.history_.train_loss)
    assert one.image_spec_.mean == other.image_spec_.mean


@pytest.mark.parametrize("name", SETTINGS)
def test_order_and_copies_of_rows_do_not_matter(name, data):
    X, y, groups = data
    settings = SETTINGS[name]
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, len(X))
    order, copied = rng.permutation(40), np.repeat(np.arange(40), times)
    first = _fit(settings, X, y, groups=groups)
    _assert_same(first, _fit(settings, X, y, groups=groups), X)
    twice = np.r_[order, np.arange(40)]
    doubled = _fit(settings, X, y, groups=groups, sample_weight=np.full(40, 2))
    weighted = _fit(settings, X, y, groups=groups, sample_weight=times)
    pairs = [(first, order), (doubled, twice), (weighted, rng.permutation(copied))]
    for model, rows in pairs:
        at = {"groups": groups[rows]}
        _assert_same(model, _fit(settings, X[rows], y[rows], **at), X)
    assert not np.array_equal(first.predict_proba(X), weighted.predict_proba(X))


@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("missing", [False, True])
def test_label_indicators(missing, settings, data):
    X, y, _ = data
    rng = np.random.default_rng(1)
    target = np.column_stack([y, rng.integers(0, 2, (40, 2))]) * 1.0
    if missing:
        target[rng.random(target.shape) < 0.2] = np.nan
    times = rng.integers(0, 4, len(X))
    copied = rng.permutation(np.repeat(np.arange(40), times))
    weighted = _fit(settings, X, target, sample_weight=times)
    _assert_same(weighted, _fit(settings, X[copied], target[copied]), X)


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}])
def test_copies_with_float_weights(settings, data):
    X, y, groups = data
    rng = np.random.default_rng(2)
    rows, weight = np.r_[:40, rng.integers(0, 40, 60)], rng.random(100) ** 3
    models = []
    for order in (np.arange(100), rng.permutation(100)):
        at = rows[order]
        weights = {"sample_weight": weight[order], "groups": groups[at]}
        models.append(_fit(settings, X[at], y[at], **weights))
    _assert_same(*models, X)


def test_partial_fit(data):
    X, y, _ = data
    weighted, repeated = clone(CLF), clone(CLF)
    for part in (slice(0, 20), slice(20, 40)):
        rows, twos = np.arange(40)[part], np.full(20, 2)
        weighted.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=twos)
        twice = np.repeat(rows, 2)[::-1]
        repeated.partial_fit(X[twice], y[twice], classes=[0, 1])
    _assert_same(weighted, repeated, X)


class Interruption(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_interrupted_partial_fit_leaves_no_trace(data):
    X, y, _ = data
    model = clone(CLF).partial_fit(X, y, classes=[0, 1])
    other = copy.deepcopy(model)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=[Interruption()]).partial_fit(X, y)
    model.set_params(callbacks=None)
    _assert_same(model.partial_fit(X, y), other.partial_fit(X, y), X)
    # Another optimizer cannot go on with the moments of the first: it starts afresh.
    assert model.set_params(optimizer="rmsprop").partial_fit(X, y).n_iter_ == 3


@pytest.mark.parametrize("name", ["standard", "foreign", "own augmentation"])
def test_seeds(name, data):
    X, y, _ = data

    def fit(seed):
        return _fit(SETTINGS[name] | {"random_state": seed}, X, y)

    one = fit(np.random.RandomState(3))
    with torch.random.fork_rng():
        torch.manual_seed(7)  # the caller's generator has no say
        _assert_same(one, fit(np.random.RandomState(3)), X)
    models = [fit(seed) for seed in (0, 1, None, None)]
    models.append(one.fit(X, y))  # its RandomState has moved on
    assert len({model.predict_proba(X).tobytes() for model in models}) == 5


def test_network_that_is_trained_while_it_is_built(data):
    X, y, _ = data

    def trained(*shape):
        return _fit({"architecture": Foreign}, X, y).module_

    one, other = (_fit({"architecture": trained}, X, y) for _ in range(2))
    _assert_same(one, other, X)


class Sampling(Foreign):
    """Draws in evaluation as well, as a Bayesian network does."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, training=True))


def test_predictions_of_a_network_that_draws(data):
    # No global generator may move; the fixture compares the states before and after.
    X, y, _ = data
    model = _fit({"architecture": Sampling}, X, y)
    for method in (model.predict_proba, model.embed):
        assert np.array_equal(method(X), method(X))
    prepared = to_tensor(X[:, None], model.image_spec_, torch.device("cpu"))
    one, other = (model.net_.predict_proba(prepared) for _ in range(2))
    assert np.array_equal(one, other)
    weights = Pretrained(FrozenEstimator(model))
    _fit({"architecture": Sampling, "weights": weights}, X, y)


class GeneratorOfAGpu:
    """As much of one as there is without a GPU; 16 bytes of state, on the host."""

    device = torch.device("cuda", 0)

    def __init__(self, seed=0):
        self.state = (seed, 0)

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state

    def initial_seed(self):
        return self.state[0]

    def get_offset(self):
        return self.state[1]

    def set_offset(self, offset):
        self.state = (self.state[0], offset)


def test_draws_on_the_cpu_of_a_network_on_a_gpu(monkeypatch):
    standard = GeneratorOfAGpu(seed=7)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", (standard,))

    def draws(seed):
        generator, drawn = GeneratorOfAGpu(seed), []
        for _ in range(3):
            with drawing_from(generator):
                drawn.append(torch.rand(()).item())
        return drawn

    assert draws(0) == draws(0)
    assert len({*draws(0), *draws(1)}) == 6
    assert standard.state == (7, 0)


def test_processes(data):
    X, y, _ = data
    options = {"cv": 2, "method": "predict_proba"}
    one, two = (cross_val_predict(CLF, X, y, n_jobs=n, **options) for n in (1, 2))
    assert np.array_equal(one, two)


def _layouts(kind):
    rng = np.random.default_rng(0)
    if kind == "grey":
        X = rng.integers(0, 99, (30, 9, 12), dtype=np.uint8)
        return [
            (X, {}),
            (X[..., None], {}),
            (X[:, None], {}),
            (X.reshape(30, -1), {"image_shape": (9, 12)}),
            (np.asfortranarray(X), {}),
            (list(X), {}),
            (ImageSequence.from_array(X), {}),
        ]
    if kind == "colour":
        X = rng.normal(50, 20, (30, 9, 12, 3))
        first = np.ascontiguousarray(np.moveaxis(X, -1, 1))
        return [
            (X, {}),
            (first, {}),
            (np.moveaxis(X, -1, 1), {}),
            (X.reshape(30, -1), {"image_shape": (9, 12, 3)}),
            (first.reshape(30, -1), {"image_shape": (3, 9, 12)}),
            (ImageSequence.from_array(first), {}),
        ]
    # One scan in ten has other intensities: each is scaled by its own percentiles.
    X = rng.integers(0, 999, (30, 9, 10, 12)).astype(np.int16)
    X[::10] *= 20
    return [(X, {}), (X, {"spatial_dims": 3}), (X[:, None], {}), (X[..., None], {})]


@pytest.mark.parametrize("kind", ["grey", "colour", "volume"])
def test_layouts(kind):
    (X, settings), *others = _layouts(kind)
    y = np.arange(30) % 3
    first = _fit(settings, X, y)
    for other, settings in others:
        _assert_same(first, _fit(settings, other, y), X, at=other)


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("architecture", [Foreign, ResNet(4, depth=1, dropout=0.5)])
def test_global_generators_stay(architecture, seed, data, global_random_state_stays):
    X, y, groups = data
    settings = {"architecture": architecture, "random_state": seed}
    for extra in ({"early_stopping": True}, {"augmentation": _noisy}):
        # The fixture compares the states before and after.
        model = _fit(settings | extra, X, y, groups=groups)
        model.predict_proba(X)
        model.embed(X)


@pytest.mark.parametrize("name", ["standard", "foreign", "own augmentation"])
def test_fits_in_threads(name, data):
    X, y, _ = data

    def fit(seed):
        return _fit(SETTINGS[name] | {"random_state": seed}, X, y)

    alone = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, range(4)))
    for one, other in zip(alone, together, strict=True):
        _assert_same(one, other, X)


@pytest.mark.parametrize("architecture", [ResNet(width=4, depth=1), Foreign])
def test_predictions_in_threads(architecture, data):
    X, y, _ = data
    model = _fit({"architecture": architecture}, X, y)
    parts = [X[i : i + 20] for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for method in (model.predict_proba, model.embed, model.decision_function):
            for part, got in zip(parts, pool.map(method, parts), strict=True):
                assert np.array_equal(got, method(part))


def _joblib_dumps(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": lambda model: joblib.load(io.BytesIO(_joblib_dumps(model))),
    "cloudpickle": lambda model: pickle.loads(cloudpickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}])
def test_copies_predict_and_learn_alike(name, settings, data):
    X, y, _ = data
    model = _fit(settings | {"warm_start": True}, X, y)
    other = COPIES[name](model)
    _assert_same(model, other, X)
    assert np.array_equal(model.embed(X), other.embed(X))
    # They share nothing: training one leaves the other alone, and both go on alike.
    before = model.predict_proba(X)
    other.fit(X, y)
    assert np.array_equal(model.predict_proba(X), before)
    _assert_same(model.fit(X, y), other, X)
    if not settings:
        _assert_same(model.partial_fit(X, y), COPIES[name](other).partial_fit(X, y), X)
    _assert_same(clone(other).fit(X, y), _fit(settings, X, y), X)


def test_pickles_hold_no_patient(data):
    X, y, _ = data
    patients = np.array([f"Jane Doe {i:02d}" for i in range(40)])
    X[::2, :, :] = np.frombuffer(b"SECRETSCAN", dtype=np.uint8)
    X[np.arange(40), np.arange(40) % 10, 0] = np.arange(40)
    sequence = ImageSequence.from_array(X, groups=patients)
    for images, extra in [(X, {"groups": patients}), (sequence, {})]:
        model = clone(CLF).set_params(early_stopping=True).fit(images, y, **extra)
        model.score(X, y)
        for dump in (pickle.dumps, cloudpickle.dumps, _joblib_dumps):
            content = dump(model)
            assert b"Jane" not in content
            assert "Jane".encode("utf-32-le") not in content
            assert b"CRETSCAN" not in content
            assert X[0].astype(np.float32)[5].tobytes() not in content
            assert len(content) < 200_000
