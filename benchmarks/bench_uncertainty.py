"""Do thresholds, sets, temperatures, referrals and alarms keep what they promise?

    python benchmarks/bench_uncertainty.py --data pneumoniamnist.npz

PneumoniaMNIST's training set (4,708 radiographs) is cut in two: networks learn from one
half (the "fit" half), and everything else is decided and measured on random halves of
the other, the pool. Networks predict the pool once; re-splits then go through the real
estimators around a classifier that looks its probabilities up. The file names no
patients: three images that follow each other in it stand for one, which makes these
groups of independent images rather than of alike ones. The official test set
(prevalence .62 instead of .74, another distribution) shows what does not transport.
"""

import argparse
import inspect
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import rotate
from scipy.stats import betabinom, rankdata
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

from skmedimg import CNNImageClassifier
from skmedimg.metrics import aurc, calibration_fit
from skmedimg.uncertainty import (
    ConformalClassifier,
    DeepEnsembleClassifier,
    EmbeddingOutlierDetector,
    PixelStatistics,
    SelectiveClassifier,
    SensitivityThresholdClassifier,
    predict_augmented,
)

ALPHA, TARGET = 0.1, 0.95


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="file of the fitted networks")
    args = parser.parse_args()
    study = Study(np.load(args.data), args.epochs, args.members, args.keep)
    for part in (
        thresholds,
        conformal,
        cross_conformal,
        temperature,
        selective,
        ensemble_or_augmentation,
        shifts,
    ):
        start = time.perf_counter()
        table = pd.DataFrame(part(study))
        print(f"\n{inspect.cleandoc(part.__doc__)}\n")
        print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)


class Study:
    """Networks of the fit half, and what they say of the pool and of the test set."""

    def __init__(self, data, epochs, n_members, keep):
        start = time.perf_counter()
        X, y = data["train_images"], data["train_labels"].ravel()
        groups = np.arange(len(y)) // 3
        fit, pool = halves(groups, seed=0)
        self.X, self.y, self.groups = X[pool], y[pool], groups[pool]
        self.X_test, self.y_test = data["test_images"], data["test_labels"].ravel()
        network = CNNImageClassifier(augmentation="xray", max_epochs=epochs)
        ensemble = DeepEnsembleClassifier(network, n_members, random_state=0)
        if keep is not None and keep.exists():
            ensemble = joblib.load(keep)
        else:
            ensemble.fit(X[fit], y[fit])
            if keep is not None:
                joblib.dump(ensemble, keep)
        self.members = ensemble.estimators_
        # Rows from 0 are the pool, behind them the test set.
        both = np.concatenate([self.X, self.X_test])
        self.samples = ensemble.predict_samples(both).samples
        self.pool = np.arange(len(self.y))
        self.test = np.arange(len(self.y), len(both))
        self.labels = np.concatenate([self.y, self.y_test])
        self.both = both
        print(
            f"{n_members} networks of {epochs} epochs on {len(fit)} images, in "
            f"{time.perf_counter() - start:.0f} s; pool {len(pool)} images, test "
            f"{len(self.test)}; prevalence {self.y.mean():.2f} and "
            f"{self.y_test.mean():.2f}"
        )

    def network(self, proba=None):
        """A frozen classifier of row numbers; by default the first member's."""
        table = self.samples[0] if proba is None else proba
        return FrozenEstimator(LookUp(table).fit(self.pool, self.y))

    def resplits(self, n):
        """Random halves of the pool, patients whole."""
        for seed in range(n):
            yield halves(self.groups, seed=seed)


class LookUp(ClassifierMixin, BaseEstimator):
    """Gives rows of a table of probabilities."""

    def __init__(self, table):
        self.table = table

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return self.table[X]

    def predict(self, X):
        return self.classes_[self.table[X].argmax(axis=1)]


def halves(groups, seed):
    splitter = GroupShuffleSplit(1, test_size=0.5, random_state=seed)
    return next(splitter.split(groups, groups=groups))


def by_patient(values, groups, reduce):
    return pd.Series(values).groupby(groups).agg(reduce).to_numpy()


def thresholds(study, n=20):
    """Threshold at a sensitivity of .95 with confidence .95, over 20 re-splits"""
    network = study.network()
    rows = []
    for grouped in (False, True):
        groups = study.groups if grouped else None
        clf = SensitivityThresholdClassifier(network, sensitivity=TARGET)
        seen = []
        for fit, test in study.resplits(n):
            own = None if groups is None else groups[fit]
            clf.fit(study.pool[fit], study.y[fit], groups=own)
            seen.append(
                operating_point(clf, study, test)
                + operating_point(clf, study, study.test)
            )
        seen = np.array(seen)
        rows.append(
            {
                "groups": grouped,
                "target met": np.mean(seen[:, 0] >= TARGET),
                "sensitivity": seen[:, 0].mean(),
                "lowest": seen[:, 0].min(),
                "specificity": seen[:, 1].mean(),
                "test set: met": np.mean(seen[:, 2] >= TARGET),
                "sensitivity ": seen[:, 2].mean(),
                "specificity ": seen[:, 3].mean(),
            }
        )
    return rows


