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
from sklearn.model_selection import cross_val_predict
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet, SimpleCNN
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
    "simple": {"architecture": SimpleCNN()},
    "foreign": {"architecture": Foreign},
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


@pytest.mark.parametrize("name", SETTINGS)
def test_order_and_copies_of_rows_do_not_matter(name, data):
    X, y, groups = data
    if name == "simple":
        X = np.kron(X, np.ones((1, 6, 6), dtype=np.uint8))
    settings = SETTINGS[name]
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, len(X))
    order, copied = rng.permutation(len(X)), np.repeat(np.arange(len(X)), times)
    first = _fit(settings, X, y, groups=groups)
    _assert_same(first, _fit(settings, X, y, groups=groups), X)
    shuffled = _fit(settings, X[order], y[order], groups=groups[order])
    _assert_same(first, shuffled, X)
    doubled = _fit(settings, X, y, sample_weight=np.full(40, 2), groups=groups)
    twice = np.r_[order, np.arange(40)]
    _assert_same(doubled, _fit(settings, X[twice], y[twice], groups=groups[twice]), X)
    weighted = _fit(settings, X, y, sample_weight=times, groups=groups)
    rng.shuffle(copied)
    repeated = _fit(settings, X[copied], y[copied], groups=groups[copied])
    _assert_same(weighted, repeated, X)
    assert not np.array_equal(first.predict_proba(X), weighted.predict_proba(X))


@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("missing", [False, True])
def test_label_indicators(missing, settings, data):
    X, y, _ = data
    rng = np.random.default_rng(1)
    target = np.column_stack([y, rng.integers(0, 2, (40, 2))]).astype(float)
    if missing:
        target[rng.random(target.shape) < 0.2] = np.nan
    times = rng.integers(0, 4, len(X))
    copied = rng.permutation(np.repeat(np.arange(len(X)), times))
    weighted = _fit(settings, X, target, sample_weight=times)
    _assert_same(weighted, _fit(settings, X[copied], target[copied]), X)


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}])
def test_copies_with_float_weights(settings, data):
    X, y, groups = data
    rng = np.random.default_rng(2)
    rows = np.r_[np.arange(40), rng.integers(0, 40, 60)]
    weight = rng.random(100) ** 3
    models = []
    for order in (np.arange(100), rng.permutation(100), np.arange(100)[::-1]):
        at = rows[order]
        models.append(
            _fit(settings, X[at], y[at], sample_weight=weight[order], groups=groups[at])
        )
    _assert_same(models[0], models[1], X)
    _assert_same(models[0], models[2], X)


def test_partial_fit(data):
    X, y, _ = data
    twice = np.repeat(np.arange(20), 2)
    calls = [(np.arange(20), np.full(20, 2)), (twice[::-1], None)]
    models = []
    for rows, weight in calls:
        model = clone(CLF)
        for start in (0, 20):
            at = rows + start
            model.partial_fit(X[at], y[at], classes=[0, 1], sample_weight=weight)
        models.append(model)
    _assert_same(*models, X)


def test_seeds(data):
    X, y, _ = data
    one = _fit({"random_state": np.random.RandomState(3)}, X, y)
    _assert_same(one, _fit({"random_state": np.random.RandomState(3)}, X, y), X)
    fresh = [_fit({"random_state": s}, X, y) for s in (0, 1, None, None)]
    fresh.append(one.fit(X, y))  # its RandomState has moved on
    assert len({model.predict_proba(X).tobytes() for model in fresh}) == 5


def test_processes(data):
    X, y, _ = data
    one, two = (
        cross_val_predict(CLF, X, y, cv=2, method="predict_proba", n_jobs=n)
        for n in (1, 2)
    )
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
            (X[:, ::-1][:, ::-1], {}),
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
    return [
        (X, {}),
        (X, {"spatial_dims": 3}),
        (X[:, None], {}),
        (X[..., None], {}),
        (X.astype(">i2"), {}),
        (X.reshape(30, -1), {"image_shape": (9, 10, 12)}),
    ]


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
    # The fixture compares the states before and after.
    for extra in ({"early_stopping": True}, {"augmentation": _noisy}):
        model = _fit(settings | extra, X, y, groups=groups)
        model.predict_proba(X)
        model.embed(X)


@pytest.mark.parametrize("name", ["standard", "foreign", "own augmentation"])
def test_fits_in_threads(name, data):
    X, y, _ = data
    seeds = [0, 1, 2, 3]

    def fit(seed):
        return _fit(SETTINGS[name] | {"random_state": seed}, X, y)

    alone = [fit(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, seeds))
    for one, other in zip(alone, together, strict=True):
        _assert_same(one, other, X)


@pytest.mark.parametrize("architecture", [ResNet(width=4, depth=1), Foreign])
def test_predictions_in_threads(architecture, data):
    X, y, _ = data
    model = _fit({"architecture": architecture}, X, y)
    methods = [model.predict_proba, model.embed, model.decision_function]
    parts = [X[i : i + 20] for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for method in methods:
            for part, got in zip(parts, pool.map(method, parts), strict=True):
                assert np.array_equal(got, method(part))


def _through_joblib(model):
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": _through_joblib,
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
    calls = [
        (X, {"groups": patients}),
        (ImageSequence.from_array(X, groups=patients), {}),
    ]
    for images, extra in calls:
        model = clone(CLF).set_params(early_stopping=True).fit(images, y, **extra)
        model.score(X, y)
        for dump in (pickle.dumps, cloudpickle.dumps):
            content = dump(model)
            assert b"Jane" not in content
            assert "Jane".encode("utf-32-le") not in content
            assert b"CRETSCAN" not in content
            assert X[0].astype(np.float32)[5].tobytes() not in content
            assert len(content) < 200_000
