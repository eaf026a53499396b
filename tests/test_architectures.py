"""Networks in two and three dimensions, of any size, by name, callable or instance."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg.architectures import (
    ResNet,
    SimpleCNN,
    list_architectures,
    make_architecture,
)
from skmedimg.architectures._layers import ACTIVATIONS

SIZES = [(1, 1), (1, 9), (2, 2), (5, 1), (3, 30), (28, 28), (128, 3)]
SIZES_3D = [(1, 1, 1), (1, 5, 2), (9, 9, 9), (2, 30, 3), (64, 1, 2)]


@pytest.mark.parametrize("name", ["simple", "resnet", "auto"])
@pytest.mark.parametrize("size", SIZES + SIZES_3D, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_size_and_number_of_channels(name, size, channels):
    net = seeded(name, channels, 3, len(size), image_size=size)
    x = torch.zeros(4, channels, *size)
    assert net(x).shape == (4, 3)
    net(x).sum().backward()
    features = net.forward_features(x)
    assert net.forward_head(features, pre_logits=True).shape == (
        4,
        net.head.in_features,
    )
    torch.testing.assert_close(net.eval().forward_head(net.forward_features(x)), net(x))


def seeded(*args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_architecture(*args, **kwargs)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_width_and_depth(dims, width, depth):
    size = (40,) * dims
    simple = SimpleCNN(width, depth=depth, hidden_units=7)
    net = seeded(simple, 1, 1, dims, image_size=size)
    filters = [m.out_channels for m in net.modules() if hasattr(m, "out_channels")]
    assert filters == [width, 2 * width, 4 * width, 4 * width][:depth]
    assert net.head.in_features == 7
    net = seeded(ResNet(width, depth=depth, blocks=2), 1, 1, dims, image_size=size)
    assert net.head.in_features == 2 * width * 2 ** (depth - 1)
    assert len(net.stages) == 2 * depth


def test_pooling():
    maps = torch.tensor([[[[0.0, 4.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    for pooling, expected in (
        ("average", [1.0, 1.0]),
        ("max", [4.0, 1.0]),
        ("average_max", [1.0, 1.0, 4.0, 1.0]),
    ):
        net = seeded(ResNet(2, depth=1, pooling=pooling), 1, 1, 2)
        pooled = net.forward_head(maps, pre_logits=True)
        assert pooled.tolist() == [expected]


@pytest.mark.parametrize("name", ["simple", "resnet"])
@pytest.mark.parametrize("size", [(40, 40), (20, 20, 20)])
def test_no_strided_convolution_of_one_pixel(name, size):
    # Its gradient crashes in oneDNN 3.12 (channels last, few channels, some threads).
    for module in seeded(name, 1, 1, len(size), image_size=size).modules():
        if hasattr(module, "kernel_size") and hasattr(module, "weight"):
            assert max(module.kernel_size) > 1 or max(module.stride) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("family", [ResNet, SimpleCNN])
def test_activation(family, activation):
    small = family(width=2, depth=2, activation=activation)
    net = seeded(small, 1, 1, image_size=(9, 9))
    used = {type(m) for m in net.modules()} & {type(a()) for a in ACTIVATIONS.values()}
    assert used == {type(ACTIVATIONS[activation]())}


@pytest.mark.parametrize("family", [ResNet, SimpleCNN])
def test_dropout_draws_from_its_own_generator(family):
    net = seeded(family(width=4, depth=2, dropout=0.5), 1, 1, image_size=(9, 9))
    x = torch.linspace(-1, 1, 4 * 81).reshape(4, 1, 9, 9)

    def train(seed):
        net.set_generator(torch.Generator().manual_seed(seed))
        return net.train()(x)

    torch.testing.assert_close(train(0), train(0), rtol=0, atol=0)
    assert not torch.equal(train(0), train(1))
    torch.testing.assert_close(net.eval()(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("family", [ResNet, SimpleCNN])
@pytest.mark.parametrize(
    ("parameter", "value"),
    [("width", 0), ("depth", 0), ("activation", "tanh"), ("dropout", 1.0)],
)
def test_bad_parameter(family, parameter, value):
    with pytest.raises(
        ValueError, match=f"'{parameter}' parameter of {family.__name__}"
    ):
        family(**{parameter: value}).build(1, 1, 2, (9, 9))


def test_simple_needs_the_image_size():
    for size in (None, (9,), (9, 0)):
        with pytest.raises(ValueError, match="image_size"):
            make_architecture("simple", 1, 1, image_size=size)


# -- the network of Keras tutorials ----------------------------------------------------


@pytest.fixture
def keras(monkeypatch):
    """Keras on torch; what importing and using it moves is put back."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    states = random.getstate(), torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002
    yield pytest.importorskip("keras")
    random.setstate(states[0])
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(states[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_simple_is_the_network_of_keras_tutorials(keras):
    layers = [keras.Input((150, 150, 3))]
    for filters in (32, 64, 128, 128):
        layers.append(keras.layers.Conv2D(filters, 3, activation="relu"))
        layers.append(keras.layers.MaxPooling2D(2))
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    model = keras.Sequential(layers)
    net = make_architecture("simple", 3, 1, image_size=(150, 150)).eval()
    assert sum(p.numel() for p in net.parameters()) == model.count_params() == 3_453_121
    net.load_state_dict(from_keras(net, model.get_weights()))
    x = np.random.default_rng(0).random((2, 150, 150, 3), dtype=np.float32)
    with torch.inference_mode():
        ours = torch.sigmoid(net(torch.from_numpy(x).movedim(-1, 1))).numpy()
    theirs = np.asarray(model.predict(x, verbose=0))
    assert np.ptp(theirs) > 0
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def from_keras(net, weights):
    """Keras keeps kernels as (H, W, in, out) and flattens with the channels last."""
    state = {}
    for (name, ours), theirs in zip(net.state_dict().items(), weights, strict=True):
        value = torch.from_numpy(theirs)
        if value.ndim == 4:
            value = value.permute(3, 2, 0, 1)
        elif name == "dense.0.weight":
            value = value.reshape(7, 7, 128, 512).permute(3, 2, 0, 1).flatten(1)
        elif value.ndim == 2:
            value = value.T
        assert value.shape == ours.shape
        state[name] = value
    return state


# -- what an estimator takes -----------------------------------------------------------


def pooled(in_channels, n_outputs, spatial_dims):
    conv = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(in_channels, 4, 1)
    flat = nn.Flatten(2)
    return nn.Sequential(
        conv, flat, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, n_outputs)
    )


class Pooled(nn.Module):
    def __init__(self, in_channels, n_outputs, spatial_dims):
        super().__init__()
        self.net = pooled(in_channels, n_outputs, spatial_dims)

    def forward(self, x):
        return self.net(x)


@pytest.fixture
def data():
    X = np.random.default_rng(0).normal(size=(12, 6, 6, 3))
    return X, np.arange(12) % 3


@pytest.mark.parametrize("architecture", [pooled, Pooled, "simple", SimpleCNN(width=2)])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_callables_classes_and_objects(tiny, data, architecture, n_classes, dims):
    X, y = data
    X = X if dims == 2 else np.stack([X] * 4, axis=1)
    clf = tiny(architecture=architecture).fit(X, y % n_classes)
    assert clf.predict_proba(X).shape == (12, n_classes)


def test_instance_is_copied_never_trained(tiny, data):
    X, y = data
    with torch.random.fork_rng():
        instance = pooled(3, 3, 2)
    before = {name: value.clone() for name, value in instance.state_dict().items()}
    clf = tiny(architecture=instance, max_epochs=3).fit(X, y)
    assert clf.architecture is instance
    assert instance.training
    for name, value in instance.state_dict().items():
        assert torch.equal(value, before[name])
        assert not torch.equal(value, clf.module_.state_dict()[name])


@pytest.mark.parametrize(
    "head",
    [
        lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False),
        lambda inputs, outputs: nn.Sequential(
            nn.Linear(inputs, 5), nn.ReLU(), nn.Linear(5, outputs)
        ),
    ],
)
def test_network_with_another_head(tiny, data, head):
    def network(in_channels, n_outputs, spatial_dims):
        net = ResNet(width=4, depth=1).build(in_channels, n_outputs, spatial_dims)
        net.head = head(net.head.in_features, n_outputs)
        return net

    X, y = data
    assert tiny(architecture=network).fit(X, y).predict_proba(X).shape == (12, 3)


