"""What does it cost to leave the images on disk?

    python benchmarks/bench_out_of_core.py            # 16 GB of disk, half an hour
    python benchmarks/bench_out_of_core.py --images 20000 --rounds 1      # a quick look

Writes images of 64 × 64 pixels as files, decodes them once into the cache of an
`ImageSequence`, and trains one epoch on them in turns: from the cache, and from an
array in memory. Every fit runs in a process of its own, whose private memory (RssAnon:
what it has for itself, mapped files not counted) is watched. Asked for: at least 0.8
times the speed, at no more than a tenth of the images' bytes. At last two processes
cross-validate on one cache. Linux only, for /proc.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SIZE = (64, 64)
LEAST_SPEED, LEAST_RATIO = 0.8, 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="kept for the next time")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(CHILDREN[args.child](args.folder)))
        return 0
    if args.folder:
        args.folder.mkdir(exist_ok=True)
        return compare(args.folder, args.images, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        return compare(Path(folder), args.images, args.rounds)


def compare(folder, n_images, rounds):
    paths = write_files(folder / "files", n_images)
    gigabytes = n_images * np.prod(SIZE) * 4 / 1e9
    print(f"{n_images} files of {SIZE} float32: {gigabytes:.2f} GB of pixels")
    for what in ("built", "found again"):
        start = time.perf_counter()
        sequence = open_sequence(folder, paths)
        print(f"cache {what} in {time.perf_counter() - start:.0f} s")
    pickled = pickle.dumps(sequence)
    (folder / "sequence.pickle").write_bytes(pickled)
    print(f"the sequence pickles as {len(pickled) / 1e6:.1f} MB")

    runs = {"memory": [], "disk": []}
    for _ in range(rounds):
        for kind in runs:
            runs[kind].append(child(kind, folder))
            print(f"  {kind:6}", describe(runs[kind][-1]), flush=True)
    ratios = {}
    for what in ("images_per_second", "fit_images_per_second"):
        pairs = zip(runs["disk"], runs["memory"], strict=True)
        ratios[what] = [disk[what] / memory[what] for disk, memory in pairs]
        print(
            f"{what}, disk / memory: {np.mean(ratios[what]):.2f} "
            f"({min(ratios[what]):.2f} to {max(ratios[what]):.2f}, {rounds} rounds)"
        )
    private = max(run["private_mb"] for run in runs["disk"])
    times = 1000 * gigabytes / private
    print(f"pixels / private memory of the process: {times:.1f}")
    shared = child("folds", folder)
    print(f"cross-validation, n_jobs=2: {shared}")
    good = np.mean(ratios["images_per_second"]) >= LEAST_SPEED and times >= LEAST_RATIO
    good = good and shared["files_mapped"] == 1 and shared["processes"] == 2
    print("as asked for" if good else "NOT as asked for")
    return 0 if good else 1


def describe(run):
    return (
        f"{run['images_per_second']:6.0f} images/s in the epoch, "
        f"{run['fit_images_per_second']:6.0f} over the whole fit, "
        f"{run['private_mb']:5.0f} MB private"
    )


def write_files(folder, n_images):
    """Noise with a brighter middle in every other image; written once."""
    paths = [folder / f"{i // 1000:04}" / f"{i:07}.npy" for i in range(n_images)]
    rng = np.random.default_rng(0)
    for i, path in enumerate(paths):
        if i % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            image = rng.normal(100, 20, SIZE).astype(np.float32)
            image[24:40, 24:40] += 30 * (i % 2)
            np.save(path, image)
    return paths


def open_sequence(folder, paths):
    from skmedimg.io import ImageSequence

    return ImageSequence(paths, cache=folder / "cache", n_jobs=2)


def child(kind, folder):
    command = [sys.executable, __file__, "--child", kind, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_sequence(folder):
    sequence = pickle.loads((folder / "sequence.pickle").read_bytes())
    return sequence, np.arange(len(sequence)) % 2


def classifier():
    from skmedimg import CNNImageClassifier
    from skmedimg.architectures import ResNet

    # A small network without augmentation: the feed has nothing to hide behind.
    return CNNImageClassifier(
        architecture=ResNet(width=8, depth=3),
        augmentation=None,
        max_epochs=1,
        batch_size=64,
        random_state=0,
    )


def fit_once(X, y):
    with PrivateMemory() as memory:
        start = time.perf_counter()
        clf = classifier().fit(X, y)
        seconds = time.perf_counter() - start
    return {
        "images_per_second": float(clf.history_.images_per_second.iloc[0]),
        "fit_images_per_second": len(y) / seconds,
        "private_mb": memory.peak,
    }


def fit_from_disk(folder):
    return fit_once(*read_sequence(folder))


def fit_from_memory(folder):
    sequence, y = read_sequence(folder)
    return fit_once(np.asarray(sequence), y)


def cross_validate_in_two(folder):
    """Two folds in two processes: which files do they map, and what do they own?"""
    from sklearn.model_selection import cross_validate

    sequence, y = read_sequence(folder)
    few = slice(0, 20_000)
    scores = cross_validate(
        classifier(), sequence[few], y[few], cv=2, n_jobs=2, scoring=look_around
    )
    return {
        "processes": len(set(scores["test_process"])),
        "files_mapped": len(set(scores["test_inode"])),
        "private_mb": scores["test_private_mb"].round().tolist(),
        "accuracy": scores["test_accuracy"].round(3).tolist(),
    }


def look_around(clf, X, y):
    """A scorer that also tells what its worker process has mapped."""
    accuracy = clf.score(X, y)
    (inode,) = mapped_inodes("pixels.npy")
    return {
        "accuracy": accuracy,
        "process": os.getpid(),
        "inode": inode,
        "private_mb": private_mb(),
    }


CHILDREN = {
    "memory": fit_from_memory,
    "disk": fit_from_disk,
    "folds": cross_validate_in_two,
}


def mapped_inodes(name):
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if line.endswith(name)}


def private_mb(pid="self"):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("this system does not tell RssAnon")


class PrivateMemory:
    """Highest RssAnon of this process, in MB, looked at fifty times a second."""

    def __enter__(self):
        self.peak, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.over.wait(0.02):
            self.peak = max(self.peak, private_mb())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


if __name__ == "__main__":
    sys.exit(main())
