"""SearchDisplay: curves, history and importance of the trials of a search."""

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import randint, uniform
from search_toys import Curve
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from skmedimg.model_selection import OptunaSearchCV, SearchDisplay
from skmedimg.model_selection._search_display import _importance as importance

NO_PRUNING = optuna.pruners.NopPruner()


@pytest.fixture
def table():
    return make_classification(60, 5, random_state=0)


@pytest.fixture
def searched(table):
    gains = [0.05, 0.03, 0.01, 0.06, 0.04]
    return OptunaSearchCV(
        Curve(),
        lambda trial: {"gain": gains[trial.number % 5]},
        n_trials=5,
        cv=2,
        refit=False,
    ).fit(*table)


def test_the_display_draws_the_curve_of_every_trial(searched):
    figure = Figure()
    display = SearchDisplay.from_search(searched, name="Gain", ax=figure.add_subplot())
    assert display.figure_ is figure
    assert display.ax_.get_title() == "Gain"
    assert display.ax_.get_xlabel() == "Epoch"
    states = searched.cv_results_["state"]
    assert set(states) == {"complete", "pruned"}
    for trial, line in display.lines_.items():
        steps = searched.cv_results_["n_epochs"][trial]
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, steps + 1))
        assert line.get_ydata()[-1] == searched.cv_results_["mean_test_score"][trial]
    best = display.lines_[searched.best_index_]
    assert best.get_linewidth() == max(
        line.get_linewidth() for line in display.lines_.values()
    )
    shown = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert shown == ["Pruned", "Finished", "Best"]


def test_the_display_draws_the_history(searched):
    axes = Figure().add_subplot()
    display = SearchDisplay.from_search(searched, kind="history", ax=axes)
    (line,) = display.lines_.values()
    np.testing.assert_allclose(line.get_ydata(), [0.45, 0.54])
    np.testing.assert_array_equal(line.get_xdata(), [0, 3])
    assert axes.get_xlabel() == "Trial"


def test_the_display_draws_the_importance_of_parameters(table):
    """Of a score that is mostly the one parameter, with a fixed and an idle one."""
    search = OptunaSearchCV(
        Curve(),
        {"gain": uniform(0, 0.1), "peak": randint(7, 10), "seconds": [0]},
        n_trials=20,
        cv=2,
        refit=False,
        pruner=NO_PRUNING,
        random_state=0,
    ).fit(*table)
    axes = Figure().add_subplot()
    display = SearchDisplay.from_search(search, kind="importance", ax=axes)
    shares = display.importance
    assert shares.index.tolist() == ["gain", "peak", "seconds"]
    assert shares.sum() == pytest.approx(1)
    assert shares["gain"] > 0.7
    assert shares["seconds"] == 0
    assert [bar.get_width() for bar in display.bars_] == shares.tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(shares.index)
    assert axes.get_xlabel() == "Share of the spread of 20 scores (fANOVA)"
    tops = [bar.get_window_extent().y1 for bar in display.bars_]
    assert tops == sorted(tops, reverse=True)
    again = SearchDisplay.from_search(search, kind="importance", ax=axes)
    pd.testing.assert_series_equal(again.importance, shares)


@pytest.mark.parametrize(("n_trials", "least", "most"), [(5, 8, 17), (20, 19, 20)])
def test_how_many_trials_importance_needs(n_trials, least, most):
    """Of three parameters one makes half of the spread: how often it comes first."""
    rng = np.random.default_rng(0)
    first = 0
    for _ in range(20):
        drawn = rng.random((n_trials, 3))
        scores = drawn[:, 0] * np.sqrt(12) + rng.normal(size=n_trials)
        first += importance(study_of(drawn, scores)).index[0] == "a"
    assert least <= first <= most


def study_of(drawn, scores):
    study = optuna.create_study(direction="maximize")
    space = dict.fromkeys("abc", optuna.distributions.FloatDistribution(0, 1))
    for row, score in zip(drawn, scores, strict=True):
        params = dict(zip("abc", row, strict=True))
        trial = optuna.create_trial(params=params, distributions=space, value=score)
        study.add_trial(trial)
    return study


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"gain": [0.1], "seconds": [0, 1e-9, 2e-9]}, r"3 complete trials have \[0.9"),
        (
            lambda trial: (
                {"gain": trial.suggest_float("gain", 0, 1)}
                if trial.number % 2
                else {"peak": trial.suggest_int("peak", 1, 9)}
            ),
            "3 have none in common",
        ),
    ],
)
def test_no_importance_where_nothing_tells_it(table, space, message):
    search = OptunaSearchCV(
        Curve(), space, n_trials=3, cv=2, refit=False, pruner=NO_PRUNING
    ).fit(*table)
    with pytest.raises(ValueError, match=message):
        SearchDisplay.from_search(search, kind="importance")
    display = SearchDisplay.from_search(search, ax=Figure().add_subplot())
    with pytest.raises(ValueError, match="no importance to draw"):
        display.plot(kind="importance")


def test_the_display_needs_a_search(table):
    with pytest.raises(TypeError, match="LogisticRegression has no study_"):
        SearchDisplay.from_search(LogisticRegression())
    trials = pd.DataFrame({"state": ["complete"], "score": [1.0]})
    with pytest.raises(ValueError, match="must be one of"):
        SearchDisplay(trials, trials).plot(kind="pie")
