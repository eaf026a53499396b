"""Patients are kept apart, asserted inside the fits."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.io import ImageSequence
from skmedimg.model_selection import PatientKFold

SEEN = []


class Witness(Callback):
    """Asserts in every epoch that the sides share no patient, and notes who they are.

    Estimators copy their callbacks, so that the notes go to the module.
    """

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        SEEN.append({"net": net, "fed": X.groups, "epochs": 0})

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        train, valid = dataset_train.groups, dataset_valid.groups
        assert train is not None
        assert len(valid) > 0
        assert len(train) > 0
        assert not set(train) & set(valid)
        epochs = SEEN[-1]["epochs"] + 1
        SEEN[-1] |= {"train": set(train), "valid": set(valid), "epochs": epochs}
        SEEN[-1]["feeds"] = dataset_train, dataset_valid


CLF = CNNImageClassifier(
    ResNet(width=2, depth=1),
    max_epochs=2,
    early_stopping=True,
    validation_fraction=0.25,
    callbacks=[Witness()],
    random_state=0,
)


@pytest.fixture(params=[int, str, object])
def data(request, images):
    """Forty images of 12 patients, whose rows lie scattered."""
    X, y = images
    patients = np.random.default_rng(0).integers(0, 12, 40)
    if request.param is not int:
        patients = np.array([f"P{i:03d}" for i in patients], dtype=request.param)
    SEEN.clear()
    return X, y, patients


def _assert_witnessed(n_fits, patients, epochs=2):
    assert len(SEEN) == n_fits
    for fit in SEEN:
        assert fit["epochs"] == epochs
        assert fit["train"] | fit["valid"] <= set(patients)


# -- 0 shared patients -----------------------------------------------------------------


def test_plain_fit(data):
    X, y, patients = data
    clone(CLF).fit(X, y, groups=patients)
    clone(CLF).fit(X, y, groups=pd.Series(patients, index=np.arange(40)[::-1]))
    _assert_witnessed(2, patients)
    assert all(fit["train"] | fit["valid"] == set(patients) for fit in SEEN)


def test_fit_on_sequence(data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    clone(CLF).fit(X, y)
    rows = np.random.default_rng(1).permutation(40)[:30]
    clone(CLF).fit(X[rows], y[rows])
    _assert_witnessed(2, patients)
    assert SEEN[1]["train"] | SEEN[1]["valid"] == set(patients[rows])


@pytest.mark.parametrize("piped", [False, True])
def test_nested_routed_search(piped, data):
    X, y, patients = data
    model, grid = clone(CLF), {"architecture__width": [2, 3]}
    if piped:
        model = make_pipeline(FunctionTransformer(), model)
        grid = {"cnnimageclassifier__architecture__width": [2, 3]}
    cv = StratifiedGroupKFold(2)
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(
            GridSearchCV(model, grid, cv=cv, error_score="raise"),
            X,
            y,
            cv=cv,
            params={"groups": patients},
            return_indices=True,
            error_score="raise",
        )
    # Two outer folds of two candidates in two inner folds, and one refit.
    _assert_witnessed(2 * (2 * 2 + 1), patients)
    refits = SEEN[4], SEEN[9]
    for fit, rows in zip(refits, scores["indices"]["train"], strict=True):
        assert fit["train"] | fit["valid"] == set(patients[rows])


def test_routed_calibration(data):
    X, y, patients = data
    with sklearn.config_context(enable_metadata_routing=True):
        model = CalibratedClassifierCV(CLF, cv=StratifiedGroupKFold(2))
        model.fit(X, y, groups=patients)
    _assert_witnessed(2, patients)
    assert not (SEEN[0]["train"] | SEEN[0]["valid"]) & (
        SEEN[1]["train"] | SEEN[1]["valid"]
    )


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate_on_sequence(routing, data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    search = GridSearchCV(
        CLF, {"lr": [0.01]}, cv=PatientKFold(2), error_score="raise", refit=True
    )
    with sklearn.config_context(enable_metadata_routing=routing):
        for model in (CLF, search):
            # No warning of a known patient: neither do the outer sides share one.
            cross_validate(model, X, y, cv=PatientKFold(3), error_score="raise")
    _assert_witnessed(3 + 3 * 3, patients)


def test_patient_k_fold(data):
    X, y, patients = data
    sequence = ImageSequence.from_array(X, groups=patients)
    cv = PatientKFold(3, shuffle=True, random_state=0)
    carried, given = list(cv.split(sequence, y)), list(cv.split(X, y, patients))
    expected = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    for one, other, third in zip(
        carried, given, expected.split(X, y, patients), strict=True
    ):
        assert not set(patients[one[0]]) & set(patients[one[1]])
        for side in (0, 1):
            np.testing.assert_array_equal(one[side], other[side])
            np.testing.assert_array_equal(one[side], third[side])
    # Explicit groups win over those that the images carry.
    halves = np.arange(40) // 20
    for train, _ in PatientKFold(2).split(sequence, y, halves):
        assert len(set(halves[train])) == 1


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("kind", ["array", "frame", "sequence"])
def test_patient_k_fold_without_groups(kind, routing, images):
    X, y = images
    frame = pd.DataFrame(X[:, 0]).rename(columns=str).assign(groups=np.arange(40))
    X = {"array": X, "frame": frame, "sequence": ImageSequence.from_array(X)}[kind]
    clf = clone(CLF).set_params(early_stopping=False)
    with (
        sklearn.config_context(enable_metadata_routing=routing),
        pytest.raises(ValueError, match="PatientKFold needs to know the patients"),
    ):
        cross_val_score(clf, X, y, cv=PatientKFold(2), error_score="raise")


def test_column_named_groups_is_a_pixel(images):
    X, y = images
    frame = pd.DataFrame(X[:, 4], columns=[*"abcdefghi", "groups"])
    SEEN.clear()
    clf = clone(CLF).set_params(early_stopping=False, callbacks=[Fed()])
    clf.fit(frame, y).score(frame, y)
    assert SEEN == [None]
    assert clf.n_features_in_ == 10


class Fed(Callback):
    """Notes whose images the fit is fed."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        SEEN.append(X.groups if X.groups is None else set(X.groups))


