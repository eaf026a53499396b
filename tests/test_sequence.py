"""Files as one lazy array: values, shapes, the cache, what is left out, privacy."""

import json
import pickle
import stat
from functools import partial

import numpy as np
import pytest
from joblib import Parallel, delayed
from PIL import Image
from sklearn.model_selection import cross_validate
from sklearn.utils import _safe_indexing

from skmedimg.exceptions import InvalidImageError
from skmedimg.io import ImageSequence, list_windows, read_dicom_series, read_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8, 10), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_key(monkeypatch):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")


@pytest.fixture
def files(tmp_path):
    """Six PNG files of 8 × 10 pixels, in folders of their own."""
    paths = []
    for i, image in enumerate(GREY):
        path = tmp_path / "images" / f"P{i // 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        paths.append(path)
    return paths


def only_folder(cache):
    (folder,) = cache.iterdir()
    return folder


def read_transposed(path):
    return read_image(path)[0].T


@pytest.mark.parametrize("cached", [False, True])
def test_files_are_an_array(files, tmp_path, cached):
    X = ImageSequence(files, list("aabbcc"), cache=tmp_path / "c" if cached else None)
    assert X.shape == (6, 8, 10)
    assert X.ndim == 3
    assert X.dtype == np.uint8
    assert len(X) == 6
    np.testing.assert_array_equal(X.to_numpy(), GREY)
    np.testing.assert_array_equal(X[-1], GREY[-1])
    assert X[0].flags.writeable
    for key in (slice(1, 5, 2), [4, 0, 0], np.arange(6) > 3, (np.array([2]), ...), []):
        rows = key[0] if isinstance(key, tuple) else key
        rows = np.asarray(rows, dtype=int) if isinstance(rows, list) else rows
        part = X[key]
        assert isinstance(part, ImageSequence)
        np.testing.assert_array_equal(part.to_numpy(), GREY[rows])
        np.testing.assert_array_equal(part.groups, np.array(list("aabbcc"))[rows])
        np.testing.assert_array_equal(part.kept_, np.arange(6)[rows])
    assert repr(X) == "ImageSequence(shape=(6, 8, 10), dtype=uint8, 3 groups)"
    again = pickle.loads(pickle.dumps(_safe_indexing(X, [5, 1])))
    np.testing.assert_array_equal(again.to_numpy(), GREY[[5, 1]])


def test_an_index_beyond_the_end(files):
    X = ImageSequence(files)
    for key in (6, -7, np.int64(99)):
        with pytest.raises(
            IndexError, match=f"index {key} is out of bounds: there are 6 images"
        ):
            X[key]
    assert len(list(X[:2])) == 2


def test_size_in_values_and_bytes():
    X = ImageSequence(GREY.astype(np.float32))
    assert (X.size, X.nbytes) == (480, 1920)
    assert (X[:2].size, X[:2].nbytes) == (160, 640)


def test_no_files():
    for nothing in ([], (), np.array([], dtype=str)):
        with pytest.raises(ValueError, match="source is empty"):
            ImageSequence(nothing)


def test_array_form_takes_no_option_of_files():
    with pytest.raises(TypeError, match="are for files"):
        ImageSequence(GREY, image_size=(4, 4))
    with pytest.raises(TypeError, match="got list"):
        ImageSequence([1, 2])
    with pytest.raises(TypeError, match="load_image_folder"):
        ImageSequence("folder")


@pytest.mark.parametrize("as_kind", [np.array, tuple, "series"])
def test_paths_of_any_kind(files, as_kind):
    paths = [str(path) for path in files]
    if as_kind == "series":
        as_kind = pytest.importorskip("pandas").Series
    np.testing.assert_array_equal(np.asarray(ImageSequence(as_kind(paths))), GREY)


def test_cache_is_private_and_has_no_names(files, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)
    ImageSequence(files, cache=cache, n_jobs=2)
    folder = only_folder(cache)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == [
        "pixels.npy",
        "records.json",
    ]
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b".png" not in path.read_bytes()


