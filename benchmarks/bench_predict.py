"""What does `predict_proba` cost beside the network alone?

    python benchmarks/bench_predict.py

The bare side is the fitted network as an expert would run it: channels last,
`inference_mode`, one batch of prepared float32 images that lies on --device already.
`predict_proba` takes the uint8 images as they are: it checks, converts and normalises
them, looks for values out of range, and gives probabilities. ONNX Runtime is reported
on a CPU where it is installed. Calls take turns; the ratio is of neighbours, its median
and quartiles are given.
"""

import argparse
import os
import time

import numpy as np
import torch

from skmedimg import CNNImageClassifier
from skmedimg._checks import check_device
from skmedimg._feed import to_tensor
from skmedimg.architectures import ResNet

SHAPES = {"28": (28, 28), "64": (64, 64), "150": (150, 150), "28x28x28": (28, 28, 28)}
BATCHES = (1, 64, 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["28", "64"], choices=SHAPES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--device", type=check_device, default="auto")
    parser.add_argument("--seconds", type=float, default=6.0, help="a comparison")
    args = parser.parse_args()
    for threads in args.threads:
        torch.set_num_threads(threads)
        for size in args.sizes:
            clf, X = fitted(SHAPES[size], args.width, args.device)
            for batch in BATCHES:
                times = take_turns(contenders(clf, X[:batch], threads), args.seconds)
                print(f"{size} px, batch {batch}, {threads} threads:", tell(times))
    print(f"{args.device}, {os.cpu_count()} cores, torch {torch.__version__}")


def fitted(shape, width, device):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (max(BATCHES), *shape), dtype=np.uint8)
    clf = CNNImageClassifier(
        ResNet(width=width),
        max_epochs=1,
        device=device,
        precision="float32",  # as the bare side computes
        random_state=0,
    )
    return clf.fit(X[:64], np.arange(64) % 2), X


def contenders(clf, X, threads):
    x = to_tensor(X[:, None], clf.image_spec_, torch.device(clf.device_))

    def bare():
        with torch.inference_mode():
            # On a GPU, reading back waits for what is still under way, on both sides.
            return torch.sigmoid(clf.module_(x)).cpu().numpy()

    chosen = {"predict_proba": lambda: clf.predict_proba(X), "bare": bare}
    session = onnx_session(clf, x, threads) if x.device.type == "cpu" else None
    if session is not None:
        feed = {session.get_inputs()[0].name: x.contiguous().numpy()}
        chosen["onnxruntime"] = lambda: session.run(None, feed)
    return chosen


def onnx_session(clf, x, threads):
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        return None
    program = torch.onnx.export(clf.module_, (x,), dynamo=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, options)


def take_turns(contenders, seconds):
    times = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["bare"]) < 5:
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def tell(times):
    parts = []
    for name, values in times.items():
        middle = 1000 * np.median(values)
        low, ratio, high = np.quantile(times["bare"] / values, [0.25, 0.5, 0.75])
        speed = (
            "" if name == "bare" else f" = {ratio:.2f} x bare ({low:.2f}-{high:.2f})"
        )
        parts.append(f"{name} {middle:.2f} ms{speed}")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
