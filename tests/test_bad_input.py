"""Bad input is an error that helps, before training, and changes nothing."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skmedimg.architectures import ResNet
from skmedimg.augmentation import Augmentation
from skmedimg.io import ImageSequence

N = 16
X = np.random.default_rng(0).normal(size=(N, 6, 7)).astype(np.float32)
Y = np.arange(N) % 2


def spoilt(X=X, dtype=np.float32):
    """Two NaN and an infinity in the images 5 and 9."""
    X = X.astype(dtype)
    flat = X.reshape(N, -1)
    flat[5, [3, 5]], flat[9, 0] = np.nan, np.inf
    return X


class NeverTrained(nn.Module):
    """A network that would notice if training began."""

    def __init__(self, in_channels, n_outputs, spatial_dims):
        super().__init__()
        self.head = nn.LazyLinear(n_outputs)

    def forward(self, x):
        assert not self.training, "training has begun"
        return self.head(x.flatten(1))


NOT_FINITE = r"2 NaN and 1 infinite .*in 2 of 16 images, the first at X\[5, 0, 3\]"
BAD_CALLS = {
    "NaN": ({}, {"X": spoilt()}, NOT_FINITE),
    "NaN in float16": ({}, {"X": spoilt(dtype=np.float16)}, NOT_FINITE),
    "NaN in big-endian": ({}, {"X": spoilt(dtype=">f8")}, NOT_FINITE),
    "NaN in list": ({}, {"X": list(spoilt())}, NOT_FINITE),
    "NaN in sequence": ({}, {"X": ImageSequence.from_array(spoilt())}, NOT_FINITE),
    "NaN in rows": ({}, {"X": spoilt(X[:, 0])}, r"2 NaN .* the first at X\[5, 3\]"),
    "NaN in colour": (
        {},
        {"X": spoilt(np.stack([X] * 3, -1))},
        r"2 NaN .* the first at X\[5, 0, 1, 0\]",
    ),
    "NaN, resized": ({"image_size": (5, 5)}, {"X": spoilt()}, NOT_FINITE),
    "too large": ({}, {"X": X.astype(float) + 1e300}, r"X\[0\].*too large.*3.4e38"),
    "too large, resized": (
        {"image_size": (5, 5)},
        {"X": X.astype(float) + 1e300},
        r"X\[0\].*too large.*3.4e38",
    ),
    "no images": ({}, {"X": X[:0], "y": Y[:0]}, r"0 sample"),
    "empty list": ({}, {"X": [], "y": []}, "X|sample"),
    "empty sequence": (
        {},
        {"X": ImageSequence.from_array(X)[:0], "y": Y[:0]},
        "0 sample",
    ),
    "no pixels": ({}, {"X": X[:, :0]}, r"empty.*\(0, 7\)"),
    "no columns": ({}, {"X": X[:, 0, :0]}, "0 feature"),
    "no X": ({}, {"X": None}, "X"),
    "one number": ({}, {"X": 3}, "X|array"),
    "one image": ({}, {"X": X[0, 0]}, "1D array|Reshape"),
    "too many axes": ({}, {"X": X.reshape(N, 6, 7, 1, 1, 1)}, "6 axes"),
    "text": ({}, {"X": np.full((N, 3, 3), "a")}, "dtype|numeric|convert"),
    "objects": ({}, {"X": np.full((N, 3, 3), {})}, "X|float|argument"),
    "complex": ({}, {"X": X.astype(complex)}, "Complex"),
    "dates": ({}, {"X": np.zeros((N, 3, 3), "M8[s]")}, "datetime64|dtype"),
    "sparse": ({}, {"X": sp.csr_array(X[:, 0])}, "[Ss]parse"),
    "file names": ({}, {"X": ["a.png"] * N}, "file names"),
    "frame of text": ({}, {"X": pd.DataFrame({"a": ["x"] * N, "b": 1})}, "x|dtype"),
    "short y": ({}, {"y": Y[:7]}, r"16.*7|7.*16"),
    "short weights": ({}, {"sample_weight": np.ones(7)}, r"sample_weight.*7|7.*16"),
    "short groups": ({}, {"groups": np.ones(7)}, r"groups.*\(7,\).*16 images"),
    "negative weights": (
        {},
        {"sample_weight": np.where(Y == 1, -1, 1)},
        "[Nn]egative.*sample_weight",
    ),
    "no weights": (
        {},
        {"sample_weight": np.zeros(N)},
        "sample_weight is zero|Sample weights must contain",
    ),
    "NaN weights": ({}, {"sample_weight": np.full(N, np.nan)}, "sample_weight|NaN"),
    "text weights": ({}, {"sample_weight": ["a"] * N}, "sample_weight|convert"),
    "masked weights": (
        {},
        {"sample_weight": np.ma.array(np.ones(N), mask=Y)},
        "sample_weight.*masked",
    ),
    "one class by class_weight": (
        {"class_weight": {0: 0, 1: 2}},
        {},
        "class_weight.*at least 2 classes",
    ),
    "pandas NA": (
        {},
        {"y": pd.Series([True, None] * 8, dtype="boolean")},
        "8 of 16 labels are missing, the first at 1",
    ),
    "sparse gradients": (
        {"optimizer": torch.optim.SparseAdam},
        {},
        "SparseAdam.*'adam'",
    ),
    "missing group": (
        {},
        {"groups": ["p", None] * 8},
        "groups has 8 missing entries, the first at 1",
    ),
    "NaN among groups": (
        {},
        {"groups": ["p", np.nan] * 8},
        "groups has 8 missing entries, the first at 1",
    ),
    "one class": ({}, {"y": np.ones(N)}, r"one class only, \[1"),
    "one weighted class": (
        {},
        {"sample_weight": Y == 1},
        r"one class only, \[1\] \(n_samples=8 with positive weight",
    ),
    "one group": (
        {"early_stopping": True},
        {"groups": np.ones(N)},
        "early_stopping=True.*2 groups",
    ),
    "a class in one group": (
        {"early_stopping": True},
        {"groups": np.where(Y == 1, 0, np.arange(N))},
        "early_stopping=True.*one class has 1 of 8",
    ),
    "groups that cannot be split": (
        {"early_stopping": True},
        {"X": X[:12], "y": [0, 1, 1, 2, 2, 0] * 2, "groups": list("aabbcc") * 2},
        "early_stopping=True: the 3 groups cannot be split",
    ),
    "one image a class": (
        {"early_stopping": True},
        {"X": X[:2], "y": Y[:2]},
        "2 distinct images",
    ),
    "unknown architecture": (
        {"architecture": "resnet50"},
        {},
        r"'resnet50' is unknown; known are \['auto', 'resnet', 'simple'.*mean 'resnet'",
    ),
    "architecture parameter": ({"architecture": ResNet(width=0)}, {}, "width"),
    "architecture of numbers": ({"architecture": 3}, {}, "architecture"),
    "architecture without weights": (
        {"architecture": lambda *_: nn.Flatten()},
        {},
        "architecture.*outputs of shape",
    ),
    "architecture returns text": ({"architecture": lambda *_: "net"}, {}, "returned"),
    "unknown device": ({"device": "gpu"}, {}, 'device=\'gpu\'.*"auto" or "cpu"'),
    "absent device": ({"device": "xpu:7"}, {}, "device='xpu:7' is not available"),
    "meta device": ({"device": "meta"}, {}, "device='meta'"),
    "epochs": ({"max_epochs": 0}, {}, "max_epochs"),
    "batch size": ({"batch_size": 2.5}, {}, "batch_size"),
    "rate": ({"lr": -1.0}, {}, "lr"),
    "NaN rate": ({"lr": float("nan")}, {}, "lr"),
    "infinite rate": ({"lr": float("inf")}, {}, "lr"),
    "optimizer": ({"optimizer": "lion"}, {}, "optimizer"),
    "no optimizer": ({"optimizer": dict}, {}, "optimizer"),
    "smoothing": ({"label_smoothing": 1.0}, {}, "label_smoothing"),
    "decay": ({"weight_decay": float("inf")}, {}, "weight_decay"),
    "l1": ({"l1": float("nan")}, {}, "l1"),
    "callbacks": ({"callbacks": [3]}, {}, "callbacks"),
    "callback class": ({"callbacks": ["EarlyStopping"]}, {}, "callbacks"),
    "random state": ({"random_state": "a"}, {}, "random_state"),
    "negative seed": ({"random_state": -3}, {}, "random_state"),
    "flip": ({"augmentation": Augmentation(flip=("D",))}, {}, r"flip=\('D',\)"),
    "rotation": ({"augmentation": Augmentation(rotation=-1)}, {}, "rotation"),
    "augmentation": ({"augmentation": "strong"}, {}, "augmentation"),
    "augmentation shape": (
        {"augmentation": lambda x: x[..., :3]},
        {},
        r"augmentation.*\(2, 1, 6, 3\).*\(2, 1, 6, 7\)",
    ),
}


@pytest.fixture(scope="module")
def fitted(tiny):
    return tiny(architecture=ResNet(width=4, depth=1)).fit(X, Y)


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call_changes_nothing(tiny, fitted, name):
    params, call, match = BAD_CALLS[name]
    params = {"architecture": NeverTrained} | params
    call = {"X": X, "y": Y} | call
    clf = tiny(**params)
    before = dict(vars(clf))
    with pytest.raises((ValueError, TypeError), match=match):
        clf.fit(**call)
    assert vars(clf) == before
    proba, old = fitted.predict_proba(X), fitted.get_params(deep=False)
    with pytest.raises((ValueError, TypeError), match=match):
        fitted.set_params(**params).fit(**call)
    np.testing.assert_array_equal(fitted.set_params(**old).predict_proba(X), proba)


@pytest.mark.parametrize(
    "name", [name for name, (_, call, _) in BAD_CALLS.items() if set(call) == {"X"}]
)
def test_bad_images_at_predict(fitted, name):
    # One of another layout is told of the layout rather than of its pixels.
    _, call, match = BAD_CALLS[name]
    match = f"{match}|3 .* in X\\[5\\]|layout|features|X has shape"
    for method in (fitted.predict, fitted.predict_proba, fitted.embed):
        with pytest.raises((ValueError, TypeError), match=match):
            method(call["X"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_predict_says_where_values_are_not_finite(fitted, dtype):
    match = r"2 NaN and 1 infinite values .*, the first at X\[5, 0, 3\]"
    for bad in (spoilt(dtype=dtype), ImageSequence.from_array(spoilt(dtype=dtype))):
        with pytest.raises(ValueError, match=match):
            fitted.predict(bad)
