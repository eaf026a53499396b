"""The loss, and training that goes wrong: divergence, Ctrl-C, too little memory."""

import pickle
import weakref

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import nn
from torch.nn.functional import cross_entropy

from skmedimg import CNNImageClassifier
from skmedimg._feed import Feed, make_training_set, to_tensor
from skmedimg._loss import ClassificationLoss
from skmedimg._modules import hand_over_moments, trains_channels_last
from skmedimg._random import drawing_from
from skmedimg.architectures import ResNet, SimpleCNN
from skmedimg.architectures.resnet import ResNetModule
from skmedimg.exceptions import NonFiniteLossError
from skmedimg.images import ImageArray, ImageSpec, resize

N = 16
X = np.random.default_rng(0).normal(size=(N, 6, 7)).astype(np.float32)
Y = np.arange(N) % 2


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_logit_or_two_have_the_same_loss(loss, smoothing):
    z, target = torch.linspace(-3, 3, 8), torch.arange(8) % 2
    two = torch.stack([torch.zeros(8), z], dim=1)
    softmax = ClassificationLoss("softmax", loss, smoothing)(two, target)
    sigmoid = ClassificationLoss("sigmoid", loss, smoothing)(z[:, None], target.float())
    torch.testing.assert_close(softmax, sigmoid)
    expected = cross_entropy(two, target, label_smoothing=smoothing, reduction="none")
    if loss == "focal":
        expected *= (1 - two.softmax(1)[torch.arange(8), target]) ** 2
    torch.testing.assert_close(softmax, expected)


def test_optimizer_without_weight_decay(tiny):
    with pytest.warns(UserWarning, match=r"Rprop knows no.*=0.01 has no.*_decay=0\."):
        tiny(optimizer=torch.optim.Rprop).fit(X, Y)
    tiny(optimizer=torch.optim.Rprop, weight_decay=0).fit(X, Y)


# -- divergence, Ctrl-C ----------------------------------------------------------------


def test_diverging_loss_keeps_the_last_finite_weights(tiny):
    clf = tiny(lr=1e30, optimizer="sgd", schedule="constant", batch_size=4)
    before = dict(vars(clf))
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch \d.*lr.*1e\+30") as e:
        clf.fit(X, Y)
    assert (e.value.epoch, 1 < e.value.batch <= 4) == (1, True)
    assert vars(clf) == before
    state = e.value.module.state_dict()
    assert all(value.isfinite().all() for value in state.values())
    tiny(weights=state).fit(X, Y)


def test_weights_that_diverge_in_the_last_step(tiny):
    clf = tiny(lr=1e40, optimizer="sgd", schedule="constant", batch_size=N)
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 1"):
        clf.fit(X, Y)


def test_masks_may_be_infinite_and_states_more_than_tensors(tiny):
    class Masked(nn.Module):
        def __init__(self, in_channels, n_outputs, spatial_dims):
            super().__init__()
            self.head = nn.Linear(42, n_outputs)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

        def forward(self, x):
            x = x.flatten(2).transpose(1, 2).expand(-1, -1, 2)
            return self.head((x + self.mask).softmax(2).sum(2))

        def get_extra_state(self):
            return {"scale": 1}

        def set_extra_state(self, state):
            self.scale = state["scale"]

    clf = tiny(architecture=Masked, max_epochs=2, early_stopping=True).fit(X, Y)
    assert clf.n_iter_ == 2
    assert clf.module_.scale == 1


def test_predictions_are_never_nan(tiny):
    clf = tiny(lr=1e36, optimizer="sgd", schedule="constant", batch_size=N).fit(X, Y)
    with pytest.raises(ValueError, match=r"NaN or infinite values for X\[\d+\].*lr"):
        clf.predict_proba(X)


class Faulty(nn.Module):
    """A linear network to which something happens in its third training step."""

    def __init__(self, happening):
        super().__init__()
        self.head, self.happening, self.steps = nn.LazyLinear(1), happening, 0

    def forward(self, x):
        self.steps += self.training
        out = self.head(x.flatten(1))
        return self.happening(out) if self.steps == 3 else out


