"""Units against loops over them, and what must not pass in silence."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_score,
    cross_validate,
)

from skmedimg.io import ImageSequence
from skmedimg.metrics import UnitScorer, aggregate_by_unit


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
    grades = np.array(["none", "mild", "severe"])[[0, 1, 2, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"no numbers.*y == positive_label"):
        aggregate_by_unit(grades, p, unit, label="any")
    greatest = aggregate_by_unit([0, 1, 2, 3, 3, 0], p, unit, label="any")
    assert list(greatest.y) == [2, 3, 0]
    with pytest.raises(ValueError, match=r"1 units have no most frequent.*'b'"):
        aggregate_by_unit([0, 1, 0], p[:3], ["a", "b", "b"], label="consensus")


def test_any_makes_the_positive_label_win_whichever_it_is():
    y, unit = np.array([0, 1, 0, 1, 1, 0]), ["a", "a", "a", "b", "b", "c"]
    p = np.linspace(0, 1, 6)

    def joined(y, pos_label=None):
        return list(aggregate_by_unit(y, p, unit, label="any", pos_label=pos_label).y)

    assert joined(y) == joined(y, 1) == [1, 1, 0]
    assert joined(y, 0) == [0, 1, 0]
    # With the labels flipped, and the positive one with them, so is the result.
    assert joined(1 - y, 0) == [0, 0, 1]
    names = np.array(["malignant", "benign"])
    assert joined(names[y], "malignant") == ["malignant", "benign", "malignant"]
    assert joined(names[y], "benign") == ["benign", "benign", "malignant"]
    assert joined(0 * y) == [0, 0, 0]
    for two in names[y], y + 1:
        with pytest.raises(ValueError, match="pass it as pos_label"):
            joined(two)
    with pytest.raises(ValueError, match="pos_label=3 is not a label of y"):
        joined(y, 3)
    with pytest.raises(ValueError, match="of y are of 3 classes"):
        joined([0, 1, 2, 1, 1, 0], 1)


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


class BrightImages(ClassifierMixin, BaseEstimator):
    """Calls an image the second class as surely as it is bright."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        bright = X.to_numpy().mean(axis=(1, 2))
        return np.column_stack([1 - bright, bright])


def make_sequence():
    y, proba, unit = make_images()
    bright = (0.6 * proba[:, 0] + 0.4 * y)[:, None, None] * np.ones((1, 2, 2))
    return ImageSequence.from_array(bright, groups=unit), y, unit


def test_units_are_scored_in_cross_validation_by_the_groups_of_x():
    X, y, unit = make_sequence()
    scores = cross_val_score(
        BrightImages(), X, y, groups=unit, cv=GroupKFold(3), scoring=UnitScorer()
    )
    expected = []
    for _, test in GroupKFold(3).split(X, y, unit):
        bright = X.to_numpy()[test, 0, 0]
        frame = pd.DataFrame({"y": y[test], "p": bright}).groupby(unit[test]).mean()
        expected.append(roc_auc_score(frame["y"], frame["p"]))
    np.testing.assert_allclose(scores, expected)
    assert np.mean(scores) > roc_auc_score(y, X.to_numpy()[:, 0, 0])


def test_units_arrive_by_metadata_routing():
    y, X, patient = make_images()
    lesion = np.arange(len(y)) // 2 + 1000 * patient
    clf = LogisticRegression()
    with sklearn.config_context(enable_metadata_routing=True):
        params = {"groups": patient, "unit": lesion}
        splits = {"cv": GroupKFold(3), "params": params, "error_score": "raise"}
        found = cross_validate(
            clf,
            X,
            y,
            scoring={
                "unit": UnitScorer("neg_log_loss", method="max"),
                "image": "roc_auc",
            },
            return_indices=True,
            return_estimator=True,
            **splits,
        )
        for i, test in enumerate(found["indices"]["test"]):
            scorer = UnitScorer("neg_log_loss", method="max")
            direct = scorer(found["estimator"][i], X[test], y[test], unit=lesion[test])
            assert found["test_unit"][i] == direct
        search = GridSearchCV(
            clf,
            {"C": [0.1, 1]},
            scoring=UnitScorer().set_score_request(unit="lesion"),
            cv=GroupKFold(3),
            error_score="raise",
        )
        search.fit(X, y, groups=patient, lesion=lesion)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("scoring", ["f1", "average_precision", make_scorer(f1_score)])
def test_flipping_the_positive_class_flips_the_score(scoring):
    X, y, unit = make_sequence()
    names = np.array(["benign", "malignant"])[y]
    clf = BrightImages().fit(X, names)
    malignant = UnitScorer(scoring, method="max", pos_label="malignant")
    benign = UnitScorer(scoring, method="max", pos_label="benign")
    expected = UnitScorer(scoring, method="max")(BrightImages().fit(X, y), X, y)
    assert malignant(clf, X, names) == expected
    assert benign(clf, X, names) != malignant(clf, X, names)
    other = aggregate_by_unit(y == 0, clf.predict_proba(X)[:, 0], unit, method="max")
    if scoring != "average_precision":
        expected = f1_score(other.y, other.proba > 0.5)
        assert benign(clf, X, names) == pytest.approx(expected)
    with pytest.raises(ValueError, match="pos_label"):
        UnitScorer(scoring)(clf, X, names)


def test_one_positive_image_makes_a_unit_positive_whichever_class_that_is():
    X = ImageSequence.from_array(np.full((4, 2, 2), 0.4), groups=[1, 1, 2, 2])
    y = np.array(["b", "a", "b", "b"])
    clf = BrightImages().fit(X, y)
    for positive, share in ("a", 0.5), ("b", 0.0):
        scorer = UnitScorer("accuracy", label="any", pos_label=positive)
        # All are called "a"; a unit of both labels is what the positive class says.
        assert scorer(clf, X, y) == share


@pytest.mark.parametrize("kind", [int, str])
def test_labels_that_the_estimator_does_not_know_are_an_error(kind):
    y, X, patient = make_images()
    clf = LogisticRegression().fit(X, y)
    y = np.where(patient == patient[0], 2, y).astype(kind)
    with pytest.raises(ValueError, match=r"y holds .*2.* fitted on \[0, 1\] alone"):
        UnitScorer("accuracy")(clf, X, y, patient)


def test_scorer_without_units_says_where_they_come_from():
    y, X, _ = make_images()
    clf = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match=r"with groups, or .*metadata routing"):
        UnitScorer()(clf, X, y)


@pytest.mark.parametrize("grades", [[2, 3], [1, 2], [2, 2]])
def test_of_grades_the_greatest_counts_whichever_occur(grades):
    y, unit = np.repeat([grades, grades[::-1]], 3, axis=0).ravel(), np.arange(12) // 2
    units = aggregate_by_unit(y, np.full((12, 5), 0.2), unit, label="any")
    assert (units.y == max(grades)).all()
