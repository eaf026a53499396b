"""OptunaSearchCV: what scikit-learn promises, and pruning over the folds."""

import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from unittest import SkipTest

import numpy as np
import optuna
import pytest
from joblib.externals.loky import get_reusable_executor
from scipy.stats import loguniform, uniform
from search_toys import Curve, scores
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from skmedimg import _estimator
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV
from skmedimg.model_selection._study import finished

NO_PRUNING = optuna.pruners.NopPruner()


@pytest.fixture
def table():
    return make_classification(60, 5, random_state=0)


def row_of(search, name, value):
    return search.cv_results_[f"param_{name}"].tolist().index(value)


# -- what scikit-learn's searches promise ----------------------------------------------


def test_rows_are_those_of_a_grid_search(table):
    space = {"C": [0.01, 1, 100], "kernel": ["linear", "rbf"]}
    grid = GridSearchCV(SVC(random_state=0), space, cv=3).fit(*table)
    search = OptunaSearchCV(
        SVC(random_state=0), space, cv=3, n_trials=6, pruner=NO_PRUNING, random_state=0
    ).fit(*table)
    for i, params in enumerate(search.cv_results_["params"]):
        row = grid.cv_results_["params"].index(params)
        for key in ("mean_test_score", "std_test_score", "split2_test_score"):
            assert search.cv_results_[key][i] == grid.cv_results_[key][row]
    assert set(grid.cv_results_) | {"state", "n_epochs"} == set(search.cv_results_)
    for key, column in grid.cv_results_.items():
        if key != "params":
            assert search.cv_results_[key].dtype.kind == column.dtype.kind, key
    best = np.argmax(search.cv_results_["mean_test_score"])
    assert search.best_index_ == best
    assert search.best_score_ == search.cv_results_["mean_test_score"][best]
    assert search.best_params_ == search.cv_results_["params"][best]
    refitted = SVC(**search.best_params_, random_state=0).fit(*table)
    np.testing.assert_array_equal(search.predict(table[0]), refitted.predict(table[0]))
    assert search.score(*table) == refitted.score(*table)


def test_several_scores(table):
    search = OptunaSearchCV(
        LogisticRegression(),
        {"C": [0.01, 1.0]},
        n_trials=3,
        cv=2,
        scoring=["accuracy", "roc_auc"],
        refit="roc_auc",
        pruner=NO_PRUNING,
    ).fit(*table)
    assert search.multimetric_
    assert search.best_score_ == search.cv_results_["mean_test_roc_auc"].max()
    values = [trial.value for trial in search.study_.trials]
    np.testing.assert_allclose(values, search.cv_results_["mean_test_roc_auc"])
    assert search.score(*table) > 0.5


def test_of_few_values_each_is_tried(table):
    """However often the sampler comes back to the best ones."""
    space = {"C": [10.0**i for i in range(-3, 3)], "fit_intercept": [True, False]}
    search = OptunaSearchCV(
        LogisticRegression(random_state=0), space, n_trials=12, cv=2, random_state=0
    ).fit(*table)
    assert len({tuple(row.values()) for row in search.cv_results_["params"]}) == 12


def test_of_few_values_the_pruned_ones_go_on_and_then_the_search_ends(table):
    gains = [0.05, 0.01, 0.02, 0.03, 0.04, 0.06]
    search = OptunaSearchCV(
        Curve(), {"gain": gains}, n_trials=30, cv=2, random_state=0, refit=False
    )
    with pytest.warns(UserWarning, match=r"after \d+ of n_trials=30 .* nothing"):
        results = search.fit(*table).cv_results_
    complete = results["state"] == "complete"
    assert sorted(results["param_gain"][complete]) == sorted(gains)
    gone_on = results["param_gain"][6:].tolist()
    assert gone_on == sorted(gone_on, reverse=True)
    assert len(gone_on) > 1


def test_the_same_parameters_are_fitted_once_where_fits_are_seeded(table):
    class Counted(LogisticRegression):
        n_fits = 0

        def fit(self, X, y):
            Counted.n_fits += 1
            return super().fit(X, y)

    for random_state, n_trials in [(0, 2), (None, 6)]:
        Counted.n_fits = 0
        search = OptunaSearchCV(
            Counted(random_state=random_state),
            {"C": [0.1, 1.0]},
            n_trials=6,
            cv=2,
            random_state=0,
            refit=False,
            pruner=NO_PRUNING,
        )
        nothing_left = pytest.warns(UserWarning, match="after 2 of n_trials=6")
        with nothing_left if n_trials < 6 else nullcontext():
            results = search.fit(*table).cv_results_
        assert len(results["params"]) == n_trials
        assert Counted.n_fits == 2 * n_trials
        by_value = zip(results["param_C"], results["mean_test_score"], strict=True)
        assert len(set(by_value)) == 2


