"""CLAIM 2024 and TRIPOD+AI: what the report answers, and what its authors must.

The items are paraphrased. Their numbers, order and topics were compared with the items
of CLAIM 2024 in RSNA's repository (https://github.com/RSNA/CLAIM), and with
transcriptions of table 2 of TRIPOD+AI; with the articles as printed they were not. An
answer states what the report knows; what it does not know is left to the author, never
filled in.

- A. S. Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging
  (CLAIM): 2024 update", Radiology: Artificial Intelligence 6(4):e240300, 2024.
- G. S. Collins et al., "TRIPOD+AI statement: updated guidance for reporting clinical
  prediction models that use regression or machine learning methods", BMJ
  385:e078378, 2024.
"""

from collections.abc import Callable
from typing import NamedTuple

from skmedimg.evaluation._facts import Facts
from skmedimg.evaluation._settings import percent

AUTHOR = "Author must state"
NOT_APPLICABLE = "Not applicable"

Answer = Callable[[Facts], str]


class Item(NamedTuple):
    """One item: its number, what it asks for, and what answers it."""

    number: str
    topic: str
    answer: Answer | None = None


def answers(items: tuple[Item, ...], facts: Facts) -> list[tuple[str, str, str]]:
    """Number, topic and answer of each item.

    Parameters
    ----------
    items : tuple of Item
        `CLAIM` or `TRIPOD_AI`.
    facts : Facts
        What the report knows.

    Returns
    -------
    list of tuple of str
        In the order of the items.
    """
    return [
        (item.number, item.topic, AUTHOR if item.answer is None else item.answer(facts))
        for item in items
    ]


# -- what the report knows ------------------------------------------------------------


def _category(facts: Facts) -> str:
    if facts.neural:
        return f"{AUTHOR} in the title; the model is a convolutional network"
    return AUTHOR


def _model(facts: Facts) -> str:
    return f"{AUTHOR}; {facts.model}" if facts.model else AUTHOR


def _software(facts: Facts) -> str:
    if facts.model is None:
        return f"{AUTHOR} for the model; evaluation: {facts.software}"
    return facts.software


def _initialisation(facts: Facts) -> str:
    if facts.initial_weights is None:
        return AUTHOR
    return f"Weights started from: {facts.initial_weights}"


def _training(facts: Facts) -> str:
    if facts.epochs is None:
        return AUTHOR
    return f"{AUTHOR}; {facts.epochs} epochs, see Training history"


def _missing(facts: Facts) -> str:
    if facts.n_excluded is None:
        return AUTHOR
    return (
        f"{facts.n_excluded} images were left out, see Patients and cases; {AUTHOR} why"
    )


def _partitions(facts: Facts) -> str:
    if len(facts.partitions) < 2:
        return AUTHOR
    return f"{AUTHOR}; counts of {', '.join(facts.partitions)} in Patients and cases"


def _disjoint(facts: Facts) -> str:
    return facts.overlap or AUTHOR


def _metrics(facts: Facts) -> str:
    area = "area under the ROC curve"
    if facts.kind == "multiclass":
        return f"Mean one-versus-rest {area}, {area} of each class, accuracy"
    if facts.kind == "multilabel":
        return f"Mean {area} over labels, {area} of each label, average precision"
    return (
        f"A{area[1:]}, average precision; sensitivity, specificity, predictive "
        "values, F1 and balanced accuracy at the threshold; calibration; net benefit"
    )


def _measures(facts: Facts) -> str:
    return f"{_metrics(facts)}. {AUTHOR} why, and how published models compare"


def _test_size(facts: Facts) -> str:
    return f"Tested: {facts.counts}. {AUTHOR} the size intended, and why"


def _uncertainty(facts: Facts) -> str:
    by = "patients as clusters" if facts.grouped else "cases taken as independent"
    return f"{percent(facts.level)} intervals with {by}, see Statistical methods"


