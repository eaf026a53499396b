"""A fitted classifier that looks probabilities up, and predictions to look up."""

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator


class LookUp(ClassifierMixin, BaseEstimator):
    """X are rows of a table of probabilities."""

    def __init__(self, table, classes):
        self.table = table
        self.classes = classes
        self.classes_ = np.asarray(classes)

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return self.table[np.asarray(X)]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def frozen(table, classes=(0, 1)):
    table = np.asarray(table)
    if table.ndim == 1:
        table = np.column_stack([1 - table, table])
    return FrozenEstimator(LookUp(table, classes))


def make_patients(n_patients, seed=0, images=(1, 4), alike=0.7, noise=1.5):
    """Labels, probabilities of class 1 and patients; images of one are alike.

    All images of a patient have one label.
    """
    rng = np.random.default_rng(seed)
    n_images = rng.integers(images[0], images[1] + 1, n_patients)
    patient = np.repeat(np.arange(n_patients), n_images)
    y = rng.integers(2, size=n_patients)[patient]
    own = rng.normal(size=n_patients)[patient] * np.sqrt(alike)
    other = rng.normal(size=len(y)) * np.sqrt(1 - alike)
    return y, expit(2 * (2 * y - 1) + noise * (own + other)), patient
