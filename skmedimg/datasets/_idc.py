"""Cohorts of the Imaging Data Commons (IDC), a public archive of cancer images."""

import difflib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils import Bunch

from skmedimg._privacy import pseudonym
from skmedimg.datasets._download import data_folder
from skmedimg.datasets._local import load_dicom
from skmedimg.datasets._lookup import PathLike

if TYPE_CHECKING:
    import pandas as pd

_MANIFEST = "manifest.csv"
_CLOSED = r"\bNC\b|non-?commercial"  # licences
_UNKNOWN = "unknown"
# The index may give sizes in MB of two decimals.
_STEP = 10_000
# Columns of a cohort, and where the index of IDC has them.
_COLUMNS = {
    "collection": "collection_id",
    "patient": "PatientID",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "n_files": "instanceCount",
    "n_bytes": "series_size_MB",
    "licence": "license_short_name",
    "doi": "source_DOI",
    "series": "SeriesInstanceUID",
    "url": "series_aws_url",
}
# Both become parts of paths and of commands.
_SERIES = r"\d+(\.\d+)+"
_URL = r"s3://[a-z0-9.-]+/[0-9a-f-]{36}/\*"


def fetch_idc(
    collection: "PathLike | pd.DataFrame",
    *,
    modality: str | None = None,
    n_patients: int | None = None,
    dry_run: bool = False,
    accept_noncommercial: bool = False,
    max_gigabytes: float = 10.0,
    data_home: PathLike | None = None,
    download_if_missing: bool = True,
    verbose: bool = False,
    return_X_y: bool = False,
    **load_params: Any,
) -> Any:
    """Load DICOM images of the Imaging Data Commons, downloaded the first time.

    What a cohort is, how large it is and under which licence is in an index that comes
    with idc-index: it needs no network, and no byte is downloaded with `dry_run`.
    Install ``skmedimg[idc]``.

    Parameters
    ----------
    collection : str, path or DataFrame
        Name of a collection, such as "prostate_3t"; or a cohort: some rows of
        ``Bunch.cohort`` of an earlier call, or the file manifest.csv that one left.
    modality : str, default=None
        Take series of this modality only ("CT", "MR", …).
    n_patients : int, default=None
        Take the first so many patients only, in the order of the index.
    dry_run : bool, default=False
        Whether to say what would be downloaded, and to do nothing.
    accept_noncommercial : bool, default=False
        Whether series under a licence that forbids commercial use, or under one that
        the index does not name, are wanted.
    max_gigabytes : float, default=10.0
        Larger cohorts are refused; 1 GB is 10^9 bytes.
    data_home : path, default=None
        As in `fetch_medmnist`; a cohort has a folder of its own in the subfolder
        ``idc``.
    download_if_missing : bool, default=True
        If False, a series that is not there is an error.
    verbose : bool, default=False
        Whether to show progress, and what the program says that downloads.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` only.
    **load_params : object
        Passed on to `load_dicom`: image_size, volumes, window, label, …

    Returns
    -------
    Bunch
        What `load_dicom` returns (none of it with `dry_run`), and `cohort`, a DataFrame
        with a row a series: its collection, patient (as in ``Bunch.groups``), modality,
        body part, number of files and bytes, licence, DOI to cite, version of the
        archive, series UID and address; `licences`, sorted; `n_bytes` of all;
        `folder`, which also holds manifest.csv; and `DESCR`.

    Raises
    ------
    ImportError
        If idc-index is needed and not installed.
    OSError
        If some series could not be downloaded; the others stay, and the next call goes
        on with those that are lacking.
    ValueError
        If there is no such collection or modality, the cohort is larger than
        `max_gigabytes`, or a licence is not accepted.

    Notes
    -----
    A series counts as downloaded when it has the number of files and of bytes that the
    index gives, the bytes to within 5000 where it rounds them to hundredths of a MB.
    A cohort that is there needs neither the network nor, given as a
    manifest, idc-index. Addresses name a version of a series for good: a manifest
    brings the same files in every later release of the archive.

    The manifest has the public UIDs of the series and no patient.

    References
    ----------
    Fedorov et al., "National Cancer Institute Imaging Data Commons: toward
    transparency, reproducibility, and scalability in imaging artificial intelligence",
    RadioGraphics 43(12), 2023.

    Examples
    --------
    >>> from skmedimg.datasets import fetch_idc
    >>> plan = fetch_idc("prostate_3t", n_patients=10, dry_run=True)  # doctest: +SKIP
    >>> print(plan.DESCR)  # doctest: +SKIP
    >>> data = fetch_idc(plan.cohort, image_size=(128, 128))  # doctest: +SKIP
    """
    cohort = _select(_cohort(collection), modality, n_patients)
    folder = data_folder(data_home, "idc") / _folder_name(cohort)
    found = _describe(cohort, folder)
    if dry_run:
        return found
    _check_licences(cohort, accept_noncommercial)
    _fetch(cohort, folder, download_if_missing, max_gigabytes, verbose)
    loaded = load_dicom(folder, return_X_y=return_X_y, **load_params)
    if return_X_y:
        return loaded
    return Bunch(**loaded | found | {"DESCR": f"{found.DESCR}\n{loaded.DESCR}"})


