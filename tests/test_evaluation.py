"""The evaluation report: its figures, what it refuses, its documents."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from evaluation_studies import (
    bounds,
    checklist,
    few_images,
    figures,
    make_predictions,
    report_of,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    roc_auc_score,
)
from sklearn.model_selection import (
    KFold,
)

from skmedimg.evaluation import evaluate
from skmedimg.evaluation._cases import as_subgroups
from skmedimg.io import ImageSequence
from skmedimg.metrics import (
    aggregate_by_unit,
    calibration_fit,
    roc_auc_ci,
    sensitivity_ci,
)


@pytest.fixture
def predictions():
    """Two images of each of 120 lesions, two lesions of each of 60 patients."""
    return make_predictions(0)


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


@pytest.mark.filterwarnings("ignore:The AUC is .*, below one half")
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


@few_images
@pytest.mark.filterwarnings("ignore:the number of images predicts")
@pytest.mark.parametrize("method", ["mean", "noisy-or"])
def test_the_prevalence_is_that_of_the_cases(method):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3 == 0
    unit = np.repeat(np.arange(60), np.where(y, 3, 2))
    # The first image of a lesion has the probability, the others none.
    score = np.where(np.diff(unit, prepend=-1) > 0, rng.random(len(unit)), 0)
    report = evaluate(
        score, y=y[unit].astype(int), unit=unit, aggregate=method, n_bootstrap=50
    )
    guessed = figures(report, "Prevalence").value
    assert guessed["AUC"] == 0.5
    assert guessed["Brier score"] == pytest.approx(y.mean() * (1 - y.mean()))


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


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.arange(90), ["0 to 29", "30 to 59", "60 to 89"]),
        (np.r_[np.zeros(70), np.arange(20)], ["0", "1 to 19"]),
        (np.r_[np.arange(20), np.full(70, 99)], ["0 to 19", "99"]),
        (pd.array([*range(89), None], dtype="Int64"), [
            "0 to 29", "30 to 58", "59 to 88", "not known",
        ]),
        (pd.date_range("2020-01-01", periods=90), [
            "2020-01-01 to 2020-01-30",
            "2020-01-31 to 2020-02-29",
            "2020-03-01 to 2020-03-30",
        ]),
        (
            pd.Series(["low", "high"] * 45, index=np.arange(90)[::-1]).astype(
                pd.CategoricalDtype(["low", "high"], ordered=True)
            ),
            ["low", "high"],
        ),
    ],
)  # fmt: skip
def test_levels_of_subgroups(values, levels):
    table = as_subgroups({"x": values}, 90)
    assert table["x"].cat.categories.to_list() == levels


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


def test_rounded_probabilities_of_classes_are_no_complaint():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1], size=60)
    y = np.arange(60) % 3
    exact, rounded = (evaluate(p, y=y, n_bootstrap=50) for p in (proba, proba.round(3)))
    for metric in ("Log loss", "Brier score"):
        assert figures(rounded).value[metric] == pytest.approx(
            figures(exact).value[metric], rel=0.02
        )


def test_identifiers_are_no_subgroups():
    names = [f"P{i}" for i in range(100)]
    with pytest.raises(ValueError, match=r"100 levels.*in the report"):
        as_subgroups({"patient": names}, 100)


def test_labels_that_are_not_known_are_left_out():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 2)) < 0.4).astype(float)
    proba = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=y.shape)))
    y[:50, 1] = np.nan
    report = evaluate(
        proba,
        y=y,
        classes=["effusion", "mass"],
        subgroups={"site": np.arange(200) % 2},
        n_bootstrap=100,
    )
    n = int(np.nansum(y[:, 1]))
    row = report.sections[0].tables[0].frame.iloc[0]
    assert row["mass"] == f"{n} ({n / 150:.1%})"
    # Nothing refers to a section that is not there.
    titles = {section.title for section in report.sections}
    assert "Hardest cases" not in titles
    said = " ".join(checklist(report, "TRIPOD+AI")) + report.methods_text()
    said += " ".join(checklist(report, "CLAIM 2024"))
    assert "Hardest cases" not in said
    areas = [
        roc_auc_score(y[:, 0], proba[:, 0]),
        roc_auc_score(y[50:, 1], proba[50:, 1]),
    ]
    assert figures(report, "mass").value["AUC"] == pytest.approx(areas[1])
    assert figures(report).value["Mean AUC"] == pytest.approx(np.mean(areas))


def test_subgroups_of_several_labels_are_those_of_each_label():
    rng = np.random.default_rng(0)
    y = (rng.random((240, 2)) < [0.4, 0.1]).astype(float)
    proba = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=y.shape)))
    y[:50, 0] = np.nan
    site, patient = np.arange(240) % 4 // 3, np.arange(240) // 2
    report = evaluate(
        proba,
        y=y,
        classes=["effusion", "mass"],
        subgroups={"site": site},
        groups=patient,
        n_bootstrap=100,
    )
    known = ~np.isnan(y[:, 0]) & (site == 1)
    of, alone = "effusion, site: 1", y[known, 0].astype(int)
    area = roc_auc_ci(alone, proba[known, 0], groups=patient[known])
    assert bounds(report, "AUC", of) == pytest.approx(area)
    called = (proba[known, 0] >= 0.5).astype(int)
    sensitivity = sensitivity_ci(alone, called, groups=patient[known])
    assert bounds(report, "Sensitivity", of) == pytest.approx(sensitivity)
    # Of the rare label one site has too few cases.
    assert 0 < y[site == 1, 1].sum() < 10 <= y[site == 0, 1].sum()
    assert np.isnan(bounds(report, "AUC", "mass, site: 1")).all()
    assert np.isfinite(bounds(report, "AUC", "mass, site: 0")).all()
    section = next(s for s in report.sections if s.title == "Subgroups")
    mass = next(t for t in section.tables if t.caption.startswith("mass"))
    assert mass.frame.AUC[1] == "not shown, < 10"
    assert "subgroups by site" in checklist(report, "TRIPOD+AI")["23a"]


def test_report_is_the_same_twice(predictions):
    first, second = report_of(predictions), report_of(predictions)
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())


# -- what it refuses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"y": [1] * 40}, "one class only"),
        ({"X": np.arange(40) % 2, "y": None}, r"y is None.*evaluate\(proba, y=y\)"),
        ({"estimator_or_proba": ["a", "b"] * 20}, "holds text such as 'a'"),
        ({"y": ["a", "b"] * 20}, "pos_label"),
        ({"estimator_or_proba": np.linspace(-3, 3, 40)}, "outside 0 to 1"),
        ({"estimator_or_proba": np.full(40, np.nan)}, "missing or outside"),
        ({"estimator_or_proba": np.full(39, 0.5)}, r"\(39,\).*40 labels"),
        ({"estimator_or_proba": KFold()}, None),
        ({"threshold_from": ([0, 1], [0.1, 0.9])}, "needs target_sensitivity"),
        ({"target_sensitivity": 0.9, "threshold_from": [[0, 1]]}, "has 1 parts"),
        ({"target_sensitivity": 0.9, "threshold_from": [[0]] * 5}, "has 5 parts"),
        ({"unit": np.arange(39)}, "unit has shape"),
        ({"subgroups": {"site": ["a"]}}, "site.*40 images"),
        ({"y": np.linspace(0, 1, 40)}, "labels and probabilities swapped"),
        ({"class_names": {"1": "sick"}}, "class_names names '1'"),
        ({"y": np.arange(40) % 3}, r"3 classes \(0, 1, 2\) need"),
        (
            {"y": np.arange(40) % 3, "estimator_or_proba": np.full((40, 3), 0.5)},
            "sum to 1.5, not to 1",
        ),
        (
            {
                "y": np.eye(2)[[0, 1] * 20],
                "estimator_or_proba": np.ones((40, 2)),
                "pos_label": 1,
            },
            "leave it out",
        ),
        ({"compare_with": {"Prevalence": np.full(40, 0.5)}}, "another name"),
        ({"baseline": (np.ones((4, 2)), [0, 1, 0, 1])}, "pass those evaluated as X="),
        ({"y": np.arange(40) % 3, "classes": [0, 1]}, "y holds 2, and the classes"),
        (
            {"y": 2 * np.eye(2)[[0, 1] * 20], "estimator_or_proba": np.ones((40, 2))},
            "y holds 2: a column of y",
        ),
        (
            {
                "y": np.column_stack([[0, 1] * 20, np.full(40, np.nan)]),
                "estimator_or_proba": np.ones((40, 2)),
                "classes": ["mass", "effusion"],
            },
            "'effusion' is present in 0 images and absent in 0",
        ),
        ({"unit": np.arange(40) // 2, "label": "any"}, "all 20 units are of one class"),
        (
            {
                "target_sensitivity": 0.9,
                "threshold_from": ([0, 1] * 5, np.linspace(0, 1, 10)),
            },
            "threshold_from= and .* gave no threshold: the labels hold the worth of 5",
        ),
        ({"threshold": 5}, "threshold"),
        ({"level": 95}, "level"),
    ],
)
def test_errors_say_what_was_seen(params, match):
    rng = np.random.default_rng(0)
    params = {"estimator_or_proba": rng.random(40), "y": np.arange(40) % 2} | params
    with pytest.raises((ValueError, TypeError), match=match) as raised:
        evaluate(**params)
    # Names of arguments that evaluate does not have.
    assert not re.search("y_true|y_score|y_prob", str(raised.value))


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


# -- documents ------------------------------------------------------------------------


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


def test_docx_holds_what_xml_cannot(predictions, tmp_path):
    docx = pytest.importorskip("docx")
    n = len(predictions["y"])
    report = evaluate(
        predictions["score"], y=predictions["y"], names=["a\x0bb"] * n, n_bootstrap=50
    )
    report.to_docx(tmp_path / "report.docx")
    cells = [
        cell.text
        for table in docx.Document(tmp_path / "report.docx").tables
        for cell in table.columns[0].cells
    ]
    assert "a\ufffdb" in cells


def test_docx_names_the_extra_where_python_docx_is_absent(
    predictions, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "docx", None)
    with pytest.raises(ImportError, match=r"skmedimg\[report\]"):
        report_of(predictions).to_docx(tmp_path / "report.docx")


@pytest.mark.parametrize("name", ["[18, 45)", "*"])
def test_latex_rows_begin_with_no_argument(predictions, name):
    score = predictions["score"]
    text = report_of(predictions, compare_with={name: score**2}).to_latex()
    assert rf"{{}}{name} & " in text
    assert not re.search(r"^[\[*]", text, flags=re.MULTILINE)


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="pdflatex is not installed (texlive-latex-base, texlive-latex-recommended)",
)
def test_latex_compiles_whatever_the_names(predictions, tmp_path):
    site = np.where(predictions["lesion"] % 2, "*≤ 50 % – ±3 µm", '[a|b] > 5 °C, "é"')
    tables = report_of(
        predictions,
        class_names={0: "be#nign~^\\{}$", 1: "malignant_50% & more −"},
        subgroups={"site_no & %": site},
        compare_with={"rival_1 & co": predictions["score"] ** 2},
        excluded={"un_readable, 5 %": 3},
    ).to_latex()
    preamble = r"\documentclass{article}\usepackage{booktabs,longtable,tabularx}"
    text = rf"{preamble}\begin{{document}}{tables}\end{{document}}"
    (tmp_path / "report.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_latex_escapes_and_balances(predictions, tmp_path):
    text = report_of(
        predictions, class_names={1: "50 % & more_"}, subgroups={"a_b": ["x"] * 240}
    ).to_latex(tmp_path / "tables.tex")
    assert (tmp_path / "tables.tex").read_text(encoding="utf-8") == text
    assert text.count(r"\begin{tabularx}") == text.count(r"\end{tabularx}") > 5
    assert r"50 \% \& more\_ (1)" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert not any("%" in line.replace(r"\%", "") for line in body)
