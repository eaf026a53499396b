"""How often do 95 % intervals of the area under the ROC curve hold the true area?

    python benchmarks/bench_auc_coverage.py                # about ten minutes, one core
    python benchmarks/bench_auc_coverage.py --studies 200  # a quick look

Scores are normal in either class, equally spread. Each cell is so many simulated
studies; 2,000 of them know a coverage of 95 % to within a standard error of 0.5 %.

Independent cases: a share of `prevalence` is positive (rounded, at least one).
Clustered cases: 30 to 300 patients with 1 to 30 images, uniformly or mostly few (a
geometric number of mean 4, at most 30), half of them or a fifth positive; labels are of
the patient or of the image, and images of one patient share `correlation` of the
variance of their scores. The true area is that of images of different patients.
"""

import argparse
import time

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmedimg.metrics import delong_test, roc_auc_ci

AREAS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SIZES = (20, 50, 100, 200, 500, 1000, 2000)
PREVALENCES = (0.05, 0.1, 0.2, 0.3, 0.5)
PATIENTS = (30, 100, 300)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    print_speed(rng)
    print(f"\nIndependent cases, {args.studies} studies a cell: coverage in %")
    independent = pd.DataFrame(independent_cells(args.studies, rng))
    index = ["n", "prevalence", "smaller"]
    print(independent.pivot(index=index, columns="area", values="coverage").to_string())
    few = independent.smaller < 60
    extreme = independent.area >= 0.99
    print_range("smaller class >= 60", independent[~few & ~extreme], 92.5, 98)
    print_range("smaller class < 60", independent[few & ~extreme], 88, 100)
    print_range("area .99, smaller class >= 60", independent[~few & extreme])
    print_range("area .99, smaller class < 60", independent[few & extreme])
    print(f"\nClustered cases, {args.studies} studies a cell: coverage in %")
    clustered = pd.DataFrame(clustered_cells(args.studies, rng))
    index = ["patients", "labels", "images", "prevalence", "correlation"]
    print(clustered.pivot(index=index, columns="area", values="coverage").to_string())
    for area, cells in clustered.groupby("area"):
        print_range(f"clustered, area {area}", cells, 92.5, 98)


def independent_cells(studies, rng):
    for n in SIZES:
        for prevalence in PREVALENCES:
            n_pos = max(round(n * prevalence), 1)
            y = np.arange(n) < n_pos
            for area in AREAS:
                shift = np.sqrt(2) * norm.ppf(area) * y
                intervals = (roc_auc_ci(y, rng.normal(shift)) for _ in range(studies))
                yield {
                    "n": n,
                    "prevalence": prevalence,
                    "smaller": min(n_pos, n - n_pos),
                    "area": area,
                    **summary(intervals, area),
                }


def clustered_cells(studies, rng):
    for patients in PATIENTS:
        for labels in ("patient", "image"):
            for images in ("1-30", "mostly few"):
                for prevalence in (0.2, 0.5):
                    for correlation in (0.3, 0.8):
                        for area in AREAS[:-1]:
                            cell = {
                                "patients": patients,
                                "labels": labels,
                                "images": images,
                                "prevalence": prevalence,
                                "correlation": correlation,
                                "area": area,
                            }
                            drawn = (draw_study(cell, rng) for _ in range(studies))
                            intervals = (
                                roc_auc_ci(y, score, groups=patient)
                                for y, score, patient in drawn
                            )
                            yield cell | summary(intervals, area)


def draw_study(cell, rng):
    """Labels, scores and patients; drawn again until both classes have two patients."""
    n = cell["patients"]
    while True:
        if cell["images"] == "1-30":
            n_images = rng.integers(1, 31, n)
        else:
            n_images = np.minimum(rng.geometric(0.25, n), 30)
        patient = np.repeat(np.arange(n), n_images)
        if cell["labels"] == "patient":
            y = (rng.random(n) < cell["prevalence"])[patient]
        else:
            y = rng.random(len(patient)) < cell["prevalence"]
        if min(len(np.unique(patient[y])), len(np.unique(patient[~y]))) >= 2:
            break
    own, shared = rng.normal(size=len(patient)), rng.normal(size=n)[patient]
    score = (
        np.sqrt(1 - cell["correlation"]) * own + np.sqrt(cell["correlation"]) * shared
    )
    return y, score + np.sqrt(2) * norm.ppf(cell["area"]) * y, patient


def summary(intervals, area):
    low, high = np.transpose([(i.low, i.high) for i in intervals])
    return {
        "coverage": round(100 * np.mean((low <= area) & (area <= high)), 1),
        "width": round(np.mean(high - low), 3),
    }


def print_range(title, cells, least=None, most=None):
    worst = cells.loc[cells.coverage.idxmin()]
    setting = ", ".join(f"{k} {v}" for k, v in worst.items() if k != "coverage")
    line = (
        f"{title}: {len(cells)} cells, {cells.coverage.min():.1f} to "
        f"{cells.coverage.max():.1f} %, mean {cells.coverage.mean():.1f} %; "
        f"worst {worst.coverage:.1f} % ({setting})"
    )
    if least is not None:
        missed = (~cells.coverage.between(least, most)).sum()
        line += f"; {missed} outside {least} to {most} %"
    print(line)


def print_speed(rng):
    n = 100_000
    y, patient = rng.random(n) < 0.2, rng.integers(20_000, size=n)
    a, b = rng.normal(size=(2, n)) + y
    for name, call in (
        ("area with interval", lambda: roc_auc_ci(y, a)),
        (
            "area with interval, 20,000 patients",
            lambda: roc_auc_ci(y, a, groups=patient),
        ),
        ("two areas compared", lambda: delong_test(y, a, b)),
    ):
        seconds = []
        for _ in range(9):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        print(f"10^5 cases, {name}: {1000 * np.median(seconds):.0f} ms")


if __name__ == "__main__":
    main()
