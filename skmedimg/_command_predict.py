"""``skmedimg predict``: a CSV of classes and probabilities."""

import argparse
import csv
import os
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.pipeline import Pipeline

from skmedimg._command_output import check_writable, printable, written
from skmedimg._image_files import Decoder, Record, repeat_warnings
from skmedimg._privacy import relative_to
from skmedimg._scan import files_below
from skmedimg.classifier import CNNImageClassifier
from skmedimg.datasets._lookup import may_be_image
from skmedimg.exceptions import InvalidImageError
from skmedimg.preprocessing import ImageReader

# Images in memory at a time, and rows before the next are written.
_BATCH = 64
# Probabilities so close are one number but for rounding.
_TIE = 1e-9


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict files and write a CSV.

    Parameters
    ----------
    arguments : Namespace
        As the command line gives them.

    Returns
    -------
    int
        Exit status: 1 if no file could be read, or with ``strict`` not all of them.

    Raises
    ------
    OSError
        If a file is not there, or the CSV cannot be written.
    ValueError
        If the model is none, or a file cannot be read with ``on_error="raise"``.
    """
    check_writable(arguments.out)
    root, paths = _find(arguments.files)
    model = _load_model(arguments.model)
    if arguments.out is None:
        failed = _write(sys.stdout, model, root, paths, arguments)
    else:
        with (
            written(arguments.out) as draft,
            draft.open("w", encoding="utf-8", newline="") as file,
        ):
            failed = _write(file, model, root, paths, arguments)
    lost = f", of which {failed} could not be read" if failed else ""
    _say(f"files: {len(paths)}{lost}", end="\n")
    return int(failed == len(paths) or (arguments.strict and failed > 0))


def _find(entries: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The innermost folder that holds all that is asked for, and the files."""
    found: list[Path] = []  # in the order given, as often as given
    folders = []
    for entry in entries:
        if not entry.exists():
            raise FileNotFoundError(f"there is no file or folder {entry}.")
        absolute = entry.absolute()
        if not entry.is_dir():
            found.append(absolute)
            folders.append(os.path.abspath(entry.parent))
            continue
        below = [p for p in files_below(absolute) if may_be_image(p, absolute)]
        if not below:
            raise ValueError(f"{entry}: there is no image in it.")
        found += below
        folders.append(os.path.abspath(entry))
    try:
        root = Path(os.path.commonpath(folders))
    except ValueError:  # several drives
        root = Path()
    return root, found


def _load_model(path: Path) -> Pipeline:
    """A pipeline that begins with files and ends with probabilities."""
    try:
        model = joblib.load(path)
    except (
        pickle.UnpicklingError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{path} cannot be opened as a model: it is no file that skmedimg train "
            f"saved, or damaged ({type(error).__name__})."
        ) from error
    starts = isinstance(model, Pipeline) and isinstance(model[0], ImageReader)
    if not starts or not hasattr(model, "predict_proba"):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, and not a pipeline of ImageReader "
            "and a classifier as skmedimg train saves it."
        )
    return model


def _write(
    file: IO[str],
    model: Pipeline,
    root: Path,
    paths: Sequence[Path],
    arguments: argparse.Namespace,
) -> int:
    """Write a row a file as soon as it is known; how many could not be read."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    classes = [f"probability_{label}" for label in model.classes_]
    rows = csv.writer(file, lineterminator="\n")
    header = ["path", "prediction", *classes, "error"]
    rows.writerow([printable(name, encoding) for name in header])
    failed = done = 0
    for row in _rows(model, root, paths, arguments):
        rows.writerow([printable(str(value), encoding) for value in row])
        failed += bool(row[-1])
        done += 1
        if done % _BATCH == 0:
            file.flush()
            if sys.stderr.isatty():
                _say(f"{done} of {len(paths)} files")
    return failed


def _say(text: str, end: str = "") -> None:
    """In place of what was said before, where somebody watches."""
    start = f"\r{'':40}\r" if sys.stderr.isatty() else ""
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


def _rows(
    model: Pipeline,
    root: Path,
    paths: Sequence[Path],
    arguments: argparse.Namespace,
) -> Iterator[list[Any]]:
    """Path, prediction, probabilities and error of each file, in order."""
    decoder = model[0].decoder(root)
    said: set[str] = set()
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        decoded = Parallel(n_jobs=arguments.jobs)(
            delayed(_read)(decoder, path) for path in batch
        )
        records = [record for record, _ in decoded]
        names = [relative_to(root, os.path.abspath(path)) for path in batch]
        for name, record in zip(names, records, strict=True):
            if record.failure is not None and arguments.on_error == "raise":
                raise InvalidImageError(f"{name}: {record.failure}")
        repeat_warnings(batch, records, decoder)
        results = _predictions(model, [x for _, x in decoded if x is not None], said)
        empty = ["", *[""] * len(model.classes_)]
        for name, record in zip(names, records, strict=True):
            if record.failure is None:
                yield [name, *next(results), ""]
            else:
                yield [name, *empty, record.failure]


def _read(decoder: Decoder, path: Path) -> tuple[Record, np.ndarray | None]:
    try:
        record, pixels = decoder.attempt(path)
    except ValueError as error:  # a window that does not fit this file
        why = str(error).removeprefix(f"{decoder.name(path)}: ")
        return Record(failure=why), None
    if pixels is not None and not np.isfinite(pixels).all():
        return Record(failure="has values that are not finite."), None
    return record, pixels


def _predictions(
    model: Pipeline, images: list[np.ndarray], said: set[str]
) -> Iterator[list[Any]]:
    """Class, then probabilities, of each image of shape (C, *spatial)."""
    if not images:
        return
    X = np.stack(images)
    X = X[:, 0] if X.shape[1] == 1 else np.moveaxis(X, 1, -1)
    with _said_once(said):
        probabilities = model[1:].predict_proba(X)
        labels = _labels(model[1:], X, probabilities)
    if labels.ndim != 1:
        raise ValueError("the model gives several labels an image, predict writes one.")
    for label, row in zip(labels, probabilities, strict=True):
        yield [label, *(f"{p:.6g}" for p in row)]


def _labels(rest: Pipeline, X: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """What predict gives, by the probabilities where they leave no doubt."""
    last = rest[-1]
    if not isinstance(last, CNNImageClassifier) or last._encoding.multilabel:
        return rest.predict(X)
    labels = last.classes_[probabilities.argmax(axis=1)]
    top = np.sort(probabilities, axis=1)[:, -2:]
    doubtful = top[:, 1] - top[:, 0] < _TIE
    if doubtful.any():
        labels[doubtful] = rest.predict(X[doubtful])
    return labels


@contextmanager
def _said_once(said: set[str]) -> Iterator[None]:
    """Repeat what is warned of in the first batch only, whatever its numbers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        kind = re.sub(r"-?\d[\d.e+-]*", "#", str(warning.message))
        if kind not in said:
            said.add(kind)
            warnings.warn(warning.message, warning.category, stacklevel=2)
