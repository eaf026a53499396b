"""Searches that are kept: going on after a crash, several processes, bad storages."""

import multiprocessing
import os
import pickle
import random
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from contextlib import nullcontext
from threading import Event

import numpy as np
import optuna
import pytest
import torch
from postgres_server import find_initdb, make_database, postgres_server
from scipy.stats import gamma
from search_toys import Curve, assert_same_results
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from skorch.callbacks import Callback

from skmedimg._net import ImageNet
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.model_selection import OptunaSearchCV, _liveness
from skmedimg.model_selection._liveness import (
    at_work,
    is_alive,
    signs_of_life,
    this_process,
)
from skmedimg.model_selection._study import (
    RESULT,
    disconnect,
    is_lost,
    open_storage,
)

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="a fork is needed, which shares nothing but code"
)
N_TRIALS = 8
SEEN: list = []
SPACE = {"gain": optuna.distributions.FloatDistribution(0.0, 0.1)}


@pytest.fixture
def table():
    return make_classification(40, 4, random_state=0)


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, tmp_path):
    """Where a study can be kept, without a server."""
    if request.param == "journal":
        return tmp_path / "study.log"
    return f"sqlite:///{tmp_path}/study.db"


def make_search(**params):
    given = {"n_trials": N_TRIALS, "cv": 2, "random_state": 0, "refit": False}
    return OptunaSearchCV(Curve(), SPACE, **given | params)


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
        number = trial.suggest_int("number", 0, 3)
        if number == 0:
            raise ValueError("0 makes no sense")
        return {"gain": 0.1 * number}

    given = {"storage": storage, "study_name": "s", "param_distributions": space}
    search = make_search().set_params(**given)
    with pytest.warns(FitFailedWarning, match="0 makes no sense"):
        results = search.fit(*table).cv_results_
    failed = results["state"] == "fail"
    assert 0 < failed.sum() < N_TRIALS
    assert [row == {"number": 0} for row in results["params"]] == failed.tolist()
    assert search.best_params_ == {"gain": pytest.approx(0.3)}


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


@pytest.mark.parametrize(
    ("sampler", "error"),
    [
        (InterruptedBefore, KeyboardInterrupt),
        # It needs the grid as well as a seed.
        (optuna.samplers.GridSampler, TypeError),
    ],
)
def test_a_trial_that_could_not_begin_is_lost(table, storage, sampler, error):
    with pytest.raises(error):
        make_search(storage=storage, sampler=sampler).fit(*table)
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
    kept = [trial for trial in _trials(storage) if not is_lost(trial)]
    assert len(kept) == n_trials
    assert all(RESULT in trial.user_attrs for trial in kept)


def _still_there(storage, finished):
    """Finished trials by number; those of before are as they were."""
    try:
        trials = _trials(storage)
    except KeyError:  # killed before there was a study
        assert not finished
        return {}
    done = [trial for trial in trials if RESULT in trial.user_attrs]
    now = {trial.number: trial.user_attrs[RESULT] for trial in done}
    assert finished.items() <= now.items()
    return now


def _trials(storage):
    opened = open_storage(storage)
    try:
        return optuna.load_study(study_name="s", storage=opened).trials
    finally:
        disconnect(opened)


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
    kept = [trial for trial in _trials(storage) if not is_lost(trial)]
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


# -- bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "param_distributions is empty"),
        ({"C": []}, "empty list"),
        ({"c": [1]}, "names 'c', which LogisticRegression does not have.*'C'"),
        ({"C": "1"}, "is not a distribution"),
        ("defaults", "must be 'default'"),
        ("default", "no default space for LogisticRegression"),
        (lambda trial: {}, "at least one parameter"),
        (lambda trial: {"c": 1}, "Invalid parameter 'c'"),
        (3, "is a int"),
    ],
)
def test_spaces_that_do_not_fit(table, tmp_path, space, message):
    search = OptunaSearchCV(
        LogisticRegression(), space, storage=tmp_path / "study.log", study_name="s"
    )
    with pytest.raises((ValueError, TypeError), match=message):
        search.fit(*table)
    assert not (tmp_path / "study.log").exists()


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////no/such/folder/study.db",
        "/no/such/folder/study.log",
        "postgresql://user:secret@127.0.0.1:1/base",
    ],
)
def test_a_storage_that_cannot_be_reached(table, storage):
    if storage.startswith("postgres"):
        pytest.importorskip("psycopg")
    with pytest.raises(ConnectionError, match="storage=") as error:
        make_search(storage=storage).fit(*table)
    assert "secret" not in str(error.value)


