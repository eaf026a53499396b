"""What searches refuse, before or instead of hours of work, and leave as it was."""

import logging
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from scipy.stats import gamma
from search_toys import Curve, make_search, trials_of
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import PrintLog
from torch import nn

from skmedimg._fit_key import values_of
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.model_selection import OptunaSearchCV
from skmedimg.model_selection._study import open_storage

SEEN: list = []


@pytest.fixture
def table():
    return make_classification(40, 4, random_state=0)


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


def test_a_sampler_that_needs_more_than_a_seed(table, tmp_path):
    search = make_search(storage=tmp_path / "study.log")
    with pytest.raises(
        TypeError, match=r"GridSampler.*cannot be called with seed alone"
    ):
        search.set_params(sampler=optuna.samplers.GridSampler).fit(*table)
    assert not (tmp_path / "study.log").exists()


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
    assert trials_of(storage) == before


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


@pytest.mark.filterwarnings("ignore:The head of the pretrained weights")
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


class Dimmed:
    """An augmentation that reads alike whatever it does."""

    def __init__(self, gain):
        self.gain = gain

    def __call__(self, x):
        return x * self.gain


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNet(width=2, depth=1).build(1, 2, 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"augmentation": Dimmed(0.5)}, {"augmentation": Dimmed(0.25)}),
        ({"architecture": network(0)}, {"architecture": network(1)}),
    ],
)
def test_values_that_read_alike(images, tiny, tmp_path, before, after):
    def search(parameters, space):
        search = OptunaSearchCV(
            tiny(**parameters), {"lr": [1e-3], **space}, n_trials=1, cv=2, refit=False
        )
        search.set_params(
            storage=tmp_path / "study.log", study_name="s" + "".join(space)
        )
        return search.fit(*images).study_.trials[0].datetime_start

    begun = search(before, {})
    assert search(before, {}) == begun
    with pytest.raises(ValueError, match="of another set of values"):
        search(after, {})
    name, value = next(iter(before.items()))
    search({}, {name: [value]})
    with pytest.raises(ValueError, match="of another set of values"):
        search({}, {name: [after[name]]})


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


def test_what_changes_as_it_is_used_is_no_other_value(images, tiny, tmp_path):
    """In closures and behind methods, of steps and of callbacks."""
    cache, log, seen = {}, logging.getLogger("tests"), []

    def cached(X):
        cache[len(X)] = X
        return X

    search = OptunaSearchCV(
        make_pipeline(
            FunctionTransformer(cached),
            tiny(callbacks=[PrintLog(sink=log.debug), PrintLog(sink=seen.append)]),
        ),
        {"cnnimageclassifier__lr": [1e-3]},
        n_trials=1,
        cv=2,
        refit=False,
        storage=tmp_path / "study.log",
        study_name="s",
    )
    begun = search.fit(*images).study_.trials[0].datetime_start
    assert cache
    assert seen
    log.debug("used")
    assert search.fit(*images).study_.trials[0].datetime_start == begun


def test_layers_that_learn_their_size_are_searched(images, tiny):
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(1))
    search = OptunaSearchCV(tiny(architecture=lazy), {"lr": [1e-3]}, n_trials=1, cv=2)
    assert search.fit(*images).best_params_ == {"lr": 1e-3}


def test_values_are_known_by_what_they_hold_in_every_process():
    """Sets of sets and paths, whatever hashes they have had; tables, frozen steps."""
    nested = {frozenset({"a", "b"}), frozenset({"c", "d"})}
    path = Path("weights")
    first = values_of({"C": [[nested, path]]}, LogisticRegression())
    hash(path)
    again = {frozenset({"d", "c"}), frozenset({"b", "a"})}
    assert values_of({"C": [[again, path]]}, LogisticRegression()) == first
    frame = pd.DataFrame({"x": range(100)})
    other = frame.copy()
    other.loc[50, "x"] = 0
    named = [
        values_of({"C": [table]}, LogisticRegression()) for table in (frame, other)
    ]
    assert named[0] != named[1]
    X = np.arange(8.0).reshape(4, 2)
    frozen = [FrozenEstimator(StandardScaler().fit(X * by)) for by in (1, 2)]
    steps = [make_pipeline(step, LogisticRegression()) for step in frozen]
    assert values_of({}, steps[0]) != values_of({}, steps[1])


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


def test_sqlite_in_memory_is_the_memory_of_one_process(table):
    search = make_search(n_trials=2, storage="sqlite:///:memory:", study_name="s")
    assert len(search.fit(*table).cv_results_["params"]) == 2
    with pytest.raises(ValueError, match="n_jobs=2"):
        search.set_params(n_jobs=2).fit(*table)


def test_memory_of_one_process_is_not_shared(table):
    storage = optuna.storages.InMemoryStorage()
    assert make_search(storage=storage).fit(*table).study_._storage is storage
    with pytest.raises(ValueError, match="n_jobs=2"):
        make_search(storage=storage, n_jobs=2).fit(*table)
