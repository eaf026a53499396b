"""Searches never let a patient be on both sides: outer, inner and internal splits."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GroupKFold,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline

from skmedimg import CNNImageClassifier, _estimator
from skmedimg.architectures import ResNet
from skmedimg.io import ImageSequence
from skmedimg.model_selection import OptunaSearchCV, PatientKFold

SPACE = {"lr": [1e-3, 1e-2]}


@pytest.fixture
def patients():
    """Eighteen patients of four images, whose order tells nothing of them."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([f"p{i:02d}" for i in range(18)], 4))
    X = rng.integers(0, 80, (72, 8, 8), dtype=np.uint8)
    y = np.array([int(group[1:]) % 2 for group in groups])
    X[y == 1, 2:6, 2:6] += 100
    return X, y, groups


@pytest.fixture
def internal_splits(monkeypatch):
    """Patients of both sides of every internal split, gathered inside the fits."""
    seen = []
    split_units = _estimator.split_units

    def watched(data, fraction, rng):
        train, valid = split_units(data, fraction, rng)
        seen.append((set(data.groups_at(train)), set(data.groups_at(valid))))
        return train, valid

    monkeypatch.setattr(_estimator, "split_units", watched)
    return seen


class Watched(CNNImageClassifier):
    """Tells inside each fit and each prediction which patients are there."""

    fitted: list = []  # noqa: RUF012
    asked: list = []  # noqa: RUF012

    def _prepare(self, X, y, sample_weight, groups, **how):
        data = super()._prepare(X, y, sample_weight, groups, **how)
        self.patients_ = set(data.groups_at(np.arange(len(data))))
        Watched.fitted.append(self.patients_)
        return data

    def _logits(self, X):
        if isinstance(X, ImageSequence):
            test = set(X.groups)
            Watched.asked.append(test)
            assert not test & self.patients_
        return super()._logits(X)


def watched(**params):
    Watched.fitted.clear()
    Watched.asked.clear()
    small = {"architecture": ResNet(width=2, depth=1), "max_epochs": 2}
    return Watched(**small, random_state=0, early_stopping=True, **params)


@pytest.mark.parametrize("cv", [3, PatientKFold(3)])
def test_nested_no_patient_is_ever_on_both_sides(patients, internal_splits, cv):
    X, y, groups = patients
    images = ImageSequence.from_array(X, groups=groups)
    search = OptunaSearchCV(watched(), SPACE, n_trials=2, cv=cv, random_state=0)
    # A warning would tell of patients known from the training.
    out = cross_validate(search, images, y, cv=PatientKFold(3), return_estimator=True)
    everyone = set(groups)
    assert all(not train & valid for train, valid in internal_splits)
    assert all(train and valid for train, valid in internal_splits)
    # Three outer folds of two trials of three inner folds, and a refit each.
    assert len(Watched.fitted) == len(internal_splits) == 3 * (2 * 3 + 1)
    for search in out["estimator"]:
        known = search.best_estimator_.patients_
        outer = everyone - known
        assert len(outer) == 6
        assert outer in Watched.asked
    assert {search.n_splits_ for search in out["estimator"]} == {3}


@pytest.mark.parametrize("cv", [None, 3, GroupKFold(3)])
def test_groups_reach_the_folds_and_the_fits(patients, internal_splits, cv):
    X, y, groups = patients
    clf = watched().set_params(max_epochs=1)
    OptunaSearchCV(clf, SPACE, n_trials=1, cv=cv).fit(X, y, groups=groups)
    n_splits = 5 if cv is None else 3
    assert len(internal_splits) == n_splits + 1
    assert all(not train & valid for train, valid in internal_splits)
    everyone = set(groups)
    for fitted in Watched.fitted[:-1]:
        rows = np.isin(groups, sorted(fitted))
        # Of each patient all images or none: that is what a fold by patient leaves.
        assert fitted < everyone
        assert rows.sum() == 4 * len(fitted)
    assert Watched.fitted[-1] == everyone


