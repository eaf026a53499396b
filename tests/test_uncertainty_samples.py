"""Several predictions of an image: augmentation, dropout, ensembles."""

import copy

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import DataConversionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.checkpoint import checkpoint

from skmedimg.architectures import ResNet
from skmedimg.augmentation import Augmentation
from skmedimg.io import ImageSequence
from skmedimg.preprocessing import IntensityScaler
from skmedimg.uncertainty import (
    DeepEnsembleClassifier,
    predict_augmented,
    predict_dropout,
)
from skmedimg.uncertainty._samples import summarise

DROPOUT = ResNet(width=4, depth=1, dropout=0.5)


@pytest.fixture(scope="module")
def fitted(tiny):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 80, (300, 10, 10), dtype=np.uint8)
    y = np.arange(300) % 2
    X[y == 1, 3:7, 3:7] += 100
    return tiny(architecture=DROPOUT, max_epochs=2).fit(X, y), X, y


class Foreign(nn.Module):
    """A network that is not of this package, with torch's own dropout."""

    def __init__(self, in_channels, n_outputs, spatial_dims, p=0.5):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.Dropout(p))
        self.last = nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.last(self.features(x))


# -- what is told of samples -----------------------------------------------------------


def test_entropy_splits_into_noise_and_disagreement():
    sure, other, unsure = [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]
    told = summarise(np.array([[sure, sure, unsure], [sure, other, unsure]]))
    np.testing.assert_allclose(told.proba, [sure, unsure, unsure])
    np.testing.assert_allclose(told.entropy, [0, np.log(2), np.log(2)])
    np.testing.assert_allclose(told.mutual_information, [0, np.log(2), 0])
    np.testing.assert_allclose(told.std[:, 0], [0, np.sqrt(0.5), 0])


def test_entropy_of_label_indicators_is_of_each_label():
    told = summarise(np.array([[[0.5, 1.0]], [[0.5, 0.0]]]), multilabel=True)
    np.testing.assert_allclose(told.entropy, [[np.log(2), np.log(2)]])
    np.testing.assert_allclose(told.mutual_information, [[0, np.log(2)]], atol=1e-12)


# -- augmentation ----------------------------------------------------------------------


def test_augmented_predictions_vary_and_repeat_by_seed(fitted):
    clf, X, _ = fitted
    first = predict_augmented(clf, X, n_samples=3, random_state=0)
    again = predict_augmented(FrozenEstimator(clf), X, n_samples=3, random_state=0)
    other = predict_augmented(clf, X, n_samples=3, random_state=1)
    assert first.samples.shape == (3, 300, 2)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)
    assert (first.std > 0).mean() > 0.99
    np.testing.assert_allclose(first.proba.sum(axis=1), 1)


