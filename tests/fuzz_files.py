"""Damaged image files by the thousand: each is read, or refused with its cause.

    python tests/fuzz_files.py --n 20000 --seed 0

makes DICOM, NIfTI, PNG, TIFF, JPEG, PNM and NumPy files, damages each in one of ten
ways, and reads it by `read_image`, and by `ImageSequence` in batches. It ends with a
table of what was read and refused, and of the worst time and memory, and fails if
another error came out, or anything took longer or more memory than it may.
"""

import argparse
import re
import struct
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from fuzz_seeds import IDENTITY, Seed, bombs, seeds

from skmedimg import _dicom_codecs as codecs
from skmedimg.exceptions import InvalidImageError
from skmedimg.io import ImageSequence, read_image

BATCH = 100
# Seconds of CPU a file may take, and memory beyond what it holds and becomes.
MOST_SECONDS = 1.0
SPARE_MEMORY = 96 << 20
MEMORY_RATIO = 12


# Damage: functions of (rng, data, seed) to the damaged data


def flipped_bits(rng, data, seed):
    out = bytearray(data)
    # Half of the time in the header, where it tells more.
    end = len(out) if rng.random() < 0.5 else min(len(out), 1024)
    for _ in range(rng.integers(1, 12)):
        out[rng.integers(end)] ^= 1 << rng.integers(8)
    return bytes(out)


def cut_off(rng, data, seed):
    return data[: rng.integers(len(data))]


def zeroed(rng, data, seed):
    start, length = rng.integers(len(data)), int(rng.integers(1, 200))
    end = min(len(data), start + length)
    return data[:start] + bytes(end - start) + data[end:]


