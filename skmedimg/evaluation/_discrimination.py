"""How well cases are ranked: the area, other models, curves."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._precision_recall import PrecisionRecallBand
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
from skmedimg.evaluation._settings import Settings, percent
from skmedimg.metrics import (
    Estimate,
    RocBandDisplay,
    bootstrap_ci,
    delong_test,
    mcnemar_test,
    roc_auc_ci,
)

# What the model itself is called beside others.
_OWN = "This model"


def auc_method(cases: Cases) -> str:
    """How the interval of an area was made."""
    if cases.groups is None:
        return "DeLong, logit scale"
    return "Obuchowski by patient, logit scale"


def auc_row(cases: Cases, settings: Settings, of: str = "all") -> Row:
    """Area under the ROC curve of two classes."""
    area = roc_auc_ci(
        cases.y.astype(int), cases.score, groups=cases.groups, level=settings.level
    )
    return Row("AUC", area, of, auc_method(cases))


def bootstrapped(
    cases: Cases, settings: Settings, metrics: Mapping[str, str], threshold: float = 0.5
) -> list[Row]:
    """Rows of metrics by bootstrap; `metrics` maps names of metrics to those shown."""
    found = bootstrap_ci(
        list(metrics),
        cases.y.astype(int),
        cases.score,
        threshold=threshold,
        groups=cases.groups,
        level=settings.level,
        n_bootstrap=settings.n_bootstrap,
        random_state=settings.random_state,
    )
    by = "BCa bootstrap by patient" if cases.groups is not None else "BCa bootstrap"
    rows = []
    for metric, name in metrics.items():
        value, low, high, n_skipped = found[metric]
        method = f"{by}, {n_skipped} replicates skipped" if n_skipped else by
        rows.append(Row(name, Estimate(value, low, high), "all", method))
    return rows


def discrimination(
    cases: Cases,
    settings: Settings,
    rivals: Mapping[str, Cases],
    compared: Sequence[str],
    threshold: float,
    known: np.ndarray | None,
) -> Section:
    """The area with its interval, and beside it other models and baselines.

    Parameters
    ----------
    cases : Cases
        Of the model, two classes.
    settings : Settings
        Level, replicates.
    rivals : mapping of str to Cases
        Other models and baselines.
    compared : sequence of str
        Those of the rivals that are tested against the model.
    threshold : float
        At which accuracies are compared.
    known : ndarray of bool or None
        Which cases hold training images.

    Returns
    -------
    Section
        Of two or three tables.
    """
    rows = [auc_row(cases, settings)]
    rows += bootstrapped(cases, settings, {"average_precision": "Average precision"})
    if known is not None and known.any():
        rows += _without_known(cases, settings, known)
    n_positive = int(cases.y.sum())
    sentences = [
        f"{len(cases.y)} {cases.noun}s, {n_positive} of them positive "
        f"({n_positive / len(cases.y):.1%}). Average precision is to be read against "
        "that share, which is what guessing reaches."
    ]
    rival_rows = _models(cases, rivals, settings)
    tables = [
        as_table(rows, "Areas under the curves"),
        _model_table(rival_rows),
    ]
    differences = _differences(cases, rivals, compared, settings, threshold)
    if differences:
        tables.append(_difference_table(differences))
        sentences.append(
            "Differences are the model less the other, on the same cases; p values "
            "of several comparisons are adjusted by Holm."
        )
    others = [row for row in rival_rows if row.of != _OWN]
    all_rows = [*rows, *others, *(row for row, _, _ in differences)]
    return Section("Discrimination", sentences, tables, rows=all_rows)


def _without_known(cases: Cases, settings: Settings, known: np.ndarray) -> list[Row]:
    positive = cases.y[~known]
    of = "without training images"
    if positive.all() or not positive.any():
        return [Row("AUC", Estimate(NAN, NAN, NAN), of, "one class is left")]
    groups = None if cases.groups is None else cases.groups[~known]
    area = roc_auc_ci(
        positive.astype(int), cases.score[~known], groups=groups, level=settings.level
    )
    return [Row(f"AUC {of}", area, of, auc_method(cases))]


def _models(cases: Cases, rivals: Mapping[str, Cases], settings: Settings) -> list[Row]:
    """AUC and Brier score of each model, the evaluated one first."""
    rows = []
    for name, own in {_OWN: cases, **rivals}.items():
        area = auc_row(own, settings, name)
        if np.ptp(own.score) == 0:
            # Guessing ranks nothing, which is known without a sample.
            area = Row("AUC", point(0.5), name)
        rows.append(area)
        brier = np.mean((own.score - own.y) ** 2)
        rows.append(Row("Brier score", point(brier), name))
    return rows


def _model_table(rows: Sequence[Row]) -> Table:
    import pandas as pd

    areas, briers = rows[::2], rows[1::2]
    frame = pd.DataFrame(
        {
            "Model": [row.of for row in areas],
            "AUC (interval)": [shown(row.estimate) for row in areas],
            "Brier score": [shown(row.estimate) for row in briers],
        }
    )
    return Table("The model beside others, on the same cases", frame)


def _differences(
    cases: Cases,
    rivals: Mapping[str, Cases],
    compared: Sequence[str],
    settings: Settings,
    threshold: float,
) -> list[tuple[Row, float, float]]:
    """Rows of differences with p and adjusted p: areas, then accuracies."""
    y, groups, level = cases.y.astype(int), cases.groups, settings.level
    answer = (cases.score >= threshold).astype(int)
    found: dict[str, list[tuple[Row, float]]] = {"AUC": [], "Accuracy": []}
    for name in compared:
        score = rivals[name].score
        area = delong_test(y, cases.score, score, groups=groups, level=level)
        right = mcnemar_test(
            y, answer, (score >= threshold).astype(int), groups=groups, level=level
        )
        by = "" if groups is None else ", by patient"
        tests = (("AUC", area, f"DeLong{by}"), ("Accuracy", right, f"McNemar{by}"))
        for metric, test, method in tests:
            estimate = Estimate(test.difference, test.low, test.high)
            row = Row(f"{metric}, difference", estimate, name, method)
            found[metric].append((row, test.p_value))
    adjusted = []
    for pairs in found.values():
        corrected = holm([p for _, p in pairs])
        adjusted += [(*pair, q) for pair, q in zip(pairs, corrected, strict=True)]
    return adjusted


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for their number by Holm's step-down method.

    Examples
    --------
    >>> from skmedimg.evaluation._discrimination import holm
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(raised, 1)
    return adjusted.tolist()


def p_text(p: float) -> str:
    """A p value as it is printed."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _difference_table(found: Sequence[tuple[Row, float, float]]) -> Table:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "Difference to": [row.of for row, _, _ in found],
            "Of": [row.metric.partition(",")[0] for row, _, _ in found],
            "Value (interval)": [shown(row.estimate) for row, _, _ in found],
            "p": [p_text(p) for _, p, _ in found],
            "p, Holm": [p_text(q) for _, _, q in found],
            "Test": [row.method for row, _, _ in found],
        }
    )
    return Table("Differences to the models compared with", frame)


def curves(cases: Cases, settings: Settings) -> Section:
    """ROC and precision-recall curves with their bands."""
    roc = partial(
        RocBandDisplay.from_predictions,
        cases.named_y,
        cases.score,
        pos_label=cases.class_names[1],
        groups=cases.groups,
        level=settings.level,
        random_state=settings.random_state,
    )
    area = shown(auc_row(cases, settings).estimate)
    precision = PrecisionRecallBand(cases, settings)

    plots = (
        Plot(
            "roc-curve",
            f"ROC curve. Area {area}.",
            f"ROC curve, sensitivity against one minus specificity, area {area}.",
            computed_once(roc),
        ),
        Plot(
            "precision-recall-curve",
            "Precision-recall curve. The dashed line is the share of positive cases.",
            "Precision against recall, average precision "
            f"{precision.average:.3f}; share of positive cases {cases.y.mean():.3f}.",
            precision.draw,
        ),
    )
    band = f"Bands are {percent(settings.level)} bootstrap intervals"
    band += " that resample patients." if cases.groups is not None else "."
    return Section("ROC and precision-recall curves", [band], plots=plots)
