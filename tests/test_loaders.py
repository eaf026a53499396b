"""From folders and tables to images, target and groups."""

import numpy as np
import pytest
from loader_files import class_folders, save, values
from sklearn.model_selection import cross_validate

from skmedimg.datasets import (
    load_dicom,
    load_image_folder,
    load_medmnist,
    load_nifti,
)
from skmedimg.exceptions import InvalidImageError
from skmedimg.io import ImageSequence, read_image

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_key_and_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    return class_folders(tmp_path)


def test_folder_of_classes(folder):
    data = load_image_folder(folder, patient=r"(P\d+)_")
    assert isinstance(data.images, ImageSequence)
    assert values(data.images) == [0, 2, 4, 1, 3, 5]
    assert data.target.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.target_names.tolist() == ["normal", "pneumonia"]
    assert data.filenames[0] == "normal/deeper/P0_0.png"
    assert data.split is None
    assert data.groups is data.images.groups
    assert len(set(data.groups)) == 3
    assert data.groups[0] == data.groups[3]
    assert "P0" not in str(data.groups)
    assert "6 images of 3 patients" in data.DESCR
    X, y = load_image_folder(folder, return_X_y=True, cache=None)
    assert values(X) == [0, 2, 4, 1, 3, 5]
    assert y.tolist() == data.target.tolist()
    assert X.groups is None


@pytest.mark.parametrize(
    "patient",
    [
        r"P(?P<patient>\d)_(?P<other>\d)",
        lambda name: name.rpartition("/")[2][1],
        {f"P{i // 2}_{i}": i // 2 for i in range(6)},
        {f"P{i // 2}_{i}.png": i // 2 for i in range(6)},
    ],
)
def test_patients_by_pattern_function_and_mapping(folder, patient):
    data = load_image_folder(folder, patient=patient, pseudonymise=False)
    assert [str(group) for group in data.groups] == list("012012")


def test_patient_that_is_not_found(folder):
    with pytest.raises(ValueError, match="nothing for 6 of 6 files, such as normal"):
        load_image_folder(folder, patient="Q")


def test_rules_in_messages(folder):
    with pytest.raises(
        ValueError, match=r"patient='P\(' is no regular expression: mis"
    ):
        load_image_folder(folder, patient="P(")
    with pytest.raises(ValueError, match="patient=<mapping of 1> finds") as caught:
        load_image_folder(folder, patient={"P00b_0.png": "MEYER^ANNA 1944"})
    assert "MEYER" not in str(caught.value)

    def from_name(name):
        return None

    with pytest.raises(ValueError, match="patient=from_name finds nothing"):
        load_image_folder(folder, patient=from_name)


@pytest.mark.parametrize("validation", ["val", "validation", "valid"])
def test_folders_of_splits(tmp_path, validation):
    root = tmp_path / "root"
    for i, part in enumerate(["train", "train", validation, "test"]):
        save(root / part / "ab"[i % 2] / f"{i}.png", i)
    data = load_image_folder(root)
    assert sorted(zip(data.split, values(data.images), strict=True)) == [
        ("test", 3),
        ("train", 0),
        ("train", 1),
        ("validation", 2),
    ]
    only = load_image_folder(root, split="test")
    assert values(only.images) == [3]
    assert only.target.tolist() == [1]  # the codes are those of all splits
    assert only.target_names.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="split='dev'"):
        load_image_folder(root, split="dev")
    (root / "masks").mkdir()
    with pytest.raises(ValueError, match=r"folders of splits.* beside others, masks"):
        load_image_folder(root)
    assert values(load_image_folder(root, split="test").images) == [3]


def test_folder_without_classes_or_images(tmp_path):
    with pytest.raises(NotADirectoryError):
        load_image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="has no folders"):
        load_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="there is no image"):
        load_image_folder(tmp_path)


def test_empty_classes_and_loose_images_are_said(folder):
    (folder / "covid").mkdir()
    with pytest.warns(UserWarning, match="1 folders have no image, such as covid"):
        data = load_image_folder(folder)
    assert data.target_names.tolist() == ["covid", "normal", "pneumonia"]
    (folder / "covid").rmdir()
    save(folder / "loose.png")
    with pytest.warns(UserWarning, match=r"1 images lie in no folder.*loose.png"):
        data = load_image_folder(folder)
    assert len(data.images) == 6