def test_a_storage_of_another_kind(table):
    with pytest.raises(TypeError, match="storage=3 must be"):
        make_search(storage=3).fit(*table)


@pytest.mark.parametrize("text", [b"SQLite 3\0\xff", b"{}\n"])
def test_a_file_that_is_no_journal(table, tmp_path, text):
    path = tmp_path / "study.db"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"else than a journal.*sqlite:///"):
        make_search(storage=path).fit(*table)
    assert path.read_bytes() == text


def _other_direction(storage):
    return optuna.create_study(storage=open_storage(storage), study_name="s")


def _of_something_else(storage):
    study = optuna.create_study(
        storage=open_storage(storage), study_name="s", direction="maximize"
    )
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    return study


@pytest.mark.parametrize("make", [_other_direction, _of_something_else])
def test_a_study_that_is_no_search(table, tmp_path, make):
    storage = tmp_path / "study.log"
    before = make(storage).trials
    with pytest.raises(ValueError, match="another study_name than 's'"):
        make_search(storage=storage, study_name="s").fit(*table)
    assert _trials(storage) == before


def _by_function(trial):
    return {"gain": trial.suggest_float("gain", 0, 0.2)}


def test_a_study_of_another_search(table, tmp_path):
    X, y = table
    given = {"storage": tmp_path / "study.log", "study_name": "s", "n_trials": 1}
    search = make_search(**given).fit(X, y)
    before = search.study_.trials
    for changed, what in [
        ({"param_distributions": {"gain": [0.1]}}, "space"),
        ({"param_distributions": _by_function}, "space"),
        ({"estimator": Curve(max_epochs=8)}, "estimator"),
        ({"scoring": "accuracy"}, "scoring"),
        ({"cv": KFold(3)}, "data"),
        ({"scoring": ["accuracy", "f1"], "refit": "f1"}, "scoring"),
    ]:
        other = make_search(**given).set_params(**changed)
        with pytest.raises(ValueError, match=f"of another {what}"):
            other.fit(X, y)
    other = X.copy()
    other[7, 2] += 1e-6
    with pytest.raises(ValueError, match=r"of another data.*random_state"):
        make_search(**given).fit(other, y)
    assert search.study_.trials == before
    with pytest.raises(ValueError, match=r"here Curve\(max_epochs=8\)\."):
        make_search(**given).set_params(estimator=Curve(max_epochs=8)).fit(X, y)
    # Without a name, each has a study of its own.
    make_search(**given | {"study_name": None}).fit(X + 1, y)


def test_the_same_images_in_another_place(images, tiny, tmp_path):
    """A memory map on the second day goes on with the study of the first."""
    X, y = images
    np.save(tmp_path / "X.npy", X)
    given = {"storage": tmp_path / "study.log", "study_name": "s", "refit": False}
    search = OptunaSearchCV(tiny(), {"lr": [1e-3]}, n_trials=1, cv=2, **given)
    begun = search.fit(X, y).study_.trials[0].datetime_start
    for same in (
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        np.asfortranarray(X),
    ):
        again = clone(search).fit(same, y)
        assert again.study_.trials[0].datetime_start == begun


def test_a_storage_that_can_be_read_alone(table, tmp_path):
    url = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"
    state = random.getstate()
    make_search(n_trials=1, storage=f"sqlite:///{tmp_path}/study.db").fit(*table)
    with pytest.raises(ConnectionError, match=r"read or written.*readonly"):
        make_search(storage=url).fit(*table)
    random.setstate(state)  # Optuna waits for a random time, and tries once more


def scorer_of(value):
    def scorer(estimator, X, y):
        return value

    return scorer


def space_below(high):
    def space(trial):
        if trial.number == 0:
            return {"gain": trial.suggest_float("gain", 0, 0.1)}
        return {"gain": trial.suggest_float("gain", 0, high)}

    return space


def test_other_starting_weights_or_functions_in_a_list(images, tiny, tmp_path):
    X, y = images
    storage, before = tmp_path / "study.log", tiny(random_state=1).fit(X, y)
    after = clone(before).fit(X, 1 - y)
    file = tmp_path / "weights.pt"

    def search(clf, **space):
        OptunaSearchCV(
            clf,
            {"lr": [1e-3], **space},
            n_trials=1,
            cv=2,
            storage=storage,
            study_name="s" + "".join(space),
            refit=False,
        ).fit(X, y)

    search(tiny(weights=FrozenEstimator(before)))
    with pytest.raises(ValueError, match="of another data"):
        search(tiny(weights=FrozenEstimator(after)))
    for i, trained in enumerate((before, after)):
        torch.save(trained.module_.state_dict(), file)
        with pytest.raises(ValueError, match="of another data") if i else nullcontext():
            search(tiny(), weights=[None, Pretrained(str(file))])
    for gain in (0.5, 0.25):

        def dimmed(x, gain=gain):
            return x * gain

        with pytest.raises(ValueError, match="code") if gain < 0.5 else nullcontext():
            search(tiny(), augmentation=[None, dimmed])


