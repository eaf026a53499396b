"""
Contrast medium in CT, beside a baseline that sees no image
===========================================================

Was contrast medium given? 24 slices of 24 patients, from a directory of DICOM files to
a cross-validated AUC; and the same from two entries of the headers, which know scanner
and protocol but not the patient. Where these come close, the images prove little.

The folder is the argument, or ``ct_contrast_dicom`` in the folder that
SKMEDIMG_TEST_DATA names. Images: TCGA-LUAD and TCGA-LUSC, The Cancer Imaging Archive,
CC BY 3.0.
"""

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skmedimg import CNNImageClassifier
from skmedimg.datasets import load_dicom
from skmedimg.io import scan_dicom
from skmedimg.model_selection import PatientKFold


def load(folder, size=64):
    """Images with labels and patients, and two header entries of each."""
    reading = {"image_size": (size, size), "window": "mediastinum"}
    data = load_dicom(folder, label=r"CONTRAST_(\d)", **reading)
    rows = scan_dicom(folder).set_index("path").loc[data.filenames]
    headers = rows[["slice_thickness", "kernel"]].astype({"kernel": object})
    return data, headers


def on_headers(clf):
    """Protocol alone: no pixel is seen."""
    columns = make_column_transformer(
        (StandardScaler(), ["slice_thickness"]),
        (OneHotEncoder(handle_unknown="ignore"), ["kernel"]),
    )
    return make_pipeline(columns, clf)


def compare(data, headers, cnn, n_repeats=3):
    """AUC of each fold: the same folds, patients apart, for images and for headers."""
    candidates = {
        "images": (cnn, data.images),
        "headers alone": (on_headers(LogisticRegression()), headers),
    }
    scores = {name: [] for name in candidates}
    for seed in range(n_repeats):
        for name, (clf, X) in candidates.items():
            cv = PatientKFold(4, shuffle=True, random_state=seed)
            options = {"groups": data.groups, "cv": cv, "scoring": "roc_auc"}
            result = cross_validate(clf, X, data.target, **options)
            scores[name].extend(result["test_score"])
    return pd.DataFrame(scores)


def plot(scores, data, headers):
    """Folds as points, and which class each kernel was used for."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(scores.T, "o-", color="0.7")
    left.plot(scores.mean(), "k_", markersize=40)
    left.set(ylabel="AUC of a fold of 6 patients", xlim=(-0.5, 1.5), ylim=(-0.05, 1.05))
    table = pd.crosstab(headers.kernel.to_numpy(), data.target, colnames=["contrast"])
    table.plot.barh(stacked=True, ax=right, xlabel="patients", ylabel="kernel")
    return figure


if __name__ == "__main__":
    shared = Path(os.environ.get("SKMEDIMG_TEST_DATA", "../shared/data"))
    folder = sys.argv[1] if len(sys.argv) > 1 else shared / "ct_contrast_dicom"
    data, headers = load(folder)
    print(data.DESCR)
    scores = compare(data, headers, CNNImageClassifier(random_state=0))
    print(scores.agg(["mean", "min", "max"]).round(2))
    for clf in (LogisticRegression(), DecisionTreeClassifier(random_state=0)):
        baseline = on_headers(clf)
        right = cross_val_score(baseline, headers, data.target, cv=LeaveOneOut())
        print(f"Headers, leave-one-out, {clf}: accuracy {right.mean():.2f}")
    plot(scores, data, headers)
    plt.show()