def test_loss_that_is_not_a_number(tiny):
    happening = Faulty(lambda out: out * float("nan"))
    clf = tiny(architecture=happening, max_epochs=3, batch_size=N // 2)
    with pytest.raises(NonFiniteLossError) as error:
        clf.fit(X, Y)
    assert (error.value.epoch, error.value.batch) == (2, 1)


def test_network_that_gives_more_than_logits_in_training(tiny):
    clf = tiny(architecture=Faulty(lambda out: (out, out)), batch_size=4)
    with pytest.raises(TypeError, match=r"gives a tuple while it trains.*aux_logits"):
        clf.fit(X, Y)


def interrupt(*_, **__):
    raise KeyboardInterrupt


class InterruptingEpoch(Callback):
    def on_epoch_end(self, net, **kwargs):
        interrupt()


class InterruptingBatch(Callback):
    def on_batch_end(self, net, **kwargs):
        interrupt()


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [InterruptingEpoch()]},
        {"callbacks": [InterruptingBatch()]},
        {"callbacks": [EarlyStopping(monitor="train_loss"), InterruptingEpoch()]},
        {"architecture": Faulty(interrupt), "max_epochs": 3},
        {"augmentation": interrupt},
    ],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_ctrl_c_propagates_and_changes_nothing(tiny, params, warm_start):
    clf = tiny(batch_size=4, **params)
    before = dict(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert vars(clf) == before
    clf = tiny(warm_start=warm_start).fit(X, Y)
    proba = clf.predict_proba(X)
    if "architecture" in params:
        return
    for method in (clf.set_params(**params).fit, clf.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(X, Y)
        np.testing.assert_array_equal(clf.predict_proba(X), proba)
        assert clf.n_iter_ == len(clf.history_) == 1


def test_interrupted_partial_fit_leaves_the_optimizer(tiny):
    def train(*, interrupted):
        clf = tiny(batch_size=4).partial_fit(X, Y, [0, 1])
        if interrupted:
            clf.set_params(callbacks=[InterruptingEpoch()])
            with pytest.raises(KeyboardInterrupt):
                clf.partial_fit(X, 1 - Y)
            clf.set_params(callbacks=None)
        return clf.partial_fit(X, Y).predict_proba(X)

    np.testing.assert_array_equal(train(interrupted=True), train(interrupted=False))


@pytest.mark.parametrize("load_best", [False, True])
def test_early_stopping_of_skorch_ends_training(tiny, load_best):
    stop = EarlyStopping("train_loss", patience=2, threshold=0.99, load_best=load_best)
    clf = tiny(max_epochs=9, callbacks=[stop]).fit(X, Y)
    assert clf.n_iter_ == 3
    assert clf.predict(X).shape == (N,)


def test_checkpoint_of_skorch_works(tiny, tmp_path):
    keep = Checkpoint(dirname=tmp_path)
    tiny(max_epochs=2, early_stopping=True, callbacks=[keep]).fit(X, Y)
    assert (tmp_path / "params.pt").exists()


def test_what_callbacks_record_is_in_the_history(tiny):
    class Gradient(Callback):
        def on_epoch_end(self, net, **_):
            net.history.record("gradient", 0.5)

    history = tiny(max_epochs=2, callbacks=[Gradient()]).fit(X, Y).history_
    assert history.columns[:2].tolist() == ["epoch", "train_loss"]
    assert history.columns[-2:].tolist() == ["images_per_second", "gradient"]
    assert history.gradient.tolist() == [0.5, 0.5]


def test_network_that_squeezes_is_refused(tiny, images):
    class Squeezing(nn.Module):
        def __init__(self, in_channels, n_outputs, spatial_dims):
            super().__init__()
            self.head = nn.LazyLinear(3)

        def forward(self, x):
            return self.head(x.flatten(1)).squeeze()

    X, _ = images
    with pytest.raises(ValueError, match=r"shape \(3,\) for 1 image"):
        tiny(architecture=Squeezing).fit(X, np.arange(40) % 3)


def test_images_are_resized_once(tiny, images):
    X, y = images
    small = tiny(image_size=(8, 8), max_epochs=3).fit(X, y)
    by_hand = resize(X[:, np.newaxis], (8, 8))[:, 0]
    same = tiny(max_epochs=3).fit(by_hand, y)
    np.testing.assert_allclose(
        small.predict_proba(X), same.predict_proba(by_hand), atol=0.05
    )


class Hungry(nn.Module):
    """A network for whose batches there is memory up to `most` images."""

    def __init__(self, most):
        super().__init__()
        self.head, self.most = nn.LazyLinear(1), most

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.head(x.flatten(1))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_batch_is_halved_where_memory_is_short(tiny, method):
    y = Y
    args = (X, y) if method == "fit" else (X, y, [0, 1])
    clf = tiny(architecture=Hungry(5), batch_size=16)
    with pytest.warns(UserWarning, match=r"Out of memory.*batch_size=[84]\.") as caught:
        getattr(clf, method)(*args)
    assert len(caught) == 2  # 8, then 4
    with pytest.warns(UserWarning, match="Out of memory on cpu.* 4 images") as caught:
        proba = clf.predict_proba(X)
    assert len(caught) == 1
    small = tiny(architecture=Hungry(99), batch_size=4)
    expected = getattr(small, method)(*args).predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("threads", "dims", "precision", "width", "last"),
    [
        (1, 2, torch.float32, 8, True),
        (2, 2, torch.float32, 8, False),
        (2, 2, torch.float32, 16, True),
        (2, 3, torch.float32, 8, True),
        (2, 3, torch.bfloat16, 8, False),
    ],
)
def test_threads_and_channels_decide_on_the_layout(
    monkeypatch, threads, dims, precision, width, last
):
    with drawing_from(torch.Generator()):
        net = ResNet(width=width).build(1, 1, dims, (28,) * dims)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        assert trains_channels_last(net, torch.device("cpu"), precision) is last


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_partial_fit_goes_on_with_another_number_of_threads(
    before, after, tiny, monkeypatch
):
    def train(*all_threads):
        clf = tiny(batch_size=4, lr=0.01, augmentation=None, precision="float32")
        for threads in all_threads:
            with monkeypatch.context() as patch:
                patch.setattr(torch, "get_num_threads", lambda n=threads: n)
                clf.partial_fit(X, Y, [0, 1])
        return clf

    same, moved = train(*6 * [before]), train(*3 * [before], *3 * [after])
    assert moved.net_.channels_last_ is (after == 1)
    # Layouts sum in another order, no more than that.
    p, q = moved.predict_proba(X), same.predict_proba(X)
    np.testing.assert_allclose(p, q, atol=1e-5)


def test_narrow_strided_networks_train_in_the_plain_layout(images):
    # Channels last, oneDNN would corrupt memory in the gradient of this convolution.
    seen = []

    class Strided(nn.Module):
        def __init__(self, in_channels, n_outputs, dims):
            super().__init__()
            self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
            self.narrow = nn.Conv2d(8, 16, 1, stride=2)
            self.head = nn.Linear(16, n_outputs)

        def forward(self, x):
            x = self.first(x)
            if self.training:
                seen.append(x.is_contiguous())
            return self.head(self.narrow(x).mean((2, 3)))

    CNNImageClassifier(Strided, max_epochs=1, random_state=0).fit(*images)
    assert seen
    assert all(seen)


class Viewing(nn.Module):
    """Reads a feature map as rows without a copy, as many tutorials do."""

    def __init__(self, in_channels, n_outputs, dims):
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.conv, self.head = conv(in_channels, 4, 3), nn.LazyLinear(n_outputs)

    def forward(self, x):
        rows = x.view(x.size(0), -1).mean(1, keepdim=True)
        x = self.conv(x)
        return self.head(x.view(x.size(0), -1)) + rows


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 5, 3)])
def test_networks_that_view_feature_maps_as_rows(tiny, shape):
    X = np.random.default_rng(0).normal(size=(N, *shape))
    clf = tiny(architecture=Viewing, early_stopping=True, validation_fraction=0.3)
    clf.fit(X, Y).set_params(early_stopping=False).partial_fit(X, Y)
    proba = pickle.loads(pickle.dumps(clf)).predict_proba(X)
    one_by_one = [clf.predict_proba(X[[i]])[0] for i in range(N)]
    np.testing.assert_allclose(one_by_one, proba, atol=1e-6)
    assert len(clf.embed(X)) == N


