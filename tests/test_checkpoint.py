"""A fit that is killed goes on, and ends as an undisturbed one does, bit for bit."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, Freezer
from torch import nn

from skmedimg import CNNImageClassifier
from skmedimg._net import ImageNet
from skmedimg.architectures import Pretrained, ResNet
from skmedimg.augmentation import Augmentation
from skmedimg.exceptions import NonFiniteLossError
from skmedimg.io import ImageSequence
from skmedimg.model_selection import OptunaSearchCV, lr_range_test

needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

# BatchNorm, dropout and augmentation, all of which draw or gather as training goes on.
CLF = CNNImageClassifier(
    ResNet(width=4, depth=2, dropout=0.3), max_epochs=5, batch_size=8, random_state=0
)


def foreign(in_channels, n_outputs, spatial_dims):
    """A network from elsewhere, whose dropout draws from torch's global generator."""
    body = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(body, nn.Dropout(0.3), nn.Flatten(), nn.LazyLinear(n_outputs))


def noisy(x):
    return x + 0.1 * torch.randn_like(x)


def made_for_the_fit(name, estimator):
    return EpochScoring("accuracy", name="scored", lower_is_better=False)


SETTINGS = {
    "standard": {},
    "made callbacks": {"callbacks": [made_for_the_fit], "early_stopping": True},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 9},
    "float32": {"precision": "float32", "schedule": "constant"},
    "sgd": {"optimizer": "sgd", "l1": 1e-4, "class_weight": "balanced"},
    "rmsprop": {"optimizer": "rmsprop", "loss": "focal"},
    "own optimizer": {"optimizer": partial(torch.optim.NAdam, betas=(0.8, 0.99))},
    "foreign": {"architecture": foreign, "augmentation": noisy},
    "mixtures": {"augmentation": Augmentation(flip=("W",), rotation=20, mixup=0.2)},
    "callbacks": {
        "early_stopping": True,
        "max_epochs": 9,
        "callbacks": [
            EarlyStopping(patience=3, load_best=True),
            ("score", EpochScoring("balanced_accuracy", lower_is_better=False)),
            Freezer("head*", at=1),
        ],
    },
}


@pytest.fixture
def data(images):
    X, y = images
    return X, y, np.arange(40) // 4


def fit(settings, folder, data, **fit_params):
    X, y, groups = data
    clf = clone(CLF).set_params(**settings, checkpoint=folder)
    return clf.fit(X, y, groups=groups, **fit_params)


def assert_same(one, other, data):
    """Bit for bit: weights, probabilities, and the history apart from times."""
    assert np.array_equal(one.predict_proba(data[0]), other.predict_proba(data[0]))
    weights, others = one.module_.state_dict(), other.module_.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    times = ["seconds", "images_per_second"]
    histories = [m.history_.drop(columns=times) for m in (one, other)]
    assert histories[0].equals(histories[1])
    assert one.n_iter_ == other.n_iter_


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def ending(function, n, error=None):
    """The function, until its n-th call kills the process, or raises."""
    calls = []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == n:
            if error is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise error
        return function(*args, **kwargs)

    return call


@contextmanager
def interrupted(after):
    """Ctrl-C while the checkpoint after one more epoch is given its name."""
    with pytest.MonkeyPatch.context() as patch:
        replace = ending(os.replace, after + 1, KeyboardInterrupt())
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            yield


def interrupt(settings, folder, data, after, **fit_params):
    with interrupted(after):
        fit(settings, folder, data, **fit_params)


@pytest.mark.parametrize("name", SETTINGS)
def test_interrupted_fit_goes_on(name, data, tmp_path):
    whole = fit(SETTINGS[name], None, data)
    interrupt(SETTINGS[name], tmp_path, data, after=2)
    assert_same(fit(SETTINGS[name], tmp_path, data), whole, data)
    assert names(tmp_path) == []