def _cohort(collection: Any) -> "pd.DataFrame":
    """Series of a collection, of a manifest, or as they were given."""
    import pandas as pd

    if isinstance(collection, pd.DataFrame):
        return _check_cohort(collection.reset_index(drop=True))
    if Path(collection).suffix == ".csv":
        return _check_cohort(pd.read_csv(collection))
    index = _index_data()
    where, column = index.IDC_INDEX_PARQUET_FILEPATH, _COLUMNS["collection"]
    table = pd.read_parquet(
        where,
        columns=list(_COLUMNS.values()),
        filters=[(column, "==", str(collection))],
    )
    if table.empty:
        names = sorted(set(pd.read_parquet(where, columns=[column])[column]))
        close = difflib.get_close_matches(str(collection).lower(), names, 5, 0.5)
        raise ValueError(
            f"IDC has no collection {str(collection)!r} among its {len(names)}. "
            f"Similar ones: {', '.join(close) or 'none'}; see "
            "https://portal.imaging.datacommons.cancer.gov/collections/."
        )
    table = table.rename(columns={old: new for new, old in _COLUMNS.items()})
    table["n_bytes"] = (table.n_bytes * 1e6).round().astype("int64")
    table["n_files"] = table.n_files.astype("int64")
    table["patient"] = [pseudonym(patient) for patient in table.patient]
    table["licence"] = _named(table.licence)
    return table[list(_COLUMNS)].assign(
        idc_version=int(index.__version__.partition(".")[0])
    )


def _check_cohort(table: "pd.DataFrame") -> "pd.DataFrame":
    """A cohort from outside: it is complete, and harmless as a path or command."""
    needed = [name for name in _COLUMNS if name not in ("patient", "body_part")]
    needed.append("idc_version")
    absent = [name for name in needed if name not in table.columns]
    if absent:
        raise ValueError(
            f"this is no cohort of fetch_idc: it has no column {absent[0]!r}, but "
            f"{list(table.columns)[:10]}."
        )
    for name, pattern in (("series", _SERIES), ("url", _URL)):
        wrong = ~table[name].astype(str).str.fullmatch(pattern)
        if wrong.any():
            raise ValueError(
                f"{wrong.sum()} of {len(table)} rows have no valid {name}; the first "
                f"is row {wrong.idxmax()}."
            )
    return table.assign(licence=_named(table.licence))


def _named(licences: "pd.Series") -> "pd.Series":
    """Licences, "unknown" where there is none."""
    return licences.fillna("").astype(str).str.strip().replace("", _UNKNOWN)


def _select(
    cohort: "pd.DataFrame", modality: str | None, n_patients: int | None
) -> "pd.DataFrame":
    if modality is not None:
        have = sorted(set(cohort.modality))
        cohort = cohort[cohort.modality == modality]
        if cohort.empty:
            raise ValueError(f"modality={modality!r}: there is {', '.join(have)}.")
    if n_patients is not None:
        if n_patients < 1 or "patient" not in cohort.columns:
            raise ValueError(
                f"n_patients={n_patients!r}: give at least 1, and a collection or "
                "cohort; a manifest does not say which series are of one patient."
            )
        first = cohort.patient.drop_duplicates()[:n_patients]
        cohort = cohort[cohort.patient.isin(first)]
    if cohort.empty:
        raise ValueError("the cohort has no series.")
    return cohort.reset_index(drop=True)


def _folder_name(cohort: "pd.DataFrame") -> str:
    """The same for the same versions of the same series."""
    series = "\n".join(sorted(cohort.url))
    digest = hashlib.blake2b(series.encode(), digest_size=6).hexdigest()
    name = "-".join(sorted(set(cohort.collection))[:3])
    return f"{name}-{digest}"


def _describe(cohort: "pd.DataFrame", folder: Path) -> Bunch:
    licences = cohort.licence.value_counts().sort_index()
    n_bytes = int(cohort.n_bytes.sum())
    patients = ""
    if "patient" in cohort.columns:
        patients = f"{cohort.patient.nunique()} patients, "
    counted = ", ".join(f"{name} ({count} series)" for name, count in licences.items())
    sources = ", ".join(
        f"https://doi.org/{doi}" for doi in sorted(set(cohort.doi.dropna()))
    )
    versions = ", ".join(f"v{version}" for version in sorted(set(cohort.idc_version)))
    description = (
        f"Imaging Data Commons {versions}, {', '.join(sorted(set(cohort.collection)))}:"
        f" {patients}{len(cohort)} series, {cohort.n_files.sum()} files, "
        f"{n_bytes / 1e9:.3g} GB.\n"
        f"Licence: {counted}.\n"
        f"Please cite: {sources}."
    )
    return Bunch(
        cohort=cohort,
        licences=list(licences.index),
        n_bytes=n_bytes,
        folder=folder,
        DESCR=description,
    )


