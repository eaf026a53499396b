"""Results as the commands measure them: cross-validated, and held out."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skmedimg.images import groups_of
from skmedimg.metrics import roc_auc_ci
from skmedimg.model_selection import PatientKFold


def patients_by_class(y: np.ndarray, groups: np.ndarray | None) -> dict[Any, int]:
    """How many patients a class has, or images where nobody knows the patients."""
    units = np.arange(len(y)) if groups is None else groups
    return {label: len(np.unique(units[y == label])) for label in np.unique(y)}


def cross_validated_auc(
    clf: Any, X: Any, y: np.ndarray, n_folds: int, seed: int
) -> np.ndarray:
    """AUC of each fold, patients apart where the images know them.

    Parameters
    ----------
    clf : classifier
        Fitted anew in each fold.
    X : ImageSequence of n images
        With their groups, or without.
    y : ndarray of shape (n,)
        Classes.
    n_folds : int
        At least 2; no more than the smallest class has patients.
    seed : int
        Of the shuffling.

    Returns
    -------
    ndarray of shape (n_folds,) or shorter
        Mean one-versus-rest where there are more than two classes; without folds that
        lack a class on one of their sides, as few patients with many images can cause.
    """
    scoring = "roc_auc" if len(np.unique(y)) == 2 else "roc_auc_ovr"
    folds = list(_folds(X, y, n_folds, seed))
    scores = []
    for i, fold in enumerate(folds, 1):
        score = cross_val_score(
            clf, X, y, cv=[fold], scoring=scoring, error_score="raise"
        )
        print(f"fold {i} of {len(folds)}: AUC {score[0]:.3f}", file=sys.stderr)
        scores.extend(score)
    return np.array(scores)


def _folds(
    X: Any, y: np.ndarray, n_folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedKFold if groups_of(X) is None else PatientKFold
    classes = len(np.unique(y))
    for sides in splitter(n_folds, shuffle=True, random_state=seed).split(X, y):
        if all(len(np.unique(y[side])) == classes for side in sides):
            yield sides


def held_out_auc(
    y: np.ndarray, score: np.ndarray, classes: Any, groups: np.ndarray | None
) -> str:
    """AUC on images that nothing was learnt from, as a sentence gives it.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, n_labels)
        Classes or indicators.
    score : ndarray of shape (n,), (n, n_classes) or (n, n_labels)
        Decision values.
    classes : sequence
        Of the classifier; the second is the positive one of two.
    groups : ndarray of shape (n,) or None
        Patients.

    Returns
    -------
    str
        With its interval for two classes, else the mean.
    """
    if score.ndim > 1:
        columns = y.T if y.ndim == 2 else [y == label for label in classes]
        each = [roc_auc_score(c, s) for c, s in zip(columns, score.T, strict=True)]
        return f"{np.mean(each):.3f} (mean over {len(each)} classes or labels)"
    auc, low, high = roc_auc_ci(y, score, pos_label=classes[1], groups=groups)
    unit = "images" if groups is None else "patients"
    return f"{auc:.3f}, 95 % interval {low:.3f} to {high:.3f}, over {unit}"
