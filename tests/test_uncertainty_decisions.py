"""Referral, thresholds, and that held-out patients are held out."""

import h5py
import numpy as np
import pytest
import torch
from lookup import frozen, make_patients
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    RepeatedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmedimg.io import ImageSequence
from skmedimg.metrics import aurc, threshold_at_sensitivity
from skmedimg.model_selection import PatientKFold
from skmedimg.uncertainty import (
    ConformalClassifier,
    EmbeddingOutlierDetector,
    SelectiveClassifier,
    SensitivityThresholdClassifier,
)


def make_points(n=400, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    return rng.normal(loc=y, size=(2, n)).T, y


# -- patients are whole ----------------------------------------------------------------


class Witness(LogisticRegression):
    """Notes whose images are learnt from, and whose are then predicted.

    The first pixel of an image is the number of its patient.
    """

    seen: list = []  # noqa: RUF012

    def fit(self, X, y, groups=None):
        self.own_ = np.unique(_pixels(X)[:, 0])
        if groups is not None:
            assert np.array_equal(np.unique(groups), self.own_)
        Witness.seen.append([self.own_, None])
        self.number_ = len(Witness.seen) - 1
        return super().fit(_pixels(X)[:, 1:], y)

    def predict_proba(self, X):
        Witness.seen[self.number_][1] = np.unique(_pixels(X)[:, 0])
        return super().predict_proba(_pixels(X)[:, 1:])

    def predict(self, X):
        return super().predict(_pixels(X)[:, 1:])

    def decision_function(self, X):
        return super().decision_function(X)


def _pixels(X):
    X = X.to_numpy() if hasattr(X, "to_numpy") else X
    return X.reshape(len(X), -1)


META = [
    ConformalClassifier(Witness(), random_state=0),
    SelectiveClassifier(Witness(), random_state=0),
    SensitivityThresholdClassifier(Witness(), sensitivity=0.7, random_state=0),
]


def make_images():
    rng = np.random.default_rng(0)
    y, _, patient = make_patients(160, images=(2, 2))
    X = rng.normal(loc=y, size=(4, len(y))).T.reshape(-1, 2, 2)
    X[:, 0, 0] = patient
    return X, y, patient


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("source", ["groups", "sequence"])
@pytest.mark.parametrize("meta", META, ids=lambda meta: type(meta).__name__)
def test_no_patient_is_both_learnt_and_held_out(meta, source, cv):
    X, y, patient = make_images()
    Witness.seen.clear()
    meta.set_params(cv=cv)
    if source == "groups":
        meta.fit(X, y, groups=patient)
    else:
        meta.fit(ImageSequence.from_array(X, groups=patient), y)
    held = [(own, new) for own, new in Witness.seen if new is not None]
    assert len(held) == (1 if cv is None else 3)
    for own, new in held:
        assert not set(own) & set(new)
        assert len(own) + len(new) == 160
    if cv is None:
        assert len(held[0][1]) == 40


@pytest.mark.parametrize("meta", META, ids=lambda meta: type(meta).__name__)
def test_groups_arrive_through_metadata_routing(meta):
    X, y, patient = make_images()
    Witness.seen.clear()
    with config_context(enable_metadata_routing=True):
        inner = meta.set_params(
            cv=None, estimator=Witness().set_fit_request(groups=True)
        )
        result = cross_validate(
            inner,
            X,
            y,
            cv=PatientKFold(2),
            params={"groups": patient},
            scoring=lambda est, X, y: 0.0,
            error_score="raise",
        )
    assert len(result["test_score"]) == 2
    assert len(Witness.seen) == 2
    for own, new in Witness.seen:
        assert not set(own) & set(new)


@pytest.mark.parametrize("meta", META, ids=lambda meta: type(meta).__name__)
def test_an_image_that_is_held_out_twice_is_an_error(meta):
    X, y, _ = make_images()
    repeated = RepeatedKFold(n_splits=4, n_repeats=3, random_state=0)
    with pytest.raises(ValueError, match=f"cv=Repeated.* {2 * len(y)} images out agai"):
        clone(meta).set_params(cv=repeated).fit(X, y)


@pytest.mark.parametrize("meta", META, ids=lambda meta: type(meta).__name__)
def test_a_single_patient_is_an_error(meta):
    X, y, patient = make_images()
    with pytest.raises(ValueError, match=f"all {len(y)} images are of one patient"):
        clone(meta).set_params(cv=None).fit(X, y, groups=0 * patient)


def test_images_may_lie_on_disk(tmp_path, tiny, images):
    X, y = images
    np.save(tmp_path / "X.npy", X)
    memory = np.load(tmp_path / "X.npy", mmap_mode="r")
    meta = SelectiveClassifier(tiny(), random_state=0)
    expected = meta.fit(X, y).predict_proba(X)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        for source in (memory, file["X"], torch.from_numpy(X)):
            got = meta.fit(source, y).predict_proba(source)
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("known", ["images", "patients"])
@pytest.mark.parametrize(
    "meta", [SelectiveClassifier, EmbeddingOutlierDetector], ids=lambda m: m.__name__
)
def test_frozen_networks_tell_what_they_have_seen(meta, known, piped, tiny, images):
    X, y = images
    patient = np.arange(40) // 2
    network = FrozenEstimator(tiny().fit(X[:10], y[:10], groups=patient[:10]))
    if piped:
        network = FrozenEstimator(make_pipeline(FunctionTransformer(), network))
    rate = {"false_alarm_rate": 0.3} if meta is EmbeddingOutlierDetector else {}
    detector = meta(network, **rate)
    detector.fit(X[10:], y[10:], groups=patient[10:])
    again, groups = X[6:], None
    if known == "patients":
        again, groups = X[6:] + 1, patient[6:]
    with pytest.warns(UserWarning, match=r"fitted on 4 of the 34 images") as caught:
        detector.fit(again, y[6:], groups=groups)
    assert caught[0].filename == __file__


# -- referral --------------------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_share_answered_is_at_least_the_coverage_on_average(coverage):
    rng = np.random.default_rng(0)
    table = rng.random(40_000)
    share = []
    for start in range(0, 40_000, 100):
        rows = np.arange(start, start + 100)
        clf = SelectiveClassifier(frozen(table), coverage=coverage)
        clf.fit(rows[:30], rng.integers(2, size=30))
        share.append(clf.decision_mask(rows[30:]).mean())
    error = np.std(share) / np.sqrt(len(share))
    # The order statistics of 30 leave steps of 1/31.
    assert coverage - 3 * error < np.mean(share) < coverage + 1 / 31 + 3 * error


def test_unsure_images_are_referred():
    table = np.linspace(0, 1, 101)
    y = (table > 0.5).astype(int)
    clf = SelectiveClassifier(frozen(table), coverage=0.75).fit(np.arange(101), y)
    confidence = np.maximum(table, 1 - table)
    np.testing.assert_allclose(clf.confidence(np.arange(101)), confidence)
    answer = clf.predict(np.arange(101))
    assert answer.dtype == object
    refer = confidence < clf.threshold_
    assert (answer[refer] == "refer").all()
    assert answer[~refer].tolist() == y[~refer].tolist()
    assert refer.mean() == pytest.approx(0.25, abs=0.03)  # confidences come in pairs
    np.testing.assert_array_equal(clf.decision_mask(np.arange(101)), ~refer)
    table = clf.estimator.table
    np.testing.assert_array_equal(clf.predict_proba(np.arange(101)), table)


@pytest.mark.parametrize(
    ("classes", "refer_label", "kind"),
    [((0, 1), -1, "i"), (("healthy", "ill"), "ask a human", "U"), ((0, 1), "?", "O")],
)
def test_referral_keeps_the_kind_of_the_labels(classes, refer_label, kind):
    table = np.linspace(0, 1, 101)
    y = np.asarray(classes)[(table > 0.5).astype(int)]
    clf = SelectiveClassifier(frozen(table, classes), refer_label=refer_label)
    answer = clf.fit(np.arange(101), y).predict(np.arange(101))
    assert answer.dtype.kind == kind
    assert set(answer.tolist()) == {*classes, refer_label}
    whole = clf.set_params(coverage=1.0).fit(np.arange(101), y)
    assert whole.decision_mask(np.arange(101)).all()
    assert whole.predict(np.arange(101)).dtype == y.dtype


def test_score_is_the_accuracy_of_the_answers():
    y, p, _ = make_patients(600, images=(1, 1))
    rows = np.arange(600)
    clf = SelectiveClassifier(frozen(p), coverage=0.7).fit(rows[:300], y[:300])
    new = rows[300:]
    answered = clf.decision_mask(new)
    expected = accuracy_score(y[new][answered], clf.predict(new)[answered].astype(int))
    assert clf.score(new, y[new]) == expected > clf.estimator.score(new, y[new])
    weight = np.where(clf.predict(new) == y[new], 1, 0)
    assert clf.score(new, y[new], sample_weight=weight) == 1
    with pytest.raises(ValueError, match="both as text or both as numbers"):
        clf.risk(new, y[new].astype(str))
    with pytest.raises(ValueError, match=r"299 labels but predict\(X\) has 300"):
        clf.score(new, y[new][1:])
    clf.threshold_ = 2.0
    assert np.isnan(clf.score(new, y[new]))


def test_confidence_is_of_the_label_that_is_answered():
    X, y = make_points()
    low = FixedThresholdClassifier(LogisticRegression(), threshold=0.1)
    clf = SelectiveClassifier(low, random_state=0).fit(X, y)
    p = clf.predict_proba(X)[:, 1]
    np.testing.assert_allclose(clf.confidence(X), np.where(p >= 0.1, p, 1 - p))


def test_flipped_labels_refer_the_same_images():
    X, y = make_points()
    one = SelectiveClassifier(LogisticRegression(), random_state=0).fit(X, y)
    other = SelectiveClassifier(LogisticRegression(), random_state=0).fit(X, 1 - y)
    assert (one.decision_mask(X) == other.decision_mask(X)).mean() > 0.99


def test_risk_beats_random_referral():
    y, p, patient = make_patients(500)
    rows = np.arange(len(y))
    held = patient < 200
    clf = SelectiveClassifier(frozen(p), random_state=0).fit(rows[held], y[held])
    new = rows[~held]
    risk = clf.risk(new, y[new], groups=patient[new])
    error = (p[new] > 0.5) != y[new]
    assert risk == aurc(error, clf.confidence(new), groups=patient[new], random_state=0)
    assert risk.gain.low > 0


def test_folds_take_unseen_confidences_and_learn_from_all():
    X, y = make_points(200)
    patient = np.arange(200) // 2
    clf = SelectiveClassifier(LogisticRegression(), cv=4, random_state=0)
    clf.fit(X, y, groups=patient)
    whole = LogisticRegression().fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), whole.predict_proba(X))
    assert clf.decision_mask(X).mean() == pytest.approx(0.8, abs=0.06)


