"""Is a change of what ends trials early a gain? Many searches over kept curves.

    python benchmarks/try_pruner.py pneumoniamnist.npz breastmnist.npz --curves curves

Trains each point of the grid of `bench_search.py` to its end, in five folds, on images
that it leaves alone: three further thousands of PneumoniaMNIST's training images, and
BreastMNIST's (20 CPU-minutes each; what stands in CURVES already is not repeated). Then
`OptunaSearchCV` searches these curves, no network involved, with --seeds seeds and
several pruners. Told is the share of the grid's CPU-seconds until a trial, at its end,
has the AUC of the best one.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import torch
from bench_search import GRID, clocked
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid, StratifiedKFold, train_test_split

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV
from skmedimg.model_selection._sampling import make_tpe

EPOCHS = 18
PRUNERS = {
    "as it is": None,
    "SuccessiveHalvingPruner": optuna.pruners.SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=3
    ),
    "HyperbandPruner": optuna.pruners.HyperbandPruner(1, EPOCHS, 3),
    "MedianPruner": optuna.pruners.MedianPruner(),
    "none": optuna.pruners.NopPruner(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help="files of MedMNIST")
    parser.add_argument("--curves", type=Path, default=Path("curves"))
    parser.add_argument("--seeds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.curves.mkdir(exist_ok=True)
    for file in args.data:
        for name, X, y in subsets(file):
            path = args.curves / f"{name}.npz"
            if not path.exists():
                np.savez(path, **train(X, y))
            with np.load(path) as kept:
                curves = dict(kept)
            for pruner in PRUNERS:
                shares = [search(curves, PRUNERS[pruner], i) for i in range(args.seeds)]
                print(f"{name}, {pruner}: {tell(np.array(shares))}", flush=True)


def subsets(file):
    """Thousands that are left of the training images, or all where they are few."""
    with np.load(file) as arrays:
        X, y = arrays["train_images"], arrays["train_labels"].ravel()
    if len(X) < 2000:
        yield file.stem, X, y
        return
    part = {"train_size": 1000, "stratify": y, "random_state": 0}
    _, X, _, y = train_test_split(X, y, **part)  # those of bench_search.py
    for i in (1, 2, 3):
        part |= {"stratify": y, "random_state": i}
        taken, X, y_taken, y = train_test_split(X, y, **part)
        yield f"{file.stem}-{i}", taken, y_taken


def train(X, y):
    """AUC of each point after each epoch and at the end, mean of the folds."""
    clf = CNNImageClassifier(ResNet(), max_epochs=EPOCHS, random_state=0)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    by_epoch, last, cpu = [], [], []
    for params in ParameterGrid(GRID):
        start, rows = time.process_time(), []
        for train, test in folds:
            fold = clone(clf).set_params(**params)
            row = [
                auc(fold, X[test], y[test]) for _ in fold._epochs(X[train], y[train])
            ]
            rows.append([*row, auc(fold, X[test], y[test])])
        *course, end = np.mean(rows, axis=0)
        by_epoch.append(course)
        last.append(end)
        cpu.append(time.process_time() - start)
    return {"by_epoch": by_epoch, "last": last, "cpu": cpu}


def auc(clf, X, y):
    return roc_auc_score(y, clf.predict_proba(X)[:, 1])


class Replay(ClassifierMixin, BaseEstimator):
    """Stands for the network whose curve is known."""

    def __init__(self, by_epoch=None, last=None, lr=0.0, width=0, weight_decay=0.0):
        self.by_epoch = by_epoch
        self.last = last
        self.lr = lr
        self.width = width
        self.weight_decay = weight_decay

    def _validate_params(self):
        pass

    def _note_history(self):
        pass

    def _epochs(self, X, y, **how):
        self.net_ = argparse.Namespace(max_epochs=EPOCHS)
        row = index_of(self.lr, self.width, self.weight_decay)
        for score in self.by_epoch[row]:
            self.score_ = score
            yield 1
        self.score_ = self.last[row]

    def fit(self, X, y):
        for _ in self._epochs(X, y):
            pass
        return self

    def score(self, X, y):
        return self.score_


def index_of(lr, width, weight_decay):
    point = {"architecture__width": width, "lr": lr, "weight_decay": weight_decay}
    return list(ParameterGrid(GRID)).index(point)


def search(curves, pruner, seed):
    """Share of the grid's cost until the best; infinity where it is not found."""
    cpu, goal, log = curves["cpu"], curves["last"].max(), []
    space = {name.split("__")[-1]: values for name, values in GRID.items()}
    sampler = lambda seed: clocked(  # noqa: E731
        make_tpe(seed), log, 0.0, lambda log: log[-1][1] >= goal
    )
    given = {"n_trials": 400, "cv": 2, "refit": False, "random_state": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is left to try
        rows = OptunaSearchCV(
            Replay(curves["by_epoch"], curves["last"]),
            space,
            pruner=pruner,
            sampler=sampler,
            **given,
        ).fit(np.zeros((8, 1)), [0, 1] * 4)
    if log[-1][1] < goal:
        return np.inf
    results = rows.cv_results_
    at = [index_of(**params) for params in results["params"]]
    pruned = results["state"] == "pruned"
    share = np.where(pruned, results["n_epochs"].filled(EPOCHS) / EPOCHS, 1.0)
    return float((cpu[at] * share).sum() / cpu.sum())


def tell(shares):
    low, median, high = np.quantile(shares, [0.2, 0.5, 0.8], method="nearest")
    return (
        f"median {median:.2f} of the grid's cost (20 % to 80 %: {low:.2f} to "
        f"{high:.2f}), at most a quarter in {np.mean(shares <= 0.25):.2f} of "
        f"{len(shares)}, never in {np.mean(np.isinf(shares)):.2f}"
    )


if __name__ == "__main__":
    main()