def operating_point(clf, study, rows):
    found, positive = clf.predict(rows) == 1, study.labels[rows] == 1
    return found[positive].mean(), 1 - found[~positive].mean()


def conformal(study, n=200):
    """Conformal sets at alpha = .1 over 200 re-splits; covered: all sets of a patient

    By exchangeability the covered patients of a random half are exactly beta-binomial.
    z is (mean - expected) / (sd / sqrt(200)); the rows per class count its patients.
    """
    network, rows = study.network(), []
    for method in ("marginal", "per_class"):
        for grouped in (False, True):
            groups = study.groups if grouped else np.arange(len(study.y))
            clf = ConformalClassifier(network, alpha=ALPHA, method=method)
            seen = {}
            for fit, test in study.resplits(n):
                own = groups[fit] if grouped else None
                clf.fit(study.pool[fit], study.y[fit], groups=own)
                for name, part in parts_of(method, study.y, test):
                    run = covered(clf, study, part, groups[part])
                    away = dict(parts_of(method, study.labels, study.test))[name]
                    images = (covered(clf, study, p)[0].mean() for p in (part, away))
                    seen.setdefault(name, []).append((*run, *images))
            rows += [
                {"method": method, "groups": grouped, "of": name} | summary(runs)
                for name, runs in seen.items()
            ]
    return rows


def parts_of(method, y, test):
    if method == "marginal":
        return [("all", test)]
    return [(f"class {c}", test[y[test] == c]) for c in np.unique(y)]


def covered(clf, study, rows, groups=None):
    """Whether sets hold the truth, their mean size, and calibration scores."""
    sets = clf.predict_set(rows)
    true = study.labels[rows]
    right = sets[np.arange(len(rows)), true]
    if groups is not None:
        right = by_patient(right, groups, "min").astype(bool)
    return right, sets.sum(axis=1).mean(), clf.n_calibration_[true[0]]


def summary(runs):
    share = np.array([right.mean() for right, *_ in runs])
    laws = []
    for right, _, n, *_ in runs:
        k = np.ceil((n + 1) * (1 - ALPHA) - 1e-9)
        law = betabinom(len(right), k, n + 1 - k)
        laws.append((law.mean() / len(right), law.std() / len(right)))
    expected, sd = np.mean(laws, axis=0)
    return {
        "expected": expected,
        "covered": share.mean(),
        "z": (share.mean() - expected) / (sd / np.sqrt(len(runs))),
        "sd expected": sd,
        "sd": share.std(ddof=1),
        "set size": np.mean([size for _, size, *_ in runs]),
        "images covered": np.mean([images for *_, images, _ in runs]),
        "of test set": np.mean([test for *_, test in runs]),
    }


def cross_conformal(study, n=20):
    """Cross-conformal, 5 folds, of a logistic regression on embeddings, 20 re-splits"""
    features = study.members[0].embed(study.X)
    clf = ConformalClassifier(
        LogisticRegression(C=0.01, max_iter=1000), alpha=ALPHA, cv=5, random_state=0
    )
    shares = []
    for fit, test in study.resplits(n):
        clf.fit(features[fit], study.y[fit], groups=study.groups[fit])
        sets = clf.predict_set(features[test])
        right = sets[np.arange(len(test)), study.y[test]]
        patients = by_patient(right, study.groups[test], "min")
        shares.append((patients.mean(), sets.sum(axis=1).mean()))
    share, size = np.mean(shares, axis=0)
    return [
        {"promised": clf.coverage_guarantee_, "covered": share, "set size": size},
    ]


def temperature(study, n=20):
    """Temperature scaling on half of the pool, on the other half (20 re-splits)

    Of the ensemble, the temperature is fitted to the mean that predict gives.
    """
    rows = []
    tables = {"one network": study.samples[0], "ensemble": study.samples.mean(axis=0)}
    for name, table in tables.items():
        network = study.network(table)
        seen = []
        for fit, test in study.resplits(n):
            scaled = CalibratedClassifierCV(network, method="temperature")
            scaled.fit(study.pool[fit], study.y[fit])
            y = study.y[test]
            before, after = table[test], scaled.predict_proba(study.pool[test])
            losses = [log_loss(y, before), log_loss(y, after)]
            seen.append([*losses, slope(y, before), slope(y, after)])
        seen = np.array(seen)
        mean = seen.mean(axis=0)
        closer = np.abs(seen[:, 3] - 1) < np.abs(seen[:, 2] - 1)
        rows.append(
            {
                "": name,
                "log loss": mean[0],
                "after": mean[1],
                "improved": np.mean(seen[:, 1] < seen[:, 0]),
                "slope": mean[2],
                "after ": mean[3],
                "closer to 1": closer.mean(),
            }
        )
    return rows


