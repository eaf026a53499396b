"""The one threshold of a report, and where it came from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from skmedimg.evaluation._cases import CaseReader, Cases
from skmedimg.metrics import specificity_at_sensitivity, threshold_at_sensitivity


class Threshold(NamedTuple):
    """A threshold; how it was chosen, empty where given; what must be said of that."""

    value: float
    chosen: str = ""
    warning: str | None = None

    @property
    def origin(self) -> str:
        """The threshold and how it was chosen."""
        return f"Threshold {self.value:.4g}{self.chosen and ', '}{self.chosen}"


def choose_threshold(
    cases: Cases,
    threshold: float,
    target_sensitivity: float | None,
    threshold_from: Sequence[Any] | None,
    reader: CaseReader,
) -> Threshold:
    """The threshold given, or that of a target sensitivity.

    Parameters
    ----------
    cases : Cases
        Of the model.
    threshold, target_sensitivity, threshold_from : object
        As in `skmedimg.evaluation.evaluate`.
    reader : CaseReader
        What has read the cases.

    Returns
    -------
    Threshold
        A case is positive where its probability is at least the value.

    Raises
    ------
    ValueError
        If `threshold_from` has no target, too few positive cases for it, or units
        where images are scored.
    """
    if cases.kind != "binary" and target_sensitivity is not None:
        raise ValueError(
            f"target_sensitivity={target_sensitivity:g} is of two classes, and these "
            f"are {len(cases.classes)} classes or labels: evaluate one at a time."
        )
    if target_sensitivity is None:
        if threshold_from is not None:
            raise ValueError(
                "threshold_from= are cases to choose a threshold on, and needs "
                "target_sensitivity=, for example 0.95."
            )
        return Threshold(threshold)
    goal = f"sensitivity of {target_sensitivity:g}"
    if threshold_from is None:
        found = specificity_at_sensitivity(
            cases.y.astype(int), cases.score, target_sensitivity
        ).threshold
        return Threshold(
            found,
            f"chosen on these very cases for a {goal}",
            f"The threshold was chosen on the cases it is evaluated on: the {goal} is "
            "reached by construction, and the specificity is too good. Choose it on "
            "other patients, threshold_from=(y, probabilities).",
        )
    try:
        tuning = _tuning_cases(threshold_from, reader)
        found = threshold_at_sensitivity(
            tuning.y.astype(int), tuning.score, target_sensitivity, groups=tuning.groups
        )
    except ValueError as error:
        raise ValueError(
            f"threshold_from= and target_sensitivity={target_sensitivity:g} gave no "
            f"threshold: {error}"
        ) from error
    return Threshold(
        found,
        f"the largest with a {goal} or more at 95 % confidence "
        f"on {len(tuning.y)} other cases, {int(tuning.y.sum())} of them positive",
        _same_cases(tuning, cases) or _of_images(tuning, cases),
    )


def _tuning_cases(threshold_from: Sequence[Any], reader: CaseReader) -> Cases:
    if len(threshold_from) not in (2, 3, 4):
        raise ValueError(
            f"threshold_from has {len(threshold_from)} parts: pass (y, probabilities), "
            "(y, probabilities, patients) or (y, probabilities, patients, units)."
        )
    y, proba, *others = threshold_from
    groups, unit = (*others, None, None)[:2]
    if unit is not None and reader.unit is None:
        raise ValueError(
            "threshold_from has units, but the cases evaluated are images: a threshold "
            "of units is not one of images. Pass unit=, or leave the units out of "
            "threshold_from."
        )
    return reader.of_others(y, groups, unit).read(proba)


def _same_cases(tuning: Cases, cases: Cases) -> str | None:
    """A warning where the threshold was tuned on what is evaluated, in any order."""
    if not np.array_equal(_in_order(tuning), _in_order(cases)):
        return None
    return (
        "The cases in threshold_from are those evaluated: the sensitivity is reached "
        "by construction. Choose the threshold on other patients."
    )


def _in_order(cases: Cases) -> np.ndarray:
    order = np.lexsort((cases.y, cases.score))
    return np.column_stack([cases.score, cases.y])[order]


def _of_images(tuning: Cases, cases: Cases) -> str | None:
    """A warning where the threshold was tuned on images, and patients are scored."""
    joined = cases.by_unit and not tuning.by_unit
    if not joined or cases.groups is None or tuning.groups is None:
        return None
    n_patients = len(np.unique(tuning.groups))
    one_a_patient = len(np.unique(cases.groups)) == len(cases.y)
    if not one_a_patient or n_patients == len(tuning.y):
        return None
    return (
        f"The threshold was chosen on {len(tuning.y)} rows of {n_patients} patients, "
        "and is applied to one unit a patient: that of single images is not that of "
        "joined ones. Pass their units, "
        "threshold_from=(y, probabilities, patients, units)."
    )
