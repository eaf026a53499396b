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
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmedimg.metrics import delong_test, roc_auc_ci

# Without the checks of the arguments, which would take most of the time.
from skmedimg.metrics._auc import auc_interval

AREAS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
INDEPENDENT = {
    "n": (20, 50, 100, 200, 500, 1000, 2000),
    "prevalence": (0.05, 0.1, 0.2, 0.3, 0.5),
    "area": AREAS,
}
CLUSTERED = {
    "patients": (30, 100, 300),
    "images": ("1-30", "mostly few"),
    "labels": ("patient", "image"),
    "prevalence": (0.2, 0.5),
    "correlation": (0.3, 0.8),
    "area": AREAS[:-1],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    print_speed(np.random.default_rng(0))
    with ProcessPoolExecutor(args.jobs) as pool:
        for title, design in (("Independent", INDEPENDENT), ("Clustered", CLUSTERED)):
            keys = [*design]
            cells = [dict(zip(keys, v, strict=True)) for v in product(*design.values())]
            studies = [args.studies] * len(cells)
            frame = pd.DataFrame(pool.map(simulate, cells, studies, range(len(cells))))
            print(f"\n{title} cases, {args.studies} studies a cell: coverage in %")
            keys[-1:] = [] if title == "Clustered" else ["smaller"]
            table = frame.pivot(index=keys, columns="area", values="coverage")
            print(table.to_string())
            if title == "Clustered":
                for n, rows in frame.groupby("patients"):
                    print_range(f"{n} patients", rows, 92.5, 98)
                continue
            few, extreme = frame.smaller < 60, frame.area >= 0.99
            print_range("smaller class >= 60", frame[~few & ~extreme], 92.5, 98)
            print_range("smaller class < 60", frame[few & ~extreme], 88, 100)
            print_range("area .99, smaller class >= 60", frame[~few & extreme])
            print_range("area .99, smaller class < 60", frame[few & extreme])


def simulate(cell, studies, seed):
    rng, area = np.random.default_rng(seed), cell["area"]
    draw = draw_clustered if "patients" in cell else draw_independent
    intervals = [auc_interval(*draw(cell, rng), 0.95) for _ in range(studies)]
    low, high = np.transpose([(i.low, i.high) for i in intervals])
    if "n" in cell:
        n_pos = count_positive(cell)
        cell = cell | {"smaller": min(n_pos, cell["n"] - n_pos)}
    covered = 100 * np.mean((low <= area) & (area <= high))
    return cell | {"coverage": round(covered, 1), "width": np.mean(high - low).round(3)}


def draw_independent(cell, rng):
    positive = np.arange(cell["n"]) < count_positive(cell)
    score = rng.normal(size=cell["n"]) + np.sqrt(2) * norm.ppf(cell["area"]) * positive
    return positive, score, np.arange(cell["n"])


def count_positive(cell):
    return max(round(cell["n"] * cell["prevalence"]), 1)


def draw_clustered(cell, rng):
    """Labels, scores and patients; drawn again until both classes have two patients."""
    n = cell["patients"]
    if cell["images"] == "1-30":
        n_images = rng.integers(1, 31, n)
    else:
        n_images = np.minimum(rng.geometric(0.25, n), 30)
    patient = np.repeat(np.arange(n), n_images)
    if cell["labels"] == "patient":
        positive = (rng.random(n) < cell["prevalence"])[patient]
    else:
        positive = rng.random(len(patient)) < cell["prevalence"]
    sides = (positive, ~positive)
    if min(np.count_nonzero(np.bincount(patient[side])) for side in sides) < 2:
        return draw_clustered(cell, rng)
    score = np.sqrt(1 - cell["correlation"]) * rng.normal(size=len(patient))
    score += np.sqrt(cell["correlation"]) * rng.normal(size=n)[patient]
    return positive, score + np.sqrt(2) * norm.ppf(cell["area"]) * positive, patient


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
    print(line, flush=True)


def print_speed(rng):
    n = 100_000
    y, patient = rng.random(n) < 0.2, rng.integers(20_000, size=n)
    a, b = rng.normal(size=(2, n)) + y
    for name, call in (
        ("area, interval", lambda: roc_auc_ci(y, a)),
        ("area, interval, 20,000 patients", lambda: roc_auc_ci(y, a, groups=patient)),
        ("two areas compared", lambda: delong_test(y, a, b)),
    ):
        seconds = []
        for _ in range(9):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
        print(
            f"10^5 cases, {name}: {1000 * np.median(seconds):.0f} ms of a core",
            flush=True,
        )


if __name__ == "__main__":
    main()