def test_refer_label_that_is_a_class_is_an_error():
    X, y = make_points()
    with pytest.raises(ValueError, match="refer_label=1 is one of the classes"):
        SelectiveClassifier(LogisticRegression(), refer_label=1).fit(X, y)


# -- thresholds ------------------------------------------------------------------------


def test_threshold_is_the_tolerance_bound_of_held_out_patients():
    y, p, patient = make_patients(400)
    rows = np.arange(len(y))
    clf = SensitivityThresholdClassifier(frozen(p), sensitivity=0.9, confidence=0.8)
    clf.fit(rows, y, groups=patient)
    expected = threshold_at_sensitivity(y, p, 0.9, groups=patient, confidence=0.8)
    assert clf.threshold_ == expected
    alone = clf.fit(rows, y).threshold_
    assert alone > expected  # as if each image were a patient
    np.testing.assert_array_equal(clf.predict(rows), (p >= alone).astype(int))


@pytest.mark.parametrize("grouped", [False, True])
def test_target_is_met_with_the_confidence(grouped):
    """Of a thousand new patients each time; some 90 % are promised."""
    images = (3, 3) if grouped else (1, 1)
    met = []
    for seed in range(150):
        y, p, patient = make_patients(1250, seed, images=images)
        rows, held = np.arange(len(y)), patient < 250
        clf = SensitivityThresholdClassifier(frozen(p), sensitivity=0.9, confidence=0.9)
        clf.fit(rows[held], y[held], groups=patient[held] if grouped else None)
        new = rows[~held & (y == 1)]
        met.append(clf.predict(new).mean() >= 0.9)
    # New patients are a sample as well, which blurs a margin of 2 %.
    assert np.mean(met) > 0.84


