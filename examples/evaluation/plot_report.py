"""
A report on a classifier, as a reviewer asks for it
===================================================

Synthetic lesions, three to nine images a patient. Some patients are learnt from, others
choose the threshold, and the last are tested: once, image by image with intervals by
patient, and joined into one case a patient. The report is written to the file that is
the argument, or to ``report.html`` in a temporary folder. Nothing is downloaded.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skmedimg import CNNImageClassifier
from skmedimg.datasets import make_lesions
from skmedimg.evaluation import evaluate
from skmedimg.metrics import (
    DecisionCurveDisplay,
    ReliabilityDisplay,
    RocBandDisplay,
    aggregate_by_unit,
    roc_auc_ci,
)

POSITIVE = {"pos_label": "lesion"}


def load(n_patients=300, image_size=24):
    """Images, labels and patients, in three sets that share no patient."""
    size = {"images_per_patient": (3, 9), "image_size": image_size}
    data = make_lesions(n_patients, **size, difficulty=0.3, random_state=0)
    number = np.unique(data.groups, return_inverse=True)[1] / n_patients
    part = np.digitize(number, [0.5, 0.75])
    arrays = data.images, data.target_names[data.target], data.groups
    return [tuple(array[part == k] for array in arrays) for k in range(3)]


def report_on(clf, sets, **options):
    """Test patients as cases; the threshold comes from the second set."""
    train, (X_tune, y_tune, tuned), (X, y, patients) = sets
    tuning = (y_tune, clf.predict_proba(X_tune), tuned, tuned)
    cases = {"unit": patients, "groups": patients, **POSITIVE}
    sensitive = {"target_sensitivity": 0.9, "threshold_from": tuning}
    return evaluate(clf, X, y, **cases, **sensitive, baseline=train[:2], **options)


def areas(clf, X, y, patients):
    """AUC with its interval: three ways to count, of which the first is wrong."""
    score = clf.predict_proba(X)[:, np.flatnonzero(clf.classes_ == "lesion")[0]]
    joined = aggregate_by_unit(y, score, patients, groups=patients)
    found = {
        "images, taken as independent": roc_auc_ci(y, score, **POSITIVE),
        "images, by patient": roc_auc_ci(y, score, groups=patients, **POSITIVE),
        "patients": roc_auc_ci(joined.y, joined.proba, **POSITIVE),
    }
    return found, joined


def plot(cases):
    """How well they are told apart, whether risks are true, whether acting pays."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    of = cases.y, cases.proba
    by_patient = {"groups": cases.groups, **POSITIVE}
    RocBandDisplay.from_predictions(*of, ax=axes[0], random_state=0, **by_patient)
    ReliabilityDisplay.from_predictions(*of, ax=axes[1], n_bins=5, **by_patient)
    DecisionCurveDisplay.from_predictions(*of, ax=axes[2], **POSITIVE)
    return figure


if __name__ == "__main__":
    sets = load()
    X, y, patients = sets[0]
    clf = CNNImageClassifier(max_epochs=12, random_state=0).fit(X, y, groups=patients)
    found, cases = areas(clf, *sets[2])
    for name, auc in found.items():
        print(f"{name}: AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})")
    report = report_on(clf, sets)
    print(report, report.methods_text(), sep="\n\n")
    path = Path(
        sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp() + "/report.html"
    )
    report.to_html(path)
    print(f"Written: {path}")
    plot(cases)
    plt.show()
