"""``skmedimg evaluate``: a report on predictions in a table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._command_output import check_writable, written
from skmedimg.datasets._lookup import check_columns
from skmedimg.datasets._tables import numbers_or_text, read_as_written
from skmedimg.evaluation import EvaluationReport, evaluate

if TYPE_CHECKING:
    import pandas as pd

# What `skmedimg predict` begins the columns of its probabilities with.
_PREFIX = "probability_"
_DOCUMENTS = ("html", "docx", "latex", "csv")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Read a table, print the headline, write the documents asked for.

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
        If the table is not there, or a document cannot be written.
    ValueError
        If columns are missing, or what they hold is not what the option says.
    """
    for name in _DOCUMENTS:
        check_writable(getattr(arguments, name), f"--{name}")
    frame, decimal = _read(arguments.table, arguments)
    y, proba, kept = _labels_and_scores(frame, decimal, arguments)
    own = frame[kept]
    report = evaluate(
        proba,
        y=y,
        pos_label=_positive(y, arguments.positive),
        classes=_classes(arguments),
        unit=_column(own, arguments.unit),
        groups=_column(own, arguments.patient),
        subgroups=_subgroups(own, arguments),
        names=_column(own, arguments.name),
        threshold=arguments.threshold,
        target_sensitivity=arguments.target_sensitivity,
        threshold_from=_tuning(arguments),
        prevalence=arguments.prevalence,
        compare_with=_compared(own, decimal, arguments),
        excluded={"without a label or a probability": int(np.sum(~kept))},
        aggregate=arguments.aggregate,
        label=arguments.label,
        random_state=arguments.seed,
    )
    print(report)
    _write(report, arguments)
    return 0


def _read(path: Path, arguments: argparse.Namespace) -> "tuple[pd.DataFrame, str]":
    """The table, all columns that matter as they are written."""
    names = [arguments.patient, arguments.unit, arguments.site, arguments.name]
    columns = [*arguments.y, *arguments.p, *arguments.subgroup, *arguments.compare]
    columns += [name for name in names if name is not None]
    frame, decimal = read_as_written(path, arguments.y[0], dict.fromkeys(columns, str))
    for column in columns:
        check_columns(frame, column)
    return frame, decimal


def _labels_and_scores(
    frame: "pd.DataFrame", decimal: str, arguments: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities, and which rows have both."""
    scores = [_numbers(frame[column], decimal) for column in arguments.p]
    proba = np.column_stack(scores)
    kept = ~np.isnan(proba).any(axis=1)
    if len(arguments.y) > 1:
        if len(arguments.p) != len(arguments.y):
            raise ValueError(
                f"--y names {len(arguments.y)} labels and --p {len(arguments.p)} "
                "probabilities: give one for each label, in the same order."
            )
        y = np.column_stack([_numbers(frame[c], decimal) for c in arguments.y])
        kept &= ~np.isnan(y).all(axis=1)
        return y[kept], proba[kept], kept
    column = frame[arguments.y[0]]
    kept &= column.notna().to_numpy()
    if not kept.any():
        raise ValueError("no row has both a label and a probability.")
    labels = numbers_or_text(column[kept], decimal).to_numpy()
    if len(arguments.p) == 1:
        return labels, proba[kept, 0], kept
    return labels.astype(str), proba[kept], kept


def _numbers(column: "pd.Series", decimal: str) -> np.ndarray:
    """Numbers, NaN where a cell is empty; raises ValueError for words."""
    import pandas as pd

    text = column.str.strip().str.replace(decimal, ".")
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = column[numbers.isna() & column.notna()]
    if len(wrong):
        raise ValueError(
            f"column {column.name!r} holds {wrong.iloc[0]!r}, which is no number."
        )
    return numbers.to_numpy(dtype=float)


def _classes(arguments: argparse.Namespace) -> list[str] | None:
    """Names of the classes, or of the labels, after their columns."""
    if len(arguments.y) > 1:
        return arguments.y
    if len(arguments.p) == 1:
        return None
    return [column.removeprefix(_PREFIX) for column in arguments.p]


def _positive(y: np.ndarray, asked: str | None) -> Any:
    """The label that is written as `asked`."""
    if asked is None:
        return None
    for label in np.unique(y).tolist():
        if str(label) == asked:
            return label
    return asked


def _column(frame: "pd.DataFrame", name: str | None) -> np.ndarray | None:
    return None if name is None else frame[name].to_numpy()


def _subgroups(
    frame: "pd.DataFrame", arguments: argparse.Namespace
) -> "dict[str, pd.Series] | None":
    names = [name for name in (arguments.site, *arguments.subgroup) if name is not None]
    return {name: frame[name] for name in names} or None


def _tuning(arguments: argparse.Namespace) -> tuple | None:
    if arguments.threshold_from is None:
        return None
    frame, decimal = _read(arguments.threshold_from, arguments)
    y, proba, kept = _labels_and_scores(frame, decimal, arguments)
    patients = _column(frame[kept], arguments.patient)
    return (y, proba) if patients is None else (y, proba, patients)


def _compared(
    frame: "pd.DataFrame", decimal: str, arguments: argparse.Namespace
) -> dict[str, np.ndarray] | None:
    return {c: _numbers(frame[c], decimal) for c in arguments.compare} or None


def _write(report: EvaluationReport, arguments: argparse.Namespace) -> None:
    for name in _DOCUMENTS:
        out = getattr(arguments, name)
        if out is None:
            continue
        with written(out) as draft:
            if name == "csv":
                report.to_frame().to_csv(draft, index=False)
            else:
                getattr(report, f"to_{name}")(draft)
        print(f"Written: {out}")
