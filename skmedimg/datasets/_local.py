"""Images on the user's own disk, with labels and patients, as one `Bunch`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skmedimg.datasets._lookup import (
    PathLike,
    Rule,
    check_columns,
    check_complete,
    dicom_images,
    find_files,
    find_groups,
    folder_rows,
    hide,
    mask_files,
    names_below,
    nifti_files,
    path_labels,
)
from skmedimg.datasets._tables import check_repeated, read_table, table_labels
from skmedimg.exceptions import InvalidImageError
from skmedimg.io import ImageSequence

if TYPE_CHECKING:
    import pandas as pd


def load_image_folder(
    root: PathLike,
    *,
    patient: Rule | None = None,
    split: str | None = None,
    image_size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
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
        `root`), `split` (or None), `skipped` (`path` and `reason` of files left out)
        and `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; ``on_error="skip"`` leaves it out.
    ValueError
        If there is no folder of a class, or a patient is not found.

    Warns
    -----
    UserWarning
        If the folder of a class has no image, or an image lies in no such folder.

    Examples
    --------
    >>> from skmedimg.datasets import load_image_folder
    >>> data = load_image_folder(
    ...     "xrays", patient=r"(P\d+)_", image_size=(128, 128)
    ... )  # doctest: +SKIP
    """
    options = _reading(image_size, spacing, window, channels, cache, on_error, n_jobs)
    root = Path(root)
    paths, codes, classes, splits = folder_rows(root, split)
    groups = find_groups(root, paths, patient, pseudonymise)
    images = ImageSequence(paths, groups, root=root, **options)
    rows: dict[str, Any] = {"filenames": names_below(root, paths), "split": splits}
    return _bunch(images, codes, classes, return_X_y=return_X_y, **rows)