def test_epochs_are_not_repeated(data, tmp_path, capsys):
    settings = {"verbose": 1}
    interrupt(settings, tmp_path, data, after=3)
    capsys.readouterr()
    fit(settings, tmp_path, data)
    first, *epochs = capsys.readouterr().out.splitlines()
    assert "after epoch 3" in first
    assert str(tmp_path) in first
    assert [line.split()[1] for line in epochs] == ["4", "5"]
    # A fit that is over leaves nothing that the next call could take for its own.
    fit(settings, tmp_path, data)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_fit_that_is_interrupted_again_and_again(data, tmp_path):
    settings = SETTINGS["early stopping"]
    for _ in range(4):
        interrupt(settings, tmp_path, data, after=1)
    assert_same(fit(settings, tmp_path, data), fit(settings, None, data), data)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_iter_no_change": 4},
        {
            "n_iter_no_change": 30,
            "callbacks": [EarlyStopping(patience=4, load_best=True)],
        },
    ],
    ids=["parameter", "callback"],
)
def test_patience_and_best_weights_are_those_from_before(settings, data, tmp_path):
    X, y, groups = data
    nonsense = np.random.default_rng(3).permutation(y)
    settings = {"early_stopping": True, "max_epochs": 30, "lr": 0.03} | settings
    whole = fit(settings, None, (X, nonsense, groups))
    best = int(whole.history_.valid_loss.argmin()) + 1
    assert whole.n_iter_ == best + 4 < 30
    interrupt(settings, tmp_path, (X, nonsense, groups), after=best + 2)
    assert_same(fit(settings, tmp_path, (X, nonsense, groups)), whole, data)


def test_warm_start(data, tmp_path):
    X, y, groups = data
    models = [clone(CLF).set_params(warm_start=True).fit(X, y) for _ in range(2)]
    models[0].fit(X[::-1], y[::-1], groups=groups[::-1])
    models[1].set_params(checkpoint=tmp_path)
    with interrupted(after=2):
        models[1].fit(X, y, groups=groups)
    models[1].fit(X, y, groups=groups)
    assert_same(*models, data)
    assert models[0].n_iter_ == 10


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_number_of_threads(before, after, data, tmp_path, monkeypatch):
    # Dropout would draw in the order of memory.
    settings = {"architecture": ResNet(width=4, depth=2), "lr": 0.01}
    settings |= {"precision": "float32", "augmentation": None}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: before)
        whole = fit(settings, None, data)
        interrupt(settings, tmp_path, data, after=3)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: after)
        again = fit(settings, tmp_path, data)
    assert again.n_iter_ == whole.n_iter_
    # Layouts sum in another order, no more than that.
    p, q = again.predict_proba(data[0]), whole.predict_proba(data[0])
    np.testing.assert_allclose(p, q, atol=1e-5)


def test_pretrained_weights(data, tmp_path):
    X, y, _ = data
    start = FrozenEstimator(clone(CLF).fit(X, 1 - y))
    settings = {"weights": Pretrained(start, freeze="features")}
    whole = fit(settings, None, data)
    interrupt(settings, tmp_path, data, after=2)
    assert_same(fit(settings, tmp_path, data), whole, data)


# -- killed ----------------------------------------------------------------------------


def start(target, *args):
    # A fork has everything imported.
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        process.start()
    return process


def fit_and_die(where, n, *args):
    owner, name = where
    setattr(owner, name, ending(getattr(owner, name), n))
    fit(*args)


@needs_kill
@pytest.mark.parametrize("name", ["standard", "early stopping", "float32"])
@pytest.mark.parametrize(
    ("where", "n"),
    [
        ((os, "fsync"), 1),  # nothing is there but a draft
        ((os, "fsync"), 3),
        ((os, "replace"), 2),
        ((ImageNet, "run_single_epoch"), 4),
        ((torch, "save"), 4),
    ],
)
def test_killed_fit_goes_on(name, where, n, data, tmp_path):
    whole = fit(SETTINGS[name], None, data)
    process = start(fit_and_die, where, n, SETTINGS[name], tmp_path, data)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert_same(fit(SETTINGS[name], tmp_path, data), whole, data)
    assert names(tmp_path) == []


