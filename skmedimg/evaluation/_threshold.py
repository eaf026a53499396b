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
    pos_label: Any,
) -> Threshold:
    """The threshold given, or that of a target sensitivity.

    Parameters
    ----------
    cases : Cases
        Of the model.
    threshold, target_sensitivity, threshold_from, pos_label : object
        As in `skmedimg.evaluation.evaluate`.

    Returns
    -------
    Threshold
        A case is positive where its probability is at least the value.

    Raises
    ------
    ValueError
        If `threshold_from` has no target, or too few positive cases for it.
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
    tuning = _tuning_cases(threshold_from, pos_label, cases)
    found = threshold_at_sensitivity(
        tuning.y.astype(int), tuning.score, target_sensitivity, groups=tuning.groups
    )
    return Threshold(
        found,
        f"the largest with a {goal} or more at 95 % confidence "
        f"on {len(tuning.y)} other cases, {int(tuning.y.sum())} of them positive",
        _same_cases(tuning, cases),
    )


def _tuning_cases(threshold_from: Sequence[Any], pos_label: Any, cases: Cases) -> Cases:
    if len(threshold_from) not in (2, 3):
        raise ValueError(
            f"threshold_from has {len(threshold_from)} parts: pass (y, probabilities) "
            "or (y, probabilities, patients)."
        )
    y, proba, *groups = threshold_from
    reader = CaseReader(
        None, y, pos_label=pos_label, classes=None, unit=None,
        groups=groups[0] if groups else None, aggregate="mean", label="same",
    )  # fmt: skip
    return reader.read(proba)


def _same_cases(tuning: Cases, cases: Cases) -> str | None:
    """A warning where the threshold was tuned on what is evaluated."""
    if not np.array_equal(tuning.score, cases.score):
        return None
    return (
        "The cases in threshold_from are those evaluated: the sensitivity is reached "
        "by construction. Choose the threshold on other patients."
    )
