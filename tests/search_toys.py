"""What the tests of searches share: an estimator that learns by epochs, in no time."""

import time
from types import SimpleNamespace

import numpy as np
import optuna
from sklearn.base import BaseEstimator, ClassifierMixin

from skmedimg.model_selection import OptunaSearchCV
from skmedimg.model_selection._study import disconnect, open_storage

N_TRIALS = 8
SPACE = {"gain": optuna.distributions.FloatDistribution(0.0, 0.1)}


def assert_same_results(one, other):
    """Equal `cv_results_`, times apart."""
    assert one.keys() == other.keys()
    for key, column in one.items():
        if not key.endswith("_time"):
            np.testing.assert_array_equal(column, other[key], err_msg=key)


class Curve(ClassifierMixin, BaseEstimator):
    """Learns by epochs, as the image estimators do, along a curve that is given.

    Its score after an epoch is ``gain * epoch``, less what it loses after `peak`. An
    epoch takes `seconds`.
    """

    def __init__(
        self, gain=0.01, max_epochs=9, peak=99, early_stopping=False, seconds=0
    ):
        self.gain = gain
        self.max_epochs = max_epochs
        self.peak = peak
        self.early_stopping = early_stopping
        self.seconds = seconds

    def _validate_params(self):
        pass

    def fit(self, X, y):
        for _ in self._epochs(X, y):
            pass
        return self

    def _epochs(self, X, y, sample_weight=None, groups=None, stop_at=1.0):
        self.classes_ = np.unique(y)
        self.net_ = SimpleNamespace(max_epochs=self.max_epochs)
        for epoch in range(1, round(stop_at * self.max_epochs) + 1):
            time.sleep(self.seconds)
            self.n_iter_ = epoch
            yield epoch
        if self.early_stopping:
            self.n_iter_ = self.peak

    def _note_history(self):
        pass

    def score(self, X, y):
        return self.gain * (self.n_iter_ - 2 * max(0, self.n_iter_ - self.peak))


def make_search(**params):
    """Search for the best gain."""
    given = {"n_trials": N_TRIALS, "cv": 2, "random_state": 0, "refit": False}
    return OptunaSearchCV(Curve(), SPACE, **given | params)


def trials_of(storage):
    """What the study "s" holds."""
    opened = open_storage(storage)
    try:
        return optuna.load_study(study_name="s", storage=opened).trials
    finally:
        disconnect(opened)


def scores(search, row):
    """Of each fold in a row of `cv_results_`."""
    names = [f"split{i}_test_score" for i in range(search.n_splits_)]
    return [search.cv_results_[name][row] for name in names]