def test_linked_folders_are_read_once(folder):
    disk = folder.parent / "disk"
    (folder / "normal" / "deeper").rename(disk)
    (folder / "normal" / "year").mkdir()
    (folder / "normal" / "year" / "linked").symlink_to(disk)
    (folder / "normal" / "again").symlink_to(disk)
    (disk / "loop").symlink_to(disk)
    (disk / "up").symlink_to(folder)
    data = load_image_folder(folder)
    assert values(data.images) == [0, 2, 4, 1, 3, 5]


def test_damaged_files_keep_labels_and_groups_in_line(folder):
    (folder / "normal" / "deeper" / "P1_2.png").write_bytes(b"damaged")
    with pytest.raises(InvalidImageError, match=r"^normal/deeper/P1_2.png"):
        load_image_folder(folder)
    data = load_image_folder(folder, patient=r"(P\d)", on_error="skip")
    assert values(data.images) == [0, 4, 1, 3, 5]
    assert data.target.tolist() == [0, 0, 1, 1, 1]
    assert len(data.groups) == len(data.filenames) == 5
    assert data.groups[0] == data.groups[2]
    assert "1 file" in data.DESCR
    assert list(data.images.skipped_["path"]) == ["normal/deeper/P1_2.png"]


def test_splits_follow_what_was_skipped(tmp_path):
    for i, part in enumerate(["train", "train", "train", "test"]):
        save(tmp_path / part / "ab"[i % 2] / f"P{i}.png", i)
    (tmp_path / "train" / "a" / "P0.png").write_bytes(b"damaged")
    data = load_image_folder(
        tmp_path, patient=r"P\d", on_error="skip", pseudonymise=False
    )
    columns = values(data.images), data.groups, data.filenames, data.split
    assert sorted(zip(*columns, strict=True)) == [
        (1, "P1", "train/b/P1.png", "train"),
        (2, "P2", "train/a/P2.png", "train"),
        (3, "P3", "test/b/P3.png", "test"),
    ]
    assert data.skipped["path"].tolist() == ["train/a/P0.png"]


@pytest.fixture
def archive(write_dicom, tmp_path):
    """Two patients with a series of three slices each, a report, and a photograph."""
    root = tmp_path / "archive"
    for i in range(6):
        path = write_dicom(
            np.full((4, 6), i, np.uint16),
            f"{i}.dcm",
            Modality="MR",
            PatientID=f"ROE-{i // 3}",
            SeriesInstanceUID=f"1.2.{i // 3}",
            ImagePositionPatient=[0, 0, -i],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
        place = root / f"CONTRAST_{i // 3}" / f"{i}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    report = write_dicom(
        name="report.dcm", Modality="SR", Rows=None, Columns=None, PixelData=None
    )
    report.rename(root / "report.dcm")
    save(root / "photograph.png")
    return root


def test_dicom_folder(archive):
    data = load_dicom(archive, label=r"CONTRAST_(\d)")
    assert values(data.images) == [0, 1, 2, 3, 4, 5]
    assert data.target.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.target_names.tolist() == ["0", "1"]
    assert len(set(data.groups)) == 2
    assert "ROE" not in str(data)
    assert data.filenames[0] == "CONTRAST_0/0.dcm"
    X, y = load_dicom(archive, patient=None, return_X_y=True)
    assert X.groups is None
    assert y is None


@pytest.mark.parametrize(
    ("label", "target"),
    [
        (lambda name: int(name[-5]) % 2, [0, 1, 0, 1, 0, 1]),
        ({f"{i}": i / 2 for i in range(6)}, [0, 0.5, 1, 1.5, 2, 2.5]),
        (r"CONTRAST_(?P<label>.)/(?P<number>\d)", [0, 0, 0, 1, 1, 1]),
    ],
)
def test_labels_of_dicom(archive, label, target):
    assert load_dicom(archive, label).target.tolist() == target


def test_label_that_is_not_found(archive):
    with pytest.raises(
        ValueError, match=r"finds nothing for 1 of 6 files, such as CON"
    ):
        load_dicom(archive, {f"{i}": 0 for i in range(1, 6)})


