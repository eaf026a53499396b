"""How good is `CNNImageClassifier()` on MedMNIST, and what does it cost?

    python benchmarks/bench_medmnist.py FOLDER --seeds 5 --out results
    python benchmarks/bench_medmnist.py breastmnist.npz --methods reference

Takes .npz files of MedMNIST or a folder of them, fits on the official training images
alone (the reference recipe chooses its epoch on the validation images besides), and
looks at the test images once for each seed. AUC and accuracy are MedMNIST's: for
several classes the mean of one against the rest, for several labels the mean over
them. Test images with a near-twin (correlation above .99) among training and validation
images are left out in the rows "twin-free". Published rows stand beside, from the table
that --published names.

Methods: "default" is `CNNImageClassifier(random_state=seed)`; "reference" the recipe of
the published ResNet-18; "reference-bf16" the same recipe in bfloat16, where single
precision would take hours; "reference-time" times a few of its steps (--steps) and
multiplies. Runs that stand in OUT already are not repeated, nor reported if they are of
other code: names of "default" end in a hash of the package and torch's version, those
of "reference-time" in one of the recipe. OUT/table.md ends with the paired gain of the
default over the reference, pooled over the sets: their plain mean, and weighted by
precision, as for a gain that is the same in all.
"""

import argparse
import hashlib
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from reference_recipe import ReferenceRecipe, auc_of
from scipy.special import ndtri

import skmedimg
from skmedimg import CNNImageClassifier
from skmedimg.metrics._auc import delong_components