def test_two_logits_do_for_two_classes(tiny, data):
    X, y = data
    with torch.random.fork_rng():
        instance = pooled(3, 2, 2)
    clf = tiny(architecture=instance, max_epochs=3).fit(X, y == 1)
    proba, decision = clf.predict_proba(X), clf.decision_function(X)
    assert (proba.shape, decision.shape) == ((12, 2), (12,))
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(clf.predict(X), decision > 0)
    clf.set_params(warm_start=True).fit(X, y == 1)
    clf.partial_fit(X, y == 1).score(X, y == 1)


def test_two_logits_start_at_the_class_frequencies(tiny, data):
    def network(in_channels, n_outputs, spatial_dims):
        return ResNet(width=4, depth=1).build(in_channels, 2, spatial_dims)

    X, y = data
    clf = tiny(architecture=network, lr=1e-12, class_weight={0: 1, 1: 18}).fit(X, y > 1)
    np.testing.assert_allclose(
        clf.module_.head.bias.detach(), [0, np.log(18 * 4 / 8)], atol=1e-5
    )


class Calls(nn.Module):
    """A step that is a function, not a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("architecture", "match"),
    [
        (
            "resnest",
            r"known are \['auto', .*'resnet'.*'simple'.*Did you mean 'resnet'\?",
        ),
        ("vit", r"known are \['auto'"),
        (lambda c, k, d: pooled(c, k + 1, d), r"shape \(2, 4\) for 2 .* need \(2, 3\)"),
        (lambda c, k, d: pooled(c, 1, d), r"shape \(2, 1\) .* need \(2, 3\)"),
        (
            lambda c, k, d: pooled(c + 1, k, d),
            r"cannot take images of \(3, 6, 6\).*4 ch",
        ),
        (lambda c, k, d: nn.Conv2d(c, k, 3), r"shape \(2, 3, 4, 4\)"),
        (lambda c, k, d: nn.LSTM(6, 3), "cannot take images.*Expected input"),
        (lambda c, k, d: nn.Linear(9, 2), "cannot take images"),
        (lambda c, k, d: None, "returned NoneType, not a torch.nn.Module"),
        (lambda c: pooled(c, 3, 2), "argument"),
        (nn.Identity(), r"shape \(2, 3, 6, 6\)"),
        (Calls(lambda x: {"logits": x}), "gives a dict; .* one tensor of logits"),
        (7, "architecture"),
    ],
)
def test_architecture_that_does_not_fit(tiny, data, architecture, match):
    with pytest.raises((ValueError, TypeError), match=f"(?s){match}"):
        tiny(architecture=architecture).fit(*data)


@pytest.mark.parametrize(
    ("layer", "n_outputs", "warns"),
    [
        (nn.Sigmoid(), 1, "sigmoid"),
        (Calls(torch.sigmoid), 1, "sigmoid"),
        (nn.Sequential(nn.LogSigmoid(), nn.Flatten()), 1, "logsigmoid"),
        (nn.Softmax(1), 3, "softmax"),
        (Calls(lambda x: x.softmax(1)[..., None].squeeze(2)), 3, "softmax"),
        (nn.LogSoftmax(1), 1, "log_softmax"),
        (Calls(lambda x: torch.sigmoid(x)[:, 0].unsqueeze(1).double()), 1, "sigmoid"),
        (Calls(lambda x: torch.cat([x, x], 1).softmax(1)[:, 1:]), 1, "softmax"),
        (nn.LogSoftmax(1), 3, None),
        (Calls(lambda x: torch.sigmoid(x).logit()), 1, None),
    ],
)
def test_network_that_gives_probabilities(tiny, data, layer, n_outputs, warns):
    def network(*shape):
        return nn.Sequential(pooled(*shape), layer)

    X, y = data
    clf = tiny(architecture=network)
    y = y if n_outputs == 3 else y > 0
    if not warns:
        clf.fit(X, y)
        return
    with pytest.warns(UserWarning, match=rf"ends in a {warns},.*logits"):
        clf.fit(X, y)


class SqueezeGate(torch.autograd.Function):
    """Named like a step of torch's that changes no number."""

    @staticmethod
    def forward(ctx, gate, x):
        ctx.save_for_backward(gate, x)
        return gate * x

    @staticmethod
    def backward(ctx, gradient):
        gate, x = ctx.saved_tensors
        return gradient * x, gradient * gate