def test_masked_pixels_are_refused(images):
    X, y = images
    with pytest.raises(ValueError, match=r"4000 masked pixels.*fill"):
        CNNImageClassifier().fit(np.ma.masked_array(X, mask=True), y)
    plain = np.ma.masked_array(X, mask=False)
    assert CNNImageClassifier(max_epochs=1).fit(plain, y).n_iter_ == 1


@pytest.mark.parametrize("stops_early", [False, True])
def test_norms_have_the_statistics_of_unchanged_images(stops_early, tiny):
    def brighter(x):
        return x + 100

    clf = tiny(augmentation=brighter, early_stopping=stops_early, max_epochs=2)
    stem = clf.fit(X, Y).module_.stem
    with torch.no_grad():
        shift = stem[0](to_tensor(X[:, None], clf.image_spec_, "cpu")).mean((0, 2, 3))
    moved = (stem[1].running_mean - shift).abs().max().item()
    assert moved < 1 < 10 * stem[0].weight.abs().sum((1, 2, 3)).min().item()
    assert stem[1].momentum == 0.1


@pytest.mark.parametrize("has_units", [True, False])
def test_auto_precision_goes_by_the_processor(has_units, tiny, monkeypatch):
    monkeypatch.setattr("skmedimg._checks._has_matrix_units", lambda: has_units)
    trained_in = []

    class Typed(ResNetModule):
        def forward_head(self, x, pre_logits=False):
            trained_in.append(x.dtype)
            return super().forward_head(x, pre_logits)

    def net(in_channels, n_outputs, spatial_dims):
        module = ResNet(width=4, depth=1).build(in_channels, n_outputs, spatial_dims)
        module.__class__ = Typed
        return module

    clf = tiny(architecture=net).fit(X, Y)
    assert (torch.bfloat16 in trained_in) == has_units
    assert all(p.dtype == torch.float32 for p in clf.module_.parameters())
    trained_in.clear()
    clf.predict(X)
    assert set(trained_in) == {torch.float32}
    # Rows of a table are no images: nothing there is worth the digits.
    trained_in.clear()
    tiny(architecture=net).fit(X.reshape(N, -1), Y)
    assert set(trained_in) == {torch.float32}


