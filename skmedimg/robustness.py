"""How much worse a classifier becomes on images that are worse than usual.

Each corruption is a pure function of a batch whose values lie between 0 and 1, of one
number (its strength) and of what was drawn for the images.

>>> import numpy as np
>>> from skmedimg.robustness import corrupt
>>> X = np.random.default_rng(0).integers(256, size=(4, 16, 16), dtype=np.uint8)
>>> noisy = corrupt(X, "noise", severity=3, random_state=0)
>>> noisy.shape, noisy.dtype
((4, 16, 16), dtype('uint8'))
"""

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)

from skmedimg._batch_ops import resize
from skmedimg._intensity import tails_of
from skmedimg._photometry import blur
from skmedimg._transformer import as_dtype, check_finite, in_layout_of
from skmedimg._warp import warp
from skmedimg.images import (
    ImageArray,
    ImageSpec,
    as_image_source,
    check_numeric,
    groups_of,
)
from skmedimg.io import ImageSequence

if TYPE_CHECKING:
    import pandas as pd

_SEVERITIES = (1, 2, 3, 4, 5)


# -- corruptions of a batch (n, C, *spatial), strength and draw apart ------------------


def _noise(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    return x + strength * drawn


def _blur(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    sigma = strength * max(x.shape[2:])
    return blur(x, torch.full((len(x),), sigma, device=x.device), sigma)


def _contrast(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    mean = x.mean(tuple(range(2, x.ndim)), keepdim=True)
    return mean + strength * (x - mean)


def _motion(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    """Mean over a straight path of the length `strength`, centred on each pixel."""
    size = torch.tensor(x.shape[-2:], device=x.device)
    length = strength * float(size.max())
    angle = math.pi * drawn
    path = length * torch.stack([angle.sin(), angle.cos()], 1) * 2 / size
    steps = torch.linspace(-0.5, 0.5, math.ceil(length) + 1, device=x.device)
    total = torch.zeros_like(x)
    for step in steps:
        total += _move_in_plane(x, translation=step * path)
    return total / len(steps)


def _rotation(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    sign = 1 - 2 * (drawn < 0.5).to(x.dtype)
    return _move_in_plane(x, angle=math.radians(strength) * sign[:, None])


def _resolution(x: torch.Tensor, strength: float, drawn: torch.Tensor) -> torch.Tensor:
    size = list(x.shape[2:])
    return _resample(_resample(x, [max(1, round(strength * s)) for s in size]), size)


def _resample(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Resize, antialiased; volumes within slices first, then across them.

    `resize` averages volumes over whole pixels, which blurs more at 80 % than at 50 %.
    """
    if len(size) == 2:
        return resize(x, size)
    depth, *plane = size
    x = resize(x.flatten(1, 2), plane).unflatten(1, x.shape[1:3])
    return resize(x.flatten(3), [depth, math.prod(plane)]).unflatten(3, plane)


def _move_in_plane(x: torch.Tensor, **changes: torch.Tensor) -> torch.Tensor:
    """Warp every slice: distances between slices need not be those of pixels."""
    n = len(x)
    place = {
        "flip": torch.zeros(n, 2, dtype=torch.bool, device=x.device),
        "angle": torch.zeros(n, 1, device=x.device),
        "translation": torch.zeros(n, 2, device=x.device),
        "scale": torch.ones(n, device=x.device),
    }
    return warp(x.flatten(1, -3), place | changes).reshape(x.shape)


def _draw_normal(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device)


def _draw_uniform(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(len(x), generator=generator, device=x.device)


@dataclass(frozen=True)
class _Corruption:
    """What is drawn for a batch, what is done with it, how strongly at 1 to 5."""

    draw: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    apply: Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]
    strengths: tuple[float, float, float, float, float]


_CORRUPTIONS = {
    # Standard deviation, as a share of the range of values.
    "noise": _Corruption(_draw_normal, _noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    # Standard deviation, as a share of the longest axis.
    "blur": _Corruption(_draw_uniform, _blur, (0.01, 0.015, 0.02, 0.03, 0.04)),
    # Share of the contrast that is left.
    "contrast": _Corruption(_draw_uniform, _contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    # Length of the path, as a share of the longer axis of a slice.
    "motion": _Corruption(_draw_uniform, _motion, (0.05, 0.1, 0.15, 0.2, 0.25)),
    # Degrees, either way.
    "rotation": _Corruption(_draw_uniform, _rotation, (5, 10, 15, 20, 30)),
    # Share of the pixels of each axis that is left.
    "resolution": _Corruption(_draw_uniform, _resolution, (0.8, 0.65, 0.5, 0.35, 0.25)),
}


# -- corruptions of arrays, and scores on them -----------------------------------------


@validate_params(
    {
        "estimator": [HasMethods(["fit"])],
        "X": "no_validation",
        "y": ["array-like"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "corruptions": ["array-like", None],
        "severities": ["array-like"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def robustness(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    scoring: Any = None,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = _SEVERITIES,
    random_state: Any = None,
) -> "pd.DataFrame":
    """Score a fitted estimator on corrupted images.

    Parameters
    ----------
    estimator : estimator
        Fitted; one of this package, or any that takes images.
    X : array-like or ImageSequence of n images
        Test images, in the layout of fit; left as they are. A corrupted copy in the
        same dtype is made for one corruption at a time, also where X lies on disk.
    y : array-like of shape (n,) or (n, n_labels)
        True labels.
    scoring : str or callable, default=None
        As everywhere in scikit-learn: the name of a score, a callable with the
        signature ``scorer(estimator, X, y)``, or None for ``estimator.score``. Which
        label is positive is said through
        ``make_scorer(..., response_method="predict_proba", pos_label=...)``.
    corruptions : sequence of str, default=None
        Some of "noise", "blur", "contrast", "motion", "rotation" and "resolution". None
        takes all of them.
    severities : sequence of int, default=(1, 2, 3, 4, 5)
        How severe, from 1 (mild) to 5 (severe).
    random_state : int, RandomState instance or None, default=None
        What noise, directions and signs are drawn from. They are the same at every
        severity of a corruption.

    Returns
    -------
    pandas.DataFrame
        A row for each corruption and severity, after a first one for the images as they
        are ("none", 0). Columns: `corruption`, `severity`, `score`, and `drop`, the
        score on the images as they are less this score.

    Raises
    ------
    ValueError
        If a corruption or a severity is unknown, X cannot be read as images, or a pixel
        is not finite.

    See Also
    --------
    corrupt : The images themselves, to look at.

    Notes
    -----
    The idea is that of MedMNIST-C [1]_ and, before it, of ImageNet-C [2]_. What is done
    at severities 1 to 5:

    ==========  ===================================================  ==================
    noise       Gaussian; standard deviation in % of the values'     4, 8, 12, 18, 26
                range
    blur        Gaussian along every axis; standard deviation in %   1, 1.5, 2, 3, 4
                of the longest axis
    contrast    differences from the image's mean times              .75, .5, .4, .3,
                                                                     .15
    motion      mean over a straight path of random direction;       5, 10, 15, 20, 25
                length in % of the longer axis
    rotation    by so many degrees, either way                       5, 10, 15, 20, 30
    resolution  pixels left along every axis, in %                   80, 65, 50, 35, 25
    ==========  ===================================================  ==================

    Lengths are shares of the image, so that a severity looks alike at any size. Motion
    and rotation of volumes stay within the plane of the last two axes: slices often lie
    farther apart than pixels.

    The range of values is what the estimator learnt (`image_spec_`): the window in HU,
    the .5 and 99.5 percentiles of each image where there is no common unit, or the
    training images' range; for other estimators it is the range of X. Values are
    clipped to it, though never below the least or above the greatest value that an
    image had. An estimator that scales each image by itself does not see `contrast`.

    References
    ----------
    .. [1] F. Di Salvo, S. Doerrich, C. Ledig, "MedMNIST-C: Comprehensive benchmark and
       improved classifier robustness by simulating realistic image corruptions",
       arXiv:2406.17536, 2024.
    .. [2] D. Hendrycks, T. Dietterich, "Benchmarking neural network robustness to
       common corruptions and perturbations", ICLR 2019.

    Examples
    --------
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.datasets import make_lesions
    >>> from skmedimg.robustness import robustness
    >>> data = make_lesions(80, image_size=16, random_state=0)
    >>> X, y = data.images, data.target
    >>> clf = CNNImageClassifier(max_epochs=5, random_state=0).fit(X[:60], y[:60])
    >>> frame = robustness(
    ...     clf, X[60:], y[60:], scoring="roc_auc", corruptions=["noise", "blur"]
    ... )
    >>> frame.pivot(index="corruption", columns="severity", values="drop").shape
    (3, 6)
    """
    import pandas as pd

    names = list(_CORRUPTIONS) if corruptions is None else list(corruptions)
    for name in names:
        _check_name(name)
    for severity in severities:
        _check_severity(severity)
    scorer = check_scoring(estimator, scoring=scoring)
    images = _read_images(X, estimator)
    value_range = _value_range(images)
    seed = _seed(random_state)
    rows = [("none", 0, float(scorer(estimator, X, y)))]
    for name in names:
        for severity in severities:
            changed = _corrupted(images, name, int(severity), value_range, seed)
            rows.append((name, int(severity), float(scorer(estimator, changed, y))))
    frame = pd.DataFrame(rows, columns=["corruption", "severity", "score"])
    return frame.assign(drop=frame["score"].iloc[0] - frame["score"])


@validate_params(
    {
        "X": "no_validation",
        "corruption": [StrOptions(set(_CORRUPTIONS))],
        "severity": [Interval(Integral, 1, 5, closed="both")],
        "estimator": [HasMethods(["fit"]), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def corrupt(
    X: Any,
    corruption: str,
    severity: int,
    *,
    estimator: Any = None,
    random_state: Any = None,
) -> Any:
    """Corrupt images as `robustness` does, for a look at them.

    Parameters
    ----------
    X : array-like or ImageSequence of n images
        Images in any layout; left as they are.
    corruption : {"noise", "blur", "contrast", "motion", "rotation", "resolution"}
        What is done; see `robustness`.
    severity : int
        How severe, from 1 to 5.
    estimator : estimator, default=None
        Fitted; says how X is read and what the range of values is. None, or one that
        does not know, takes both from X.
    random_state : int, RandomState instance or None, default=None
        What noise, directions and signs are drawn from; with the one given to
        `robustness` these are the very images that it scores.

    Returns
    -------
    ndarray or ImageSequence of n images
        In the layout and dtype of X, of the size that the estimator resizes to if it
        does; an `ImageSequence`, with its groups, where X is one.

    Raises
    ------
    ValueError
        If X cannot be read as images, or a pixel is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.robustness import corrupt
    >>> X = np.zeros((1, 20, 20), np.int16)
    >>> X[0, 10, 10] = 1000
    >>> corrupt(X, "blur", severity=5)[0, 10, 8:13]
    array([ 11, 114, 249, 114,  11], dtype=int16)
    """
    images = _read_images(X, estimator)
    seed = _seed(random_state)
    return _corrupted(images, corruption, severity, _value_range(images), seed)


def _check_name(name: Any) -> None:
    if name not in _CORRUPTIONS:
        raise ValueError(
            f"corruptions holds {name!r}; there are {', '.join(_CORRUPTIONS)}."
        )


def _check_severity(severity: Any) -> None:
    if severity not in _SEVERITIES:
        raise ValueError(
            f"severities holds {severity!r}; give whole numbers from 1 to 5."
        )


def _seed(random_state: Any) -> int:
    """One seed for all corruptions; None leaves NumPy's global generator alone."""
    if random_state is None:
        return secrets.randbits(31)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _read_images(X: Any, estimator: Any) -> ImageArray:
    spec = getattr(estimator, "image_spec_", None)
    size, reading = None, {}
    if spec is not None:
        size, reading = spec.size if spec.resized else None, spec.reading
    source, reading = as_image_source(X, size, reading)
    if source.ndim == 2 and (spec is None or spec.tabular):
        raise ValueError(
            f"X has shape {source.shape}, and rows do not say which pixels are "
            "neighbours. Pass images of shape (n, H, W), and let a pipeline flatten "
            "them: make_pipeline(FunctionTransformer(lambda X: X.reshape(len(X), -1)), "
            "estimator); for an estimator of this package set image_shape."
        )
    if isinstance(source, np.ndarray):
        source = check_numeric(source)
    if spec is None:
        try:
            spec = ImageSpec.from_array(source, **reading)
        except ValueError as error:
            raise ValueError(
                f"{error} Where the estimator does not know, give X a channel axis of "
                "length 1, X[:, np.newaxis], and let a pipeline drop it again."
            ) from error
    spec.check(source)
    return ImageArray(source, spec, groups_of(X))


def _value_range(images: ImageArray) -> tuple[float, float]:
    """Range of values that strengths are shares of, unless each image has its own."""
    spec = images.spec
    known = spec.window if spec.intensity == "window" else spec.value_range
    if known is not None:
        return known
    ends = [
        (float(chunk.min()), float(chunk.max()))
        for chunk in map(images.take, images.chunks())
    ]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _corrupted(
    images: ImageArray,
    name: str,
    severity: int,
    value_range: tuple[float, float],
    seed: int,
) -> Any:
    """A corrupted copy of all images, in the layout and dtype of their source."""
    corruption, spec = _CORRUPTIONS[name], images.spec
    own_seed = np.random.default_rng([seed, list(_CORRUPTIONS).index(name)])
    generator = torch.Generator().manual_seed(int(own_seed.integers(2**63)))
    blank = np.empty((0, spec.channels, *spec.size), images.source.dtype)
    shape = in_layout_of(spec, blank).shape[1:]
    result = np.empty((len(images), *shape), blank.dtype.newbyteorder("="))
    for part in images.chunks():
        batch = images.take(part)
        check_finite(batch, part.start)
        x = torch.from_numpy(np.array(batch, dtype=np.float32, order="C"))
        ends = np.tile(value_range, (len(batch), 1))
        if spec.intensity == "percentile":
            ends = tails_of(np.ascontiguousarray(batch))
        x = _apply(corruption, x, severity, torch.from_numpy(ends).float(), generator)
        result[part] = in_layout_of(spec, _cast(x.numpy(), result.dtype))
    if isinstance(images.source, ImageSequence):
        return ImageSequence.from_array(result, groups=images.groups)
    return result


def _apply(
    corruption: _Corruption,
    x: torch.Tensor,
    severity: int,
    ends: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Corrupt a batch in its own unit; row i of `ends` is the range of image i."""
    column = (-1,) + (1,) * (x.ndim - 1)
    low, high = (end.view(column) for end in ends.unbind(1))
    width = torch.where(high > low, high - low, 1.0)
    unit = (x - low) / width
    drawn = corruption.draw(unit, generator)
    changed = corruption.apply(unit, corruption.strengths[severity - 1], drawn)
    flat = unit.flatten(1)
    least, most = flat.amin(1).clamp(max=0), flat.amax(1).clamp(min=1)
    changed = changed.clamp(least.view(column), most.view(column))
    return changed * width + low


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in the dtype of X, which may be narrower than the range seen at fit."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(values.astype(np.float64), limits.min, limits.max)
    return as_dtype(values, dtype)
