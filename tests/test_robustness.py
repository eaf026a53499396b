"""Corrupted images: what is done to them, and what scores on them say."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmedimg.io import ImageSequence
from skmedimg.robustness import _CORRUPTIONS, corrupt, robustness

NAMES = ["noise", "blur", "contrast", "motion", "rotation", "resolution"]


def smooth_images(n=6, size=(20, 20), dtype=np.uint8, low=0, high=255, seed=0):
    """Bright, off-centre blobs that fade to the lowest value at the border."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.linspace(-1, 1, s) for s in size], indexing="ij")
    centre = rng.uniform(-0.4, 0.4, (n, len(size), *[1] * len(size)))
    distance = sum((g - centre[:, k]) ** 2 for k, g in enumerate(grids))
    images = low + (high - low) * np.exp(-6 * distance)
    return (np.rint(images) if np.dtype(dtype).kind in "iu" else images).astype(dtype)


def flat_classifier(X, y):
    flatten = FunctionTransformer(lambda X: np.asarray(X).reshape(len(X), -1) / 100.0)
    return make_pipeline(flatten, LogisticRegression()).fit(X, y)


KINDS = {
    "uint8": smooth_images(),
    "RGB": np.stack([smooth_images(seed=k) for k in range(3)], axis=-1),
    "channels first": np.stack([smooth_images(seed=k) for k in range(3)], axis=1),
    "HU": smooth_images(dtype=np.int16, low=-1024, high=1500),
    "float": smooth_images(dtype=np.float32, low=0, high=1),
    "volumes": smooth_images(size=(10, 16, 12)),
    "big-endian": smooth_images(dtype=">i2", low=-1024, high=1500),
}


@pytest.mark.parametrize("corruption", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_layout_dtype_and_range(kind, corruption):
    X = KINDS[kind].copy()
    X.flags.writeable = False
    changed = corrupt(X, corruption, 5, random_state=0)
    assert changed.shape == X.shape
    assert changed.dtype == X.dtype.newbyteorder("=")
    assert X.min() <= changed.min()
    assert changed.max() <= X.max()
    assert np.array_equal(X, KINDS[kind])
    assert not np.array_equal(changed, X)


@pytest.mark.parametrize("corruption", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (16, 24, 20)])
def test_more_severe_is_further_from_the_image(size, corruption):
    X = smooth_images(size=size, dtype=np.float64)
    distance = [
        np.abs(corrupt(X, corruption, s, random_state=0) - X).mean()
        for s in (1, 2, 3, 4, 5)
    ]
    assert distance[0] > 0
    assert np.all(np.diff(distance) > 0)


@pytest.mark.parametrize("corruption", NAMES)
def test_units_of_the_images_do_not_matter(corruption):
    X = smooth_images(dtype=np.float64, low=0, high=1)
    changed = corrupt(X, corruption, 3, random_state=0)
    in_hu = corrupt(X * 2500 - 1000, corruption, 3, random_state=0)
    np.testing.assert_allclose(in_hu, changed * 2500 - 1000, atol=0.05)


@pytest.mark.parametrize("corruption", NAMES)
@pytest.mark.parametrize("shape", [(5, 2, 12, 10), (5, 1, 6, 12, 10)])
def test_batched_is_the_same_as_one_by_one(corruption, shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator)
    of = _CORRUPTIONS[corruption]
    drawn = of.draw(x, generator)
    batched = of.apply(x, of.strengths[2], drawn)
    single = [
        of.apply(x[i : i + 1], of.strengths[2], drawn[i : i + 1]) for i in range(len(x))
    ]
    torch.testing.assert_close(batched, torch.cat(single))


def test_noise_has_the_standard_deviation_named():
    X = np.full((40, 32, 32), 500.0)
    X[0, 0, :2] = 0, 1000  # the range
    added = corrupt(X, "noise", 3, random_state=0)[1:] - 500
    assert added.std() == pytest.approx(120, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=2)


def test_contrast_shrinks_about_the_mean_of_each_image():
    X = smooth_images(dtype=np.float64)
    mean = X.mean(axis=(1, 2), keepdims=True)
    changed = corrupt(X, "contrast", 2)
    np.testing.assert_allclose(changed, mean + 0.5 * (X - mean), atol=1e-3)


