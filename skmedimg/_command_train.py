"""``skmedimg train``: from files to one file that predicts."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline

from skmedimg._command_output import check_writable, printable, written
from skmedimg._command_results import (
    cross_validated_auc,
    held_out_auc,
    patients_by_class,
)
from skmedimg._command_words import in_options
from skmedimg._privacy import relative_to
from skmedimg._read_image import is_dicom
from skmedimg._scan import files_below, scan_dicom
from skmedimg.classifier import CNNImageClassifier
from skmedimg.datasets import (
    load_dicom,
    load_image_folder,
    load_image_table,
    load_nifti,
)
from skmedimg.datasets._lookup import check_columns, folder_rows, split_name
from skmedimg.io import ImageSequence
from skmedimg.preprocessing import ImageReader

if TYPE_CHECKING:
    import pandas as pd

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
_FOLDS = 5
# Files left out that are named.
_MOST = 10


@dataclass
class _Cases:
    """Images, the class of each, and which of them are for the test."""

    images: ImageSequence
    y: np.ndarray
    test: np.ndarray

    def part(self, test: bool) -> tuple[ImageSequence, np.ndarray]:
        """The images for the test, or all others."""
        chosen = self.test == test
        return self.images[chosen], self.y[chosen]


def run_train(arguments: argparse.Namespace) -> int:
    """Cross-validate, fit, test where there are images for it, and save.

    Parameters
    ----------
    arguments : Namespace
        As the command line gives them.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    OSError
        If a file is not there, or the model cannot be written.
    ValueError
        If arguments do not fit each other or the images.
    """
    _check_arguments(arguments)
    cases = _load(arguments)
    X, y = cases.part(test=False)
    _describe(cases)
    n_folds = _n_folds(arguments.cv, y, X.groups)
    clf = _classifier(arguments, X)
    if n_folds:
        scores = cross_validated_auc(clf, X, y, n_folds, arguments.seed)
        print(_cross_validation(scores, n_folds, X.groups is not None))
    clf.fit(X, y)
    seconds = clf.history_["seconds"].sum()
    print(f"Fitted on {len(X)} images in {seconds:.0f} s; epochs: {clf.n_iter_}")
    if cases.test.any():
        print(_held_out(clf, *cases.part(test=True)))
    with written(arguments.out) as draft:
        joblib.dump(_pipeline(arguments, X, clf), draft)
    print(f"Model: {arguments.out} ({arguments.out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError before anything is read where arguments do not fit."""
    check_writable(arguments.out)
    source, folder = arguments.source, arguments.source.is_dir()
    if not source.exists():
        raise FileNotFoundError(f"there is no folder or table {source}.")
    if not folder and source.suffix.lower() not in _TABLES:
        raise ValueError(f"{source} is neither a folder nor one of {_TABLES}.")
    for option in ("path_column", "label_column"):
        if not folder and getattr(arguments, option) is None:
            name = option.replace("_", "-")
            raise ValueError(f"{source.name} is a table: name its --{name}.")
    table_only = ("path_column", "label_column", "patient_column", "split_column")
    wrong = (*table_only, "root") if folder else ("label", "patient")
    for option in wrong:
        if getattr(arguments, option) is not None:
            name, kind = option.replace("_", "-"), "table" if folder else "folder"
            raise ValueError(f"--{name} is for a {kind}, and {source.name} is none.")
    if arguments.cv is not None and (arguments.cv < 0 or arguments.cv == 1):
        raise ValueError(f"--cv {arguments.cv}: two folds or more, or 0 for none.")


def _window(words: list[str] | None) -> Any:
    """Centre and width, or the name of a window, which may be of two words."""
    if words is None:
        return None
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        return " ".join(words)
    if len(numbers) != 2:
        raise ValueError(
            f"--window {' '.join(words)}: give a name, or centre and width"
        )
    return numbers


