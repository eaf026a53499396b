"""Many image files as one array: decoded to one size, channel count and dtype."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from joblib import Parallel, delayed

from skmedimg._image_meta import ImageMeta
from skmedimg._privacy import KeySource, key_source, keyed, relative_to
from skmedimg._read_image import read_image, windowed
from skmedimg.exceptions import InvalidImageError

# One file, one folder, or the files of one series.
Item = Path | tuple[Path, ...]
Reader = Callable[..., Any]

# Files a worker process gets at a time.
_BATCH = 32
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_AIR = -1024
# What `ImageMeta.units` says of values that have no unit.
_NO_UNIT = (None, "raw", "rescaled", "displayed")
_NO_MODALITY = (None, "OT", "SC")
_PROJECTION = ("CR", "DX", "RG")


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What is done to each file, the same for all.

    Attributes
    ----------
    reader : callable or None
        Gets a path (or the paths of a series) and gives an array, or an array and an
        `ImageMeta`; None is `read_image`.
    image_size : tuple of int, int or None
        Pixels along each spatial axis, or along all of them.
    spacing : tuple of float, float or None
        In mm along each spatial axis, or along all; images are then cropped and padded
        to `image_size` instead of being resized.
    window : tuple of float, str or None
        As in `read_image`.
    channels : {1, 3} or None
        None keeps what the file has.
    interpolation : {"linear", "nearest"}
        "nearest" is for masks.
    patients : bool
        Whether to note the pseudonym of the patient.
    root : Path or None
        Folder that messages name files from.
    """

    reader: Reader | None = None
    image_size: tuple[int, ...] | int | None = None
    spacing: tuple[float, ...] | float | None = None
    window: tuple[float, float] | str | None = None
    channels: int | None = None
    interpolation: str = "linear"
    patients: bool = False
    root: Path | None = None

    def __call__(self, item: Item) -> tuple[np.ndarray, ImageMeta | None]:
        """Pixels of shape (C, *spatial), and what the file says of itself."""
        array, meta = self._read(item)
        pixels = _channels_first(array, meta)
        if self.channels is not None:
            pixels = to_channels(pixels, self.channels)
        if self.spacing is not None:
            pixels = self._respaced(pixels, meta)
        elif self.image_size is not None:
            size = _for_axes("image_size", self.image_size, pixels)
            pixels = self._resized(pixels, size)
        return pixels, meta

    def attempt(self, item: Item) -> "tuple[Record, np.ndarray | None]":
        """What came of a file, and its pixels; None where it cannot be read."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                pixels, meta = self(item)
            except (InvalidImageError, OSError) as error:
                return Record(failure=cause(error, item)), None
            except ValueError as error:  # a window that does not fit this file
                raise self._named(error, item) from error
        return Record(
            shape=pixels.shape,
            dtype=pixels.dtype.str,
            patient=meta.patient if meta and self.patients else None,
            notes=tuple(_nameless(str(w.message), item) for w in caught),
            units=meta.units if meta else None,
            modality=meta.modality if meta else None,
        ), pixels

    def name(self, item: Item) -> str:
        """Path below the root, with the first file standing for a series."""
        return relative_to(self.root, item[0] if isinstance(item, tuple) else item)

    def _named(self, error: ValueError, item: Item) -> ValueError:
        """The same with the file's folders, where it names the file."""
        message = str(error)
        if isinstance(item, tuple) or not message.startswith(f"{item.name}: "):
            return error
        return ValueError(self.name(item) + message.removeprefix(item.name))

    def _read(self, item: Item) -> tuple[np.ndarray, ImageMeta | None]:
        if self.reader is None:
            if isinstance(item, tuple):
                raise TypeError("several files an image need a reader that reads them.")
            return read_image(item, window=self.window)
        try:
            result = self.reader(item)
        except (InvalidImageError, OSError):
            raise
        except Exception as error:  # whatever a user's reader meets in a damaged file
            raise InvalidImageError(
                f"the reader raised {type(error).__name__}: {error}"
            ) from error
        array, meta = result if isinstance(result, tuple) else (result, None)
        array = np.asarray(array)
        if array.dtype.kind not in "buif" or not 2 <= array.ndim <= 4:
            raise InvalidImageError(
                f"the reader gave an array of shape {array.shape} and dtype "
                f"{array.dtype}; an image has two to four axes of numbers."
            )
        if self.window is not None:
            return windowed(self.name(item), array, meta, self.window)
        return array, meta

    def _respaced(self, pixels: np.ndarray, meta: ImageMeta | None) -> np.ndarray:
        assert self.spacing is not None
        have = None if meta is None else meta.spacing
        if have is None or None in have:
            raise InvalidImageError(
                "does not say its spacing in mm; leave spacing out and set image_size."
            )
        spacing = _for_axes("spacing", self.spacing, pixels)
        ratios = np.array(have, float) / spacing
        size = np.maximum(1, np.rint(pixels.shape[1:] * ratios)).astype(int)
        pixels = self._resized(pixels, tuple(size.tolist()))
        if self.image_size is None:
            return pixels
        framed = _for_axes("image_size", self.image_size, pixels)
        if self.interpolation == "nearest":
            outside = 0
        else:
            outside = _AIR if meta and meta.units == "HU" else pixels.min()
        return _centred(pixels, framed, outside)

    def _resized(self, pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        if pixels.shape[1:] == size:
            return pixels
        if self.interpolation == "nearest":
            for axis, (have, want) in enumerate(
                zip(pixels.shape[1:], size, strict=True)
            ):
                centres = ((np.arange(want) + 0.5) * have / want).astype(int)
                pixels = pixels.take(centres, axis=axis + 1)
            return pixels
        from skmedimg.images import resize

        return resize(pixels[np.newaxis], size)[0]


def _for_axes(name: str, value: Any, pixels: np.ndarray) -> tuple[Any, ...]:
    """A number for each spatial axis of an image of shape (C, *spatial)."""
    axes = pixels.ndim - 1
    if not isinstance(value, tuple):
        return (value,) * axes
    if len(value) != axes:
        raise InvalidImageError(
            f"has {axes} spatial axes {pixels.shape[1:]}, but {name}={value} has "
            f"{len(value)} entries."
        )
    return value


def _channels_first(array: np.ndarray, meta: ImageMeta | None) -> np.ndarray:
    if meta is not None and meta.spacing is not None:
        coloured = array.ndim > len(meta.spacing)
    else:
        last = array.shape[-1]
        coloured = array.ndim > 2 and (
            last in (1, 3) or (last == 4 and array.dtype == np.uint8)
        )
        coloured = coloured or array.ndim == 4
    if not coloured:
        return array[np.newaxis]
    if array.shape[-1] == 4 and array.dtype == np.uint8:
        array = array[..., :3]  # alpha
    return np.moveaxis(array, -1, 0)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Grey as colour, or colour as grey.

    Parameters
    ----------
    pixels : ndarray of shape (C, *spatial)
        One image.
    channels : int
        Wanted: 1 from 3 by luma, 3 from 1 by repetition.

    Returns
    -------
    ndarray of shape (channels, *spatial)
        Same dtype.

    Raises
    ------
    InvalidImageError
        If there is no such conversion.
    """
    have = len(pixels)
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return np.broadcast_to(pixels, (3, *pixels.shape[1:]))
    if have == 3 and channels == 1:
        grey = np.tensordot(_LUMA, pixels, axes=1)[np.newaxis]
        grey = np.rint(grey) if pixels.dtype.kind in "biu" else grey
        return grey.astype(pixels.dtype)
    raise InvalidImageError(f"has {have} channels, which cannot become {channels}.")


def _centred(pixels: np.ndarray, size: tuple[int, ...], outside: Any) -> np.ndarray:
    """Crop and pad to `size` about the centre."""
    framed = np.full((len(pixels), *size), outside, pixels.dtype)
    source, target = [slice(None)], [slice(None)]
    for have, want in zip(pixels.shape[1:], size, strict=True):
        length = min(have, want)
        start, place = (have - length) // 2, (want - length) // 2
        source.append(slice(start, start + length))
        target.append(slice(place, place + length))
    framed[tuple(target)] = pixels[tuple(source)]
    return framed


@dataclass(frozen=True)
class Record:
    """What came out of decoding one file.

    Attributes
    ----------
    shape : tuple of int
        (C, *spatial), empty where the file could not be read.
    dtype : str
        Of the pixels.
    patient : str or None
        Pseudonym from the header, where it is asked for.
    failure : str or None
        Why it could not be read.
    notes : tuple of str
        What was warned about.
    units, modality : str or None
        As in `ImageMeta`.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    patient: str | None = None
    failure: str | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)
    units: str | None = None
    modality: str | None = None

    @property
    def scale(self) -> str:
        """What its values are, in words that follow a number of files."""
        if self.units not in _NO_UNIT:
            return f"in {self.units}"
        modality = "projection X-ray" if self.modality in _PROJECTION else self.modality
        kind = "" if modality in _NO_MODALITY else f"of {modality} "
        return f"{kind}without a unit"