def slope(y, proba):
    return calibration_fit(y, proba[:, 1]).slope.value


def selective(study):
    """Referral at coverage .8: line drawn on half of the pool; AURC on the other"""
    rows = []
    tables = {"one network": study.samples[0], "ensemble": study.samples.mean(axis=0)}
    fit, test = halves(study.groups, seed=0)
    for name, table in tables.items():
        clf = SelectiveClassifier(study.network(table), coverage=0.8)
        clf.fit(study.pool[fit], study.y[fit], groups=study.groups[fit])
        for where, part in {"pool": test, "test set": study.test}.items():
            y, answer = study.labels[part], table[part].argmax(axis=1)
            groups = study.groups[part] if where == "pool" else None
            risk = aurc(
                answer != y, clf.confidence(part), groups=groups, random_state=0
            )
            rows.append(
                {
                    "": name,
                    "on": where,
                    "answered": clf.decision_mask(part).mean(),
                    "accuracy": np.mean(answer == y),
                    "of answered": clf.score(part, y),
                }
                | {"AURC": risk.value, "random": risk.random, "oracle": risk.oracle}
                | {"gain": risk.gain[0], "from": risk.gain[1], "to": risk.gain[2]}
            )
    return rows


def ensemble_or_augmentation(study, n_boot=2000):
    """The ensemble, and one network with as many augmented predictions (equal cost)

    The mean over the networks; "less" is how far the ensemble is below, with the 95 %
    interval of the images.
    """
    tries = len(study.members)
    augmented = np.stack(
        [
            predict_augmented(m, study.both, n_samples=tries, random_state=0).proba
            for m in study.members
        ]
    )
    ways = {
        "one network": study.samples,
        "one, augmented": augmented,
        "ensemble": study.samples.mean(axis=0, keepdims=True),
        "ensemble, augmented": augmented.mean(axis=0, keepdims=True),
    }
    rows, rng = [], np.random.default_rng(0)
    for where, part in {"pool": study.pool, "test set": study.test}.items():
        y = study.labels[part]
        losses = {name: losses_of(proba[:, part], y) for name, proba in ways.items()}
        for name, proba in ways.items():
            less = losses[name] - losses["ensemble"]
            again = rng.choice(less, (n_boot, len(less))).mean(axis=1)
            rows.append(
                {
                    "on": where,
                    "": name,
                    "AUC": np.mean([roc_auc_score(y, p[part, 1]) for p in proba]),
                    "accuracy": np.mean([p[part].argmax(1) == y for p in proba]),
                    "log loss": losses[name].mean(),
                    "less": less.mean(),
                    "from": np.quantile(again, 0.025),
                    "to": np.quantile(again, 0.975),
                }
            )
    return rows


def losses_of(proba, y):
    return -np.log(np.clip(proba[:, np.arange(len(y)), y], 1e-12, 1)).mean(axis=0)


def shifts(study):
    """Alarms at a false-alarm rate of .05 an image, and AUC against unshifted images"""
    fit, test = halves(study.groups, seed=0)
    network = FrozenEstimator(study.members[0])
    changed = {"none": study.X[test]} | shifted(study.X[test])
    changed["official test set"] = study.X_test
    rows = {name: {"shift": name} for name in changed}
    for title, features in {"embedding": network, "pixels": PixelStatistics()}.items():
        for method in ("mahalanobis", "knn"):
            detector = EmbeddingOutlierDetector(features, method=method, random_state=0)
            detector.fit(study.X[fit], study.y[fit])
            usual = detector.score_samples(study.X[test])
            for name, images in changed.items():
                # An inverted radiograph is warned of anyway: not the question here.
                score = quietly(detector.score_samples, images)
                rows[name][f"{title} {method}"] = np.mean(score < detector.offset_)
                rows[name]["AUC" + " " * len(rows[name])] = auc_of(usual, score)
    return list(rows.values())


def shifted(X):
    """Near-distribution shifts of uint8 images (n, H, W)."""
    rng = np.random.default_rng(0)
    centre = torch.from_numpy(X[:, None, 3:-3, 3:-3].astype(np.float32))
    cropped = torch.nn.functional.interpolate(
        centre, X.shape[1:], mode="bilinear", antialias=True
    )
    noisy = X + rng.normal(0, 12, X.shape)
    return {
        "inverted": 255 - X,
        "rotated 90°": np.rot90(X, axes=(1, 2)).copy(),
        "rotated 15°": rotated(X, 15),
        "cropped": cropped[:, 0].round().clamp(0, 255).byte().numpy(),
        "noise": np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
    }


def rotated(X, degrees):
    return rotate(X, degrees, axes=(1, 2), reshape=False, order=1, mode="nearest")


def quietly(function, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(X)


def auc_of(usual, unusual):
    ranks = rankdata(-np.concatenate([usual, unusual]))[len(usual) :]
    n = len(unusual)
    return (ranks.sum() - n * (n + 1) / 2) / (n * len(usual))


if __name__ == "__main__":
    main()