@needs_kill
@pytest.mark.slow
@pytest.mark.parametrize("name", ["standard", "early stopping"])
def test_fit_killed_at_random_moments(name, data, tmp_path):
    settings = SETTINGS[name] | {"max_epochs": 40, "n_iter_no_change": 40}
    began = time.perf_counter()
    whole = fit(settings, None, data)
    seconds = time.perf_counter() - began
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 20:
        process = start(fit, settings, tmp_path, data)
        process.join(rng.uniform(0.0, seconds / 4))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert_same(fit(settings, tmp_path, data), whole, data)
    assert names(tmp_path) == []


# What another process must find again: the name of the fit, whatever its hash seed.
SCRIPT = """
    import sys
    import numpy as np, torch
    from sklearn.model_selection import GridSearchCV
    from skmedimg import CNNImageClassifier
    from skmedimg.architectures import ResNet

    def noisy(x):
        return x + 0.1 * torch.randn_like(x) if {1, 2} & {2, 3} else x

    def make(folder, max_epochs=30, verbose=0):
        return CNNImageClassifier(
            ResNet(width=4, depth=2, dropout=0.3), max_epochs=max_epochs, batch_size=8,
            augmentation=noisy, random_state=0, checkpoint=folder, verbose=verbose,
        )

    def data():
        X = np.random.default_rng(0).integers(0, 80, (40, 10, 10), dtype=np.uint8)
        y = np.arange(40) % 2
        X[y == 1, 3:7, 3:7] += 30
        return X, y, np.arange(40) // 4

    def search(folder):
        grid = {"lr": [1e-3, 3e-3], "augmentation": [noisy, lambda x: x + 1]}
        clf = make(folder, max_epochs=8)
        return GridSearchCV(clf, grid, cv=2, n_jobs=2, scoring="neg_log_loss")

    if __name__ == "__main__":
        X, y, groups = data()
        if sys.argv[1] == "search":
            search(sys.argv[2]).fit(X, y)
        else:
            make(sys.argv[2]).fit(X, y, groups=groups)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A script of its own; `kill` starts it and kills it, with all its workers."""
    path = tmp_path / "killed_fits.py"
    path.write_text(textwrap.dedent(SCRIPT))
    monkeypatch.syspath_prepend(tmp_path)

    def kill(what, folder, n_files):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(
            [sys.executable, path, what, folder],
            env=environment,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.checkpoint"))) < n_files:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    import killed_fits

    yield kill, killed_fits
    sys.modules.pop("killed_fits")


@needs_kill
@pytest.mark.slow
def test_another_process_goes_on(script, tmp_path, capsys):
    kill, module = script
    folder = tmp_path / "runs" / "one"
    for _ in range(2):
        kill("fit", folder, n_files=1)
        assert len(list(folder.glob("*.checkpoint"))) == 1
    X, y, groups = module.data()
    whole = module.make(None).fit(X, y, groups=groups)
    # The function of augmentation was the script's own, and is a module's here.
    again = module.make(folder, verbose=1).fit(X, y, groups=groups)
    assert "goes on after epoch" in capsys.readouterr().out
    assert_same(again, whole, (X,))
    assert names(folder) == []


@needs_kill
@pytest.mark.slow
def test_grid_search_with_two_processes(script, tmp_path):
    kill, module = script
    folder = tmp_path / "search"
    kill("search", folder, n_files=2)
    X, y, _ = module.data()
    whole = module.search(None).fit(X, y)
    again = module.search(folder).fit(X, y)
    for key, column in whole.cv_results_.items():
        if "time" not in key and not key.startswith("param"):
            assert np.array_equal(column, again.cv_results_[key]), key
    assert_same(again.best_estimator_, whole.best_estimator_, (X,))
    assert names(folder) == []


# -- which fit it is -------------------------------------------------------------------


class Scaled:
    """An augmentation with a parameter of its own."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


OTHERS = {
    "labels": ({}, lambda X, y, g: (X, np.roll(y, 1), g), {}),
    "pixels": ({}, lambda X, y, g: (np.where(X == X.max(), 0, X), y, g), {}),
    "weights": ({}, None, {"sample_weight": np.linspace(1, 2, 40)}),
    "patients": ({"early_stopping": True}, lambda X, y, g: (X, y, g[::-1] // 2), {}),
    "seed": ({"random_state": 1}, None, {}),
    "lr": ({"lr": 0.01}, None, {}),
    "epochs": ({"max_epochs": 6}, None, {}),
    "width": ({"architecture": ResNet(width=2, depth=2, dropout=0.3)}, None, {}),
    "dropout": ({"architecture": ResNet(width=4, depth=2, dropout=0.2)}, None, {}),
    "function": ({"augmentation": lambda x: x + 1}, None, {}),
    "other function": ({"augmentation": lambda x: x + 2}, None, {}),
    "object": ({"augmentation": Scaled(1.5)}, None, {}),
    "other object": ({"augmentation": Scaled(2.5)}, None, {}),
    "optimizer": ({"optimizer": partial(torch.optim.SGD, momentum=0.5)}, None, {}),
    "momentum": ({"optimizer": partial(torch.optim.SGD, momentum=0.6)}, None, {}),
    "callback": ({"callbacks": [EarlyStopping("train_loss", patience=9)]}, None, {}),
    "patience": ({"callbacks": [EarlyStopping("train_loss", patience=8)]}, None, {}),
}


def test_every_fit_has_a_file_of_its_own(data, tmp_path):
    interrupt({}, tmp_path, data, after=1)
    (kept,) = tmp_path.glob("*.checkpoint")
    content = kept.read_bytes()
    for settings, change, fit_params in OTHERS.values():
        other = data if change is None else change(*data)
        interrupt(settings, tmp_path, other, after=1, **fit_params)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1 + len(OTHERS)
    # And one that ends beside them leaves them alone.
    fit({"lr": 0.02}, tmp_path, data)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1 + len(OTHERS)
    assert kept.read_bytes() == content
    assert_same(fit({}, tmp_path, data), fit({}, None, data), data)
    assert len(list(tmp_path.glob("*.checkpoint"))) == len(OTHERS)


def test_same_fit_in_other_words(data, tmp_path):
    X, y, groups = data
    words = np.array(["healthy", "ill"])[y]
    order = np.random.default_rng(0).permutation(40)
    carried = ImageSequence.from_array(X, groups=groups)
    for other in [(X[order], y[order], groups[order]), (list(X), y, groups)]:
        interrupt({}, str(tmp_path), other, after=1)
    interrupt({"verbose": 1}, tmp_path, (X, words, groups), after=1)
    interrupt({}, tmp_path, (carried, words, None), after=0)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1


def test_logger_of_this_process_does_not_matter(data, tmp_path):
    for run in range(2):
        logger = Logger(Run(run))
        interrupt({"callbacks": [logger]}, tmp_path, data, after=1)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 1


class Run:
    def __init__(self, number):
        self.number = number


class Logger(Callback):
    def __init__(self, run):
        self.run = run


# -- what can go wrong -----------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, np.random.RandomState(0)])
def test_without_a_seed_there_is_no_same_fit(seed, data, tmp_path):
    with pytest.raises(ValueError, match="integer random_state"):
        fit({"random_state": seed}, tmp_path, data)


def test_folder_that_cannot_be(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="no folder that can be written to"):
        fit({}, tmp_path / "file" / "folder", data)
    fit({}, tmp_path / "new" / "folder", data)
    assert names(tmp_path / "new" / "folder") == []


@pytest.mark.parametrize("damage", ["empty", "cut off", "changed"])
def test_damaged_file(damage, data, tmp_path):
    interrupt({}, tmp_path, data, after=1)
    (kept,) = tmp_path.glob("*.checkpoint")
    content = bytearray(kept.read_bytes())
    content[-2000] ^= 1
    damaged = {"empty": b"", "cut off": content[:-500], "changed": content}[damage]
    kept.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"checkpoint is damaged.* Delete it"):
        fit({}, tmp_path, data)
    assert kept.read_bytes() == damaged
    kept.unlink()
    assert_same(fit({}, tmp_path, data), fit({}, None, data), data)


def test_a_fit_that_diverges_leaves_no_file(data, tmp_path):
    class Faster(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.lr = 1e30 if net.history[-1, "epoch"] == 3 else net.lr

    settings = {"optimizer": "sgd", "callbacks": [Faster()]}
    with pytest.raises(NonFiniteLossError, match="epoch 3"):
        fit(settings, tmp_path, data)
    assert names(tmp_path) == []


def test_full_disk(data, tmp_path, monkeypatch):
    whole = fit({}, None, data)
    full = ending(os.fsync, 3, OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="after epoch 3 .*No space left"):
        again = fit({}, tmp_path, data)
    assert_same(again, whole, data)
    assert names(tmp_path) == []


class Odd(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("odd", object())


def test_history_that_cannot_be_kept(data, tmp_path):
    with pytest.raises(TypeError, match="checkpoint cannot keep this fit"):
        fit({"callbacks": [Odd()]}, tmp_path, data)


class Late(Callback):
    """Records something in the history from the second epoch on."""

    def __init__(self, value):
        self.value = value

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) > 1:
            net.history.record("late", self.value)


def test_arrays_in_the_history(data, tmp_path):
    settings = {"callbacks": [Late(np.eye(2))]}
    interrupt(settings, tmp_path, data, after=3)
    late = fit(settings, tmp_path, data).history_.late[1:]
    assert all(np.array_equal(value, np.eye(2)) for value in late)


def test_history_that_cannot_be_read_again(data, tmp_path):
    settings = {"callbacks": [Late(object())]}
    interrupt(settings, tmp_path, data, after=3)
    with pytest.raises(ValueError, match=r"cannot be read.* Delete it"):
        fit(settings, tmp_path, data)


def test_halved_batches(data, tmp_path):
    """A GPU that was too small for the first batch size still is."""
    step = ImageNet.train_step

    def on_a_small_gpu(net, batch, **kwargs):
        if len(batch[0]) > 4:
            raise torch.OutOfMemoryError("too little")
        return step(net, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageNet, "train_step", on_a_small_gpu)
        with pytest.warns(UserWarning, match="batch_size=4"):
            whole = fit({}, None, data)
        with pytest.warns(UserWarning, match="batch_size=4"):
            interrupt({}, tmp_path, data, after=2)
    assert_same(fit({}, tmp_path, data), whole, data)


def test_memory_that_runs_out_after_going_on(data, tmp_path):
    interrupt({}, tmp_path, data, after=2)
    with pytest.MonkeyPatch.context() as patch:
        step = ending(ImageNet.train_step, 3, torch.OutOfMemoryError("too little"))
        patch.setattr(ImageNet, "train_step", step)
        with pytest.warns(UserWarning, match="starts again with batch_size=4"):
            again = fit({}, tmp_path, data)
    assert_same(again, fit({"batch_size": 4}, None, data), data)


def test_what_writes_none(data, tmp_path):
    X, y, _ = data
    clf = clone(CLF).set_params(checkpoint=tmp_path)
    clf.partial_fit(X, y, classes=[0, 1])
    assert clone(clf).checkpoint == tmp_path
    lr_range_test(clf, X, y, n_steps=10)
    OptunaSearchCV(clf, {"lr": [0.01]}, n_trials=1, cv=2, random_state=0).fit(X, y)
    assert names(tmp_path) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu(data, tmp_path):
    settings = {"device": "cuda", "architecture": foreign, "augmentation": noisy}
    whole = fit(settings, None, data)
    interrupt(settings, tmp_path, data, after=2)
    again = fit(settings, tmp_path, data)
    assert again.n_iter_ == whole.n_iter_
    # Bits are not promised there.
    p, q = again.predict_proba(data[0]), whole.predict_proba(data[0])
    np.testing.assert_allclose(p, q, atol=0.02)
