"""Try a change of the default recipe, by repeated cross-validation.

    python benchmarks/try_recipe.py FILE.npz "" "weight_decay=.05" --out tried.csv
    python benchmarks/try_recipe.py FILE.npz "" --draws 8 1000 2000
    python benchmarks/try_recipe.py --compare tried.csv

Each argument after the file is a set of parameters of CNNImageClassifier as they stand
between the parentheses of a call; "" is the default. Training and validation images of
a MedMNIST file are cut into folds, the same for every set, and each set is fitted on
each; nothing is read of the test images. Where a file has many images or few can be
afforded, `--draws` takes so many draws of some to fit and others to test in place of
folds. `--compare` sets the rows of a table against the default on the same folds: mean
difference and its standard error, corrected for overlapping training sets (Nadeau &
Bengio, 2003).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedShuffleSplit

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet, SimpleCNN
from skmedimg.augmentation import Augmentation

N_FOLDS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("params", nargs="*", default=[""])
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--repeats", type=int, default=2, help="of the four folds")
    parser.add_argument("--draws", type=int, nargs=3, metavar=("N", "TRAIN", "TEST"))
    parser.add_argument("--most", type=int, help="images, where there are more")
    parser.add_argument("--out", type=Path, help="a table that rows are added to")
    args = parser.parse_args()
    if args.compare:
        print(compare(pd.read_csv(args.file, keep_default_na=False)).to_string())
        return
    X, y = development_images(args.file, args.most)
    folds = list(splitter(args.draws, args.repeats).split(X, y))
    for params in args.params:
        rows = try_params(params, X, y, folds)
        frame = pd.DataFrame(rows).assign(file=args.file.stem, params=params)
        means = frame[["auc", "acc", "loss", "cpu"]].mean().round(4).to_dict()
        print(args.file.stem, repr(params), means, flush=True)
        if args.out:
            frame.to_csv(args.out, mode="a", header=not args.out.exists(), index=False)


def development_images(file, most):
    with np.load(file) as arrays:
        X = np.concatenate([arrays["train_images"], arrays["val_images"]])
        y = np.concatenate([arrays["train_labels"], arrays["val_labels"]]).ravel()
    if most and len(X) > most:
        chosen = np.random.default_rng(0).choice(len(X), most, replace=False)
        X, y = X[chosen], y[chosen]
    return X, y


def splitter(draws, repeats):
    if draws is None:
        return RepeatedStratifiedKFold(
            n_splits=N_FOLDS, n_repeats=repeats, random_state=0
        )
    n, train, test = draws
    return StratifiedShuffleSplit(n, train_size=train, test_size=test, random_state=0)


def try_params(params, X, y, folds):
    names = {"ResNet": ResNet, "SimpleCNN": SimpleCNN, "Augmentation": Augmentation}
    made = eval(f"dict({params})", names)
    for fold, (train, test) in enumerate(folds):
        start = time.process_time()
        clf = CNNImageClassifier(**made, random_state=fold).fit(X[train], y[train])
        cpu = time.process_time() - start
        proba = clf.predict_proba(X[test])
        score = proba[:, 1] if proba.shape[1] == 2 else proba
        yield {
            "fold": fold,
            "n_train": len(train),
            "n_test": len(test),
            "auc": roc_auc_score(y[test], score, multi_class="ovr"),
            "acc": accuracy_score(y[test], proba.argmax(1)),
            "loss": log_loss(y[test], proba),
            "cpu": cpu,
        }


def compare(frame):
    rows = []
    for (file, params), part in frame.groupby(["file", "params"], sort=False):
        base = frame[(frame.file == file) & (frame.params == "")].set_index("fold")
        part = part.set_index("fold")
        row = {"file": file, "params": params, "n": len(part)}
        for what in ("auc", "acc", "loss"):
            difference = (part[what] - base[what]).dropna()
            n = len(difference)
            # Training sets overlap: the variance of the mean is not 1/n of one fold's.
            overlap = (part.n_test / part.n_train).mean()
            share = 1 / n + overlap if n else np.nan
            error = np.sqrt(difference.var() * share)
            row |= {what: part[what].mean(), f"d_{what}": difference.mean()}
            row |= {f"se_{what}": error}
        rows.append(row | {"cpu": part.cpu.mean()})
    return pd.DataFrame(rows).round(4).sort_values(["file", "d_auc"])


if __name__ == "__main__":
    main()