@pytest.mark.parametrize("cv", [GroupKFold(3), LeaveOneGroupOut()])
def test_splitters_of_scikit_learn_hear_of_the_patients(patients, cv):
    X, y, groups = patients
    images = ImageSequence.from_array(X, groups=groups)
    clf = watched().set_params(max_epochs=1, early_stopping=False)
    OptunaSearchCV(clf, SPACE, n_trials=1, cv=cv, refit=False).fit(images, y)
    assert all(len(asked) in (1, 6) for asked in Watched.asked)


def test_a_splitter_that_cuts_patients_is_told_of(patients):
    X, y, groups = patients
    images = ImageSequence.from_array(X, groups=groups)
    clf = CNNImageClassifier(ResNet(width=2, depth=1), max_epochs=1)
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    search = OptunaSearchCV(clf, SPACE, n_trials=1, cv=cv, scoring="roc_auc")
    with pytest.warns(UserWarning, match="patients that are in training as well"):
        search.set_params(refit=False).fit(images, y)


@pytest.mark.parametrize("known", [True, False])
def test_several_labels(patients, known):
    X, y, groups = patients
    labels = np.column_stack([y, 1 - y, np.arange(72) % 2]).astype(float)
    labels[::5, 2] = np.nan
    X = ImageSequence.from_array(X, groups=groups) if known else X
    clf = CNNImageClassifier(ResNet(width=2, depth=1), max_epochs=1)
    seen = []

    def score(estimator, X, y):
        seen.append(np.nanmean(y, axis=0))
        return 1.0

    search = OptunaSearchCV(clf, SPACE, n_trials=1, cv=3, scoring=score, refit=False)
    search.fit(X, labels)
    # Three folds, at an epoch's end and at the end.
    share = np.nanmean(labels, axis=0)
    np.testing.assert_allclose(seen, np.tile(share, (6, 1)), atol=0.1)


class Nothing(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_groups_reach_the_last_step_of_a_pipeline(patients, internal_splits):
    X, y, groups = patients
    pipe = make_pipeline(Nothing(), watched().set_params(max_epochs=1))
    search = OptunaSearchCV(pipe, {"watched__lr": [1e-3]}, n_trials=1, cv=3)
    search.fit(X, y, groups=groups)
    assert len(internal_splits) == 4
    assert all(not train & valid for train, valid in internal_splits)


def test_with_metadata_routing(patients, internal_splits):
    X, y, groups = patients
    weight = np.ones(len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        clf = watched().set_params(max_epochs=1).set_fit_request(sample_weight=True)
        scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
        search = OptunaSearchCV(clf, SPACE, n_trials=1, cv=2, scoring=scorer)
        search.fit(X, y, groups=groups, sample_weight=weight)
        assert len(internal_splits) == 3
        out = cross_validate(
            clone(search),
            X,
            y,
            params={"groups": groups, "sample_weight": weight},
            cv=PatientKFold(2),
        )
    assert all(not train & valid for train, valid in internal_splits)
    assert len(out["test_score"]) == 2


def test_an_estimator_that_knows_no_groups(patients):
    X, y, groups = patients
    search = OptunaSearchCV(LogisticRegression(), {"C": [1.0]}, n_trials=1, cv=3)
    search.fit(X.reshape(72, -1) / 255, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(X.reshape(72, -1) / 255, y, groups=groups)
    assert search.n_splits_ == 3


def test_weights_are_split_with_the_images(patients):
    X, y, _ = patients
    flat = X.reshape(72, -1) / 255
    weight = (np.arange(72) % 3 > 0).astype(float)
    folds = [(np.arange(36), np.arange(36, 72)), (np.arange(36, 72), np.arange(36))]
    search = OptunaSearchCV(LogisticRegression(), {"C": [0.1]}, n_trials=1, cv=folds)
    search.fit(flat, y, sample_weight=weight)
    train, test = folds[1]
    plain = LogisticRegression(C=0.1).fit(flat[train], y[train], weight[train])
    score = plain.score(flat[test], y[test], weight[test])
    assert search.cv_results_["split1_test_score"][0] == score
