"""Outliers: false alarms are as many as promised, and shifts are seen."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmedimg.io import ImageSequence
from skmedimg.preprocessing import IntensityScaler
from skmedimg.uncertainty import EmbeddingOutlierDetector, PixelStatistics

IDENTITY = FunctionTransformer()


def make_features(n, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return rng.normal(size=(n, 4)) @ np.diag([1, 2, 5, 10]) + 3 * y[:, None], y


@pytest.fixture(scope="module")
def network(tiny):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 80, (200, 10, 10), dtype=np.uint8)
    y = np.arange(200) % 2
    X[y == 1, 3:7, 3:7] += 100
    return tiny(max_epochs=3).fit(X[:100], y[:100]), X[100:], y[100:]


def test_mahalanobis_is_the_distance_to_the_nearest_class():
    X, y = make_features(400)
    detector = EmbeddingOutlierDetector(IDENTITY, random_state=0).fit(X, y)
    # What it has learnt from: the images that are not held out.
    centred = np.linalg.inv(np.diag(detector._scaler.scale_))
    own = _reference_rows(400)
    scaled = (X - X[own].mean(axis=0)) @ centred
    means = [scaled[own][y[own] == c].mean(axis=0) for c in (0, 1)]
    residual = scaled[own] - np.array(means)[y[own]]
    inverse = np.linalg.inv(ledoit_wolf(residual, assume_centered=True)[0])
    expected = [
        -min(mahalanobis(row, mean, inverse) ** 2 for mean in means)
        for row in scaled[:20]
    ]
    np.testing.assert_allclose(detector.score_samples(X[:20]), expected)


def test_knn_is_the_distance_to_the_fifth_neighbour():
    X, _ = make_features(400)
    detector = EmbeddingOutlierDetector(IDENTITY, method="knn", random_state=0).fit(X)
    own = X[_reference_rows(400)]
    scaled = (X - own.mean(axis=0)) / own.std(axis=0)
    reference = scaled[_reference_rows(400)]
    distance = np.linalg.norm(scaled[:20, None] - reference, axis=2)
    expected = -np.sort(distance, axis=1)[:, 4]
    np.testing.assert_allclose(detector.score_samples(X[:20]), expected)


def _reference_rows(n):
    from skmedimg.uncertainty._held_out import split_off

    return split_off(n, None, 0.25, 0)[0]


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_false_alarms_are_as_promised_on_average(method):
    alarms = []
    for seed in range(100):
        X, y = make_features(400, seed)
        detector = EmbeddingOutlierDetector(
            IDENTITY, method=method, false_alarm_rate=0.1, random_state=seed
        )
        detector.fit(X[:160], y[:160])
        alarms.append(np.mean(detector.predict(X[160:]) == -1))
    error = np.std(alarms) / 10
    # Forty held-out scores: 4 / 41.
    assert abs(np.mean(alarms) - 4 / 41) < 3 * error


def test_with_groups_a_patient_raises_one_false_alarm():
    rng = np.random.default_rng(0)
    alarms = []
    for seed in range(60):
        patient = np.repeat(np.arange(400), 5)
        X = rng.normal(size=(2000, 3)) + rng.normal(size=(400, 3))[patient]
        known = patient < 200
        detector = EmbeddingOutlierDetector(
            IDENTITY, false_alarm_rate=0.1, random_state=seed
        )
        detector.fit(X[known], groups=patient[known])
        alarm = detector.predict(X[~known]) == -1
        alarms.append(alarm.reshape(-1, 5).any(axis=1).mean())
    # Fifty held-out patients: 5 / 51.
    assert abs(np.mean(alarms) - 5 / 51) < 3 * np.std(alarms) / np.sqrt(60)


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_network_tells_images_without_what_it_knows(network, method):
    clf, X, y = network
    detector = EmbeddingOutlierDetector(
        FrozenEstimator(clf), method=method, false_alarm_rate=0.2, random_state=0
    ).fit(X, y)
    strange = X.copy()
    strange[:, ::2] = 0
    assert np.mean(detector.predict(strange) == -1) > 0.9
    assert np.mean(detector.predict(X) == -1) < 0.4
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(detector.predict(X) == 1, decision >= 0)
    np.testing.assert_allclose(detector.score_samples(X) - decision, detector.offset_)


def test_network_and_pipeline_are_fitted_where_they_are_not_frozen(tiny, images):
    X, y = images
    patient = np.arange(40) // 2
    sequence = ImageSequence.from_array(X, groups=patient)
    scaled = make_pipeline(IntensityScaler(), tiny())
    for estimator in (tiny(), make_pipeline(tiny()), scaled):
        detector = EmbeddingOutlierDetector(
            estimator, false_alarm_rate=0.2, random_state=0
        )
        scores = detector.fit(sequence, y).score_samples(sequence)
        assert scores.shape == (40,)
        assert not hasattr(estimator, "classes_")
        again = detector.fit(X, y, groups=patient).score_samples(X)
        np.testing.assert_array_equal(scores, again)


def test_estimator_without_features_is_an_error():
    X, y = make_features(40)
    for estimator in (make_pipeline(LogisticRegression()), LogisticRegression()):
        frozen = FrozenEstimator(estimator.fit(X, y))
        with pytest.raises(TypeError, match="has neither embed nor transform"):
            EmbeddingOutlierDetector(frozen).fit(X)


def test_too_few_held_out_are_an_error():
    X, _ = make_features(40)
    detector = EmbeddingOutlierDetector(IDENTITY, random_state=0)
    with pytest.raises(ValueError, match=r"at least 19 held-out images.*there are 10"):
        detector.fit(X)
    with pytest.raises(ValueError, match=r"at least 19 held-out patients.*are 5"):
        detector.fit(X, groups=np.arange(40) // 2)


# -- pixel statistics ------------------------------------------------------------------


def test_statistics_are_those_of_numpy():
    X = np.random.default_rng(0).integers(0, 4000, (6, 8, 12)).astype(np.int16)
    table = PixelStatistics().fit_transform(X)
    flat = X.reshape(6, -1).astype(float)
    quantiles = np.quantile(flat, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=1)
    steps = [np.abs(np.diff(X.astype(float), axis=a)).mean(axis=(1, 2)) for a in (1, 2)]
    cells = X.reshape(6, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(6, 16)
    expected = [flat.mean(1), flat.std(1), *steps, cells, quantiles.T]
    np.testing.assert_allclose(table, np.column_stack(expected), rtol=1e-5)


@pytest.mark.parametrize("shape", [(9, 7, 3), (1, 9, 7), (6, 9, 7), (6, 9, 7, 1)])
def test_layouts_and_lazy_arrays_have_statistics(shape):
    X = np.random.default_rng(0).integers(0, 255, (5, *shape), dtype=np.uint8)
    dims = {"spatial_dims": 3} if shape[0] == 6 else {}
    table = PixelStatistics(**dims).fit_transform(X)
    assert len(table) == 5
    assert np.isfinite(table).all()
    lazy = PixelStatistics(**dims).transform(ImageSequence.from_array(X))
    np.testing.assert_array_equal(lazy, table)


def test_statistics_of_differing_sizes_make_one_table():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (n, 9), dtype=np.uint8) for n in (8, 12, 20)]
    assert PixelStatistics().fit_transform(images).shape == (3, 27)


def test_statistics_of_what_is_not_finite_are_an_error():
    X = np.zeros((4, 8, 8))
    X[2, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[2\] is not finite"):
        PixelStatistics().fit_transform(X)
