"""Weights of networks that were made elsewhere, whatever their heads are like."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn.functional import pad

from skmedimg import CNNImageClassifier
from skmedimg.architectures import Pretrained


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.stride = outputs // inputs
        self.extra = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        half = self.extra // 2
        short = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + pad(short, (0, 0, 0, 0, half, half)))


class CifarResNet20(nn.Module):
    def __init__(self, in_channels, n_outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for i, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
            rest = [CifarBlock(outputs, outputs) for _ in range(2)]
            layer = nn.Sequential(CifarBlock(inputs, outputs), *rest)
            self.add_module(f"layer{i}", layer)
        self.linear = nn.Linear(64, n_outputs)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def cifar_resnet20(in_channels, n_outputs, spatial_dims):
    return CifarResNet20(in_channels, n_outputs)


# -- partial_fit -----------------------------------------------------------------------


def test_pretrained_weights_of_a_published_network(tiny, images, data_file):
    """CIFAR-10 ResNet-20 of akamaster, in a network written as he names its parts."""
    X, y = images
    path = data_file("weights/resnet20-12fca82f.th")
    weights = Pretrained(path, freeze="features")
    with pytest.warns(UserWarning, match=r"left out linear.bias, linear.weight;"):
        clf = tiny(architecture=cifar_resnet20, weights=weights).fit(X, y)
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    own = clf.module_.state_dict()
    assert torch.equal(
        own["layer3.2.conv2.weight"], state["module.layer3.2.conv2.weight"]
    )
    assert own["conv1.weight"].shape == (16, 1, 3, 3)
    torch.testing.assert_close(
        own["conv1.weight"], state["module.conv1.weight"].sum(1, keepdim=True)
    )
    assert sum(v.numel() for v in state.values()) > 270_000


class LastIsConvolution(nn.Module):
    """Registers a linear layer that is not the head, and a norm without parameters."""

    def __init__(self, in_channels, n_outputs, spatial_dims):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3)
        self.norm = nn.BatchNorm2d(4, affine=False)
        self.head = nn.Conv2d(4, n_outputs, 1)
        self.gate = nn.Linear(4, 4)

    def forward(self, x):
        x = self.norm(self.conv(x))
        gate = torch.sigmoid(self.gate(x.mean((2, 3))))
        return self.head(x * gate[:, :, None, None]).mean((2, 3))


def test_head_is_what_runs_last(tiny, images):
    X, y = images

    def network(*shape):
        return LastIsConvolution(*shape)

    state = tiny(architecture=network).fit(X, y).module_.state_dict()
    weights = Pretrained(state, freeze="features")
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        tiny(architecture=network, weights=weights).fit(X, y)


class HeadIsConvolution(LastIsConvolution):
    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3), keepdim=True)
        gate = torch.sigmoid(self.gate(x.flatten(1)))
        return self.head(x * gate[:, :, None, None]).flatten(1)


def test_all_but_the_head_is_frozen(tiny, images):
    X, y = images
    source = tiny(architecture=HeadIsConvolution).fit(X, y)
    state = source.module_.state_dict()
    weights = Pretrained(FrozenEstimator(source), freeze="features")
    clf = tiny(architecture=HeadIsConvolution, weights=weights).fit(X, y)
    after = clf.module_.state_dict()
    changed = {name for name in state if not torch.equal(state[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_auto_is_the_network_of_the_pretrained_estimator(images):
    X, y = np.tile(images[0], (6, 1, 1)), np.tile(images[1], 6)
    X[:, 0, 0] = np.arange(240)
    source = CNNImageClassifier(max_epochs=1, random_state=0).fit(X, y)
    assert source.module_.stem[0].out_channels == 16
    clf = CNNImageClassifier(
        max_epochs=1, random_state=0, weights=Pretrained(FrozenEstimator(source))
    )
    few = clf.fit(X[:40], y[:40])
    large = clone(clf).fit(X[:40].repeat(6, 1).repeat(6, 2), y[:40])
    for one in (few, large):
        assert repr(one.module_) == repr(source.module_)
    alone = clone(clf).set_params(weights=source.module_.state_dict())
    with pytest.raises(ValueError, match=r"\(16, 1, 3, 3\) for \(8, 1, 3, 3\).*auto"):
        alone.fit(X[:40], y[:40])
