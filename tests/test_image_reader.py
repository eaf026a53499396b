"""Pipelines that take file names."""

import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from skmedimg.preprocessing import ImageReader


@pytest.fixture
def files(images, tmp_path, monkeypatch):
    """Names of forty PNG files, and their labels."""
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")
    X, y = images
    names = [str(tmp_path / f"{i}.png") for i in range(len(X))]
    for name, image in zip(names, X, strict=True):
        Image.fromarray(image).save(name)
    return np.array(names), y


def test_a_pipeline_takes_file_names(files, images, tiny, tmp_path):
    names, y = files
    pipe = make_pipeline(ImageReader((10, 10), cache=tmp_path / "cache"), tiny())
    probability = pipe.fit(names, y).predict_proba(names)
    plain = tiny().fit(images[0], y).predict_proba(images[0])
    np.testing.assert_array_equal(probability, plain)
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.predict_proba(names), probability)
    cross_validate(pipe, names, y, cv=2, error_score="raise")


def test_one_number_is_for_both_axes(files):
    names, _ = files
    assert ImageReader(8).fit(names).transform(names).shape == (40, 8, 8)
    assert ImageReader(3).fit(names[:2]).channels_ == 1
    assert ImageReader(3, channels=3).fit(names[:2]).channels_ == 3


def test_a_reader_of_known_channels_need_not_be_fitted(files):
    names, _ = files
    assert ImageReader(8, channels=3).transform(names).shape == (40, 8, 8, 3)


def test_forms_of_file_names(files, images):
    names, _ = files
    reader = ImageReader((10, 10)).fit(names)
    for form in (list(names), pd.Series(names, index=range(5, 45)), names[:, None]):
        np.testing.assert_array_equal(np.asarray(reader.transform(form)), images[0])


def test_channels_are_those_of_fit(files, tmp_path):
    names, _ = files
    colour = str(tmp_path / "colour.png")
    Image.new("RGB", (10, 10), (255, 0, 0)).save(colour)
    grey = ImageReader((10, 10)).fit(names)
    assert grey.transform([colour]).shape == (1, 10, 10)
    mixed = ImageReader((10, 10)).fit([names[0], colour])
    assert mixed.transform(names[:2]).shape == (2, 10, 10, 3)
    assert ImageReader((8, 8), channels=3).fit_transform(names).shape == (40, 8, 8, 3)


def test_a_reader_reads_files_only(files, images):
    reader = ImageReader((10, 10))
    with pytest.raises(TypeError, match="leave ImageReader out"):
        reader.fit(images[0])
    with pytest.raises(TypeError, match="must hold file names"):
        reader.fit([1, 2])
    with pytest.raises(NotFittedError):
        reader.transform(files[0])
    with pytest.raises(ValueError, match="'channels' parameter"):
        ImageReader((10, 10), channels=2).fit(files[0])


def test_no_file_names(files, tiny):
    names, y = files
    with pytest.raises(ValueError, match="X is empty"):
        ImageReader(10).fit([])
    pipe = make_pipeline(ImageReader(10), tiny()).fit(names, y)
    for nothing in ([], np.empty((0, 1)), pd.Series([], dtype=str)):
        with pytest.raises(ValueError, match="X is empty"):
            pipe.predict(nothing)
