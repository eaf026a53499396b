"""The evaluation report: its figures, what it says aloud, what it refuses."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import KFold, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline

from skmedimg.evaluation import correct_prior, evaluate
from skmedimg.evaluation._checklists import AUTHOR, CLAIM, TRIPOD_AI
from skmedimg.io import ImageSequence
from skmedimg.metrics import (
    aggregate_by_unit,
    calibration_fit,
    roc_auc_ci,
    sensitivity_ci,
    threshold_at_sensitivity,
)

# Ten images are easily ranked without a mistake; bootstrap and calibration say so.
few_images = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.UndefinedMetricWarning"
)


@pytest.fixture
def predictions():
    """Two images of each of 120 lesions, two lesions of each of 60 patients."""
    return make_predictions(0)


def make_predictions(seed, n_patients=60):
    rng = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(2 * n_patients), 2)
    patient = lesion // 2
    y = (rng.random(2 * n_patients) < 0.4).astype(int)[lesion]
    shared = 0.7 * rng.normal(size=n_patients)[patient]
    score = 1 / (1 + np.exp(0.8 - 1.6 * y - shared - rng.normal(size=len(y))))
    return {"y": y, "score": score, "lesion": lesion, "patient": patient}


def report_of(data, **params):
    params = {"unit": data["lesion"], "groups": data["patient"]} | params
    return evaluate(data["score"], y=data["y"], n_bootstrap=200, **params)


def figures(report, of="all"):
    frame = report.to_frame()
    return frame[frame.of == of].set_index("metric")


def bounds(report, metric, of="all"):
    return figures(report, of).loc[metric, ["value", "low", "high"]].to_list()


# -- figures --------------------------------------------------------------------------


def test_the_headline_is_per_unit_and_its_intervals_by_patient(predictions):
    report = report_of(predictions)
    units = aggregate_by_unit(
        predictions["y"],
        predictions["score"],
        predictions["lesion"],
        groups=predictions["patient"],
    )
    area = roc_auc_ci(units.y, units.proba, groups=units.groups)
    assert bounds(report, "AUC") == pytest.approx(area)
    answer = (units.proba >= 0.5).astype(int)
    sensitivity = sensitivity_ci(units.y, answer, groups=units.groups)
    assert bounds(report, "Sensitivity") == pytest.approx(sensitivity)
    slope = calibration_fit(units.y, units.proba, groups=units.groups).slope
    assert bounds(report, "Calibration slope") == pytest.approx(slope)
    rows = figures(report).value
    assert rows["F1 score"] == pytest.approx(f1_score(units.y, answer))
    assert rows["Average precision"] == pytest.approx(
        average_precision_score(units.y, units.proba)
    )
    assert report.summary[0] == "240 images of 120 units of 60 patients."
    assert report.headline[0].metric == "AUC"


def test_positive_class_is_named_and_flipping_it_flips_the_numbers(predictions):
    names = {0: "malignant", 1: "benign"}
    benign = report_of(predictions, class_names=names)
    flipped = predictions | {"score": 1 - predictions["score"]}
    malignant = report_of(flipped, class_names=names, pos_label=0)
    assert "Positive = benign (1)" in benign.summary
    assert "Positive = malignant (0)" in malignant.summary
    assert "positive class was malignant (0)" in malignant.methods_text()
    there, here = figures(benign).value, figures(malignant).value
    assert there["AUC"] == pytest.approx(here["AUC"])
    assert there["Sensitivity"] == pytest.approx(here["Specificity"])
    assert there["Specificity"] == pytest.approx(here["Sensitivity"])
    assert there["Calibration slope"] == pytest.approx(here["Calibration slope"])
    assert there["Intercept-in-the-large"] == pytest.approx(
        -here["Intercept-in-the-large"]
    )
    # The probabilities of the other class as they are say the contrary.
    wrong = report_of(predictions, pos_label=0)
    assert figures(wrong).value["AUC"] == pytest.approx(1 - there["AUC"])


def test_columns_follow_the_classes():
    y = np.array(["benign", "malignant"] * 30)
    score = np.random.default_rng(0).random(60)
    both = np.column_stack([1 - score, score])
    one = figures(evaluate(score, y=y, pos_label="malignant"))
    two = figures(evaluate(both, y=y, pos_label="malignant"))
    swapped = evaluate(
        both[:, ::-1], y=y, pos_label="malignant", classes=["malignant", "benign"]
    )
    assert one.equals(two)
    assert one.equals(figures(swapped))


def test_predictive_values_are_at_the_prevalence_asked_for(predictions):
    rows = figures(report_of(predictions, prevalence=0.02)).value
    sensitivity, specificity = rows["Sensitivity"], rows["Specificity"]
    true, false = 0.02 * sensitivity, 0.98 * (1 - specificity)
    assert rows["PPV at prevalence 0.02"] == pytest.approx(true / (true + false))


def test_every_report_has_a_baseline(predictions):
    n = len(predictions["y"])
    assert figures(report_of(predictions), "Prevalence").value["AUC"] == 0.5
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, 8, 8)) + predictions["y"][:, None, None]
    training = rng.normal(size=(80, 8, 8)) + np.repeat([0, 1], 40)[:, None, None]
    sequence = ImageSequence.from_array(training, groups=np.arange(80) + 50)
    with pytest.warns(UserWarning, match="10 patients are both.*partition Training"):
        report_of(predictions, X=images, baseline=(sequence, np.repeat([0, 1], 40)))
    report = report_of(
        predictions, X=images, baseline=(training, np.repeat([0, 1], 40))
    )
    name = "Logistic regression on pixel statistics"
    assert figures(report, name).value["AUC"] > 0.95
    assert "Training" in report.sections[0].tables[0].frame.Partition.to_list()
    embeddings = images.reshape(n, -1)[:, :5], training.reshape(80, -1)[:, :5]
    report = report_of(
        predictions, X=embeddings[0], baseline=(embeddings[1], np.repeat([0, 1], 40))
    )
    assert figures(report, "Logistic regression on embeddings").value["AUC"] > 0.9


def test_models_are_compared_on_the_same_units(predictions):
    rng = np.random.default_rng(0)
    worse = np.clip(predictions["score"] + 0.3 * rng.normal(size=240), 0, 1)
    same = predictions["score"]
    report = report_of(predictions, compare_with={"worse": worse, "same": same})
    difference = bounds(report, "AUC, difference", "worse")
    assert difference[0] == pytest.approx(
        figures(report).value["AUC"] - figures(report, "worse").value["AUC"]
    )
    assert difference[0] > 0
    assert figures(report, "same").value["AUC, difference"] == 0
    table = report.sections[1].tables[2].frame
    assert (table["p, Holm"] >= table["p"]).all()


def test_subgroups_share_the_threshold_and_small_ones_are_suppressed(predictions):
    site = np.where(predictions["patient"] < 55, "big", "small")
    age = predictions["patient"] + 20.5
    report = report_of(predictions, subgroups={"site": site, "age": age})
    big, small = figures(report, "site: big"), figures(report, "site: small")
    assert not np.isnan(big.value).any()
    assert np.isnan(small.value).all()
    thirds = [of for of in report.to_frame().of.unique() if of.startswith("age")]
    assert thirds == ["age: 20.5 to 39.5", "age: 40.5 to 59.5", "age: 60.5 to 79.5"]
    section = next(s for s in report.sections if s.title == "Subgroups")
    row = section.tables[0].frame.set_index("Subgroup").loc["site: small"]
    assert row["AUC"] == "not shown, < 10"
    assert row["Units"] == "10"


def test_subgroups_of_a_unit_must_agree(predictions):
    image = np.arange(240) % 2
    with pytest.raises(ValueError, match="differs within 120 units"):
        report_of(predictions, subgroups={"view": image})


def test_multiclass():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 60)
    weight = rng.random((180, 3)) + (y[:, None] == ["a", "b", "c"])
    proba = weight / weight.sum(axis=1, keepdims=True)
    report = evaluate(proba, y=y, groups=np.arange(180) // 2, n_bootstrap=100)
    rows = figures(report).value
    each = [roc_auc_score(y == c, p) for c, p in zip("abc", proba.T, strict=True)]
    assert rows["Mean AUC"] == pytest.approx(np.mean(each))
    assert figures(report, "b").value["AUC"] == pytest.approx(each[1])
    right = np.array(list("abc"))[proba.argmax(1)] == y
    assert rows["Accuracy"] == pytest.approx(right.mean())
    recall = figures(report, "c").value["Sensitivity"]
    assert recall == pytest.approx(right[y == "c"].mean())
    other_order = evaluate(
        proba[:, [2, 0, 1]],
        y=y,
        classes=["c", "a", "b"],
        groups=np.arange(180) // 2,
        n_bootstrap=100,
    )
    assert figures(other_order).value["Accuracy"] == rows["Accuracy"]


def test_labels_that_are_not_known_are_left_out():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 2)) < 0.4).astype(float)
    proba = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=y.shape)))
    y[:50, 1] = np.nan
    report = evaluate(proba, y=y, classes=["effusion", "mass"], n_bootstrap=100)
    areas = [
        roc_auc_score(y[:, 0], proba[:, 0]),
        roc_auc_score(y[50:, 1], proba[50:, 1]),
    ]
    assert figures(report, "mass").value["AUC"] == pytest.approx(areas[1])
    assert figures(report).value["Mean AUC"] == pytest.approx(np.mean(areas))


def test_report_is_the_same_twice(predictions):
    first, second = report_of(predictions), report_of(predictions)
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())


# -- what it says aloud ---------------------------------------------------------------


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


# -- what it refuses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"y": [1] * 40}, "one class only"),
        ({"y": None}, "y is None"),
        ({"y": ["a", "b"] * 20}, "pos_label"),
        ({"estimator_or_proba": np.linspace(-3, 3, 40)}, "outside 0 to 1"),
        ({"estimator_or_proba": np.full(40, np.nan)}, "missing or outside"),
        ({"estimator_or_proba": np.full(39, 0.5)}, r"\(39,\).*40 labels"),
        ({"estimator_or_proba": KFold()}, None),
        ({"threshold_from": ([0, 1], [0.1, 0.9])}, "needs target_sensitivity"),
        ({"target_sensitivity": 0.9, "threshold_from": [[0, 1]]}, "has 1 parts"),
        ({"unit": np.arange(39)}, "unit has shape"),
        ({"subgroups": {"site": ["a"]}}, "site.*40 images"),
        ({"baseline": (np.ones((4, 2)), [0, 1, 0, 1])}, "pass those evaluated as X="),
        ({"threshold": 5}, "threshold"),
        ({"level": 95}, "level"),
    ],
)
def test_errors_say_what_was_seen(params, match):
    rng = np.random.default_rng(0)
    params = {"estimator_or_proba": rng.random(40), "y": np.arange(40) % 2} | params
    with pytest.raises((ValueError, TypeError), match=match):
        evaluate(**params)


def test_estimators_that_cannot_be_evaluated():
    from sklearn.exceptions import NotFittedError

    X, y = np.random.default_rng(0).random((40, 2)), np.arange(40) % 2
    with pytest.raises(ValueError, match="no predict_proba"):
        evaluate(RidgeClassifier().fit(X, y), X, y)
    with pytest.raises(NotFittedError):
        evaluate(LogisticRegression(), X, y)
    with pytest.raises(ValueError, match="X is None"):
        evaluate(LogisticRegression().fit(X, y), None, y)


def test_no_torch_for_probabilities():
    code = (
        "import sys, numpy as np; from skmedimg.evaluation import evaluate\n"
        "y = np.arange(60) % 2; p = np.random.default_rng(0).random(60)\n"
        "evaluate(p, y=y, n_bootstrap=50).to_latex()\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- checklists and documents ---------------------------------------------------------


def checklist(report, name):
    section = next(s for s in report.sections if s.title == "Reporting checklists")
    table = next(t for t in section.tables if t.caption == name)
    return table.frame.set_index("Item").Answer


def test_checklists_are_whole_and_nothing_is_invented(predictions):
    assert [item.number for item in CLAIM] == [str(i) for i in range(1, 45)]
    assert len({item.number.rstrip("abcdefg") for item in TRIPOD_AI}) == 27
    assert len({item.number for item in TRIPOD_AI}) == len(TRIPOD_AI) == 52
    report = report_of(predictions)
    claim = checklist(report, "CLAIM 2024")
    # Of probabilities alone, nobody knows the model, nor who was trained on.
    for item in ("7", "20", "22", "24", "25", "36", "44"):
        assert claim[item] == AUTHOR
    assert "patients as clusters" in claim["29"]
    tripod = checklist(report, "TRIPOD+AI")
    assert tripod["13"] == AUTHOR
    assert f"threshold 0.5. {AUTHOR}" in tripod["15"]
    told = report_of(predictions, excluded={"unreadable": 3, "no consent": 0})
    assert "excluded: 3 images" in checklist(told, "CLAIM 2024")["35"]
    assert "Of 243 images, 3 were left out: 3 unreadable." in told.sections[0].sentences


def test_hardest_cases_are_named_and_shown_only_when_asked(predictions):
    X = np.random.default_rng(0).integers(0, 255, (240, 6, 6), dtype=np.uint8)
    names = [f"image {i}" for i in range(240)]
    plain = report_of(predictions, unit=None, names=names, X=X)
    hardest = next(s for s in plain.sections if s.title == "Hardest cases")
    own = np.where(predictions["y"], predictions["score"], 1 - predictions["score"])
    assert hardest.tables[0].frame.Image[0] == f"image {own.argmin()}"
    assert not hardest.plots
    shown = report_of(predictions, X=X, show_images=True)
    hardest = next(s for s in shown.sections if s.title == "Hardest cases")
    assert len(hardest.plots) == 1


def test_plot_leaves_pyplot_alone(predictions):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure = report_of(predictions).plot()
    figure.draw_without_rendering()
    assert len([ax for ax in figure.axes if ax.has_data()]) >= 4
    assert plt.get_fignums() == before


def test_docx_holds_tables_figures_and_alternative_texts(predictions, tmp_path):
    docx = pytest.importorskip("docx")
    report_of(predictions).to_docx(tmp_path / "report.docx")
    document = docx.Document(tmp_path / "report.docx")
    assert len(document.tables) >= 8
    assert len(document.inline_shapes) == 4
    described = [shape._inline.docPr.get("descr") for shape in document.inline_shapes]
    assert all("AUC" in text or len(text) > 20 for text in described)
    cells = [cell.text for table in document.tables for cell in table.columns[0].cells]
    assert "Sensitivity" in cells


def test_docx_names_the_extra_where_python_docx_is_absent(
    predictions, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(ImportError, match=r"skmedimg\[report\]"):
        report_of(predictions).to_docx(tmp_path / "report.docx")


def test_latex_escapes_and_balances(predictions, tmp_path):
    text = report_of(
        predictions, class_names={1: "50 % & more_"}, subgroups={"a_b": ["x"] * 240}
    ).to_latex(tmp_path / "tables.tex")
    assert (tmp_path / "tables.tex").read_text(encoding="utf-8") == text
    assert text.count(r"\begin{tabularx}") == text.count(r"\end{tabularx}") > 5
    assert r"50 \% \& more\_ (1)" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert not any("%" in line.replace(r"\%", "") for line in body)
