"""From images to batches: the canonical training set, its internal split, the feed.

What fit learns depends on the weighted set of images, not on the order or repetition
of rows: rows of weight zero are dropped, equal images with equal labels are merged into
one with the sum of their weights, and what is left is ordered by content. A row of
weight 2 is therefore the row twice, exactly, at any batch size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skmedimg._constants import constant
from skmedimg._intensity import Measures, fit_intensity, measure, windows_of
from skmedimg.images import ImageArray, ImageSpec

# Of resized images that a fit keeps instead of resizing them in every epoch.
_HELD_BYTES = 1 << 28
# The greedy order fails for about 1 in 3,000 sets that can be split, and with a large
# group that comes early it takes most images to validation.
_SPLIT_ATTEMPTS = 20


@dataclass
class TrainingSet:
    """The distinct, weighted images of a fit, in canonical order.

    Attributes
    ----------
    images : ImageArray
        All images as passed.
    rows : ndarray of shape (m,)
        Where in `images` the distinct ones are.
    target : ndarray of shape (m,) or (m, n_labels)
        Encoded class, or label indicator with NaN for missing.
    weight : ndarray of shape (m,)
        Summed sample weights, positive.
    unit : ndarray of shape (m,)
        Images of one unit never stand on both sides of a split: those of one group,
        and equal images.
    member : ndarray of shape (n,)
        Distinct image that each row of X became, -1 where its weight was zero.
    groups : ndarray of shape (n,) or None
        Group of each row of X.
    measures : Measures
        Of the m distinct images.
    """

    images: ImageArray
    rows: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    unit: np.ndarray
    member: np.ndarray
    groups: np.ndarray | None
    measures: Measures

    def __len__(self) -> int:
        return len(self.rows)

    def fit_spec(self, index: np.ndarray) -> ImageSpec:
        """Decide on the intensities, from the images at `index` alone."""
        return fit_intensity(
            self.images, self.rows[index], self.measures[index], self.weight[index]
        )

    def groups_at(self, index: np.ndarray) -> np.ndarray | None:
        """Distinct groups of the images at `index`."""
        if self.groups is None:
            return None
        return np.unique(self.groups[np.isin(self.member, index)])


def make_training_set(
    images: ImageArray,
    target: np.ndarray,
    weight: np.ndarray,
    groups: np.ndarray | None = None,
) -> TrainingSet:
    """Merge, order and measure the images of a fit.

    Parameters
    ----------
    images : ImageArray
        n images.
    target : ndarray of shape (n,) or (n, n_labels)
        Encoded targets.
    weight : ndarray of shape (n,)
        Sample weights, not negative.
    groups : ndarray of shape (n,), default=None
        Group of each image.

    Returns
    -------
    TrainingSet
        Of the m distinct images with positive weight.

    Raises
    ------
    ValueError
        If pixels are not finite.
    """
    measures = measure(images)
    kept = np.flatnonzero(weight > 0)
    label = np.unique(
        np.nan_to_num(target.reshape(len(target), -1), nan=-1.0),
        axis=0,
        return_inverse=True,
    )[1].ravel()
    high, low = measures.digest.T
    # Weight is the last key: equal images are then summed in one order, whatever the
    # order of the rows.
    order = kept[np.lexsort((weight[kept], label[kept], low[kept], high[kept]))]
    keys = np.column_stack([high[order], low[order], label[order].astype(np.uint64)])
    new = np.ones(len(order), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]).any(1)
    starts = np.flatnonzero(new)
    rows = order[starts]
    merged_weight = np.add.reduceat(weight[order], starts)
    member = np.full(len(images), -1)
    member[order] = np.cumsum(new) - 1
    distinct = measures[rows]
    return TrainingSet(
        images=images,
        rows=rows,
        target=target[rows],
        weight=merged_weight,
        unit=_units(distinct.digest, member, groups),
        member=member,
        groups=groups,
        measures=distinct,
    )


def _units(
    digest: np.ndarray, member: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """Connected components of distinct images that share their pixels or a group."""
    image = np.unique(digest, axis=0, return_inverse=True)[1].ravel()
    if groups is None:
        return image
    kept = np.flatnonzero(member >= 0)
    group = np.unique(groups[kept], return_inverse=True)[1].ravel()
    n_images, n_groups = image.max() + 1, group.max() + 1
    edges = (np.ones(len(kept)), (image[member[kept]], n_images + group))
    size = n_images + n_groups
    _, component = connected_components(
        coo_array(edges, shape=(size, size)), directed=False
    )
    return component[image]


def split_units(
    data: TrainingSet, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split off a stratified validation part in which no unit is cut.

    Units are taken in random order and go to validation while that brings its counts of
    each class (of each positive label) closer to `fraction` of all. Groups differ in
    size: of several orders, that which comes closest is taken.

    Parameters
    ----------
    data : TrainingSet
        What to split.
    fraction : float
        Share of the images to validate on.
    rng : numpy.random.Generator
        Decides the order.

    Returns
    -------
    train, valid : ndarray of int
        Indices into `data`, increasing.

    Raises
    ------
    ValueError
        If a class cannot stand on both sides without cutting a unit.
    """
    counts = _class_counts(data)
    n_units = len(counts)
    held_by = (counts > 0).sum(0)
    kind = "groups" if data.groups is not None else "distinct images"
    if n_units < 2 or (held_by[held_by > 0] < 2).any():
        worst = int(held_by[held_by > 0].min(initial=n_units))
        raise ValueError(
            f"early_stopping=True needs every class in at least 2 {kind}, to validate "
            f"on patients that training has not seen; one class has {worst} of "
            f"{n_units}. Add data, or set early_stopping=False."
        )
    taken = _nearest_units(counts, fraction, rng, first=data.groups is None)
    if taken is None:
        raise ValueError(
            f"early_stopping=True: the {n_units} {kind} cannot be split so that "
            "every class is on both sides. Add data, or set early_stopping=False."
        )
    validate = taken[_codes(data.unit)]
    return np.flatnonzero(~validate), np.flatnonzero(validate)


