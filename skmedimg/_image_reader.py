"""File names to images: the first step of a pipeline that takes files."""

import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmedimg._image_files import Decoder
from skmedimg._sequence import ImageSequence, axis_numbers


class ImageReader(TransformerMixin, BaseEstimator):
    """Read files, so that a pipeline takes file names and pickles as one object.

    Parameters
    ----------
    image_size : int or sequence of int
        Pixels along each spatial axis, or along all, that images are resized to,
        antialiased.
    window : (centre, width) or str, default=None
        Window, or the name of one for CT; values become 0 to 1.
    channels : {1, 3}, default=None
        1 makes colour grey by its luma, 3 repeats grey; None takes 3 if any file seen
        at fit is in colour, else 1.
    spacing : float or sequence of float, default=None
        Distance of pixels along each spatial axis, or along all, in mm, that images are
        resampled to before they are cropped or padded to `image_size`.
    groups : "patient", default=None
        Whether the images carry the pseudonym of the patient of each file (DICOM), so
        that early stopping keeps patients apart.
    cache : True or path, default=None
        Folder for decoded pixels, as in `skmedimg.io.ImageSequence`. Without one, files
        are decoded again in every epoch.
    n_jobs : int, default=None
        Worker processes that decode.

    Attributes
    ----------
    channels_ : int
        Channels of the images read, the same at predict as at fit.

    See Also
    --------
    skmedimg.io.ImageSequence : What it gives, with more choices.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmedimg import CNNImageClassifier
    >>> from skmedimg.preprocessing import ImageReader
    >>> pipe = make_pipeline(ImageReader(image_size=(150, 150)), CNNImageClassifier())
    >>> pipe.fit(paths, y)  # doctest: +SKIP
    """

    _parameter_constraints: ClassVar[dict] = {
        "image_size": [Integral, "array-like"],
        "window": [str, "array-like", None],
        "channels": [Options(int, {1, 3}), None],
        "spacing": [Real, "array-like", None],
        "groups": [StrOptions({"patient"}), None],
        "cache": ["boolean", str, os.PathLike, None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        image_size: int | Sequence[int],
        window: tuple[float, float] | str | None = None,
        channels: int | None = None,
        *,
        spacing: float | Sequence[float] | None = None,
        groups: str | None = None,
        cache: bool | str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.image_size = image_size
        self.window = window
        self.channels = channels
        self.spacing = spacing
        self.groups = groups
        self.cache = cache
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> "ImageReader":
        """Find out how many channels the files have.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            File names.
        y : None
            Ignored.

        Returns
        -------
        self
            The fitted reader.

        Raises
        ------
        ValueError
            If a file cannot be read, or a parameter does not fit.
        TypeError
            If X holds no file names.
        """
        self.fit_transform(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> ImageSequence:
        """Fit, and give the images; files are opened once.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            File names.
        y : None
            Ignored.

        Returns
        -------
        ImageSequence of n images
            Lazy, channels last where there are several.
        """
        images = self._read(X, self.channels)
        assert images._channels is not None
        self.channels_ = images._channels
        return images

    def transform(self, X: Any) -> ImageSequence:
        """Read files.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            File names.

        Returns
        -------
        ImageSequence of n images
            Lazy, with the channels of fit.

        Raises
        ------
        ValueError
            If a file cannot be read; names it and the cause.
        TypeError
            If X holds no file names.
        """
        check_is_fitted(self)
        return self._read(X, self._channels())

    def __sklearn_is_fitted__(self) -> bool:
        # Which channels there are is all that fit finds out.
        return self.channels is not None or hasattr(self, "channels_")

    def _channels(self) -> int | None:
        return getattr(self, "channels_", self.channels)

    def decoder(self, root: Path | None) -> Decoder:
        """What is done to each file, for who must go on after a damaged one.

        Parameters
        ----------
        root : Path or None
            Folder that messages name files from.

        Returns
        -------
        Decoder
            With the channels of fit.
        """
        return Decoder(
            image_size=axis_numbers("image_size", self.image_size, int),
            spacing=axis_numbers("spacing", self.spacing, float),
            window=self.window,
            channels=self._channels(),
            root=root,
        )

    def _read(self, X: Any, channels: int | None) -> ImageSequence:
        return ImageSequence(
            _file_names(X),
            self.groups,
            image_size=self.image_size,
            spacing=self.spacing,
            window=self.window,
            channels=channels,
            cache=self.cache,
            n_jobs=self.n_jobs,
        )


def _file_names(X: Any) -> list[Any]:
    names = np.asarray(X, dtype=object)
    if names.shape in ((0,), (0, 1)):
        raise ValueError("X is empty: there is no file to read.")
    if names.ndim == 2 and names.shape[1] == 1:
        names = names[:, 0]
    if names.ndim != 1 or not all(isinstance(x, str | os.PathLike) for x in names):
        raise TypeError(
            "ImageReader reads files: X must hold file names, of shape (n,) or (n, 1); "
            f"it is a {type(X).__name__} of shape {names.shape}. Images in memory go "
            "to the next step as they are: leave ImageReader out."
        )
    return list(names)
