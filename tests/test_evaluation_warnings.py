"""What the evaluation report says aloud: what would make its figures lie."""

import re
import warnings

import numpy as np
import pytest
from evaluation_studies import (
    bounds,
    checklist,
    few_images,
    figures,
    make_predictions,
    report_of,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    f1_score,
    make_scorer,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmedimg.evaluation import correct_prior, evaluate
from skmedimg.io import ImageSequence
from skmedimg.metrics import (
    aggregate_by_unit,
    threshold_at_sensitivity,
)
from skmedimg.uncertainty import (
    DeepEnsembleClassifier,
    SensitivityThresholdClassifier,
)


@pytest.fixture
def predictions():
    """Two images of each of 120 lesions, two lesions of each of 60 patients."""
    return make_predictions(0)


def test_threshold_tuned_on_what_is_evaluated_is_said(predictions):
    with pytest.warns(UserWarning, match="chosen on the cases it is evaluated on"):
        report = report_of(predictions, target_sensitivity=0.9)
    assert any("by construction" in text for text in report.warnings)
    units = aggregate_by_unit(
        predictions["y"], predictions["score"], predictions["lesion"]
    )
    with pytest.warns(UserWarning, match="threshold_from are those evaluated"):
        report_of(
            predictions,
            target_sensitivity=0.9,
            threshold_from=(units.y, units.proba),
        )


def test_labels_in_place_of_probabilities_are_said():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    predicted = np.where(rng.random(80) < 0.2, 1 - y, y)
    with (
        pytest.warns(UserWarning, match="as predicted labels are"),
        pytest.warns(UserWarning, match="exactly 0 or 1"),
    ):
        report = evaluate(predicted, y=y, n_bootstrap=100)
    assert any("Pass predict_proba" in text for text in report.warnings)


def test_probabilities_of_the_other_class_are_said(predictions):
    with pytest.warns(
        UserWarning, match=r"below one half.*probabilities of 1, and pos"
    ):
        report_of(predictions, pos_label=0)
    right = predictions | {"score": 1 - predictions["score"]}
    assert not any(
        "below one half" in t for t in report_of(right, pos_label=0).warnings
    )


def test_threshold_of_other_patients_is_its_lower_tolerance_bound(predictions):
    other = make_predictions(1)
    tuning = aggregate_by_unit(
        other["y"], other["score"], other["lesion"], groups=other["patient"] + 1000
    )
    expected = threshold_at_sensitivity(
        tuning.y, tuning.proba, 0.8, groups=tuning.groups
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = report_of(
            predictions,
            target_sensitivity=0.8,
            threshold_from=(tuning.y, tuning.proba, tuning.groups),
        )
    assert f"Threshold {expected:.4g}, the largest" in report.summary[2]
    assert report.warnings == ()
    with pytest.warns(UserWarning, match="60 patients are both.*Tuning of the"):
        report_of(
            predictions,
            target_sensitivity=0.8,
            threshold_from=(tuning.y, tuning.proba, tuning.groups - 1000),
        )


def test_threshold_of_images_is_not_that_of_units(predictions):
    other = make_predictions(1)
    images = other["y"], other["score"], other["patient"] + 1000
    one_a_patient = {
        "unit": predictions["patient"],
        "label": "any",
        "target_sensitivity": 0.8,
    }
    with pytest.warns(UserWarning, match="240 rows of 60 patients.*Pass their units"):
        report_of(predictions, **one_a_patient, threshold_from=images)
    with pytest.raises(ValueError, match="has units, but the cases evaluated are im"):
        report_of(
            predictions,
            unit=None,
            target_sensitivity=0.8,
            threshold_from=(*images, images[2]),
        )


def test_columns_of_threshold_from_are_those_of_the_cases():
    data, other = make_predictions(0), make_predictions(1)
    found = []
    for classes in (["well", "sick"], ["sick", "well"]):
        y, tuned_y = (np.where(d["y"], "sick", "well") for d in (data, other))
        score, tuned = (
            np.column_stack([1 - d["score"], d["score"]])[
                :, :: 1 - 2 * classes.index("well")
            ]
            for d in (data, other)
        )
        report = evaluate(
            score,
            y=y,
            pos_label="sick",
            classes=classes,
            target_sensitivity=0.8,
            threshold_from=(tuned_y, tuned),
            n_bootstrap=50,
        )
        found.append((report.summary[2], *bounds(report, "Sensitivity")))
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["mean", "max"])
def test_images_of_threshold_from_are_joined_as_those_of_the_cases(method):
    data, other = make_predictions(0), make_predictions(1, n_patients=100)
    units = aggregate_by_unit(
        other["y"],
        other["score"],
        other["lesion"],
        method=method,
        groups=other["patient"],
    )
    tuned = [
        report_of(
            data,
            aggregate=method,
            target_sensitivity=0.8,
            threshold_from=threshold_from,
        )
        for threshold_from in (
            (other["y"], other["score"], other["patient"] + 500, other["lesion"]),
            (units.y, units.proba, units.groups + 500),
        )
    ]
    assert tuned[0].summary[2] == tuned[1].summary[2]
    assert bounds(tuned[0], "Sensitivity") == bounds(tuned[1], "Sensitivity")


def test_cases_evaluated_are_known_again_in_another_order(predictions):
    order = np.random.default_rng(0).permutation(len(predictions["y"]))
    again = predictions["y"][order], predictions["score"][order]
    with pytest.warns(UserWarning, match="threshold_from are those evaluated"):
        evaluate(
            predictions["score"],
            y=predictions["y"],
            target_sensitivity=0.5,
            threshold_from=again,
            n_bootstrap=50,
        )


def test_another_threshold_than_the_estimators_is_said():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = rng.normal(size=(80, 2)) + y[:, None]
    tuned = TunedThresholdClassifierCV(LogisticRegression()).fit(X, y)
    own = tuned.best_threshold_
    said = f"The estimator decides at {own:.4g}"
    assert any(said in text for text in evaluate(tuned, X, y).warnings)
    same = evaluate(tuned, X, y, threshold=own)
    assert not any(said in text for text in same.warnings)
    called = same.to_frame().set_index("metric").value["Accuracy"]
    assert called == pytest.approx(tuned.score(X, y))


@pytest.mark.parametrize("pos_label", [0, 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda clf, own: FixedThresholdClassifier(clf, threshold=0.3, pos_label=own),
        lambda clf, own: FixedThresholdClassifier(clf, threshold=0.3),
        lambda clf, own: TunedThresholdClassifierCV(
            clf, scoring=make_scorer(f1_score, pos_label=own)
        ),
        lambda clf, own: SensitivityThresholdClassifier(
            clf, sensitivity=0.8, pos_label=own, random_state=0
        ),
    ],
)
@pytest.mark.parametrize("own", [0, 1])
def test_the_threshold_to_pass_is_that_of_the_positive_class(make, own, pos_label):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 120)
    X = rng.normal(size=(240, 2)) + y[:, None]
    clf = make(LogisticRegression(), own).fit(X, y)
    first = evaluate(clf, X, y, pos_label=pos_label, n_bootstrap=20)
    (said,) = (text for text in first.warnings if "decides at" in text)
    threshold = float(re.search(r"threshold=([\d.]+)", said)[1])
    again = evaluate(
        clf, X, y, pos_label=pos_label, threshold=threshold, n_bootstrap=20
    )
    assert figures(again).value["Accuracy"] == pytest.approx(clf.score(X, y), abs=0.01)


