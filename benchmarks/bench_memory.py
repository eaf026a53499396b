"""How much memory does `fit` take beside that of the images?

    python benchmarks/bench_memory.py

Fits the default classifier on uint8 images of growing number, each in a process of its
own, and compares the highest private memory (RssAnon) with that of the smallest: what
a byte of X costs. A float32 copy would cost five bytes, X itself one. Linux only, for
/proc. For images on disk see bench_out_of_core.py.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from bench_out_of_core import PrivateMemory, private_mb

COUNTS = (30_000, 60_000, 120_000)
SIDE = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child)))
        return
    runs = [child(count) for count in args.counts]
    for count, run in zip(args.counts, runs, strict=True):
        grown = run["peak"] - runs[0]["peak"]
        more = run["megabytes"] - runs[0]["megabytes"]
        per_byte = f", {grown / more:.3f} bytes a byte" if more else ""
        print(
            f"{count} images, {run['megabytes']:.0f} MB: {run['before']:.0f} MB before "
            f"fit (X included), {run['peak']:.0f} at most{per_byte}"
        )


def child(count):
    command = [sys.executable, __file__, "--child", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(count):
    from skmedimg import CNNImageClassifier
    from skmedimg.architectures import ResNet

    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
    y = np.arange(count) % 2
    clf = CNNImageClassifier(ResNet(width=4, depth=2), max_epochs=1, random_state=0)
    before = private_mb()
    with PrivateMemory() as memory:
        clf.fit(X, y)
    return {"before": before, "peak": memory.peak, "megabytes": X.nbytes / 1e6}


if __name__ == "__main__":
    main()