class Gated(nn.Module):
    def __init__(self, in_channels, n_outputs, dims):
        super().__init__()
        self.gate, self.values = (pooled(in_channels, n_outputs, dims) for _ in "gv")

    def forward(self, x):
        return SqueezeGate.apply(self.gate(x).sigmoid(), self.values(x))


class KeepsNumbers(nn.Module):
    """Works in evaluation only where no gradient is kept."""

    def __init__(self, in_channels, n_outputs, dims):
        super().__init__()
        self.net = pooled(in_channels, n_outputs, dims)

    def forward(self, x):
        logits = self.net(x)
        if not self.training:
            self.seen = logits.numpy().copy()
        return logits


@pytest.mark.parametrize("architecture", [Gated, KeepsNumbers])
def test_sensible_networks_are_no_probabilities(tiny, data, architecture):
    assert tiny(architecture=architecture).fit(*data).n_iter_ == 1


def test_head_of_ours_that_gives_probabilities(tiny, data):
    def network(*shape):
        net = ResNet(width=2, depth=1).build(*shape)
        net.head = nn.Sequential(net.head, nn.Softmax(1))
        return net

    with pytest.warns(UserWarning, match="ends in a softmax"):
        tiny(architecture=network).fit(*data)


def test_gates_within_a_network_are_no_probabilities(tiny, data):
    def network(*shape):
        return nn.Sequential(nn.Sigmoid(), pooled(*shape))

    assert tiny(architecture=network).fit(*data).n_iter_ == 1


