"""Searches that are kept: going on after a crash, several processes."""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from threading import Event

import numpy as np
import optuna
import pytest
from postgres_server import find_initdb, make_database, postgres_server
from search_toys import (
    N_TRIALS,
    SPACE,
    Curve,
    assert_same_results,
    make_search,
    trials_of,
)
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback

from skmedimg._net import ImageNet
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV, _liveness
from skmedimg.model_selection._liveness import (
    at_work,
    is_alive,
    owners,
    signs_of_life,
    this_process,
)
from skmedimg.model_selection._study import (
    RESULT,
    begin_trial,
    is_lost,
    open_storage,
)

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="a fork is needed, which shares nothing but code"
)


@pytest.fixture
def table():
    return make_classification(40, 4, random_state=0)


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, tmp_path):
    """Where a study can be kept, without a server."""
    if request.param == "journal":
        return tmp_path / "study.log"
    return f"sqlite:///{tmp_path}/study.db"


# -- the same call goes on -------------------------------------------------------------


def test_the_same_call_goes_on_and_repeats_nothing(table, storage):
    first = make_search(n_trials=5, storage=storage).fit(*table)
    begun = [trial.datetime_start for trial in first.study_.trials]
    again = make_search(n_trials=5, storage=storage).fit(*table)
    assert_same_results(first.cv_results_, again.cv_results_)
    assert [trial.datetime_start for trial in again.study_.trials] == begun
    more = make_search(storage=storage).fit(*table)
    assert len(more.cv_results_["params"]) == N_TRIALS
    assert [trial.datetime_start for trial in more.study_.trials[:5]] == begun
    assert_same_results(more.cv_results_, make_search().fit(*table).cv_results_)


class Interrupted(optuna.pruners.BasePruner):
    """Stands for the user, who gives up a trial in its course."""

    def __init__(self, number, step):
        self.number, self.step = number, step

    def prune(self, study, trial):
        if (trial.number, trial.last_step) == (self.number, self.step):
            raise KeyboardInterrupt
        return False


