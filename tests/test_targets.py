"""Labels of any kind, missing ones included, and what the predictions look like."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import DataConversionWarning
from skorch.callbacks import Callback
from torch import nn

CLASS = np.arange(24) % 3


@pytest.fixture(scope="module")
def X():
    """Twenty-four uint8 images whose bright third is their class."""
    X = np.random.default_rng(0).integers(0, 80, (24, 9, 9), dtype=np.uint8)
    for image, k in zip(X, CLASS, strict=True):
        image[3 * k : 3 * k + 3] += 120
    return X


INDICATOR = np.eye(3, dtype=int)[CLASS]
INDICATOR[::4, 0] = 1


def linear(in_channels, n_outputs, spatial_dims):
    """One layer over all pixels: every output is a model of its own."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(n_outputs))


LINEAR = {
    "architecture": linear,
    "augmentation": None,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "max_epochs": 20,
    "batch_size": 500,
}

# -- labels of any kind ----------------------------------------------------------------

LABELS = {
    "strings": np.array(["bone", "air", "soft tissue"])[CLASS],
    "list of strings": np.array(["b", "a", "c"])[CLASS].tolist(),
    "objects": np.array(["b", "a", "c"], dtype=object)[CLASS],
    "gaps": np.array([7, -3, 100])[CLASS],
    "uint8": CLASS.astype(np.uint8),
    "integral floats": CLASS.astype(float),
    "Series": pd.Series(np.array(["b", "a", "c"])[CLASS], index=range(99, 75, -1)),
    "string Series": pd.Series(np.array(["b", "a", "c"])[CLASS], dtype="string"),
    "Categorical": pd.Categorical(np.array(["b", "a", "c"])[CLASS], ["c", "b", "a"]),
    "categorical Series": pd.Series(np.array([2, 1, 5])[CLASS]).astype("category"),
    "bool": CLASS == 1,
    "minus one": np.where(CLASS == 1, 1, -1),
    "bool Series": pd.Series(CLASS == 1, index=list("abcdefghijklmnopqrstuvwx")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind(tiny, X, kind):
    y = np.asarray(LABELS[kind])
    clf = tiny(max_epochs=10).fit(X, LABELS[kind])
    classes = np.unique(y)
    assert clf.classes_.tolist() == classes.tolist()
    predicted = clf.predict(X)
    assert predicted.dtype == np.asarray(clf.classes_).dtype
    assert set(predicted) <= set(classes.tolist())
    # The labels are names: what is learned depends on their order alone.
    codes = np.unique(y, return_inverse=True)[1]
    np.testing.assert_array_equal(
        tiny(max_epochs=10).fit(X, codes).predict_proba(X), clf.predict_proba(X)
    )
    assert clf.score(X, LABELS[kind]) == np.mean(predicted == y)


@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame, list])
def test_column_of_labels_warns_as_scikit_learn_does(tiny, X, form):
    with pytest.warns(DataConversionWarning, match="column-vector"):
        clf = tiny().fit(X, form(CLASS[:, None]))
    assert clf.predict(X).shape == (24,)
    expected = tiny().fit(X, CLASS).predict_proba(X)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        clf.score(X, form(CLASS[:, None]))


@pytest.mark.parametrize(
    ("y", "shape"),
    [(CLASS == 1, (24, 2)), (CLASS, (24, 3)), (INDICATOR, (24, 3))],
    ids=["binary", "multi-class", "multi-label"],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_outputs_agree_with_each_other(tiny, X, y, shape, loss):
    clf = tiny(loss=loss, max_epochs=3).fit(X, y)
    proba, decision = clf.predict_proba(X), clf.decision_function(X)
    assert proba.shape == shape
    assert proba.dtype == np.float64
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), proba)
    if y.ndim == 2:
        np.testing.assert_array_equal(clf.predict(X), decision > 0)
        np.testing.assert_allclose(1 / (1 + np.exp(-decision.astype(float))), proba)
        return
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(1)])
    odds = np.log(proba[:, 1] / proba[:, 0])
    if y.dtype == bool:
        np.testing.assert_allclose(decision, odds, atol=1e-5)
    else:
        np.testing.assert_allclose(decision[:, 1] - decision[:, 0], odds, atol=1e-5)