def _nearest_units(
    counts: np.ndarray, fraction: float, rng: np.random.Generator, *, first: bool
) -> np.ndarray | None:
    """Units to validate on: of several orders the best, or the first that does."""
    goal = fraction * counts.sum(0)
    nearest, least = None, np.inf
    for _ in range(_SPLIT_ATTEMPTS):
        taken = _take_units(counts, fraction, rng.permutation(len(counts)))
        if taken is None:
            continue
        off = np.abs(counts[taken].sum(0) - goal)
        distance = float((off**2 / np.maximum(goal, 1e-9)).sum())
        if distance < least:
            nearest, least = taken, distance
        if first or (off <= np.maximum(1, 0.35 * goal)).all():
            break
    return nearest


def _take_units(
    counts: np.ndarray, fraction: float, order: np.ndarray
) -> np.ndarray | None:
    """Units to validate on, by the greedy rule of `split_units`; None if it fails."""
    n_units, held_by = len(counts), (counts > 0).sum(0)
    goal = fraction * counts.sum(0)
    importance = 1 / np.maximum(counts.sum(0), 1)
    taken, have = np.zeros(n_units, dtype=bool), np.zeros(counts.shape[1])
    left = counts.sum(0)
    rare_first = np.argsort(held_by, kind="stable")
    # Every class must be validated, however rare: serve the rarest before the rest.
    for column in rare_first[held_by[rare_first] > 0]:
        if have[column] > 0:
            continue
        for unit in order:
            spare = left - counts[unit]
            keeps_all = (spare[left > 0] > 0).all()
            if counts[unit, column] > 0 and not taken[unit] and keeps_all:
                taken[unit], have, left = True, have + counts[unit], spare
                break
        else:
            return None
    for unit in order:
        after = have + counts[unit]
        closer = importance @ ((after - goal) ** 2 - (have - goal) ** 2) < 0
        spare = left - counts[unit]
        if not taken[unit] and closer and (spare[left > 0] > 0).all():
            taken[unit], have, left = True, after, spare
    return taken


def _codes(unit: np.ndarray) -> np.ndarray:
    return np.unique(unit, return_inverse=True)[1].ravel()


def _class_counts(data: TrainingSet) -> np.ndarray:
    """Distinct images of each class (positive label) in each unit, and their number."""
    target = data.target
    if target.ndim == 1:
        indicator = target[:, np.newaxis] == np.unique(target)
    else:
        indicator = np.column_stack([target == 1, np.ones(len(target))])
    counts = np.zeros((data.unit.max() + 1, indicator.shape[1]))
    np.add.at(counts, data.unit, indicator.astype(float))
    return counts[np.unique(data.unit)]


