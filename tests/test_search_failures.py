"""Searches in which fits, scores, draws and callbacks fail."""

import numpy as np
import optuna
import pytest
from search_toys import Curve, scores
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback

from skmedimg.model_selection import OptunaSearchCV
from skmedimg.model_selection._study import finished

NO_PRUNING = optuna.pruners.NopPruner()


@pytest.fixture
def table():
    return make_classification(60, 5, random_state=0)


class Fails(LogisticRegression):
    """Fails where C is 1 on the second fold, whose first label is 1."""

    def fit(self, X, y):
        if self.C == 1 or (self.C == 2 and y[0] == 1):
            raise ArithmeticError("no solution")
        return super().fit(X, y)


def test_failed_trials_rank_last(table):
    search = OptunaSearchCV(
        Fails(),
        {"C": [1.0, 3.0]},
        n_trials=6,
        cv=2,
        random_state=0,
        pruner=NO_PRUNING,
    )
    with pytest.warns(FitFailedWarning, match="no solution"):
        search.fit(*table)
    results = search.cv_results_
    failed = results["param_C"].astype(float) == 1
    assert (results["state"][failed] == "fail").all()
    assert np.isnan(results["mean_test_score"][failed]).all()
    assert results["rank_test_score"][failed].min() > (~failed).sum()
    assert search.best_params_ == {"C": 3.0}


def test_parameters_that_do_not_go_together_late_in_a_search(table):
    """What went before is kept: the trial fails, the search goes on."""

    def space(trial):
        gain = trial.suggest_float("gain", 0.1, 0.2)
        return {"gain": gain} | ({"rate": 1} if trial.number in (2, 4) else {})

    search = OptunaSearchCV(Curve(), space, n_trials=6, cv=2, random_state=0)
    with pytest.warns(FitFailedWarning, match="2 of 6 trials[^$]*'rate'"):
        search.fit(*table)
    failed = search.cv_results_["state"] == "fail"
    np.testing.assert_array_equal(np.flatnonzero(failed), [2, 4])
    assert search.best_params_ == {
        "gain": search.cv_results_["param_gain"][~failed].max()
    }
    with pytest.raises(ValueError, match="Invalid parameter 'rate'"):
        search.set_params(error_score="raise").fit(*table)


def test_a_score_for_failed_folds(table):
    X, y = table
    order = np.argsort(y, kind="stable")
    folds = [(order[::2], order[1::2]), (order[::-2], order[-2::-2])]
    search = OptunaSearchCV(
        Fails(), {"C": [2.0]}, n_trials=1, cv=folds, error_score=0.25
    )
    with pytest.warns(FitFailedWarning):
        search.fit(X, y)
    first, second = scores(search, 0)
    assert first > 0.25
    assert second == 0.25
    assert search.best_score_ == (first + 0.25) / 2


def test_a_fold_that_fails_late_has_the_score_for_failed_folds(table):
    class Breaks(Curve):
        def _epochs(self, X, y, **how):
            for epoch in super()._epochs(X, y, **how):
                if epoch == 5 and y[0] == 1:
                    raise ArithmeticError("diverged")
                yield epoch

    X, y = table
    order = np.argsort(y, kind="stable")
    folds = [(order[::2], order[1::2]), (order[::-2], order[-2::-2])]
    search = OptunaSearchCV(
        Breaks(), {"gain": [0.1]}, n_trials=1, cv=folds, error_score=0.0, refit=False
    )
    with pytest.warns(FitFailedWarning, match="diverged"):
        search.fit(X, y)
    np.testing.assert_allclose(scores(search, 0), [0.9, 0.0])


@pytest.mark.parametrize("estimator", [Curve(), LogisticRegression()])
def test_a_scorer_that_always_fails_is_no_score(table, estimator):
    def scorer(estimator, X, y):
        raise ArithmeticError("no score")

    search = OptunaSearchCV(
        estimator, {"gain" if isinstance(estimator, Curve) else "C": [0.1]}, n_trials=1
    ).set_params(cv=2, error_score=0.0, scoring=scorer, refit=False)
    with (
        pytest.warns(UserWarning, match="Scoring failed"),
        pytest.raises(ValueError, match="1 of 1 failed"),
    ):
        search.fit(*table)


class Stubborn(Callback):
    def on_train_end(self, net, **kwargs):
        raise RuntimeError("the log is closed")


def test_a_callback_that_raises_when_a_fit_is_ended_early(images, tiny):
    search = OptunaSearchCV(
        tiny(max_epochs=3, callbacks=[Stubborn()]),
        {"lr": [1e-3, 1e-2]},
        n_trials=2,
        cv=2,
    ).set_params(pruner=optuna.pruners.ThresholdPruner(lower=2), refit=False)
    with (
        pytest.warns(UserWarning, match=r"could not be ended(.|\n)*the log is closed"),
        pytest.raises(ValueError, match="all 2 were pruned"),
    ):
        search.fit(*images)


def test_the_first_error_on_demand_leaves_the_study_as_it_was(table, tmp_path):
    search = OptunaSearchCV(
        Fails(),
        {"C": [1.0]},
        n_trials=2,
        error_score="raise",
        storage=tmp_path / "study.log",
    )
    with pytest.raises(ArithmeticError, match="no solution"):
        search.fit(*table)
    with pytest.raises(ValueError, match="2 of 2 failed"):
        search.set_params(error_score=np.nan).fit(*table)


def test_what_goes_on_and_fails_late_makes_room_for_others(table):
    class Late(Curve):
        def _epochs(self, X, y, **how):
            for epoch in super()._epochs(X, y, **how):
                if epoch == 6 and self.gain < 0.03:
                    raise MemoryError("too large")
                yield epoch

    gains = [0.01, 0.02, 0.03, 0.04, 0.05]
    search = OptunaSearchCV(Late(), {"gain": gains}, n_trials=40, cv=2, random_state=0)
    with (
        pytest.warns(UserWarning, match="of n_trials=40"),
        pytest.warns(FitFailedWarning, match="too large"),
    ):
        results = search.set_params(refit=False).fit(*table).cv_results_
    ended = {state: [] for state in ("complete", "fail", "pruned")}
    for state, gain in zip(results["state"], results["param_gain"], strict=True):
        ended[state].append(gain)
    assert sorted(ended["complete"]) == [0.03, 0.04, 0.05]
    assert sorted(ended["fail"]) == [0.01, 0.01, 0.02, 0.02]  # one more try each


def test_what_cannot_be_drawn_is_not_tried_again(table):
    def space(trial):
        number = trial.suggest_int("number", 0, 9)
        if number < 5:
            raise ValueError("too small")
        return {"gain": 0.01 * number}

    search = OptunaSearchCV(Curve(), space, n_trials=30, cv=2, random_state=0)
    with (
        pytest.warns(UserWarning, match="of n_trials=30"),
        pytest.warns(FitFailedWarning, match="too small"),
    ):
        search.set_params(refit=False, pruner=NO_PRUNING).fit(*table)
    drawn = [t.params["number"] for t in finished(search.study_)]
    assert len(set(drawn)) == len(drawn)
    assert {5, 6, 7, 8, 9} <= set(drawn)


def test_a_space_that_draws_nothing_at_first(table):
    def space(trial):
        if trial.number == 0:
            return {"gain": 0.055}
        return {"gain": trial.suggest_categorical("gain", [0.01, 0.02, 0.03, 0.04])}

    search = OptunaSearchCV(Curve(), space, n_trials=6, cv=2, random_state=0)
    assert len(search.set_params(refit=False).fit(*table).cv_results_["params"]) == 6