def test_default_cache_is_in_the_users_folder(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.platform", "linux")
    ImageSequence(files, cache=True)
    assert only_folder(tmp_path / "home" / "skmedimg" / "images").is_dir()


def test_cache_spares_decoding_and_knows_content(files, tmp_path):
    cache, marks = tmp_path / "cache", tmp_path / "marks"
    marks.mkdir()
    reader = partial(read_and_mark, marks)
    for _ in range(2):
        X = ImageSequence(files, reader=reader, cache=cache)
    assert len(list(marks.iterdir())) == 6
    moved = [path.rename(path.with_name(f"renamed {path.name}")) for path in files]
    ImageSequence(moved, reader=reader, cache=cache)
    assert len(list(marks.iterdir())) == 6
    Image.fromarray(255 - GREY[0]).save(moved[0])
    again = ImageSequence(moved, reader=reader, cache=cache)
    np.testing.assert_array_equal(again[0], 255 - GREY[0])
    np.testing.assert_array_equal(X[0], GREY[0])
    assert len(list(cache.iterdir())) == 2


def read_and_mark(marks, path):
    number = sum(mark.name.startswith(path.stem) for mark in marks.iterdir())
    (marks / f"{path.stem}.{number}").touch()
    return read_image(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"image_size": (4, 5)},
        {"channels": 3},
        {"window": (100, 50)},
        {"reader": read_transposed},
        {"image_size": (4, 5), "interpolation": "nearest"},
    ],
)
def test_parameters_have_caches_of_their_own(files, tmp_path, changed):
    plain = ImageSequence(files, cache=tmp_path / "cache")
    other = ImageSequence(files, cache=tmp_path / "cache", **changed)
    expected = ImageSequence(files, **changed)
    np.testing.assert_array_equal(np.asarray(other), np.asarray(expected))
    np.testing.assert_array_equal(plain.to_numpy(), GREY)


def test_reader_that_cannot_be_told_apart_is_not_cached(files, tmp_path):
    with pytest.raises(ValueError, match="top level of a module"):
        ImageSequence(files, reader=lambda path: GREY[0], cache=tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "empty records", "no pixels"])
def test_damaged_cache_is_made_again(files, tmp_path, damage):
    cache = tmp_path / "cache"
    ImageSequence(files, cache=cache)
    folder = only_folder(cache)
    pixels = folder / "pixels.npy"
    if damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[:200])
    elif damage == "empty records":
        (folder / "records.json").write_text("")
    else:
        pixels.unlink()
    X = ImageSequence(files, cache=cache)
    np.testing.assert_array_equal(X.to_numpy(), GREY)
    assert only_folder(cache) == folder


def test_failed_build_leaves_nothing(files, tmp_path):
    files[3].write_bytes(b"no image")
    with pytest.raises(InvalidImageError):
        ImageSequence(files, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_pickle_carries_the_path_of_the_cache_only(tmp_path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], RNG.normal(size=(64, 64)))
    X = ImageSequence(paths, cache=tmp_path / "cache")
    X.to_numpy()
    assert len(pickle.dumps(X)) < 4000
    sums = Parallel(n_jobs=2)(delayed(total)(X[[i]]) for i in range(3))
    assert sums == [float(np.load(path).sum()) for path in paths]
    again = pickle.loads(pickle.dumps(X))
    for path in only_folder(tmp_path / "cache").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="cache of these images is gone"):
        again[0]


def total(X):
    return float(X.to_numpy().sum())


def test_workers_that_build_at_once_agree(files, tmp_path):
    built = Parallel(n_jobs=2)(
        delayed(ImageSequence)(files, cache=tmp_path / "cache") for _ in range(4)
    )
    for X in built:
        np.testing.assert_array_equal(X.to_numpy(), GREY)
    assert only_folder(tmp_path / "cache")


def test_parallel_decoding_is_the_same(files):
    X = ImageSequence(files * 12, n_jobs=2, image_size=(4, 4))
    one = ImageSequence(files, image_size=(4, 4))
    np.testing.assert_array_equal(X.to_numpy(), np.tile(one, (12, 1, 1)))


def save_kinds(folder):
    rgb = RNG.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    alpha = np.concatenate([rgb, np.full((8, 10, 1), 7, np.uint8)], axis=-1)
    palette = Image.fromarray(rgb).quantize(16)
    images = {
        "grey": Image.fromarray(GREY[0]),
        "rgb": Image.fromarray(rgb),
        "rgba": Image.fromarray(alpha),
        "palette": palette,
    }
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    paths = [folder / f"{name}.png" for name in images]
    return paths, rgb, np.asarray(palette.convert("RGB"))


def test_grey_colour_alpha_and_palette_are_one(tmp_path):
    paths, rgb, palette = save_kinds(tmp_path)
    X = ImageSequence(paths)
    assert X.shape == (4, 8, 10, 3)
    np.testing.assert_array_equal(X[0], np.repeat(GREY[0][..., np.newaxis], 3, -1))
    np.testing.assert_array_equal(X[1], rgb)
    np.testing.assert_array_equal(X[2], rgb)
    np.testing.assert_array_equal(X[3], palette)
    grey = ImageSequence(paths, channels=1)
    assert grey.shape == (4, 8, 10)
    np.testing.assert_array_equal(grey[0], GREY[0])
    np.testing.assert_array_equal(grey[1], np.rint(rgb @ [0.299, 0.587, 0.114]))


