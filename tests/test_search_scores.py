"""Scores of a search that are undefined, and what else its trials go by."""

import numpy as np
import optuna
import pytest
from search_toys import Curve
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV

WHOLE = optuna.pruners.NopPruner()


@pytest.fixture
def table():
    return make_classification(40, 4, random_state=0)


class Undefined:
    """NaN at some of its calls."""

    def __init__(self, *calls):
        self.calls, self.n = calls, 0

    def __call__(self, estimator, X, y):
        self.n += 1
        return np.nan if self.n in self.calls else 0.1 * self.n


def search_curve(table, *calls, **params):
    return OptunaSearchCV(
        Curve(max_epochs=4),
        {"gain": [0.1, 0.2]},
        n_trials=2,
        cv=2,
        scoring=Undefined(*calls),
        pruner=WHOLE,
        random_state=3,
        **params,
    ).fit(*table)


def test_an_epoch_without_a_score_is_no_candidate(table):
    results = search_curve(table, 1, 3).cv_results_
    assert results["state"].tolist() == ["complete"] * 2
    assert results["n_epochs"].tolist() == [4, 4]


def test_scores_that_are_undefined_at_first(table):
    """In both folds of each trial, as precision is where one class is predicted."""
    results = search_curve(table, 1, 2, 11, 12).cv_results_
    assert results["state"].tolist() == ["complete"] * 2


def test_where_the_last_epoch_has_no_score_the_best_counts(table):
    # A fifth look: at the end the estimator may have changed once more.
    results = search_curve(table, 7, 9, refit=False).cv_results_
    assert results["state"][0] == "complete"
    assert results["n_epochs"][0] < 4
    assert np.isfinite(results["mean_test_score"][0])


def test_a_scoring_that_never_works_ends_soon(table):
    """Not after a night: f1 does not know which label is positive."""
    X, y = table
    y = np.array(["benign", "malignant"])[y]
    search = OptunaSearchCV(
        Curve(max_epochs=50), {"gain": [0.1, 0.2]}, n_trials=30, cv=2, scoring="f1"
    )
    with (
        pytest.warns(UserWarning, match="Scoring failed"),
        pytest.raises(ValueError, match=r"3 of 3 failed, the last with: .*scoring"),
    ):
        search.fit(X, y)


class NeedsAFile(LogisticRegression):
    def __init__(self, path=None, C=1.0):
        super().__init__(C=C)
        self.path = path

    def fit(self, X, y):
        self.path.read_text()
        return super().fit(X, y)


def test_a_metric_called_score(table):
    search = OptunaSearchCV(
        LogisticRegression(),
        {"C": [1.0]},
        n_trials=1,
        cv=2,
        scoring={"score": "accuracy", "f1": "f1_macro"},
        refit="score",
    )
    assert search.fit(*table).best_score_ == search.cv_results_["mean_test_score"][0]


def test_a_cause_that_was_removed(table, tmp_path):
    """Failures of an earlier call are told as such, and the search goes on."""
    clf = NeedsAFile(tmp_path / "there")
    given = {"storage": tmp_path / "study.log", "study_name": "s", "cv": 2}
    search = OptunaSearchCV(clf, {"C": [0.1, 1.0]}, n_trials=4, **given)
    search.set_params(random_state=0, refit=False)
    with pytest.raises(ValueError, match=r"3 of 3 failed.*there.*earlier calls"):
        search.fit(*table)
    clf.path.write_text("at last")
    with pytest.warns(FitFailedWarning, match="3 of 4"):
        results = search.fit(*table).cv_results_
    assert results["state"].tolist() == ["fail"] * 3 + ["complete"]