def test_dicom_series_are_volumes(archive):
    data = load_dicom(archive, label=r"CONTRAST_(\d)", volumes=True)
    assert data.images.shape == (2, 3, 4, 6)
    # Toward superior: the first file lies highest.
    assert data.images.to_numpy()[:, :, 0, 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert data.target.tolist() == [0, 1]
    assert len(set(data.groups)) == 2


def test_damaged_dicom_is_not_passed_over(archive):
    path = archive / "CONTRAST_0" / "1.dcm"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidImageError, match=r"^CONTRAST_0/1.dcm"):
        load_dicom(archive)
    data = load_dicom(archive, r"_(\d)", on_error="skip")
    assert values(data.images) == [0, 2, 3, 4, 5]
    assert data.target.tolist() == [0, 0, 1, 1, 1]
    assert len(data.groups) == len(data.filenames) == 5
    assert data.filenames[1] == "CONTRAST_0/2.dcm"
    assert data.skipped["path"].tolist() == ["CONTRAST_0/1.dcm"]


@pytest.mark.parametrize("volumes", [False, True])
@pytest.mark.parametrize("content", [b"", b"junk" * 50])
@pytest.mark.parametrize("name", ["x.dcm", "x.DCM", "x.ima", "IM_0007", "1.2.840.77"])
def test_what_is_called_as_dicom_is_not_passed_over(archive, name, content, volumes):
    if "." not in name or name.startswith("1"):
        for path in sorted(archive.glob("*/*.dcm")):
            path.rename(path.with_suffix(""))
    (archive / "CONTRAST_0" / name).write_bytes(content)
    (archive / "CONTRAST_0" / "README").write_bytes(content)
    (archive / "CONTRAST_0" / "notes").write_bytes(content)
    with pytest.raises(InvalidImageError, match=rf"^CONTRAST_0/{name}: "):
        load_dicom(archive, volumes=volumes)
    data = load_dicom(archive, r"_(\d)", on_error="skip", volumes=volumes)
    assert len(data.images) == (2 if volumes else 6)
    assert data.skipped["path"].tolist() == [f"CONTRAST_0/{name}"]


def test_a_folder_of_nothing_but_damaged_dicom(tmp_path):
    (tmp_path / "1.dcm").touch()
    with pytest.raises(InvalidImageError, match=r"^1.dcm: "):
        load_dicom(tmp_path)


def test_folder_without_dicom(folder):
    with pytest.raises(ValueError, match="no DICOM image"):
        load_dicom(folder)


@pytest.fixture
def volumes(tmp_path):
    """Three volumes of differing sizes, and their masks."""
    nibabel = pytest.importorskip("nibabel")
    for i, size in enumerate([(4, 5, 6), (5, 5, 5), (6, 5, 4)]):
        image = np.full(size, 10 * i, np.int16)
        mask = (np.indices(size)[0] > 1).astype(np.uint8) * 2
        for folder, array in (("images", image), ("labels", mask)):
            path = tmp_path / folder / f"case_{i}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.Nifti1Image(array, np.diag([-1, -1, 1, 1])).to_filename(path)
    return tmp_path


def test_nifti_with_masks(volumes):
    data = load_nifti(
        volumes / "images",
        volumes / "labels",
        patient=r"\d",
        image_size=(4, 4, 4),
    )
    assert data.images.shape == data.target.shape == (3, 4, 4, 4)
    assert set(np.unique(data.target)) == {0, 2}
    assert (data.target.groups == data.images.groups).all()
    assert data.filenames.tolist() == [f"case_{i}.nii.gz" for i in range(3)]
    (volumes / "labels" / "case_1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images have no mask.*case_1.nii.gz"):
        load_nifti(volumes / "images", volumes / "labels", image_size=(4, 4, 4))


@pytest.mark.parametrize(
    "labels", [["no", "yes", "no"], {"case_0": "no", "case_1": "yes", "case_2": "no"}]
)
def test_nifti_with_labels(volumes, labels):
    paths = sorted((volumes / "images").iterdir())
    data = load_nifti(paths, labels, image_size=(4, 4, 4))
    assert data.target.tolist() == [0, 1, 0]
    assert data.target_names.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match="2 labels and 3 images"):
        load_nifti(paths, ["no", "yes"], image_size=(4, 4, 4))


def test_masks_follow_what_was_skipped(volumes):
    (volumes / "images" / "case_0.nii.gz").write_bytes(b"damaged")
    data = load_nifti(
        volumes / "images",
        volumes / "labels",
        image_size=(4, 4, 4),
        on_error="skip",
    )
    assert len(data.images) == len(data.target) == len(data.filenames) == 2
    np.testing.assert_array_equal(data.images.to_numpy()[:, 0, 0, 0], [10, 20])


