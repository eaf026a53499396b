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
    """Classifiers that know their training images, with the images each is given."""
    if hasattr(estimator, "known_images"):
        yield estimator, X
        return
    if hasattr(estimator, "steps"):
        X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
    for inner in _fitted_within(estimator):
        yield from fitted_on_images(inner, X)


def _fitted_within(estimator: Any) -> list[Any]:
    """Fitted parts of pipelines, searches, calibrations and ensembles."""
    if hasattr(estimator, "steps"):
        return [estimator.steps[-1][1]]
    if type(estimator).__name__ == "FrozenEstimator":
        return [estimator.estimator]
    for name in ("best_estimator_", "estimator_"):
        if getattr(estimator, name, None) is not None:
            return [getattr(estimator, name)]
    calibrated = getattr(estimator, "calibrated_classifiers_", None)
    if calibrated is not None:
        return [one.estimator for one in calibrated]
    members = getattr(estimator, "estimators_", [])
    # NumPy would take a pipeline in a list for a row of steps; trees come as an array.
    return list(members.ravel() if isinstance(members, np.ndarray) else members)
