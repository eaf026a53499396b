"""Fixtures, and what must be set before torch and scikit-learn are imported."""

import os

# Two test processes that each take all cores slow one another tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without it scikit-learn skips its array API checks.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Worker processes outlive a test and keep their environment: one key for all of them,
# which also leaves the user's own key alone.
os.environ["SKMEDIMG_KEY"] = "a key for tests"

import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

# Importing it draws once from Python's global generator, which a fixture watches.
import sklearn.model_selection  # noqa: F401

# Helpers that several test modules share: evaluation_studies, fuzz_files and others.
sys.path.append(str(Path(__file__).parent))

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


@pytest.fixture
def write_dicom(tmp_path):
    """Write a DICOM file of 4 × 6 pixels, or of `pixels`, with the elements given.

    None leaves an element out; a dictionary is the only item of a sequence, a list of
    dictionaries are its items.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    def write(pixels=None, name="image.dcm", syntax=ExplicitVRLittleEndian, **elements):
        if pixels is None:
            pixels = np.arange(24, dtype=np.uint16).reshape(4, 6)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        samples = 3 if pixels.ndim > 2 and pixels.shape[-1] == 3 else 1
        bits = 8 * pixels.dtype.itemsize
        size = pixels.shape[:-1] if samples == 3 else pixels.shape
        defaults = {
            "Modality": "OT",
            "Rows": size[-2],
            "Columns": size[-1],
            "NumberOfFrames": size[0] if len(size) == 3 else None,
            "SamplesPerPixel": samples,
            "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
            "PlanarConfiguration": 0 if samples == 3 else None,
            "BitsAllocated": bits,
            "BitsStored": elements.get("BitsAllocated", bits),
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        }
        values = defaults | elements
        values.setdefault("HighBit", values["BitsStored"] - 1)
        little = pixels.astype(pixels.dtype.newbyteorder("<"))
        values.setdefault("PixelData", little.tobytes() + b"\0" * (pixels.nbytes % 2))
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some tests write what is not allowed
            for keyword, value in values.items():
                if value is not None:
                    setattr(dataset, keyword, _items(value))
            if "PixelData" in dataset:
                dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
            dataset.save_as(path, enforce_file_format=False)
        return path

    return write


def _items(value):
    """Dictionaries as pydicom's data sets."""
    from pydicom.dataset import Dataset

    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return value
    items = []
    for entry in value:
        item = Dataset()
        for keyword, own in entry.items():
            setattr(item, keyword, _items(own))
        items.append(item)
    return items