def test_images_follow_masks_that_were_skipped(volumes):
    (volumes / "images" / "case_0.nii.gz").write_bytes(b"damaged")
    (volumes / "labels" / "case_1.nii.gz").write_bytes(b"damaged")
    folders = volumes / "images", volumes / "labels"
    with pytest.raises(InvalidImageError):
        load_nifti(*folders, image_size=(4, 4, 4))
    options = {"image_size": (4, 4, 4), "on_error": "skip", "patient": r"\d"}
    data = load_nifti(*folders, pseudonymise=False, **options)
    assert data.filenames.tolist() == ["case_2.nii.gz"]
    assert data.groups.tolist() == data.target.groups.tolist() == ["2"]
    assert data.images.kept_.tolist() == data.target.kept_.tolist() == [2]
    assert data.skipped["path"].tolist() == ["case_0.nii.gz", "case_1.nii.gz"]
    assert data.skipped["reason"].str.startswith("its mask").tolist() == [False, True]
    assert "2 files were left out" in data.DESCR
    (volumes / "labels" / "case_2.nii.gz").write_bytes(b"damaged")
    (volumes / "images" / "case_2.nii.gz").write_bytes(b"damaged")
    with pytest.raises(InvalidImageError):
        load_nifti(*folders, **options)


def write_nifti(path, array, affine, **codes):
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    for kind, code in codes.items():
        getattr(image, f"set_{kind}")(affine, code)
    image.to_filename(path)


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def moved(affine, axis, distance):
    affine = affine.copy()
    affine[axis, 3] += distance
    return affine


@pytest.mark.parametrize(
    ("size", "affine", "reason"),
    [
        ((6, 5, 5), LPS, "has 5 × 5 × 6 voxels .*, the image 5 × 5 × 5"),
        (
            (5, 5, 5),
            moved(LPS, 2, 40),
            "up to 40 mm away from the image .*size of 1 mm",
        ),
        ((5, 5, 5), moved(LPS, 0, 0.5), "up to 0.5 mm away"),
        ((5, 5, 5), np.diag([-1, -1, 1.1, 1]), "up to 0.4 mm away"),
        ((5, 5, 5), np.eye(4), "up to"),
    ],
)
def test_masks_lie_on_the_grid_of_their_image(volumes, size, affine, reason):
    mask = volumes / "labels" / "case_1.nii.gz"
    write_nifti(mask, np.zeros(size, np.uint8), affine)
    folders = volumes / "images", volumes / "labels"
    with pytest.raises(
        InvalidImageError, match=rf"^case_1.nii.gz: its mask .*{reason}"
    ):
        load_nifti(*folders, image_size=(4, 4, 4))
    options = {"image_size": (4, 4, 4), "on_error": "skip", "cache": None}
    data = load_nifti(*folders, **options)
    assert data.filenames.tolist() == ["case_0.nii.gz", "case_2.nii.gz"]
    assert data.images.kept_.tolist() == data.target.kept_.tolist() == [0, 2]
    assert data.skipped["path"].tolist() == ["case_1.nii.gz"]
    assert data.skipped["reason"].str.contains(reason).all()
    assert "1 file" in data.DESCR


