"""What does augmentation cost, and what would kornia's cost?

    pip install kornia
    python benchmarks/bench_augmentation.py

Both do the same to whole batches: mirror half of the images, rotate, translate, scale
and change contrast and brightness of colour images, drawn anew for each; then, one by
one, some of the other changes. One thread; calls take turns; images a CPU-second,
median of all rounds, and the ratio of neighbours with its quartiles. The presets are
reported alone.
"""

import argparse
import time

import numpy as np
import torch

from skmedimg.augmentation import PRESETS, Augmentation

SIZES = {"28": (28, 28), "64": (64, 64), "150": (150, 150)}
AFFINE = {"flip": ("W",), "rotation": 12, "translation": 0.06, "scale": 0.1}
LINEAR = {"gain": 0.15, "shift": 0.15}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, size in SIZES.items():
        x = torch.rand(args.batch, 3, *size)
        for title, pair in pairs().items():
            print(f"{name} px, {title}:", compare(x, *pair, args.rounds))
    x = torch.rand(args.batch, 1, 28, 28)
    for name, params in PRESETS.items():
        seconds = clock(ours(params), x, args.rounds)
        print(f'28 px, "{name}": {len(x) / np.median(seconds):.0f} images/s')
    x = torch.rand(16, 1, 28, 28, 28)
    seconds = clock(ours(PRESETS["auto"]), x, args.rounds)
    print(f'28 x 28 x 28, "auto": {len(x) / np.median(seconds):.0f} volumes/s')


def ours(params):
    augment, generator = Augmentation(**params), torch.Generator().manual_seed(0)
    return lambda x: augment(x, generator)


def pairs():
    """Ours and kornia's doing the same."""
    try:
        import kornia.augmentation as K
    except ImportError:
        return {
            "affine and linear": (ours(AFFINE | LINEAR), None),
            "blur": (ours({"blur": 1.0}), None),
        }
    affine = K.RandomAffine(12, (0.06, 0.06), (1 / 1.1, 1.1), p=1.0)
    jitter = K.ColorJiggle(brightness=0.15, contrast=0.15, p=1.0)
    mirror = K.RandomHorizontalFlip(p=0.5)
    blur = K.RandomGaussianBlur((7, 7), (0.1, 1.0), p=1.0)
    noise = K.RandomGaussianNoise(std=0.1, p=1.0)
    as_one = K.AugmentationSequential(mirror, affine, jitter)
    return {
        "affine and linear": (ours(AFFINE | LINEAR), as_one),
        "blur": (ours({"blur": 1.0}), blur),
        "noise": (ours({"noise": 0.1}), noise),
    }


def clock(function, x, rounds):
    function(x)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        function(x)
        seconds.append(time.process_time() - start)
    return np.array(seconds)


def compare(x, own, other, rounds):
    if other is None:
        seconds = clock(own, x, rounds)
        return f"{len(x) / np.median(seconds):.0f} images/s (kornia is not installed)"
    turns = [(clock(own, x, 1)[0], clock(other, x, 1)[0]) for _ in range(rounds)]
    mine, theirs = np.array(turns).T
    low, middle, high = np.quantile(theirs / mine, [0.25, 0.5, 0.75])
    return (
        f"{len(x) / np.median(mine):.0f} images/s, kornia "
        f"{len(x) / np.median(theirs):.0f}, ratio {middle:.2f} ({low:.2f}-{high:.2f})"
    )


if __name__ == "__main__":
    main()