def survey(
    items: Sequence[Item],
    decoder: Decoder,
    n_jobs: int | None = None,
    folder: Path | None = None,
) -> list[Record]:
    """Decode every file once, in parallel.

    Parameters
    ----------
    items : sequence of Item
        Files.
    decoder : Decoder
        What to do to each.
    n_jobs : int, default=None
        Worker processes, as everywhere in scikit-learn.
    folder : Path, default=None
        Where decoded pixels are kept, a file a batch: `stored` reads them back.

    Returns
    -------
    list of Record
        One a file, in order.
    """
    starts = range(0, len(items), _BATCH)
    key = key_source()
    batches = Parallel(n_jobs=n_jobs)(
        delayed(_decode_batch)(
            decoder,
            items[i : i + _BATCH],
            None if folder is None else _part(folder, i),
            key,
        )
        for i in starts
    )
    records = [record for batch in batches for record in batch]
    repeat_warnings(items, records, decoder)
    return records


def stored(folder: Path, records: Sequence[Record]) -> Iterator[np.ndarray]:
    """Pixels that `survey` kept, one image at a time; removes them as it goes."""
    for start in range(0, len(records), _BATCH):
        part = _part(folder, start)
        with part.open("rb") as file:
            for record in records[start : start + _BATCH]:
                if record.failure is None:
                    count = int(np.prod(record.shape))
                    pixels = np.fromfile(file, record.dtype, count)
                    yield pixels.reshape(record.shape)
        part.unlink()