# -- what is one unit ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_shared_image_joins_patients(seed, data):
    X, y, patients = data
    # A chain of three patients: the second shares an image with both others.
    a, b, c = np.unique(patients)[:3]
    first, second, third = (np.flatnonzero(patients == p) for p in (a, b, c))
    X[second[0]], y[second[0]] = X[first[0]], y[first[0]]
    X[third[0]] = X[second[-1]]
    clone(CLF).set_params(random_state=seed).fit(X, y, groups=patients)
    _assert_witnessed(1, patients)
    assert {a, b, c} <= SEEN[0]["train"] or {a, b, c} <= SEEN[0]["valid"]


@pytest.mark.parametrize("grouped", [False, True])
def test_image_with_two_labels_stays_on_one_side(grouped, images):
    X, y = images
    X[20:], y[20:] = X[:20], 1 - y[:20]
    groups = np.r_[np.arange(20), np.arange(20) + 100] if grouped else np.arange(40)
    clf = clone(CLF).set_params(callbacks=[Sides()])
    SEEN.clear()
    clf.fit(X, y, groups=groups if grouped else None)
    train, valid = SEEN[0]
    assert not train & valid
    assert len(train) + len(valid) == 20


class Sides(Callback):
    """Notes the distinct images of the two sides."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.first = True

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        sides = dataset_train, dataset_valid
        pixels = [side.images.take(side.rows) for side in sides]
        SEEN.append([{image.tobytes() for image in side} for side in pixels])


# -- what cannot be split --------------------------------------------------------------

TOO_FEW = {
    "one patient": lambda y: np.zeros(40),
    "one patient a class": lambda y: y,
    "one class in one patient": lambda y: np.where(y == 1, 99, np.arange(40)),
    "joined": lambda y: np.arange(40) % 5 // 4,
}


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("name", TOO_FEW)
def test_too_few_groups(name, fitted, images):
    X, y = images
    if name == "joined":
        X[4], y[4] = X[0], y[0]
    clf = clone(CLF).set_params(callbacks=None)
    if fitted:
        clf.fit(X, y)
        before, proba = dict(vars(clf)), clf.predict_proba(X)
    else:
        before = dict(vars(clf))
    with pytest.raises(ValueError, match=r"early_stopping=True.*groups"):
        clf.fit(X, y, groups=TOO_FEW[name](y))
    assert vars(clf) == before
    if fitted:
        assert np.array_equal(clf.predict_proba(X), proba)


def test_too_few_images_of_a_class(images):
    X, y = images
    y = np.where(np.arange(40) == 7, 2, y)
    clf = clone(CLF).set_params(callbacks=None)
    with pytest.raises(ValueError, match="every class in at least 2 distinct images"):
        clf.fit(X, y)
    X[8], y[8] = X[7], 2  # two rows, one image
    with pytest.raises(ValueError, match="every class in at least 2 distinct images"):
        clf.fit(X, y)
    assert not hasattr(clf, "classes_")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.arange(39), "groups has shape"),
        (np.zeros((40, 2)), "groups has shape"),
        ([None, *range(39)], "missing"),
        ([np.nan, *range(39)], "missing"),
    ],
)
def test_bad_groups(groups, message, images):
    X, y = images
    with pytest.raises(ValueError, match=message):
        clone(CLF).fit(X, y, groups=groups)


# -- score -----------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_score_on_known_patients_warns(early_stopping, data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    known = np.isin(patients, np.unique(patients)[:8])
    clf = clone(CLF).set_params(early_stopping=early_stopping, callbacks=None)
    clf.fit(X[known], y[known])
    clf.score(X[~known], y[~known])
    with pytest.warns(UserWarning, match="1 of the 5 patients in X.groups were in"):
        rows = ~known | (patients == np.unique(patients)[3])
        clf.score(X[rows], y[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.score(np.asarray(X), y)  # no groups, nothing to compare


def test_patients_of_all_calls_are_known(data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    first, second, third = (
        np.isin(patients, part) for part in np.array_split(np.unique(patients), 3)
    )
    clf = CNNImageClassifier(ResNet(2, depth=1), max_epochs=1, warm_start=True)
    clf.fit(X[first], y[first]).partial_fit(X[second], y[second]).fit(
        X[third], y[third]
    )
    for part in (first, second, third):
        with pytest.warns(UserWarning, match="4 of the 4 patients"):
            clf.score(X[part], y[part])
    clf.set_params(warm_start=False).fit(X[third], y[third])
    clf.score(X[first], y[first])


# -- early stopping --------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_best_weights_are_kept(weighted, data):
    X, y, patients = data
    weight = np.random.default_rng(0).random(40) if weighted else None
    noise = np.random.default_rng(1).permutation(y)
    clf = clone(CLF).set_params(max_epochs=30, lr=0.05, n_iter_no_change=4)
    clf.fit(X, noise, sample_weight=weight, groups=patients)
    losses = clf.history_.valid_loss
    best = int(losses.argmin())
    assert clf.n_iter_ == len(losses) == best + 5 < 30
    valid = SEEN[0]["feeds"][1]
    steps = [(len(b[0]), clf.net_.validation_step(b)[0].item()) for b in valid]
    sizes, values = np.array(steps).T
    assert np.average(values, weights=sizes) == pytest.approx(losses.min(), rel=1e-6)
    assert losses.iloc[-1] > losses.min()