def _one_or_all(numbers: list[Any] | None) -> Any:
    """One number is for all axes."""
    if numbers is None:
        return None
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _load(arguments: argparse.Namespace) -> _Cases:
    reading = {
        "image_size": _one_or_all(arguments.image_size),
        "spacing": _one_or_all(arguments.spacing),
        "window": _window(arguments.window),
        "cache": not arguments.no_cache,
        "on_error": arguments.on_error,
        "n_jobs": arguments.jobs,
    }
    load = _load_folder if arguments.source.is_dir() else _load_table
    data, y, split = load(arguments, reading)
    for row in data.skipped[:_MOST].itertuples():
        reason = in_options(row.reason)
        print(f"left out: {printable(row.path)}: {reason}", file=sys.stderr)
    if len(data.skipped) > _MOST:
        print(f"left out: {len(data.skipped)} files in all", file=sys.stderr)
    if split is None:
        return _Cases(data.images, y, np.zeros(len(y), dtype=bool))
    return _Cases(data.images, y, np.asarray(split) == "test")


def _load_folder(
    arguments: argparse.Namespace, reading: dict[str, Any]
) -> tuple[Any, np.ndarray, Any]:
    """Bunch, classes and splits of files whose path tells the class."""
    source, label, patient = arguments.source, arguments.label, arguments.patient
    if label is None:
        if not any(entry.is_dir() for entry in source.iterdir()):
            raise ValueError(
                f"{source} has no folders, one for each class. Where the label stands "
                "in the names of DICOM or NIfTI files, pass --label REGEX; where a "
                "table lists the images, pass the table."
            )
        patient = patient or _patient_of_headers(source, arguments.jobs)
        data = load_image_folder(source, patient=patient, **reading)
        return data, data.target_names[data.target], data.split
    volumes = [p for p in files_below(source) if p.name.endswith((".nii", ".nii.gz"))]
    if volumes:
        data = load_nifti(source, label, patient=patient, **reading)
    else:
        data = load_dicom(source, label, patient=patient or "header", **reading)
    return data, data.target_names[data.target], None


def _patient_of_headers(source: Path, n_jobs: int | None) -> str | None:
    """The rule "header" where all images are DICOM files that name a patient."""
    paths, *_ = folder_rows(source, None)
    dicom = [path for path in paths if is_dicom(path)]
    if not dicom:
        return None
    found = scan_dicom(source, n_jobs=n_jobs).set_index("path")
    found = found.loc[[relative_to(source, path) for path in dicom]]
    # What is damaged names nobody, and is no image to learn from.
    nameless = found.patient.isna() & found.error.isna()
    others = len(paths) - len(dicom) + int(nameless.sum())
    if others:
        print(
            f"Patients are not taken from headers: {others} of {len(paths)} files are "
            "no DICOM or name none",
            file=sys.stderr,
        )
        return None
    print("Patients are those of the DICOM headers; --patient takes them from the path")
    return "header"


def _load_table(
    arguments: argparse.Namespace, reading: dict[str, Any]
) -> tuple[Any, np.ndarray, Any]:
    """Bunch, classes and splits of files that a table lists."""
    label, column = arguments.label_column, arguments.split_column
    data = load_image_table(
        arguments.source,
        path_column=arguments.path_column,
        label_column=label,
        group_column=arguments.patient_column,
        root=arguments.root,
        **reading,
    )
    y = _classes(data.frame[label])
    check_columns(data.frame, column)
    if column is None:
        return data, y, None
    words = data.frame[column].astype(str)
    split = [split_name(word) for word in words]
    if None in split:
        raise ValueError(
            f"column {column!r} holds {words.iloc[split.index(None)]!r}: it should say "
            "train, validation or test."
        )
    return data, y, split


def _classes(column: "pd.Series") -> np.ndarray:
    """Names of classes; 1.0 is class 1, as a table with a gap elsewhere gives it."""
    if column.dtype.kind != "f":
        return column.astype(str).to_numpy(dtype=str)
    values = column.to_numpy(dtype=float)
    broken = values[values != np.rint(values)]
    if len(broken):
        raise ValueError(
            f"column {column.name!r} holds numbers that are not whole, such as "
            f"{broken[0]:g}: train learns classes."
        )
    return values.astype(np.int64).astype(str)


