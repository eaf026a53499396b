"""Fixtures, and what must be set before torch and scikit-learn are imported."""

import os

# Two test processes that each take all cores slow one another tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without it scikit-learn skips its array API checks.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import random
from pathlib import Path

import numpy as np
import pytest

# Importing it draws once from Python's global generator, which a fixture watches.
import sklearn.model_selection  # noqa: F401

DATA = Path(
    os.environ.get("SKMEDIMG_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)


@pytest.fixture
def data_file():
    """Path of a real file; the test skips where it is absent."""

    def find(name):
        path = DATA / name
        if not path.exists():
            pytest.skip(f"needs {name} in the folder SKMEDIMG_TEST_DATA names")
        return path

    return find


@pytest.fixture(autouse=True)
def global_random_state_stays():
    """No test may move the global generators of Python, NumPy and torch."""
    import torch

    before = _global_states(torch)
    yield
    for name, state in _global_states(torch).items():
        assert state == before[name], f"the global generator of {name} was moved"


def _global_states(torch):
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "Python": random.getstate(),
        "NumPy": (kind, keys.tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture
def images():
    """Forty grey images of 10 pixels with a bright square in those of class 1."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 80, (40, 10, 10), dtype=np.uint8)
    y = np.arange(40) % 2
    X[y == 1, 3:7, 3:7] += 100
    return X, y


@pytest.fixture(scope="session")
def tiny():
    """Makes classifiers that fit in milliseconds."""
    from skmedimg import CNNImageClassifier
    from skmedimg.architectures import ResNet

    def make(**params):
        small = {"architecture": ResNet(width=4, depth=1), "max_epochs": 1}
        return CNNImageClassifier(**small | {"random_state": 0} | params)

    return make