def test_masks_of_other_axes_and_precision_lie_on_the_grid(tmp_path):
    values = np.zeros((4, 5, 6), np.int16)
    turned = np.array([[0, 0.6, 0.8], [0, -0.8, 0.6], [1, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned * 0.7, (-31.234567, 8.7654321, 1234.5)
    write_nifti(tmp_path / "i" / "a.nii", values, affine, sform=1, qform=0)
    write_nifti(tmp_path / "m" / "a.nii", values, affine, sform=0, qform=1)
    flipped = affine @ [[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    write_nifti(tmp_path / "i" / "b.nii", values, affine)
    write_nifti(tmp_path / "m" / "b.nii", values[::-1], flipped)
    # Several times, one mask for all of them.
    write_nifti(tmp_path / "i" / "c.nii", np.zeros((4, 5, 6, 1), np.int16), affine)
    write_nifti(tmp_path / "m" / "c.nii", values, affine)
    data = load_nifti(tmp_path / "i", tmp_path / "m")
    assert data.images.shape == data.target.shape
    assert data.skipped.empty


@pytest.mark.filterwarnings("ignore:.*does not say how the axes lie")
def test_masks_that_do_not_say_where_they_lie(tmp_path):
    values = np.zeros((4, 5, 6), np.int16)
    away = np.diag([1.0, 1.0, 1.0, 1.0])
    away[:3, 3] = 7
    write_nifti(tmp_path / "i" / "a.nii", values, away)
    write_nifti(tmp_path / "m" / "a.nii", values, np.eye(4), sform=0, qform=0)
    assert load_nifti(tmp_path / "i", tmp_path / "m").skipped.empty
    # Read, it would be mirrored against its image.
    write_nifti(tmp_path / "i" / "a.nii", values, LPS)
    with pytest.raises(
        InvalidImageError, match=r"RAS is assumed: the header of the mask"
    ):
        load_nifti(tmp_path / "i", tmp_path / "m")


def test_medmnist(tmp_path):
    images = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    single, several = np.arange(6)[:, np.newaxis] % 3, np.eye(6, 4, dtype=int)
    for name, labels in (("single", single), ("several", several)):
        arrays = {}
        for split in ("train", "val", "test"):
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    data = load_medmnist(tmp_path / "single.npz", "validation")
    np.testing.assert_array_equal(data.images, images)
    assert data.target.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(data.target_names) == 3
    _, y = load_medmnist(tmp_path / "several.npz", return_X_y=True)
    np.testing.assert_array_equal(y, several)
    with pytest.raises(ValueError, match="split='valid'"):
        load_medmnist(tmp_path / "single.npz", "valid")
    np.savez(tmp_path / "other.npz", a=images)
    with pytest.raises(ValueError, match="no MedMNIST file"):
        load_medmnist(tmp_path / "other.npz")


def write_medmnist(path, n_train):
    arrays = {}
    for split, n in (("train", n_train), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, np.newaxis] % 2
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("split", ["train", None])
def test_official_medmnist_is_named(tmp_path, split):
    path = write_medmnist(tmp_path / "breastmnist.npz", 546)
    data = load_medmnist(path, split)
    assert data.target_names.tolist() == ["malignant", "normal, benign"]
    assert data.licence == "CC BY 4.0"
    assert "Please cite" in data.DESCR
    for name in ("breastmnist_64.npz", "breastmnist_own.npz", "other.npz"):
        again = load_medmnist(path.rename(tmp_path / name), split)
        assert again.target_names.tolist() == ["0", "1"]
        assert "licence" not in again
        (tmp_path / name).rename(path)
    data = load_medmnist(write_medmnist(path, 100), split)
    assert data.target_names.tolist() == ["0", "1"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "junk"])
def test_damaged_medmnist(tmp_path, damage):
    path = write_medmnist(tmp_path / "breastmnist.npz", 546)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[2000:2100] = bytes(100)
    sizes = {"cut": len(content) // 2, "flipped": None, "empty": 0}
    path.write_bytes(b"junk" if damage == "junk" else content[: sizes[damage]])
    with pytest.raises(InvalidImageError, match=r"^breastmnist.npz: is (damaged|no)"):
        load_medmnist(path)


@pytest.mark.data
def test_contrast_from_the_folder_in_one_line(data_file, tiny):
    from skmedimg.model_selection import PatientKFold

    root = data_file("ct_contrast_dicom")
    data = load_dicom(root, label=r"CONTRAST_(\d)", image_size=(32, 32))
    assert data.images.shape == (24, 32, 32)
    assert np.bincount(data.target).tolist() == [12, 12]
    assert len(set(data.groups)) == 24
    assert np.min(data.images) >= -1024
    scores = cross_validate(
        tiny(max_epochs=2), data.images, data.target, cv=PatientKFold(3)
    )
    assert np.isfinite(scores["test_score"]).all()


@pytest.mark.data
def test_hippocampus_with_masks(data_file):
    images, masks = (
        data_file(f"hippocampus_nifti/{name}") for name in ("images", "labels")
    )
    data = load_nifti(
        images,
        masks,
        patient=lambda name: (int(name[12:15]) + 1) // 2,
        image_size=(16, 24, 16),
        pseudonymise=False,
    )
    sizes = {read_image(images / name)[0].shape for name in data.filenames[:5]}
    assert len(sizes) > 1  # each its own, and still one X
    assert data.images.shape == data.target.shape == (30, 16, 24, 16)
    assert set(np.unique(data.target)) == {0, 1, 2}
    assert len(set(data.groups)) == 19


@pytest.mark.data
def test_breastmnist(data_file):
    path = data_file("medmnist/breastmnist.npz")
    assert load_medmnist(path).images.shape == (546, 28, 28)
    assert load_medmnist(path, "test").target.mean() == pytest.approx(114 / 156)
