"""Groups stay whole, labels are as frequent in every part, and sizes are met."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
)

from skmedimg.io import ImageSequence
from skmedimg.model_selection import (
    MultilabelStratifiedGroupKFold,
    group_train_test_split,
)


def make_findings(n_patients=600, n_labels=8, seed=0):
    """Findings that run in patients, some unknown, and the patients."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(
        np.arange(n_patients), np.minimum(rng.geometric(0.4, n_patients), 12)
    )
    own = rng.normal(size=(n_patients, n_labels))[patients]
    score = own + rng.normal(size=own.shape)
    y = (
        score
        > np.quantile(score, 1 - np.geomspace(0.3, 0.02, n_labels), axis=0)[
            np.arange(n_labels), np.arange(n_labels)
        ]
    ).astype(float)
    y[rng.random(len(y)) < 0.3, 1] = np.nan
    y[rng.random(len(y)) < 0.1] = np.nan
    return y, patients


def unevenness(folds, y):
    """Mean relative deviation of the number of each label, present or absent."""
    marks = np.column_stack([y == 1, y == 0])
    parts = np.array([marks[test].sum(0) for _, test in folds])
    return np.abs(parts / marks.sum(0) * len(parts) - 1).mean()


# -- folds -----------------------------------------------------------------------------


def test_labels_are_as_frequent_in_every_fold():
    for seed in range(3):
        y, patients = make_findings(seed=seed)
        cv = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
        folds = list(cv.split(y, y, patients))
        tested = np.concatenate([test for _, test in folds])
        assert sorted(tested) == list(range(len(y)))
        for train, test in folds:
            assert not set(patients[train]) & set(patients[test])
            assert len(train) + len(test) == len(y)
            assert abs(len(test) - len(y) / 5) <= 2
        combination = np.unique(np.nan_to_num(y, nan=2), axis=0, return_inverse=True)[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # rare combinations
            other = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
            by_combination = list(other.split(y, combination, patients))
        assert unevenness(folds, y) < 0.05
        assert unevenness(folds, y) < 0.5 * unevenness(by_combination, y)


def test_one_class_an_image_is_stratified_too():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 120, 400)
    y = np.array(["a", "b", "c"])[rng.choice(3, 400, p=[0.7, 0.2, 0.1])]
    for classes in (y, y[:, np.newaxis], pd.Series(y)):
        for _, test in MultilabelStratifiedGroupKFold(4).split(y, classes, patients):
            share = pd.Series(y[test]).value_counts(normalize=True)
            assert share["c"] == pytest.approx((y == "c").mean(), abs=0.02)


@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=40),
    st.integers(2, 5),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:.*labels .* are held by:UserWarning")
def test_no_fold_is_empty_and_no_group_cut(groups, n_splits, seed):
    groups = np.array(groups)
    y = np.random.default_rng(seed).choice([0, 1, np.nan], (len(groups), 3))
    cv = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    if len(set(groups)) < n_splits:
        with pytest.raises(ValueError, match=f"groups for {n_splits} parts"):
            list(cv.split(y, y, groups))
        return
    folds = list(cv.split(y, y, groups))
    assert len(folds) == n_splits
    for train, test in folds:
        assert len(train)
        assert len(test)
        assert not set(groups[train]) & set(groups[test])


@pytest.mark.parametrize("routing", [False, True])
def test_groups_of_the_images_are_taken(routing):
    y, patients = make_findings(60, 2)
    y = np.nan_to_num(y)
    X = ImageSequence.from_array(np.zeros((len(y), 4, 4)), groups=patients)
    cv = MultilabelStratifiedGroupKFold(3)
    assert cv.get_n_splits() == 3
    carried, given = cv.split(X, y), cv.split(X.to_numpy(), y, patients)
    for one, two in zip(carried, given, strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
    rows = np.zeros((len(y), 2))
    key = "params" if routing else "groups"
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=cv)
        value = {"groups": patients} if routing else patients
        found = cross_validate(search.estimator, rows, y, cv=cv, **{key: value})
        assert len(found["test_score"]) == 3
        search.fit(rows, y, groups=patients)
    with pytest.raises(ValueError, match="needs to know the patients: pass groups="):
        list(cv.split(rows, y))


def test_shuffling_is_reproducible_and_names_do_not_matter():
    y, patients = make_findings(100, 3)

    def folds(names, **params):
        cv = MultilabelStratifiedGroupKFold(3, **params)
        return [test.tolist() for _, test in cv.split(y, y, names)]

    names = np.array([f"{p * 7919 % 9973}-{p}" for p in patients.tolist()])
    assert folds(patients) == folds(names)
    seeded = {"shuffle": True, "random_state": 1}
    assert folds(patients, **seeded) == folds(names, **seeded)
    assert folds(patients) != folds(patients, **seeded)
    assert folds(patients, shuffle=True, random_state=np.random.RandomState(0))