def test_images_that_are_not_changed_are_predicted_as_ever(fitted):
    clf, X, _ = fitted
    still = predict_augmented(clf, X, n_samples=2, augmentation=Augmentation())
    np.testing.assert_allclose(still.proba, clf.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(still.mutual_information, 0, atol=1e-6)


def test_each_change_is_what_the_network_sees(fitted):
    clf, X, _ = fitted
    mirrored = predict_augmented(
        clf, X, n_samples=2, augmentation=lambda x: x.flip(-1), random_state=0
    )
    expected = clf.predict_proba(X[:, :, ::-1])
    np.testing.assert_allclose(mirrored.samples, [expected] * 2, atol=1e-6)


def test_images_are_never_mixed(fitted):
    clf, X, _ = fitted
    mixing = Augmentation(mixup=1.0, cutmix=1.0)
    sampled = predict_augmented(clf, X, n_samples=2, augmentation=mixing)
    np.testing.assert_allclose(sampled.proba, clf.predict_proba(X), atol=1e-6)
    assert (mixing.mixup, mixing.cutmix) == (1.0, 1.0)


def test_each_image_is_read_once(fitted):
    clf, X, _ = fitted

    class Counting:
        shape, dtype, ndim, reads = X.shape, X.dtype, 3, 0

        def __len__(self):
            return len(X)

        def __getitem__(self, rows):
            part = X[rows]
            Counting.reads += len(part)
            return part

    predict_augmented(clf, ImageSequence.from_array(Counting()), n_samples=5)
    assert Counting.reads == len(X)


def test_nothing_to_change_by_is_an_error(tiny, images):
    X, y = images
    clf = tiny(augmentation=None).fit(X, y)
    with pytest.raises(ValueError, match="nothing to change the images by"):
        predict_augmented(clf, X)
    rows = tiny().fit(X.reshape(40, -1), y)
    with pytest.raises(ValueError, match="image_shape"):
        predict_augmented(rows, X.reshape(40, -1))


@pytest.mark.parametrize("function", [predict_augmented, predict_dropout])
def test_samples_are_of_image_classifiers(function, tiny, images):
    X, y = images
    pipe = make_pipeline(IntensityScaler(), tiny(architecture=DROPOUT)).fit(X, y)
    with pytest.raises(TypeError, match=r"pipe\[-1\], pipe\[:-1\]"):
        function(pipe, X)
    samples = function(pipe[-1], pipe[:-1].transform(X), n_samples=2).samples
    assert samples.shape == (2, 40, 2)
    with pytest.raises(ValueError, match="n_samples"):
        function(pipe[-1], X, n_samples=1)
    with pytest.raises(ValueError, match="not fitted"):
        function(tiny(), X)


def test_label_indicators_have_an_uncertainty_each(tiny, images):
    X, y = images
    labels = np.column_stack([y, 1 - y, np.arange(40) % 3 == 0]).astype(int)
    clf = tiny(architecture=DROPOUT).fit(X, labels)
    for function in (predict_augmented, predict_dropout):
        told = function(clf, X, n_samples=2)
        assert told.samples.shape == (2, 40, 3)
        assert told.entropy.shape == told.mutual_information.shape == (40, 3)


# -- dropout ---------------------------------------------------------------------------


def test_dropout_samples_vary_around_the_prediction(fitted):
    clf, X, _ = fitted
    before = copy.deepcopy(clf.module_.state_dict())
    usual = clf.predict_proba(X)
    told = predict_dropout(clf, X, n_samples=200, random_state=0)
    again = predict_dropout(clf, X, n_samples=200, random_state=0)
    np.testing.assert_array_equal(told.samples, again.samples)
    assert (told.std > 0).all()
    # Logits are linear in what is dropped: their mean is that of the whole network.
    logits = np.log(told.samples[..., 1] / told.samples[..., 0])
    error = logits.std(axis=0) / np.sqrt(200)
    z = (logits.mean(axis=0) - np.log(usual[:, 1] / usual[:, 0])) / error
    assert np.abs(z).mean() < 1.2
    # The estimator is as it was.
    np.testing.assert_array_equal(clf.predict_proba(X), usual)
    assert not any(module.training for module in clf.module_.modules())
    for name, value in clf.module_.state_dict().items():
        assert torch.equal(value, before[name])


def test_dropout_of_a_foreign_network(tiny, images):
    X, y = images
    clf = tiny(architecture=Foreign).fit(X, y)
    first = predict_dropout(clf, X, n_samples=3, random_state=0)
    again = predict_dropout(clf, X, n_samples=3, random_state=0)
    assert (first.std > 0).any()
    np.testing.assert_array_equal(first.samples, again.samples)


def test_network_without_dropout_is_an_error(tiny, images):
    X, y = images
    for clf in (tiny(), tiny(architecture=ResNet(4, depth=1, dropout=0.0))):
        with pytest.raises(ValueError, match=r"no dropout layer.*dropout=0\.3"):
            predict_dropout(clf.fit(X, y), X)


# -- ensembles -------------------------------------------------------------------------


def test_ensemble_is_the_mean_of_different_members(tiny, images):
    X, y = images
    names = np.array(["healthy", "lesion"])[y]
    clf = DeepEnsembleClassifier(tiny(), n_members=3, random_state=0).fit(X, names)
    members = [member.predict_proba(X) for member in clf.estimators_]
    np.testing.assert_allclose(clf.predict_proba(X), np.mean(members, axis=0))
    assert clf.classes_.tolist() == ["healthy", "lesion"]
    assert len({member.random_state for member in clf.estimators_}) == 3
    assert not np.allclose(members[0], members[1])
    told = clf.predict_samples(X)
    np.testing.assert_array_equal(told.samples, members)
    np.testing.assert_array_equal(
        clf.predict(X), clf.classes_[told.proba.argmax(axis=1)]
    )


def test_ensembles_take_label_indicators(tiny, images):
    X, y = images
    labels = np.column_stack([y, np.arange(40) % 3 == 0]).astype(int)
    clf = DeepEnsembleClassifier(tiny(), n_members=2, random_state=0).fit(X, labels)
    told = clf.predict_samples(X)
    assert told.entropy.shape == (40, 2)
    np.testing.assert_array_equal(clf.predict(X), told.proba > 0.5)
    column = DeepEnsembleClassifier(tiny(), n_members=2, random_state=0)
    with pytest.warns(DataConversionWarning):
        column.fit(X, labels[:, :1])
    assert column.predict_samples(X).entropy.shape == (40,)


def test_equal_seeds_give_equal_ensembles_also_in_threads(tiny, images):
    X, y = images
    clf = DeepEnsembleClassifier(tiny(), n_members=2, random_state=3)
    proba = clf.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(
        clf.set_params(n_jobs=2).fit(X, y).predict_proba(X), proba
    )
    other = clf.set_params(random_state=4).fit(X, y).predict_proba(X)
    assert not np.array_equal(other, proba)
    assert tiny().random_state == 0


class NoisyForeign(Foreign):
    """Draws in evaluation too."""

    def forward(self, x):
        return super().forward(x + 0.1 * torch.randn_like(x))


class CheckpointedForeign(Foreign):
    """Drops out twice, the second time in the backward pass: the same, it must be."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return self.last(
            checkpoint(self.features, x.requires_grad_(), use_reentrant=False)
        )


@pytest.mark.parametrize("network", [Foreign, NoisyForeign, CheckpointedForeign])
def test_equal_seeds_give_equal_ensembles_of_foreign_networks(network, tiny, images):
    X, y = images
    course = {"max_epochs": 6, "batch_size": 4, "early_stopping": True}
    member = tiny(architecture=network, **course)
    clf = DeepEnsembleClassifier(member, n_members=2, random_state=3)

    def weights():
        fitted = clf.fit(X, y).estimators_
        return [p.detach() for one in fitted for p in one.module_.parameters()]

    # Threads that take each other's draws do so by chance: three times, then.
    alone = weights()
    clf.set_params(n_jobs=2)
    for _ in range(3):
        for one, other in zip(weights(), alone, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


class Remembers(GaussianNB):
    """Notes what it was given."""

    seen: list = []  # noqa: RUF012

    def __init__(self, random_state=None):
        super().__init__()
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, groups=None):
        Remembers.seen.append((X, y, sample_weight, groups))
        return super().fit(np.asarray(X).reshape(len(X), -1), y, sample_weight)

    def predict_proba(self, X):
        return super().predict_proba(np.asarray(X).reshape(len(X), -1))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_members_share_the_images(n_jobs, images, tmp_path):
    X, y = images
    np.save(tmp_path / "X.npy", X)
    weight, groups = np.ones(40), np.arange(40) // 2
    memory = np.load(tmp_path / "X.npy", mmap_mode="r")
    for source in (X, memory, ImageSequence.from_array(X)):
        Remembers.seen.clear()
        clf = DeepEnsembleClassifier(Remembers(), n_members=2, n_jobs=n_jobs)
        clf.fit(source, y, sample_weight=weight, groups=groups)
        for given in Remembers.seen:
            assert given[0] is source
            assert given[2] is weight
            assert given[3] is groups


def test_groups_go_to_those_who_take_them(images):
    X, y = images
    flat, groups = X.reshape(40, -1), np.arange(40) // 2
    base = make_pipeline(IntensityScaler(), LogisticRegression())
    clf = DeepEnsembleClassifier(base, n_members=2).fit(flat, y, groups=groups)
    assert [m[-1].random_state for m in clf.estimators_] != [None, None]


def test_members_that_would_be_alike_are_an_error(images):
    X, y = images
    with pytest.raises(ValueError, match="has no random_state"):
        DeepEnsembleClassifier(GaussianNB()).fit(X.reshape(40, -1), y)
    with pytest.raises(ValueError, match="n_members"):
        DeepEnsembleClassifier(DummyClassifier(), n_members=0).fit(X, y)


def test_temperature_is_fitted_to_the_mean_that_predict_gives():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=2000)
    # Overconfident members: logits three times too large.
    logit = 3 * (2 * y - 1) + rng.normal(0, 3, (3, 2000)) + rng.normal(0, 3, 2000)

    class Table(DummyClassifier):
        def __init__(self, random_state=None):
            super().__init__(strategy="prior", random_state=random_state)

        def predict_proba(self, X):
            p = 1 / (1 + np.exp(-logit[self.random_state % 3, X.ravel()]))
            return np.column_stack([1 - p, p])

    rows = np.arange(2000)[:, None]
    ensemble = DeepEnsembleClassifier(Table(), 3, random_state=0).fit(rows, y)
    scaled = CalibratedClassifierCV(FrozenEstimator(ensemble), method="temperature")
    scaled.fit(rows[:1000], y[:1000])
    mean = ensemble.predict_proba(rows)
    beta = scaled.calibrated_classifiers_[0].calibrators[0].beta_
    expected = 1 / (1 + np.exp(-beta * np.log(mean[:, 1] / mean[:, 0])))
    np.testing.assert_allclose(scaled.predict_proba(rows)[:, 1], expected, atol=1e-6)
    before = log_loss(y[1000:], mean[1000:])
    assert log_loss(y[1000:], scaled.predict_proba(rows[1000:])) < before
