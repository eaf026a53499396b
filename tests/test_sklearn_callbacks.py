"""scikit-learn's callbacks hear of every epoch."""

import pickle
from threading import Lock

import numpy as np
import pytest

pytest.importorskip("sklearn.callback")

from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from skmedimg.model_selection import OptunaSearchCV


class Recorder:
    """Notes every task, and keeps the estimators that it is shown."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events, self.shown = [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))
        self.max_subtasks = getattr(self, "max_subtasks", context.max_subtasks)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        self.shown.append(fitted_estimator)
        return context.task_id + 1 == self.stop_after


def tasks(n_epochs, of_fit=0):
    epochs = [(what, "epoch", i) for i in range(n_epochs) for what in ("begin", "end")]
    root = [("begin", "fit", of_fit), *epochs, ("end", "fit", of_fit)]
    return ["setup", *root, "teardown"]


def test_one_task_an_epoch(images, tiny):
    X, y = images
    recorder = Recorder()
    clf = tiny(max_epochs=3).set_callbacks(recorder)
    assert clf.fit(X, y) is clf
    assert recorder.events == tasks(3)
    assert recorder.max_subtasks == 3
    plain = tiny(max_epochs=3).fit(X, y)
    assert np.array_equal(clf.predict_proba(X), plain.predict_proba(X))


def test_epochs_end_with_early_stopping(images, tiny):
    X, y = images
    recorder = Recorder()
    clf = tiny(max_epochs=30, early_stopping=True, n_iter_no_change=2, lr=0.05)
    clf.set_callbacks(recorder).fit(X, np.random.default_rng(0).permutation(y))
    assert clf.n_iter_ < 30
    assert recorder.events == tasks(clf.n_iter_)


def test_automatic_number_of_epochs_is_told(images, tiny):
    X, y = images
    recorder = Recorder(stop_after=1)
    tiny(max_epochs="auto").set_callbacks(recorder).fit(X, y)
    assert recorder.max_subtasks == 100


def test_callback_ends_training(images, tiny):
    X, y = images
    recorder = Recorder(stop_after=2)
    clf = tiny(max_epochs=5, schedule="constant").set_callbacks(recorder).fit(X, y)
    assert clf.n_iter_ == 2
    assert recorder.events == tasks(2)
    short = tiny(max_epochs=2, schedule="constant").fit(X, y)
    assert np.array_equal(clf.predict_proba(X), short.predict_proba(X))


def test_estimators_that_are_shown_stay_as_they_were(images, tiny):
    X, y = images
    recorder = Recorder()
    clf = tiny(max_epochs=3, schedule="constant", augmentation=None)
    clf.set_callbacks(recorder).fit(X, y)
    assert [one.n_iter_ for one in recorder.shown] == [1, 2, 3, 3]
    assert len(recorder.shown[0].history_) == 1
    for epoch, one in enumerate(recorder.shown[:3], 1):
        short = tiny(max_epochs=epoch, schedule="constant", augmentation=None)
        expected = short.fit(X, y).predict_proba(X)
        assert np.array_equal(one.predict_proba(X), expected)
    assert np.array_equal(one.predict_proba(X), clf.predict_proba(X))


def test_estimators_that_are_shown_pickle(images, tiny):
    class Locked(Callback):
        """Like a logger with a writer, it does not pickle."""

        def __init__(self):
            self.lock = Lock()

    class Pickling(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            assert len(estimator.net_.callbacks_) == (context.task_name == "epoch")
            self.shown.append(pickle.loads(pickle.dumps(fitted_estimator.net_)))

    X, y = images
    recorder = Pickling()
    clf = tiny(max_epochs=2, callbacks=[lambda name, estimator: Locked()])
    clf.set_callbacks(recorder).fit(X, y)
    assert [len(net.history) for net in recorder.shown] == [1, 2, 2]


def test_a_search_by_epochs_does_not_call_them(images, tiny):
    X, y = images
    recorder = Recorder()
    search = OptunaSearchCV(
        tiny().set_callbacks(recorder), {"lr": [0.01]}, n_trials=1, cv=2, random_state=0
    )
    search.fit(X, y)
    assert recorder.events == []


def test_failed_fit_is_torn_down_and_leaves_no_trace(images, tiny):
    X, y = images
    recorder = Recorder()
    clf = tiny().set_callbacks(recorder)
    before = vars(clf).copy()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(X, y[:-1])
    assert recorder.events == ["setup", "teardown"]
    assert vars(clf) == before


def test_a_callback_that_fails_ends_training(images, tiny):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise OSError("disk full")

    ended = []

    class Ending(Callback):
        def on_train_end(self, net, **kwargs):
            ended.append(net)

    clf = tiny(callbacks=[lambda name, estimator: Ending()]).set_callbacks(Failing())
    with pytest.raises(OSError, match="disk full") as error:
        clf.fit(*images)
    # Already here, where the traceback still holds on to all that was running.
    assert error.tb is not None
    assert len(ended) == 1


def test_scoring_monitor(images, tiny):
    X, y = images
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    weight = np.linspace(1, 2, 40)
    clf = tiny(max_epochs=3).set_callbacks(monitor).fit(X, y, sample_weight=weight)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log.task_name == "epoch"]
    assert epochs.task_id.tolist() == [0, 1, 2]
    assert np.isfinite(epochs.neg_log_loss).all()
    (end,) = log.accuracy[log.task_name == "fit"]
    assert end == clf.score(X, y, weight)


def test_progress_bar(images, tiny, capsys):
    X, y = images
    tiny(max_epochs=3).set_callbacks(ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert "CNNImageClassifier - fit" in shown
    assert "100%" in shown


def test_progress_bar_of_a_failed_fit_ends(images, tiny):
    X, y = images
    with pytest.raises(ValueError, match="inconsistent"):
        tiny().set_callbacks(ProgressBar()).fit(X, y[:-1])


@pytest.mark.parametrize(
    "n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one", "two"]
)
def test_inside_a_grid_search(n_jobs, images, tiny, capsys):
    X, y = images
    monitor = ScoringMonitor(scoring="accuracy")
    clf = tiny(max_epochs=2).set_callbacks(monitor)
    bar = ProgressBar(max_propagation_depth=None)
    search = GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(bar).fit(X, y)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log.task_name == "epoch"]
    # Two candidates on two folds, and the refit.
    assert len(epochs) == 5 * 2
    assert epochs.parent_task_id_path.nunique() == 5
    assert np.isfinite(epochs.accuracy).all()
    assert "CNNImageClassifier - fit" in capsys.readouterr().out


def test_inside_a_pipeline(images, tiny):
    X, y = images
    recorder = Recorder()
    pipeline = make_pipeline(
        FunctionTransformer(), tiny(max_epochs=2).set_callbacks(recorder)
    )
    pipeline.fit(X, y)
    # Its fit is the second task of the pipeline's.
    assert recorder.events == tasks(2, of_fit=1)


def test_clones_share_them_as_scikit_learns_do(images, tiny):
    X, y = images
    recorder = Recorder()
    clone(tiny(max_epochs=1).set_callbacks(recorder)).fit(X, y)
    assert recorder.events == tasks(1)


def test_going_on_from_a_checkpoint(images, tiny, tmp_path):
    X, y = images
    clf = tiny(max_epochs=4, checkpoint=tmp_path)

    class Interrupting(Recorder):
        def on_fit_task_begin(self, estimator, context):
            if context.task_id == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clf.set_callbacks(Interrupting()).fit(X, y)
    left = []

    class Counting(Recorder):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            left.append(context.parent and context.parent.max_subtasks)

    recorder = Counting()
    clf.set_callbacks(recorder).fit(X, y)
    assert recorder.events == tasks(2)
    assert left == [2, 2, None]
    assert clf.n_iter_ == 4
