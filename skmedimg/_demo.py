"""``skmedimg demo``: the whole way from images to a tested result and a figure."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from sklearn.metrics import roc_curve
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)

from skmedimg._command_results import held_out_auc
from skmedimg.classifier import CNNImageClassifier
from skmedimg.datasets import make_lesions

_N_FOLDS = 3
# Enough for a clear answer within a minute of two cores.
_N_PATIENTS = 120


@dataclass
class _Study:
    """Images for development, images for the one look at the end, and their labels."""

    name: str
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    X_test: np.ndarray
    y_test: np.ndarray
    groups_test: np.ndarray | None

    @property
    def classes(self) -> np.ndarray:
        """Of the development images; the second is the positive one of two."""
        return np.unique(self.y)


def run_demo(data: Path | None, out: Path, seed: int) -> Path:
    """Cross-validate, fit, test with an interval, and draw a figure.

    Parameters
    ----------
    data : path or None
        A MedMNIST file, or None for made images.
    out : path
        Folder of the figure; made if absent.
    seed : int
        Random state of everything.

    Returns
    -------
    path
        The figure.
    """
    start = time.perf_counter()
    study = _made_study(seed) if data is None else _medmnist_study(data)
    _print_study(study)
    clf = CNNImageClassifier(random_state=seed)
    scores = _cross_validate(clf, study)
    print(
        f"Cross-validated AUC, {_N_FOLDS} folds"
        f"{' with patients kept apart' if study.groups is not None else ''}: "
        f"{scores.mean():.3f} (from {scores.min():.3f} to {scores.max():.3f})"
    )
    clf.fit(study.X, study.y, groups=study.groups)
    print(f"Fitted on all of them in {clf.history_.seconds.sum():.0f} s, ", end="")
    print(f"{clf.n_iter_} epochs on {clf.device_}")
    score = clf.decision_function(study.X_test)
    result = held_out_auc(study.y_test, score, study.classes, study.groups_test)
    print(f"Held-out AUC: {result}")
    print(f"Held-out accuracy: {clf.score(study.X_test, study.y_test):.3f}")
    figure = _draw(study, clf, score, result, out)
    print(f"Figure: {figure}")
    print(f"Done in {time.perf_counter() - start:.0f} s")
    return figure


def _made_study(seed: int) -> _Study:
    lesions = make_lesions(_N_PATIENTS, random_state=seed)
    X, y, groups = lesions.images, lesions.target, lesions.groups
    apart = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
    train, test = next(apart.split(X, y, groups))
    return _Study(
        "made lesions",
        *(X[train], y[train], groups[train]),
        *(X[test], y[test], groups[test]),
    )


def _medmnist_study(path: Path) -> _Study:
    """The official split: training images to develop, test images to test."""
    if not path.is_file():
        raise FileNotFoundError(f"--data {path}: there is no such file.")
    if not is_zipfile(path):
        raise ValueError(
            f"--data {path} is not a MedMNIST file: those are .npz archives of arrays, "
            "as numpy.savez writes them."
        )
    with np.load(path) as arrays:
        names = [
            f"{s}_{part}" for s in ("train", "test") for part in ("images", "labels")
        ]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(
                f"--data {path} holds {sorted(arrays)}, not {missing}: this is not a "
                "MedMNIST file."
            )
        X, y, X_test, y_test = (_array(path, arrays, name) for name in names)
    if y.shape[1:] == (1,):
        y, y_test = y.ravel(), y_test.ravel()
    return _Study(path.stem, X, y, None, X_test, y_test, None)


def _array(path: Path, arrays: Any, name: str) -> np.ndarray:
    try:
        return arrays[name]
    except (ValueError, BadZipFile) as error:
        raise ValueError(
            f"--data {path}: {name} holds Python objects where numbers or text are "
            "expected, or is damaged. Objects are not loaded, since opening them can "
            "run any code: save labels as numbers, or as text by y.astype(str)."
        ) from error


def _print_study(study: _Study) -> None:
    shape = " x ".join(map(str, study.X.shape[1:]))
    print(
        f"{study.name}: {len(study.X)} images for development, {len(study.X_test)} to "
        f"test; {shape}, {study.X.dtype}"
    )
    if study.groups is not None:
        n = len(np.unique(study.groups))
        n_test = len(np.unique(np.asarray(study.groups_test)))
        print(f"Patients: {n} and {n_test}, none on both sides")
    else:
        print("The file does not say whose images these are: patients may be shared")
    if study.y.ndim == 1 and len(study.classes) == 2:
        positive = study.classes[1]
        share = (study.y == positive).mean()
        print(f"Positive class: {positive}, {share:.0%} of the development images")


def _cross_validate(clf: CNNImageClassifier, study: _Study) -> np.ndarray:
    multilabel = study.y.ndim == 2
    cv: Any = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=0)
    if multilabel:
        cv = _N_FOLDS
    if study.groups is not None:
        cv = StratifiedGroupKFold(_N_FOLDS)
    binary_or_labels = multilabel or len(study.classes) == 2
    return cross_validate(
        clf,
        study.X,
        study.y,
        groups=study.groups,
        cv=cv,
        scoring="roc_auc" if binary_or_labels else "roc_auc_ovr",
        error_score="raise",
    )["test_score"]


def _draw(
    study: _Study, clf: CNNImageClassifier, score: np.ndarray, result: str, out: Path
) -> Path:
    # A canvas of its own: neither the backend nor pyplot's figures are touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    examples, curve, history = figure.subplots(1, 3)
    examples.imshow(_contact_sheet(study), cmap="gray")
    examples.set_title(f"{study.name}, test images\n(lower row: positive)")
    examples.set_axis_off()
    if score.ndim == 1:
        fpr, tpr, _ = roc_curve(study.y_test, score, pos_label=study.classes[1])
        curve.plot(fpr, tpr)
        curve.plot([0, 1], [0, 1], "k:", linewidth=1)
    curve.set(xlabel="1 - specificity", ylabel="sensitivity")
    curve.set_title(f"Held-out AUC {result}", fontsize="small")
    history.plot(clf.history_["epoch"], clf.history_["train_loss"])
    history.set(xlabel="epoch", ylabel="training loss", title="History")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "demo.png"
    figure.savefig(path, dpi=120)
    return path


def _contact_sheet(study: _Study, columns: int = 4) -> np.ndarray:
    """Middle slices of a few test images of the first and of the last class."""
    first = study.y_test if study.y_test.ndim == 1 else study.y_test[:, 0]
    rows = []
    for label in np.unique(first)[[0, -1]]:
        chosen = study.X_test[np.flatnonzero(first == label)[:columns]]
        if chosen.ndim == 4 and chosen.shape[-1] not in (1, 3):
            chosen = chosen[:, chosen.shape[1] // 2]
        rows.append(np.concatenate(list(chosen), axis=1))
    width = min(row.shape[1] for row in rows)
    return np.concatenate([row[:, :width] for row in rows])