def _flow(facts: Facts) -> str:
    if facts.n_excluded is None:
        return f"Included: {facts.counts}. {AUTHOR} how many were excluded and why"
    return f"Included: {facts.counts}; excluded: {facts.n_excluded} images"


def _cohort(facts: Facts) -> str:
    if not facts.subgroups:
        return AUTHOR
    return f"{', '.join(facts.subgroups)}: see Patients and cases. {AUTHOR} all others"


def _performance(facts: Facts) -> str:
    return "See Discrimination and the sections below it"


def _subgroup_performance(facts: Facts) -> str:
    where = "See Discrimination"
    if not facts.subgroups:
        return f"{where}; no subgroups were given"
    return f"{where}; subgroups by {', '.join(facts.subgroups)}"


def _all_performance(facts: Facts) -> str:
    return f"{_subgroup_performance(facts)}. {AUTHOR} that on other partitions"


def _failures(facts: Facts) -> str:
    if facts.kind == "multilabel":
        return AUTHOR
    return f"See Hardest cases for which; {AUTHOR} why"


def _imbalance(facts: Facts) -> str:
    if facts.model is None:
        return AUTHOR
    if not facts.distortions:
        return f"{NOT_APPLICABLE}: no class weights, resampling, focal loss or mixup"
    return f"{'; '.join(facts.distortions)}. {AUTHOR} why, and any recalibration"


def _ensembling(facts: Facts) -> str:
    return f"{NOT_APPLICABLE}: a single network" if facts.neural else AUTHOR


def _output(facts: Facts) -> str:
    if facts.kind == "multiclass":
        return "Probabilities of the classes; the predicted class is the most probable"
    if facts.kind == "multilabel":
        return f"Probability of each label; {_threshold(facts)}"
    return f"Probability of {facts.positive}; {_threshold(facts)}"


def _threshold(facts: Facts) -> str:
    origin = "" if facts.threshold is None else facts.threshold.origin
    return f"{origin[0].lower()}{origin[1:]}. {AUTHOR} its rationale"


def _evaluation(facts: Facts) -> str:
    return f"{_metrics(facts)}. Compared with: {_compared(facts)}"


def _compared(facts: Facts) -> str:
    return ", ".join([*facts.compared, *facts.baselines])


def _events(facts: Facts) -> str:
    return f"{facts.counts}: {facts.outcomes}"


def _predictions(facts: Facts) -> str:
    text = f"scored by {facts.unit}"
    if facts.aggregate:
        text += f", the images of one joined by: {facts.aggregate}"
    return f"{_model(facts)}; {text}"


