"""Which files a loader means, and the label and patient of each."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skmedimg._privacy import pseudonym, relative_to
from skmedimg._read_image import is_dicom
from skmedimg._scan import files_below, scan_dicom

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]
Rule = str | Callable[[str], Any] | Mapping[Any, Any]

# How folders of a split are called.
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
# What lies beside images without being one.
_OTHER_FILES = frozenset(
    ".csv .db .doc .docx .htm .html .ini .json .log .md .ods .pdf .py .rtf .tsv .txt "
    ".xls .xlsx .xml .yaml .yml".split()
)
_IMAGING = ("CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "US", "XA")
_OTHER_NAMES = frozenset({"DICOMDIR", "LICENSE", "README"})
# From so many whole numbers on, they may be ages or counts.
_MANY = 20
_IMAGE_FILES = frozenset(
    ".dcm .dicom .gz .ima .jpeg .jpg .nii .npy .pgm .png .ppm .tif .tiff".split()
)
_DICOM_FILES = frozenset({".dcm", ".dicom", ".ima"})


def names_below(root: Path | None, paths: Iterable[Path]) -> np.ndarray:
    """Paths as messages and tables give them."""
    return np.array([relative_to(root, path) for path in paths])


def may_be_image(path: Path, root: Path) -> bool:
    """Whether a file is neither hidden nor a table or text, by its name."""
    parts = path.relative_to(root).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    other = path.suffix.lower() in _OTHER_FILES or path.stem.upper() in _OTHER_NAMES
    return not (hidden or other)


def folder_rows(
    root: Path, split: str | None
) -> tuple[list[Path], np.ndarray, np.ndarray, np.ndarray | None]:
    """Images in folders of classes.

    Parameters
    ----------
    root : Path
        As in `load_image_folder`.
    split : str or None
        As in `load_image_folder`.

    Returns
    -------
    paths : list of Path
        Images.
    codes : ndarray of shape (n,)
        Index of the class of each.
    classes : ndarray of str
        Folders, sorted, those of all splits.
    splits : ndarray of shape (n,) or None
        Split of each, if there are any.
    """
    parts = split_folders(root, split)
    classes = sorted({folder.name for part in parts.values() for folder in part})
    if not classes:
        raise ValueError(
            f"{root.name} has no folders: one for each class is expected. "
            "load_image_table and load_dicom take labels from elsewhere."
        )
    chosen = parts if split is None else {split: parts[split]}
    rows = [
        (path, classes.index(folder.name), part)
        for part, folders in chosen.items()
        for folder in folders
        for path in files_below(folder)
        if may_be_image(path, root)
    ]
    if not rows:
        raise ValueError(f"{root.name}: there is no image in the folders {classes}.")
    _warn_of_left_out(root, chosen, {path for path, _, _ in rows})
    paths, codes, which = zip(*rows, strict=True)
    splits = None if None in chosen else np.array(which)
    return list(paths), np.array(codes), np.array(classes), splits


def _warn_of_left_out(
    root: Path, parts: Mapping[Any, list[Path]], images: set[Path]
) -> None:
    """Say which folders of classes are empty, and which images are in none."""
    folders = [folder for part in parts.values() for folder in part]
    filled = {parent for path in images for parent in path.parents}
    empty = [relative_to(root, folder) for folder in folders if folder not in filled]
    if empty:
        warnings.warn(
            f"{len(empty)} folders have no image, such as {empty[0]}: a class of that "
            "name cannot be learnt.",
            UserWarning,
            stacklevel=4,
        )
    loose = [
        relative_to(root, path)
        for above in sorted({folder.parent for folder in folders} | {root})
        for path in sorted(above.iterdir())
        if path.suffix.lower() in _IMAGE_FILES and path.is_file()
    ]
    if loose:
        warnings.warn(
            f"{len(loose)} images lie in no folder of a class and are left out, such "
            f"as {loose[0]}.",
            UserWarning,
            stacklevel=4,
        )


def split_folders(root: Path, split: str | None) -> dict[str | None, list[Path]]:
    """Folders of the classes, by split; None is a root without splits."""
    folders = _folders(root)
    parts: dict[str | None, list[Path]] = {}
    for folder in folders:
        part = split_name(folder.name)
        if part is not None and _folders(folder):
            parts.setdefault(part, []).extend(_folders(folder))
    if split is not None and split not in parts:
        have = ", ".join(map(str, parts)) or "no folders of splits"
        raise ValueError(f"split={split!r}: {root.name} has {have}.")
    others = [f.name for f in folders if split_name(f.name) is None]
    if parts and others and split is None:
        raise ValueError(
            f"{root.name} has folders of splits, {', '.join(map(str, parts))}, beside "
            f"others, {', '.join(others[:5])}: pass split=… to load one of them."
        )
    return parts or {None: folders}


def split_name(word: str) -> str | None:
    """Train, validation or test, where a word means one of them."""
    return _SPLITS.get(word.strip().lower())


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise NotADirectoryError(f"there is no folder {root}")
    return sorted(
        entry
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def find_groups(
    root: Path | None, paths: Sequence[Path], patient: Rule | None, pseudonymise: bool
) -> Any:
    """Groups as `ImageSequence` takes them."""
    if patient is None:
        return None
    if isinstance(patient, str) and patient == "header":
        return "patient"
    return hide(look_up(root, paths, patient, "patient"), pseudonymise)


def hide(values: list[Any], pseudonymise: bool) -> np.ndarray:
    """Groups, by default as keyed hashes.

    12, "12 " and 12.0, which is what pandas makes of it where another is missing, are
    one patient; so is "12.0" if all patients are called so.
    """
    values = [_identifier(value) for value in values]
    if all(isinstance(v, str) and re.fullmatch(r"\d+\.0", v) for v in values):
        values = [value[:-2] for value in values]
    return np.array([pseudonym(v) for v in values] if pseudonymise else values)


def _identifier(value: Any) -> Any:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def look_up(
    root: Path | None, paths: Sequence[Path], rule: Rule, what: str
) -> list[Any]:
    """Label or patient of each file by a pattern, function or mapping."""
    if isinstance(rule, str):
        try:
            re.compile(rule)
        except re.error as error:
            raise ValueError(
                f"{what}={rule!r:.60} is no regular expression: {error}."
            ) from error
    names = [relative_to(root, path) for path in paths]
    found = [_apply(rule, name, what) for name in names]
    lacking = [n for n, v in zip(names, found, strict=True) if v is None or v == ""]
    if lacking:
        raise ValueError(
            f"{what}={_spoken(rule)} finds nothing for {len(lacking)} of {len(names)} "
            f"files, such as {lacking[0]}."
        )
    return found


def _spoken(rule: Rule) -> str:
    """A rule in a message: of a mapping only its size, as it may name patients."""
    if isinstance(rule, Mapping):
        return f"<mapping of {len(rule)}>"
    if callable(rule):
        return getattr(rule, "__name__", type(rule).__name__)
    return f"{rule!r:.60}"


def _apply(rule: Rule, name: str, what: str) -> Any:
    if callable(rule):
        return rule(name)
    if isinstance(rule, Mapping):
        last = name.rpartition("/")[2]
        keys = (name, last, last.split(".")[0], last.rpartition(".")[0])
        return next((rule[key] for key in keys if key in rule), None)
    match = re.search(rule, name)
    if match is None:
        return None
    group = what.rstrip("s")
    if group in match.re.groupindex:
        return match[group]
    return match[1] if match.re.groups else match[0]


def path_labels(
    root: Path | None, paths: Sequence[Path], labels: Any, what: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Target and names of classes by a rule, or from a sequence of a label a file."""
    import pandas as pd

    if labels is None:
        return None, None
    if callable(labels) or isinstance(labels, str | Mapping):
        found = look_up(root, paths, labels, what)
    else:
        found = list(labels)
    if len(found) != len(paths):
        raise ValueError(f"there are {len(found)} labels and {len(paths)} images.")
    return encode(pd.Series(found, dtype=object).infer_objects(), None)


