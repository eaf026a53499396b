"""What made images promise: truth that fits, patients that matter, repeatability."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmedimg.datasets import make_lesions, make_segmentation


@pytest.fixture(scope="module")
def data():
    return make_lesions(40, image_size=24, random_state=0)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({"image_size": 16}, (16, 16)),
        ({"image_size": (16, 20)}, (16, 20)),
        ({"image_size": 9, "spatial_dims": 3}, (9, 9, 9)),
        ({"image_size": [8, 12, 11], "spatial_dims": 3}, (8, 12, 11)),
    ],
)
def test_everything_has_its_shape_and_type(params, size):
    data = make_lesions(6, images_per_patient=2, random_state=0, **params)
    assert data.images.shape == data.masks.shape == (12, *size)
    assert data.images.dtype == np.int16
    assert data.masks.dtype == np.uint8
    assert data.target.shape == data.groups.shape == (12,)
    assert set(data.target) == {0, 1}
    assert list(data.target_names) == ["no lesion", "lesion"]
    assert data.groups[0] == "P0001"
    assert f"{' × '.join(map(str, size))} pixels" in data.DESCR


def test_intensities_are_those_of_soft_tissue(data):
    assert data.images.min() > -400
    assert data.images.max() < 800
    corner, centre = data.images[:, :3, :3], data.images[:, 10:14, 10:14]
    assert -130 < np.median(corner) < -70  # fat
    assert 30 < np.median(centre) < 110  # organ


@pytest.mark.parametrize("params", [{}, {"image_size": 8}, {"spatial_dims": 3}])
def test_masks_are_where_the_lesions_are(params):
    data = make_lesions(30, **{"image_size": 16, **params}, random_state=1)
    axes = tuple(range(1, data.masks.ndim))
    assert_array_equal(data.masks.any(axis=axes), data.target == 1)
    assert data.masks.max() == 1
    assert data.masks.mean(axis=axes).max() < 0.15


def test_a_lesion_is_brighter_than_the_same_place_without_it():
    params = {"image_size": 24, "random_state": 2}
    sick = make_lesions(20, prevalence=1, **params)
    sound = make_lesions(20, prevalence=0, **params)
    difference = sick.images.astype(int) - sound.images
    assert 40 < difference[sick.masks == 1].mean() < 65
    assert difference[sick.masks == 0].mean() < 5


def test_disease_belongs_to_the_patient(data):
    patients, first, n_images = np.unique(
        data.groups, return_index=True, return_counts=True
    )
    assert len(patients) == 40
    assert set(n_images) == {2, 3, 4}
    assert_array_equal(np.repeat(data.target[first], n_images), data.target)
    assert data.target[first].sum() == 20


@pytest.mark.parametrize(
    ("n_patients", "prevalence", "n_diseased"),
    [(50, 0.1, 5), (50, 0, 0), (50, 1, 50), (10, 0.01, 1), (10, 0.99, 9), (1, 1, 1)],
)
def test_prevalence_is_that_of_patients(n_patients, prevalence, n_diseased):
    data = make_lesions(n_patients, prevalence=prevalence, image_size=8, random_state=0)
    assert len(set(data.groups[data.target == 1])) == n_diseased
    assert len(set(data.groups)) == n_patients


def test_patients_are_recognisable_and_that_would_be_a_leak():
    data = make_lesions(60, image_size=24, difficulty=1, random_state=0)
    # Sorted pixels: not even where things are, only how bright.
    X = np.sort(data.images.reshape(len(data.images), -1), axis=1)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3))
    aucs = []
    for groups in (data.groups, np.arange(len(X))):
        cv = GroupKFold(10, shuffle=True, random_state=0)
        proba = cross_val_predict(
            model, X, data.target, groups=groups, cv=cv, method="predict_proba"
        )
        aucs.append(roc_auc_score(data.target, proba[:, 1]))
    apart, leaking = aucs
    assert leaking > apart + 0.15


def test_brightness_alone_tells_less_the_harder_it_is():
    aucs = []
    for difficulty in (0, 0.5, 1):
        train, test = (
            make_lesions(100, image_size=32, difficulty=difficulty, random_state=seed)
            for seed in (0, 1)
        )
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(intensity_statistics(train.images), train.target)
        score = model.decision_function(intensity_statistics(test.images))
        aucs.append(roc_auc_score(test.target, score))
    assert aucs == sorted(aucs, reverse=True)
    assert aucs[1] < 0.78


def intensity_statistics(images):
    flat = images.reshape(len(images), -1)
    return np.percentile(flat, [1, 5, 25, 50, 75, 90, 95, 98, 99, 100], axis=1).T


def test_difficulty_changes_contrast_alone():
    easy, hard = (
        make_lesions(10, image_size=16, difficulty=d, random_state=3) for d in (0, 1)
    )
    for name in ("target", "groups", "masks"):
        assert_array_equal(easy[name], hard[name])
    assert (easy.images != hard.images).any()
    assert easy.images.astype(int).sum() > hard.images.astype(int).sum()


def test_same_seed_same_images():
    params = {"n_patients": 5, "image_size": 16}
    first = make_lesions(**params, random_state=7)
    second = make_lesions(**params, random_state=np.int64(7))
    for name in ("images", "masks", "target", "groups"):
        assert_array_equal(first[name], second[name])
    legacy = [np.random.RandomState(0), np.random.RandomState(0)]
    X, Y, Z = (
        make_lesions(**params, random_state=state).images
        for state in (*legacy, legacy[0])
    )
    assert_array_equal(X, Y)
    assert X.shape != Z.shape or (X != Z).any()  # the instance has moved on


def test_global_random_state_is_left_alone():
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    for random_state in (None, 0, np.random.RandomState(0)):
        make_lesions(2, image_size=8, random_state=random_state)
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert before["pos"] == after["pos"]
    assert_array_equal(before["key"], after["key"])


def test_return_X_y(data):
    X, y = make_lesions(40, image_size=24, random_state=0, return_X_y=True)
    assert_array_equal(X, data.images)
    assert_array_equal(y, data.target)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_patients": 0}, "n_patients"),
        ({"images_per_patient": 0}, "images_per_patient"),
        ({"images_per_patient": (3, 2)}, r"images_per_patient=\(3, 2\)"),
        ({"images_per_patient": (1, 2, 3)}, "images_per_patient"),
        ({"image_size": 7}, "image_size"),
        ({"image_size": (16, 16, 16)}, "2 dimensions"),
        ({"image_size": (16, 16), "spatial_dims": 3}, "3 dimensions"),
        ({"image_size": (16, 4)}, r"image_size=\(16, 4\)"),
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"prevalence": 1.5}, "prevalence"),
        ({"difficulty": -0.1}, "difficulty"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_errors_name_the_parameter(params, match):
    with pytest.raises(ValueError, match=match):
        make_lesions(**params)


# -- make_segmentation -----------------------------------------------------------------

BACKGROUND, ORGAN, VESSEL, LESION = range(4)


@pytest.fixture(scope="module")
def labelled():
    return make_segmentation(40, random_state=0)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ({"image_size": (16, 20)}, (16, 20)),
        ({"image_size": [8, 12, 11], "spatial_dims": 3}, (8, 12, 11)),
    ],
)
def test_every_pixel_has_a_label(params, size):
    data = make_segmentation(6, images_per_patient=2, random_state=0, **params)
    assert data.images.shape == data.target.shape == (12, *size)
    assert data.images.dtype == np.int16
    assert data.target.dtype == np.uint8
    assert set(np.unique(data.target)) <= {0, 1, 2, 3}
    assert list(data.target_names) == ["background", "organ", "vessel", "lesion"]
    assert data.groups.shape == (12,)
    assert "make_segmentation" in data.DESCR


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_some_images_lack_a_structure(spatial_dims):
    data = make_segmentation(
        40, image_size=24, spatial_dims=spatial_dims, random_state=0
    )
    flat = data.target.reshape(len(data.target), -1)
    shown = np.array([(flat == label).any(axis=1) for label in range(4)])
    assert shown[[BACKGROUND, ORGAN]].all()
    assert shown[VESSEL].any()
    assert not shown[VESSEL].all()
    ill = np.unique(data.groups[shown[LESION]])
    assert len(ill) == 20
    assert_array_equal(shown[LESION], np.isin(data.groups, ill))
    fraction = [(flat == label).mean() for label in range(4)]
    assert min(fraction[:2]) > 0.3 > 0.1 > max(fraction[2:]) > 0


@pytest.mark.parametrize(
    "params", [{}, {"image_size": 24, "spatial_dims": 3, "n_patients": 20}]
)
def test_labels_agree_with_intensities(params):
    data = make_segmentation(**{"n_patients": 40} | params, random_state=0)
    levels = [np.median(data.images[data.target == label]) for label in range(4)]
    assert -110 < levels[BACKGROUND] < -80
    assert 20 < levels[ORGAN] < 80
    assert levels[VESSEL] > levels[ORGAN] + 60
    assert levels[LESION] > levels[ORGAN] + 60


def test_lesion_lies_over_what_is_there_without_it():
    sick, sound = (make_segmentation(20, prevalence=p, random_state=2) for p in (1, 0))
    lesion = sick.target == LESION
    assert_array_equal(sick.target[~lesion], sound.target[~lesion])
    difference = sick.images.astype(int) - sound.images
    assert 75 < difference[lesion].mean() < 115  # 100 HU, less towards the rim
    assert abs(difference[~lesion].mean()) < 5


def test_patients_share_the_organ(labelled):
    area = (labelled.target > BACKGROUND).sum(axis=(1, 2))
    patients = np.unique(labelled.groups)
    within = np.mean([area[labelled.groups == p].std() for p in patients])
    assert within < 0.2 * area.std()


def test_difficulty_of_labels_is_contrast_alone():
    easy, hard = (
        make_segmentation(10, image_size=16, difficulty=d, random_state=3)
        for d in (0, 1)
    )
    assert_array_equal(easy.target, hard.target)
    assert easy.images.astype(int).sum() > hard.images.astype(int).sum()


def test_shape_tells_more_than_intensity(labelled):
    new = make_segmentation(20, random_state=1)
    dice = {}
    for name, features in {"intensity": pixels, "shape": neighbourhoods}.items():
        rows = np.random.default_rng(0).choice(labelled.images.size, 20000)
        model = HistGradientBoostingClassifier(max_iter=20, random_state=0)
        model.fit(features(labelled.images)[rows], labelled.target.ravel()[rows])
        found, truth = model.predict(features(new.images)), new.target.ravel()
        dice[name] = [
            2
            * ((found == k) & (truth == k)).sum()
            / ((found == k).sum() + (truth == k).sum())
            for k in range(4)
        ]
    assert dice["intensity"][ORGAN] > 0.9
    assert dice["intensity"][LESION] < 0.3
    assert dice["shape"][LESION] > dice["intensity"][LESION] + 0.15


def pixels(images):
    return images.reshape(-1, 1).astype(np.float32)


def neighbourhoods(images):
    images = images.astype(np.float32)
    found = [images]
    for sigma in (1, 2.5, 4):
        blurred = ndimage.gaussian_filter(images, (0, sigma, sigma))
        found += [blurred, ndimage.laplace(blurred, axes=(1, 2))]
    return np.stack(found, axis=-1).reshape(-1, len(found))


def test_same_seed_same_labels():
    params = {"n_patients": 5, "image_size": 16, "random_state": 7}
    first, second = make_segmentation(**params), make_segmentation(**params)
    for name in ("images", "target", "groups"):
        assert_array_equal(first[name], second[name])
    X, y = make_segmentation(**params, return_X_y=True)
    assert_array_equal(X, first.images)
    assert_array_equal(y, first.target)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_patients": 0}, "n_patients"),
        ({"images_per_patient": (3, 2)}, r"images_per_patient=\(3, 2\)"),
        ({"image_size": (16, 16), "spatial_dims": 3}, "3 dimensions"),
        ({"prevalence": 1.5}, "prevalence"),
    ],
)
def test_errors_of_labelled_images_name_the_parameter(params, match):
    with pytest.raises(ValueError, match=match):
        make_segmentation(**params)
