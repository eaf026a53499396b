"""Patients are kept apart, asserted inside the fits."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn import model_selection as ms
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.io import ImageSequence
from skmedimg.model_selection import PatientKFold

SEEN = []


class Witness(Callback):
    """Asserts in every epoch that the sides share no patient and no image.

    Estimators copy their callbacks: the notes go to the module.
    """

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        SEEN.append({"groups": X.groups, "epochs": 0})

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        note, sides = SEEN[-1], (dataset_train, dataset_valid)
        note["epochs"] += 1
        if dataset_valid is None:
            return
        note["valid feed"] = dataset_valid
        pixels = [side.images.take(side.rows) for side in sides]
        train, valid = ({image.tobytes() for image in side} for side in pixels)
        assert min(len(train), len(valid)) > 0
        assert not train & valid
        note["images"], note["rows"] = len(train | valid), [side.rows for side in sides]
        if note["groups"] is not None:
            note["train"], note["valid"] = (set(side.groups) for side in sides)
            assert not note["train"] & note["valid"]


CLF = CNNImageClassifier(
    ResNet(width=2, depth=1),
    max_epochs=2,
    early_stopping=True,
    validation_fraction=0.25,
    callbacks=[Witness()],
    random_state=0,
)


@pytest.fixture(params=[int, object])
def data(request, images):
    """Forty images of 12 patients, whose rows lie scattered."""
    X, y = images
    patients = np.random.default_rng(0).integers(0, 12, 40)
    if request.param is object:
        patients = np.array([f"P{i:03d}" for i in patients], dtype=object)
    SEEN.clear()
    return X, y, patients


def _assert_witnessed(n_fits, patients):
    assert [fit["epochs"] for fit in SEEN] == [2] * n_fits
    assert all(fit["train"] | fit["valid"] <= set(patients) for fit in SEEN)


# -- 0 shared patients -----------------------------------------------------------------


def test_plain_fit(data):
    X, y, patients = data
    clone(CLF).fit(X, y, groups=patients)
    clone(CLF).fit(X, y, groups=pd.Series(patients, index=np.arange(40)[::-1]))
    _assert_witnessed(2, patients)
    for fit in SEEN:
        assert [set(patients[at]) for at in fit["rows"]] == [fit["train"], fit["valid"]]
        assert fit["train"] | fit["valid"] == set(patients)


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
    options = {"cv": ms.StratifiedGroupKFold(2), "error_score": "raise"}
    search = ms.GridSearchCV(model, grid, **options)
    options |= {"params": {"groups": patients}, "return_indices": True}
    with sklearn.config_context(enable_metadata_routing=True):
        scores = ms.cross_validate(search, X, y, **options)
    # Two outer folds of two candidates in two inner folds, and one refit.
    _assert_witnessed(2 * (2 * 2 + 1), patients)
    refits = SEEN[4], SEEN[9]
    for fit, rows in zip(refits, scores["indices"]["train"], strict=True):
        assert fit["train"] | fit["valid"] == set(patients[rows])


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate_on_sequence(routing, data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    search = ms.GridSearchCV(CLF, {"lr": [0.01, 0.02]}, cv=PatientKFold(2))
    with sklearn.config_context(enable_metadata_routing=routing):
        for model in (CLF, search):
            # No warning of a known patient: neither do the outer sides share one.
            ms.cross_validate(model, X, y, cv=PatientKFold(3), error_score="raise")
    _assert_witnessed(3 + 3 * (2 * 2 + 1), patients)


def test_patient_k_fold(data):
    X, y, patients = data
    sequence = ImageSequence.from_array(X, groups=patients)
    options = {"n_splits": 3, "shuffle": True, "random_state": 0}
    cv, expected = PatientKFold(**options), ms.StratifiedGroupKFold(**options)
    carried, given = cv.split(sequence, y), cv.split(X, y, patients)
    # Patients are numbered as they appear, whatever their names.
    wanted = expected.split(X, y, pd.factorize(patients)[0])
    for one, two, three in zip(carried, given, wanted, strict=True):
        assert not set(patients[one[0]]) & set(patients[one[1]])
        for a, b, c in zip(one, two, three, strict=True):
            assert a.tolist() == b.tolist() == c.tolist()
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
        ms.cross_val_score(clf, X, y, cv=PatientKFold(2), error_score="raise")


def test_column_named_groups_is_a_pixel(images):
    X, y = images
    SEEN.clear()
    frame = pd.DataFrame(X[:, 4], columns=[*"abcdefghi", "groups"])
    clf = clone(CLF).set_params(early_stopping=False).fit(frame, y)
    assert SEEN == [{"groups": None, "epochs": 2}]
    assert clf.n_features_in_ == 10


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
    SEEN.clear()
    clone(CLF).fit(X, y, groups=np.arange(40) if grouped else None)
    assert [(fit["epochs"], fit["images"]) for fit in SEEN] == [(2, 20)]


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_large_group_is_trained_on(seed, images):
    X, y = images
    patients = np.where(np.arange(40) < 28, 0, np.arange(40))
    SEEN.clear()
    clone(CLF).set_params(random_state=seed).fit(X, y, groups=patients)
    assert len(SEEN[0]["rows"][1]) == 10


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
        proba = clf.predict_proba(X)
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


@pytest.mark.parametrize("first", [None, np.nan, pd.NA])
def test_bad_groups(first, images):
    X, y = images
    for groups in (np.arange(39), np.zeros((40, 2))):
        with pytest.raises(ValueError, match="groups has shape"):
            clone(CLF).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="groups has 1 missing entries"):
        clone(CLF).fit(X, y, groups=[first, *range(39)])


# -- score -----------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_score_on_known_patients_warns(early_stopping, data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    known = np.isin(patients, np.unique(patients)[:8])
    clf = clone(CLF).set_params(early_stopping=early_stopping, callbacks=None)
    clf.fit(X[known], y[known])
    clf.score(X[~known], y[~known])
    rows = ~known | (patients == np.unique(patients)[3])
    with pytest.warns(UserWarning, match="1 of the 5 patients in X.groups were in"):
        clf.score(X[rows], y[rows])
    clf.score(X.to_numpy(), y)  # no groups, nothing to compare


def test_names_of_mixed_types(images):
    X, y = images
    patients = np.array([*range(10), *"abcdefghij"] * 2, dtype=object)
    sequence = ImageSequence.from_array(X, groups=patients)
    assert "20 groups" in repr(sequence)
    clf = clone(CLF).fit(sequence, y)
    with pytest.warns(UserWarning, match="2 of the 2 patients"):
        clf.score(sequence[9:11], y[9:11])


def test_patients_of_all_calls_are_known(data):
    X, y, patients = data
    X = ImageSequence.from_array(X, groups=patients)
    parts = np.array_split(np.unique(patients), 3)
    first, second, third = (np.isin(patients, part) for part in parts)
    clf = CNNImageClassifier(ResNet(2, depth=1), max_epochs=1, warm_start=True)
    clf.fit(X[first], y[first]).partial_fit(X[second], y[second])
    clf.fit(X[third], y[third])
    for part in (first, second, third):
        with pytest.warns(UserWarning, match="4 of the 4 patients"):
            clf.score(X[part], y[part])
    clf.set_params(warm_start=False).fit(X[third], y[third])
    clf.score(X[first], y[first])


def test_images_and_patients_of_fit_are_recognised(data):
    X, y, patients = data
    clf = clone(CLF).set_params(early_stopping=False).fit(X[:20], y[:20])
    np.testing.assert_array_equal(clf.known_images(X), np.arange(len(X)) < 20)
    changed = X[:1].copy()
    changed[0, 0, 0] += 1
    assert not clf.known_images(changed).any()
    assert not clf.known_patients(patients).any()
    clf.fit(X[:20], y[:20], groups=patients[:20])
    expected = np.isin(patients, patients[:20])
    np.testing.assert_array_equal(clf.known_patients(patients), expected)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.known_images(X), clf.known_images(X))


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
    feed = SEEN[0]["valid feed"]
    steps = [(len(b[0]), clf.net_.validation_step(b)[0].item()) for b in feed]
    sizes, values = np.array(steps).T
    assert np.average(values, weights=sizes) == pytest.approx(losses.min(), rel=1e-6)
    assert losses.iloc[-1] > losses.min()