def test_sizes_that_differ_need_image_size(files):
    Image.fromarray(GREY[0][:5]).save(files[4])
    with pytest.raises(ValueError, match=r"P0/0.png has 8 × 10 .*P2/4.png 5 × 10.*ima"):
        ImageSequence(files)
    assert ImageSequence(files, image_size=(8, 10)).shape == (6, 8, 10)


def test_image_size_must_fit_the_axes(files):
    with pytest.raises(InvalidImageError, match=r"P0/0.png: has 2 spatial axes"):
        ImageSequence(files, image_size=(4, 4, 4))


def test_mixed_depths_are_said(files):
    Image.fromarray(GREY[1].astype(np.uint16) * 257).save(files[1])
    with pytest.warns(UserWarning, match=r"8 bits \(P0/0.png\) and some 16 \(P0/1.png"):
        X = ImageSequence(files)
    assert X.dtype == np.uint16


def test_scales_that_differ_are_counted(write_dicom, files, tmp_path):
    ct = [
        write_dicom(
            name=f"ct{i}.dcm", Modality="CT", RescaleSlope=1, RescaleIntercept=-1024
        )
        for i in range(3)
    ]
    mr = [write_dicom(name="mr.dcm", Modality="MR")]
    cache = tmp_path / "cache"
    said = r"of 4 files, 3 in HU \(ct0.dcm\), 1 of MR without a unit \(mr.dcm\)"
    for place in (None, cache, cache):  # also where nothing is decoded
        with pytest.warns(UserWarning, match=said):
            ImageSequence(ct + mr, cache=place)
    with pytest.warns(UserWarning, match=r"3 in HU .*, 1 without a unit \(.*0.png\)"):
        ImageSequence([*ct, files[0]], image_size=(4, 6))
    np.save(tmp_path / "float.npy", GREY[0] / 255)
    with pytest.warns(UserWarning, match="8 bits .* and some floating-point values"):
        ImageSequence([files[0], tmp_path / "float.npy"])
    ImageSequence(ct)
    ImageSequence([*ct, *mr], interpolation="nearest")
    films = [write_dicom(name=f"{kind}.dcm", Modality=kind) for kind in ("CR", "DX")]
    ImageSequence(films)


def test_one_number_is_for_all_axes(files, tmp_path):
    np.save(tmp_path / "volume.npy", np.zeros((5, 6, 7, 1), np.int16))
    for size in (4, np.int64(4)):
        assert ImageSequence(files, image_size=size).shape == (6, 4, 4)
        volume = ImageSequence([tmp_path / "volume.npy"], image_size=size)
        assert volume.shape == (1, 4, 4, 4)


def test_masks_keep_their_values(tmp_path):
    mask = np.zeros((9, 9), np.uint8)
    mask[2:6, 3:7] = 200
    np.save(tmp_path / "mask.npy", mask)
    for size in ((4, 5), (20, 17)):
        X = ImageSequence(
            [tmp_path / "mask.npy"], image_size=size, interpolation="nearest"
        )
        assert X.shape == (1, *size)
        assert set(np.unique(X)) == {0, 200}


def test_unreadable_files_are_named_or_left_out(files, tmp_path):
    files[1].write_bytes(b"no image at all")
    files[4].unlink()
    with pytest.raises(InvalidImageError, match=r"^P0/1.png: is none of.* 2 of 6 "):
        ImageSequence(files)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        X = ImageSequence(files, list("abcdef"), on_error="skip", cache=cache)
        assert X.kept_.tolist() == [0, 2, 3, 5]
        assert X.groups.tolist() == list("acdf")
        assert list(X.skipped_["path"]) == ["P0/1.png", "P2/4.png"]
        assert "none of DICOM" in X.skipped_["reason"][0]
        assert "cannot be opened" in X.skipped_["reason"][1]
        np.testing.assert_array_equal(X.to_numpy(), GREY[[0, 2, 3, 5]])
        assert repr(X).endswith("4 groups, 2 skipped)")
        np.testing.assert_array_equal(X[1:].kept_, [2, 3, 5])
    with pytest.raises(InvalidImageError):
        ImageSequence(files, cache=tmp_path / "cache")


def test_skipping_all_is_an_error(files):
    for path in files:
        path.write_bytes(b"")
    with pytest.raises(InvalidImageError, match="6 of 6 files"):
        ImageSequence(files, on_error="skip")


