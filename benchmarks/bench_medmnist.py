"""How good is `CNNImageClassifier()` on MedMNIST, and what does it cost?

    python benchmarks/bench_medmnist.py FOLDER --seeds 5 --out results
    python benchmarks/bench_medmnist.py breastmnist.npz --reference-recipe

Takes .npz files of MedMNIST or a folder of them, fits on the official training images
alone (the reference recipe chooses its epoch on the validation images besides), and
looks at the test images once for each seed. AUC and accuracy are MedMNIST's: for
several classes the mean of one against the rest, for several labels the mean over
them. Published rows stand beside, from the table that --published names. Test images
with a near-twin (correlation above .99) among training and validation images are left
out in the rows "twin-free". `--extrapolate` times 20 steps of the reference recipe and
multiplies, where a fit would take hours.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from reference_recipe import ReferenceRecipe
from sklearn.metrics import roc_auc_score

from skmedimg import CNNImageClassifier

REFERENCE = Path(__file__).parents[2] / "shared/reference/medmnist_v2.csv"
PARTS = ("train", "val", "test")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help=".npz files or folders")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--reference-recipe", action="store_true")
    parser.add_argument("--extrapolate", action="store_true")
    parser.add_argument("--published", type=Path, default=REFERENCE)
    parser.add_argument("--out", type=Path, default=Path("bench_medmnist"))
    args = parser.parse_args()
    files = [f for d in args.data for f in ([d] if d.is_file() else d.glob("*.npz"))]
    rows = []
    for file in sorted(files):
        study = read(file)
        for seed in range(args.seeds):
            rows += run_default(file.stem, study, seed)
            if args.reference_recipe:
                rows += run_reference(file.stem, study, seed, args.extrapolate)
            write(pd.DataFrame(rows), args.published, args.out)
    print((args.out / "table.md").read_text())


def read(file):
    with np.load(file) as arrays:
        study = {part: arrays[f"{part}_images"] for part in PARTS}
        for part in PARTS:
            y = arrays[f"{part}_labels"]
            study[f"y_{part}"] = y.ravel() if y.shape[1] == 1 else y
    study["single"] = ~has_twin(study)
    return study


def has_twin(study):
    """Test images that correlate above .99 with an image of training or validation."""
    known = np.concatenate([study["train"], study["val"]])
    test = standardised(study["test"])
    best = np.full(len(test), -1.0)
    for start in range(0, len(known), 512):
        part = standardised(known[start : start + 512])
        best = np.maximum(best, (test @ part.T).max(1))
    return best > 0.99


def standardised(X):
    x = X.reshape(len(X), -1).astype(np.float32)
    x -= x.mean(1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def run_default(name, study, seed):
    start = time.process_time()
    clf = CNNImageClassifier(random_state=seed).fit(study["train"], study["y_train"])
    cpu = time.process_time() - start
    return score(name, "CNNImageClassifier()", study, clf, seed, cpu)


def run_reference(name, study, seed, extrapolate):
    dims = study["train"].ndim - 1 - (study["train"].shape[-1] == 3)
    recipe = ReferenceRecipe(seed, dims)
    train = study["train"], study["y_train"]
    if extrapolate:
        cpu = recipe.extrapolated_cpu(*train)
        row = {"set": name, "method": "reference recipe (extrapolated)", "seed": seed}
        return [row | {"cpu": cpu}]
    start = time.process_time()
    recipe.fit(*train, study["val"], study["y_val"])
    cpu = time.process_time() - start
    return score(name, "reference recipe", study, recipe, seed, cpu)


def score(name, method, study, fitted, seed, cpu):
    proba, y = fitted.predict_proba(study["test"]), study["y_test"]
    rows = []
    for which, chosen in (("", slice(None)), (", twin-free", study["single"])):
        auc, acc = medmnist_scores(y[chosen], proba[chosen])
        row = {"set": name + which, "method": method, "seed": seed, "auc": auc}
        rows.append(row | {"acc": acc, "cpu": cpu, "n": len(y[chosen])})
    return rows if (~study["single"]).any() else rows[:1]


def medmnist_scores(y, proba):
    """AUC and accuracy as MedMNIST's evaluator defines them."""
    if y.ndim == 2:
        auc = np.mean([roc_auc_score(y[:, k], proba[:, k]) for k in range(y.shape[1])])
        return auc, ((proba > 0.5) == y).mean()
    if proba.shape[1] == 2:
        return roc_auc_score(y, proba[:, 1]), ((proba[:, 1] > 0.5) == y).mean()
    classes = range(proba.shape[1])
    auc = np.mean([roc_auc_score(y == k, proba[:, k]) for k in classes])
    return auc, (proba.argmax(1) == y).mean()


def write(frame, published, out):
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "runs.csv", index=False)
    lines = []
    for name, part in frame.groupby("set", sort=False):
        lines += [f"### {name}", "", "| method | seeds | AUC | ACC | CPU-s |"]
        lines += ["|---|---|---|---|---|"]
        for method, runs in part.groupby("method", sort=False):
            cells = [spread(runs[what]) for what in ("auc", "acc") if what in runs]
            cpu = f"{runs.cpu.mean():.0f}"
            lines.append(f"| {method} | {len(runs)} | {' | '.join(cells)} | {cpu} |")
        if published.is_file():
            table = pd.read_csv(published)
            for row in table[table.dataset == name].itertuples():
                cells = f"{row.auc:.3f} | {row.acc:.3f}"
                lines.append(f"| {row.method}, published | | {cells} | |")
        lines.append("")
    (out / "table.md").write_text("\n".join(lines))


def spread(values):
    if values.isna().all():
        return ""
    deviation = f" ± {values.std():.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{deviation}"


if __name__ == "__main__":
    main()
