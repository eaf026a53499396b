"""Sequences on their way: to worker processes, and through the steps of a pipeline."""

import pickle
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed
from PIL import Image
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmedimg.io import ImageSequence
from skmedimg.preprocessing import Resizer, WindowLevel

GREY = np.random.default_rng(0).integers(0, 256, (6, 8, 10), dtype=np.uint8)


def total(X):
    return float(X.to_numpy().sum())


@pytest.fixture
def values(tmp_path):
    """A memory map of 4000 images, half a megabyte."""
    np.save(tmp_path / "values.npy", np.arange(4000 * 64, dtype="u2").reshape(-1, 8, 8))
    return np.load(tmp_path / "values.npy", mmap_mode="r")


VIEWS = {
    "whole": lambda a: a,
    "part": lambda a: a[100:900],
    "backwards": lambda a: a[::-2],
    "plain": lambda a: np.asarray(a)[5:50],
    "columns": lambda a: a[..., ::3].transpose(0, 2, 1),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_memory_maps_pickle_as_the_name_of_their_file(values, view):
    array = view(values)
    X = ImageSequence.from_array(array, groups=np.arange(len(array)) // 2)[3:]
    pickled = pickle.dumps(X)
    assert len(pickled) < 110_000  # the groups and indices
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.to_numpy(), array[3:])
    assert again.groups.tolist() == X.groups.tolist()
    # Once more, from what was opened by name; nobody can write to the file.
    third = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(third[[0, 5]].to_numpy(), array[[3, 8]])
    assert not third._source.flags.writeable
    sums = Parallel(n_jobs=2)(delayed(total)(X[[i]]) for i in range(3))
    assert sums == [float(array[3 + i].sum()) for i in range(3)]


def test_maps_that_are_not_their_file_pickle_their_pixels(tmp_path, values):
    path = tmp_path / "values.npy"
    changed = np.load(path, mmap_mode="c")
    changed[0] = 7
    again = pickle.loads(pickle.dumps(ImageSequence.from_array(changed)))
    assert (again[0] == 7).all()
    written = np.load(path, mmap_mode="r+")
    written[0] = 9
    again = pickle.loads(pickle.dumps(ImageSequence.from_array(written)))
    assert (again[0] == 9).all()
    pickled = pickle.dumps(ImageSequence.from_array(values))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="make the ImageSequence again"):
        pickle.loads(pickled)


def half(X):
    return X[: len(X) // 2]


def test_what_workers_give_back_outlives_their_files():
    # Large enough for joblib to hand it over in a file of its own.
    pixels = np.random.default_rng(0).integers(0, 9, (5000, 20, 20))
    X = ImageSequence.from_array(pixels)
    halves = Parallel(n_jobs=2, max_nbytes=1000)(delayed(half)(X) for _ in range(2))
    for again in halves:
        np.testing.assert_array_equal(again.to_numpy(), pixels[:2500])


def test_datasets_of_hdf5_pickle_by_name_where_others_may_read(tmp_path, values):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("scans/ct", data=values)
        X = ImageSequence.from_array(file["scans/ct"])
        with pytest.raises(TypeError, match=r"open for writing.*h5py\.File\(name, 'r'"):
            pickle.dumps(X)
    with h5py.File(path, "r") as file:
        X = ImageSequence.from_array(file["scans/ct"], groups=np.arange(4000))
        pickled = pickle.dumps(X[10:20])
        sums = Parallel(n_jobs=2)(delayed(total)(X[[i]]) for i in range(3))
    assert sums == [float(values[i].sum()) for i in range(3)]
    assert len(pickled) < 80_000
    np.testing.assert_array_equal(pickle.loads(pickled).to_numpy(), values[10:20])
    with h5py.File("nowhere", "w", driver="core", backing_store=False) as file:
        file["ct"] = values[:4]
        with pytest.raises(TypeError, match="n_jobs=1"):
            pickle.dumps(ImageSequence.from_array(file["ct"]))


def test_zarr_arrays_go_to_workers(tmp_path, values):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "a.zarr", data=np.array(values[:40]))
    X = ImageSequence.from_array(array)
    assert len(pickle.dumps(X)) < 10_000
    sums = Parallel(n_jobs=2)(delayed(total)(X[[i]]) for i in range(3))
    assert sums == [float(values[i].sum()) for i in range(3)]


def lost_groups(X, step):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = step.fit_transform(X)
    said = [str(w.message) for w in caught if "groups" in str(w.message)]
    return out, said


def test_steps_that_lose_the_patients_say_so():
    X = ImageSequence.from_array(GREY.astype(float), groups=list("aabbcc"))
    for function in (np.sqrt, lambda X: np.asarray(X) / 255):
        out, said = lost_groups(X, make_pipeline(FunctionTransformer(function)))
        assert isinstance(out, np.ndarray)
        assert len(said) == 1
        assert "transformer of skmedimg.preprocessing" in said[0]
    # Nothing is lost without groups, or by those who know what they do.
    bare = ImageSequence.from_array(GREY.astype(float))
    assert not lost_groups(bare, FunctionTransformer(np.sqrt))[1]
    meant = FunctionTransformer(ImageSequence.to_numpy)
    assert not lost_groups(X, make_pipeline(meant))[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.asarray(X)
    out, said = lost_groups(X, make_pipeline(WindowLevel((40, 80)), Resizer(4)))
    assert not said
    assert out.groups.tolist() == list("aabbcc")


def test_estimators_and_splitters_lose_no_patient(tiny):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 99, (24, 8, 8)).astype(np.uint8)
    X = ImageSequence.from_array(pixels, groups=np.arange(24) // 2)
    y = np.arange(24) // 4 % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = tiny(early_stopping=True, validation_fraction=0.5, max_epochs=1)
        pipe = make_pipeline(Resizer(8), clf)
        cross_val_predict(
            pipe, X, y, groups=X.groups, cv=GroupKFold(2, shuffle=True, random_state=1)
        )


def test_transformers_keep_what_is_known_of_the_files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, image in zip(paths, [GREY[0], *GREY], strict=True):
        Image.fromarray(image).save(path)
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\n")
    X = ImageSequence(paths, list("axabbcc"), on_error="skip")
    out = make_pipeline(WindowLevel((40, 80)), Resizer(4)).fit_transform(X[1:])
    assert out.shape == (5, 4, 4)
    assert out.kept_.tolist() == [2, 3, 4, 5, 6]
    assert out.groups.tolist() == list("abbcc")
    assert out.skipped_.path.tolist() == ["1.png"]
    y = np.arange(7)
    assert y[out[[0, 4]].kept_].tolist() == [2, 6]