def encode(
    column: "pd.Series", separator: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels as numbers, and what the numbers stand for: their names, or themselves."""
    check_complete(column, "label_column")
    if separator is not None:
        dummies = column.astype(str).str.get_dummies(sep=separator)
        return dummies.to_numpy(dtype=np.int64), dummies.columns.to_numpy(dtype=str)
    values = column.to_numpy()
    if values.dtype.kind == "f":
        return values, None
    if values.dtype.kind not in "iu":
        values = _words(column.tolist())
    classes, codes = np.unique(values, return_inverse=True)
    if values.dtype.kind in "iu" and len(classes) > _MANY:
        warnings.warn(
            f"{len(classes)} different whole numbers are labels, from {classes[0]} to "
            f"{classes[-1]}; each is a class. To learn them as numbers, make them "
            "floats.",
            UserWarning,
            stacklevel=4,
        )
    return codes, classes.astype(str)


def _words(labels: list[Any]) -> np.ndarray:
    """Labels as text without space around it; warns where that makes two one."""
    words = [str(label).strip() for label in labels]
    spellings: dict[str, set[str]] = {}
    for label, word in zip(labels, words, strict=True):
        spellings.setdefault(word, set()).add(repr(label))
    merged = [sorted(found) for found in spellings.values() if len(found) > 1]
    if merged:
        warnings.warn(
            f"labels that differ only in type or space are one class: "
            f"{' and '.join(merged[0])}.",
            UserWarning,
            stacklevel=5,
        )
    return np.array(words)


def check_columns(frame: "pd.DataFrame", *columns: str | Sequence[str] | None) -> None:
    """Raise ValueError where a table lacks a column; None asks for none."""
    for asked in columns:
        for column in [asked] if isinstance(asked, str) else asked or ():
            if column not in frame.columns:
                have = list(frame.columns)
                raise ValueError(f"the table has no column {column!r}; it has {have}.")


def check_complete(column: "pd.Series", what: str) -> None:
    """Raise ValueError where a column has no value."""
    blank = column.map(lambda value: isinstance(value, str) and not value.strip())
    missing = np.flatnonzero(column.isna() | blank.astype(bool))
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {len(column)} rows have nothing in {what} "
            f"{column.name!r}, the first is row {missing[0]}: drop them, "
            "frame.dropna(subset=…)."
        )


def as_integers(values: np.ndarray) -> np.ndarray:
    """Whole numbers as int64, all others as they are."""
    return values.astype(np.int64) if (values == np.rint(values)).all() else values


def find_files(root: Path, entries: list[Any], *, skip: bool) -> list[Path]:
    """Files that a table means, by path, by name or by name without ending."""
    paths = [root / str(entry) for entry in entries]
    lost = [i for i, path in enumerate(paths) if not path.is_file()]
    if not lost:
        return paths
    places: dict[str, list[Path]] = {}
    for path in files_below(root):
        if may_be_image(path, root):
            for key in {path.name, path.stem, path.name.split(".")[0]}:
                places.setdefault(key, []).append(path)
    unknown = []
    for i in lost:
        candidates = places.get(Path(str(entries[i])).name, [])
        if len(candidates) > 1:
            raise ValueError(
                f"{entries[i]!r} may be {relative_to(root, candidates[0])} or "
                f"{relative_to(root, candidates[1])}: give the path below root."
            )
        if candidates:
            paths[i] = candidates[0]
        else:
            unknown.append(entries[i])
    if unknown and not skip:
        raise ValueError(
            f"{len(unknown)} of {len(entries)} images of the table are not below root, "
            f"{root.name or 'the working folder'}; the first is {unknown[0]!r}."
        )
    return paths


def dicom_images(root: Path, n_jobs: int | None) -> "pd.DataFrame":
    """Rows of `scan_dicom` that are images, or might be but for some damage."""
    scanned = scan_dicom(root, n_jobs=n_jobs)
    # What is no DICOM at all is passed over; DICOM that is damaged is not. A file that
    # was cut off in its header has no size, as reports have none.
    wanted = scanned.image.to_numpy(copy=True)
    unsized = scanned.modality.isna() | scanned.modality.isin(_IMAGING)
    doubtful = scanned.error.notna() | (unsized & ~scanned.image)
    named = _called_as_images(root, [root / path for path in scanned.path[wanted]])
    for i in np.flatnonzero(doubtful):
        path = root / scanned.path[i]
        wanted[i] = is_dicom(path) or (scanned.error.notna()[i] and named(path))
    if not wanted.any():
        raise ValueError(f"{root.name}: there is no DICOM image in it.")
    return scanned[wanted]


def _called_as_images(root: Path, images: list[Path]) -> Callable[[Path], bool]:
    """Whether a file has a name as DICOM, or as the images of its folder that are."""
    bare = {path.parent for path in images if not _ending(path)}

    def named(path: Path) -> bool:
        if path.suffix.lower() in _DICOM_FILES:
            return may_be_image(path, root)
        # IM_0007, 00000012, a UID; but neither VERSION nor notes.
        numbered = not _ending(path) and any(map(str.isdigit, path.name))
        return numbered and path.parent in bare and may_be_image(path, root)

    return named


def _ending(path: Path) -> str:
    """Of a file's name; the last number of a UID is none."""
    return "" if path.suffix[1:].isdigit() else path.suffix


def nifti_files(images: Any) -> tuple[Path | None, list[Path]]:
    """Folder, if it is one, and its volumes."""
    if not isinstance(images, str | os.PathLike):
        return None, [Path(path) for path in images]
    root = Path(images)
    endings = (".nii", ".nii.gz")
    paths = [path for path in files_below(root) if path.name.lower().endswith(endings)]
    paths = [path for path in paths if not path.name.startswith(".")]
    if not paths:
        raise ValueError(f"{root.name}: there is no .nii or .nii.gz in it.")
    return root, paths


def mask_files(labels: Any, paths: list[Path]) -> list[Path] | None:
    """Files of masks, None if `labels` are something else."""
    if isinstance(labels, str | os.PathLike) and Path(labels).is_dir():
        _, files = nifti_files(labels)
        by_name = {path.name: path for path in files}
        absent = [path.name for path in paths if path.name not in by_name]
        if absent:
            raise ValueError(
                f"{len(absent)} of {len(paths)} images have no mask of their name in "
                f"{Path(labels).name}; the first is {absent[0]}."
            )
        return [by_name[path.name] for path in paths]
    if isinstance(labels, str | Mapping) or callable(labels) or labels is None:
        return None
    masks = list(labels)
    endings = (".nii", ".nii.gz")
    if not masks or not all(
        isinstance(m, str | os.PathLike) and str(m).endswith(endings) for m in masks
    ):
        return None
    if len(masks) != len(paths):
        raise ValueError(f"there are {len(masks)} masks and {len(paths)} images.")
    return [Path(mask) for mask in masks]
