"""What does `fit` cost beside a bare PyTorch loop, and beside stock skorch?

    python benchmarks/bench_overhead.py                        # about half an hour
    python benchmarks/bench_overhead.py --sizes 28 --rounds 3  # a quick look

All three train the same network on the same images with the same optimiser and batch
size, without augmentation. The bare loop is what an expert would write: uint8 images in
one tensor, batches gathered by index, channels last, a fused optimiser, no value read
back. Stock skorch is `NeuralNetClassifier` with its Dataset and DataLoader on float32
images. All three run on --device; a GPU finishes its work before the clock is read.
Epochs take turns, A B C A B C …; the ratio is of neighbouring epochs, its median and
quartiles are given.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNetClassifier
from torch.nn.functional import binary_cross_entropy_with_logits

from skmedimg import CNNImageClassifier
from skmedimg._checks import check_device
from skmedimg.architectures import ResNet

# Images an epoch, for an epoch of about a second on one core.
SHAPES = {
    "28": ((28, 28), 1500),
    "64": ((64, 64), 1000),
    "150": ((150, 150), 250),
    "28x28x28": ((28, 28, 28), 300),
}
LR, DECAY = 1e-3, 0.01


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--widths", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", type=check_device, default="auto")
    parser.add_argument("--out", type=Path, help="table of all epochs, as CSV")
    args = parser.parse_args()
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for size in args.sizes:
            for batch in args.batches:
                for width in args.widths:
                    setting = {"size": size, "batch": batch, "width": width}
                    setting |= {"threads": threads, "device": args.device}
                    rows += compare(setting, args.rounds)
    frame = pd.DataFrame(rows)
    if args.out:
        frame.to_csv(args.out, index=False)
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {sys.platform}")


def compare(setting, rounds):
    shape, n = SHAPES[setting["size"]]
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    y = rng.integers(0, 2, n)
    contenders = {
        kind: make(X, y, *(setting[k] for k in ("batch", "width", "device")))
        for kind, make in (("fit", ours), ("bare", bare), ("skorch", stock))
    }
    rows = [
        {kind: epoch() for kind, epoch in contenders.items()} | setting
        for _ in range(rounds + 1)
    ][1:]  # the first round warms up
    frame = pd.DataFrame(rows)
    lines = []
    for title, ratio in (
        ("fit / bare", frame.fit / frame.bare),
        ("skorch / fit", frame.skorch / frame.fit),
    ):
        low, middle, high = ratio.quantile([0.25, 0.5, 0.75])
        lines.append(f"{title} {middle:.2f} ({low:.2f}-{high:.2f})")
    ms = 1000 * frame.fit.median() / n
    print(*(f"{k} {v}" for k, v in setting.items()), *lines, f"{ms:.2f} ms an image")
    sys.stdout.flush()
    return rows


def ours(X, y, batch, width, device):
    clf = CNNImageClassifier(
        architecture=ResNet(width=width),
        augmentation=None,
        batch_size=batch,
        lr=LR,
        weight_decay=DECAY,
        label_smoothing=0.0,
        device=device,
        precision="float32",  # as the others compute
        random_state=0,
    )

    def epoch():
        # One epoch a call; what fit does before the first is not counted. Its clock
        # is read after the losses, which wait for the device.
        clf.partial_fit(X, y, classes=[0, 1])
        return clf.history_.seconds.iloc[-1]

    return epoch


def clocked(epoch, device):
    """Seconds of one epoch, with all that it has started on the device."""

    def clock():
        start = time.perf_counter()
        epoch()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return clock


def network(X, width):
    dims = X.ndim - 1
    torch.manual_seed(0)
    return ResNet(width=width).build(1, 1, dims, X.shape[1:])


def optimizer_of(net):
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, weight_decay=DECAY, fused=True)


def bare(X, y, batch, width, device):
    memory = torch.channels_last if X.ndim == 3 else torch.channels_last_3d
    net = network(X, width).to(device, memory_format=memory)
    optimizer = optimizer_of(net)
    images = torch.from_numpy(X)[:, None].to(device)
    target = torch.from_numpy(y).float().to(device)
    mean, std = X.mean(), X.std()

    def epoch():
        net.train()
        order = torch.randperm(len(images), device=device)
        for at in order.tensor_split(-(-len(images) // batch)):
            x = images[at].to(torch.float32, memory_format=memory)
            x = x.sub_(mean).div_(std)
            optimizer.zero_grad(set_to_none=True)
            loss = binary_cross_entropy_with_logits(net(x)[:, 0], target[at])
            loss.backward()
            optimizer.step()

    return clocked(epoch, device)


class TwoLogits(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        z = self.net(x)
        return torch.cat([torch.zeros_like(z), z], 1)


def stock(X, y, batch, width, device):
    images = ((X - X.mean()) / X.std()).astype(np.float32)[:, None]
    net = NeuralNetClassifier(
        TwoLogits(network(X, width)),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=DECAY,
        lr=LR,
        batch_size=batch,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    )
    net.initialize()

    def epoch():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.partial_fit(images, y)

    return clocked(epoch, device)


if __name__ == "__main__":
    main()