def load_image_table(
    table: "PathLike | pd.DataFrame",
    *,
    path_column: str,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    root: PathLike | None = None,
    label_separator: str | None = None,
    image_size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
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
        A row an image; a file is read as .xlsx (which needs openpyxl), or as text in
        UTF-8 or UTF-16 with columns separated by commas, semicolons or tabs. Paths,
        patients and classes are text as it is written there: "00012" is not 12.
    path_column : str
        Column of paths below `root`, or of file names, with or without their ending,
        that occur once somewhere below it.
    label_column : str or list of str, default=None
        Column of the label: text and whole numbers are classes, floats are left as they
        are (regression). Several columns of 0 and 1 are one label each, missing ones
        NaN; with fractions among them, numbers. None: no labels.
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
        `images` (an `ImageSequence`), `target` (index of the class, or numbers, of
        shape (n,); or (n, n_labels)), `target_names` (classes as the table has them,
        or columns; None for numbers), `groups` (or None), `filenames` (below
        `root`), `frame` (the rows of the table in the order of `images`, with their
        index, and `group_column` as in `groups`), `skipped` (`path` and `reason` of
        files left out) and `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read; ``on_error="skip"`` leaves it out.
    ValueError
        If a column is not there, an image is not found or not the only one of its
        name, a label or patient is missing, or a file has two; says how many and names
        the first.

    Warns
    -----
    UserWarning
        If the table lists a file more than once, or labels differ in space or type
        only.

    Examples
    --------
    Dates, sites and whatever else the table knows are there to split by:

    >>> from skmedimg.datasets import load_image_table
    >>> data = load_image_table(
    ...     "findings.csv",
    ...     path_column="file",
    ...     label_column="finding",
    ...     group_column="patient",
    ...     image_size=(128, 128),
    ... )  # doctest: +SKIP
    >>> recent = (data.frame["date"] >= "2024").to_numpy()  # doctest: +SKIP
    >>> clf.fit(data.images[~recent], data.target[~recent])  # doctest: +SKIP
    >>> clf.score(data.images[recent], data.target[recent])  # doctest: +SKIP
    """
    options = _reading(image_size, spacing, window, channels, cache, on_error, n_jobs)
    frame, folder = read_table(table, path_column, label_column, group_column)
    root = Path(root) if root is not None else folder
    check_columns(frame, path_column, label_column, group_column)
    paths = find_files(root, list(frame[path_column]), skip=on_error == "skip")
    target, names = table_labels(frame, label_column, label_separator)
    if isinstance(label_column, str):
        frame = frame.assign(**{label_column: frame[label_column].map(_trimmed)})
    groups = None
    if group_column is not None:
        check_complete(frame[group_column], "group_column")
        groups = hide(list(frame[group_column]), pseudonymise)
        frame = frame.assign(**{group_column: groups})
    check_repeated(root, paths, target, groups)
    images = ImageSequence(paths, groups, root=root, **options)
    rows: dict[str, Any] = {"filenames": names_below(root, paths), "frame": frame}
    return _bunch(images, target, names, return_X_y=return_X_y, **rows)


def load_dicom(
    root: PathLike,
    label: Rule | None = None,
    *,
    patient: Rule | None = "header",
    volumes: bool = False,
    image_size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
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
        passed over, but no damaged file: one called .dcm, .dicom or .ima, or as the
        images beside it are, is an image that cannot be read.
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
        numbers), `target_names` (classes as `label` gives them; None for numbers),
        `groups` (or None), `filenames` (below `root`), `skipped` (`path` and `reason`
        of files left out) and `DESCR`.

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
    options = _reading(image_size, spacing, window, channels, cache, on_error, n_jobs)
    root = Path(root)
    listed = dicom_images(root, n_jobs)
    items: list[Any] = [root / path for path in listed.path]
    firsts, reader = items, None
    if volumes:
        from skmedimg._series import read_dicom_series

        reader = read_dicom_series
        series = listed.groupby(listed.series.fillna(listed.path), sort=False)
        items = [tuple(root / path for path in part.path) for _, part in series]
        firsts = [files[0] for files in items]
    target, names = path_labels(root, firsts, label, "label")
    groups = find_groups(root, firsts, patient, pseudonymise)
    images = ImageSequence(items, groups, reader=reader, root=root, **options)
    rows: dict[str, Any] = {"filenames": names_below(root, firsts)}
    return _bunch(images, target, names, return_X_y=return_X_y, **rows)


def load_nifti(
    images: PathLike | Iterable[PathLike],
    labels: Any = None,
    *,
    patient: Rule | None = None,
    image_size: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    window: tuple[float, float] | str | None = None,
    cache: bool | PathLike | None = True,
    on_error: str = "raise",
    n_jobs: int | None = None,
    pseudonymise: bool = True,
    return_X_y: bool = False,
) -> Any:
    r"""Load NIfTI volumes, with a label each or with masks.

    Parameters
    ----------
    images : path or sequence of paths
        A folder, searched for .nii and .nii.gz with its subfolders, or the files.
    labels : path, sequence, mapping, callable or str, default=None
        A folder or sequence of paths of masks, one an image and on its grid, matched by
        file name in a folder; or a sequence of a label an image; or a regular
        expression, function or mapping as in `load_dicom`. A str is a folder if there
        is one.
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
        `filenames`, `skipped` (`path` and `reason` of files left out) and `DESCR`.

    Raises
    ------
    InvalidImageError
        If a file cannot be read, or a mask has another shape than its image or lies
        elsewhere by more than a tenth of a voxel; ``on_error="skip"`` leaves image and
        mask out.
    ValueError
        If there is no volume, or not one label or mask an image.

    Examples
    --------
    Volumes that each have their own size, two sides of one subject in files n and n + 1
    where n is odd:

    >>> import re
    >>> from skmedimg.datasets import load_nifti
    >>> data = load_nifti(
    ...     "hippocampus/images",
    ...     "hippocampus/labels",
    ...     patient=lambda name: (int(re.search(r"\d+", name)[0]) + 1) // 2,
    ...     image_size=(32, 48, 32),
    ... )  # doctest: +SKIP
    """
    options = _reading(image_size, spacing, window, None, cache, on_error, n_jobs)
    root, paths = nifti_files(images)
    groups = find_groups(root, paths, patient, pseudonymise)
    masks = mask_files(labels, paths)
    target: Any = None
    names = None
    if masks is None:
        target, names = path_labels(root, paths, labels, "labels")
    X = ImageSequence(paths, groups, root=root, **options)
    filenames = names_below(root, paths)
    apart: list[tuple[str, str]] = []
    if masks is not None:
        options |= {"window": None, "channels": 1, "interpolation": "nearest"}
        Y = ImageSequence(masks, groups, **options)
        skip = on_error == "skip"
        X, target, apart = _in_pairs(X, Y, paths, masks, filenames, skip)
    rows: dict[str, Any] = {"filenames": filenames}
    return _bunch(X, target, names, return_X_y=return_X_y, apart=apart, **rows)


def _trimmed(label: Any) -> Any:
    return label.strip() if isinstance(label, str) else label


def _reading(
    image_size: Any,
    spacing: Any,
    window: Any,
    channels: Any,
    cache: Any,
    on_error: Any,
    n_jobs: Any,
) -> dict[str, Any]:
    """What all loaders hand on to `ImageSequence` as they got it."""
    return {
        "image_size": image_size,
        "spacing": spacing,
        "window": window,
        "channels": channels,
        "cache": cache,
        "on_error": on_error,
        "n_jobs": n_jobs,
    }


def _in_pairs(
    images: ImageSequence,
    masks: ImageSequence,
    paths: Sequence[Path],
    mask_paths: Sequence[Path],
    names: np.ndarray,
    skip: bool,
) -> tuple[ImageSequence, ImageSequence, list[tuple[str, str]]]:
    """Images and masks that could be read and share a grid, and those that do not."""
    from skmedimg._nifti import off_grid

    both = np.intersect1d(images.kept_, masks.kept_).tolist()
    if not both:
        raise InvalidImageError("there is no image that can be read with its mask.")
    found = {i: off_grid(paths[i], mask_paths[i]) for i in both}
    apart = [(str(names[i]), f"its mask {why}") for i, why in found.items() if why]
    if apart and (not skip or len(apart) == len(both)):
        name, reason = apart[0]
        hint = "" if skip else " on_error='skip' leaves such pairs out, with a table."
        raise InvalidImageError(
            f"{name}: {reason}. {len(apart)} of {len(both)} masks do not lie on the "
            f"grid of their image: resample them to it, or look for a mix-up.{hint}"
        )
    pairs = [i for i, why in found.items() if not why]
    return (
        images[np.isin(images.kept_, pairs)],
        masks[np.isin(masks.kept_, pairs)],
        apart,
    )


def _bunch(
    images: ImageSequence,
    target: Any,
    target_names: Any,
    *,
    return_X_y: bool,
    apart: Sequence[tuple[str, str]] = (),
    **rows: Any,
) -> Any:
    """What all loaders return; what is known of each file, for those that are kept."""
    kept, groups = images.kept_, images.groups
    if not isinstance(target, ImageSequence):  # masks are in pairs already
        target = _kept(target, kept)
    rows = {name: _kept(values, kept) for name, values in rows.items()}
    rows["skipped"] = _skipped(images, target, apart)
    if return_X_y:
        return images, target
    shape = " × ".join(map(str, images.shape[1:]))
    patients = "" if groups is None else f" of {len(set(groups.tolist()))} patients"
    lost = len(rows["skipped"])
    left_out = f" {lost} files were left out." if lost else ""
    return Bunch(
        images=images,
        target=target,
        target_names=target_names,
        groups=groups,
        DESCR=f"{len(images)} images{patients}, {shape}, {images.dtype}.{left_out}",
        **rows,
    )


def _kept(values: Any, kept: np.ndarray) -> Any:
    """Rows of an array or table; None stays None."""
    if values is None:
        return None
    return values.iloc[kept] if hasattr(values, "iloc") else values[kept]


def _skipped(
    images: ImageSequence, target: Any, apart: Sequence[tuple[str, str]]
) -> "pd.DataFrame":
    """Files that were left out, of the images and of their masks."""
    skipped = images.skipped_
    if isinstance(target, ImageSequence):
        import pandas as pd

        masks = target.skipped_
        masks["reason"] = "its mask " + masks["reason"].astype(str)
        elsewhere = pd.DataFrame(list(apart), columns=list(masks.columns))
        skipped = pd.concat([skipped, masks, elsewhere], ignore_index=True)
    return skipped
