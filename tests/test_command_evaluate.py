"""``skmedimg evaluate``: a table in, a report out."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skmedimg.cli import main
from skmedimg.evaluation import evaluate


def make_table(seed=0, first_patient=0):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(80), 2) + first_patient
    y = (rng.random(80) < 0.4).astype(int)[patient - first_patient]
    score = 1 / (1 + np.exp(1 - 2 * y - rng.normal(size=160)))
    return pd.DataFrame(
        {
            "label": np.where(y == 1, "malignant", "benign"),
            "score": score,
            "other": np.clip(score + 0.1 * rng.normal(size=160), 0, 1),
            "id": [f"{p:05d}" for p in patient],
            "hospital": np.where(patient % 2, "north", "south"),
        }
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "predictions.csv"
    make_table().to_csv(path, index=False)
    return path


def words(table, **options):
    options = {"y": "label", "p": "score", "positive": "malignant"} | options
    return [
        "evaluate",
        str(table),
        *(str(w) for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v)),
    ]


def test_report_of_a_table(table, tmp_path, capsys):
    out = {kind: tmp_path / f"report.{kind}" for kind in ("html", "docx", "latex")}
    figures = tmp_path / "figures.csv"
    columns = {"patient": "id", "unit": "id", "site": "hospital", "compare": "other"}
    assert main(words(table, **columns, **out, csv=figures)) == 0
    said = capsys.readouterr().out
    assert "160 images of 80 units of 80 patients." in said
    assert "Positive = malignant" in said
    assert all(path.stat().st_size > 1000 for path in out.values())
    frame = pd.read_csv(figures)
    data = make_table()
    expected = evaluate(
        data.score,
        y=data.label,
        pos_label="malignant",
        unit=data.id,
        groups=data.id,
    ).to_frame()
    area = expected[(expected.metric == "AUC") & (expected.of == "all")]
    own = frame[(frame.metric == "AUC") & (frame.of == "all")]
    np.testing.assert_allclose(
        own[["value", "low", "high"]], area[["value", "low", "high"]]
    )
    assert {"hospital: north", "hospital: south", "other"} <= set(frame.of)


def test_it_needs_no_torch(table, tmp_path):
    code = (
        "import sys; from skmedimg.cli import main\n"
        f"assert main({[*words(table, html=tmp_path / 'r.html')]!r}) == 0\n"
        "assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").exists()


def test_rows_without_label_or_score_are_left_out_and_counted(tmp_path, capsys):
    data = make_table()
    data["label"] = data["label"].astype(object)
    data.loc[:3, "label"] = None
    data.loc[10, "score"] = np.nan
    data.to_csv(tmp_path / "gaps.csv", index=False)
    out = tmp_path / "report.html"
    assert main(words(tmp_path / "gaps.csv", html=out)) == 0
    text = out.read_text(encoding="utf-8")
    assert "Of 160 images, 5 were left out: 5 without a label or a probability." in text


def test_numbers_as_a_german_spreadsheet_writes_them(tmp_path, capsys):
    data = make_table()
    data.to_csv(tmp_path / "de.csv", index=False, sep=";", decimal=",")
    data.to_csv(tmp_path / "en.csv", index=False)
    said = []
    for name in ("de.csv", "en.csv"):
        assert main(words(tmp_path / name)) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.filterwarnings("default:The threshold was chosen")
def test_threshold_of_other_patients(table, tmp_path, capsys):
    make_table(1, first_patient=500).to_csv(tmp_path / "tuning.csv", index=False)
    options = {"target_sensitivity": 0.8, "patient": "id"}
    assert main(words(table, **options, threshold_from=tmp_path / "tuning.csv")) == 0
    captured = capsys.readouterr()
    assert "with a sensitivity of 0.8 or more at 95 % confidence" in captured.out
    assert captured.err == ""
    assert main(words(table, **options)) == 0
    captured = capsys.readouterr()
    assert "Choose it on other patients, --threshold-from" in captured.err


def test_several_classes_and_several_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 40)
    weight = rng.random((120, 3)) + (y[:, None] == ["a", "b", "c"])
    data = pd.DataFrame(weight / weight.sum(1, keepdims=True))
    data.columns = columns = ["probability_a", "probability_b", "probability_c"]
    data.insert(0, "label", y)
    data.to_csv(tmp_path / "classes.csv", index=False)
    path = str(tmp_path / "classes.csv")
    assert main(["evaluate", path, "--y", "label", "--p", *columns]) == 0
    assert "Classes: a, b, c." in capsys.readouterr().out
    labels = pd.DataFrame(
        {"effusion": rng.integers(2, size=80), "mass": rng.integers(2, size=80)}
    ).astype(object)
    labels.loc[:5, "mass"] = None
    labels["p1"], labels["p2"] = rng.random(80), rng.random(80)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    names = "--y effusion mass --p p1 p2".split()
    assert main(["evaluate", str(tmp_path / "labels.csv"), *names]) == 0
    assert "Labels: effusion, mass." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"y": "truth"}, "no column 'truth'"),
        ({"patient": "who"}, "no column 'who'"),
        ({"p": "hospital"}, "holds 'south', which is no number"),
        ({"positive": "odd"}, "--positive odd is not a label"),
        ({"html": "/nowhere/report.html"}, "--html"),
        ({"prevalence": 2}, "prevalence"),
    ],
)
def test_what_cannot_be_used_is_said(table, capsys, options, said):
    assert main(words(table, **options)) == 2
    assert said in capsys.readouterr().err


def test_positive_class_must_be_named(table, capsys):
    assert main(["evaluate", str(table), "--y", "label", "--p", "score"]) == 2
    assert "pass it as --positive" in capsys.readouterr().err
    assert main(["evaluate", "gone.csv", "--y", "label", "--p", "score"]) == 2
    assert "gone.csv" in capsys.readouterr().err
