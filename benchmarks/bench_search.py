"""What does a search cost, beside GridSearchCV and optuna-integration's OptunaSearchCV?

    pip install optuna-integration
    python benchmarks/bench_search.py pneumoniamnist.npz

A fixed thousand of PneumoniaMNIST's training images, one process and one thread, the
same space, folds and fits for all three; CPU-seconds. The others draw from the points
of the grid, or with ``--space ranges`` from the ranges between them. A search has
reached the grid when a trial of its own, trained to the end, has the grid's best
cross-validated AUC; a trial counts with the AUC of its last epoch, as the grid's do,
not with that of its best one. It has as many CPU-seconds as the grid, and ends when it
has reached it, after a quarter of them at the earliest: then both searches are compared
by the best AUC that they have found.
"""

import argparse
import time
import warnings

import numpy as np
import optuna
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV

GRID = {
    "lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "architecture__width": [4, 8, 16],
    "weight_decay": [0.01, 0.1],
}
SPACES = {
    "ranges": {
        "lr": FloatDistribution(1e-4, 3e-2, log=True),
        "architecture__width": CategoricalDistribution([4, 8, 16]),
        "weight_decay": FloatDistribution(0.01, 0.1, log=True),
    },
    "points": {name: CategoricalDistribution(GRID[name]) for name in GRID},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="pneumoniamnist.npz")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--space", choices=SPACES, default="points")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    X, y = load(args.data, args.images)
    clf = CNNImageClassifier(ResNet(), max_epochs=args.epochs, random_state=0)
    cv = StratifiedKFold(args.folds, shuffle=True, random_state=0)
    compare(clf, X, y, cv, args)


def load(path, n_images):
    with np.load(path) as arrays:
        X, y = arrays["train_images"], arrays["train_labels"].ravel()
    if n_images < len(X):
        X, _, y, _ = train_test_split(
            X, y, train_size=n_images, stratify=y, random_state=0
        )
    return X, y


def compare(clf, X, y, cv, args):
    start = time.process_time()
    grid = GridSearchCV(clf, GRID, cv=cv, scoring="roc_auc", refit=False).fit(X, y)
    budget, goal = time.process_time() - start, grid.best_score_
    print(f"grid: AUC {goal:.4f} in {budget:.0f} CPU-seconds")
    shares, space = [], SPACES[args.space]
    for seed in range(args.seeds):
        log = search_ours(clf, X, y, cv, space, goal, budget, seed)
        shares.append(reached(log, goal) / budget)
        print(
            f"seed {seed}, ours: the grid's AUC in {shares[-1]:.2f} of its CPU-seconds "
            f"({len(log)} trials); in a quarter of them {best(log, budget / 4):.4f}"
        )
        other = search_theirs(clf, X, y, cv, space, budget / 4, seed)
        if other is not None:
            print(f"seed {seed}, optuna-integration: {best(other, budget / 4):.4f}")
    print(f"median: the grid's AUC in {np.median(shares):.2f} of its CPU-seconds")


def clocked(sampler, log, start, over=lambda log: False):
    """Let a sampler note when each trial ended, in CPU-seconds, and what it scored."""
    told = sampler.after_trial

    def after_trial(study, trial, state, values):
        score = -np.inf
        if state == optuna.trial.TrialState.COMPLETE:
            score = trial.user_attrs.get("result", {"last": values[0]})["last"]
        log.append((time.process_time() - start, score))
        told(study, trial, state, values)
        if over(log):
            study.stop()

    sampler.after_trial = after_trial
    return sampler


def search_ours(clf, X, y, cv, space, goal, budget, seed):
    from skmedimg.model_selection._sampling import make_tpe

    def over(log):
        spent = log[-1][0]
        done = spent >= budget or np.isfinite(reached(log, goal))
        return spent >= budget / 4 and done

    log, start = [], time.process_time()
    OptunaSearchCV(
        clf,
        space,
        n_trials=10**6,
        cv=cv,
        scoring="roc_auc",
        refit=False,
        random_state=seed,
        sampler=lambda seed: clocked(make_tpe(seed), log, start, over),  # its own
    ).fit(X, y)
    return log


def search_theirs(clf, X, y, cv, space, budget, seed):
    try:
        from optuna_integration import OptunaSearchCV as Theirs
    except ImportError:
        return None
    log, start = [], time.process_time()
    sampler = clocked(TPESampler(seed=seed), log, start)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    search = Theirs(
        clf,
        space,
        cv=cv,
        scoring="roc_auc",
        refit=False,
        n_trials=1,
        study=study,
    )
    while time.process_time() - start < budget:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls itself experimental
            search.fit(X, y)
    return log


def best(log, budget):
    return max((score for seconds, score in log if seconds <= budget), default=-np.inf)


def reached(log, goal):
    """CPU-seconds until a trial had the score; infinity where none had."""
    times = [seconds for seconds, score in log if score >= goal - 1e-9]
    return min(times, default=np.inf)


if __name__ == "__main__":
    main()