CLAIM = (
    Item("1", "Study of AI methodology; category of technology", _category),
    Item("2", "Summary of design, methods, results and conclusions"),
    Item("3", "Scientific or clinical background; intended use and role"),
    Item("4", "Aims, objectives and hypotheses"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Study goal"),
    Item("7", "Sources of the data"),
    Item("8", "Inclusion and exclusion criteria"),
    Item("9", "Preprocessing of the data"),
    Item("10", "Selection of subsets of the data"),
    Item("11", "De-identification"),
    Item("12", "Handling of missing data", _missing),
    Item("13", "Image acquisition protocol"),
    Item("14", "How the reference standard was obtained"),
    Item("15", "Why this reference standard"),
    Item("16", "Source of the reference standard's annotations"),
    Item("17", "Annotation of the test set"),
    Item("18", "Variability between and within annotators"),
    Item("19", "How data were assigned to partitions", _partitions),
    Item("20", "Level at which partitions are disjoint", _disjoint),
    Item("21", "Intended size of the test set, and why", _test_size),
    Item("22", "Detailed description of the model", _model),
    Item("23", "Software libraries, frameworks and packages", _software),
    Item("24", "Initialisation of the model's parameters", _initialisation),
    Item("25", "Details of training", _training),
    Item("26", "Selection of the final model"),
    Item("27", "Ensembling, if any", _ensembling),
    Item("28", "Metrics of performance; published models", _measures),
    Item("29", "Significance and uncertainty", _uncertainty),
    Item("30", "Robustness or sensitivity analysis"),
    Item("31", "Explainability or interpretability"),
    Item("32", "Evaluation on internal data"),
    Item("33", "Testing on external data"),
    Item("34", "Clinical trial registration"),
    Item("35", "Patients or examinations included and excluded", _flow),
    Item("36", "Demographic and clinical characteristics by partition", _cohort),
    Item("37", "Performance and its uncertainty, all partitions", _all_performance),
    Item("38", "Diagnostic performance and its precision", _performance),
    Item("39", "Analysis of failures", _failures),
    Item("40", "Limitations"),
    Item("41", "Implications for practice, intended use and role"),
    Item("42", "Full protocol or further technical details"),
    Item("43", "Availability of software, trained model and data"),
    Item("44", "Funding and other support; role of funders"),
)

TRIPOD_AI = (
    Item("1", "Title: development or evaluation, population, outcome"),
    Item("2", "Abstract (TRIPOD+AI for Abstracts)"),
    Item("3a", "Healthcare context and rationale; existing models"),
    Item("3b", "Target population, purpose and users in the care pathway"),
    Item("3c", "Known health inequalities between groups"),
    Item("4", "Objectives: development or validation"),
    Item("5a", "Sources of development and evaluation data; their choice"),
    Item("5b", "Dates of the data"),
    Item("6a", "Setting, number and location of centres"),
    Item("6b", "Eligibility of participants"),
    Item("6c", "Treatments received, and how they were handled"),
    Item("7", "Data preparation and quality checks"),
    Item("8a", "Outcome and time horizon, when and how assessed, why"),
    Item("8b", "Who assessed a subjective outcome"),
    Item("8c", "Blinding of the outcome's assessment"),
    Item("9a", "Choice of the initial predictors, and preselection"),
    Item("9b", "Definition of the predictors"),
    Item("9c", "Who assessed subjective predictors"),
    Item("10", "How the study size was arrived at"),
    Item("11", "Missing data", _missing),
    Item("12a", "How the data were used and partitioned", _partitions),
    Item("12b", "Handling of predictors: form, rescaling, transformation"),
    Item("12c", "Type of model, building, tuning, internal validation", _model),
    Item("12d", "Heterogeneity between clusters (hospitals, countries)"),
    Item("12e", "Measures and plots of performance; comparisons", _evaluation),
    Item("12f", "Model updating after the evaluation"),
    Item("12g", "How the evaluated predictions were calculated", _predictions),
    Item("13", "Class imbalance: methods and recalibration", _imbalance),
    Item("14", "Fairness"),
    Item("15", "Output of the model; origin of thresholds", _output),
    Item("16", "Differences of development and evaluation data"),
    Item("17", "Ethical approval and consent"),
    Item("18a", "Funding"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Protocol"),
    Item("18d", "Registration"),
    Item("18e", "Availability of the data"),
    Item("18f", "Availability of the code"),
    Item("19", "Patient and public involvement"),
    Item("20a", "Flow of participants, with and without the outcome", _flow),
    Item("20b", "Characteristics, overall and by source", _cohort),
    Item("20c", "Evaluation compared with development data"),
    Item("21", "Participants and outcome events in each analysis", _events),
    Item("22", "The full model, for predictions in new people"),
    Item("23a", "Performance with intervals, key subgroups", _subgroup_performance),
    Item("23b", "Heterogeneity of performance between clusters"),
    Item("24", "Results of model updating"),
    Item("25", "Interpretation, fairness, previous studies"),
    Item("26", "Limitations: sample, bias, missing data, generalisability"),
    Item("27a", "Poor or unavailable input data in use"),
    Item("27b", "Users' interaction with input or output; expertise needed"),
    Item("27c", "Next steps of research"),
)
