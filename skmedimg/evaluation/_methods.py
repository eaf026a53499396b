"""The statistical methods of a report, in sentences for a paper."""

from collections.abc import Iterator

from skmedimg.evaluation._facts import Facts
from skmedimg.evaluation._settings import percent


def methods_text(facts: Facts) -> str:
    """What was done, as a paragraph.

    Parameters
    ----------
    facts : Facts
        What the report knows.

    Returns
    -------
    str
        Without what only the authors know.
    """
    return " ".join(_sentences(facts))


def _sentences(facts: Facts) -> Iterator[str]:
    yield f"The model was evaluated on {facts.counts} ({facts.outcomes})."
    if facts.positive is not None:
        yield f"The positive class was {facts.positive}."
    if facts.aggregate is not None:
        yield (
            "The probabilities of the images of a unit were joined into one "
            f"({facts.aggregate}), and units were scored."
        )
    yield from _areas(facts)
    if facts.kind == "binary":
        yield from _binary(facts)
    if facts.subgroups:
        yield f"Subgroups were formed by {', '.join(facts.subgroups)}."
    yield f"Analyses were made with {facts.software}."


def _areas(facts: Facts) -> Iterator[str]:
    level = percent(facts.level)
    estimator = (
        "the estimator of Obuchowski with patients as clusters"
        if facts.grouped
        else "the method of DeLong, cases taken as independent"
    )
    what = "Areas under the ROC curve"
    if facts.kind != "binary":
        each = "labels" if facts.kind == "multilabel" else "classes against the rest"
        yield f"Areas under the ROC curve were averaged over {each}."
        what = "They"
    yield (
        f"{what} have {level} confidence intervals on the logit scale by {estimator}."
    )
    resampled = "patients" if facts.grouped else "cases"
    yield (
        "Average precision"
        + (
            ", F1 score and balanced accuracy have"
            if facts.kind == "binary"
            else " has"
        )
        + f" bias-corrected and accelerated bootstrap intervals ({facts.n_bootstrap} "
        f"resamples of {resampled}, seed {facts.random_state})."
    )
    clustered = ", with the effective sample size of the patients" * facts.grouped
    yield f"Proportions have Wilson intervals{clustered}."


def _binary(facts: Facts) -> Iterator[str]:
    if facts.threshold:
        value, chosen, _ = facts.threshold
        yield (
            f"Cases were called positive at a probability of {value:.4g} or more"
            f"{chosen and ', '}{chosen}."
        )
    yield (
        "Predictive values have the logit intervals of Mercaldo et al. at "
        f"{facts.prevalence}."
    )
    yield (
        "Calibration was assessed by logistic recalibration (slope, intercept, "
        "intercept-in-the-large), the Brier score and its parts, and a debiased "
        "calibration error; clinical utility by decision curve analysis."
    )
    if facts.compared:
        clustered = ", with patients as clusters," if facts.grouped else ""
        yield (
            f"It was compared with {', '.join(facts.compared)} by DeLong's test of "
            f"areas and McNemar's of accuracies{clustered} adjusted by Holm."
        )
