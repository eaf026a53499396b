"""The command line, and what importing the package loads."""

import csv
import dataclasses
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skmedimg import CNNImageClassifier
from skmedimg._command_predict import _labels
from skmedimg._privacy import find_identifying, pseudonym
from skmedimg.cli import main


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def test_import_is_light():
    code = (
        "import sys, skmedimg; dir(skmedimg); "
        "print({'torch', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_help_needs_no_torch():
    code = (
        "import sys; from skmedimg.cli import main\n"
        "for words in ['--help'], *([c, '-h'] for c in "
        "'demo scan train predict evaluate'.split()):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "research software" in done.stdout.lower()
    assert "open only files you trust" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["train", "x"], "--out"),
        (["train", "x", "--out", "m", "--label", "("], "not a regular expression"),
        (["train", "x", "--out", "m", "--image-size", "0"], "whole number above 0"),
    ],
)
def test_wrong_use(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def archive(write_dicom, tmp_path):
    """Eight slices of four patients, a report, a damaged file and a text."""
    root = tmp_path / "archive"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 60, (16, 16), dtype=np.uint16)
        pixels[4:10, 4:10] += 100 * (i % 2)
        path = write_dicom(
            pixels,
            Modality="CT",
            PatientID=f"MRN{i // 2}77",
            PatientName="Roe^Jane",
            StudyInstanceUID=f"1.2.{i // 2}",
            SeriesInstanceUID=f"1.2.{i // 2}.1",
            PixelSpacing=[0.5, 0.5 + i / 10],
            SliceThickness=5,
            ConvolutionKernel="B20f",
            RescaleIntercept=-1024,
            RescaleSlope=1,
        )
        path.rename(root / f"LESION_{i % 2}_{i}.dcm")
    report = write_dicom(Modality="SR", Rows=None, Columns=None, PixelData=None)
    report.rename(root / "report.dcm")
    (root / "LESION_1_bad.dcm").write_bytes(
        (root / "LESION_0_0.dcm").read_bytes()[:140]
    )
    (root / "notes.txt").write_text("about")
    return root