def test_an_interrupted_trial_is_done_again(images, tiny, storage):
    """With a network, so that it is the weights as well that come out the same."""
    X, y = images
    clf = tiny(max_epochs=2, architecture=ResNet(width=2, depth=1))
    space = {"lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)}
    given = {"n_trials": 3, "cv": 2, "random_state": 0, "scoring": "neg_log_loss"}
    quiet = optuna.pruners.NopPruner()
    whole = OptunaSearchCV(clf, space, pruner=quiet, **given).fit(X, y)
    search = OptunaSearchCV(clf, space, storage=storage, **given)
    search.set_params(pruner=Interrupted(1, 1))
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    search.set_params(pruner=quiet).fit(X, y)
    assert [is_lost(t) for t in search.study_.trials] == [False, True, False, False]
    assert_same_results(whole.cv_results_, search.cv_results_)
    np.testing.assert_array_equal(whole.predict_proba(X), search.predict_proba(X))


def test_a_trial_that_was_done_but_not_told_is_not_lost(table, tmp_path):
    storage = tmp_path / "study.log"
    search = make_search(n_trials=2, storage=storage).fit(*table)
    study = search.study_
    result = study.trials[1].user_attrs[RESULT]
    trial = study.ask(SPACE)
    trial.set_user_attr("owner", {"machine": "?", "pid": 1, "started": "", "at": 0.0})
    trial.set_user_attr("horizon", 9)
    trial.set_user_attr(RESULT, result)
    search = make_search(n_trials=3, storage=storage).fit(*table)
    assert len(search.study_.trials) == 3
    assert search.cv_results_["state"][2] == result["state"]


@pytest.mark.parametrize("cut", [1, 10])
def test_a_journal_that_a_crash_has_cut_short(table, tmp_path, cut):
    path = tmp_path / "study.log"
    whole = make_search(n_trials=3, storage=path).fit(*table).cv_results_
    path.write_bytes(path.read_bytes()[:-cut])
    for _ in range(2):
        again = make_search(n_trials=5, storage=path).fit(*table).cv_results_
        assert len(again["params"]) == 5
    for column in ("param_gain", "mean_test_score"):
        np.testing.assert_array_equal(again[column][:3], whole[column])
    path.write_bytes(path.read_bytes()[:6])
    assert len(make_search(storage=path).fit(*table).cv_results_["params"]) == N_TRIALS


def test_an_enqueued_trial_that_two_searches_claim(storage, monkeypatch):
    """Who comes late gets another one, and changes nothing about whose it is."""
    optuna.create_study(storage=open_storage(storage), study_name="s")
    one, other = (
        optuna.load_study(storage=open_storage(storage), study_name="s")
        for _ in range(2)
    )
    one.enqueue_trial({"gain": 0.05})
    waiting = other.get_trials(states=(optuna.trial.TrialState.WAITING,))
    first = begin_trial(one, "first")
    monkeypatch.setattr(other, "get_trials", lambda **_: waiting)
    assert begin_trial(other, "second").number != first.number
    claimed = optuna.load_study(storage=open_storage(storage), study_name="s").trials
    assert [owner["search"] for owner in owners(claimed[first.number])] == ["first"]


def test_a_point_of_a_grid_that_was_interrupted_is_tried(table, storage):
    grid = {"gain": [0.01, 0.02, 0.03, 0.04]}
    given = {"storage": storage, "study_name": "s", "n_trials": 4}

    def search(pruner):
        sampler = optuna.samplers.GridSampler(grid, seed=0)
        search = make_search(**given, sampler=sampler, pruner=pruner)
        return search.set_params(param_distributions=grid).fit(*table)

    with pytest.raises(KeyboardInterrupt):
        search(Interrupted(1, 1))
    found = search(optuna.pruners.NopPruner()).cv_results_["param_gain"]
    assert sorted(found) == grid["gain"]


def test_a_path_means_the_same_to_workers_that_began_elsewhere(
    table, tmp_path, monkeypatch
):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        for storage in ("study.log", "sqlite:///study.db"):
            search = make_search(n_trials=3, n_jobs=2, storage=storage).fit(*table)
            assert len(search.cv_results_["params"]) == 3


def test_trials_that_the_user_enqueues_come_first(table, tmp_path):
    storage = tmp_path / "study.log"
    search = make_search(n_trials=1, storage=storage, study_name="s").fit(*table)
    search.study_.enqueue_trial({"gain": 0.0875})
    search = make_search(n_trials=3, storage=storage, study_name="s").fit(*table)
    assert search.cv_results_["param_gain"][1] == 0.0875


def test_an_enqueued_trial_that_was_interrupted_runs_again(table, storage):
    given = {"storage": storage, "study_name": "s"}
    search = make_search(n_trials=1, **given).fit(*table)
    search.study_.enqueue_trial({"gain": 0.0875})
    search = make_search(n_trials=3, pruner=Interrupted(1, 1), **given)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*table)
    search = make_search(n_trials=3, **given).fit(*table)
    assert 0.0875 in search.cv_results_["param_gain"]


def test_a_draw_that_cannot_be_made_is_a_failed_trial(table, storage):
    """Whether a function raises or the user enqueues what the space does not know."""

    def space(trial):
        number = trial.suggest_int("number", 0, 99)
        if number < 50:
            raise ValueError("less than 50 makes no sense")
        return {"gain": 0.001 * number}

    given = {"storage": storage, "study_name": "s", "param_distributions": space}
    search = make_search().set_params(**given)
    with pytest.warns(FitFailedWarning, match="50 makes no sense"):
        results = search.fit(*table).cv_results_
    failed = results["state"] == "fail"
    assert 0 < failed.sum() < N_TRIALS
    assert ["number" in row for row in results["params"]] == failed.tolist()
    assert search.best_params_["gain"] >= 0.05


def test_an_enqueued_trial_that_the_space_does_not_know(table, storage):
    given = {"storage": storage, "study_name": "s"}
    search = make_search(n_trials=1, **given).set_params(
        param_distributions={"gain": [0.1, 0.2]}
    )
    search.fit(*table).study_.enqueue_trial({"gain": 0.7})
    with pytest.warns(FitFailedWarning, match="not in"):
        search.set_params(n_trials=3).fit(*table)
    assert search.cv_results_["state"].tolist()[1] == "fail"
    assert len(search.study_.trials) == 3


