"""Fitted networks predict as they stand, also where normalisations are folded."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg._feed import to_tensor
from skmedimg._random import drawing_from
from skmedimg.architectures import ResNet, SimpleCNN

N = 16
X = np.random.default_rng(0).normal(size=(N, 6, 7)).astype(np.float32)
Y = np.arange(N) % 2


@pytest.mark.parametrize("architecture", [ResNet(width=4, blocks=2), SimpleCNN()])
@pytest.mark.parametrize("shape", [(16, 16), (9, 10, 11), (11, 12, 13)])
def test_folded_network_predicts_the_same(architecture, shape):
    images = np.random.default_rng(0).normal(size=(300, *shape))
    clf = CNNImageClassifier(architecture=architecture, max_epochs=2, random_state=0)
    clf.fit(images[:12], np.arange(12) % 3)
    with torch.no_grad():
        x = to_tensor(images[:, None], clf.image_spec_, torch.device("cpu"))
        expected = clf.module_(x).numpy()
    # One volume is computed twice where that is faster, in (11, 12, 13).
    for few in (slice(300), slice(10), slice(1)):
        logits = clf.decision_function(images[few])
        np.testing.assert_allclose(logits, expected[few], atol=1e-5)
    one, all_at_once = clf.embed(images[:1]), clf.embed(images)
    assert one.shape == (1, all_at_once.shape[1])
    np.testing.assert_allclose(one, all_at_once[:1], atol=1e-5)


@pytest.mark.parametrize("n", [8, 320])
def test_network_is_used_as_it_stands(tiny, n):
    """Weights, hooks and layers in training mode count, whenever they were changed."""
    many = np.resize(X, (n, *X.shape[1:]))
    clf = tiny(architecture=ResNet(width=4, depth=1, dropout=0.5)).fit(X, Y)
    before = clf.decision_function(many)
    clf.module_.head.bias.data += 1
    np.testing.assert_allclose(clf.decision_function(many), before + 1, atol=1e-5)
    ran = []
    handle = clf.module_.stem.register_forward_hook(lambda *_: ran.append(1))
    clf.predict(many)
    handle.remove()
    assert ran
    clf.module_.dropout.train()
    with drawing_from(torch.Generator().manual_seed(0)):
        first, second = (clf.decision_function(many) for _ in range(2))
    assert not np.array_equal(first, second)


def _weight_norm(net):
    nn.utils.parametrizations.weight_norm(net.stem[0])


def _other_epsilon(net):
    net.stem[1].eps = 0.01


def _plain_norm(net):
    net.stem[1] = nn.BatchNorm2d(4, affine=False)


def _norm_of_the_batch(net):
    net.stem[1] = nn.BatchNorm2d(4, track_running_stats=False)


def _norm_without_bias(net):
    net.stem[1].bias = None


class To(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)


def _frozen_filter(net):
    weight = net.stem[0].weight.detach()
    del net.stem[0].weight
    net.stem[0].register_buffer("weight", weight)


class NormFirst(nn.Module):
    """Registers the norm after the convolution that it runs before."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.conv(self.norm(x))


def _norm_first(net):
    net.stages[0] = NormFirst()


class Twice(nn.Module):
    """Runs one layer of its body by itself, too."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.body[0](x) + self.body(x)


def _layer_by_itself(net):
    net.stages[0] = Twice()


def _one_conv_two_norms(net):
    conv, norms = nn.Conv2d(4, 4, 1), (nn.BatchNorm2d(4) for _ in range(2))
    net.stages[0] = nn.Sequential(
        conv, next(norms), nn.ReLU(), conv, next(norms), nn.ReLU()
    )


def _conv_again_without_norm(net):
    conv = nn.Conv2d(4, 4, 1)
    net.stages[0] = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), conv)


def _norm_again(net):
    norm = nn.BatchNorm2d(4)
    net.stages[0] = nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.ReLU(), norm)


def _other_order(net):
    block = net.stages[0]
    norm, conv = block.norm1, block.conv2
    del block.norm1, block.conv2
    block.norm1, block.conv2 = norm, conv


def _part_in_double_precision(net):
    inner = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    net.stages[0] = nn.Sequential(To(torch.float64), *inner, To(torch.float32))
    net.stages[0][1:3].double()


def _tied_convolutions(net):
    net.stages[0].conv2 = net.stages[0].conv1


def _patched(layer):
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def _patched_convolution(net):
    _patched(net.stem[0])


def _patched_norm(net):
    _patched(net.stem[1])


def _compiled_convolution(net):
    net.stem[0].compile(backend="eager")


@pytest.mark.parametrize(
    "change",
    [
        _weight_norm,
        _other_epsilon,
        _plain_norm,
        _norm_of_the_batch,
        _norm_without_bias,
        _frozen_filter,
        _norm_first,
        _layer_by_itself,
        _one_conv_two_norms,
        _conv_again_without_norm,
        _norm_again,
        _tied_convolutions,
        _other_order,
        _part_in_double_precision,
    ],
)
def test_changed_network_predicts_the_same(change, tiny, images):
    images, y = images

    def net(*shape):
        module = ResNet(width=4, depth=1).build(*shape)
        change(module)
        return module

    clf = tiny(architecture=net, precision="float32").fit(images, y)
    x = to_tensor(images[:, None], clf.image_spec_, torch.device("cpu"))
    with torch.no_grad():
        expected = clf.module_(x)[:, 0]
    np.testing.assert_allclose(clf.decision_function(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    "change", [_patched_convolution, _patched_norm, _compiled_convolution]
)
def test_layer_that_was_patched_after_fit_runs_as_it_is(change, tiny, images):
    images, y = images
    clf = tiny(architecture=ResNet(width=4, depth=1)).fit(images, y)
    change(clf.module_)
    x = to_tensor(images[:, None], clf.image_spec_, torch.device("cpu"))
    with torch.no_grad():
        expected = clf.module_(x)[:, 0]
    np.testing.assert_allclose(clf.decision_function(images), expected, atol=1e-5)


def test_predicting_leaves_the_network_alone(tiny, images):
    images, y = images
    clf = tiny(architecture=ResNet(width=4, depth=1)).fit(images, y)
    before = pickle.dumps(clf.module_)
    clf.predict(images)
    assert pickle.dumps(clf.module_) == before


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x


def test_layers_of_others_see_one_volume_once():
    X = np.random.default_rng(0).normal(size=(8, 12, 13, 14))
    clf = CNNImageClassifier(ResNet(width=4), max_epochs=1, random_state=0)
    clf.fit(X, np.arange(8) % 2)
    clf.module_.stages.append(Counts().eval())
    clf.predict(X[:1])
    assert clf.module_.stages[-1].seen == 1
