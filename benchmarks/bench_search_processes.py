"""How much faster do two processes search than one, each with one thread?

    export OMP_NUM_THREADS=1
    python benchmarks/bench_search_processes.py pneumoniamnist.npz --jobs
    python benchmarks/bench_search_processes.py pneumoniamnist.npz --postgres

With --jobs, n_jobs=2 beside n_jobs=1. With --postgres, two processes of their own on
one study beside one, on a PostgreSQL server that is started for it (Debian's package
postgresql, psycopg). A thousand of PneumoniaMNIST's training images, a study of as
many trials either way, no pruning, and only the learning rate is searched, so that all
trials cost the same. One and two take turns; the clock begins when all processes have
imported everything and trained an epoch, and ends with the last trial.
"""

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import torch
from bench_search import load
from optuna.distributions import FloatDistribution
from sklearn.model_selection import StratifiedKFold

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.model_selection import OptunaSearchCV

sys.path.append(str(Path(__file__).parents[1] / "tests"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="pneumoniamnist.npz")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--jobs", action="store_true")
    how.add_argument("--postgres", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.jobs:
        return compare(args, lambda n: seconds_of_jobs(args, n))
    from postgres_server import postgres_server

    with postgres_server() as server:
        return compare(args, lambda n: seconds_of_processes(args, n, server))


def compare(args, seconds_of):
    ratios = []
    for i in range(args.rounds):
        one, two = seconds_of(1), seconds_of(2)
        ratios.append(one / two)
        print(
            f"round {i}: {args.trials / one:.3f} trials a second by one process, "
            f"{args.trials / two:.3f} by two: {ratios[-1]:.2f} times",
            flush=True,
        )
    low, middle, high = np.quantile(ratios, [0, 0.5, 1])
    print(f"median {middle:.2f} times as fast ({low:.2f} to {high:.2f})")


def make_search(args, **params):
    clf = CNNImageClassifier(
        ResNet(width=8), max_epochs=args.epochs, device="cpu", random_state=0
    )
    return OptunaSearchCV(
        clf,
        {"lr": FloatDistribution(1e-4, 3e-2, log=True)},
        cv=StratifiedKFold(args.folds, shuffle=True, random_state=0),
        scoring="roc_auc",
        refit=False,
        random_state=0,
        pruner=optuna.pruners.NopPruner(),
        **{"n_trials": args.trials} | params,
    )


def seconds_of_jobs(args, n_jobs):
    X, y = load(args.data, args.images)
    # joblib keeps its workers for the next call.
    warm = make_search(args, n_jobs=n_jobs, n_trials=2 * n_jobs)
    warm.set_params(estimator__max_epochs=1).fit(X, y)
    search = make_search(args, n_jobs=n_jobs)
    start = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - start


def seconds_of_processes(args, n_processes, server):
    from postgres_server import make_database

    spawn = multiprocessing.get_context("spawn")
    barrier, ends = spawn.Barrier(n_processes + 1, timeout=600), spawn.SimpleQueue()
    given = (args, make_database(server), barrier, ends)
    processes = [spawn.Process(target=work, args=given) for _ in range(n_processes)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.time()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("a process failed: see above")
    return max(ends.get() for _ in processes) - start


def work(args, storage, barrier, ends):
    """What a process does: warm up, wait for the others, search, tell when it ended."""
    torch.set_num_threads(1)
    X, y = load(args.data, args.images)
    make_search(args, n_trials=1).set_params(estimator__max_epochs=1).fit(X, y)
    search = make_search(args, storage=storage, study_name="study")
    barrier.wait()
    search.fit(X, y)
    ends.put(time.time())


if __name__ == "__main__":
    main()
