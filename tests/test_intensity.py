"""Intensities are decided at fit, and a shift at predict is said."""

import numpy as np
import pytest

Y = np.arange(16) % 2


def make_grey(shape=(9, 10)):
    """Sixteen uint8 images with a bright corner in those of class 1."""
    X = np.random.default_rng(0).integers(0, 80, (16, *shape), dtype=np.uint8)
    X[(Y == 1, *(slice(2, 6) for _ in shape))] += 100
    return X


GREY, VOLUMES = make_grey(), make_grey((9, 10, 11))


def hounsfield(dtype=np.int16):
    """Air around tissue, with padding below and metal above what HU can mean."""
    X = np.full((16, 10, 10), -1000, dtype)
    X[:, 2:8, 2:8] = GREY[:, :6, :6]
    X[:, 0], X[:, 5, 5] = -2000, 9000
    return X


def scanners():
    """MR volumes without a unit, one of a scanner with a hundred times the values."""
    X = VOLUMES.astype(np.float32) * 10
    X[3] *= 100
    return X


def dose_images(n, seed):
    """Sixteen-bit images whose class is how bright they are."""
    y = np.arange(n) % 2
    X = np.random.default_rng(seed).normal(1000, 120, (n, 8, 8))
    return (X * (1 + 0.5 * y[:, None, None])).astype(np.uint16), y


def phases(n, seed):
    """Signed velocities of MR, whose class is how fast a vessel flows."""
    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    X = rng.normal(0, 600, (n, 8, 8))
    X[:, 2:6, 2:6] = (-1800 - 1700 * y)[:, None, None] + rng.normal(0, 200, (n, 4, 4))
    X[:, 0, 0] = -4096
    return np.clip(X, -4096, 4095).astype(np.int16), y


@pytest.mark.parametrize(
    ("X", "intensity"),
    [
        (hounsfield(), "window"),
        (hounsfield(np.float32), "window"),
        (phases(16, 0)[0], "dataset"),
        (scanners() / scanners().max(), "percentile"),
        (scanners(), "percentile"),
        (scanners().astype(np.int32), "percentile"),
        (GREY, "dataset"),
        (np.stack([GREY] * 3, -1), "dataset"),
        (GREY.astype(np.int16) * 16, "dataset"),
        (GREY / 255, "dataset"),
        (GREY > 60, "dataset"),
        (scanners().reshape(16, -1)[:, :200], "dataset"),
    ],
)
def test_intensity_is_decided_at_fit(tiny, X, intensity):
    spec = tiny().fit(X, Y).image_spec_
    assert spec.intensity == intensity
    assert (spec.window is None) == (intensity != "window")
    assert spec.value_range == pytest.approx((float(X.min()), float(X.max())))
    if spec.window is not None:
        low, high = spec.window
        assert -1024 <= low < high <= 3071


def test_padding_and_metal_are_clipped(tiny):
    X = hounsfield()
    clf = tiny().fit(X, Y)
    low, high = clf.image_spec_.window
    np.testing.assert_array_equal(
        clf.predict_proba(np.clip(X, low, high).astype(X.dtype)), clf.predict_proba(X)
    )


def test_scanner_scale_does_not_matter(tiny):
    X = scanners()
    clf = tiny().fit(X, Y)
    scaled = X * np.where(np.arange(16) == 5, 8, 1).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(
        clf.predict_proba(scaled), clf.predict_proba(X), atol=1e-4
    )


def test_a_shift_of_scale_is_told_where_an_artefact_was_clipped(tiny):
    X, y = dose_images(40, 0)
    X[0, :2] = 65535
    clf = tiny().fit(X, y)
    assert clf.image_spec_.value_range[1] < 4000
    clf.predict(X)  # the artefact again: no shift
    with pytest.warns(UserWarning, match="bring them to the same unit"):
        clf.predict(X[1:].astype(np.float32) * 16)


def test_maps_in_a_small_unit_are_not_on_one_scale_with_an_artefact(tiny):
    X, y = dose_images(40, 0)
    X = X / 1e6
    X[0, :2] = 0.9
    assert tiny().fit(X, y).image_spec_.intensity == "clipped"


def test_one_odd_image_leaves_the_others_on_one_scale(tiny):
    X, y = dose_images(40, 0)
    X[0, :2] = 65535  # a marker
    clf = tiny(max_epochs=15, lr=0.01).fit(X, y)
    spec = clf.image_spec_
    assert spec.intensity == "clipped"
    assert spec.value_range[1] < 10 * np.median(X)
    others, y = dose_images(40, 1)
    assert clf.score(others, y) > 0.95


def test_velocities_are_not_cut_off_at_the_hounsfield_unit_of_air(tiny):
    clf = tiny(max_epochs=15, lr=0.01).fit(*phases(40, 0))
    assert clf.score(*phases(40, 1)) > 0.95


# -- a shift between fit and predict ---------------------------------------------------


@pytest.mark.parametrize("factor", [1 / 255, 255])
def test_values_of_another_range_warn(tiny, factor):
    clf = tiny().fit(GREY.astype(float), Y)
    X = GREY * factor
    with pytest.warns(UserWarning, match="training images had 0 to 179") as caught:
        clf.predict(X)
    assert f"{X.min():g} to {X.max():g}" in str(caught[0].message)


@pytest.mark.parametrize("missing", ["fit", "predict"])
def test_a_forgotten_rescale_intercept_warns(tiny, missing):
    hu = hounsfield()
    shift = {"fit": 0, "predict": 0} | {missing: 2000}
    clf = tiny().fit(hu + shift["fit"], Y)
    with pytest.warns(UserWarning, match="RescaleIntercept"):
        clf.predict(hu + shift["predict"])


def test_continued_training_compares_ranges(tiny):
    X = GREY.astype(float)
    clf = tiny(warm_start=True).fit(X, Y)
    with pytest.warns(UserWarning, match="training images had 0 to 179"):
        clf.fit(X * 255, Y)
    with pytest.warns(UserWarning, match="training images had 0 to 179"):
        clf.partial_fit(X * 255, Y)


def test_statistics_are_those_of_the_training_images(tiny):
    """What early stopping validates on is new to the network in every respect."""
    X = np.random.default_rng(0).normal(np.arange(16), size=(8, 8, 16)).T
    clf = tiny(early_stopping=True, validation_fraction=0.5).fit(X, Y)
    assert clf.image_spec_.std[0] != pytest.approx(X.std(), rel=1e-6)
    whole = tiny().fit(X, Y).image_spec_
    assert whole.std[0] == pytest.approx(X.std())


def test_inverted_images_warn(tiny):
    heads = GREY.copy()
    heads[:, 2:8, 2:8] //= 2
    heads[:, 2:8, 2:8] += 120  # what all of them share
    clf = tiny().fit(heads, Y)
    with pytest.warns(UserWarning, match=r"bright and dark.*MONOCHROME1"):
        clf.predict(heads.max() - heads)
    clf.predict(heads)


@pytest.mark.parametrize(
    "X",
    [
        GREY[:1],
        GREY[5:8],
        GREY // 2,
        np.minimum(GREY, 250) + 5,
        np.zeros_like(GREY[:1]),
        np.full_like(GREY[:1], 90),
        make_grey()[::-1, :, ::-1],
    ],
)
def test_ordinary_images_do_not_warn(tiny, X):
    tiny().fit(GREY, Y).predict(X)
