"""The command line, and what importing the package loads."""

import subprocess
import sys

import numpy as np
import pytest

from skmedimg.cli import main


def test_import_is_light():
    code = (
        "import sys, skmedimg; dir(skmedimg); "
        "print({'torch', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_help_needs_no_torch():
    code = (
        "import sys; from skmedimg.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_demo_names_a_missing_file(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path / "gone.npz")]) == 2
    assert "gone.npz: there is no such file" in capsys.readouterr().err


def test_demo_says_what_a_foreign_file_holds(tmp_path, capsys):
    np.savez(tmp_path / "other.npz", pixels=np.zeros((2, 8, 8)))
    assert main(["demo", "--data", str(tmp_path / "other.npz")]) == 2
    assert "['pixels']" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["text.npz", "array.npy"])
def test_demo_on_what_is_no_archive(tmp_path, capsys, file):
    path = tmp_path / file
    if file.endswith("npy"):
        np.save(path, np.zeros(3))
    else:
        path.write_text("not an archive")
    assert main(["demo", "--data", str(path)]) == 2
    assert "MedMNIST" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.data
def test_demo_on_medmnist(data_file, tmp_path, capsys):
    path = data_file("medmnist/breastmnist.npz")
    assert main(["demo", "--data", str(path), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "546 images for development, 156 to test" in said
    auc = float(said.split("Held-out AUC: ")[1].split(",")[0])
    assert auc > 0.8
    assert "95 % interval" in said
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_demo_on_several_classes_and_labels(tmp_path, capsys):
    # Colour images of three classes, then indicators of two labels.
    rng = np.random.default_rng(0)
    y = np.arange(36)[:, np.newaxis] % 3
    X = rng.integers(0, 60, (36, 9, 9, 3), dtype=np.uint8)
    X[np.arange(36), 3:6, 3:6, y[:, 0]] += 150
    for name, labels in {"classes": y, "labels": np.hstack([y == 0, y == 1])}.items():
        arrays = {
            f"{part}_{what}": value
            for part in ("train", "val", "test")
            for what, value in (("images", X), ("labels", labels.astype(np.uint8)))
        }
        np.savez(tmp_path / f"{name}.npz", **arrays)
        path = str(tmp_path / f"{name}.npz")
        assert main(["demo", "--data", path, "--out", str(tmp_path / name)]) == 0
        assert "classes or labels" in capsys.readouterr().out
        assert (tmp_path / name / "demo.png").exists()