def _check_licences(cohort: "pd.DataFrame", accept_noncommercial: bool) -> None:
    closed = cohort.licence.str.contains(_CLOSED, case=False)
    closed |= cohort.licence == _UNKNOWN
    if closed.any() and not accept_noncommercial:
        names = sorted(set(cohort.licence[closed]))
        raise ValueError(
            f"{closed.sum()} of {len(cohort)} series are licensed {', '.join(names)}, "
            "not for commercial use as far as is known: pass accept_noncommercial=True "
            f"if that is no matter here, or fetch the rest, "
            f"cohort[~cohort.licence.isin({names})]."
        )


def _fetch(
    cohort: "pd.DataFrame",
    folder: Path,
    download_if_missing: bool,
    max_gigabytes: float,
    verbose: bool,
) -> None:
    """See that all series are in the folder."""
    from filelock import FileLock

    if not len(_lacking(cohort, folder)):
        return
    n_bytes = cohort.n_bytes.sum()
    if not download_if_missing:
        raise OSError(
            f"{len(_lacking(cohort, folder))} of {len(cohort)} series are not in "
            f"{folder.name}: allow the download with download_if_missing=True."
        )
    if n_bytes > max_gigabytes * 1e9:
        raise ValueError(
            f"the cohort has {n_bytes / 1e9:.3g} GB, more than max_gigabytes="
            f"{max_gigabytes:g}: raise that, or take less by n_patients= or modality=."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        _write_manifest(cohort, folder)
        lacking = _lacking(cohort, folder)
        if len(lacking):
            _download(lacking, folder, verbose)
        lacking = _lacking(cohort, folder)
    if len(lacking):
        raise OSError(
            f"{len(lacking)} of {len(cohort)} series of {folder.name} are not whole "
            "after the download. What came is kept, the next call goes on there; "
            "verbose=True shows what went wrong. Behind a proxy, set HTTPS_PROXY."
        )


def _lacking(cohort: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """Series that are not there with all their files and bytes."""
    whole = []
    columns = (cohort.series, cohort.n_files, cohort.n_bytes)
    for series, n_files, n_bytes in zip(*columns, strict=True):
        try:
            with os.scandir(folder / str(series)) as entries:
                sizes = [entry.stat().st_size for entry in entries if entry.is_file()]
        except FileNotFoundError:
            sizes = []
        off = abs(sum(sizes) - int(n_bytes))
        whole.append(len(sizes) == n_files and off <= _rounding(int(n_bytes)))
    return cohort[[not one for one in whole]]


def _rounding(n_bytes: int) -> int:
    """By how much a size may be off: exact ones are hardly ever so round."""
    return _STEP // 2 if n_bytes % _STEP == 0 else 0


def _write_manifest(cohort: "pd.DataFrame", folder: Path) -> None:
    draft = folder / f".{_MANIFEST}"
    cohort.drop(columns="patient", errors="ignore").to_csv(draft, index=False)
    os.replace(draft, folder / _MANIFEST)


def _download(lacking: "pd.DataFrame", folder: Path, verbose: bool) -> None:
    """Have idc-index download each series into a folder of its name."""
    begun = any((folder / series).exists() for series in lacking.series)
    with tempfile.TemporaryDirectory() as temporary:
        orders = Path(temporary, "orders.txt")
        orders.write_text("\n".join(f"cp {url} ." for url in lacking.url) + "\n")
        _client().download_from_manifest(
            str(orders),
            str(folder),
            quiet=not verbose,
            show_progress_bar=verbose,
            # It looks at every file that is there, so only where there are some.
            use_s5cmd_sync=begun,
            dirTemplate="%SeriesInstanceUID",
        )


def _index_data() -> Any:
    """The package that has the index."""
    try:
        import idc_index_data
    except ImportError as error:
        raise ImportError(
            "collections of the Imaging Data Commons are listed by idc-index: "
            "pip install 'skmedimg[idc]'"
        ) from error
    return idc_index_data


def _client() -> Any:
    """The program that downloads; reading its index takes some seconds."""
    _index_data()
    with _same_root_logger():
        from idc_index import IDCClient
    return IDCClient()


@contextmanager
def _same_root_logger() -> Iterator[None]:
    """Undo what idc-index does to everybody's logging when it is imported."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
