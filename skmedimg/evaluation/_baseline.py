"""What the model must beat: the prevalence, and a regression on simple numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmedimg.images import as_image_source

_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_BATCH = 256


def regression_baseline(
    baseline: Sequence[Any], X: Any
) -> tuple[str, np.ndarray, tuple]:
    """Probabilities by logistic regression on pixel statistics, or on embeddings.

    Parameters
    ----------
    baseline : sequence of two
        Training images (n, …) or embeddings (n, p), and their labels.
    X : array-like
        What is evaluated, of the same kind.

    Returns
    -------
    name : str
        Of the baseline.
    proba : ndarray of shape (m, n_classes)
        Probabilities.
    classes : tuple
        Of the columns.

    Raises
    ------
    ValueError
        If `baseline` is not a pair, or X is not given.
    """
    if len(baseline) != 2:
        raise ValueError(
            f"baseline has {len(baseline)} parts: pass (X_train, y_train), images or "
            "embeddings and their labels."
        )
    if X is None:
        raise ValueError(
            "baseline= learns from images or embeddings, and X is None: pass those "
            "evaluated as X=."
        )
    X_train, y_train = baseline
    name, features = _features(X_train)
    _, of_test = _features(X)
    if features.shape[1] != of_test.shape[1]:
        raise ValueError(
            f"baseline has {features.shape[1]} features an image and X has "
            f"{of_test.shape[1]}: pass both as images, or both as embeddings."
        )
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    y_train = np.asarray(y_train).reshape(len(features))
    regression.fit(features, y_train)
    proba = regression.predict_proba(of_test)
    return (
        f"Logistic regression on {name}", proba, tuple(regression.classes_.tolist())
    )  # fmt: skip


def _features(X: Any) -> tuple[str, np.ndarray]:
    if np.ndim(X) == 2:
        return "embeddings", np.asarray(X, dtype=float)
    return "pixel statistics", pixel_statistics(X)


def pixel_statistics(X: Any) -> np.ndarray:
    """Mean, spread and percentiles of the pixels, and how rough an image is.

    Parameters
    ----------
    X : array-like or ImageSequence of n images
        Of any layout; read in batches.

    Returns
    -------
    ndarray of shape (n, 10)
        One row an image.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg.evaluation._baseline import pixel_statistics
    >>> pixel_statistics(np.zeros((3, 8, 8))).shape
    (3, 10)
    """
    images = as_image_source(X, None, {})[0]
    batches = [
        _statistics(np.asarray(images[start : start + _BATCH], dtype=float))
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(batches)


def _statistics(batch: np.ndarray) -> np.ndarray:
    flat = batch.reshape(len(batch), -1)
    rough = np.abs(np.diff(flat, axis=1)).mean(axis=1)
    percentiles = np.percentile(flat, _PERCENTILES, axis=1)
    return np.column_stack([flat.mean(1), flat.std(1), rough, *percentiles])