def test_a_fitted_search_needs_no_database(table, tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    search = OptunaSearchCV(
        LogisticRegression(),
        {"C": [0.1, 1.0]},
        n_trials=2,
        storage=f"sqlite:///{folder}/study.db",
    ).fit(*table)
    kept = pickle.dumps(search)
    expected = search.predict(table[0])
    shutil.rmtree(folder)
    again = pickle.loads(kept)
    np.testing.assert_array_equal(again.predict(table[0]), expected)
    assert len(again.study_.trials) == 2
    assert not folder.exists()


class Interrupting(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_an_interrupted_refit_goes_on_from_its_checkpoint(
    images, tiny, tmp_path, monkeypatch
):
    (tmp_path / "first").touch()

    def stop(name, estimator, first=tmp_path / "first"):
        if name.endswith("refit") and first.exists():
            first.unlink()
            return Interrupting()
        return Callback()

    run_epoch, n_run = ImageNet._run_epoch, Counter()

    def counted(net, *given):
        n_run[net.seed] += 1
        return run_epoch(net, *given)

    monkeypatch.setattr(ImageNet, "_run_epoch", counted)
    clf = tiny(max_epochs=3, checkpoint=tmp_path, callbacks=[stop], random_state=0)
    given = {"n_trials": 1, "cv": 2, "scoring": "neg_log_loss", "random_state": 0}
    search = OptunaSearchCV(clf, {"lr": [1e-3]}, storage=tmp_path / "log", **given)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*images)
    n_run.clear()
    search.fit(*images)
    assert 0 < n_run.total() < 3
    whole = clone(search).set_params(storage=None, estimator__checkpoint=None)
    whole.set_params(estimator__callbacks=None).fit(*images)
    X, _ = images
    np.testing.assert_array_equal(search.predict_proba(X), whole.predict_proba(X))


def test_a_refit_that_could_not_be_kept_is_refused_at_once(images, tiny, tmp_path):
    clf = tiny(checkpoint=tmp_path, random_state=None)
    search = OptunaSearchCV(clf, {"lr": [1e-3]}, n_trials=1, storage=tmp_path / "log")
    with pytest.raises(ValueError, match="checkpoint needs an integer random_state"):
        search.fit(*images)
    assert not (tmp_path / "log").exists()


class InterruptedBefore(optuna.samplers.RandomSampler):
    """Stands for the user, who gives up while the second trial begins."""

    def before_trial(self, study, trial):
        if trial.number == 1:
            raise KeyboardInterrupt


def test_a_trial_that_could_not_begin_is_lost(table, storage):
    with pytest.raises(KeyboardInterrupt):
        make_search(storage=storage, sampler=InterruptedBefore).fit(*table)
    search = make_search(storage=storage).fit(*table)
    assert len(search.cv_results_["params"]) == N_TRIALS
    running = optuna.trial.TrialState.RUNNING
    assert not search.study_.get_trials(states=(running,))


def test_signs_of_life_go_on_while_a_database_restarts(monkeypatch, tmp_path):
    monkeypatch.setattr(_liveness, "_BEAT", 0.01)
    study = optuna.create_study(storage=open_storage(tmp_path / "study.log"))
    trial, beats, heard = study.ask(), [], Event()

    def set_user_attr(name, value):
        beats.append(value)
        if len(beats) == 1:
            raise optuna.exceptions.StorageInternalError("restarting")
        heard.set()

    monkeypatch.setattr(trial, "set_user_attr", set_user_attr)
    with signs_of_life(trial):
        assert heard.wait(10)


class Buried(optuna.pruners.BasePruner):
    """Stands for another process, which takes this one for dead."""

    def prune(self, study, trial):
        if (trial.number, trial.last_step) == (1, 2):
            failed = optuna.trial.TrialState.FAIL
            study._storage.set_trial_state_values(trial._trial_id, failed)
        return False


def test_a_trial_that_others_gave_up_is_done_anew(table, storage):
    search = make_search(storage=storage, pruner=Buried(), n_trials=3)
    with pytest.warns(UserWarning, match="trial 1 was given up"):
        search.fit(*table)
    whole = make_search(pruner=optuna.pruners.NopPruner(), n_trials=3).fit(*table)
    assert_same_results(whole.cv_results_, search.cv_results_)


@pytest.mark.parametrize(
    ("owner", "alive"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),
        ({"started": "another"}, False),
        ({"machine": "elsewhere"}, True),
        ({"machine": "elsewhere", "at": 0.0}, False),
    ],
)
def test_who_is_alive(owner, alive):
    with at_work() as search:
        owner = this_process(search) | owner
        trial = optuna.create_trial(value=0.0, user_attrs={"owner": owner})
        assert is_alive(trial) == alive
    # Once the search is over, its trials are lost; of others nothing is known.
    assert is_alive(trial) == (alive and owner["machine"] == "elsewhere")