# -- label indicators ------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y.astype(bool),
        lambda y: y.astype(np.uint8),
        lambda y: y.astype(np.float32),
        lambda y: y.tolist(),
        lambda y: y.astype(object),
        sp.csr_array,
        sp.csr_matrix,
        pd.DataFrame,
    ],
)
def test_indicators_of_any_kind(tiny, X, form):
    y = form(INDICATOR)
    clf = tiny().fit(X, y)
    assert clf.classes_.tolist() == [0, 1, 2]
    expected = tiny().fit(X, INDICATOR).predict_proba(X)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    predicted = clf.predict(X)
    assert set(np.unique(predicted)) <= {0, 1}
    assert clf.score(X, y) == np.mean((predicted == INDICATOR).all(1))


def test_missing_labels_leave_the_loss_of_their_column(tiny, X):
    """A label is learned as if the images that lack it had not been there."""
    rest, rest_other = INDICATOR[:, 1:], 1 - INDICATOR[:, 1:]
    known = np.column_stack([INDICATOR[:, 0], rest])
    for missing in (np.nan, None):
        lacking = np.column_stack([np.full(24, missing, dtype=object), rest_other])
        # The same images again: the intensity statistics stay.
        both = tiny(**LINEAR).fit(
            np.concatenate([X, X]), np.concatenate([known, lacking]).astype(float)
        )
        alone = tiny(**LINEAR).fit(X, known)
        label = (slice(None), 0)
        np.testing.assert_allclose(
            both.predict_proba(X)[label], alone.predict_proba(X)[label], atol=1e-4
        )
    wrong = np.where(np.isnan(lacking.astype(float)), 1 - known, rest_other[:, [0]])
    assert not np.allclose(
        tiny(**LINEAR)
        .fit(np.concatenate([X, X]), np.concatenate([known, wrong]))
        .predict_proba(X)[label],
        alone.predict_proba(X)[label],
        atol=1e-2,
    )


def test_images_without_any_label_are_left_out(tiny, X):
    y = INDICATOR.astype(float)
    y[::5] = np.nan
    labelled = ~np.isnan(y).all(1)
    with_them = tiny(batch_size=8, max_epochs=2).fit(X, y)
    without = tiny(batch_size=8, max_epochs=2).fit(X[labelled], y[labelled])
    np.testing.assert_array_equal(with_them.predict_proba(X), without.predict_proba(X))


def test_missing_labels_leave_the_score(tiny, X):
    clf = tiny(max_epochs=5).fit(X, INDICATOR)
    predicted = clf.predict(X).astype(float)
    assert clf.score(X, predicted) == 1
    predicted[0, 0] = 1 - predicted[0, 0]
    assert clf.score(X, predicted) == 23 / 24
    predicted[0, 0] = np.nan
    assert clf.score(X, predicted) == 1
    predicted[1] = 1 - predicted[1]
    predicted[2] = np.nan  # counts neither as right nor as wrong
    assert clf.score(X, predicted) == pytest.approx(22 / 23)
    weight = np.where(np.arange(24) == 1, 3, 1)
    assert clf.score(X, predicted, sample_weight=weight) == pytest.approx(22 / 25)
    predicted[:, 2] = np.nan  # a label that a test set lacks altogether
    assert clf.score(X, predicted) == pytest.approx(22 / 23)
    with pytest.raises(ValueError, match="y has no label"):
        clf.score(X, np.full(predicted.shape, np.nan))


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.where(CLASS == 0, -1, INDICATOR.T).T, "24 entries of -1.*CheXpert.*NaN"),
        (np.where(CLASS == 0, np.nan, -INDICATOR.T).T, "CheXpert.*uncertain"),
        (INDICATOR * 2, "holds 2; an indicator"),
        (INDICATOR + 0.5, "an indicator of labels holds 0, 1 or NaN"),
        (np.array([["a", "b"]] * 24), "no indicator"),
        (
            np.where([True, False, False], np.nan, INDICATOR),
            r"no label in columns \[0\]",
        ),
        (np.zeros((24, 2, 2), int), r"y should be a 1d array.*\(24, 2, 2\)"),
        (np.linspace(0, 1, 24), "Unknown label type: continuous"),
        (np.array(["a", None, "b"] * 8, dtype=object), "8 of 24.*first at 1"),
        (pd.Series(["a", None, "b"] * 8), "8 of 24.*first at 1"),
        (np.where(CLASS == 1, np.nan, CLASS), "NaN"),
        (np.zeros(24), r"one class only.*\[0"),
        (["a"] * 24, r"one class only.*\['a'\]"),
        (None, "y is None"),
    ],
)
def test_targets_that_cannot_be_used(tiny, X, y, match):
    with pytest.raises(ValueError, match=match):
        tiny().fit(X, y)


# -- weights of classes ----------------------------------------------------------------