class Feed:
    """Batches of a part of the training set, gathered and normalised on the device.

    Parameters
    ----------
    data : TrainingSet
        Images.
    index : ndarray of int
        Which of them.
    spec : ImageSpec
        How their intensities are brought to one scale.
    target, weight : ndarray of shape (m, …)
        What the loss takes, for all of `data`; weights have mean 1 over `index`.
    batch_size : int
        Images in a batch; batches are equal up to one image, and none has a single one.
    device : torch.device
        Where batches go.
    rng : numpy.random.Generator, default=None
        Shuffles each epoch; None keeps the order.
    """

    def __init__(
        self,
        data: TrainingSet,
        index: np.ndarray,
        spec: ImageSpec,
        target: np.ndarray,
        weight: np.ndarray,
        *,
        batch_size: int,
        device: torch.device,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.images, self.spec, self.device, self.rng = data.images, spec, device, rng
        self.groups = data.groups_at(index)
        self.rows = data.rows[index]
        self.digest = data.measures.digest[index]
        # Ends of each image's own scale, where it has one.
        own_scale = spec.intensity == "percentile"
        tails = data.measures.tails[index] if own_scale else None
        self.windows = _on_device(tails, device)
        self.target = torch.from_numpy(target[index]).to(device)
        self.weight = torch.from_numpy(weight[index].astype(np.float32)).to(device)
        self.part_into(batch_size)
        self.resident = self._upload() if device.type == "cuda" else None
        self.held = self._hold() if self.resident is None else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def part_into(self, batch_size: int) -> None:
        """Make batches of so many images, or a few less."""
        n = len(self)
        # BatchNorm cannot train on one image, and a ragged last batch weighs too much.
        self.n_batches = max(1, min(-(-n // batch_size), n // 2))

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        order = np.arange(len(self)) if self.rng is None else self._shuffled(self.rng)
        for part in np.array_split(order, self.n_batches):
            at = torch.from_numpy(part).to(self.device, non_blocking=True)
            yield self._batch(part, at), self.target[at], self.weight[at]

    def _shuffled(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def _batch(self, part: np.ndarray, at: torch.Tensor) -> torch.Tensor:
        windows = None if self.windows is None else self.windows[at]
        if self.resident is not None:
            raw = self.resident.index_select(0, at)
            return normalise(channels_last(raw), self.spec, windows)
        if self.held is not None:
            return to_tensor(self.held[part], self.spec, self.device, windows)
        return to_tensor(
            self.images.take(self.rows[part]), self.spec, self.device, windows
        )

    def _hold(self) -> np.ndarray | None:
        """Images that are resized, resized once, where they take little memory."""
        if not self.spec.resized:
            return None
        raw = self.images.source[:1]
        before = self.spec.canonical(
            raw.to_numpy() if hasattr(raw, "to_numpy") else raw
        )
        after = self.images.take(slice(0, 1))
        if before.shape == after.shape:
            return None
        if len(self) * after.nbytes > _HELD_BYTES:
            return None
        parts = np.array_split(self.rows, -(-len(self) // self.images.chunk_length()))
        return np.concatenate([self.images.take(part) for part in parts])

    def _upload(self) -> torch.Tensor | None:
        """All images on the GPU as they are, if they fit half of its free memory."""
        first = self.images.take(self.rows[:1])
        native = first.dtype.newbyteorder("=")
        kind = native if native.str[1:] in {"u1", "i2", "f4"} else np.dtype(np.float32)
        if len(self) * first[0].size * kind.itemsize > _free_memory(self.device) / 2:
            return None
        blank = torch.from_numpy(np.empty((1, *first.shape[1:]), dtype=kind))
        resident = torch.empty(
            (len(self), *first.shape[1:]), dtype=blank.dtype, device=self.device
        )
        step = self.images.chunk_length()
        for start in range(0, len(self), step):
            raw = self.images.take(self.rows[start : start + step])
            block = torch.from_numpy(np.array(raw, dtype=kind, order="C"))
            resident[start : start + len(block)].copy_(block)
        return resident


def _free_memory(device: torch.device) -> int:
    """Bytes that tensors may still take; torch keeps some that none takes by now."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


def to_tensor(
    chunk: np.ndarray,
    spec: ImageSpec,
    device: torch.device,
    windows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Raw images to the tensor a network takes.

    Parameters
    ----------
    chunk : ndarray of shape (k, C, *size)
        Images in their own dtype and unit.
    spec : ImageSpec
        Their intensities.
    device : torch.device
        Where to put them.
    windows : torch.Tensor of shape (k, 2), default=None
        Ends of each image's own scale, on `device`, if known already.

    Returns
    -------
    torch.Tensor of shape (k, C, *size)
        float32, standardised, channels last in memory.
    """
    if windows is None:
        windows = _on_device(windows_of(spec, chunk), device)
    memory = torch.channels_last if chunk.ndim == 4 else torch.channels_last_3d
    staged = torch.empty(chunk.shape, memory_format=memory)
    # One pass casts, reorders and copies, whatever the dtype, byte order or strides.
    np.copyto(staged.numpy(), chunk, casting="unsafe")
    return normalise(staged.to(device), spec, windows)


def _on_device(windows: np.ndarray | None, device: torch.device) -> torch.Tensor | None:
    if windows is None:
        return None
    return torch.from_numpy(windows.astype(np.float32)).to(device)


def channels_last(raw: torch.Tensor) -> torch.Tensor:
    """float32 copy of a batch with its channels last in memory."""
    memory = torch.channels_last if raw.ndim == 4 else torch.channels_last_3d
    return torch.empty(raw.shape, device=raw.device, memory_format=memory).copy_(raw)


def normalise(
    x: torch.Tensor, spec: ImageSpec, windows: torch.Tensor | None
) -> torch.Tensor:
    """Clip or scale as `spec` says, then standardise; changes x in place."""
    column = (1, -1) + (1,) * spec.spatial_dims
    if spec.window is not None:
        x.clamp_(*spec.window)
    if windows is not None:
        low, high = windows.view(-1, 2, *column[2:]).split(1, dim=1)
        width = high - low
        width = width.masked_fill_(width <= 0, 1.0)
        x = torch.clamp(x, low, high).sub_(low).div_(width)
    mean, std = (
        constant(values, torch.float32, x.device).view(column)
        for values in (spec.mean, spec.std)
    )
    return x.sub_(mean).div_(std)
