"""Does `audit_leakage` find copies, and nothing but copies? How long does it take?

    python benchmarks/bench_leakage.py --data ~/imaging-data/medmnist

Copies of 300 images of each set are planted among all of its images: turned or
mirrored, resized there and back, recompressed, with another contrast, and mixtures of
these. Recall is the share of a kind that is found as a pair with its original. False
are all pairs beyond: those that neither are planted, nor join copies of one image, nor
were in the set before (its own twins, whose number is printed). Then the twins between
the official splits, and 50,000 images of 28 px.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from skmedimg.model_selection import audit_leakage

SETS = ("breastmnist", "pneumoniamnist")
SPLITS = ("train", "val", "test")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.96, 0.94])
    args = parser.parse_args()
    for name in SETS:
        parts = read(args.data / f"{name}.npz")
        X = np.concatenate(list(parts.values()))
        print(f"{name}: {len(X)} images, {len(X) * (len(X) - 1) // 2} pairs")
        for threshold in args.thresholds:
            plant(X, args.copies, threshold)
        official(parts)
    clock(X, args.images)


def read(path):
    with np.load(path) as file:
        return {split: file[f"{split}_images"] for split in SPLITS}


def jpeg(quality):
    def change(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.array(Image.open(file))

    return change


def resized(size):
    def change(image):
        there = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        return np.array(there.resize(image.shape[::-1], Image.Resampling.BICUBIC))

    return change


def mirrored(image):
    return image[:, ::-1].copy()


def turned(image):
    return np.rot90(image).copy()


def contrast(image):
    return np.rint(image * 0.7 + 30).astype(np.uint8)


CHANGES = {
    "mirrored": (mirrored,),
    "turned by 90 degrees": (turned,),
    "contrast x 0.7": (contrast,),
    "28 -> 20 -> 28 px": (resized(20),),
    "28 -> 56 -> 28 px": (resized(56),),
    "28 -> 14 -> 28 px": (resized(14),),
    "JPEG 75": (jpeg(75),),
    "JPEG 50": (jpeg(50),),
    "mirrored, JPEG 75": (mirrored, jpeg(75)),
    "turned, contrast, 20 px": (turned, contrast, resized(20)),
    "JPEG 20": (jpeg(20),),
}


def plant(X, n_copies, threshold):
    rng = np.random.default_rng(0)
    originals = rng.choice(len(X), min(n_copies, len(X)), replace=False)
    copies = []
    for changes in CHANGES.values():
        images = X[originals]
        for change in changes:
            images = [change(image) for image in images]
        copies.append(images)
    everything = np.concatenate([X, *copies])
    source = np.concatenate([np.arange(len(X)), np.tile(originals, len(CHANGES))])
    before = audit_leakage(X, threshold=threshold).pairs
    own = set(zip(before["first"], before["second"], strict=True))
    pairs = audit_leakage(everything, threshold=threshold).pairs
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    # Copies of two images that were twins before are copies of one.
    ends = zip(source[first].tolist(), source[second].tolist(), strict=True)
    false = sum(a != b and (min(a, b), max(a, b)) not in own for a, b in ends)
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    print(f"  threshold {threshold:g}: {len(own)} pairs before; planted and found:")
    start, recalls = len(X), []
    for name in CHANGES:
        hits = [(int(o), start + i) in found for i, o in enumerate(originals)]
        recalls.append(np.mean(hits))
        start += len(originals)
        print(f"    {name:24s} {recalls[-1]:.3f}")
    share = false / len(pairs)
    print(
        f"    all {np.mean(recalls):.3f}, without JPEG 20 {np.mean(recalls[:-1]):.3f}; "
        f"{false} false of {len(pairs)} pairs ({share:.2%})"
    )


def official(parts):
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        pairs = audit_leakage(parts[first], X_test=parts[second]).pairs
        tested = pairs["second"].nunique()
        closest = int((pairs["correlation"] >= 0.99).sum())
        print(
            f"  {first} and {second}: {len(pairs)} pairs ({closest} at .99 or above), "
            f"{tested} of {len(parts[second])} images of {second}"
        )


def clock(X, n_images):
    """Mixtures of two real images each: as alike as real ones, and all different."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(X), (2, n_images))
    share = rng.uniform(0.3, 0.7, (n_images, 1, 1)).astype(np.float32)
    mixed = np.rint(X[a] * share + X[b] * (1 - share)).astype(np.uint8)
    for threshold in (0.96, 0.98):
        wall, cpu = time.perf_counter(), time.process_time()
        report = audit_leakage(mixed, threshold=threshold, max_pairs=10_000_000)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found = report.summary["found"].to_dict()
        print(
            f"{n_images} mixtures of 28 px, threshold {threshold:g}: {wall:.1f} s, "
            f"{cpu:.1f} CPU-seconds, {found}"
        )


if __name__ == "__main__":
    main()
