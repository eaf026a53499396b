"""TensorBoard and MLflow in fits and in searches: each fit has a run of its own."""

import json
import pickle
from threading import Lock

import numpy as np
import optuna
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    LRScheduler,
    MlflowLogger,
    TensorBoard,
)

from skmedimg._net import ImageNet
from skmedimg.architectures import ResNet
from skmedimg.exceptions import NonFiniteLossError
from skmedimg.model_selection import OptunaSearchCV

SMALL = {"architecture": ResNet(width=2, depth=1), "max_epochs": 3}
RATES = {"lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)}


class Writer:
    """Has what skorch uses of a SummaryWriter; like that, it does not pickle."""

    def __init__(self, path):
        assert not path.exists(), "two fits share a run"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = path.open("w"), Lock()

    def add_scalar(self, tag, scalar_value, global_step):
        row = {"tag": tag, "value": scalar_value, "step": global_step}
        print(json.dumps(row), file=self._file)

    def close(self):
        assert not self._file.closed, "closed twice"
        print(json.dumps("closed"), file=self._file)
        self._file.close()


@pytest.fixture
def log(tmp_path):
    """Makes a callback that writes what a fit records into a file of its name."""

    def make(name, estimator):
        writer = Writer(tmp_path / f"{name}.json")
        writer.add_scalar("lr given", estimator.lr, 0)
        return TensorBoard(writer)

    return make


def runs_in(folder):
    """Rows that each run has written, by its name."""
    runs = {}
    for path in folder.rglob("*.json"):
        *rows, end = map(json.loads, path.read_text().splitlines())
        assert end == "closed"
        runs[path.relative_to(folder).with_suffix("").as_posix()] = rows
    return runs


def losses(rows):
    return [row["value"] for row in rows if row["tag"] == "Loss/train_loss"]


class SecondEndsEarly(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.number == 1 and trial.last_step == 1


def search_two_trials(clf, images, **params):
    return OptunaSearchCV(
        clf,
        RATES,
        n_trials=2,
        cv=2,
        pruner=SecondEndsEarly(),
        study_name="study",
        **params,
    ).fit(*images)


def test_a_search_has_a_run_for_each_fold_of_each_trial(images, tiny, log, tmp_path):
    clf = tiny(**SMALL, callbacks=[log])
    search = search_two_trials(clf, images, random_state=0)
    runs = runs_in(tmp_path)
    folds = [f"study/trial-00{trial}/fold-{i}" for trial in (0, 1) for i in (0, 1)]
    assert sorted(runs) == ["study/refit", *folds]
    for name, rows in runs.items():
        trial = 0 if "refit" in name else int(name[12:15])
        assert rows[0]["value"] == search.cv_results_["param_lr"][trial]
        n_epochs = 1 if trial == 1 else 3
        if "refit" in name:
            n_epochs = search.best_estimator_.n_iter_
        assert len(losses(rows)) == n_epochs
    # Of images and rates that differ: nothing was written into another's run.
    assert len({losses(rows)[0] for rows in runs.values()}) == 5
    refitted = search.best_estimator_.history_["train_loss"].tolist()
    assert losses(runs["study/refit"]) == refitted


def test_a_study_goes_on_with_loggers(images, tiny, log, tmp_path):
    search = OptunaSearchCV(
        tiny(**SMALL),
        RATES,
        n_trials=1,
        cv=2,
        storage=tmp_path / "study.log",
        study_name="study",
        random_state=0,
    ).fit(*images)
    search.set_params(estimator__callbacks=[log], n_trials=2).fit(*images)
    assert len(search.cv_results_["params"]) == 2
    folds = [f"study/trial-001/fold-{i}" for i in (0, 1)]
    assert sorted(runs_in(tmp_path)) == ["study/refit", *folds]
    # Other callbacks may change what is learnt.
    search.set_params(estimator__callbacks=[log, EarlyStopping("train_loss")])
    with pytest.raises(ValueError, match="of another estimator"):
        search.fit(*images)


def test_in_processes(images, tiny, log, tmp_path):
    OptunaSearchCV(
        tiny(**SMALL, callbacks=[log]), RATES, n_trials=4, cv=2, n_jobs=2, refit=False
    ).fit(*images)
    assert len(runs_in(tmp_path)) == 8


def test_searches_of_scikit_learn_have_a_run_a_fit(images, tiny, log, tmp_path):
    rates = {"lr": [1e-3, 1e-2]}
    GridSearchCV(tiny(**SMALL, callbacks=[log]), rates, cv=2).fit(*images)
    runs = runs_in(tmp_path)
    assert len(runs) == 2 * 2 + 1
    assert all(name.startswith("fit-") for name in runs)
    assert {rows[0]["value"] for rows in runs.values()} == set(rates["lr"])


def test_several_networks_in_a_fold_have_a_run_each(images, tiny, log, tmp_path):
    X, _ = images
    network = OneVsRestClassifier(tiny(**SMALL, callbacks=[log]))
    search = OptunaSearchCV(
        make_pipeline(FunctionTransformer(), network),
        {"onevsrestclassifier__estimator__lr": [1e-3]},
        n_trials=1,
        cv=2,
        study_name="study",
        refit=False,
    )
    search.fit(X, np.arange(40) % 3)
    folds = [f"study/trial-000/fold-{i}" for i in (0, 1)]
    assert sorted(runs_in(tmp_path)) == sorted(
        fold + end for fold in folds for end in ("", "-2", "-3")
    )


def test_what_logged_a_fit_goes_with_it(images, tiny, log, tmp_path):
    X, y = images
    clf = tiny(**SMALL, callbacks=[log, Callback()]).fit(X, y)
    # The writer has a lock, and the function is none that pickle could find.
    clone(clf).fit(X, y)
    assert len(runs_in(tmp_path)) == 2
    kinds = [type(callback) for _, callback in clf.net_.callbacks_]
    assert kinds == [Callback]
    again = pickle.loads(pickle.dumps(clf.set_params(callbacks=None)))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    clf.set_params(callbacks=[log]).partial_fit(X, y)
    assert len(runs_in(tmp_path)) == 3


class Interrupting(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


class Failing(Callback):
    def on_train_begin(self, net, **kwargs):
        raise OSError("no server")


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"lr": 1e30, "optimizer": "sgd"}, NonFiniteLossError),
        ({"callbacks": [Interrupting()]}, KeyboardInterrupt),
        ({"callbacks": [Failing()]}, OSError),
    ],
)
@pytest.mark.parametrize(
    ("method", "known"), [("fit", {}), ("partial_fit", {"classes": [0, 1]})]
)
def test_a_fit_that_fails_closes_its_run(
    method, known, params, error, images, tiny, log, tmp_path
):
    clf = tiny(**SMALL).set_params(**params)
    clf.set_params(callbacks=[log, *(clf.callbacks or [])])
    with pytest.raises(error):
        getattr(clf, method)(*images, **known)
    assert len(runs_in(tmp_path)) == 1


