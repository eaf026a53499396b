"""Which patients and images an estimator has seen, without holding any of them."""

import secrets
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import numpy as np


class Fingerprints:
    """Recognises again what it was given; holds keyed hashes of it, 8 bytes each.

    The key is made anew for each model and travels with it: the hashes of two models
    cannot be matched, but whoever holds a model can test a guess against it.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._hashes = np.empty(0, dtype=np.uint64)

    def joined_by(self, contents: Iterable[bytes]) -> "Fingerprints":
        """Those held and those of `contents`; self stays as it is."""
        joined = Fingerprints()
        joined._key = self._key
        joined._hashes = np.union1d(self._hashes, self._hash(contents))
        return joined

    def know(self, contents: Iterable[bytes]) -> np.ndarray:
        """Whether each of `contents` was given before, shape (n,)."""
        return np.isin(self._hash(contents), self._hashes)

    def _hash(self, contents: Iterable[bytes]) -> np.ndarray:
        made = [blake2b(c, key=self._key, digest_size=8).digest() for c in contents]
        return np.frombuffer(b"".join(made), dtype="<u8").astype(np.uint64)


def patient_key(group: Any) -> bytes:
    """The name of a patient as it is fingerprinted."""
    # 7 and 7.0 name one patient: a table with a gap elsewhere turns ints to floats.
    if isinstance(group, float) and group.is_integer():
        group = int(group)
    return str(group).encode()


def fitted_on_images(estimator: Any, X: Any) -> Iterator[tuple[Any, Any]]:
    """What recognises its training images, each with the images that it is given.

    It looks below pipelines, searches, thresholds and frozen estimators, and into every
    member of ensembles and calibrations: each may have seen other images.
    """
    if hasattr(estimator, "known_images"):
        yield estimator, X
        return
    if hasattr(estimator, "steps") and len(estimator.steps) > 1:
        X = estimator[:-1].transform(X)
    for inner in _fitted_inside(estimator):
        yield from fitted_on_images(inner, X)


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The first of `fitted_on_images`; the estimator itself where there is none."""
    return next(fitted_on_images(estimator, X), (estimator, X))


def _fitted_inside(estimator: Any) -> list[Any]:
    if hasattr(estimator, "steps"):
        return [estimator.steps[-1][1]]
    for name in ("best_estimator_", "estimator_"):
        if getattr(estimator, name, None) is not None:
            return [getattr(estimator, name)]
    if type(estimator).__name__ == "FrozenEstimator":
        return [estimator.estimator]
    if hasattr(estimator, "calibrated_classifiers_"):
        return [one.estimator for one in estimator.calibrated_classifiers_]
    members = getattr(estimator, "estimators_", None)
    # Of images it is a list; trees of a forest come as an array too.
    return members if isinstance(members, list) else []