def _describe(cases: _Cases) -> None:
    X, y = cases.part(test=False)
    shape = " x ".join(map(str, X.shape[1:]))
    pairs = zip(*np.unique(y, return_counts=True), strict=True)
    counts = ", ".join(f"{label} {n}" for label, n in pairs)
    print(f"{len(X)} images to learn from, {shape}, {X.dtype}: {counts}")
    if X.groups is None:
        print(
            "Whose images these are is not known. If patients have several, say so "
            "(--patient, --patient-column): else the results are too good."
        )
    else:
        print(f"Patients: {len(np.unique(X.groups))}")
    if not cases.test.any():
        return
    _, y_test = cases.part(test=True)
    unknown = set(y_test) - set(y)
    if unknown:
        raise ValueError(
            f"images for testing are of {_listed(unknown)}, of which there are none to "
            "learn from."
        )
    print(f"{len(y_test)} images for testing, kept aside")


def _listed(labels: set[Any]) -> str:
    return ", ".join(sorted(map(str, labels)))


def _n_folds(asked: int | None, y: np.ndarray, groups: np.ndarray | None) -> int:
    """Folds of the cross-validation, 0 for none."""
    if asked == 0:
        return 0
    by_class = patients_by_class(y, groups)
    if len(by_class) < 2:
        raise ValueError(f"all images are of one class, '{y[0]}': it takes two.")
    label, fewest = min(by_class.items(), key=lambda entry: entry[1])
    unit = "images" if groups is None else "patients"
    if asked is not None and asked > fewest:
        raise ValueError(
            f"--cv {asked}: class '{label}' has {fewest} {unit}, and each fold needs "
            "one of every class."
        )
    if fewest < 2:
        print(f"No cross-validation: class '{label}' has a single one of {unit}")
        return 0
    return asked or min(_FOLDS, fewest)


def _classifier(arguments: argparse.Namespace, X: ImageSequence) -> CNNImageClassifier:
    coloured = X._channels != 1
    return CNNImageClassifier(
        spatial_dims=X.ndim - 1 - coloured,
        channel_axis=-1 if coloured else None,
        max_epochs=arguments.epochs or "auto",
        random_state=arguments.seed,
    )


def _cross_validation(scores: np.ndarray, n_folds: int, apart: bool) -> str:
    if len(scores) == 0:
        return "Cross-validated AUC: no fold has every class on both sides"
    patients = " with patients kept apart" if apart else ""
    folds = f"{n_folds} folds{patients}"
    if len(scores) < n_folds:
        folds += f", {n_folds - len(scores)} of them without a class and left out"
    return (
        f"Cross-validated AUC, {folds}: {scores.mean():.3f} (from {scores.min():.3f} "
        f"to {scores.max():.3f})"
    )


def _held_out(clf: CNNImageClassifier, X: ImageSequence, y: np.ndarray) -> str:
    accuracy = clf.score(X, y)  # warns of patients that were trained on
    if set(y) == set(clf.classes_):
        score = clf.decision_function(X)
        auc = held_out_auc(y, score, clf.classes_, X.groups)
    else:
        auc = f"not defined, there are images of {_listed(set(y))} only"
    return f"Held-out AUC: {auc}\nHeld-out accuracy: {accuracy:.3f}"


def _pipeline(
    arguments: argparse.Namespace, X: ImageSequence, clf: CNNImageClassifier
) -> Pipeline:
    """What predicts from file names, without a cache on whoever's disk it comes to."""
    # With its channels, a reader need not be fitted: no file is decoded once more.
    reader = ImageReader(
        _one_or_all(arguments.image_size),
        window=_window(arguments.window),
        channels=X._channels,
        spacing=_one_or_all(arguments.spacing),
    )
    return make_pipeline(reader, clf)