@pytest.mark.parametrize("refit", [False, lambda results: 1])
def test_refit_by_a_function_or_not(table, refit):
    search = OptunaSearchCV(
        LogisticRegression(), {"C": [1.0, 2.0]}, n_trials=2, cv=2, refit=refit
    ).fit(*table)
    assert hasattr(search, "best_estimator_") == bool(refit)
    if refit:
        assert search.best_index_ == 1
    else:
        assert search.best_score_ == search.cv_results_["mean_test_score"].max()


def test_regressors_and_no_labels(table):
    X, _ = table
    search = OptunaSearchCV(Ridge(), {"alpha": loguniform(1e-3, 1e3)}, n_trials=2)
    assert search.fit(X, X[:, 0]).predict(X).shape == (60,)


def _checks():
    for estimator, name in [
        (Ridge(solver="svd"), "alpha"),
        (LogisticRegression(), "C"),
        (make_pipeline(StandardScaler(), Ridge()), "ridge__alpha"),
    ]:
        search = OptunaSearchCV(
            estimator,
            {name: [0.1, 1.0]},
            cv=2,
            n_trials=2,
            error_score="raise",
            random_state=0,
        )
        for est, check in estimator_checks_generator(search, mark=None):
            label = getattr(check, "func", check).__name__
            # scikit-learn expects both to fail of its own searches, too.
            if label == "check_requires_y_none" or (
                label == "check_supervised_y_2d" and name != "C"
            ):
                continue
            yield pytest.param(est, check, id=f"{name}-{label}")


@pytest.fixture
def numpy_state_restored():
    """scikit-learn's checks themselves draw from NumPy's global generator."""
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
def test_estimator_check(estimator, check, numpy_state_restored):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.skip(str(reason))


def test_callbacks_are_not_silently_left_out(table):
    callback = pytest.importorskip("sklearn.callback")
    search = OptunaSearchCV(LogisticRegression(), {"C": [1.0]}, n_trials=1)
    search.set_callbacks(callback.ProgressBar())
    with pytest.raises(NotImplementedError, match="set_callbacks"):
        search.fit(*table)


def test_importing_the_package_leaves_optuna_alone():
    code = "import sys, skmedimg.model_selection; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_logging_stays(table, capfd):
    before = optuna.logging.get_verbosity()
    OptunaSearchCV(LogisticRegression(), {"C": [1.0]}, n_trials=1).fit(*table)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


# -- pruning ---------------------------------------------------------------------------


def test_bad_trials_end_early_and_never_rank_first(table):
    search = OptunaSearchCV(
        Curve(), {"gain": uniform(0, 0.1)}, n_trials=30, cv=2, random_state=0
    ).fit(*table)
    results = search.cv_results_
    pruned = results["state"] == "pruned"
    assert 15 < pruned.sum() < 30
    assert search.best_params_["gain"] == results["param_gain"].max()
    assert results["rank_test_score"][pruned].min() > (~pruned).sum()
    # After an eighteenth, a sixth and half of nine epochs.
    assert set(results["n_epochs"][pruned]) <= {1, 2, 4}
    np.testing.assert_allclose(
        results["mean_test_score"],
        results["n_epochs"] * results["param_gain"].astype(float),
    )


def test_the_mean_score_so_far_decides(table):
    """The second trial is ahead at the look alone, the third all the way."""

    class Course(Curve):
        def score(self, X, y):
            course = {0.1: [0.5] * 18, 0.2: [0.1, 0.1, 0.8], 0.3: [0.6] * 18}
            return dict(enumerate(course[self.gain])).get(self.n_iter_ - 1, 0.9)

    search = OptunaSearchCV(
        Course(max_epochs=18), {"gain": [0.1, 0.2, 0.3]}, n_trials=3, cv=2, refit=False
    ).set_params(storage=optuna.storages.InMemoryStorage(), study_name="s")
    study = optuna.create_study(
        storage=search.storage, study_name="s", direction="maximize"
    )
    for gain in (0.1, 0.2, 0.3):
        study.enqueue_trial({"gain": gain})
    results = search.fit(*table).cv_results_
    assert results["state"].tolist() == ["complete", "pruned", "complete"]