def test_scan(archive, tmp_path, capsys):
    out = tmp_path / "archive.csv"
    assert main(["scan", str(archive), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "11 files, 8 images of 4 patients, 4 studies, 4 series" in said
    assert "16 x 16 (8)" in said
    assert "0.5 to 1.2 mm" in said
    assert "B20f (8)" in said
    assert "Without pixels: 2 files" in said
    assert "SR: report.dcm" in said
    assert "is not a DICOM file: notes.txt" in said
    assert "LESION_1_bad.dcm" in said
    table = pd.read_csv(out)
    assert len(table) == 11
    assert table.patient.nunique() == 4
    import pydicom

    header = pydicom.dcmread(archive / "LESION_0_0.dcm")
    assert find_identifying(said + out.read_text(), header) == []


def test_scan_of_what_is_no_dicom(folder, tmp_path, capsys):
    assert main(["scan", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "no DICOM file: 18 files" in said
    assert "skmedimg train reads them" in said
    (tmp_path / "empty").mkdir()
    assert main(["scan", str(tmp_path / "empty")]) == 2
    assert "hold no file" in capsys.readouterr().err
    assert main(["scan", str(tmp_path / "gone")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_results_that_cannot_be_written_are_found_out_first(archive, tmp_path, capsys):
    for out in (tmp_path / "gone" / "a.csv", tmp_path):
        assert main(["scan", str(archive), "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert "--out" in captured.err
        assert captured.out == ""


def test_closed_pipe_ends_quietly(archive):
    code = (
        "import sys; from skmedimg.cli import main\n"
        f"sys.exit(main(['scan', {str(archive)!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert said == b""


def test_scan_needs_no_torch(archive):
    done = run(
        "import sys; from skmedimg.cli import main\n"
        f"main(['scan', {str(archive)!r}])\n"
        "assert 'torch' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_interrupt_ends_quietly(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmedimg._command_scan.run_scan", interrupted)
    assert main(["scan", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "skmedimg: interrupted\n"


def make_images(root):
    """Eighteen images of nine patients: twelve to learn from, six to test."""
    rng = np.random.default_rng(0)
    for i in range(18):
        part, kind = ("test" if i > 11 else "train"), ("healthy", "sick")[i % 2]
        pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
        pixels[4:12, 4:12] += 150 * (i % 2)
        path = root / part / kind / f"MRN{i // 2}77_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def folder(tmp_path):
    return make_images(tmp_path / "xrays")


SMALL = ["--image-size", "16", "--epochs", "12"]
PATIENT = ["--patient", r"(MRN\d+)_"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model, and what was said while it was trained."""
    import contextlib

    place = tmp_path_factory.mktemp("trained")
    root = make_images(place / "xrays")
    out, said = place / "model.joblib", io.StringIO()
    words = ["train", str(root), *PATIENT, "--image-size", "16", "16"]
    words += ["--epochs", "60", "--cv", "2", "--no-cache"]
    with contextlib.redirect_stdout(said):
        assert main([*words, "--out", str(out)]) == 0
    return root, out, said.getvalue()


def test_train_on_folders(trained):
    _, out, said = trained
    assert "12 images to learn from, 16 x 16, uint8: healthy 6, sick 6" in said
    assert "Patients: 6" in said
    assert "6 images for testing" in said
    assert "AUC, 2 folds with patients kept apart: " in said
    held_out = float(said.split("Held-out AUC: ")[1].split(",")[0])
    assert held_out == 1
    assert "over patients" in said
    assert f"Model: {out}" in said
    assert {path.name for path in out.parent.iterdir()} == {"xrays", "model.joblib"}


def written(text):
    """As Python and as NumPy write it."""
    return text.encode(), text.encode("utf-32-le")


def test_model_file_holds_neither_images_nor_patients(trained):
    root, out, _ = trained
    content = out.read_bytes()
    assert written("healthy")[1] in content  # not compressed: a search finds things
    for path in root.rglob("*.png"):
        patient = path.name.partition("_")[0]
        pixels = np.asarray(Image.open(path))
        for secret in (path.name, patient, pseudonym(patient), str(root)):
            assert not any(form in content for form in written(secret))
        for dtype in (np.uint8, np.float32, np.float64):
            assert pixels[0].astype(dtype).tobytes() not in content


def test_model_predicts_from_file_names_in_python(trained):
    root, out, _ = trained
    paths = sorted((root / "test").rglob("*.png"))
    labels = [path.parent.name for path in paths]
    assert joblib.load(out).score(paths, labels) == 1


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_writes_csv(trained, tmp_path, capsys):
    root, model, _ = trained
    assert main(["predict", str(model), str(root / "test")]) == 0
    captured = capsys.readouterr()
    rows = rows_of(captured.out)
    assert list(rows[0]) == [
        "path",
        "prediction",
        "probability_healthy",
        "probability_sick",
        "error",
    ]
    assert len(rows) == 6
    assert rows[0]["path"] == "healthy/MRN677_12.png"
    for row in rows:
        assert row["prediction"] == row["path"].partition("/")[0]
        total = float(row["probability_healthy"]) + float(row["probability_sick"])
        assert total == pytest.approx(1, abs=1e-5)
        assert row["error"] == ""
    assert "files: 6" in captured.err
    out = tmp_path / "out.csv"
    assert main(["predict", str(model), str(root / "test"), "--out", str(out)]) == 0
    assert out.read_text() == captured.out
    assert capsys.readouterr().out == ""


def test_predict_files_and_folders(trained, capsys):
    root, model, _ = trained
    file = root / "test" / "sick" / "MRN677_13.png"
    words = [str(file), str(root / "test" / "healthy"), str(file)]
    assert main(["predict", str(model), *words]) == 0
    paths = [row["path"] for row in rows_of(capsys.readouterr().out)]
    assert paths[:2] == ["sick/MRN677_13.png", "healthy/MRN677_12.png"]
    assert paths[-1] == paths[0]
    assert len(paths) == 5  # as often as given


def test_predict_runs_the_network_once_and_warns_once(
    trained, tmp_path, capsys, monkeypatch
):
    root, model, _ = trained
    calls = []
    original = CNNImageClassifier._logits

    def counted(self, X):
        calls.append(len(X))
        return original(self, X)

    monkeypatch.setattr(CNNImageClassifier, "_logits", counted)
    monkeypatch.setattr("skmedimg._command_predict._BATCH", 2)
    assert main(["predict", str(model), str(root / "test")]) == 0
    assert calls == [2, 2, 2]
    capsys.readouterr()
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.full((16, 16), 9000.0 + i) + np.eye(16) * i)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["predict", str(model), *map(str, tmp_path.glob("*.npy"))]) == 0
    assert capsys.readouterr().err.count("X has values from") == 1


@pytest.mark.parametrize("classes", ["ab", "abc"])
def test_predict_and_probabilities_agree_in_ties(trained, classes):
    _, model, _ = trained
    rest = joblib.load(model)[1:]
    clf, logits = rest[-1], np.array([[1e-20], [-1e-20], [0], [3], [-3]], np.float32)
    if len(classes) == 3:
        clf._encoding = dataclasses.replace(clf._encoding, classes=np.array(["x"] * 3))
        logits = np.array([[1, 1, 0], [0, 1, 1], [2, 1, 0]], np.float32)
    clf.classes_ = np.array(list(classes))
    clf._logits = lambda X: logits[X]
    X = np.arange(len(logits))
    found = _labels(rest, X, rest.predict_proba(X))
    assert found.tolist() == rest.predict(X).tolist()


def test_predict_lists_files_that_cannot_be_read(trained, tmp_path, capsys):
    root, model, _ = trained
    good = (root / "test" / "sick" / "MRN677_13.png").read_bytes()
    place = tmp_path / "new"
    place.mkdir()
    (place / "good.png").write_bytes(good)
    (place / "bad.png").write_bytes(b"damaged")
    np.save(place / "nan.npy", np.full((16, 16), np.nan))
    (place / "notes.txt").write_text("about")
    assert main(["predict", str(model), str(place)]) == 0
    captured = capsys.readouterr()
    rows = {row["path"]: row for row in rows_of(captured.out)}
    assert set(rows) == {"good.png", "bad.png", "nan.npy"}
    assert rows["good.png"]["prediction"] == "sick"
    assert rows["bad.png"]["error"].startswith("is none of DICOM")
    assert "not finite" in rows["nan.npy"]["error"]
    assert rows["bad.png"]["probability_sick"] == ""
    assert "of which 2 could not be read" in captured.err
    assert main(["predict", str(model), str(place), "--strict"]) == 1
    assert main(["predict", str(model), str(place / "bad.png")]) == 1
    capsys.readouterr()
    out = tmp_path / "out.csv"
    words = ["predict", str(model), str(place), "--on-error", "raise"]
    assert main([*words, "--out", str(out)]) == 2
    assert "bad.png: is none of" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]  # no half a table


def test_csv_may_go_to_a_device(trained, capsys):
    root, model, _ = trained
    assert main(["predict", str(model), str(root / "test"), "--out", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


def test_predict_with_what_is_no_model(trained, tmp_path, capsys):
    root, model, _ = trained
    other = tmp_path / "other.joblib"
    joblib.dump({"a": 1}, other)
    text = tmp_path / "text.joblib"
    text.write_text("no model")
    for path, said in (
        (other, "holds a dict"),
        (text, "cannot be opened as a model"),
        (tmp_path / "gone", "No such file"),
    ):
        assert main(["predict", str(path), str(root)]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    for path, said in (
        (tmp_path / "gone.png", "no file or folder"),
        (tmp_path / "empty", "no image"),
    ):
        assert main(["predict", str(model), str(path)]) == 2
        assert said in capsys.readouterr().err


def test_train_and_predict_dicom(archive, tmp_path, capsys):
    model = tmp_path / "model.joblib"
    train = ["train", str(archive), "--label", r"LESION_(\d)", "--out", str(model)]
    train += [*SMALL, "--cv", "2", "--window", "-974", "200"]
    assert main(train) == 2
    assert "LESION_1_bad.dcm" in capsys.readouterr().err
    assert main([*train, "--on-error", "skip"]) == 0
    captured = capsys.readouterr()
    assert "left out: LESION_1_bad.dcm" in captured.err
    assert "8 images to learn from" in captured.out
    assert "Patients: 4" in captured.out
    assert "MRN" not in captured.out + captured.err
    assert b"MRN" not in model.read_bytes()
    assert main(["predict", str(model), str(archive)]) == 0
    rows = {row["path"]: row for row in rows_of(capsys.readouterr().out)}
    assert rows["LESION_1_1.dcm"]["prediction"] in "01"
    assert rows["report.dcm"]["error"]
    assert rows["LESION_1_bad.dcm"]["error"]


@pytest.mark.filterwarnings("ignore:.*different scales")
def test_class_folders_of_dicom_keep_the_patients_of_headers(archive, tmp_path, capsys):
    root = tmp_path / "classes"
    for i in range(8):
        target = root / "ab"[i % 2] / f"{i}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        (archive / f"LESION_{i % 2}_{i}.dcm").rename(target)
    words = ["train", str(root), "--out", str(tmp_path / "m"), "--cv", "2"]
    words += ["--image-size", "8", "8", "--epochs", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "those of the DICOM headers" in said
    assert "Patients: 4" in said
    assert "2 folds with patients kept apart" in said
    assert main([*words, "--patient", r"\d\.dcm"]) == 0
    assert "Patients: 8" in capsys.readouterr().out
    Image.new("L", (8, 8)).save(root / "a" / "x.png")
    assert main([*words[:-2], "--epochs", "1", "--cv", "0"]) == 0
    captured = capsys.readouterr()
    assert "1 of 9 files are no DICOM or name none" in captured.err
    assert "is not known" in captured.out


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_train_on_a_table(folder, tmp_path, capsys, kind):
    paths = sorted(folder.rglob("*.png"))
    table = pd.DataFrame(
        {
            "file": [path.name for path in paths],
            "finding": [int(path.parent.name == "sick") for path in paths],
            "patient": [path.name.partition("_")[0] for path in paths],
            "part": ["Test" if "test" in path.parts else "train" for path in paths],
        }
    )
    source = folder / f"findings.{kind}"
    if kind == "csv":
        table.to_csv(source, index=False)
    else:
        pytest.importorskip("openpyxl")
        table.to_excel(source, index=False)
    model = tmp_path / "model.joblib"
    words = ["train", str(source), "--out", str(model), *SMALL, "--cv", "0"]
    words += ["--path-column", "file", "--label-column", "finding"]
    words += ["--patient-column", "patient", "--split-column", "part"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "12 images to learn from, 16 x 16, uint8: 0 6, 1 6" in said
    assert "6 images for testing" in said
    assert "Cross-validated" not in said
    assert joblib.load(model).predict(paths[:1]).tolist() in (["0"], ["1"])


def test_train_on_volumes(tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel")
    for i in range(6):
        array = np.full((4 + i, 5, 6), 100 * (i % 2), np.int16)
        array[0] += np.arange(30, dtype=np.int16).reshape(5, 6) + i
        path = tmp_path / "volumes" / f"c{i % 2}_{i}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)
    words = ["train", str(tmp_path / "volumes"), "--label", r"c(\d)_", "--epochs", "1"]
    words += ["--out", str(tmp_path / "model.joblib"), "--cv", "0"]
    assert main([*words, "--image-size", "9"]) == 0
    said = capsys.readouterr().out
    assert "6 images to learn from, 9 x 9 x 9" in said
    assert "is not known" in said  # whose images they are
    assert main([*words, "--image-size", "9", "9"]) == 2
    assert "has 3 spatial axes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cv", "7"], "class 'healthy' has 6 patients"),
        (["--cv", "1"], "two folds or more"),
        (["--label-column", "a"], "--label-column is for a table"),
        (["--window", "lung"], "is for CT in Hounsfield units"),
        (["--window", "1", "2", "3"], "centre and width"),
        (["--patient", "Q"], "finds nothing for 18 of 18"),
    ],
)
def test_train_refuses_before_it_trains(folder, tmp_path, capsys, words, said):
    common = ["train", str(folder), "--out", str(tmp_path / "m"), *PATIENT, *SMALL]
    assert main([*common, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_train_on_what_it_cannot_take(folder, tmp_path, capsys):
    pixels = next((folder / "test").rglob("*.png"))
    table = folder / "table.csv"
    table.write_text("file,score\nMRN077_0.png,0.5\nMRN077_1.png,0.7\n")
    named = ["--path-column", "file", "--label-column"]
    for source, words, said in (
        (tmp_path / "gone", [], "there is no folder or table"),
        (pixels, [], "is neither a folder nor"),
        (pixels.parent, [], "has no folders, one for each class"),
        (table, [], "name its --path-column"),
        (table, ["--label", "a", *named, "file"], "--label is for a folder"),
        (table, [*named, "score"], "train learns classes"),
        (table, [*named, "x"], "no column 'x'"),
        (table, [*named, "file", "--split-column", "file"], "should say train"),
    ):
        out = ["--out", str(tmp_path / "m"), "--image-size", "8", "8"]
        assert main(["train", str(source), *out, *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("labels", ["0.0 1.0", "0 1"])
def test_whole_numbers_are_classes(folder, tmp_path, capsys, labels):
    paths = sorted((folder / "train").rglob("*.png"))
    rows = [f"{p.name},{labels.split()[p.parent.name == 'sick']}" for p in paths]
    table = folder / "t.csv"
    words = ["train", str(table), "--out", str(tmp_path / "m"), "--cv", "0"]
    words += ["--path-column", "file", "--label-column", "y", "--image-size", "8"]
    words += ["--epochs", "1"]
    table.write_text("file,y\n" + "\n".join(rows) + "\n")
    assert main(words) == 0
    assert "0 6, 1 6" in capsys.readouterr().out
    table.write_text("file,y\n" + "\n".join([*rows, f"{paths[0].name},"]) + "\n")
    assert main(words) == 2
    assert "frame" not in capsys.readouterr().err


def test_messages_name_options_and_paths_below_the_folder(folder, tmp_path, capsys):
    words = ["train", str(folder), "--out", str(tmp_path / "m"), *PATIENT]
    assert main([*words, "--window", "lung"]) == 2
    said = capsys.readouterr().err
    assert "test/healthy/MRN677_12.png: --window lung is for CT" in said
    assert "--window -600 1500" in said
    assert main([*words, "--image-size", "9", "9", "9"]) == 2
    said = capsys.readouterr().err
    assert "--image-size 9 9 9 has 3 entries" in said
    assert "--on-error skip leaves" in said
    assert main([*words[:-1], "header"]) == 2
    assert "--patient header" in capsys.readouterr().err
    assert main([*words[:-1], r"(Q\d+)"]) == 2
    assert r"--patient '(Q\d+)' finds nothing" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_test_images_of_known_patients_are_told(folder, tmp_path, capsys):
    words = ["--patient", "(MRN)", "--cv", "0", "--image-size", "9", "9"]
    out = ["--out", str(tmp_path / "m"), "--epochs", "1"]
    assert main(["train", str(folder), *words, *out]) == 0
    said = capsys.readouterr().err
    assert "skmedimg: warning: 1 of the 1 patients" in said