def test_a_scorer_of_several_that_fails_once(table):
    """As in scikit-learn, error_score stands for both."""
    calls = iter(range(4))

    def both(estimator, X, y):
        if next(calls) == 1:
            raise ArithmeticError("no score")
        return {"a": 0.5, "b": 0.25}

    search = OptunaSearchCV(
        LogisticRegression(), {"C": [1, 2]}, n_trials=2, cv=2, scoring=both, refit="a"
    )
    search.set_params(pruner=WHOLE, random_state=3)
    with pytest.warns(UserWarning, match="no score"):
        results = search.fit(*table).cv_results_
    assert np.isnan(results["split1_test_a"][0])
    assert np.isnan(results["split1_test_b"][0])
    assert results["mean_test_a"][1] == 0.5


def test_a_failed_trial_has_no_mean_of_the_folds_that_worked(table):
    search = OptunaSearchCV(
        SVC(random_state=0),
        {"C": [0.5, 1.0, 2.0, 4.0]},
        n_trials=4,
        cv=2,
        scoring=Undefined(2),
        pruner=WHOLE,
        refit=False,
        random_state=0,
    ).fit(*table)
    failed = search.cv_results_["state"] == "fail"
    assert failed.any()
    assert not failed.all()
    assert (np.isnan(search.cv_results_["mean_test_score"]) == failed).all()


def test_a_scorer_may_look_at_the_history(images):
    search = OptunaSearchCV(
        CNNImageClassifier(max_epochs=2, random_state=0),
        {"lr": [1e-3]},
        n_trials=1,
        cv=2,
        scoring=lambda clf, X, y: clf.n_iter_ - clf.history_.train_loss.iloc[-1] / 99,
        refit=False,
    ).fit(*images)
    assert search.cv_results_["n_epochs"][0] == 2
    assert 1.9 < search.best_score_ < 2


def test_weights_make_another_study(table, tmp_path):
    X, y = table
    search = OptunaSearchCV(
        SVC(random_state=0),
        {"C": [1.0]},
        n_trials=1,
        cv=2,
        storage=tmp_path / "log",
        study_name="a",
    )
    search.fit(X, y, sample_weight=np.ones(len(y)))
    search.fit(X, y, sample_weight=np.ones(len(y)).tolist())
    with pytest.raises(ValueError, match=r"another data: .*weights"):
        search.fit(X, y, sample_weight=1.0 + y)
    with pytest.raises(ValueError, match="another data"):
        search.fit(X, y)


def test_a_sampler_that_has_been_through_its_grid_ends_the_search(table):
    grid = {"C": [1.0, 2.0]}
    for n_trials in (2, 9):
        sampler = optuna.samplers.GridSampler(grid, seed=0)
        search = OptunaSearchCV(
            SVC(random_state=0), grid, n_trials=n_trials, cv=2, sampler=sampler
        )
        assert len(search.fit(*table).cv_results_["params"]) == 2


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"pruner": "median"}, "pruner='median'"),
        ({"pruner": optuna.pruners.MedianPruner}, "pruner=<class"),
        ({"sampler": "tpe"}, "sampler='tpe'"),
    ],
)
def test_samplers_and_pruners_of_another_kind(table, params, named):
    search = OptunaSearchCV(
        SVC(random_state=0), {"C": [1.0]}, n_trials=1, cv=2, **params
    )
    with pytest.raises(TypeError, match=named):
        search.fit(*table)


def test_values_that_do_not_go_together_are_found_before_the_first_trial(images):
    space = {
        "architecture": ["auto", ResNet(width=4), ResNet(width=8)],
        "architecture__width": [2, 4],
    }
    search = OptunaSearchCV(CNNImageClassifier(), space, n_trials=1, cv=2)
    for seed in range(3):  # whatever the sampler would draw first
        with pytest.raises(ValueError, match="architecture__width is set on an object"):
            search.set_params(random_state=seed).fit(*images)


def test_a_function_cannot_leave_out_what_it_has_drawn(table):
    def space(trial):
        raise optuna.TrialPruned

    search = OptunaSearchCV(SVC(random_state=0), space, n_trials=1, cv=2)
    with pytest.raises(ValueError, match="raised TrialPruned"):
        search.fit(*table)
