"""What happens at the one threshold: in all cases, and in subgroups."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._discrimination import auc_method, auc_row, bootstrapped
from skmedimg.evaluation._report import (
    NAN,
    Plot,
    Row,
    Section,
    Table,
    as_table,
    shown,
)
from skmedimg.evaluation._settings import Settings
from skmedimg.evaluation._threshold import Threshold
from skmedimg.metrics import (
    Estimate,
    SubgroupDisplay,
    accuracy_ci,
    predictive_values_ci,
    sensitivity_ci,
    specificity_ci,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Below it a figure says more about single patients than about a subgroup.
FEWEST_EVENTS = 10
_UNKNOWN = Estimate(NAN, NAN, NAN)


def proportion_method(cases: Cases) -> str:
    """How the interval of a proportion was made."""
    if cases.groups is None:
        return "Wilson"
    return "Wilson, effective size by patient"


def sensitivity_and_specificity(
    cases: Cases, threshold: float, settings: Settings
) -> list[Row]:
    """Rows of sensitivity and specificity."""
    y, answer = cases.y.astype(int), (cases.score >= threshold).astype(int)
    shared = {"groups": cases.groups, "level": settings.level}
    method = proportion_method(cases)
    return [
        Row("Sensitivity", sensitivity_ci(y, answer, **shared), "all", method),
        Row("Specificity", specificity_ci(y, answer, **shared), "all", method),
    ]


def at_threshold(cases: Cases, threshold: Threshold, settings: Settings) -> Section:
    """Confusion matrix and the figures that follow from it.

    Parameters
    ----------
    cases : Cases
        Of two classes.
    threshold : Threshold
        Positive is what has this probability or more.
    settings : Settings
        Level, replicates, prevalence.

    Returns
    -------
    Section
        Of two tables.
    """
    y, answer = cases.y.astype(int), (cases.score >= threshold.value).astype(int)
    rows = sensitivity_and_specificity(cases, threshold.value, settings)
    values = predictive_values_ci(
        y,
        answer,
        prevalence=settings.prevalence,
        groups=cases.groups,
        level=settings.level,
    )
    at = f"at prevalence {_prevalence(cases, settings):.3g}"
    rows += [
        Row(f"PPV {at}", values.ppv, "all", "Mercaldo, logit scale"),
        Row(f"NPV {at}", values.npv, "all", "Mercaldo, logit scale"),
        Row(
            "Accuracy",
            accuracy_ci(y, answer, groups=cases.groups, level=settings.level),
            "all",
            rows[0].method,
        ),
    ]
    names = {"balanced_accuracy": "Balanced accuracy", "f1": "F1 score"}
    rows += bootstrapped(cases, settings, names, threshold.value)
    whose = "of these cases" if settings.prevalence is None else "as given"
    sentences = [
        f"{threshold.origin}: a {cases.noun} is positive at this probability or more.",
        f"Predictive values hold at a prevalence of "
        f"{_prevalence(cases, settings):.3g}, {whose}.",
    ]
    tables = [_confusion(cases, answer), as_table(rows, "Performance at the threshold")]
    return Section("At the threshold", sentences, tables, rows=rows)


def _prevalence(cases: Cases, settings: Settings) -> float:
    if settings.prevalence is None:
        return float(cases.y.mean())
    return settings.prevalence


def _confusion(cases: Cases, answer: np.ndarray) -> Table:
    import pandas as pd

    negative, positive = cases.class_names
    counts = [
        [int(np.sum((cases.y == truth) & (answer == said))) for said in (1, 0)]
        for truth in (1, 0)
    ]
    frame = pd.DataFrame(
        {
            "Truth": [f"Positive: {positive}", f"Negative: {negative}"],
            "Called positive": [str(row[0]) for row in counts],
            "Called negative": [str(row[1]) for row in counts],
        }
    )
    return Table(f"Confusion matrix, numbers of {cases.noun}s", frame)


def by_subgroup(cases: Cases, threshold: float, settings: Settings) -> Section:
    """Figures of each subgroup at the same threshold.

    Parameters
    ----------
    cases : Cases
        With subgroups.
    threshold : float
        The one of the report: one a subgroup would hide how it serves them.
    settings : Settings
        Level.

    Returns
    -------
    Section
        A table and a forest plot of the areas.
    """
    found = list(_parts(cases, threshold, settings))
    rows = [row for _, _, own in found for row in own]
    areas = {row.of: row.estimate for row in rows if row.metric == "AUC"}
    shown_areas = {of: None if np.isnan(a.value) else a for of, a in areas.items()}
    overall = auc_row(cases, settings).estimate

    def draw(ax: "Axes") -> None:
        SubgroupDisplay(shown_areas, overall=overall, level=settings.level).plot(ax=ax)

    listed = "; ".join(f"{of} {_or_suppressed(area)}" for of, area in areas.items())
    plot = Plot(
        "subgroups",
        "Area under the ROC curve by subgroup.",
        f"Forest plot of areas under the ROC curve: {listed}.",
        draw,
        height=1.6 + 0.35 * len(areas),
        width=6.5,
    )
    sentences = [
        "The threshold is the same in all subgroups. A figure that rests on fewer "
        f"than {FEWEST_EVENTS} cases of a class is not shown. Subgroups are "
        "described, not tested."
    ]
    table = _subgroup_table(found, cases.noun)
    return Section("Subgroups", sentences, [table], [plot], rows)


def _parts(
    cases: Cases, threshold: float, settings: Settings
) -> Iterator[tuple[str, Cases, list[Row]]]:
    for name, chosen in cases.parts():
        own = _part(cases, chosen)
        yield name, own, _figures(own, name, threshold, settings)


def _part(cases: Cases, chosen: np.ndarray) -> Cases:
    groups = None if cases.groups is None else cases.groups[chosen]
    return replace(cases, y=cases.y[chosen], score=cases.score[chosen], groups=groups)


def _figures(own: Cases, name: str, threshold: float, settings: Settings) -> list[Row]:
    """Figures of a subgroup; NaN where too few cases bear them."""
    n_positive = int(own.y.sum())
    enough = {
        "Sensitivity": n_positive >= FEWEST_EVENTS,
        "Specificity": len(own.y) - n_positive >= FEWEST_EVENTS,
    }
    area = auc_row(own, settings).estimate if all(enough.values()) else _UNKNOWN
    rows = [Row("AUC", area, name, auc_method(own))]
    for metric, interval in (
        ("Sensitivity", sensitivity_ci),
        ("Specificity", specificity_ci),
    ):
        estimate = _UNKNOWN
        if enough[metric]:
            answer = (own.score >= threshold).astype(int)
            estimate = interval(
                own.y.astype(int),
                answer,
                pos_label=1,
                groups=own.groups,
                level=settings.level,
            )
        rows.append(Row(metric, estimate, name, proportion_method(own)))
    return rows


def _subgroup_table(found: list[tuple[str, Cases, list[Row]]], noun: str) -> Table:
    import pandas as pd

    frame = pd.DataFrame(
        [
            {
                "Subgroup": name,
                f"{noun.capitalize()}s": str(len(own.y)),
                "Positive": str(int(own.y.sum())),
                **{row.metric: _or_suppressed(row.estimate) for row in rows},
            }
            for name, own, rows in found
        ]
    )
    return Table("Subgroups, value with interval", frame)


def _or_suppressed(estimate: Estimate) -> str:
    few = f"not shown, < {FEWEST_EVENTS}"
    return few if np.isnan(estimate.value) else shown(estimate)
