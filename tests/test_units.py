"""Units against loops over them, and what must not pass in silence."""

import numpy as np
import pandas as pd
import pytest

from skmedimg.metrics import aggregate_by_unit


def make_images(units=40, seed=0):
    """Images in any order, and labels that say nothing of their number."""
    rng = np.random.default_rng(seed)
    unit = rng.permutation(np.repeat(np.arange(units), rng.integers(1, 6, size=units)))
    y = (np.arange(units) % 2)[unit]
    return y, rng.random((len(unit), 3)).round(2), unit


METHODS = {
    "mean": np.mean,
    "max": np.max,
    "noisy-or": lambda p: 1 - np.prod(1 - p),
    "callable": np.median,
}


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_a_loop(method):
    y, proba, unit = make_images()
    direct = METHODS[method]
    given = direct if method == "callable" else method
    units = aggregate_by_unit(y, proba[:, 0], unit, method=given)
    assert list(units.unit) == list(pd.unique(unit))
    for name, label, score, n in zip(
        units.unit, units.y, units.proba, units.n_images, strict=True
    ):
        own = unit == name
        assert label == y[own][0]
        assert score == pytest.approx(direct(proba[own, 0]))
        assert n == own.sum()
    assert units.groups is None


@pytest.mark.parametrize("method", ["mean", "max", "noisy-or"])
def test_columns_of_two_classes_and_the_positive_column_agree(method):
    y, proba, unit = make_images()
    positive = proba[:, 0]
    both = np.column_stack([1 - positive, positive])
    units = aggregate_by_unit(y, both, unit, method=method)
    np.testing.assert_allclose(units.proba.sum(axis=1), 1)
    alone = aggregate_by_unit(y, positive, unit, method=method)
    np.testing.assert_allclose(units.proba[:, 1], alone.proba)


def test_the_mean_of_many_classes():
    y, proba, unit = make_images()
    proba /= proba.sum(axis=1, keepdims=True) + 1e-9
    frame = pd.DataFrame(proba).groupby(unit, sort=False).mean()
    units = aggregate_by_unit(y, proba, unit)
    np.testing.assert_allclose(units.proba, frame)
    assert list(units.unit) == list(frame.index)
    with pytest.raises(ValueError, match=r"3 columns.*method='mean'"):
        aggregate_by_unit(y, proba, unit, method="max")


def test_one_image_a_unit_changes_nothing():
    y, p = np.array([0, 1, 1]), np.array([0.1, 0.5, 0.4])
    for method in ("mean", "max", "noisy-or"):
        units = aggregate_by_unit(y, p, ["c", "a", "b"], method=method)
        np.testing.assert_allclose(units.proba, p)
        assert list(units.unit) == ["c", "a", "b"]
        assert list(units.y) == [0, 1, 1]


def test_mixed_labels_are_resolved_only_when_asked():
    y, unit = [0, 1, 0, 1, 1, 0], ["a", "a", "a", "b", "b", "c"]
    p = np.linspace(0, 1, 6)
    with pytest.raises(ValueError, match=r"1 of 3 units.*'a'.*label='any'"):
        aggregate_by_unit(y, p, unit)
    assert list(aggregate_by_unit(y, p, unit, label="any").y) == [1, 1, 0]
    assert list(aggregate_by_unit(y, p, unit, label="consensus").y) == [0, 1, 0]
    names = np.array(["benign", "malignant"])[y]
    consensus = aggregate_by_unit(names, p, unit, label="consensus")
    assert list(consensus.y) == ["benign", "malignant", "benign"]
    with pytest.raises(ValueError, match=r"no numbers.*y == positive_label"):
        aggregate_by_unit(names, p, unit, label="any")
    with pytest.raises(ValueError, match=r"1 units have no most frequent.*'b'"):
        aggregate_by_unit([0, 1, 0], p[:3], ["a", "b", "b"], label="consensus")


def test_groups_follow_their_units():
    y, p = [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]
    units = aggregate_by_unit(y, p, ["l1", "l1", "l2", "l3"], groups=[7, 7, 7, 8])
    assert list(units.groups) == [7, 7, 8]
    with pytest.raises(ValueError, match="'left' lies in several groups"):
        aggregate_by_unit([0] * 3, p[:3], ["left", "right", "left"], groups=[1, 1, 2])


def test_a_label_written_in_the_number_of_images_is_said():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    unit = np.repeat(np.arange(60), 1 + 2 * y + rng.integers(2, size=60))
    p = rng.random(len(unit))
    with pytest.warns(UserWarning, match="number of images predicts the label.*AUC"):
        aggregate_by_unit(y[unit], p, unit)
    three = np.arange(60) % 3
    unit = np.repeat(np.arange(60), 1 + 2 * (three == 2) + rng.integers(2, size=60))
    with pytest.warns(UserWarning, match="units of 2 have"):
        aggregate_by_unit(three[unit], rng.random(len(unit)), unit)


@pytest.mark.parametrize(
    ("y", "p", "unit", "params", "match"),
    [
        ([0, 1], [0.1], ["a", "b"], {}, "2 labels but proba has 1"),
        ([0, 1], [0.1, 0.2], ["a"], {}, "2 labels but unit has 1"),
        ([0, 1], [0.1, 0.2], ["a", None], {}, "unit contains missing"),
        ([0, None], [0.1, 0.2], ["a", "b"], {}, "y contains missing"),
        ([0, 1], [0.1, np.nan], ["a", "b"], {}, "1 NaN"),
        ([0, 1], [0.1, 2], ["a", "b"], {"method": "noisy-or"}, "outside"),
        ([0, 1], [0.1, 0.2], ["a", "b"], {"method": "median"}, "method"),
        ([0, 1], [0.1, 0.2], ["a", "b"], {"groups": [1]}, "groups has 1"),
    ],
)
def test_errors_say_what_was_seen(y, p, unit, params, match):
    with pytest.raises(ValueError, match=match):
        aggregate_by_unit(y, p, unit, **params)