def test_error_names_no_folder_above_the_root(files, tmp_path):
    files[0].write_bytes(b"")
    with pytest.raises(InvalidImageError) as caught:
        ImageSequence(files)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(InvalidImageError, match=r"^images/P0/0.png"):
        ImageSequence(files, root=tmp_path)


def test_a_readers_own_error_names_the_file(files):
    with pytest.raises(InvalidImageError, match=r"P0/0.png: the reader raised ZeroDiv"):
        ImageSequence(files, reader=lambda path: 1 / 0)
    with pytest.raises(InvalidImageError, match=r"gave an array of shape \(3,\)"):
        ImageSequence(files, reader=lambda path: np.zeros(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels=2"),
        ({"interpolation": "cubic"}, "interpolation='cubic'"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": 8.5}, "image_size=8.5: pass a positive whole number"),
        ({"image_size": (16.5, 16)}, r"image_size=\(16.5, 16\): pass a positive whole"),
        ({"image_size": (8,)}, "image_size="),
        ({"image_size": (8, float("nan"))}, "image_size="),
        ({"image_size": "8"}, "image_size='8'"),
        ({"spacing": 0.0}, "spacing=0.0"),
        ({"image_size": (0, 4)}, "image_size="),
        ({"groups": [1, 2]}, r"groups has shape \(2,\)"),
        ({"groups": "site"}, "groups='site'"),
        ({"groups": "patient"}, "6 of 6 files do not name a patient"),
        ({"window": "lung"}, "Hounsfield"),
        ({"spacing": (1, 1)}, "does not say its spacing"),
    ],
)
def test_options_that_do_not_fit(files, options, message):
    with pytest.raises(ValueError, match=message):
        ImageSequence(files, **options)


def test_dicom_patients_spacing_and_window(write_dicom, tmp_path):
    paths = [
        write_dicom(
            np.full((6, 6), value, np.int16),
            f"{i}.dcm",
            Modality="CT",
            PatientID=f"ROE-{i // 2}",
            RescaleSlope=1,
            RescaleIntercept=-1000,
            PixelSpacing=[spacing, spacing],
        )
        for i, (value, spacing) in enumerate([(1000, 1), (1100, 2), (1200, 1)])
    ]
    X = ImageSequence(paths, "patient", spacing=(1, 1), image_size=(10, 10))
    assert X.dtype == np.int16
    assert X.groups[0] == X.groups[1] != X.groups[2]
    assert not any("ROE" in group for group in X.groups)
    assert X[0][5, 5] == 0
    assert (X[0] == 0).sum() == 36  # six pixels of 1 mm, framed by air
    assert X[0][0, 0] == -1024
    assert (X[1] == 100).all()  # twelve pixels of 1 mm, cropped
    windowed = ImageSequence(paths, window="soft tissue")
    assert windowed.dtype == np.float32
    assert 0 <= np.min(windowed) < np.max(windowed) <= 1
    cached = ImageSequence(paths, "patient", cache=tmp_path / "cache")
    again = ImageSequence(paths, "patient", cache=tmp_path / "cache")
    assert (cached.groups == again.groups).all()
    records = json.loads((only_folder(tmp_path / "cache") / "records.json").read_text())
    assert "ROE" not in str(records)


def test_patients_follow_the_key(write_dicom, tmp_path, monkeypatch):
    path = write_dicom(PatientID="ROE")
    before = ImageSequence([path], "patient", cache=tmp_path / "cache").groups
    monkeypatch.setenv("SKMEDIMG_KEY", "another key")
    after = ImageSequence([path], "patient", cache=tmp_path / "cache").groups
    assert before != after


def test_warnings_of_files_are_said_once(write_dicom):
    paths = [
        write_dicom(
            name=f"{i}.dcm", Modality="MG", PresentationIntentType="FOR PROCESSING"
        )
        for i in range(3)
    ]
    with pytest.warns(UserWarning, match=r"^0.dcm and 2 more: .*PROCESSING") as caught:
        X = ImageSequence(paths)
    assert len(caught) == 1
    X.to_numpy()  # and not again


@pytest.mark.parametrize("kind", ["npy", "nii", "png", "dcm", "tif"])
def test_read_image_goes_by_content(kind, tmp_path, write_dicom):
    image = GREY[0]
    path = tmp_path / f"plain.{kind}"
    if kind == "npy":
        np.save(path, image)
    elif kind == "nii":
        nibabel = pytest.importorskip("nibabel")
        nibabel.Nifti1Image(image[np.newaxis].T, np.diag([-1, -1, 1, 1])).to_filename(
            path
        )
    elif kind == "dcm":
        path = write_dicom(image, path.name)
    else:
        Image.fromarray(image).save(path)
    array, _ = read_image(path.rename(tmp_path / "no ending"))
    np.testing.assert_array_equal(np.squeeze(array), image)


def test_read_image_says_what_does_not_fit(files, tmp_path):
    with pytest.raises(InvalidImageError, match="a folder; read_dicom_series"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="frame=0 is for DICOM"):
        read_image(files[0], frame=0)
    with pytest.raises(ValueError, match="voi='file' is for DICOM"):
        read_image(files[0], voi="file")
    with pytest.raises(ValueError, match="needs window="):
        read_image(files[0], voi="SIGMOID")
    array, meta = read_image(files[0], window=(128, 256))
    assert array.dtype == np.float32
    assert meta.window == (128, 256)
    assert "lung" in list_windows()


def test_series_as_volumes(write_dicom, tmp_path):
    pixels = RNG.integers(0, 100, (2, 3, 4, 6)).astype(np.uint16)
    folders = []
    for s, volume in enumerate(pixels):
        for k, image in enumerate(volume):
            path = write_dicom(
                image,
                f"{s}{k}.dcm",
                Modality="MR",
                SeriesInstanceUID=f"1.2.{s}",
                ImagePositionPatient=[0, 0, 3 * k],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[1, 1],
            )
            folder = tmp_path / f"series {s}"
            folder.mkdir(exist_ok=True)
            path.rename(folder / f"{-k}.dcm")
        folders.append(folder)
    X = ImageSequence(folders, reader=read_dicom_series, cache=tmp_path / "cache")
    np.testing.assert_array_equal(X.to_numpy(), pixels)
    files = [tuple(folder.iterdir()) for folder in folders]
    again = ImageSequence(files, reader=read_dicom_series)
    np.testing.assert_array_equal(again.to_numpy(), pixels)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_cross_validation_shares_one_cache(tmp_path, images, tiny, n_jobs):
    pytest.importorskip("torch")
    from skmedimg.model_selection import PatientKFold

    X, y = images
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    patients = np.arange(len(X)) // 4
    sequence = ImageSequence(paths, patients, cache=tmp_path / "cache")
    found = cross_validate(tiny(), sequence, y, cv=PatientKFold(2), n_jobs=n_jobs)
    array = ImageSequence.from_array(X, groups=patients)
    wanted = cross_validate(tiny(), array, y, cv=PatientKFold(2))
    np.testing.assert_array_equal(found["test_score"], wanted["test_score"])


@pytest.mark.data
def test_hippocampus_volumes_are_one_X(data_file, tmp_path):
    folder = data_file("hippocampus_nifti/images")
    paths = sorted(folder.glob("*.nii.gz"))
    numbers = np.array([int(path.name[12:15]) for path in paths])
    with pytest.raises(ValueError, match="differ in size"):
        ImageSequence(paths)
    X = ImageSequence(
        paths, (numbers + 1) // 2, image_size=(16, 24, 16), cache=tmp_path / "cache"
    )
    assert X.shape == (len(paths), 16, 24, 16)
    assert X.groups.tolist() == ((numbers + 1) // 2).tolist()


@pytest.mark.parametrize("cosines", [[1, 0, 0, 0, 1, 0], [0, -1, 0, 0, 0, -1]])
@pytest.mark.parametrize("orientation", ["SPL", "RAS", None])
def test_frames_of_one_file_lie_as_those_of_a_series(write_dicom, cosines, orientation):
    pixels = RNG.integers(0, 100, (3, 4, 6)).astype(np.uint16)
    normal = np.cross(cosines[:3], cosines[3:])
    path = write_dicom(
        pixels,
        Modality="MR",
        SharedFunctionalGroupsSequence={
            "PlaneOrientationSequence": {"ImageOrientationPatient": cosines},
            "PixelMeasuresSequence": {"PixelSpacing": [1, 2], "SliceThickness": 3},
        },
        PerFrameFunctionalGroupsSequence=[
            {
                "PlanePositionSequence": {
                    "ImagePositionPatient": (3.0 * k * normal).tolist()
                }
            }
            for k in range(3)
        ],
    )
    array, meta = read_image(path, orientation=orientation)
    expected, known = read_dicom_series(path, orientation=orientation)
    np.testing.assert_array_equal(array, expected)
    assert meta.orientation == known.orientation
    assert meta.spacing == pytest.approx(known.spacing)
    np.testing.assert_allclose(meta.positions, known.positions)