def test_flipped_labels_need_pos_label_and_flip_the_answer():
    X, y = make_points(1000)
    names = np.array(["malignant", "benign"])[y]  # 1 is benign, as in BreastMNIST
    clf = SensitivityThresholdClassifier(
        LogisticRegression(), sensitivity=0.8, random_state=0
    )
    with pytest.raises(ValueError, match=r"'benign', 'malignant'.*pass it as pos"):
        clf.fit(X, names)
    with pytest.raises(ValueError, match="pos_label='cyst' is not a label of y"):
        clf.set_params(pos_label="cyst").fit(X, names)
    found = {}
    for label in ("benign", "malignant"):
        clf.set_params(pos_label=label).fit(X, names)
        found[label] = np.mean(clf.predict(X)[names == label] == label)
        assert clf.predict_proba(X).shape == (1000, 2)
    assert min(found.values()) > 0.8
    by_number = clf.set_params(pos_label=0).fit(X, y).predict(X) == 0
    by_name = clf.set_params(pos_label="malignant").fit(X, names).predict(X)
    assert (by_number == (by_name == "malignant")).mean() > 0.99


def test_more_than_two_classes_are_an_error():
    X, y = make_classification(300, n_informative=4, n_classes=3, random_state=0)
    with pytest.raises(ValueError, match=r"Only binary.*3 classes, \[0, 1, 2\]"):
        SensitivityThresholdClassifier(LogisticRegression()).fit(X, y)


def test_too_few_positive_cases_are_an_error():
    X, y = make_points(100)
    clf = SensitivityThresholdClassifier(LogisticRegression(), random_state=0)
    with pytest.raises(ValueError, match="positive cases"):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)