def test_blur_has_the_width_named():
    X = np.zeros((1, 101, 51))
    X[0, 50, 25] = 1e4
    changed = corrupt(X, "blur", 4)[0]
    at = np.arange(101) - 50
    variance = (changed.sum(axis=1) * at**2).sum() / changed.sum()
    assert np.sqrt(variance) == pytest.approx(0.03 * 101, rel=0.02)


def test_motion_spreads_a_point_along_one_line():
    X = np.zeros((8, 61, 61))
    X[:, 30, 30] = 1e4
    changed = corrupt(X, "motion", 5, random_state=0)
    at = np.stack(np.mgrid[-30:31, -30:31]).reshape(2, -1)
    directions = []
    for image in changed:
        weight = image.ravel() / image.sum()
        spread, axes = np.linalg.eigh((at * weight) @ at.T)
        # A uniform line has the variance length² / 12; across it is interpolation.
        assert spread[1] == pytest.approx((0.25 * 61) ** 2 / 12, rel=0.15)
        assert spread[0] < 0.5
        directions.append(axes[:, 1])
    assert len({tuple(np.round(d, 1)) for d in directions}) > 3


def test_rotation_is_by_the_angle_named_either_way():
    X = smooth_images(n=30, size=(41, 41), dtype=np.float64, high=1000)
    at = np.stack(np.mgrid[-20:21, -20:21]).reshape(2, -1)

    def angles(images):
        y, x = (images.reshape(len(images), -1) @ at.T).T
        return np.degrees(np.arctan2(y, x))

    turned = angles(corrupt(X, "rotation", 5, random_state=0)) - angles(X)
    turned = (turned + 180) % 360 - 180
    np.testing.assert_allclose(np.abs(turned), 30, atol=5)
    assert 5 < np.sum(turned > 0) < 25


def test_volumes_turn_and_smear_within_their_slices():
    X = smooth_images(size=(9, 16, 16))
    X[:, :4] = 0
    for corruption in ("rotation", "motion"):
        changed = corrupt(X, corruption, 5, random_state=0)
        assert not changed[:, :4].any()
    assert corrupt(X, "blur", 5)[:, 3].any()


def test_axes_of_one_pixel_stay_and_constant_images_stay_finite():
    X = smooth_images(size=(1, 16), dtype=np.float32)
    for corruption in NAMES:
        assert np.isfinite(corrupt(X, corruption, 5, random_state=0)).all()
    flat = np.full((2, 8, 8), 7.0)
    for corruption in NAMES[1:]:
        np.testing.assert_allclose(corrupt(flat, corruption, 5), 7, rtol=1e-6)