def test_what_a_run_changes_is_no_other_code(table, tmp_path):
    """Counters and logs of the user's own, in closures, globals and objects."""
    calls, maths = [], np

    class Space:
        n = 0

        def draw(self, trial):
            self.n += 1
            return {"gain": maths.abs(trial.suggest_float("gain", 0, 0.1))}

    def scoring(estimator, X, y):
        calls.append(y)
        SEEN.append(y)
        return estimator.score(X, y)

    search = make_search(storage=tmp_path / "study.log", study_name="s")
    search.set_params(param_distributions=Space().draw, scoring=scoring)
    search.fit(*table)
    n_calls = len(calls)
    search.fit(*table)
    assert len(calls) == n_calls == len(SEEN)


def test_a_storage_that_fails_while_parameters_are_drawn(table, monkeypatch):
    """The trial is lost, and not failed: the same call does it."""
    fails = [False, True, False]
    suggest = optuna.trial.Trial.suggest_float

    def suggest_float(trial, *given, **how):
        if fails and fails.pop(0):
            raise optuna.exceptions.StorageInternalError("database is locked")
        return suggest(trial, *given, **how)

    storage = optuna.storages.InMemoryStorage()
    search = make_search(n_trials=3, storage=storage, study_name="s")
    search.set_params(param_distributions=_by_function)
    search.fit(*table)  # the first is drawn twice, to try the space
    fails[:] = [False, True]
    monkeypatch.setattr(optuna.trial.Trial, "suggest_float", suggest_float)
    with pytest.raises(ConnectionError, match="database is locked"):
        search.set_params(n_trials=4).fit(*table)
    results = search.fit(*table).cv_results_
    assert len(results["state"]) == 4
    assert "fail" not in results["state"]


@pytest.mark.parametrize(
    ("name", "before", "after", "what"),
    [
        ("scoring", scorer_of(1), scorer_of(2), "code.*have changed"),
        # In one branch of two.
        ("param_distributions", space_below(0.2), space_below(0.3), "code"),
        ("param_distributions", {"gain": gamma(2)}, {"gain": gamma(3)}, "space"),
    ],
)
def test_a_study_of_other_code(table, tmp_path, name, before, after, what):
    given = {"storage": tmp_path / "study.log", "study_name": "s", "n_trials": 2}
    for n_trials in (1, 2):
        make_search(**given).set_params(**{name: before, "n_trials": n_trials}).fit(
            *table
        )
    with pytest.raises(ValueError, match=f"of another {what}"):
        make_search(**given).set_params(**{name: after}).fit(*table)


def test_a_study_for_each_outer_fold(table, tmp_path):
    """Also where each leaves out so few images that most are alike."""
    X, y = table
    storage = tmp_path / "study.log"
    search = make_search(storage=storage, n_trials=1, cv=KFold(2))
    for out in range(len(X)):
        search.fit(np.delete(X, out, axis=0), np.delete(y, out))
    names = optuna.get_all_study_names(open_storage(storage))
    assert len(names) == len(X)


def test_refit_that_names_no_score(table):
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        make_search(scoring=["accuracy", "f1"], refit="auc").fit(*table)

    def scorer(estimator, X, y):
        return {"a": 1.0, "b": 0.5}

    with pytest.raises(ValueError, match="by which of the scores"):
        make_search(scoring=scorer, refit=True).fit(*table)


def test_all_trials_pruned(table):
    pruner = optuna.pruners.ThresholdPruner(lower=2)
    with pytest.raises(ValueError, match="all 3 were pruned"):
        make_search(pruner=pruner, n_trials=3).fit(*table)


def test_no_time_for_a_trial(table):
    with pytest.raises(ValueError, match="timeout"):
        make_search(timeout=1e-9).fit(*table)


def test_memory_of_one_process_is_not_shared(table):
    storage = optuna.storages.InMemoryStorage()
    assert make_search(storage=storage).fit(*table).study_._storage is storage
    with pytest.raises(ValueError, match="n_jobs=2"):
        make_search(storage=storage, n_jobs=2).fit(*table)