REFERENCE = Path(__file__).parents[2] / "shared/reference/medmnist_v2.csv"
PARTS = ("train", "val", "test")
METHODS = ("default", "reference", "reference-bf16", "reference-time")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help=".npz files or folders")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["default"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--published", type=Path, default=REFERENCE)
    parser.add_argument("--out", type=Path, default=Path("bench_medmnist"))
    args = parser.parse_args()
    for path in args.data:
        if not npz_files(path):
            parser.error(f"{path} is no file, nor a folder that holds .npz files")
    args.out.mkdir(parents=True, exist_ok=True)
    for file in sorted(file for path in args.data for file in npz_files(path)):
        study = read(file)
        for seed in range(args.seeds):
            for method in args.methods:
                path = run_path(args.out, file.stem, method, seed)
                if not path.exists() and (seed == 0 or method != "reference-time"):
                    facts = {"set": file.stem, "method": method, "seed": seed}
                    np.savez(path, **facts, **run_once(study, method, seed, args.steps))
    text = report(args.out, args.published)
    (args.out / "table.md").write_text(text)
    print(text)


def npz_files(path):
    return [path] if path.is_file() else list(path.glob("*.npz"))


def run_path(out, name, method, seed):
    return out / f"{name}-{method}-{seed}{version_of(method)}.npz"


@cache
def version_of(method):
    """End of the names of a method's runs: another one once its code has changed."""
    if method == "default":
        sources = sorted(Path(skmedimg.__file__).parent.rglob("*.py"))
    elif method == "reference-time":
        sources = [Path(__file__).with_name("reference_recipe.py")]
    else:
        return ""  # a published recipe does not change, and takes hours
    digest = hashlib.sha256(torch.__version__.encode())
    for source in sources:
        digest.update(source.read_bytes())
    return f"-{digest.hexdigest()[:8]}"


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


def run_once(study, method, seed, steps):
    """Fit, and predict the test images; CPU-seconds are those of the fit."""
    train = study["train"], study["y_train"]
    dims = study["train"].ndim - 1 - (study["train"].shape[-1] == 3)
    recipe = ReferenceRecipe(seed, dims, bfloat16=method == "reference-bf16")
    if method == "reference-time":
        return {"cpu": recipe.extrapolated_cpu(*train, steps)}
    start = time.process_time()
    if method == "default":
        fitted = CNNImageClassifier(random_state=seed).fit(*train)
    else:
        fitted = recipe.fit(*train, study["val"], study["y_val"])
    cpu = time.process_time() - start
    proba = fitted.predict_proba(study["test"])
    return {"cpu": cpu, "y": study["y_test"], "proba": proba, "single": study["single"]}


def report(out, published):
    runs = runs_in(out)
    rows = pd.DataFrame([row for run in runs for row in scores(run)])
    rows.to_csv(out / "runs.csv", index=False)
    lines = []
    for name, part in rows.groupby("set"):
        lines += [f"### {name}", "", "| method | seeds | AUC | ACC | CPU-s |"]
        lines += ["|---|---|---|---|---|"]
        for method, own in part.groupby("method"):
            cells = [spread(own.auc), spread(own.acc), f"{own.cpu.mean():.0f}"]
            lines.append(f"| {method} | {len(own)} | {' | '.join(cells)} |")
        if published.is_file():
            table = pd.read_csv(published)
            for row in table[table.dataset == name].itertuples():
                cells = f"{row.auc:.3f} | {row.acc:.3f}"
                lines.append(f"| {row.method}, published | | {cells} | |")
        lines.append("")
    return "\n".join(lines + gains(runs))


def runs_in(out):
    """Runs of this code; those of another one are left out, and counted."""
    runs, others = [], 0
    for path in sorted(out.glob("*-*-*.npz")):
        with np.load(path) as arrays:
            run = {k: v.item() if v.ndim == 0 else v for k, v in arrays.items()}
        if path == run_path(out, run["set"], run["method"], run["seed"]):
            runs.append(run)
        else:
            others += 1
    if others:
        print(f"{others} files in {out} are of other code or torch: not reported\n")
    return runs


def scores(run):
    """Rows of one run: all test images, and those without a near-twin."""
    row = {k: run[k] for k in ("set", "method", "seed", "cpu")}
    if "proba" not in run:
        return [row | {"auc": np.nan, "acc": np.nan}]
    rows = []
    for which, chosen in (("", slice(None)), (", twin-free", run["single"])):
        auc, acc = medmnist_scores(run["y"][chosen], run["proba"][chosen])
        rows.append(row | {"set": run["set"] + which, "auc": auc, "acc": acc})
    return rows[: 1 if run["single"].all() else 2]


def medmnist_scores(y, proba):
    """AUC and accuracy as MedMNIST's evaluator defines them."""
    if y.ndim == 2:
        decided = proba > 0.5
    elif proba.shape[1] == 2:
        decided = proba[:, 1] > 0.5
    else:
        decided = proba.argmax(1)
    return auc_of(y, proba), (decided == y).mean()


def spread(values):
    if values.isna().all():
        return ""
    deviation = f" ± {values.std():.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{deviation}"


def gains(runs):
    """Paired gain over the reference recipe on each two-class set, and pooled."""
    lines = ["### Gain over the reference recipe rerun here", ""]
    lines += ["| set | AUC (95 %) | ACC (95 %) | seeds |", "|---|---|---|---|"]
    gained = []
    for name in sorted({run["set"] for run in runs}):
        sides = [
            [r for r in runs if r["set"] == name and "proba" in r and own(r["method"])]
            for own in ("default".__eq__, ("reference", "reference-bf16").__contains__)
        ]
        if all(sides) and two_classes(sides[0][0]):
            gain, variance = gain_on(*sides)
            gained.append((gain, variance))
            seeds = " and ".join(str(len(side)) for side in sides)
            lines.append(f"| {name} | {' | '.join(told(gain, variance))} | {seeds} |")
    if len(gained) > 1:
        gain, variance = np.moveaxis(gained, 1, 0)
        for name, weight in (
            ("mean of the sets", np.ones_like(variance)),
            ("weighted by precision", 1 / variance),
        ):
            weight = weight / weight.sum(0)
            pooled = told((weight * gain).sum(0), (weight**2 * variance).sum(0))
            lines.append(f"| {name} | {' | '.join(pooled)} | |")
    return [*lines, ""]


def two_classes(run):
    return run["y"].ndim == 1 and run["proba"].shape[1] == 2


def gain_on(ours, theirs):
    """Mean gain in (AUC, ACC) and its variance, by test images and by seeds.

    Of each side the seeds are averaged case by case: the spread over cases of the
    difference is what another test set would change (DeLong's components for the AUC),
    the spread over seeds what other seeds would.
    """
    y = ours[0]["y"] == 1
    case, seed_variance = [], 0.0
    for side in (ours, theirs):
        proba = np.array([run["proba"][:, 1] for run in side])
        ranked = np.mean([delong_components(y, column) for column in proba], axis=0)
        case.append([ranked, right(y, proba).mean(0)])
        values = np.array([medmnist_scores(run["y"], run["proba"]) for run in side])
        if len(side) > 1:
            seed_variance = seed_variance + values.var(0, ddof=1) / len(side)
    auc, acc = np.subtract(*case)
    gain = np.array([auc[y].mean(), acc.mean()])
    by_class = [auc[part].var(ddof=1) / part.sum() for part in (y, ~y)]
    variance = np.array([sum(by_class), acc.var(ddof=1) / len(y)])
    return gain, variance + seed_variance


def right(y, proba):
    return (proba > 0.5) == y


def told(gain, variance):
    half = ndtri(0.975) * np.sqrt(variance)
    pairs = zip(gain, half, strict=True)
    return [f"{g:+.3f} ({g - h:+.3f} to {g + h:+.3f})" for g, h in pairs]


if __name__ == "__main__":
    main()