def test_the_refit_ends_at_the_same_share_of_its_own_course(images, tiny, monkeypatch):
    """More images are given fewer epochs; the best one is that many of theirs."""
    X, y = images
    epochs = {len(X): 4}
    monkeypatch.setattr(_estimator, "auto_epochs", lambda n: epochs.get(n, 8))
    search = OptunaSearchCV(
        tiny(max_epochs="auto"), {"lr": [0.03]}, n_trials=1, cv=2, random_state=0
    )
    search.set_params(scoring="roc_auc", pruner=NO_PRUNING).fit(X, y)
    best = int(search.cv_results_["n_epochs"][0])
    assert search.best_estimator_.n_iter_ == max(1, round(best / 2))


def test_a_trial_pruned_too_early_has_a_second_chance(table):
    """Once more is known of the others: it was the best but one, of two."""
    gains = [0.06, 0.05, 0.01, 0.02, 0.03, 0.04, 0.05]
    search = OptunaSearchCV(
        Curve(),
        {"gain": sorted(set(gains))},
        n_trials=7,
        cv=2,
        refit=False,
        sampler=optuna.samplers.RandomSampler(seed=0),
        storage=optuna.storages.InMemoryStorage(),
        study_name="s",
    )
    study = optuna.create_study(
        storage=search.storage, study_name="s", direction="maximize"
    )
    for gain in gains:
        study.enqueue_trial({"gain": gain})
    states = search.fit(*table).cv_results_["state"]
    assert states.tolist() == ["complete", *["pruned"] * 5, "complete"]


class Contrary(optuna.pruners.BasePruner):
    """Ends the second trial at its second step."""

    def prune(self, study, trial):
        return trial.number == 1 and trial.last_step == 2


def test_a_pruned_trial_with_the_better_score_ranks_behind(table):
    gains = [0.1, 0.9, 0.1, 0.1]
    search = OptunaSearchCV(
        Curve(max_epochs=3),
        lambda trial: {"gain": gains[trial.number]},
        n_trials=4,
        cv=2,
        pruner=Contrary(),
        refit=False,
    ).fit(*table)
    results = search.cv_results_
    assert results["state"].tolist()[:2] == ["complete", "pruned"]
    assert results["mean_test_score"][1] == 2 * 0.9 > results["mean_test_score"][0]
    assert results["rank_test_score"][1] == results["rank_test_score"].max()


def test_the_best_epoch_is_handed_to_the_refit(table):
    search = OptunaSearchCV(Curve(peak=5), {"gain": [0.1]}, n_trials=1, cv=2)
    search.fit(*table)
    assert search.cv_results_["n_epochs"][0] == 5
    assert search.best_score_ == pytest.approx(0.5)
    assert search.best_estimator_.n_iter_ == 5
    assert search.best_estimator_.max_epochs == 9


def test_an_estimator_that_stops_by_itself_is_taken_as_it_ends(table):
    search = OptunaSearchCV(
        Curve(peak=4, early_stopping=True), {"gain": [0.1]}, n_trials=1, cv=2
    ).fit(*table)
    assert search.best_score_ == pytest.approx(0.4)
    assert np.ma.getmaskarray(search.cv_results_["n_epochs"]).all()
    assert search.best_estimator_.net_.max_epochs == 9


def test_survivors_equal_those_of_a_run_without_pruning(images, tiny):
    X, y = images
    clf = tiny(max_epochs=4, architecture=ResNet(width=2, depth=1))
    space = {"lr": [1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2]}
    cv = StratifiedKFold(2)
    given = {"n_trials": 6, "cv": cv, "random_state": 0, "scoring": "neg_log_loss"}
    sampler = optuna.samplers.RandomSampler
    pruned = OptunaSearchCV(clf, space, **given, sampler=sampler).fit(X, y)
    whole = OptunaSearchCV(clf, space, **given, sampler=sampler, pruner=NO_PRUNING)
    whole.fit(X, y)
    assert set(pruned.cv_results_["state"]) == {"complete", "pruned"}
    pairs = zip(finished(pruned.study_), finished(whole.study_), strict=True)
    for i, (short, long) in enumerate(pairs):
        assert short.params == long.params
        steps = len(short.intermediate_values)
        curve = list(long.intermediate_values.values())
        assert list(short.intermediate_values.values()) == curve[:steps]
        if short.state.name == "COMPLETE":
            assert scores(pruned, i) == scores(whole, i)
    # And those of whole fits, by scikit-learn, where the last epoch was the best.
    row = whole.cv_results_["n_epochs"].tolist().index(4)
    plain = clone(clf).set_params(**whole.cv_results_["params"][row])
    plain = cross_val_score(plain, X, y, cv=cv, scoring="neg_log_loss")
    assert scores(whole, row) == plain.tolist()