def test_range_is_that_of_fit_and_true_values_stay(tiny, images):
    X, y = images
    clf = tiny().fit(X, y)
    low, high = clf.image_spec_.value_range
    dim = (X[:8] // 8).astype(np.uint8)
    known = corrupt(dim, "noise", 3, estimator=clf, random_state=0)
    alone = corrupt(dim, "noise", 3, random_state=0)
    assert known.max() > 2 * alone.max()
    assert low <= known.min()
    assert known.max() <= high
    bright = np.full((1, 10, 10), 255, np.uint8)  # brighter than any image of fit
    assert corrupt(bright, "blur", 1, estimator=clf).max() == 255


def test_images_on_scales_of_their_own_are_noisy_on_their_own(tiny):
    rng = np.random.default_rng(0)
    X = rng.normal(1, 0.2, (30, 12, 12)).astype(np.float32)
    X *= np.where(np.arange(30) % 10 == 0, 1000, 1)[:, None, None]
    clf = tiny().fit(X, np.arange(30) % 2)
    assert clf.image_spec_.intensity == "percentile"
    added = np.abs(corrupt(X, "noise", 1, estimator=clf, random_state=0) - X)
    added = added.mean(axis=(1, 2))
    assert np.ptp(added[[0, 10, 20]] / 1000) < 0.05
    assert added[1:10].max() < 0.1


def test_scores_get_worse_and_the_first_row_is_the_plain_score():
    # Faint stripes, upright or level.
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    stripes = 4 * np.sign(np.sin(np.pi / 2 * (np.arange(16) + 0.5)))
    X = np.where(y[:, None, None] == 1, stripes, stripes[:, None])
    X = (100 + X + rng.normal(0, 20, (240, 16, 16))).astype(np.uint8)
    kept, train, test = X.copy(), slice(0, 120), slice(120, None)
    clf = flat_classifier(X[train], y[train])
    frame = robustness(clf, X[test], y[test], scoring="roc_auc", random_state=0)
    assert list(frame) == ["corruption", "severity", "score", "drop"]
    assert len(frame) == 1 + 6 * 5
    plain = roc_auc_score(y[test], clf.predict_proba(X[test])[:, 1])
    assert tuple(frame.iloc[0]) == ("none", 0, plain, 0.0)
    np.testing.assert_allclose(frame["drop"], plain - frame["score"])
    drop = frame.pivot(index="corruption", columns="severity", values="drop")
    hiding = ["noise", "motion", "rotation", "resolution"]
    assert (drop.loc[hiding, 5] > 0.05).all()
    assert drop.loc["contrast", 5] == pytest.approx(0, abs=0.05)
    assert np.array_equal(X, kept)


def test_scored_images_are_those_of_corrupt_whatever_else_is_asked(tiny, images):
    X, y = images
    clf = tiny().fit(X, y)
    seen = []

    def scorer(estimator, X, y):
        seen.append(X)
        return 0.0

    few = {"corruptions": ["rotation", "noise"], "severities": [2, 4]}
    frame = robustness(clf, X, y, scoring=scorer, random_state=5, **few)
    assert seen[0] is X
    for row, changed in zip(frame.itertuples(), seen, strict=True):
        if row.severity:
            params = {"estimator": clf, "random_state": 5}
            again = corrupt(X, row.corruption, row.severity, **params)
            assert np.array_equal(changed, again)


def test_positive_label_goes_through_the_scorer(tiny, images):
    X, y = images[0], np.array(["benign", "malignant"])[images[1]]
    clf = tiny().fit(X, y)
    scorers = [
        make_scorer(
            lambda y, p, pos_label: roc_auc_score(y == pos_label, p),
            response_method="predict_proba",
            pos_label=label,
        )
        for label in ("benign", "malignant")
    ]
    params = {"corruptions": ["noise"], "severities": [3], "random_state": 0}
    benign, malignant = (robustness(clf, X, y, scoring=s, **params) for s in scorers)
    np.testing.assert_allclose(benign["score"], malignant["score"])
    default = robustness(clf, X, y, **params)
    assert default["score"][0] == clf.score(X, y)


def test_sequences_keep_their_groups(images):
    X, _ = images
    patients = np.arange(40) // 2
    sequence = ImageSequence.from_array(X, groups=patients)
    changed = corrupt(sequence, "blur", 2)
    assert isinstance(changed, ImageSequence)
    assert np.array_equal(changed.groups, patients)
    assert np.array_equal(changed.to_numpy(), corrupt(X, "blur", 2))


def test_images_of_differing_size_and_flattened_ones(tiny, images):
    X, y = images
    mixed = [image if i % 2 else image[:8, :9] for i, image in enumerate(X)]
    clf = tiny(image_size=(10, 10)).fit(mixed, y)
    assert corrupt(mixed, "noise", 1, estimator=clf).shape == (40, 10, 10)
    frame = robustness(clf, mixed, y, corruptions=["motion"], severities=[1])
    assert len(frame) == 2
    rows = X.reshape(40, -1)
    clf = tiny(image_shape=(10, 10)).fit(rows, y)
    changed = corrupt(rows, "rotation", 3, estimator=clf, random_state=0)
    expected = corrupt(X, "rotation", 3, estimator=tiny().fit(X, y), random_state=0)
    assert np.array_equal(changed.reshape(X.shape), expected)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"corruptions": ["fog"]}, "'fog'; there are noise, blur"),
        ({"severities": [0]}, "severities holds 0"),
        ({"severities": [1.5]}, "severities holds 1.5"),
        ({"scoring": "auc"}, "scoring"),
    ],
)
def test_errors_say_what_was_seen(images, params, match):
    X, y = images
    with pytest.raises(ValueError, match=match):
        robustness(flat_classifier(X, y), X, y, **params)


def test_what_is_no_image_is_refused(images):
    X, _ = images
    with pytest.raises(ValueError, match=r"\(40, 100\).*neighbours"):
        corrupt(X.reshape(40, -1), "noise", 1)
    with pytest.raises(ValueError, match=r"more than one way.*X\[:, np.newaxis\]"):
        corrupt(X.reshape(40, 4, 5, 5), "noise", 1)
    bad = X.astype(float)
    bad[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"X\[3\] is not finite"):
        corrupt(bad, "noise", 1)