def test_folds_that_fail_close_their_runs(images, tiny, log, tmp_path):
    clf = tiny(**SMALL, optimizer="sgd", callbacks=[log])
    rates = {"lr": optuna.distributions.CategoricalDistribution([1e30])}
    search = OptunaSearchCV(clf, rates, n_trials=1, cv=2, study_name="s", refit=False)
    with pytest.raises(ValueError, match="diverged"):
        search.fit(*images)
    assert "s/trial-000/fold-0" in runs_in(tmp_path)


def test_a_fit_that_begins_again_closes_the_run_before(
    images, tiny, log, tmp_path, monkeypatch
):
    step, calls = ImageNet.train_step, []

    def on_a_small_gpu(net, batch, **kwargs):
        calls.append(len(batch[0]))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("too little")
        return step(net, batch, **kwargs)

    monkeypatch.setattr(ImageNet, "train_step", on_a_small_gpu)
    with pytest.warns(UserWarning, match="starts again with batch_size"):
        tiny(**SMALL, batch_size=16, callbacks=[log]).fit(*images)
    assert sorted(len(losses(rows)) for rows in runs_in(tmp_path).values()) == [0, 3]


@pytest.mark.parametrize("made", [3, None, LRScheduler(), LRScheduler])
def test_functions_that_make_no_callback_of_use(images, tiny, made):
    with pytest.raises(TypeError, match="callbacks holds"):
        tiny(callbacks=[lambda name, estimator: made]).fit(*images)


def test_a_callback_that_cannot_be_copied(images, tiny, tmp_path):
    callback = TensorBoard(Writer(tmp_path / "run.json"))
    with pytest.raises(TypeError, match=r"cannot be copied.*pass a function"):
        tiny(callbacks=[callback]).fit(*images)
    callback.writer.close()


def test_tensorboard(images, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    def log(name, estimator):
        return TensorBoard(SummaryWriter(tmp_path / name))

    search = OptunaSearchCV(
        tiny(**SMALL, callbacks=[log]), RATES, n_trials=1, cv=2, study_name="study"
    ).fit(*images)
    for name in ("trial-000/fold-0", "trial-000/fold-1", "refit"):
        events = EventAccumulator(str(tmp_path / "study" / name)).Reload()
        steps = [event.step for event in events.Scalars("Loss/train_loss")]
        n_epochs = search.best_estimator_.n_iter_ if name == "refit" else 3
        assert steps == list(range(1, n_epochs + 1))


# Of SQLAlchemy 2.1, for what MLflow does.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow(images, tiny, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("search", artifact_location=str(tmp_path))

    def log(name, estimator):
        trial = {"trial": name.rpartition("/")[0]}
        run = client.create_run(experiment, run_name=name, tags=trial)
        client.log_param(run.info.run_id, "lr", estimator.lr)
        return MlflowLogger(run, client, create_artifact=False)

    search = search_two_trials(tiny(**SMALL, callbacks=[log]), images, refit=False)
    runs = client.search_runs([experiment])
    assert len(runs) == 2 * 2
    for trial, lr in enumerate(search.cv_results_["param_lr"]):
        tag = f"study/trial-00{trial}"
        folds = [run for run in runs if run.data.tags["trial"] == tag]
        assert {run.info.status for run in folds} == {"FINISHED"}
        assert [run.data.params for run in folds] == 2 * [{"lr": str(lr)}]
        for run in folds:
            curve = client.get_metric_history(run.info.run_id, "train_loss")
            assert len(curve) == (3, 1)[trial]
