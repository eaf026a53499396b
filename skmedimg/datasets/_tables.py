"""Tables of images: read as they are written, checked, and turned into labels."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._privacy import relative_to
from skmedimg.datasets._lookup import as_integers, encode

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = r"[+-]?(?:0|[1-9]\d{0,17})"
_LEADING_ZERO = r"[+-]?0\d.*"


def read_table(
    table: Any, path_column: str, label_column: Any, group_column: str | None
) -> "tuple[pd.DataFrame, Path]":
    """A table, and the folder that its paths begin at.

    Patients, paths and classes stay text as it is written in a file: "00012" is not
    12. Only a label column that is all numbers, none with zeros before it, is numbers.

    Parameters
    ----------
    table : path or DataFrame
        As in `load_image_table`; a DataFrame is as it is.
    path_column, label_column, group_column : object
        As in `load_image_table`.

    Returns
    -------
    frame : DataFrame
        The table.
    folder : Path
        The folder it is in; for a DataFrame the working folder.

    Raises
    ------
    ValueError
        If the file is no table, or its text is neither UTF-8 nor UTF-16.
    ImportError
        If it is .xlsx and openpyxl is absent.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table, Path()
    path = Path(table)
    label = label_column if isinstance(label_column, str) else None
    texts: dict[str, Any] = {
        c: str for c in (path_column, label, group_column) if c is not None
    }
    frame, decimal = read_as_written(path, path_column, texts)
    if label in frame.columns:
        frame[label] = numbers_or_text(frame[label], decimal)
    return frame, path.parent


def read_as_written(
    path: Path, key: str, texts: dict[str, Any]
) -> "tuple[pd.DataFrame, str]":
    """A table from a file, and its decimal sign.

    Parameters
    ----------
    path : Path
        Text or .xlsx.
    key : str
        Column that tells which separator is right.
    texts : dict of str to type
        Types of columns, str for what stays as it is written.

    Returns
    -------
    frame : DataFrame
        The table.
    decimal : str
        "," where columns are separated by semicolons.

    Raises
    ------
    ValueError
        If the file is no table, or its text is neither UTF-8 nor UTF-16.
    ImportError
        If it is .xlsx and openpyxl is absent.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        return _read_excel(path, texts), "."
    frame, separator = _read_text(path, key, texts)
    return frame, "," if separator == ";" else "."


def _read_excel(path: Path, texts: dict[str, Any]) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_excel(path, dtype=texts)
    except ImportError as error:
        raise ImportError(
            "reading .xlsx needs openpyxl: pip install openpyxl, or save the table as "
            "CSV."
        ) from error


def _read_text(
    path: Path, path_column: str, texts: dict[str, Any]
) -> "tuple[pd.DataFrame, str]":
    """A table of text, and what separates its columns: what makes one the path's."""
    import pandas as pd

    with path.open("rb") as file:
        wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding = "utf-16" if wide else "utf-8-sig"
    separators = ("\t", ",", ";") if path.suffix.lower() == ".tsv" else (",", ";", "\t")
    try:
        heads = {
            separator: pd.read_csv(path, sep=separator, nrows=0, encoding=encoding)
            for separator in separators
        }
        best = max(
            separators,
            key=lambda s: (path_column in heads[s].columns, len(heads[s].columns)),
        )
        return pd.read_csv(path, sep=best, dtype=texts, encoding=encoding), best
    except UnicodeDecodeError:
        raise ValueError(
            f"{path.name}: its text is neither UTF-8 nor UTF-16, it may be of an older "
            "Windows: save it as 'CSV UTF-8', or read it by pandas.read_csv(…, "
            "encoding='cp1252', dtype=str) and pass that, with root=."
        ) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path.name}: is no table of text ({error}).") from error


def numbers_or_text(column: "pd.Series", decimal: str) -> "pd.Series":
    """Labels that are all numbers as numbers, all others as they are written."""
    import pandas as pd

    words = column.str.strip()
    if words.isna().any() or words.str.fullmatch(_LEADING_ZERO).any():
        return column
    if words.str.fullmatch(_WHOLE).all():
        return words.astype(np.int64)
    numbers = pd.to_numeric(words.str.replace(decimal, "."), errors="coerce")
    return column if numbers.isna().any() else numbers.astype(float)


def table_labels(
    frame: "pd.DataFrame", columns: str | Sequence[str] | None, separator: str | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Target and names of classes or labels from one column, or several."""
    if columns is None:
        return None, None
    if isinstance(columns, str):
        return encode(frame[columns], separator)
    target = np.column_stack([_numbers(frame[column]) for column in columns])
    known = target[~np.isnan(target)]
    if (known == np.rint(known)).all():
        _check_binary(target, columns)
    target = target if np.isnan(target).any() else as_integers(target)
    return target, np.array(columns, dtype=str)


def _numbers(column: "pd.Series") -> np.ndarray:
    """A column of several; raises ValueError where it is not numeric."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numbers.isna() & column.notna())
    if len(wrong):
        raise ValueError(
            f"label_column {column.name!r} holds {column.iloc[wrong[0]]!r}: of several "
            "columns, each is a label and holds 0 and 1."
        )
    return numbers.to_numpy(dtype=float, na_value=np.nan)


def _check_binary(target: np.ndarray, columns: Sequence[str]) -> None:
    for column, values in zip(columns, target.T, strict=True):
        others = np.setdiff1d(values[~np.isnan(values)], [0, 1])
        if len(others):
            raise ValueError(
                f"label_column {column!r} holds {others[0]:g}: of several columns, "
                "each is a label and holds 0 and 1, or nothing where it is not known."
            )


def check_repeated(
    root: Path, paths: Sequence[Path], target: Any, groups: np.ndarray | None
) -> None:
    """Warn of files that a table lists more than once.

    Parameters
    ----------
    root : Path
        Folder that messages name files from.
    paths : sequence of Path
        File of each row.
    target, groups : ndarray of shape (n, …) or None
        Label and patient of each row.

    Raises
    ------
    ValueError
        If the rows of one file differ in label or patient.
    """
    places: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        places.setdefault(os.path.abspath(path), []).append(i)
    repeated = [rows for rows in places.values() if len(rows) > 1]
    if not repeated:
        return
    for what, values in (("label", target), ("patient", groups)):
        at_odds = [rows for rows in repeated if _differ(values, rows)]
        if at_odds:
            name = relative_to(root, paths[at_odds[0][0]])
            raise ValueError(
                f"{len(repeated)} files occur more than once in the table, "
                f"{len(at_odds)} of them with different {what}s, such as {name}: give "
                f"each file one row. Several labels of an image are several columns, "
                "or one with label_separator."
            )
    warnings.warn(
        f"{len(repeated)} files occur more than once in the table, such as "
        f"{relative_to(root, paths[repeated[0][0]])}: they count more than once, and "
        "without group_column may be trained on and tested with.",
        UserWarning,
        stacklevel=3,
    )


def _differ(values: Any, rows: list[int]) -> bool:
    # As text, in which one missing label is equal to another.
    return values is not None and len({str(values[i].tolist()) for i in rows}) > 1