def test_unknown_patients_and_images_of_one_patient_are_said(predictions):
    report = report_of(predictions, unit=None)
    assert any("240 images of 60 patients" in text for text in report.warnings)
    alone = report_of(predictions, unit=None, groups=None)
    assert any("Patients are not known" in text for text in alone.warnings)
    low, high = bounds(report, "AUC")[1:]
    alone_low, alone_high = bounds(alone, "AUC")[1:]
    assert low < alone_low < alone_high < high


@pytest.mark.filterwarnings("ignore:the number of images predicts the label")
def test_a_number_of_images_that_tells_the_label_is_said():
    y = np.repeat([0, 1], 30)
    n_images = np.where(y == 1, 3, 1) + np.arange(60) % 2
    unit = np.repeat(np.arange(60), n_images)
    score = np.random.default_rng(0).random(len(unit))
    report = evaluate(score, y=y[unit], class_names={1: "sick"}, unit=unit)
    assert any("units of 'sick (1)' have 3.5" in text for text in report.warnings)


@few_images
def test_training_images_and_patients_are_said(images, tiny):
    X, y = images
    patients = np.arange(40) // 2
    clf = tiny(max_epochs=5).fit(X[:30], y[:30], groups=patients[:30])
    rest = slice(30, None)
    report = evaluate(clf, X[rest], y[rest], groups=patients[rest])
    assert not any("trained on" in text for text in report.warnings)
    assert "0 of the images" in checklist(report, "CLAIM 2024")["20"]
    sequence = ImageSequence.from_array(X[20:], groups=patients[20:])
    with pytest.warns(UserWarning, match="trained on") as said:
        report = evaluate(clf, sequence, y[20:])
    texts = [str(warning.message) for warning in said]
    assert any("trained on 10 of the 20 images" in text for text in texts)
    assert any("trained on 5 of the patients" in text for text in texts)
    metric = "AUC without training images"
    assert metric in set(report.to_frame().metric)
    titles = [section.title for section in report.sections]
    assert "Training history" in titles
    with pytest.warns(UserWarning, match="trained on 30 of the 30 images"):
        evaluate(make_pipeline(clf), X[:30], y[:30])
    ensemble = DeepEnsembleClassifier(tiny(), n_members=2, random_state=0)
    ensemble.fit(X[:30], y[:30])
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf))
    for outer in (ensemble, calibrated.fit(X[30:], y[30:])):
        with pytest.warns(UserWarning, match="trained on 10 of the 20 images"):
            evaluate(outer, X[20:], y[20:])


