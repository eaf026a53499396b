"""Made predictions, and how tests read a report of them."""

import numpy as np
import pytest

from skmedimg.evaluation import evaluate

# Ten images are easily ranked without a mistake, or all wrongly: both are said.
few_images = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.UndefinedMetricWarning",
    "ignore:The AUC is .*, below one half",
)


def make_predictions(seed, n_patients=60):
    rng = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(2 * n_patients), 2)
    patient = lesion // 2
    y = (rng.random(2 * n_patients) < 0.4).astype(int)[lesion]
    shared = 0.7 * rng.normal(size=n_patients)[patient]
    score = 1 / (1 + np.exp(0.8 - 1.6 * y - shared - rng.normal(size=len(y))))
    return {"y": y, "score": score, "lesion": lesion, "patient": patient}


def report_of(data, **params):
    params = {"unit": data["lesion"], "groups": data["patient"]} | params
    return evaluate(data["score"], y=data["y"], n_bootstrap=200, **params)


def figures(report, of="all"):
    frame = report.to_frame()
    return frame[frame.of == of].set_index("metric")


def bounds(report, metric, of="all"):
    return figures(report, of).loc[metric, ["value", "low", "high"]].to_list()


def checklist(report, name):
    section = next(s for s in report.sections if s.title == "Reporting checklists")
    table = next(t for t in section.tables if t.caption == name)
    return table.frame.set_index("Item").Answer
