"""Thousands of malformed calls: two kinds of errors come out, and nothing changes."""

import copy
import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skmedimg.augmentation import Augmentation
from skmedimg.io import ImageSequence

N = 8
X_FIT = np.random.default_rng(0).normal(size=(N, 6, 7)).astype(np.float32)
Y = np.arange(N) % 2

ROWS = pd.DataFrame(X_FIT[:, 0])

DTYPES = "u1 i2 >i4 u8 ? f2 f4 >f8 g c8 O S3 U2 M8[s] m8[s] V4".split()
ODD = [
    *[None, 3, -1.5, float("nan"), np.float32(1), "text", b"bytes", int, object()],
    *[{}, {"a": 1}, set(), range(N), iter([1]), itertools.count(), NotImplemented],
    *[[], [[]], [[[]]], [None] * N, ["a.png"] * N, [{}] * N, [[1], [1, 2]] * 4],
    *[list(X_FIT), [X_FIT[0], X_FIT[0, :3]], (X_FIT, X_FIT), [*X_FIT, None]],
    *[[*X_FIT[:5], "a", 1, X_FIT], [torch.ones(2, 2)] * N, [sp.eye_array(3)] * N],
    *[np.array(None), np.ma.masked_less(X_FIT, 0), torch.from_numpy(X_FIT)],
    *[sp.csr_array(X_FIT[:, 0]), ImageSequence.from_array(X_FIT), X_FIT.data.tolist()],
    *[pd.DataFrame(), pd.Series(["a", 1]), pd.DataFrame({"x": list(X_FIT)})],
    *[ROWS, ROWS.astype(str), ROWS.convert_dtypes(), ROWS.rename(columns=str)],
    *[pd.Series([pd.NA, 1] * 4), pd.Series([1, None] * 4, dtype="Int64")],
    *[pd.Categorical([None, "a"] * 4), pd.Series(pd.date_range("2020", periods=N))],
]
ENTRIES = {
    "O": [None, np.nan, "a", 1, -1, {}, [1], X_FIT[0], pd.NA, 1e400, 1j],
    "f": [np.nan, np.inf, -np.inf, 1e30, -1, 0, 1, 2],
    "other": [0, 1, 2, 3],
}


@st.composite
def arrays(draw, first=None):
    """Arrays of any dtype with up to six axes, some of them empty."""
    shape = draw(st.lists(st.integers(0, 5), max_size=6))
    if first is not None and draw(st.booleans()):
        shape = [first, *shape[:4]]
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    entries = ENTRIES.get(dtype.kind, ENTRIES["other"])
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    few = [entries[i] for i in rng.integers(len(entries), size=draw(st.integers(1, 4)))]
    array = np.empty(shape, object if dtype.kind == "O" else np.result_type(float))
    for at in np.ndindex(*shape):
        array[at] = few[rng.integers(len(few))]
    if dtype.kind == "V":
        return np.zeros(shape, dtype)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(dtype)


PARAMETERS = {
    "architecture": ["unet", 3, None, nn.Linear, nn.Conv2d(1, 1, 3), dict],
    "weights": ["absent.pt", {}, {"a": 1}, {3: X_FIT}, 3, b"x"],
    "image_shape": [(6, 7), (7,), (), 3, "ab", (0, 4), (2, 3, 7), [None], ROWS],
    "image_size": [(4, 4), (3,), (2, 2, 2), -1, "4", (1, 0), {}, (2.5, 3), (1, 1)],
    "spatial_dims": [2, 3, 1, "2", 2.0, True],
    "channel_axis": [1, -1, 0, 3, 9, "last", 1.0],
    "augmentation": [None, "flip", 3, Augmentation(flip=3), len, lambda x: x[:1]],
    "max_epochs": [0, -1, 1.5, "1", None, True, np.int8(1)],
    "batch_size": [0, 1, 2.0, "all", None, 10**12],
    "lr": [0, -1, np.nan, np.inf, 1e300, "slow", 1e-300, None],
    "optimizer": ["lion", dict, torch.optim.SGD, int, None, len, lambda *a, **k: 3],
    "schedule": ["step", None, 1],
    "loss": ["hinge", None, "focal"],
    "label_smoothing": [-0.1, 1, np.nan, "much", 0.9],
    "class_weight": ["balanced", {}, {0: -1}, {0: "a"}, {5: 1}, [], [{}] * 2, [3], 3],
    "early_stopping": [True, "yes", 3, None],
    "validation_fraction": [0, 1, 0.01, 0.99, np.nan, "half"],
    "device": ["cuda:99", "meta", "", 3, "cpu:0", "nowhere"],
    "precision": ["float64", "bfloat16", None],
    "callbacks": [[], [None], ["a"], [("a", 1)], {}, 3, [int]],
    "random_state": [-1, "a", 2**40, np.random.RandomState(0), 1.5],
    "verbose": [-1, "a", None],
    "warm_start": [True, "yes"],
    "l1": [0.1, np.inf, -1],
    "weight_decay": [0, 1e300, np.nan],
}
CHANGES = st.sampled_from([(k, v) for k, values in PARAMETERS.items() for v in values])
ANY = arrays() | arrays(first=N) | st.sampled_from(ODD)
# Mostly one or two things are wrong with a call, so that each is met on its own.
FAULTS = st.fixed_dictionaries({}, optional=dict.fromkeys(["X", "y", "weight"], ANY))
GOOD = {"X": X_FIT, "y": Y, "weight": None}
TARGETS = st.sampled_from([Y, list("ab") * 4, np.eye(2)[Y], pd.Series(Y == 1)])


def attempt(method, *args, **kwargs):
    """Call; the two errors that a user is promised are swallowed, no other one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            method(*args, **kwargs)
        except (ValueError, TypeError):
            return False
    return True


FUZZ = {"deadline": 60_000, "derandomize": True, "database": None}


@pytest.fixture(scope="module")
def fitted(tiny):
    return tiny().fit(X_FIT, Y)


@pytest.mark.slow
@settings(max_examples=1500, **FUZZ)
@given(
    faults=FAULTS,
    y=TARGETS,
    groups=st.none() | ANY,
    changes=st.lists(CHANGES, max_size=2),
    partial=st.booleans(),
)
def test_malformed_fit(tiny, faults, y, groups, changes, partial):
    clf = tiny(**dict(changes))
    before = dict(vars(clf))
    X, y, weight = (GOOD | {"y": y} | faults).values()
    if partial:
        classes = [0, 1] if groups is None else groups
        fits = attempt(clf.partial_fit, X, y, classes, sample_weight=weight)
    else:
        fits = attempt(clf.fit, X, y, sample_weight=weight, groups=groups)
    if fits:
        attempt(clf.predict, X)
    else:
        assert vars(clf) == before


@pytest.mark.slow
@settings(max_examples=1000, **FUZZ)
@given(
    faults=FAULTS,
    method=st.sampled_from(["predict", "embed", "score", "fit", "partial_fit"]),
)
def test_malformed_use_of_a_fitted_estimator(fitted, faults, method):
    expected = fitted.predict_proba(X_FIT)
    X, y, weight = (GOOD | faults).values()
    if method in ("fit", "partial_fit"):
        clf = copy.deepcopy(fitted)
        if attempt(getattr(clf, method), X, y, sample_weight=weight):
            return  # a valid call may change what it learned
    else:
        clf = fitted
        args = (X, y, weight) if method == "score" else (X,)
        attempt(getattr(clf, method), *args)
    np.testing.assert_array_equal(clf.predict_proba(X_FIT), expected)
