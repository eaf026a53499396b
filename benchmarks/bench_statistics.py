"""What do intervals cost, and how often do 95 % intervals hold the truth?

    OMP_NUM_THREADS=1 python benchmarks/bench_statistics.py

Times are medians of a few calls, in seconds of one core: DeLong on 10^5 predictions,
and 2,000 bootstrap replicates of six metrics on 10^4 predictions of 3,333 patients.
Coverage is counted over simulated studies of independent images and of patients with 1
to 9 images, whose risks and whose labels resemble each other; the truth is that of a
million images (bootstrap), or slope 1 and intercept 0 (calibration). Two hundred
studies a row take three minutes.
"""

import argparse
import os
import time
import warnings

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.exceptions import UndefinedMetricWarning

from skmedimg.metrics import (
    aurc,
    bootstrap_ci,
    calibration_error,
    calibration_fit,
    delong_test,
    roc_auc_ci,
)

SIX = ["roc_auc", "average_precision", "sensitivity", "specificity", "f1", "brier"]
# Patients, and images a patient at most.
STUDIES = [(50, 1), (100, 1), (300, 1), (30, 9), (60, 9), (150, 9)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=200, help="a row of a table")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, numpy {np.__version__}\n")
    tell_times()
    tell_coverage(args.studies)


def tell_times():
    rng = np.random.default_rng(0)
    big, small = simulate(100_000, 1, rng), simulate(3_333, 5, rng)
    y, p, _ = big
    other = expit(np.log(p / (1 - p)) + rng.normal(size=len(p)))
    calls = {
        "roc_auc_ci, 10^5 images": lambda: roc_auc_ci(y, p),
        "delong_test, 10^5 images": lambda: delong_test(y, p, other),
        "calibration_fit, 10^5 images": lambda: calibration_fit(y, p),
    }
    y_small, p_small, patient = small
    wrong = y_small != (p_small > 0.5)
    size = f"{len(y_small)} images of 3,333 patients"
    calls |= {
        f"bootstrap_ci, six metrics, {size}": lambda: bootstrap_ci(
            SIX, y_small, p_small, groups=patient
        ),
        f"aurc, {size}": lambda: aurc(wrong, abs(p_small - 0.5), groups=patient),
        f"calibration_error, {size}": lambda: calibration_error(y_small, p_small),
    }
    for name, call in calls.items():
        print(f"{median_time(call):7.3f} s  {name}")


def median_time(call, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return np.median(times)


def simulate(patients, most, rng):
    """Labels, calibrated risks and patients; half of each variance is the patient's."""
    images = rng.integers(1, most + 1, size=patients)
    patient = np.repeat(np.arange(patients), images)
    x, u = rng.normal(size=(2, patients))[:, patient]
    x, u = (np.stack([x, u]) + rng.normal(size=(2, len(patient)))) / np.sqrt(2)
    p = expit(1.5 * x - 1)
    return (norm.cdf(u) < p).astype(int), p, patient


def tell_coverage(studies):
    y, p, _ = simulate(1_000_000, 1, np.random.default_rng(0))
    # Of so many images an interval is a point.
    ones = np.arange(len(y)) % 2
    truth = bootstrap_ci(SIX, y, p, groups=ones, n_bootstrap=100, random_state=0)
    names = [*SIX, "slope", "intercept"]
    print("\npatients  images  " + "  ".join(names))
    for patients, most in STUDIES:
        hits = []
        for seed in range(studies):
            y, p, patient = simulate(patients, most, np.random.default_rng(seed))
            if 0 < y.sum() < len(y):
                hits.append(covered(y, p, patient if most > 1 else None, truth, seed))
        shares = [
            f"{100 * share:{len(name)}.1f}"
            for name, share in zip(names, np.mean(hits, axis=0), strict=True)
        ]
        print(f"{patients:8}  {'1' if most == 1 else '1-9':>6}  {'  '.join(shares)}")


def covered(y, p, groups, truth, seed):
    with warnings.catch_warnings():
        # A study whose interval is undefined counts as missed.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = bootstrap_ci(SIX, y, p, groups=groups, random_state=seed)
        slope, intercept, _ = calibration_fit(y, p, groups=groups)
    pairs = [(found[name], truth[name].value) for name in SIX]
    pairs += [(slope, 1), (intercept, 0)]
    return [found.low <= value <= found.high for found, value in pairs]


if __name__ == "__main__":
    main()