def _part(folder: Path, start: int) -> Path:
    return folder / f"part-{start}"


def create_private(path: Path) -> IO[bytes]:
    """New file that only its owner can read, open for writing."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _decode_batch(
    decoder: Decoder, items: Sequence[Item], part: Path | None, key: KeySource
) -> list[Record]:
    if part is None:
        with keyed(key):
            return [decoder.attempt(item)[0] for item in items]
    records = []
    with keyed(key), create_private(part) as file:
        for item in items:
            record, pixels = decoder.attempt(item)
            records.append(record)
            if pixels is not None:
                file.write(np.ascontiguousarray(pixels).data)
    return records


def cause(error: Exception, item: Item) -> str:
    """Why a file cannot be read, without its name."""
    if isinstance(error, OSError):
        return f"cannot be opened: {error.strerror}"
    return _nameless(str(error), item)


def _nameless(message: str, item: Item) -> str:
    """Readers know a file's own name only; here it is told with its folders."""
    if isinstance(item, tuple):
        return message
    return message.removeprefix(item.name).lstrip(": ")


def repeat_warnings(
    items: Sequence[Item], records: Sequence[Record], decoder: Decoder
) -> None:
    """Say once what was warned of file by file, in whatever process."""
    said: Counter[str] = Counter()
    first: dict[str, str] = {}
    for item, record in zip(items, records, strict=True):
        for note in record.notes:
            said[note] += 1
            first.setdefault(note, decoder.name(item))
    for note, count in said.items():
        which = first[note] + (f" and {count - 1} more" if count > 1 else "")
        warnings.warn(f"{which}: {note}", UserWarning, stacklevel=5)


