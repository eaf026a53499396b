"""The demo of the command line, on files of MedMNIST and others."""

import numpy as np
import pytest

from skmedimg.cli import main


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


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
    said = capsys.readouterr().err
    assert "is not a MedMNIST file" in said
    assert "pickle" not in said


def test_demo_does_not_load_objects(tmp_path, capsys):
    y = np.array(["a", "b"], dtype=object)
    arrays = {
        f"{part}_{what}": y
        for part in ("train", "test")
        for what in ("images", "labels")
    }
    np.savez(tmp_path / "objects.npz", **arrays)
    assert main(["demo", "--data", str(tmp_path / "objects.npz")]) == 2
    said = capsys.readouterr().err
    assert "train_images holds Python objects" in said
    assert "allow_pickle" not in said


def test_demo_with_labels_of_text(tmp_path, capsys, images):
    X, y = images
    labels = np.array(["healthy", "lesion"])[y]
    arrays = {"train_images": X, "train_labels": labels}
    np.savez(tmp_path / "text.npz", **arrays, test_images=X, test_labels=labels)
    path = str(tmp_path / "text.npz")
    assert main(["demo", "--data", path, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert (
        "Positive class: lesion, 50 %" in said or "Positive class: lesion, 50%" in said
    )
    assert "95 % interval" in said
    assert (tmp_path / "out" / "demo.png").exists()


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
