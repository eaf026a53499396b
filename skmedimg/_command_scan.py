"""``skmedimg scan``: what is in a folder of DICOM files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from skmedimg._command_output import check_writable, printable, written
from skmedimg._scan import scan_dicom

if TYPE_CHECKING:
    import pandas as pd

_NO_DICOM = "is not a DICOM file"
_LENGTHS = {
    "pixel spacing": ["row_spacing", "column_spacing"],
    "slice thickness": ["slice_thickness"],
}
# Reasons and kernels listed before "and others".
_MOST = 8


def run_scan(folder: Path, out: Path | None, n_jobs: int | None) -> int:
    """Print a summary, and save the table.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders.
    out : Path or None
        CSV file of the whole table.
    n_jobs : int or None
        Worker processes.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    OSError
        If there is no such folder, or `out` cannot be written.
    ValueError
        If no file is DICOM.
    """
    check_writable(out)
    table = scan_dicom(folder, n_jobs=n_jobs)
    _check_any_dicom(folder, table)
    print("\n".join(_summary(folder, table)))
    if out is not None:
        table["path"] = [printable(path) for path in table.path]
        with written(out) as draft:
            table.to_csv(draft, index=False)
        print(f"\nTable of {len(table)} files: {out}", file=sys.stderr)
    return 0


def _check_any_dicom(folder: Path, table: "pd.DataFrame") -> None:
    if len(table) == 0:
        raise ValueError(f"{folder} and its subfolders hold no file.")
    if (table.error.fillna("") != _NO_DICOM).any():
        return
    raise ValueError(
        f"{folder} holds no DICOM file: {len(table)} files of other kinds, such as "
        f"{printable(table.path[0])}. PNG, JPEG, TIFF and NIfTI have no headers to "
        "list; skmedimg train reads them."
    )


def _summary(folder: Path, table: "pd.DataFrame") -> list[str]:
    images = table[table.image]
    lines = [
        f"{folder}: {_count(len(table), 'file')}, {_count(len(images), 'image')} of "
        f"{_of(images)}",
        "",
        f"{'modality':<12}{'files':>8}{'images':>8}{'frames':>8}{'patients':>10}"
        f"{'studies':>9}{'series':>8}",
    ]
    readable = table[table.error.isna()]
    # Not every file says what it is.
    kinds = readable.modality.fillna("unknown")
    for kind, part in readable.groupby(kinds):
        lines.append(
            f"{kind:<12}{len(part):>8}{int(part.image.sum()):>8}{part.frames.sum():>8}"
            f"{part.patient.nunique():>10}{part.study.nunique():>9}"
            f"{part.series.nunique():>8}"
        )
    for kind, part in images.groupby(kinds):
        lines += ["", f"Images of {kind}", *_pixels(part)]
    return lines + _without_pixels(readable) + _unreadable(table)


def _of(images: "pd.DataFrame") -> str:
    names = {"patient": "patient", "study": "study", "series": "series"}
    counts = [_count(images[column].nunique(), word) for column, word in names.items()]
    return f"{counts[0]}, {counts[1]}, {counts[2]}"


def _pixels(images: "pd.DataFrame") -> list[str]:
    """Sizes, distances and kernels of one modality."""
    sizes = images.rows.astype(str) + " x " + images["columns"].astype(str)
    lines = [f"  size             {_listed(sizes)}"]
    for name, columns in _LENGTHS.items():
        lengths = images[columns].dropna()
        if len(lengths):
            lines.append(f"  {name:<16} {_range(lengths, len(images))}")
    words = ("kernel", "laterality", "view")
    said = [name for name in words if images[name].notna().any()]
    return lines + [f"  {name:<16} {_listed(images[name])}" for name in said]


def _range(lengths: "pd.DataFrame", n_images: int) -> str:
    """Smallest and largest, and how many images do not say it."""
    values = lengths.to_numpy(dtype=float)
    low, high = values.min(), values.max()
    text = f"{low:.4g} mm" if low == high else f"{low:.4g} to {high:.4g} mm"
    missing = n_images - len(lengths)
    return f"{text} ({missing} do not say it)" if missing else text


def _without_pixels(readable: "pd.DataFrame") -> list[str]:
    """Reports, presentation states, key objects, directories."""
    others = readable[~readable.image]
    if not len(others):
        return []
    kinds = others.modality.fillna("unknown")
    return ["", f"Without pixels: {_count(len(others), 'file')}", *_each(others, kinds)]


def _unreadable(table: "pd.DataFrame") -> list[str]:
    failed = table[table.error.notna()]
    if not len(failed):
        return []
    said = f"Cannot be read: {_count(len(failed), 'file')}"
    return ["", said, *_each(failed, failed.error)]


def _each(files: "pd.DataFrame", kinds: "pd.Series") -> list[str]:
    """The most frequent kinds, with a file of each."""
    of_kind = files.groupby(kinds).path.agg(["size", "first"])
    of_kind = of_kind.sort_values("size", ascending=False)
    lines = []
    for kind, size, first in of_kind.head(_MOST).itertuples():
        more = "" if size == 1 else f" and {size - 1} more"
        lines.append(f"  {kind}: {printable(first)}{more}")
    if len(of_kind) > _MOST:
        lines.append(f"  and {len(of_kind) - _MOST} other kinds: --out lists them")
    return lines


def _listed(values: "pd.Series") -> str:
    """Values with how often each occurs, the most frequent first."""
    counts = values.value_counts()
    shown = [f"{value!s} ({n})" for value, n in counts.head(_MOST).items()]
    more = f" and {len(counts) - _MOST} others" if len(counts) > _MOST else ""
    return ", ".join(shown) + more


def _count(n: int, word: str) -> str:
    if n == 1 or word == "series":
        return f"{n} {word}"
    return f"{n} {word[:-1]}ies" if word.endswith("y") else f"{n} {word}s"