# -- killed ----------------------------------------------------------------------------


def _slow_search(n_trials, **params):
    search = make_search(n_trials=n_trials, study_name="s", **params)
    return search.set_params(estimator=Curve(seconds=0.03))


def _fit(storage, n_trials):
    """What the process that is to be killed does."""
    X, y = make_classification(40, 4, random_state=0)
    _slow_search(n_trials, storage=storage).fit(X, y)


def _start(storage, n_trials=N_TRIALS):
    # A fork has everything imported; it shares no connection with this process.
    process = multiprocessing.get_context("fork").Process(
        target=_fit, args=(storage, n_trials)
    )
    with warnings.catch_warnings():
        # Threads that torch has started and that the child does not need.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        process.start()
    return process


def _kill_at_random(storage, n_kills, n_trials):
    """Kill a search at random moments; what is there each time, and in the end."""
    rng = np.random.default_rng(n_kills)
    finished = {}
    for _ in range(n_kills):
        process = _start(storage, n_trials)
        time.sleep(rng.uniform(0.0, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        finished = _still_there(storage, finished)
    assert len(finished) < n_trials  # the last was killed in its course
    X, y = make_classification(40, 4, random_state=0)
    search = _slow_search(n_trials, storage=storage).fit(X, y)
    _still_there(storage, finished)
    whole = make_search(n_trials=n_trials).fit(X, y)
    assert_same_results(whole.cv_results_, search.cv_results_)
    kept = [trial for trial in trials_of(storage) if not is_lost(trial)]
    assert len(kept) == n_trials
    assert all(RESULT in trial.user_attrs for trial in kept)


def _still_there(storage, finished):
    """Finished trials by number; those of before are as they were."""
    try:
        trials = trials_of(storage)
    except KeyError:  # killed before there was a study
        assert not finished
        return {}
    done = [trial for trial in trials if RESULT in trial.user_attrs]
    now = {trial.number: trial.user_attrs[RESULT] for trial in done}
    assert finished.items() <= now.items()
    return now


KILLS = pytest.mark.parametrize(
    ("n_kills", "n_trials"),
    [(3, 8), pytest.param(20, 30, marks=pytest.mark.slow)],
)


@linux_only
@KILLS
def test_killed_on_sqlite(tmp_path, n_kills, n_trials):
    _kill_at_random(f"sqlite:///{tmp_path}/study.db", n_kills, n_trials)


@linux_only
@pytest.mark.slow  # Optuna waits half a minute for the lock of a dead process
def test_killed_on_a_journal(tmp_path):
    _kill_at_random(tmp_path / "study.log", 4, 12)


# -- several processes -----------------------------------------------------------------


@linux_only
def test_two_processes_on_one_study(storage):
    _assert_shared(storage)


def _assert_shared(storage):
    processes = [_start(storage) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    kept = [trial for trial in trials_of(storage) if not is_lost(trial)]
    assert len(kept) == N_TRIALS
    assert all(RESULT in trial.user_attrs for trial in kept)
    assert {t.user_attrs["owner"]["pid"] for t in kept} == {p.pid for p in processes}
    gains = [trial.params["gain"] for trial in kept]
    assert len(set(gains)) == N_TRIALS


@pytest.fixture(scope="module")
def postgres():
    """URL of a server of its own, on 127.0.0.1."""
    pytest.importorskip("psycopg", reason="pip install 'skmedimg[postgres]'")
    if not find_initdb():
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_storage(postgres):
    """URL of an empty database."""
    return make_database(postgres)


@linux_only
@KILLS
def test_killed_on_postgres(postgres_storage, n_kills, n_trials):
    _kill_at_random(postgres_storage, n_kills, n_trials)


@linux_only
def test_two_processes_on_postgres(postgres_storage):
    _assert_shared(postgres_storage)


def test_jobs_share_a_study_in_memory_too(table):
    search = make_search(n_jobs=2).fit(*table)
    gains = search.cv_results_["param_gain"]
    assert len(set(gains)) == len(gains) == N_TRIALS
    owners = {trial.user_attrs["owner"]["pid"] for trial in search.study_.trials}
    assert os.getpid() not in owners