def test_what_cannot_be_stratified():
    groups = np.arange(20)
    cv = MultilabelStratifiedGroupKFold(4)
    with pytest.raises(ValueError, match=r"y holds fractions, 0\.5 for one"):
        list(cv.split(groups, np.full(20, 0.5), groups))
    with pytest.raises(ValueError, match="other values than 0, 1 and NaN"):
        list(cv.split(groups, np.full((20, 2), 3), groups))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        list(cv.split(groups, np.zeros(19), groups))
    with pytest.raises(ValueError, match="n_splits=1"):
        MultilabelStratifiedGroupKFold(1)
    y = np.zeros((20, 2))
    y[:3, 0] = y[:9, 1] = 1
    with pytest.warns(UserWarning, match="1 of 4 labels .* fewer than 4 .* by 3"):
        list(cv.split(groups, y, groups))


# -- a single split --------------------------------------------------------------------


@pytest.mark.parametrize("test_size", [0.1, 0.25, 0.5, 0.8, 300])
def test_sizes_and_labels_are_met(test_size):
    y, patients = make_findings()
    share = test_size if test_size < 1 else test_size / len(y)
    rows = np.arange(len(y))
    for seed in range(3):
        train, test = group_train_test_split(
            rows, groups=patients, stratify=y, test_size=test_size, random_state=seed
        )
        assert not set(patients[train]) & set(patients[test])
        assert sorted([*train, *test]) == rows.tolist()
        assert len(test) == pytest.approx(share * len(y), abs=6)
        for mark in (0, 1):
            whole, part = (y == mark).sum(0), (y[test] == mark).sum(0)
            assert part == pytest.approx(share * whole, rel=0.15, abs=2)


def test_large_patients_are_tested_as_often_as_small_ones():
    _, patients = make_findings(200)
    size = np.bincount(patients)
    chosen = np.zeros(200)
    for seed in range(200):
        _, test = group_train_test_split(patients, groups=patients, random_state=seed)
        chosen[np.unique(test)] += 1 / 200
    large = size >= np.quantile(size, 0.9)
    assert chosen[large].mean() == pytest.approx(0.25, abs=0.03)
    assert chosen[~large].mean() == pytest.approx(0.25, abs=0.03)
    assert chosen.min() > 0.1
    assert chosen.max() < 0.45


def test_all_kinds_of_arrays_are_split_alike():
    patients = np.repeat(np.arange(10), 3)
    X = ImageSequence.from_array(np.arange(30 * 16).reshape(30, 4, 4), groups=patients)
    y = np.arange(30)
    arrays = [X, y, y.tolist(), pd.DataFrame({"y": y}), sp.csr_array(np.diag(y))]
    parts = group_train_test_split(*arrays, random_state=0)
    assert len(parts) == 10
    assert [type(part) for part in parts[::2]] == [type(array) for array in arrays]
    train, test = parts[2:4]
    assert (parts[0].groups == patients[train]).all()
    assert (parts[1].groups == patients[test]).all()
    assert (parts[1].to_numpy()[:, 0, 0] == 16 * test).all()
    assert parts[5] == test.tolist()
    assert parts[7]["y"].to_list() == test.tolist()
    assert (parts[9].toarray()[:, test] == np.diag(test)).all()
    assert (np.diff(test) > 0).all()


def test_it_is_reproducible():
    patients = np.repeat(np.arange(50), 2)

    def test_rows(seed):
        return group_train_test_split(
            np.arange(100), groups=patients, random_state=seed
        )[1].tolist()

    assert test_rows(0) == test_rows(0) != test_rows(1)
    assert test_rows(np.random.RandomState(3)) == test_rows(np.random.RandomState(3))
    assert len({tuple(test_rows(None)) for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"arrays": []}, "at least one array"),
        ({"groups": None}, "needs to know the patients"),
        ({"groups": [0, 0, 0, 0]}, "1 groups for 2 parts"),
        ({"groups": [0, 1]}, "groups has shape"),
        ({"test_size": 4}, "leaves none of 4 images"),
        ({"test_size": 1.5}, "test_size"),
        ({"stratify": [0, 1]}, "inconsistent"),
        ({"arrays": [np.arange(4), np.arange(3)]}, "inconsistent"),
    ],
)
def test_errors_say_what_to_change(arguments, match):
    given = {"arrays": [np.arange(4)], "groups": [0, 0, 1, 2]} | arguments
    with pytest.raises(ValueError, match=match):
        group_train_test_split(*given.pop("arrays"), **given)
