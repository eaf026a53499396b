"""Whether probabilities are risks, and whether acting on them helps."""

from functools import partial

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._report import (
    NAN,
    Plot,
    Row,
    Section,
    Table,
    as_table,
    computed_once,
    point,
    shown,
)
from skmedimg.evaluation._settings import Settings
from skmedimg.metrics import (
    DecisionCurveDisplay,
    Estimate,
    ReliabilityDisplay,
    brier_decomposition,
    calibration_error,
    calibration_fit,
    net_benefit,
)

_TABLED = (0.05, 0.1, 0.2, 0.3, 0.5)


def calibration(
    cases: Cases, settings: Settings, distorted: tuple[str, ...]
) -> Section:
    """Slope, intercept, Brier score and its parts, calibration error, and the curve.

    Parameters
    ----------
    cases : Cases
        Of two classes.
    settings : Settings
        Level and seed.
    distorted : tuple of str
        Parameters that distort risks.

    Returns
    -------
    Section
        A table and a reliability diagram.
    """
    rows = calibration_rows(cases, settings)
    slope, _, large = rows[:3]
    sentences = [
        "A slope of 1 and an intercept of 0 are those of risks that are right on "
        "average; a slope below 1 is of risks too extreme, and a negative "
        "intercept-in-the-large of risks too high. A calibration error within its "
        "null band is no larger than chance gives a perfectly calibrated model."
    ]
    if distorted:
        sentences.append(
            f"{', '.join(distorted)} distorts the probabilities: expect this section "
            "to be poor, and recalibrate before they are used as risks."
        )

    reliability = partial(
        ReliabilityDisplay.from_predictions,
        cases.named_y,
        cases.score,
        pos_label=cases.class_names[1],
        groups=cases.groups,
    )
    plot = Plot(
        "calibration",
        "Observed share of positive cases by predicted probability.",
        "Reliability diagram, observed against predicted: slope "
        f"{shown(slope.estimate)}, intercept-in-the-large {shown(large.estimate)}.",
        computed_once(reliability),
    )
    table = as_table(rows, "Measures of calibration")
    return Section("Calibration", sentences, [table], [plot], rows)


def calibration_rows(cases: Cases, settings: Settings) -> list[Row]:
    """Rows of everything that is one figure."""
    y, score = cases.y.astype(int), cases.score
    fit = calibration_fit(y, score, groups=cases.groups, level=settings.level)
    robust = "Logistic regression"
    if cases.groups is not None:
        robust += ", cluster-robust"
    error = calibration_error(y, score, random_state=settings.random_state)
    parts = brier_decomposition(y, score)
    return [
        Row("Calibration slope", fit.slope, "all", robust),
        Row("Calibration intercept", fit.intercept, "all", robust),
        Row("Intercept-in-the-large", fit.intercept_in_the_large, "all", robust),
        Row("Brier score", point(parts.brier)),
        Row("Brier score, reliability", point(parts.reliability)),
        Row("Brier score, resolution", point(parts.resolution)),
        Row("Brier score, uncertainty", point(parts.uncertainty)),
        Row("Calibration error, debiased", point(error.value)),
        Row(
            "Calibration error of a perfect model",
            Estimate(NAN, error.null_low, error.null_high),
            "all",
            "Null band, by simulation",
        ),
    ]


def decision_curve(cases: Cases, settings: Settings) -> Section:
    """Net benefit over thresholds.

    Parameters
    ----------
    cases : Cases
        Of two classes.
    settings : Settings
        Prevalence.

    Returns
    -------
    Section
        A table of a few thresholds and the curve.
    """
    y, score = cases.y.astype(int), cases.score
    at = net_benefit(y, score, np.array(_TABLED), prevalence=settings.prevalence)

    curve = partial(
        DecisionCurveDisplay.from_predictions,
        cases.named_y,
        score,
        pos_label=cases.class_names[1],
        prevalence=settings.prevalence,
    )
    frame = at.map(lambda value: shown(point(value))).rename(
        columns={"model": "Model", "treat_all": "Treat all", "treat_none": "Treat none"}
    )
    frame.insert(0, "Threshold", [f"{t:g}" for t in at.index])
    rows = [
        Row(f"Net benefit at {t:g}", point(value))
        for t, value in zip(at.index, at["model"], strict=True)
    ]
    plot = Plot(
        "decision-curve",
        "Net benefit of acting on the model, on all and on no case.",
        "Decision curve: net benefit against the threshold probability, beside "
        "treating all and treating none.",
        computed_once(curve),
    )
    sentence = (
        "Net benefit weighs a false positive by the odds of the threshold: the "
        "threshold is the risk at which acting is just worth it, and only the "
        "thresholds that somebody would use matter."
    )
    table = Table("Net benefit at some thresholds", frame.reset_index(drop=True))
    return Section("Decision curve", [sentence], [table], [plot], rows)
