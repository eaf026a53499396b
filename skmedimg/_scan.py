"""What is in a folder of DICOM files, from their headers alone."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from skmedimg._dicom import laterality_of, view_of
from skmedimg._dicom_geometry import geometry_of
from skmedimg._dicom_header import (
    code,
    group,
    integer,
    item,
    number,
    quiet,
    read_dataset,
    text,
    texts,
)
from skmedimg._privacy import KeySource, key_source, keyed, pseudonym, relative_to
from skmedimg.exceptions import InvalidImageError

if TYPE_CHECKING:
    import pandas as pd
    from pydicom.dataset import Dataset

# Files a worker process gets at a time.
_BATCH = 256
_DIRECTORY = "1.2.840.10008.1.3.10"
_COLUMNS = {"str | None": "string", "float | None": "float64", "str": "string"}


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the table that `scan_dicom` gives."""

    path: str
    modality: str | None = None
    image: bool = False
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 0
    row_spacing: float | None = None
    column_spacing: float | None = None
    slice_thickness: float | None = None
    kernel: str | None = None
    laterality: str | None = None
    view: str | None = None
    error: str | None = None


def scan_dicom(
    folder: str | os.PathLike[str], *, n_jobs: int | None = None
) -> "pd.DataFrame":
    """List the files of a folder from their DICOM headers; no pixels are read.

    Parameters
    ----------
    folder : path
        Searched with all its subfolders; links are followed, and each folder is listed
        once.
    n_jobs : int, default=None
        Worker processes, as everywhere in scikit-learn: None is one, unless a
        `joblib.parallel_config` says otherwise; -1 is one a core.

    Returns
    -------
    pandas.DataFrame
        One row a file, in the order of the paths: `path` below the folder; `modality`;
        `image`, False for SR, PR, KO and whatever else has no pixels; keyed pseudonyms
        of `patient`, `study` and `series`; `rows`, `columns` and `frames`, 0 without an
        image; `row_spacing` and `column_spacing` from one row or column to the next and
        `slice_thickness`, in mm; `kernel`, `laterality` and `view`; and `error`, which
        says why a file could not be read. What a file does not say is missing in the
        sense of pandas. Names, numbers and dates of patients are not in the table.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    See Also
    --------
    read_dicom_series : The pixels of a series, in order.

    Examples
    --------
    >>> from skmedimg._scan import scan_dicom
    >>> table = scan_dicom("archive", n_jobs=2)  # doctest: +SKIP
    >>> table[table.image].groupby("series").size()  # doctest: +SKIP
    """
    import pandas as pd

    root = Path(folder)
    paths = files_below(root)
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    key = key_source()
    scanned = Parallel(n_jobs=n_jobs)(
        delayed(_scan)(root, part, key) for part in batches
    )
    rows = [asdict(row) for part in scanned for row in part]
    table = pd.DataFrame(rows, columns=[field.name for field in fields(_Row)])
    # A column without any value would be one of objects.
    kinds = {field.name: _COLUMNS.get(str(field.type)) for field in fields(_Row)}
    return table.astype({name: kind for name, kind in kinds.items() if kind})


def files_below(root: Path) -> list[Path]:
    """All files of a folder and its subfolders, sorted.

    Links to folders are followed, but not to one that holds `root`, and no folder is
    listed twice: a loop would have no end, and an image under two names would be on
    both sides of a split.

    Parameters
    ----------
    root : Path
        A folder.

    Raises
    ------
    NotADirectoryError
        If it is none.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"there is no folder {root}")
    seen = {_identity(folder) for folder in root.resolve().parents}
    files: list[Path] = []
    waiting = [root]
    # Links wait until all that lies below without one is listed: its name is the one.
    while waiting:
        for folder, below, names in os.walk(waiting.pop(0)):
            identity = _identity(folder)
            if identity in seen:
                below.clear()
                continue
            seen.add(identity)
            files += [Path(folder, name) for name in names]
            links = (Path(folder, name) for name in sorted(below))
            waiting += [path for path in links if path.is_symlink()]
    return sorted(files)


def _identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """What is equal for two paths of one folder."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _scan(root: Path, paths: Sequence[Path], key: KeySource) -> list[_Row]:
    with quiet(), keyed(key):
        return [_row(path, relative_to(root, path)) for path in paths]


def _row(path: Path, name: str) -> _Row:
    try:
        header, _ = read_dataset(path, pixels=False)
    except InvalidImageError as error:
        return _Row(path=name, error=str(error))
    except OSError as error:
        return _Row(path=name, error=f"cannot be opened: {error.strerror}")
    meta = getattr(header, "file_meta", None)
    listing = text(meta, "MediaStorageSOPClassUID") == _DIRECTORY
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    image = rows > 0 and columns > 0
    measures = group(header, 0, "PixelMeasuresSequence")
    spacing = geometry_of(header, [0], False).spacing or (None, None)
    return _Row(
        path=name,
        modality="DICOMDIR" if listing else code(header, "Modality"),
        image=image,
        patient=pseudonym(text(header, "PatientID")) or None,
        study=pseudonym(text(header, "StudyInstanceUID")) or None,
        series=pseudonym(text(header, "SeriesInstanceUID")) or None,
        rows=rows,
        columns=columns,
        frames=max(1, integer(header, "NumberOfFrames") or 1) if image else 0,
        row_spacing=spacing[0],
        column_spacing=spacing[1],
        slice_thickness=number(measures, "SliceThickness")
        or number(header, "SliceThickness"),
        kernel=_kernel(header),
        laterality=laterality_of(header, 0),
        view=view_of(header),
    )


def _kernel(header: "Dataset") -> str | None:
    shared = item(header, "SharedFunctionalGroupsSequence")
    reconstruction = item(shared, "CTReconstructionSequence")
    keyword = "ConvolutionKernel"
    kernel = texts(header, keyword) or texts(reconstruction, keyword)
    return "\\".join(kernel) or None
