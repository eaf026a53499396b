"""More than two classes, or several labels an image: the same figures for each."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss

from skmedimg.evaluation._at_threshold import (
    FEWEST_EVENTS,
    by_subgroup,
    proportion_method,
    sensitivity_and_specificity,
)
from skmedimg.evaluation._cases import Cases
from skmedimg.evaluation._discrimination import auc_row, bootstrapped
from skmedimg.evaluation._report import Plot, Row, Section, Table, point, shown
from skmedimg.evaluation._settings import Settings
from skmedimg.metrics import accuracy_ci, macro_auc_ci, proportion_ci

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def macro_row(cases: Cases, settings: Settings) -> Row:
    """Mean area over classes, one against the rest, or over labels."""
    if not np.ptp(cases.score, axis=0).any():
        # Guessing ranks nothing, which is known without a sample.
        return Row("Mean AUC", point(0.5))
    labels = list(cases.classes) if cases.kind == "multiclass" else None
    area = macro_auc_ci(
        cases.y, cases.score, labels=labels, groups=cases.groups, level=settings.level
    )
    by = "DeLong, joint covariance, logit scale"
    if cases.groups is not None:
        by = "Obuchowski by patient, joint covariance, logit scale"
    return Row("Mean AUC", area, "all", by)


def accuracy_row(cases: Cases, settings: Settings) -> Row:
    """Accuracy of the most probable class."""
    accuracy = accuracy_ci(
        cases.y, _answers(cases), groups=cases.groups, level=settings.level
    )
    return Row("Accuracy", accuracy, "all", proportion_method(cases))


def _answers(cases: Cases) -> np.ndarray:
    return np.asarray(cases.classes)[cases.score.argmax(axis=1)]


def discrimination_of_each(
    cases: Cases, settings: Settings, threshold: float, rivals: Mapping[str, Cases]
) -> Section:
    """The mean area, and each class or label with its own.

    Parameters
    ----------
    cases : Cases
        Of several classes or labels.
    settings : Settings
        Level, replicates.
    threshold : float
        Of each label.
    rivals : mapping of str to Cases
        Other models and baselines.

    Returns
    -------
    Section
        A table with a row a class or label, and one with a row a model.
    """
    import pandas as pd

    rows, entries = [macro_row(cases, settings)], []
    for called, (name, own) in zip(cases.class_names, _one_by_one(cases), strict=True):
        found = _figures_of_one(cases, own, name, settings, threshold)
        rows += [row._replace(of=str(name)) for row in found]
        entry = {
            "Name": called,
            "Known": str(len(own.y)),
            "Positive": str(int(own.y.sum())),
        }
        entries.append(entry | {row.metric: shown(row.estimate) for row in found})
    mean = shown(rows[0].estimate)
    what, kind = "classes, one against the rest", "class"
    calls = "The class called is the most probable one."
    if cases.kind == "multilabel":
        what, kind = "labels", "label"
        calls = (
            f"A label is called present at a probability of {threshold:g} or more. "
            "Images where it is not known are left out of its row."
        )
    sentences = [f"Mean area under the ROC curve over {what}: {mean}.", calls]
    table = Table(f"By {kind}", pd.DataFrame(entries))
    others = [macro_row(own, settings)._replace(of=n) for n, own in rivals.items()]
    models = pd.DataFrame(
        {
            "Model": ["This model", *rivals],
            "Mean AUC (interval)": [shown(r.estimate) for r in (rows[0], *others)],
        }
    )
    beside = Table("The model beside others, on the same cases", models)
    return Section("Discrimination", sentences, [table, beside], rows=rows + others)


def _figures_of_one(
    cases: Cases, own: Cases, name: object, settings: Settings, threshold: float
) -> list[Row]:
    """Figures of one class or label; the answer of a class is the most probable."""
    asked, at = own, threshold
    if cases.kind == "multiclass":
        asked, at = replace(own, score=(_answers(cases) == name).astype(float)), 0.5
    return [
        auc_row(own, settings),
        *bootstrapped(own, settings, {"average_precision": "Average precision"}),
        *sensitivity_and_specificity(asked, at, settings),
    ]


def _one_by_one(cases: Cases) -> Iterator[tuple[object, Cases]]:
    """Each class against the rest, or each label where it is known, as binary cases."""
    for i, name in enumerate(cases.classes):
        known = np.ones(len(cases.y), dtype=bool)
        positive = cases.y == name
        if cases.kind == "multilabel":
            known = ~np.isnan(cases.y[:, i])
            positive = cases.y[:, i] == 1
        if len(np.unique(positive[known])) < 2:
            raise ValueError(
                f"{name!r} is {'always' if positive[known].any() else 'never'} present "
                "among the cases evaluated, and has no area under the ROC curve: "
                "evaluate without it."
            )
        yield (
            name,
            replace(
                cases,
                kind="binary",
                y=positive[known],
                score=cases.score[known, i],
                groups=None if cases.groups is None else cases.groups[known],
                subgroups=None if cases.subgroups is None else cases.subgroups[known],
            ),
        )


def confusion_of_classes(cases: Cases, settings: Settings) -> Section:
    """Accuracy, log loss and the whole confusion matrix."""
    import pandas as pd

    order, names = list(cases.classes), list(cases.class_names)
    counts = confusion_matrix(cases.y, _answers(cases), labels=order)
    frame = pd.DataFrame(counts.astype(str), columns=[f"Called {c}" for c in names])
    frame.insert(0, "Truth", names)
    # scikit-learn reads the columns in the order of sorted labels.
    columns = np.argsort(np.array(order))
    labels, score = np.array(order)[columns], cases.score[:, columns]
    rows = [
        accuracy_row(cases, settings),
        Row("Log loss", point(log_loss(cases.y, score, labels=labels))),
        Row("Brier score", point(brier_score_loss(cases.y, score, labels=labels))),
    ]
    sentences = [f"{row.metric} {shown(row.estimate)}." for row in rows]

    def draw(ax: "Axes") -> None:
        share = counts / counts.sum(axis=1, keepdims=True)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(*counts.shape):
            # On dark blue, dark text is lost.
            colour = "white" if share[i, j] > 0.5 else "#222222"
            ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
        ticks = range(len(order))
        ax.set_xticks(ticks, names, rotation=45, ha="right")
        ax.set_yticks(ticks, names)
        ax.set(xlabel="Called", ylabel="Truth")

    plot = Plot(
        "confusion-matrix",
        "Confusion matrix; the darker, the larger the share of the true class.",
        "Confusion matrix, the numbers of the table.",
        draw,
    )
    table = Table(f"Confusion matrix, numbers of {cases.noun}s", frame)
    return Section("Confusion matrix", sentences, [table], [plot], rows)


def accuracy_by_subgroup(cases: Cases, settings: Settings) -> Section:
    """Accuracy of each subgroup; the classes of few cases make areas unsteady."""
    import pandas as pd

    entries, rows = [], []
    right = cases.y == _answers(cases)
    for name, chosen in cases.parts():
        text = f"not shown, < {FEWEST_EVENTS}"
        if chosen.sum() >= FEWEST_EVENTS:
            groups = None if cases.groups is None else cases.groups[chosen]
            own = proportion_ci(right[chosen], groups=groups, level=settings.level)
            rows.append(Row("Accuracy", own, name, proportion_method(cases)))
            text = shown(own)
        entries.append(
            {
                "Subgroup": name,
                f"{cases.noun.capitalize()}s": str(chosen.sum()),
                "Accuracy": text,
            }
        )
    table = Table("Subgroups, value with interval", pd.DataFrame(entries))
    return Section("Subgroups", ["Described, not tested."], [table], rows=rows)


def labels_by_subgroup(cases: Cases, threshold: float, settings: Settings) -> Section:
    """Figures of each label in each subgroup, among the images where it is known."""
    tables, rows = [], []
    for called, (name, own) in zip(cases.class_names, _one_by_one(cases), strict=True):
        found = by_subgroup(own, threshold, settings)
        frame = found.tables[0].frame
        tables.append(Table(f"{called}: subgroups, value with interval", frame))
        rows += [row._replace(of=f"{name}, {row.of}") for row in found.rows]
    return Section("Subgroups", found.sentences, tables, rows=rows)
