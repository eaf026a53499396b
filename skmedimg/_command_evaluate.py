"""``skmedimg evaluate``: a report on predictions in a table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._command_output import check_writable, written
from skmedimg._command_words import in_options
from skmedimg.datasets._lookup import check_columns
from skmedimg.datasets._tables import numbers_or_text, read_as_written
from skmedimg.evaluation import EvaluationReport, evaluate
from skmedimg.evaluation._cases import MOST_LEVELS

if TYPE_CHECKING:
    import pandas as pd

# What `skmedimg predict` begins the columns of its probabilities with.
_PREFIX = "probability_"
_DATE = r"\d{4}-\d{2}-\d{2}"
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
    both = sorted({*arguments.y} & {*arguments.p, *arguments.compare})
    if both:
        raise ValueError(
            f"column {both[0]!r} is among the labels and among the probabilities: the "
            "figures would be those of a perfect model."
        )
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
        subgroups=_subgroups(own, decimal, arguments),
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
    print(_in_options(str(report)))
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
    if labels.dtype.kind == "f" and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)  # a gap somewhere has made 1.0 of 1
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
    """The label that is written as `asked`, or is the same number."""
    if y.ndim == 2:
        return asked
    labels = np.unique(y).tolist()
    if asked is None:
        # Of several columns of probabilities labels are text, as the columns' names.
        return "1" if labels in (["0", "1"], ["-1", "1"]) else None
    for label in labels:
        if str(label) == asked or _is_number(asked, label):
            return label
    return asked


def _is_number(text: str, number: Any) -> bool:
    try:
        return not isinstance(number, str) and float(text) == number
    except ValueError:
        return False


def _column(frame: "pd.DataFrame", name: str | None) -> np.ndarray | None:
    """A column of names, none of them missing."""
    if name is None:
        return None
    empty = frame[name].isna().to_numpy()
    if empty.any():
        raise ValueError(
            f"column {name!r} is empty in {empty.sum()} rows, the first of them row "
            f"{frame.index[empty][0] + 1} below the header: fill it, or take these "
            "rows out of the table."
        )
    return frame[name].to_numpy()


def _subgroups(
    frame: "pd.DataFrame", decimal: str, arguments: argparse.Namespace
) -> "dict[str, pd.Series] | None":
    found = {} if arguments.site is None else {arguments.site: frame[arguments.site]}
    return found | {c: _measured(frame[c], decimal) for c in arguments.subgroup} or None


def _measured(column: "pd.Series", decimal: str) -> "pd.Series":
    """A column of many numbers or dates as such, all others as they are written."""
    import pandas as pd

    known = column[column.notna()]
    if known.nunique() <= MOST_LEVELS:
        return column
    numbers = numbers_or_text(known, decimal)
    if pd.api.types.is_numeric_dtype(numbers):
        return numbers.reindex(column.index)
    if known.str.match(_DATE).all():
        return pd.to_datetime(column, format="ISO8601", errors="coerce")
    return column


def _in_options(report: str) -> str:
    """The report with notes that name options; names of classes stay as they are."""
    lines = report.split("\n")
    return "\n".join(in_options(x) if x.startswith("Note: ") else x for x in lines)


def _tuning(arguments: argparse.Namespace) -> tuple | None:
    if arguments.threshold_from is None:
        return None
    frame, decimal = _read(arguments.threshold_from, arguments)
    y, proba, kept = _labels_and_scores(frame, decimal, arguments)
    own = frame[kept]
    return y, proba, _column(own, arguments.patient), _column(own, arguments.unit)


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