def test_the_refit_stops_on_the_course_of_the_whole(images, tiny):
    X, y = images
    clf = tiny(max_epochs=4, architecture=ResNet(width=2, depth=1))

    class AtTwo(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return False

    def scorer(estimator, X, y):
        return -abs(len(estimator.net_.history) - 2)

    search = OptunaSearchCV(
        clf, {"lr": [3e-3]}, n_trials=1, cv=2, scoring=scorer, pruner=AtTwo()
    ).fit(X, y)
    whole = clone(clf).set_params(lr=3e-3).fit(X, y)
    refitted = search.best_estimator_
    assert refitted.n_iter_ == 2
    losses = whole.history_["train_loss"][:2].tolist()
    assert refitted.history_["train_loss"].tolist() == losses
    assert refitted.history_["lr"].iloc[-1] > whole.history_["lr"].iloc[-1]


def test_a_pruner_of_optuna_that_shows_a_part_of_the_study(table):
    """Each trial of Hyperband draws for itself, and `fit` leaves the pruner alone."""
    pruner = optuna.pruners.HyperbandPruner()
    search = OptunaSearchCV(
        Curve(), {"gain": uniform(0, 0.1)}, n_trials=9, cv=2, random_state=0
    ).set_params(pruner=pruner, refit=False)
    drawn = search.fit(*table).cv_results_["param_gain"]
    assert len(set(drawn)) == len(drawn) == 9
    assert vars(pruner) == vars(optuna.pruners.HyperbandPruner())


def test_estimators_without_epochs_are_pruned_by_fold(table):
    search = OptunaSearchCV(
        make_pipeline(StandardScaler(), SVC(random_state=0)),
        {"svc__C": loguniform(1e-6, 1e2)},
        n_trials=12,
        cv=KFold(4),
        random_state=0,
    ).fit(*table)
    results = search.cv_results_
    pruned = results["state"] == "pruned"
    assert pruned.any()
    assert np.ma.getmaskarray(results["n_epochs"]).all()
    for row in np.flatnonzero(pruned):
        done = np.array(scores(search, row))
        assert np.isnan(done).any()
        assert results["mean_test_score"][row] == np.nanmean(done)
    assert not np.isnan(scores(search, search.best_index_)).any()


# -- what it tells ---------------------------------------------------------------------


@pytest.mark.parametrize(("n_jobs", "where"), [(1, ""), (2, " in each of 2 processes")])
def test_verbose_tells_what_it_may_take_and_each_trial(table, capfd, n_jobs, where):
    pytest.importorskip("resource", reason="Windows does not tell of memory")
    # Workers that another test has begun write to where that was captured.
    get_reusable_executor().shutdown(wait=True)
    clf = Curve(seconds=0.1, max_epochs=5)
    OptunaSearchCV(
        clf, {"gain": uniform(0.1, 1e-6)}, n_trials=6, cv=2, verbose=1, n_jobs=n_jobs
    ).set_params(pruner=NO_PRUNING).fit(*table)
    lines = capfd.readouterr().out.splitlines()
    (told,) = [line for line in lines if "may take" in line]
    seconds, gigabytes, rest = re.fullmatch(
        r"[56] trials of 2 folds may take about (\d+) s without pruning, "
        r"and (\d+\.\d) GB of memory(.*)\.",
        told,
    ).groups()
    # Six times two folds of five epochs of a tenth of a second.
    assert 5 / n_jobs <= int(seconds) + 0.5 < 60
    assert 0.1 <= float(gigabytes) < 20
    assert rest == where
    if n_jobs == 1:
        assert lines[0] == told
    trials = sorted(line.split(" (")[0] for line in lines if line != told)
    assert trials == [f"trial   {i} of 6: 0.5000" for i in range(6)]


def test_gpus_are_dealt_in_turn(tiny, monkeypatch):
    import torch

    from skmedimg.model_selection import _trial_runner

    @dataclass
    class Plan:
        estimator: object
        n_jobs: int = 4

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    pipe = make_pipeline(StandardScaler(), tiny())
    for process, device in enumerate(["cuda:0", "cuda:1", "cuda:0", "cuda:1"]):
        dealt = _trial_runner.deal_gpus(Plan(pipe), process)
        assert dealt.estimator[-1].device == device
    assert _trial_runner.deal_gpus(Plan(pipe, n_jobs=1), 1).estimator is pipe
    on_cpu = tiny(device="cpu")
    assert _trial_runner.deal_gpus(Plan(on_cpu), 1).estimator is on_cpu
    assert pipe[-1].device == "auto"