def swapped_bytes(rng, data, seed):
    out = np.frombuffer(data[: len(data) // 2 * 2], np.uint16).copy()
    start = rng.integers(len(out))
    end = start + rng.integers(1, 60) if rng.random() < 0.8 else len(out)
    out[start:end] = out[start:end].byteswap()
    return out.tobytes()


def appended_garbage(rng, data, seed):
    return data + rng.bytes(int(rng.integers(1, 5000)))


def inserted_or_lost(rng, data, seed):
    at, length = rng.integers(len(data)), int(rng.integers(1, 40))
    middle = rng.bytes(length) if rng.random() < 0.5 else b""
    return data[:at] + middle + data[at + (0 if middle else length) :]


def another_tail(rng, data, seed):
    other = seed.data if rng.random() < 0.5 else rng.bytes(len(data))
    at = rng.integers(len(data))
    return data[:at] + other[rng.integers(max(1, len(other))) :]


def huge_claim(rng, data, seed):
    out = bytearray(data)
    if not seed.sizes:  # text: the first numbers
        most = str(rng.choice([99999, 999999999, 65535])).encode()
        return re.sub(rb"\d\d", most, data, count=int(rng.integers(1, 3)))
    for _ in range(rng.integers(1, 4)):
        at, kind = seed.sizes[rng.integers(len(seed.sizes))]
        if kind == "10s":
            value = str(rng.choice([2147483647, 100000, 999])).zfill(10).encode()
        elif kind.endswith("f"):
            value = float(rng.choice([1e30, -1.0, np.nan, 1e9]))
        else:
            bits = 8 * struct.calcsize(kind)
            top = (1 << (bits - kind[-1].islower())) - 1
            value = int(rng.choice([top, top // 2, top // 3, 30_000 % (top + 1)]))
        if at + struct.calcsize(kind) <= len(out):
            struct.pack_into(kind, out, at, value)
    return bytes(out)


def zero_length(rng, data, seed):
    out = bytearray(data)
    if not seed.sizes:
        return re.sub(rb"\d+", b"0", data, count=2) if rng.random() < 0.5 else b""
    for at, kind in rng.permutation(np.array(seed.sizes, object))[:2]:
        value = b"0" * 10 if kind == "10s" else 0
        if at + struct.calcsize(kind) <= len(out):
            struct.pack_into(kind, out, at, value)
    return bytes(out)


DAMAGE = [
    flipped_bits,
    cut_off,
    zeroed,
    swapped_bytes,
    appended_garbage,
    inserted_or_lost,
    another_tail,
    huge_claim,
    zero_length,
]


# Measuring


class Meter:
    """CPU and wall-clock seconds, and memory beyond what was held before.

    The process that decodes JPEG counts too. The peak of memory is that of the kernel
    (Linux); elsewhere it is reported as 0.
    """

    def __init__(self):
        self._own = None

    def start(self):
        self._pid = _worker_pid()
        self._rss = {pid: _memory(pid, "VmRSS") for pid in self._pids()}
        for pid in self._pids():
            _reset_peak(pid)
        self._cpu, self._wall = self._cpu_now(), time.perf_counter()

    def stop(self):
        self.wall = time.perf_counter() - self._wall
        self.cpu = self._cpu_now() - self._cpu
        self._pid = _worker_pid()
        usual = max(self._rss.values())
        self.memory = sum(
            max(0, _memory(pid, "VmHWM") - self._rss.get(pid, usual))
            for pid in self._pids()
        )

    def _pids(self):
        return ["self", self._pid] if self._pid else ["self"]

    def _cpu_now(self):
        import resource

        dead = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = time.process_time() + dead.ru_utime + dead.ru_stime
        pid = _worker_pid()
        if pid:
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists():
                ticks = stat.read_text().rpartition(")")[2].split()[11:13]
                total += sum(map(int, ticks)) / 100
        return total


def _worker_pid():
    process = codecs._WORKER._process
    return process.pid if process is not None and process.poll() is None else None


def _memory(pid, name):
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    return int(found[1]) << 10 if found else 0


def _reset_peak(pid):
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux: no peak is measured


# Reading


@dataclass
class Tally:
    """What came out of the files of one kind and one damage."""

    read: int = 0
    refused: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0

    def add(self, was_read, meter):
        self.read += was_read
        self.refused += not was_read
        self.wall = max(self.wall, meter.wall)
        self.cpu = max(self.cpu, meter.cpu)
        self.memory = max(self.memory, meter.memory)


class Fuzz:
    """Reads damaged files, counts, and collects what should not have happened."""

    def __init__(self, folder, keep=None):
        self.folder = Path(folder)
        self.keep = keep
        self.meter = Meter()
        self.tallies = defaultdict(Tally)
        self.findings = []
        self.sequence_seconds = 0.0
        self._batches = defaultdict(dict)

    def warm_up(self, good):
        """Every library is loaded, and the decoding process runs."""
        for i, seed in enumerate(good):
            path = self.folder / f"good-{i}{seed.suffix}"
            path.write_bytes(seed.wrap(seed.data))
            options = {"image_size": (4,) * seed.axes, "channels": 1}
            try:
                read_image(path)
                ImageSequence([path], **options)
            except InvalidImageError:
                pass  # a few of pydicom's are damaged from the first
            path.unlink()

    def try_file(self, name, data, seed, damage):
        path = self.folder / f"{name}{seed.suffix}"
        path.write_bytes(data)
        array = error = None
        self.meter.start()
        try:
            array, _ = read_image(path)
        except InvalidImageError as refused:
            error = refused
        except Exception:
            self._find(path, "another error", traceback.format_exc(limit=-3))
        self.meter.stop()
        self.tallies[seed.kind, damage].add(array is not None, self.meter)
        size = len(data) + (0 if array is None else array.nbytes)
        if error is not None:
            self._check_message(path, str(error))
        elif array is not None and (array.size == 0 or array.dtype.kind not in "buif"):
            self._find(path, "no image", f"{array.shape} {array.dtype}")
        if self.meter.cpu > MOST_SECONDS:
            self._find(path, "slow", f"{self.meter.cpu:.2f} s of CPU, {error}")
        if self.meter.memory > SPARE_MEMORY + MEMORY_RATIO * size:
            shown = f"{self.meter.memory >> 20} MiB for {size >> 20} MiB, {error}"
            self._find(path, "memory", shown)
        batch = self._batches[seed.axes]
        batch[path] = array is not None
        if len(batch) == BATCH:
            self.try_batch(seed.axes)

    def try_batch(self, axes):
        """The same files by `ImageSequence`: what cannot be read is in its table."""
        batch = self._batches.pop(axes, {})
        start = time.perf_counter()
        try:
            images = ImageSequence(
                list(batch), image_size=(8,) * axes, channels=1, on_error="skip"
            )
        except InvalidImageError as error:
            if any(batch.values()):
                table = str(error)
                if "files cannot be read" not in table:
                    self._find(self.folder, "batch", table)
        except Exception:
            self._find(self.folder, "batch", traceback.format_exc(limit=-3))
        else:
            names = [path.name for path in batch]
            kept = {names[i] for i in images.kept_}
            skipped = dict(images.skipped_.itertuples(index=False))
            if kept | set(skipped) != set(names) or kept & set(skipped):
                self._find(self.folder, "batch", "files were lost")
            for path, was_read in batch.items():
                if path.name in kept and not was_read:
                    self._find(path, "batch", "was refused by read_image")
                elif path.name in skipped:
                    self._check_message(path, f"{path.name}: {skipped[path.name]}")
            images.to_numpy()  # decoded once more
        self.sequence_seconds += time.perf_counter() - start
        for path in batch:
            path.unlink()

    def finish(self):
        for axes in list(self._batches):
            self.try_batch(axes)

    def _check_message(self, path, message):
        if not message.startswith(path.name) or len(message) < len(path.name) + 8:
            self._find(path, "message without the file or the cause", message)
        words = [w for v in IDENTITY.values() for w in re.split(r"[\^ ]", v)]
        if any(word in message for word in words if len(word) > 3):
            self._find(path, "message with a name", message)

    def _find(self, path, problem, detail):
        self.findings.append((path.name, problem, detail))
        if self.keep is not None and path.is_file():
            (self.keep / path.name).write_bytes(path.read_bytes())


_seeds = cache(lambda: list(seeds()))
_bombs = cache(lambda: list(bombs()))


def run(n, seed, folder, keep=None):
    """Make, damage and read `n` files; gives the `Fuzz` with all that was found."""
    rng = np.random.default_rng(seed)
    good, huge = _seeds(), _bombs()
    kinds = list(dict.fromkeys(one.kind for one in good))
    fuzz = Fuzz(folder, keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz.warm_up(good)
        for i in range(n):
            if i < len(huge):
                fuzz.try_file(f"{i}-bomb", huge[i].data, huge[i], "bomb")
                continue
            of_kind = [one for one in good if one.kind == kinds[i % len(kinds)]]
            one = of_kind[rng.integers(len(of_kind))]
            damage = DAMAGE[rng.integers(len(DAMAGE))]
            if rng.random() < 0.5:  # beneath the compression and the checksums
                data = one.wrap(damage(rng, one.data, one))
            else:
                whole = one.wrap(one.data)
                known = one if whole == one.data else None
                shell = known or Seed(one.kind, whole, one.suffix)
                data = damage(rng, whole, shell)
            fuzz.try_file(f"{i}-{damage.__name__}", data, one, damage.__name__)
        fuzz.finish()
    return fuzz


def report(fuzz):
    """Table by format and by damage."""
    head = f"{'':18}{'read':>7}{'refused':>9}{'worst s':>9}{'CPU s':>7}{'MiB':>6}"
    lines = [head]
    for part in (0, 1):
        total = defaultdict(Tally)
        for key, one in fuzz.tallies.items():
            whole = total[key[part]]
            whole.read += one.read
            whole.refused += one.refused
            for name in ("wall", "cpu", "memory"):
                setattr(whole, name, max(getattr(whole, name), getattr(one, name)))
        for name, one in sorted(total.items()):
            lines.append(
                f"{name.replace('_', ' '):18}{one.read:7}{one.refused:9}"
                f"{one.wall:9.3f}{one.cpu:7.2f}{one.memory >> 20:6}"
            )
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=20_000, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files with a finding")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = run(arguments.n, arguments.seed, folder, arguments.keep)
    print(report(fuzz))
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"{arguments.n} files in {wall:.0f} s ({cpu:.0f} s of CPU in this process),")
    print(f"{fuzz.sequence_seconds:.0f} s of them by ImageSequence.")
    for name, problem, detail in fuzz.findings[:20]:
        print(f"{name}: {problem}: {detail}")
    print(f"{len(fuzz.findings)} findings.")
    return 1 if fuzz.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