def warn_of_scales(records: Sequence[Record], names: Sequence[str]) -> None:
    """Say where files of one array hold values that cannot be compared.

    Parameters
    ----------
    records : sequence of Record
        Of files that could be read, from this time or from a cache.
    names : sequence of str
        Of these files.
    """
    counts = Counter(record.scale for record in records)
    first: dict[str, str] = {}
    for record, name in zip(records, names, strict=True):
        first.setdefault(record.scale, name)
        first.setdefault(record.dtype[1:], name)
    # Volumes of MR differ from scan to scan whatever their dtype.
    others = ("u2",) if len(records[0].shape) > 3 else ("u2", "f4", "f8")
    wide = next((kind for kind in others if kind in first), None)
    if len(counts) > 1:
        each = [f"{n} {scale} ({first[scale]})" for scale, n in counts.most_common()]
        seen = f"of {len(records)} files, {', '.join(each)}"
    elif wide is not None and "u1" in first:
        bits = "16" if wide == "u2" else "floating-point values"
        seen = f"some images have 8 bits ({first['u1']}) and some {bits} "
        seen += f"({first[wide]})"
    else:
        return
    warnings.warn(
        f"{seen}: values are on different scales and are left so. A network may tell "
        "the sources apart by them: pass files of one kind, or a reader= that makes "
        "them alike.",
        UserWarning,
        stacklevel=4,
    )


@dataclass(frozen=True)
class Form:
    """What all images have in common.

    Attributes
    ----------
    size : tuple of int
        Pixels along each spatial axis.
    channels : int
        Number of channels; without an axis of their own where it is 1.
    dtype : numpy.dtype
        Of all pixels.
    """

    size: tuple[int, ...]
    channels: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, channels last."""
        return self.size if self.channels == 1 else (*self.size, self.channels)

    @classmethod
    def of(cls, records: Sequence[Record], names: Sequence[str]) -> "Form":
        """Find it, or say which two files have nothing in common.

        Parameters
        ----------
        records : sequence of Record
            Of files that could be read.
        names : sequence of str
            Of these files, for messages.

        Returns
        -------
        Form
            Colour if any image is in colour; the smallest dtype that holds all.

        Raises
        ------
        ValueError
            If images differ in size, or in channels other than 1 and 3.
        """
        sizes = [record.shape[1:] for record in records]
        other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if other is not None:
            raise ValueError(
                f"images differ in size: {names[0]} has {_by(sizes[0])} pixels, "
                f"{names[other]} {_by(sizes[other])}. Set image_size to have them "
                "resized to one (with spacing, cropped and padded)."
            )
        counts = [record.shape[0] for record in records]
        if not set(counts) <= {1, 3} and len(set(counts)) > 1:
            other = next(i for i, count in enumerate(counts) if count != counts[0])
            raise ValueError(
                f"images differ in channels: {names[0]} has {counts[0]}, "
                f"{names[other]} {counts[other]}. Only grey and RGB can be mixed."
            )
        dtypes = {np.dtype(record.dtype) for record in records}
        return cls(sizes[0], max(counts), np.result_type(*dtypes))

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """One image of shape (C, *spatial) in the common form, channels last."""
        pixels = to_channels(pixels, self.channels).astype(self.dtype, copy=False)
        return pixels[0] if self.channels == 1 else np.moveaxis(pixels, 0, -1)


def _by(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


class ImageFiles:
    """Files as an array that is decoded anew whenever it is read.

    Parameters
    ----------
    items : sequence of Item
        Files that can be read.
    decoder : Decoder
        How.
    form : Form
        What they have in common.
    """

    def __init__(self, items: Sequence[Item], decoder: Decoder, form: Form) -> None:
        self.items = list(items)
        self.decoder = decoder
        self.form = form
        self.shape = (len(self.items), *form.shape)
        self.dtype = form.dtype

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self))[key]
        images = np.empty((len(rows), *self.form.shape), self.dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said when they were surveyed
            for i, row in enumerate(rows):
                images[i] = self._image(self.items[row])
        return images

    def _image(self, item: Item) -> np.ndarray:
        try:
            pixels, _ = self.decoder(item)
        except (InvalidImageError, OSError) as error:
            name = self.decoder.name(item)
            raise InvalidImageError(f"{name}: {cause(error, item)}") from error
        if pixels.shape[1:] != self.form.size:
            raise InvalidImageError(
                f"{self.decoder.name(item)}: has {_by(pixels.shape[1:])} pixels now, "
                f"and had {_by(self.form.size)} before."
            )
        return self.form.fit(pixels)
