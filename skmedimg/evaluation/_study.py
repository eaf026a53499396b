"""All that a report is made from, gathered and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._refusals import (
    Known,
    distortions,
    say_distortions,
    say_known,
    say_shared,
    say_threshold,
    say_units,
)
from skmedimg.evaluation._settings import Settings
from skmedimg.evaluation._threshold import Threshold


@dataclass(frozen=True)
class Study:
    """An evaluation before anything is computed of it.

    Attributes
    ----------
    cases : Cases
        Of the model.
    image_labels : ndarray of shape (n,) or (n, n_labels)
        Of the images.
    settings : Settings
        Level, replicates, seed, prevalence.
    threshold : Threshold
        The one of the report.
    estimator : estimator or None
        None where only probabilities were given.
    known : Known
        Training images and patients found.
    compared, baselines : dict of str to Cases
        Other models.
    partitions : dict of str to (labels, patients or None)
        Other cases that were given.
    excluded : mapping of str to int, or None
        Images left out.
    aggregate : object
        How the images of a unit were joined; None where images are scored.
    images : array-like of n images, or None
        To show.
    """

    cases: Cases
    image_labels: np.ndarray
    settings: Settings
    threshold: Threshold
    estimator: Any
    known: Known
    compared: dict[str, Cases]
    baselines: dict[str, Cases]
    partitions: dict[str, tuple[np.ndarray, np.ndarray | None]]
    excluded: Mapping[str, int] | None
    aggregate: str | Callable | None
    images: Any

    @property
    def known_cases(self) -> np.ndarray | None:
        """Which cases hold a training image; None where nobody can tell."""
        if self.known.images is None:
            return None
        return np.bincount(
            self.cases.case_of_image, self.known.images, minlength=len(self.cases.y)
        ).astype(bool)

    @property
    def distorted(self) -> tuple[str, ...]:
        """Parameters of the estimator that distort risks."""
        return distortions(self.estimator)

    @property
    def severe(self) -> list[str]:
        """What makes the figures wrong for what they will be read as."""
        texts = [*say_known(self.known, len(self.image_labels))]
        if self.threshold.warning is not None:
            texts.append(self.threshold.warning)
        return [*texts, *say_shared(self.partitions, self.cases.groups)]

    @property
    def warnings(self) -> list[str]:
        """What a reader must know first, the severe things before the others."""
        return [
            *self.severe,
            *say_threshold(self.estimator, self.threshold.value),
            *say_distortions(self.distorted),
            *say_units(self.cases),
        ]

    @property
    def rivals(self) -> dict[str, Cases]:
        """Other models, and baselines."""
        return self.compared | self.baselines