RARE = np.where(np.arange(24) % 6 == 1, "tumour", "healthy")
RARE_INDICATOR = np.column_stack([RARE == "tumour", CLASS == 1]).astype(int)


def inverse_frequency(y):
    classes, counts = np.unique(y, return_counts=True)
    weights = len(y) / len(classes) / counts
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))


@pytest.mark.parametrize(
    ("y", "given", "same"),
    [
        (RARE, "balanced", inverse_frequency(RARE)),
        (RARE, {"tumour": 5}, {"tumour": 5, "healthy": 1}),
        (RARE, {"tumour": 5}, {"tumour": 1, "healthy": 0.2}),
        (CLASS, "balanced", None),
        (INDICATOR, "balanced", [inverse_frequency(c) for c in INDICATOR.T]),
        (INDICATOR, [{1: 2.0}] * 3, [{0: 1, 1: 2}] * 3),
    ],
)
def test_equal_class_weights(tiny, X, y, given, same):
    first, second = (tiny(class_weight=w).fit(X, y) for w in (given, same))
    np.testing.assert_allclose(
        first.predict_proba(X), second.predict_proba(X), atol=1e-5
    )


class Feeds(Callback):
    """Notes the feeds of the last fit; copies share the list."""

    seen: ClassVar[list] = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seen[:] = X, y


@pytest.mark.parametrize("y", [RARE, RARE_INDICATOR])
def test_labels_held_out_do_not_balance_classes(tiny, X, y):
    stops = {"early_stopping": True, "validation_fraction": 0.4, "random_state": 1}
    tiny(class_weight="balanced", callbacks=[Feeds()], **stops).fit(X, y)
    train, valid = (
        (feed.target.reshape(len(feed), -1), feed.weight.reshape(len(feed), -1))
        for feed in Feeds.seen
    )
    for label in range(train[0].shape[1]):
        (one, weight), (held_out, held_out_weight) = (
            (target[:, label], weight[:, label]) for target, weight in (train, valid)
        )
        present, absent = weight[one == 1], weight[one == 0]
        assert present.sum().item() == pytest.approx(absent.sum().item())
        # A class weighs in validation what it weighs in training.
        ratio = held_out_weight[held_out == 1][0] / held_out_weight[held_out == 0][0]
        assert ratio.item() == pytest.approx((present[0] / absent[0]).item())


@pytest.mark.parametrize(
    ("y", "class_weight"),
    [
        (RARE, "balanced"),
        (RARE, {"tumour": 5}),
        (RARE_INDICATOR, "balanced"),
        (RARE_INDICATOR, [{1: 9}, {1: 9}]),
    ],
)
def test_heavier_classes_are_more_probable(tiny, X, y, class_weight):
    plain = tiny().fit(X, y).predict_proba(X)[:, -1]
    weighted = tiny(class_weight=class_weight).fit(X, y).predict_proba(X)[:, -1]
    assert weighted.mean() > plain.mean() + 0.1


@pytest.mark.parametrize(
    ("y", "class_weight", "match"),
    [
        (RARE, {"tumor": 2}, r"names \['tumor'\], but the classes are \['healthy', "),
        (RARE, {"tumour": -2}, "must be finite numbers, not negative"),
        (RARE, {"tumour": np.nan}, "must be finite"),
        (RARE, {"tumour": 0, "healthy": 0}, "not all zero"),
        (RARE, {"tumour": "high"}, "class_weight"),
        (RARE, [{"tumour": 2}], "a list is for label indicators"),
        (INDICATOR, {1: 2}, r"list of as many dicts \{0: weight, 1: weight\}"),
        (INDICATOR, [{1: 2}], "3 labels"),
        (INDICATOR, [{2: 2}] * 3, r"names \[2\]"),
        (RARE, "balance", "class_weight"),
    ],
)
def test_bad_class_weight(tiny, X, y, class_weight, match):
    with pytest.raises(ValueError, match=match):
        tiny(class_weight=class_weight).fit(X, y)


def test_masked_labels_are_refused(tiny, images):
    X, y = images
    with pytest.raises(ValueError, match="1 masked labels"):
        tiny().fit(X, np.ma.masked_array(y, mask=np.arange(len(y)) == 3))


def test_missing_labels_of_pandas_are_missing(tiny, X):
    y = pd.DataFrame(INDICATOR).astype("Int64")
    y.iloc[3, 1] = pd.NA
    same = INDICATOR.astype(float)
    same[3, 1] = np.nan
    np.testing.assert_array_equal(
        tiny().fit(X, y).predict_proba(X), tiny().fit(X, same).predict_proba(X)
    )
