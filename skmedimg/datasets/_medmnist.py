"""MedMNIST: eighteen sets of small medical images, one file a set and size."""

import difflib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from sklearn.utils import Bunch

from skmedimg.datasets._download import data_folder, fetch_file
from skmedimg.datasets._lookup import PathLike, as_integers
from skmedimg.datasets._medmnist_facts import MEDMNIST, MedMNIST
from skmedimg.exceptions import InvalidImageError

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_SPLIT_ALIASES = {"val": "validation"}  # as in the names of the arrays
_ZENODO = "https://zenodo.org/records/10519652/files"


def fetch_medmnist(
    name: str,
    size: int = 28,
    *,
    split: str | None = None,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    mirror: str | None = None,
    verbose: bool | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load a MedMNIST set, which is downloaded the first time.

    Twelve sets are of 2-D images: pathmnist, chestmnist, dermamnist, octmnist,
    pneumoniamnist, retinamnist, breastmnist, bloodmnist, tissuemnist, organamnist,
    organcmnist and organsmnist. Six are of volumes: organmnist3d, nodulemnist3d,
    adrenalmnist3d, fracturemnist3d, vesselmnist3d and synapsemnist3d. Most are
    licensed CC BY 4.0, dermamnist CC BY-NC 4.0: not for commercial use.

    Parameters
    ----------
    name : str
        The set, in small letters or as published ("BreastMNIST").
    size : {28, 64, 128, 224}, default=28
        Side of the images in pixels; volumes have 28 or 64.
    split : {"train", "validation", "test"}, default=None
        The official split to load, validation also as "val"; None loads all and tells
        them apart in ``Bunch.split``.
    data_home : path, default=None
        Folder of downloaded data; the file is in its subfolder ``medmnist``. None is
        the folder that the environment variable SKMEDIMG_DATA names, else
        ``skmedimg/datasets`` in the user's cache folder.
    download_if_missing : bool, default=True
        If False, a file that is not there is an error.
    n_retries : int, default=3
        How often in a row to try again without a byte gained.
    delay : float, default=1.0
        Seconds before trying again; longer where the server asks for it.
    mirror : str, default=None
        URL of a folder with files named as on Zenodo, ``breastmnist.npz`` and
        ``breastmnist_64.npz``; None is Zenodo.
    verbose : bool, default=None
        Whether to show the progress of a download on the standard error; None does on
        a terminal.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only.

    Returns
    -------
    Bunch
        `images` (ndarray of shape (n, H, W), (n, H, W, 3) or (n, D, H, W), uint8),
        `target` of shape (n,), or (n, n_labels) of 0 and 1 for several labels
        (chestmnist), `target_names` (meaning of each number, or of each column),
        `groups` (None: MedMNIST does not say which images are of one patient), `split`
        (of shape (n,), only where all are loaded), `licence` and `DESCR`, which says
        what is to be seen and what to cite.

    Raises
    ------
    OSError
        If the file cannot be downloaded or, by its md5, is not the official one, which
        is then removed.
    ValueError
        If there is no such set, size or split.

    See Also
    --------
    load_medmnist : Load any file of this form, whatever its checksum.

    Notes
    -----
    The md5 is verified at every call, also of a file that was there: on a machine
    without access to the network, put the official file into the folder. It takes a
    small part of the time that unpacking takes.

    A download that was cut off goes on where it stopped, in the same call and in the
    next, unless the file was changed meanwhile. Several processes may fetch one set.
    Behind a proxy, set the environment variable HTTPS_PROXY, and REQUESTS_CA_BUNDLE
    where it has a certificate of its own.

    References
    ----------
    Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D
    biomedical image classification", Scientific Data 10:41, 2023.

    Examples
    --------
    >>> from skmedimg.datasets import fetch_medmnist
    >>> X, y = fetch_medmnist(
    ...     "breastmnist", split="train", return_X_y=True
    ... )  # doctest: +SKIP
    >>> X.shape, y.shape  # doctest: +SKIP
    ((546, 28, 28), (546,))
    """
    name = name.lower()
    facts = _facts(name, size)
    split = split and _SPLIT_ALIASES.get(split, split)
    _check_split(split)
    file_name = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path = data_folder(data_home, "medmnist") / file_name
    fetch_file(
        f"{_base(mirror)}/{file_name}",
        path,
        facts.md5[size],
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
        verbose=verbose,
    )
    data = load_medmnist(path, split)
    if return_X_y:
        return data.images, data.target
    return data if "licence" in data else _named(data, facts)


def load_medmnist(
    path: PathLike, split: str | None = "train", *, return_X_y: bool = False
) -> Any:
    """Load a MedMNIST file.

    Parameters
    ----------
    path : path
        An .npz file of MedMNIST.
    split : {"train", "validation", "test"} or None, default="train"
        The official split; None loads all and tells them apart in ``Bunch.split``.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only.

    Returns
    -------
    Bunch
        `images` (ndarray of shape (n, H, W), (n, H, W, 3) or (n, D, H, W), uint8),
        `target` of shape (n,), or (n, n_labels) for several labels, `target_names`
        (a file numbers its classes; those of an official set, known by the file's name
        and its numbers of images, are named), `groups` (None: MedMNIST does not say
        which images are of one patient), `split` (of shape (n,), only where all are
        loaded), `licence` (of an official set only) and `DESCR`.

    Raises
    ------
    InvalidImageError
        If the file is damaged.
    ValueError
        If it is no MedMNIST file, or there is no such split.

    See Also
    --------
    fetch_medmnist : Download the official file.

    References
    ----------
    Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D
    biomedical image classification", Scientific Data 10:41, 2023.
    """
    _check_split(split)
    wanted = list(_SPLITS) if split is None else [split]
    images, labels = _read(Path(path), [_SPLITS[part] for part in wanted])
    X, target = _join(images), as_integers(_join(labels))
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if return_X_y:
        return X, target
    count = target.shape[1] if target.ndim == 2 else int(target.max()) + 1
    sizes = " × ".join(map(str, X.shape[1:]))
    data = Bunch(
        images=X,
        target=target,
        target_names=np.array([str(i) for i in range(count)]),
        groups=None,
        DESCR=f"{len(X)} images, {sizes}, {X.dtype}.",
    )
    if split is None:
        data.split = np.repeat(wanted, [len(part) for part in images])
    facts = _recognised(Path(path), wanted, images, count)
    return data if facts is None else _named(data, facts)


def _recognised(
    path: Path, wanted: Sequence[str], images: Sequence[np.ndarray], n_classes: int
) -> MedMNIST | None:
    """The official set that a file is by its name and numbers, if it is one."""
    name, _, size = path.stem.partition("_")
    facts = MEDMNIST.get(name)
    if facts is None or n_classes > len(facts.target_names):
        return None
    official = dict(zip(_SPLITS, facts.n_images, strict=True))
    n_axes = 3 if name.endswith("3d") else 2
    if not (size or "28").isdigit():
        return None
    for part, array in zip(wanted, images, strict=True):
        sides = array.shape[1 : 1 + n_axes]
        if len(array) != official[part] or set(sides) != {int(size or 28)}:
            return None
    return facts


def _named(data: Bunch, facts: MedMNIST) -> Bunch:
    data.target_names = np.array(facts.target_names)
    data.licence = facts.licence
    data.DESCR = _describe(facts, data.DESCR)
    return data


def _read(
    path: Path, parts: Sequence[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels of the splits, by their names in the file."""
    wanted = [f"{part}_{what}" for what in ("images", "labels") for part in parts]
    # Opened here: NumPy leaves a damaged file open.
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise InvalidImageError(f"{path.name}: is no .npz file.")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                _check_names(path.name, archive, wanted)
                arrays = [archive[name] for name in wanted]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InvalidImageError(
                f"{path.name}: is damaged ({error}): was it copied or downloaded as a "
                "whole?"
            ) from error
    return arrays[: len(parts)], arrays[len(parts) :]


def _check_names(file_name: str, archive: Any, wanted: Sequence[str]) -> None:
    absent = [name for name in wanted if name not in archive]
    if absent:
        raise ValueError(
            f"{file_name}: is no MedMNIST file, it has no {absent[0]!r} but "
            f"{archive.files[:10]}."
        )


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _facts(name: str, size: int) -> MedMNIST:
    if name not in MEDMNIST:
        close = difflib.get_close_matches(name, MEDMNIST, 1, 0.8)
        hint = f"did you mean {close[0]!r}? There is" if close else "choose from"
        raise ValueError(f"name={name!r}: {hint} {', '.join(MEDMNIST)}.")
    facts = MEDMNIST[name]
    if size not in facts.md5:
        raise ValueError(
            f"size={size!r}: {name} has {', '.join(map(str, facts.md5))} pixels."
        )
    return facts


def _check_split(split: str | None) -> None:
    if split is not None and split not in _SPLITS:
        raise ValueError(f"split={split!r}: choose from {list(_SPLITS)}, or None.")


def _base(mirror: str | None) -> str:
    if mirror is None:
        return _ZENODO
    if urlsplit(mirror).scheme not in ("http", "https"):
        raise ValueError(
            "mirror= takes a URL that begins with http:// or https://. A folder that "
            "has the files in a subfolder medmnist is given as data_home."
        )
    return mirror.rstrip("/")


def _describe(facts: MedMNIST, loaded: str) -> str:
    counts = dict(zip(_SPLITS, facts.n_images, strict=True))
    splits = ", ".join(f"{count} {part}" for part, count in counts.items())
    labels = ", ".join(f"{i} {label}" for i, label in enumerate(facts.target_names))
    return f"""{facts.title}: {facts.about}

Loaded: {loaded}
Official split: {splits}. Which images are of one patient is not stated.
Task: {facts.task}. Labels: {labels}.
Licence: {facts.licence}. Not for clinical use.
Please cite: Yang et al., "MedMNIST v2", Scientific Data 10:41, 2023, and the source of
the images: {facts.source}."""