@few_images
@pytest.mark.parametrize(
    "around",
    [
        lambda clf: CalibratedClassifierCV(FrozenEstimator(clf), cv=2),
        lambda clf: CalibratedClassifierCV(make_pipeline(clf), cv=2),
        lambda clf: VotingClassifier([("a", make_pipeline(clf))], voting="soft"),
        lambda clf: DeepEnsembleClassifier(clf, n_members=2, random_state=0),
    ],
)
def test_training_images_are_found_within_calibrations_and_ensembles(
    images, tiny, around
):
    X, y = images
    patients = np.arange(40) // 2
    clf = tiny().fit(X[:30], y[:30], groups=patients[:30])
    whole = around(clf).fit(X[:30], y[:30])
    with pytest.warns(UserWarning, match="trained on 30 of the 40 images"):
        evaluate(whole, X, y)


@few_images
@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"class_weight": "balanced"}, "class_weight='balanced'"),
        ({"loss": "focal"}, "loss='focal'"),
        ({"augmentation": "mixup"}, "augmentation__mixup=0.4"),
        ({}, None),
    ],
)
def test_distorted_risks_are_said(images, tiny, params, named):
    from skmedimg.augmentation import Augmentation

    if "augmentation" in params:
        params = {"augmentation": Augmentation(mixup=0.4)}
    X, y = images
    clf = tiny(**params).fit(X[:30], y[:30])
    report = evaluate(clf, X[30:], y[30:], groups=np.arange(10))
    said = [text for text in report.warnings if "are not risks" in text]
    assert len(said) == (named is not None)
    if named is None:
        return
    assert named in said[0]
    assert "correct_prior" in said[0]
    assert named in checklist(report, "TRIPOD+AI")["13"]


def test_calibration_after_class_weights_is_no_distortion():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = rng.normal(size=(80, 2)) + y[:, None]
    weighted = LogisticRegression(class_weight="balanced")
    report = evaluate(weighted.fit(X, y), X, y)
    assert any("class_weight" in text for text in report.warnings)
    report = evaluate(CalibratedClassifierCV(weighted).fit(X, y), X, y)
    assert not any("class_weight" in text for text in report.warnings)
    pipeline = make_pipeline(StandardScaler(), CalibratedClassifierCV(weighted))
    report = evaluate(pipeline.fit(X, y), X, y)
    assert not any("class_weight" in text for text in report.warnings)


@pytest.mark.parametrize(("tried", "chosen"), [(None, "balanced"), ("balanced", None)])
def test_distorted_risks_are_those_of_what_a_search_has_chosen(tried, chosen):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = rng.normal(size=(80, 2)) + y[:, None]
    clf = LogisticRegression(class_weight=tried)
    search = GridSearchCV(clf, {"class_weight": [chosen]}).fit(X, y)
    said = any("class_weight" in text for text in evaluate(search, X, y).warnings)
    assert said == (chosen == "balanced")


def test_prior_correction_undoes_balanced_weights():
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.1).astype(int)
    X = rng.normal(size=(20_000, 1)) + y[:, None]
    plain = LogisticRegression().fit(X, y).predict_proba(X)[:, 1]
    balanced = LogisticRegression(class_weight="balanced").fit(X, y)
    proba = balanced.predict_proba(X)[:, 1]
    corrected = correct_prior(proba, trained_at=0.5, prevalence=y.mean())
    np.testing.assert_allclose(corrected, plain, atol=0.01)
    assert np.array_equal(np.argsort(corrected), np.argsort(proba))
