"""Going on from weights: partial_fit, warm_start, weights=; and the embedding."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg.architectures import Pretrained, ResNet, SimpleCNN


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


@pytest.mark.parametrize("few", [slice(1), slice(0, 20, 2)])
def test_few_images_do_not_replace_what_fit_has_measured(tiny, images, few):
    X, y = images
    clf = tiny(max_epochs=15).fit(X, y)
    assert clf.score(X, y) == 1
    before = clf.module_.stem[1].running_var.clone()
    clf.set_params(lr=1e-12).partial_fit(X[few], y[few])
    assert clf.score(X, y) == 1
    moved = (clf.module_.stem[1].running_var / before).log().abs().max()
    assert 0 < moved < 0.2


def test_partial_fit_follows_another_scanner(tiny, images):
    """Statistics of the earlier one would serve its images far worse."""
    X, y = images
    clf = tiny(max_epochs=15).fit(X, y)
    other = (X // 4 + 150).astype(np.uint8)
    for _ in range(4):
        clf.partial_fit(other, y)
    assert clf.score(other, y) > 0.9


def test_partial_fit_of_one_image_that_has_no_variance(tiny, images):
    X, y = images

    def dense(*_):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(100, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        )

    clf = tiny(architecture=dense).partial_fit(X, y, [0, 1])
    with pytest.raises(ValueError, match=r"single image.*two or more"):
        clf.partial_fit(X[:1], y[:1])


def test_fit_after_partial_fit_starts_its_own_moments(tiny, images):
    X, y = images
    kept = tiny(warm_start=True).partial_fit(X, y, classes=[0, 1])
    cleared = copy.deepcopy(kept)
    cleared.net_.optimizer_.state.clear()
    for clf in (kept, cleared):
        clf.fit(X, y)
    np.testing.assert_array_equal(kept.predict_proba(X), cleared.predict_proba(X))


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


class Batches(Callback):
    """Notes the batches of all fits; copies share the list."""

    def __init__(self):
        self.seen = Shared()

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.seen.append(batch[0].numpy().tobytes())


def test_warm_start_draws_anew_in_each_call(tiny, images):
    def batches():
        noted = Batches()
        clf = tiny(warm_start=True, batch_size=20, callbacks=[noted])
        for _ in range(4):
            clf.fit(*images)
        return noted.seen

    seen = batches()
    assert len(set(seen)) == len(seen) == 8
    assert batches() == seen


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
        FrozenEstimator(make_pipeline(FunctionTransformer(), source)),
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
            r"weights do not fit the architecture: 16 .*\(3,\) for \(4,\)",
        ),
        ({}, "weights do not fit the architecture: .* missing"),
        ({"stem": 3}, "weights do not fit"),
        (tmp_path / "absent.pt", "weights.*absent.pt"),
        (tmp_path / "text.pt", "weights.*text.pt"),
        (tmp_path / "list.pt", "weights.*list.pt"),
        (tmp_path, "weights"),
        (3, "weights"),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            tiny(weights=weights).fit(X, y)


# -- pretrained ------------------------------------------------------------------------


def features_of(clf):
    state = clf.module_.state_dict()
    return {k: v for k, v in state.items() if not k.startswith("head.")}


@pytest.fixture
def colour_source(tiny, images):
    """A network for three classes of colour images, and its weights in files."""
    X, _ = images
    return tiny(max_epochs=3).fit(np.stack([X] * 3, -1), np.arange(40) % 3)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pretrained_features_are_frozen(
    tiny, images, tmp_path, colour_source, ending, prefix
):
    X, y = images
    state = {prefix + k: v for k, v in colour_source.module_.state_dict().items()}
    save = save_file if ending == ".safetensors" else torch.save
    save({k: v.contiguous() for k, v in state.items()}, tmp_path / f"w{ending}")
    weights = Pretrained(tmp_path / f"w{ending}", freeze="features")
    with pytest.warns(
        UserWarning, match=r"not known to tell .*: left out head.bias.*starts"
    ):
        clf = tiny(weights=weights, max_epochs=2).fit(X, y)
    kept, source = features_of(clf), features_of(colour_source)
    assert kept.keys() == source.keys()
    for name in kept:
        if name != "stem.0.weight":
            assert torch.equal(kept[name], source[name]), name
    # Grey in all three channels gives the same features.
    colour = np.stack([X] * 3, -1)
    spec, other = clf.image_spec_, colour_source.image_spec_
    assert (spec.channels, other.channels) == (1, 3)
    np.testing.assert_allclose(
        clf.embed(X), colour_source.embed(colour), rtol=1e-3, atol=1e-3
    )
    assert not torch.equal(clf.module_.head.bias, torch.zeros(1))


@pytest.mark.parametrize(
    "kind", ["state dict", "other classes", "pipeline of others", "labels"]
)
def test_pretrained_head_of_other_classes_starts_anew(tiny, images, kind):
    """Of one shape where both tasks have two classes, which may be the other way."""
    X, y = images
    source = tiny().fit(X, np.array(["well", "ill"])[y])
    if kind == "labels":
        y = np.column_stack([y, 1 - y])
        source = tiny().fit(X, y[:, ::-1])
    if kind == "state dict":
        weights = Pretrained(source.module_.state_dict())
    else:
        model = make_pipeline(source) if kind.startswith("pipeline") else source
        weights = Pretrained(FrozenEstimator(model))
    callback = FirstWeights()
    with pytest.warns(UserWarning, match="left out head.bias, head.weight;"):
        clf = tiny(weights=weights, callbacks=[callback]).fit(X, y)
    n_head = sum(p.numel() for p in clf.module_.head.parameters())
    expected = parameters_of(source)
    assert torch.equal(callback.seen[0][:-n_head], expected[:-n_head])
    assert not torch.equal(callback.seen[0][-n_head:], expected[-n_head:])


@pytest.mark.parametrize("entry", ["state_dict", "model_state_dict", "net"])
def test_weights_within_a_checkpoint(tiny, images, tmp_path, entry):
    source = tiny().fit(*images)
    state = {f"_orig_mod.{k}": v for k, v in source.module_.state_dict().items()}
    optimizer = torch.optim.Adam(source.module_.parameters()).state_dict()
    torch.save({entry: state, "epoch": 3, "optimizer": optimizer}, tmp_path / "w.pt")
    callback = FirstWeights()
    tiny(weights=tmp_path / "w.pt", callbacks=[callback]).fit(*images)
    assert torch.equal(callback.seen[0], parameters_of(source))
    both = {"weights": state, "ema": state}
    with pytest.raises(ValueError, match="several state dicts, weights, ema"):
        tiny(weights=both).fit(*images)
    logged = both | {"state_dict": state, "best": torch.tensor(0.7)}
    assert tiny(weights=logged).fit(*images).n_iter_ == 1
    torch.save(source.module_, tmp_path / "module.pt")
    with pytest.raises(ValueError, match=r"Save module.state_dict\(\), not the module"):
        tiny(weights=tmp_path / "module.pt").fit(*images)


def test_pretrained_head_that_fits_is_kept(tiny, images):
    X, y = images
    source = tiny().fit(X, y)
    callback = FirstWeights()
    weights = Pretrained(FrozenEstimator(source))
    tiny(weights=weights, callbacks=[callback]).fit(X, 1 - y)
    assert torch.equal(callback.seen[0], parameters_of(source))


def test_pretrained_features_learn_more_slowly(tiny, images):
    X, y = images
    source = tiny(max_epochs=5).fit(X, y)

    def way(lr_scale):
        weights = Pretrained(FrozenEstimator(source), lr_scale=lr_scale)
        clf = tiny(weights=weights, optimizer="sgd", weight_decay=0.0, batch_size=40)
        before, after = features_of(source), features_of(clf.fit(X, y))
        name = "stages.0.conv1.weight"
        moved = (after[name] - before[name]).norm()
        return float(moved), clf.history_.lr.iloc[-1]

    slow, fast = way(0.01), way(1.0)
    assert slow[0] == pytest.approx(0.01 * fast[0], rel=0.05)
    assert slow[1] == fast[1]


def test_pretrained_weights_that_do_not_fit(tiny, images, colour_source):
    X, y = images
    sound = colour_source.module_.state_dict()
    state = {k: v for k, v in sound.items() if k != "stages.0.conv1.weight"}
    with pytest.raises(ValueError, match=r"fit .*: 1 missing \(stages.0.conv1"):
        tiny(weights=Pretrained(state)).fit(X, y)
    deep = tiny(architecture=ResNet(width=4, depth=2)).fit(X, y).module_.state_dict()
    with pytest.raises(ValueError, match=r"unknown \(stages.1.conv1.weight, .*, …\)"):
        tiny(weights=Pretrained(deep)).fit(X, y)
    more = sound | {"mix.weight": torch.ones(4, 4), "mix.bias": torch.ones(4)}
    with pytest.raises(ValueError, match=r"unknown \(mix"):
        tiny(weights=Pretrained(more)).fit(X, y)
    headless = {k: v for k, v in sound.items() if not k.startswith("head.")}
    with pytest.warns(UserWarning, match="left out nothing, for there is none"):
        tiny(weights=Pretrained(headless)).fit(X, y)
    name = "stem.0.weight"
    with pytest.raises(ValueError, match=rf"another shape \({name}, int for"):
        tiny(weights=Pretrained(deep | {name: 3})).fit(X, y)
    for bad in ({"freeze": "all"}, {"lr_scale": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            tiny(weights=Pretrained(state, **bad)).fit(X, y)


def test_pretrained_filters_take_other_channels_behind_an_embedding(tiny, images):
    class Embedding(nn.Module):
        def __init__(self, in_channels, n_outputs, spatial_dims):
            super().__init__()
            self.places = nn.Parameter(torch.zeros(1, 4, 8, 8))
            self.conv = nn.Conv2d(in_channels, 4, 3)
            self.head = nn.Linear(4, n_outputs)

        def forward(self, x):
            return self.head((self.conv(x) + self.places).mean((2, 3)))

    X, y = images
    colour = tiny(architecture=Embedding).fit(np.stack([X] * 3, -1), y)
    grey = Pretrained(FrozenEstimator(colour), freeze="features")
    clf = tiny(architecture=Embedding, weights=grey).fit(X, y)
    torch.testing.assert_close(
        clf.module_.conv.weight, colour.module_.conv.weight.sum(1, keepdim=True)
    )


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_rates_may_change_between_partial_fits(tiny, images, optimizer):
    """Moments stay with their parameters, whatever groups these are in."""
    X, y = images
    source = FrozenEstimator(tiny().fit(X, y))
    one, other = (
        tiny(weights=Pretrained(source), optimizer=optimizer).partial_fit(X, y, [0, 1])
        for _ in range(2)
    )
    one.set_params(weights__lr_scale=0.1).partial_fit(X, y)
    one.set_params(weights=None).partial_fit(X, y)
    assert one.predict(X).shape == (40,)
    # A scale next to one is next to no scale.
    same = clone(other).partial_fit(X, y, [0, 1]).partial_fit(X, y)
    other.set_params(weights__lr_scale=1 + 1e-9).partial_fit(X, y)
    torch.testing.assert_close(parameters_of(same), parameters_of(other))


@pytest.mark.parametrize("change", [{"weights__freeze": None}, {"weights": None}])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_features_are_thawed_by_a_warm_start(
    tiny, images, colour_source, change, method
):
    X, y = images
    weights = Pretrained(colour_source.module_.state_dict(), freeze="features")
    clf = tiny(weights=weights, warm_start=True)
    with pytest.warns(UserWarning, match="left out"):
        clf.fit(X, y)
    before = features_of(clf)
    frozen = features_of(clf.fit(X, y))
    assert all(torch.equal(before[name], frozen[name]) for name in before)
    getattr(clf.set_params(**change), method)(X, y)
    thawed = features_of(clf)
    assert not torch.equal(
        before["stages.0.conv2.weight"], thawed["stages.0.conv2.weight"]
    )
    with pytest.raises(ValueError, match="lr_scale"):
        clf.set_params(weights=weights, weights__lr_scale=-1.0).fit(X, y)


def test_rates_of_pretrained_features_outlive_a_gpu(tiny, images):
    """A model that was trained on a GPU is loaded where there may be none."""
    source = FrozenEstimator(tiny().fit(*images))
    clf = tiny(weights=Pretrained(source, lr_scale=0.1)).fit(*images)

    def groups(clf):
        groups = clf.net_.optimizer_.param_groups
        return [(len(group["params"]), group["lr_scale"]) for group in groups]

    expected = groups(clf)
    assert {scale for _, scale in expected} == {0.1, 1.0}
    clf.net_.device = "cuda"
    content = pickle.dumps(clf)
    assert groups(pickle.loads(content)) == expected


def test_pretrained_is_cloned_and_searched(images, colour_source):
    weights = Pretrained(colour_source.module_.state_dict())
    clf = clone(CNNImageClassifier(weights=weights))
    assert clf.set_params(weights__lr_scale=0.1).weights.lr_scale == 0.1
    assert weights.lr_scale == 1.0


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
        (ResNet(width=4, depth=2), 16),
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


class Patches(nn.Module):
    """Gives its linear layer the patches of an image as rows."""

    def __init__(self, in_channels, n_outputs, dims):
        super().__init__()
        self.head = nn.Linear(25, n_outputs)

    def forward(self, x):
        rows = x.unfold(2, 5, 5).unfold(3, 5, 5).reshape(-1, 25)
        return self.head(rows).view(len(x), 4, -1).mean(1)


class HeadFirst(nn.Module):
    """Registers the layer that is run last before the others, and one that is not."""

    def __init__(self, in_channels, n_outputs, dims):
        super().__init__()
        self.head, self.first = nn.Linear(8, n_outputs), nn.Linear(100, 8)
        self.spare = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(input=self.first(x.flatten(1)))


def test_embedding_has_one_row_an_image(tiny, images):
    clf = tiny(architecture=Patches).fit(*images)
    with pytest.raises(ValueError, match="layer 160 rows for 40 image"):
        clf.embed(images[0])
    with pytest.raises(ValueError, match="layer 4 rows for 1 image"):
        clf.embed(images[0][:1])
    assert tiny(architecture=HeadFirst).fit(*images).embed(images[0]).shape == (40, 8)


def test_embedding_needs_a_linear_layer(tiny, images):
    X, y = images

    def convolutions(in_channels, n_outputs, spatial_dims):
        conv = nn.Conv2d(in_channels, n_outputs, 3)
        return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    clf = tiny(architecture=convolutions).fit(X, y)
    with pytest.raises(ValueError, match=r"torch.nn.Linear.*Sequential runs none"):
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
