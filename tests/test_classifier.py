"""Going on from weights: partial_fit, warm_start, weights=; and the embedding."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet, SimpleCNN


def parameters_of(clf):
    return torch.cat([p.detach().flatten() for p in clf.module_.parameters()])


class FirstWeights(Callback):
    """Notes the weights that training begins with; copies share the list."""

    def __init__(self):
        self.seen = Shared()

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        weights = [p.detach().flatten() for p in net.module_.parameters()]
        self.seen.append(torch.cat(weights).clone())


class Shared(list):
    def __deepcopy__(self, memo):
        return self


# -- partial_fit -----------------------------------------------------------------------


@pytest.fixture
def batches(images):
    X, y = images
    return [(X[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]


def test_partial_fit_trains_one_epoch_a_call(tiny, images, batches):
    X, y = images
    clf = tiny(schedule="one_cycle", lr=0.01, max_epochs=7)
    for i, (X_part, y_part) in enumerate(batches * 5):
        clf.partial_fit(X_part, y_part, classes=[0, 1] if i == 0 else None)
        assert clf.n_iter_ == len(clf.history_) == i + 1
    assert (clf.history_["lr"] == 0.01).all()
    assert clf.history_["epoch"].tolist() == list(range(1, 21))
    assert clf.score(X, y) > 0.9


def test_partial_fit_is_seeded(tiny, batches):
    def proba():
        clf = tiny()
        for X_part, y_part in batches:
            clf.partial_fit(X_part, y_part, classes=[0, 1])
        return clf.predict_proba(X_part)

    np.testing.assert_array_equal(proba(), proba())


def test_first_call_fixes_classes_and_intensities(tiny, images):
    X, y = images
    clf = tiny()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        clf.partial_fit(X, y)
    assert not hasattr(clf, "classes_")
    clf.partial_fit(X[:10], np.zeros(10, int), classes=[2, 0, 1])
    assert clf.classes_.tolist() == [0, 1, 2]
    spec = clf.image_spec_
    clf.partial_fit(X // 2, y).partial_fit(X[:1], y[:1])
    assert clf.image_spec_ == spec
    clf.partial_fit(X, y, classes=[0, 1, 2])
    before = clf.predict_proba(X)
    for call, match in [
        ((X, y, [0, 1]), "classes"),
        ((X, y + 2), r"labels \[3\].*classes \[0, 1, 2\]"),
        ((X[:, :8], y), r"\(40, 8, 10\)"),
        ((X, np.column_stack([y, y])), "fitted on classes"),
    ]:
        with pytest.raises(ValueError, match=match):
            clf.partial_fit(*call)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_partial_fit_after_fit_goes_on(tiny, images):
    X, y = images
    callback = FirstWeights()
    clf = tiny(max_epochs=2, callbacks=[callback]).fit(X, y)
    fitted, spec = parameters_of(clf).clone(), clf.image_spec_
    clf.partial_fit(X // 2, y)
    assert torch.equal(callback.seen[1], fitted)
    assert not torch.equal(parameters_of(clf), fitted)
    assert (clf.n_iter_, clf.image_spec_) == (3, spec)


def test_partial_fit_of_indicators(tiny, images):
    X, y = images
    indicator = np.column_stack([y, 1 - y, np.full(40, np.nan)])
    clf = tiny().partial_fit(X, indicator, classes=[0, 1, 2])
    indicator[:, 2] = y
    clf.partial_fit(X, indicator)
    assert clf.predict(X).shape == (40, 3)
    with pytest.raises(ValueError, match="indicator of 3 labels"):
        tiny().partial_fit(X, indicator, classes=[0, 1])


def test_partial_fit_weighs_images(tiny, images):
    X, y = images
    weight = np.arange(40) % 3
    once = tiny().partial_fit(X, y, [0, 1], sample_weight=weight)
    rows = np.repeat(np.arange(40), weight)
    again = tiny().partial_fit(X[rows], y[rows], [0, 1])
    np.testing.assert_array_equal(once.predict_proba(X), again.predict_proba(X))


def test_partial_fit_does_not_stop_early(tiny, images):
    X, y = images
    with pytest.raises(ValueError, match="early_stopping=True"):
        tiny(early_stopping=True).partial_fit(X, y, classes=[0, 1])


# -- warm_start ------------------------------------------------------------------------


def test_warm_start_goes_on(tiny, images):
    X, y = images
    callback = FirstWeights()
    clf = tiny(warm_start=True, max_epochs=2, callbacks=[callback]).fit(X, y)
    fitted, spec = parameters_of(clf).clone(), clf.image_spec_
    clf.fit(X // 2, y)
    assert torch.equal(callback.seen[1], fitted)
    assert not torch.equal(parameters_of(clf), fitted)
    assert (clf.n_iter_, clf.image_spec_) == (4, spec)
    assert clf.history_["epoch"].tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"labels \[2\]"):
        clf.fit(X, y + 1)
    clf.set_params(warm_start=False).fit(X, y + 1)
    assert (clf.n_iter_, clf.classes_.tolist()) == (2, [1, 2])
    assert not torch.equal(callback.seen[2], fitted)


# -- weights ---------------------------------------------------------------------------


def test_weights_to_start_from(tiny, images, tmp_path):
    X, y = images
    source = tiny().fit(X, y)
    state = source.module_.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "checkpoint.pt")
    wrapped = {f"module.{name}": value for name, value in state.items()}
    for weights in (
        state,
        wrapped,
        tmp_path / "weights.pt",
        str(tmp_path / "checkpoint.pt"),
        FrozenEstimator(source),
    ):
        callback = FirstWeights()
        tiny(weights=weights, callbacks=[callback]).fit(X, 1 - y)
        assert torch.equal(callback.seen[0], parameters_of(source))
    assert torch.equal(parameters_of(source), parameters_of(tiny().fit(X, y)))


def test_weights_that_cannot_be_used(tiny, images, tmp_path):
    X, y = images
    source = tiny().fit(X, y)
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    other = tiny(architecture=ResNet(width=3, depth=1)).fit(X, y)
    for weights, match in [
        (source, "weights.*FrozenEstimator"),
        (FrozenEstimator(tiny()), "weights.*not fitted"),
        (FrozenEstimator(nn.Identity()), "weights"),
        (
            FrozenEstimator(other),
            "weights do not fit the architecture(?s:.*)size mismatch",
        ),
        ({}, "weights do not fit the architecture(?s:.*)Missing key"),
        ({"stem": 3}, "weights do not fit"),
        (tmp_path / "absent.pt", "weights.*absent.pt"),
        (tmp_path / "text.pt", "weights.*text.pt"),
        (tmp_path / "list.pt", "weights.*list.pt"),
        (tmp_path, "weights"),
        (3, "weights"),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            tiny(weights=weights).fit(X, y)


# -- embed -----------------------------------------------------------------------------


def foreign(in_channels, n_outputs, spatial_dims):
    return nn.Sequential(
        nn.Conv2d(in_channels, 5, 3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, n_outputs),
    )


@pytest.mark.parametrize(
    ("architecture", "n_features"),
    [
        (ResNet(width=4, depth=2), 8),
        (SimpleCNN(width=2, depth=2, hidden_units=6), 6),
        (foreign, 20),
    ],
)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_embedding_is_what_the_last_layer_is_given(
    tiny, images, architecture, n_features, n_classes
):
    X, y = images
    y = y + (np.arange(40) % 4 == 2) * (n_classes - 2) * 2
    clf = tiny(architecture=architecture, max_epochs=2).fit(X, y)
    features = clf.embed(X)
    assert (features.shape, features.dtype) == ((40, n_features), np.float32)
    last = [m for m in clf.module_.modules() if isinstance(m, nn.Linear)][-1]
    with torch.inference_mode():
        logits = last(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(
        logits.squeeze(), clf.decision_function(X).squeeze(), atol=1e-5
    )
    np.testing.assert_array_equal(clf.embed(X), features)


def test_embedding_needs_a_linear_layer(tiny, images):
    X, y = images

    def convolutions(in_channels, n_outputs, spatial_dims):
        conv = nn.Conv2d(in_channels, n_outputs, 3)
        return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    clf = tiny(architecture=convolutions).fit(X, y)
    with pytest.raises(ValueError, match=r"torch.nn.Linear.*Sequential has none"):
        clf.embed(X)


def test_early_stopping_after_a_warm_start_without_it(tiny, images):
    clf = tiny(warm_start=True).fit(*images)
    clf.set_params(early_stopping=True).fit(*images)
    assert "valid_loss" in clf.history_


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_training_does_not_go_on_with_another_architecture(tiny, images, call):
    clf = tiny(warm_start=True).fit(*images)
    clf.set_params(architecture="simple")
    with pytest.raises(ValueError, match=r"fitted network, ResNet.*warm_start=False"):
        getattr(clf, call)(*images)


def test_part_given_by_name_has_no_parameters():
    with pytest.raises(ValueError, match=r"architecture='auto'. Pass one"):
        CNNImageClassifier().set_params(architecture__width=4)
    both = {"architecture__width": 4, "architecture": ResNet()}
    assert CNNImageClassifier().set_params(**both).architecture.width == 4
