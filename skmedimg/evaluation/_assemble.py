"""From a study to its report: the sections in their order, and what they know."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from skmedimg.evaluation._at_threshold import at_threshold, by_subgroup
from skmedimg.evaluation._checklists import CLAIM, TRIPOD_AI, answers
from skmedimg.evaluation._cohort import (
    cohort,
    hardest_cases,
    model_text,
    provenance,
    training_history,
    versions,
)
from skmedimg.evaluation._discrimination import curves, discrimination
from skmedimg.evaluation._facts import Facts
from skmedimg.evaluation._methods import methods_text
from skmedimg.evaluation._refusals import overlap_text
from skmedimg.evaluation._report import EvaluationReport, Row, Section, Table
from skmedimg.evaluation._risk import calibration, decision_curve
from skmedimg.evaluation._settings import percent
from skmedimg.evaluation._several import (
    accuracy_by_subgroup,
    confusion_of_classes,
    discrimination_of_each,
    labels_by_subgroup,
)
from skmedimg.evaluation._study import Study

# The figures at the top of the page, where the report has them.
_HEADLINE = ("AUC", "Mean AUC", "Sensitivity", "Specificity", "Calibration slope",
             "Accuracy")  # fmt: skip


def make_report(study: Study) -> EvaluationReport:
    """Compute every section of a study.

    Parameters
    ----------
    study : Study
        Gathered and checked.

    Returns
    -------
    EvaluationReport
        Complete.
    """
    several = study.cases.kind != "binary"
    sections = [_cohort(study)]
    sections += _several(study) if several else _binary(study)
    history = training_history(study.estimator)
    sections += [] if history is None else [history]
    sections.append(
        provenance(
            study.estimator, study.settings.random_state, study.settings.n_bootstrap
        )
    )
    facts = facts_of(study)
    sections.append(_checklists(facts))
    return EvaluationReport(
        title="Evaluation report",
        summary=_summary(study),
        headline=_headline(sections, several),
        sections=tuple(sections),
        warnings=tuple(study.warnings),
        _methods=methods_text(facts),
    )


def _cohort(study: Study) -> Section:
    return cohort(study.cases, study.image_labels, study.partitions, study.excluded)


def _binary(study: Study) -> Iterator[Section]:
    cases, settings = study.cases, study.settings
    yield discrimination(
        cases,
        settings,
        study.rivals,
        list(study.compared),
        study.threshold.value,
        study.known_cases,
    )
    yield curves(cases, settings)
    yield at_threshold(cases, study.threshold, settings)
    yield calibration(cases, settings, study.distorted)
    yield decision_curve(cases, settings)
    if cases.subgroups is not None:
        yield by_subgroup(cases, study.threshold.value, settings)
    yield hardest_cases(cases, study.images)


def _several(study: Study) -> Iterator[Section]:
    cases, settings = study.cases, study.settings
    yield discrimination_of_each(cases, settings, study.threshold.value, study.rivals)
    if cases.kind == "multilabel":
        if cases.subgroups is not None:
            yield labels_by_subgroup(cases, study.threshold.value, settings)
        return
    yield confusion_of_classes(cases, settings)
    if cases.subgroups is not None:
        yield accuracy_by_subgroup(cases, settings)
    yield hardest_cases(cases, study.images)


def _checklists(facts: Facts) -> Section:
    import pandas as pd

    columns = ["Item", "Asks for", "Answer"]
    tables = [
        Table(name, pd.DataFrame(answers(items, facts), columns=columns))
        for name, items in (("CLAIM 2024", CLAIM), ("TRIPOD+AI", TRIPOD_AI))
    ]
    sentences = [
        "Numbers are the published ones, items are paraphrased: submit the published "
        "forms. What this report cannot know is left to the authors."
    ]
    return Section("Reporting checklists", sentences, tables)


def _headline(sections: list[Section], several: bool) -> tuple[Row, ...]:
    found = {
        row.metric: row
        for section in sections
        for row in section.rows
        if row.of == "all"
    }
    names = [n for n in _HEADLINE if not (n == "Accuracy" and not several)]
    return tuple(found[name] for name in names if name in found)


def _summary(study: Study) -> tuple[str, ...]:
    cases = study.cases
    lines = [f"{cases.counts()}."]
    if cases.kind == "binary":
        lines.append(f"Positive = {cases.class_names[1]}")
        lines.append(f"{study.threshold.origin}.")
    else:
        what = "Labels" if cases.kind == "multilabel" else "Classes"
        lines.append(f"{what}: {', '.join(cases.class_names)}.")
    by = "by patient" if cases.groups is not None else f"over {cases.noun}s"
    lines.append(f"{percent(study.settings.level)} confidence intervals {by}.")
    return tuple(lines)


def facts_of(study: Study) -> Facts:
    """What the methods text and the checklists may state.

    Parameters
    ----------
    study : Study
        Gathered and checked.

    Returns
    -------
    Facts
        None or empty where nobody said.
    """
    cases, estimator = study.cases, study.estimator
    binary = cases.kind == "binary"
    prevalence = study.settings.prevalence
    excluded = study.excluded
    return Facts(
        kind=cases.kind,
        model=None if estimator is None else model_text(estimator),
        neural=hasattr(estimator, "module_"),
        epochs=getattr(estimator, "n_iter_", None),
        initial_weights=_initial_weights(estimator),
        counts=cases.counts(),
        outcomes=_outcomes(study),
        n_excluded=None if excluded is None else sum(excluded.values()),
        positive=cases.class_names[1] if binary else None,
        unit=cases.noun,
        aggregate=None if study.aggregate is None else _name(study.aggregate),
        grouped=cases.groups is not None,
        overlap=overlap_text(study.known),
        partitions=("Evaluation", *study.partitions),
        threshold=None if cases.kind == "multiclass" else study.threshold,
        prevalence=(
            "the prevalence of these cases"
            if prevalence is None
            else f"a prevalence of {prevalence:g}"
        ),
        level=study.settings.level,
        n_bootstrap=study.settings.n_bootstrap,
        random_state=str(study.settings.random_state),
        subgroups=() if cases.subgroups is None else tuple(map(str, cases.subgroups)),
        compared=tuple(study.compared),
        baselines=tuple(study.baselines),
        distortions=study.distorted,
        software=", ".join(
            f"{name} {number}"
            for name, number in versions().items()
            if name != "System"
        ),
    )


def _initial_weights(estimator: Any) -> str | None:
    if not hasattr(estimator, "module_"):
        return None
    weights = getattr(estimator, "weights", None)
    return "random" if weights is None else type(weights).__name__


def _outcomes(study: Study) -> str:
    cases = study.cases
    if cases.kind == "multilabel":
        n = np.nansum(cases.y, axis=0).astype(int).tolist()
    elif cases.kind == "binary":
        n = [int(np.sum(~cases.y)), int(np.sum(cases.y))]
    else:
        n = [int(np.sum(cases.y == label)) for label in cases.classes]
    pairs = zip(n, cases.class_names, strict=True)
    return ", ".join(f"{count} {name}" for count, name in pairs)


def _name(aggregate: Any) -> str:
    return getattr(aggregate, "__name__", str(aggregate))