# -- inference -------------------------------------------------------------------------


def test_foreign_network_predicts_by_itself(images):
    images, y = images
    with drawing_from(torch.Generator()):
        dense = nn.Sequential(nn.Flatten(), nn.Linear(100, 8), nn.ReLU())
        dense.append(nn.Linear(8, 1))
    clf = CNNImageClassifier(dense, max_epochs=2, random_state=0).fit(images, y)
    prepared = to_tensor(images[:, None], clf.image_spec_, torch.device("cpu"))
    for one in (clf, pickle.loads(pickle.dumps(clf))):
        p = one.net_.predict_proba(prepared)
        np.testing.assert_allclose(p, clf.predict_proba(images), atol=1e-6)
        assert np.array_equal(one.net_.predict(prepared), clf.predict(images))


@pytest.mark.parametrize("architecture", [ResNet(width=4, depth=1), SimpleCNN(4)])
def test_narrow_arithmetic_tells_images_apart(tiny, images, architecture):
    clf = tiny(architecture=architecture, precision="bfloat16").fit(*images)
    many = np.random.default_rng(0).integers(0, 255, (200, 10, 10), dtype=np.uint8)
    assert len(np.unique(clf.decision_function(many))) > 190


# -- modes of torch, devices -----------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("params", [{}, {"augmentation": torch.clone}])
def test_fit_within_modes_without_gradients(mode, params, tiny, images):
    clf, other = tiny(**params), tiny(**params)
    with mode():
        clf.fit(*images).partial_fit(*images)
    other.fit(*images).partial_fit(*images)
    proba = clf.partial_fit(*images).predict_proba(images[0])
    same = other.partial_fit(*images).predict_proba(images[0])
    np.testing.assert_array_equal(proba, same)


def test_moments_go_to_the_device_of_the_parameters():
    old = nn.Parameter(torch.ones(3))
    before = torch.optim.Adam([old])
    old.sum().backward()
    before.step()
    new = nn.Parameter(torch.ones(3, device="meta"))
    after = torch.optim.Adam([new], capturable=True)
    hand_over_moments(before, after, {old: new})
    assert {value.device.type for value in after.state[new].values()} == {"meta"}
    assert {value.device.type for value in before.state[old].values()} == {"cpu"}


def test_retry_with_smaller_batches_keeps_no_images(tiny, monkeypatch):
    alive, seen = weakref.WeakSet(), []

    class Counted(Feed):
        def __init__(self, *args, **kwargs):
            seen.append(len(alive))
            alive.add(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("skmedimg._estimator.Feed", Counted)
    clf = tiny(architecture=Hungry(5), batch_size=16, early_stopping=True)
    with pytest.warns(UserWarning, match="Out of memory"):
        clf.fit(X, Y)
    assert seen == [0, 1] * 3


@pytest.fixture
def gpu_memory(monkeypatch):
    """A GPU with 1,000 bytes free, and 500 that torch keeps and does not use."""
    for name, value in {
        "mem_get_info": (1000, 9999),
        "memory_reserved": 700,
        "memory_allocated": 200,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)


@pytest.mark.parametrize(("n", "fits"), [(17, True), (18, False)])
def test_images_stay_on_a_device_with_room_for_them(n, fits, gpu_memory):
    feed = _feed(np.arange(n * 42, dtype=np.uint8).reshape(n, 6, 7))
    resident = feed._upload()
    assert (resident is not None) == fits
    if fits:
        np.testing.assert_array_equal(resident[:, 0], feed.images.take(feed.rows)[:, 0])


def test_images_are_uploaded_in_small_parts(monkeypatch, gpu_memory):
    feed, read = _feed(np.zeros((9, 6, 7), np.uint8)), []
    take = feed.images.take
    monkeypatch.setattr(feed.images, "take", lambda i: read.append(len(i)) or take(i))
    monkeypatch.setattr(feed.images, "chunk_length", lambda: 2)
    feed._upload()
    assert read == [1, 2, 2, 2, 2, 1]  # the first tells the dtype


def _feed(raw):
    raw.flat[:: raw[0].size] = np.arange(len(raw))  # no two are equal
    images = ImageArray(raw, ImageSpec.from_array(raw), None)
    n = len(raw)
    data = make_training_set(images, np.zeros(n, int), np.ones(n))
    every = {"target": np.zeros(n), "weight": np.ones(n), "index": np.arange(n)}
    spec = data.fit_spec(every["index"])
    return Feed(data, spec=spec, batch_size=4, device=torch.device("cpu"), **every)
