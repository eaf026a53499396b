"""Images on the user's own disk, with labels and patients, as one `Bunch`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skmedimg._read_image import is_dicom
from skmedimg._scan import files_below, scan_dicom
from skmedimg.datasets._lookup import (
    PathLike,
    Rule,
    as_integers,
    check_complete,
    encode,
    find_files,
    find_groups,
    hide,
    look_up,
    mask_files,
    may_be_image,
    names_below,
    nifti_files,
    read_table,
    split_folders,
)
from skmedimg.io import ImageSequence

if TYPE_CHECKING:
    import pandas as pd

_IMAGING = ("CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "US", "XA")


def load_image_folder(
    root: PathLike,
    *,
    patient: Rule | None = None,
    split: str | None = None,
    image_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: tuple[float, float] | str | None = None,
    channels: int | None = None,
    cache: bool | PathLike | None = True,
    on_error: str = "raise",
    n_jobs: int | None = None,
    pseudonymise: bool = True,
    return_X_y: bool = False,
) -> Any:
    r"""Load images from a folder that has a subfolder for each class.

    Parameters
    ----------
    root : path
        Holds a folder for each class, or ``train``, ``validation`` (``val``) and
        ``test`` with a folder for each class in them. Files are looked for in all
        folders below; hidden ones, tables and texts are passed over.
    patient : str, callable, mapping or "header", default=None
        Who an image is of. A regular expression that is searched for in the path below
        `root`, its group ``patient``, or the first, or all of it; a function of that
        path; a mapping from that path, the file's name, or the name without its
        endings; or "header" for the patient of DICOM files. None: not known.
    split : {"train", "validation", "test"}, default=None
        Which part to load; None loads all and tells them apart in ``Bunch.split``.
    image_size, spacing, window, channels, on_error, n_jobs : object
        As in `ImageSequence`.
    cache : True, path or None, default=True
        Where decoded pixels are kept, as in `ImageSequence`; True is the user's cache
        folder.
    pseudonymise : bool, default=True
        Whether groups are keyed hashes of what `patient` finds.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only; images carry their groups.

    Returns
    -------
    Bunch
        `images` (an `ImageSequence`), `target` (index of the class), `target_names`
        (folders, sorted, those of all splits), `groups` (or None), `filenames` (below
        `root`), `split` (or None) and `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; ``on_error="skip"`` leaves it out.
    ValueError
        If there is no folder of a class, or a patient is not found.

    Examples
    --------
    >>> from skmedimg.datasets import load_image_folder
    >>> data = load_image_folder(
    ...     "xrays", patient=r"(P\d+)_", image_size=(128, 128)
    ... )  # doctest: +SKIP
    """
    root = Path(root)
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
    paths, codes, which = zip(*rows, strict=True)
    extra: dict[str, Any] = {"split": None if None in chosen else np.array(which)}
    return _bunch(
        _sequence(
            root,
            paths,
            find_groups(root, paths, patient, pseudonymise),
            image_size=image_size,
            spacing=spacing,
            window=window,
            channels=channels,
            cache=cache,
            on_error=on_error,
            n_jobs=n_jobs,
        ),
        np.array(codes),
        np.array(classes),
        filenames=names_below(root, paths),
        return_X_y=return_X_y,
        **extra,
    )


def load_image_table(
    table: "PathLike | pd.DataFrame",
    *,
    path_column: str,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    root: PathLike | None = None,
    label_separator: str | None = None,
    image_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: tuple[float, float] | str | None = None,
    channels: int | None = None,
    cache: bool | PathLike | None = True,
    on_error: str = "raise",
    n_jobs: int | None = None,
    pseudonymise: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load the images that a table lists, with the labels it gives them.

    Parameters
    ----------
    table : path or DataFrame
        A row an image; a file is read as CSV, or as .xlsx (which needs openpyxl).
    path_column : str
        Column of paths below `root`, or of file names, with or without their ending,
        that occur once somewhere below it.
    label_column : str or list of str, default=None
        Column of the label: text or integers are classes, other numbers are left as
        they are (regression). Several columns of 0 and 1 are one label each, missing
        ones NaN. None: no labels.
    group_column : str, default=None
        Column of the patient.
    root : path, default=None
        Folder of the images; None is that of the table.
    label_separator : str, default=None
        For several labels in one column ("Effusion|Mass" with "|"): each becomes a
        column of 0 and 1.
    image_size, spacing, window, channels, on_error, n_jobs : object
        As in `ImageSequence`.
    cache : True, path or None, default=True
        Where decoded pixels are kept, as in `ImageSequence`; True is the user's cache
        folder.
    pseudonymise : bool, default=True
        Whether groups are keyed hashes of what `group_column` holds.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only; images carry their groups.

    Returns
    -------
    Bunch
        `images` (an `ImageSequence`), `target` (n,) or (n, n_labels), `target_names`
        (classes, or columns; None for numbers), `groups` (or None), `filenames` (below
        `root`) and `DESCR`.

    Raises
    ------
    ValueError
        If a column is not there, an image is not found or not the only one of its
        name, or a label or patient is missing; says how many and names the first.
    """
    frame, folder = read_table(table)
    root = Path(root) if root is not None else folder
    labels = [label_column] if isinstance(label_column, str) else label_column
    asked = [path_column, *(labels or ()), *([group_column] if group_column else ())]
    absent = [column for column in asked if column not in frame.columns]
    if absent:
        raise ValueError(
            f"the table has no column {absent[0]!r}; it has {list(frame.columns)}."
        )
    paths = find_files(root, list(frame[path_column]), skip=on_error == "skip")
    if label_column is None:
        target, names = None, None
    elif not isinstance(label_column, str):
        target = frame[list(label_column)].to_numpy(dtype=float, na_value=np.nan)
        target = target if np.isnan(target).any() else as_integers(target)
        names = np.array(label_column, dtype=str)
    else:
        target, names = encode(frame[label_column], label_separator)
    groups = None
    if group_column is not None:
        check_complete(frame[group_column], "group_column")
        groups = hide(list(frame[group_column]), pseudonymise)
    return _bunch(
        _sequence(
            root,
            paths,
            groups,
            image_size=image_size,
            spacing=spacing,
            window=window,
            channels=channels,
            cache=cache,
            on_error=on_error,
            n_jobs=n_jobs,
        ),
        target,
        names,
        filenames=names_below(root, paths),
        return_X_y=return_X_y,
    )


def load_dicom(
    root: PathLike,
    label: Rule | None = None,
    *,
    patient: Rule | None = "header",
    volumes: bool = False,
    image_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: tuple[float, float] | str | None = None,
    channels: int | None = None,
    cache: bool | PathLike | None = True,
    on_error: str = "raise",
    n_jobs: int | None = None,
    pseudonymise: bool = True,
    return_X_y: bool = False,
) -> Any:
    r"""Load the DICOM images below a folder; patients are kept together.

    Parameters
    ----------
    root : path
        Searched with all its subfolders; reports and whatever else has no pixels are
        passed over.
    label : str, callable or mapping, default=None
        Label of an image: a regular expression that is searched for in the path below
        `root` (its group ``label``, or the first, or all of it), a function of that
        path, or a mapping from that path, the file's name, or the name without its
        endings. None: no labels.
    patient : str, callable, mapping, "header" or None, default="header"
        Who an image is of; like `label`, with a group ``patient``, or "header" for the
        patient that the file names.
    volumes : bool, default=False
        Whether each series is put together as one volume; its path is then that of its
        first file.
    image_size, spacing, window, channels, on_error, n_jobs : object
        As in `ImageSequence`.
    cache : True, path or None, default=True
        Where decoded pixels are kept, as in `ImageSequence`; True is the user's cache
        folder.
    pseudonymise : bool, default=True
        Whether groups are keyed hashes of what `patient` finds; what is in a header
        always is.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only; images carry their groups.

    Returns
    -------
    Bunch
        `images` (an `ImageSequence`; CT in HU), `target` (index of the class, or
        numbers), `target_names`, `groups` (or None), `filenames` (below `root`) and
        `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; ``on_error="skip"`` leaves it out.
    ValueError
        If there is no image, or a label or patient is not found.

    See Also
    --------
    skmedimg.io.scan_dicom : What is in a folder, before anything is read.

    Examples
    --------
    >>> from skmedimg.datasets import load_dicom
    >>> data = load_dicom(
    ...     "archive", label=r"CONTRAST_(\d)", image_size=(128, 128)
    ... )  # doctest: +SKIP
    """
    root = Path(root)
    scanned = scan_dicom(root, n_jobs=n_jobs)
    # What is no DICOM at all is passed over; DICOM that is damaged is not. A file that
    # was cut off in its header has no size, as reports have none.
    wanted = scanned.image.to_numpy(copy=True)
    unsized = scanned.modality.isna() | scanned.modality.isin(_IMAGING)
    doubtful = scanned.error.notna() | (unsized & ~scanned.image)
    for i in np.flatnonzero(doubtful):
        wanted[i] = is_dicom(root / scanned.path[i])
    listed = scanned[wanted]
    if not scanned.image.any():
        raise ValueError(f"{root.name}: there is no DICOM image in it.")
    reader = None
    paths: list[Any] = [root / path for path in listed.path]
    if volumes:
        from skmedimg._series import read_dicom_series

        reader = read_dicom_series
        keys = listed.series.fillna(listed.path)
        paths = [
            tuple(root / path for path in part.path)
            for _, part in listed.groupby(keys, sort=False)
        ]
    firsts = [path[0] if volumes else path for path in paths]
    target, names = None, None
    if label is not None:
        import pandas as pd

        found = look_up(root, firsts, label, "label")
        target, names = encode(pd.Series(found, dtype=object).infer_objects(), None)
    return _bunch(
        _sequence(
            root,
            paths,
            find_groups(root, firsts, patient, pseudonymise),
            reader=reader,
            image_size=image_size,
            spacing=spacing,
            window=window,
            channels=channels,
            cache=cache,
            on_error=on_error,
            n_jobs=n_jobs,
        ),
        target,
        names,
        filenames=names_below(root, firsts),
        return_X_y=return_X_y,
    )


def load_nifti(
    images: PathLike | Iterable[PathLike],
    labels: Any = None,
    *,
    patient: Rule | None = None,
    image_size: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    window: tuple[float, float] | str | None = None,
    cache: bool | PathLike | None = True,
    on_error: str = "raise",
    n_jobs: int | None = None,
    pseudonymise: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load NIfTI volumes, with a label each or with masks.

    Parameters
    ----------
    images : path or sequence of paths
        A folder, searched for .nii and .nii.gz with its subfolders, or the files.
    labels : path, sequence, mapping, callable or str, default=None
        A folder or sequence of paths of masks, one an image, matched by file name in a
        folder; or a sequence of a label an image; or a regular expression, function or
        mapping as in `load_dicom`. A str is a folder if there is one.
    patient : str, callable or mapping, default=None
        Who a volume is of, from its path, as in `load_image_folder`.
    image_size, spacing, window, on_error, n_jobs : object
        As in `ImageSequence`; volumes have the axes (D, H, W), toward superior,
        posterior and left. Masks follow the images, without interpolation.
    cache : True, path or None, default=True
        Where decoded pixels are kept, as in `ImageSequence`; True is the user's cache
        folder.
    pseudonymise : bool, default=True
        Whether groups are keyed hashes of what `patient` finds.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only; images carry their groups.

    Returns
    -------
    Bunch
        `images` (an `ImageSequence`), `target` (index of the class, numbers, or an
        `ImageSequence` of masks), `target_names` (or None), `groups` (or None),
        `filenames` and `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; ``on_error="skip"`` leaves it out.
    ValueError
        If there is no volume, or not one label or mask an image.
    """
    root, paths = nifti_files(images)
    groups = find_groups(root, paths, patient, pseudonymise)
    options: dict[str, Any] = {
        "image_size": image_size,
        "spacing": spacing,
        "cache": cache,
        "n_jobs": n_jobs,
    }
    X = _sequence(root, paths, groups, window=window, on_error=on_error, **options)
    masks = mask_files(labels, paths)
    target: Any = None
    names = None
    if masks is not None:
        kept = [masks[i] for i in X.kept_]
        target = ImageSequence(
            kept, X.groups, channels=1, interpolation="nearest", **options
        )
        return _bunch(
            X,
            target,
            None,
            filenames=names_below(root, paths),
            masks=True,
            return_X_y=return_X_y,
        )
    if labels is not None:
        import pandas as pd

        is_rule = callable(labels) or isinstance(labels, str | Mapping)
        found = look_up(root, paths, labels, "labels") if is_rule else list(labels)
        if len(found) != len(paths):
            raise ValueError(f"there are {len(found)} labels and {len(paths)} images.")
        target, names = encode(pd.Series(found), None)
    return _bunch(
        X, target, names, filenames=names_below(root, paths), return_X_y=return_X_y
    )


def _sequence(
    root: Path | None, paths: Sequence[Any], groups: Any, **options: Any
) -> ImageSequence:
    return ImageSequence(list(paths), groups, root=root, **options)


def _bunch(
    images: Any,
    target: Any,
    target_names: np.ndarray | None,
    *,
    return_X_y: bool,
    masks: bool = False,
    **extra: Any,
) -> Any:
    """What all loaders return, without what was skipped."""
    groups, description = None, ""
    if isinstance(images, ImageSequence):
        kept, groups = images.kept_, images.groups
        if target is not None and not masks:
            target = target[kept]
        extra = {k: v if v is None else v[kept] for k, v in extra.items()}
        skipped = len(images.skipped_)
        description = f" {skipped} files were left out." if skipped else ""
    if return_X_y:
        return images, target
    shape = " × ".join(map(str, images.shape[1:]))
    patients = "" if groups is None else f" of {len(set(groups.tolist()))} patients"
    return Bunch(
        images=images,
        target=target,
        target_names=target_names,
        groups=groups,
        DESCR=f"{len(images)} images{patients}, {shape}, {images.dtype}.{description}",
        **extra,
    )