def test_names():
    names = list_architectures()
    assert names == sorted(names)
    assert {"auto", "resnet", "simple"} <= set(names)


@pytest.mark.parametrize(
    "architecture",
    [ResNet(width=4, depth=1, dropout=0.5), SimpleCNN(width=2, depth=2, dropout=0.5)],
)
def test_training_draws_nothing_from_the_global_generator(tiny, data, architecture):
    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **kwargs or {})
            if not torch.equal(torch.get_rng_state(), state):
                drawn.append(func)
            return result

    drawn, state = [], torch.get_rng_state()
    clf = tiny(architecture=architecture).fit(*data)
    with Watching():
        clf.partial_fit(*data)
    assert not drawn
    with torch.random.fork_rng(), Watching():  # it would have noticed
        nn.Dropout(0.5)(torch.ones(3))
    assert drawn


# -- MONAI -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["DenseNet121", "resnet10", "SEResNet50", "efficientnet-b0"]
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_networks_of_monai_by_name(name, spatial_dims):
    pytest.importorskip("monai")
    size = (32,) * spatial_dims
    net = seeded(f"monai:{name}", 2, 3, spatial_dims, image_size=size)
    with torch.inference_mode():
        assert net.eval()(torch.zeros(2, 2, *size)).shape == (2, 3)


@pytest.mark.parametrize(
    "name",
    [
        "DenseNet7",
        "DenseNet",
        "UNet",
        "efficientnet-b99",
        "ResNet",
        "SegResNet",
        "senet",
    ],
)
def test_unknown_networks_of_monai(name):
    pytest.importorskip("monai")
    with pytest.raises(ValueError, match=f"monai:{name}"):
        make_architecture(f"monai:{name}", 1, 2)


def test_network_of_monai_is_fitted(images):
    pytest.importorskip("monai")
    X, y = images
    clf = CNNImageClassifier("monai:resnet10", max_epochs=1, random_state=0)
    assert clf.fit(X, y).predict(X).shape == (40,)
