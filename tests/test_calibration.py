"""Calibration against scikit-learn's logistic regression and formulas by hand."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, norm, t
from sklearn.calibration import calibration_curve
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from skmedimg.metrics import (
    brier_decomposition,
    calibration_error,
    calibration_fit,
    reliability_curve,
)


def make_risks(n=400, slope=1.0, intercept=0.0, seed=0):
    """Labels, and probabilities whose calibration slope and intercept are these."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1.2, size=n)
    y = (rng.random(n) < expit(intercept + slope * x)).astype(int)
    return y, expit(x)


def test_fit_is_the_logistic_regression_on_the_logit():
    y, p = make_risks(slope=0.6, intercept=0.4)
    fit = calibration_fit(y, p)
    x = logit(p)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(x, y)
    assert fit.slope.value == pytest.approx(model.coef_.item(), abs=1e-5)
    assert fit.intercept.value == pytest.approx(model.intercept_.item(), abs=1e-5)
    # Wald's interval, from the inverse of the information matrix.
    risk = model.predict_proba(x)[:, 1]
    design = np.column_stack([np.ones(len(x)), x])
    error = np.sqrt(
        np.diag(np.linalg.inv(design.T @ np.diag(risk * (1 - risk)) @ design))
    )
    for estimate, se in zip((fit.intercept, fit.slope), error, strict=True):
        half = norm.ppf(0.975) * se
        assert estimate.high - estimate.value == pytest.approx(half, rel=1e-4)
        assert estimate.value - estimate.low == pytest.approx(half, rel=1e-4)


def make_clustered_risks(patients=40, seed=0):
    """Calibrated risks of several images a patient, whose labels go together."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 9, size=patients))
    x, u = (
        rng.normal(size=(2, len(patient))) + rng.normal(size=(2, patients))[:, patient]
    )
    p = expit(0.8 * x - 0.5)
    return (norm.cdf(u / np.sqrt(2)) < p).astype(int), p, patient


@pytest.mark.parametrize("seed", range(3))
def test_clustered_interval_is_mancl_and_derouens(seed):
    y, p, patient = make_clustered_risks(seed=seed)
    fit = calibration_fit(y, p, groups=patient)
    design = np.column_stack([np.ones(len(y)), logit(p)])
    risk = expit(design @ [fit.intercept.value, fit.slope.value])
    weighted = design * (risk * (1 - risk))[:, None]
    bread, meat = np.linalg.inv(design.T @ weighted), np.zeros((2, 2))
    for i in range(40):
        own = patient == i
        leverage = weighted[own] @ bread @ design[own].T
        residual = np.linalg.solve(np.eye(own.sum()) - leverage, (y - risk)[own])
        share = design[own].T @ residual
        meat += np.outer(share, share)
    error = np.sqrt(39 / 40 * np.diag(bread @ meat @ bread)) * t.ppf(0.975, 39)
    assert fit.intercept.high - fit.intercept.value == pytest.approx(error[0])
    assert fit.slope.value - fit.slope.low == pytest.approx(error[1])


def test_repeated_images_of_a_patient_tell_nothing_new():
    y, p = make_risks(n=100)
    one = calibration_fit(y, p, groups=np.arange(100))
    again = calibration_fit(np.tile(y, 4), np.tile(p, 4), groups=np.tile(range(100), 4))
    np.testing.assert_allclose(again, one, rtol=1e-6)


def test_a_patient_who_holds_all_that_is_known_leaves_no_bounds():
    y, p = make_risks(n=50)
    fit = calibration_fit(y, p, groups=np.arange(50) > 0)
    assert fit.slope.low == -np.inf
    assert fit.slope.high == np.inf
    with pytest.raises(ValueError, match="50 cases are of one group"):
        calibration_fit(y, p, groups=np.zeros(50))


@pytest.mark.parametrize("patients", [None, 40])
def test_coverage(patients):
    hits = []
    for seed in range(300):
        if patients is None:
            (y, p), groups = make_risks(150, intercept=-0.5, seed=seed), None
            truth = [1, -0.5]
        else:
            y, p, groups = make_clustered_risks(patients, seed)
            truth = [1, 0]
        slope, intercept, _ = calibration_fit(y, p, groups=groups)
        hits.append([slope.low <= truth[0] <= slope.high])
        hits.append([intercept.low <= truth[1] <= intercept.high])
    # Three standard errors around 95 %, were the 600 independent: 92.3 to 97.7 %.
    assert 0.92 <= np.mean(hits) <= 0.98


def test_calibration_in_the_large_makes_expected_cases_observed_ones():
    y, p = make_risks(intercept=-0.8)
    estimate = calibration_fit(y, p, level=0.9).intercept_in_the_large
    risk = expit(logit(p) + estimate.value)
    assert risk.sum() == pytest.approx(y.sum())
    half = norm.ppf(0.95) / np.sqrt(np.sum(risk * (1 - risk)))
    np.testing.assert_allclose(
        estimate[1:], estimate.value + half * np.array([-1, 1]), rtol=1e-9
    )


def test_flipping_the_labels_flips_the_numbers():
    y, p = make_risks(slope=0.7, intercept=0.3)
    names = np.array(["benign", "malignant"])[y]
    fit = calibration_fit(names, p, pos_label="malignant")
    assert fit == calibration_fit(y, p)
    flipped = calibration_fit(names, 1 - p, pos_label="benign")
    np.testing.assert_allclose(flipped.slope, fit.slope)
    value, low, high = fit.intercept_in_the_large
    np.testing.assert_allclose(flipped.intercept_in_the_large, [-value, -high, -low])
    parts = brier_decomposition(y, p)
    np.testing.assert_allclose(brier_decomposition(y, 1 - p, pos_label=0), parts)
    # The probability of the other class is as wrong as can be.
    wrong = brier_decomposition(y, p, pos_label=0)
    assert wrong.brier == pytest.approx(np.mean((p - 1 + y) ** 2))
    assert wrong.resolution == pytest.approx(0, abs=0.01)
    against = calibration_fit(y, p, pos_label=0).slope
    np.testing.assert_allclose(
        against, [-fit.slope.value, -fit.slope.high, -fit.slope.low]
    )
    error = calibration_error(y, p, random_state=0)
    flipped = calibration_error(names, 1 - p, pos_label="benign", random_state=0)
    assert flipped.value == pytest.approx(error.value, abs=0.02)
    curve = reliability_curve(names, 1 - p, pos_label="benign", n_bins=5)
    expected = reliability_curve(y, p, n_bins=5).iloc[::-1]
    np.testing.assert_allclose(curve["observed"], 1 - expected["observed"])
    np.testing.assert_allclose(curve["high"], 1 - expected["low"])


def test_parts_of_the_brier_score_add_up():
    y, p = make_risks(slope=0.5)
    p = p.round(2)
    parts = brier_decomposition(y, p)
    assert parts.brier == pytest.approx(brier_score_loss(y, p))
    assert parts.brier == pytest.approx(
        parts.reliability - parts.resolution + parts.uncertainty
    )
    best = IsotonicRegression().fit(p, y).predict(p)
    assert parts.reliability == pytest.approx(
        brier_score_loss(y, p) - brier_score_loss(y, best)
    )
    assert parts.uncertainty == pytest.approx(y.mean() * (1 - y.mean()))
    assert min(parts) > 0
    perfect = brier_decomposition(y, y)
    np.testing.assert_allclose(perfect, [0, 0, y.var(), y.var()], atol=1e-15)


def direct_square(y, p, n_bins):
    total = 0
    for own in np.array_split(np.argsort(p), n_bins):
        observed, n = y[own].mean(), len(own)
        total += n * (
            (observed - p[own].mean()) ** 2 - observed * (1 - observed) / (n - 1)
        )
    return total / len(y)


def test_calibration_error_is_its_definition():
    y, p = make_risks(n=1000, slope=0.3)
    value, low, high = calibration_error(y, p, n_bins=10, random_state=0)
    assert value == pytest.approx(np.sqrt(direct_square(y, p, 10)))
    assert low == 0 < high < value
    assert calibration_error(y, p, n_bins=10, random_state=0) == (value, low, high)
    # Ties share a bin, whose size then differs; a bin of one case tells nothing.
    coarse = calibration_error(y, np.full(1000, 0.25), random_state=0)
    expected = (y.mean() - 0.25) ** 2 - y.mean() * (1 - y.mean()) / 999
    assert coarse.value == pytest.approx(np.sqrt(expected))
    assert calibration_error([0, 1], [0.2, 0.7], random_state=0) == (0, 0, 0)


def test_calibration_error_of_calibrated_models_is_chance():
    values, squares = [], []
    for seed in range(200):
        y, p = make_risks(n=200, seed=seed)
        values.append(calibration_error(y, p, random_state=seed))
        squares.append(direct_square(y, p, 15))
    # Debiased: squares scatter around 0. The plain estimate is above 0.07.
    assert abs(np.mean(squares)) < 3 * np.std(squares) / 200**0.5
    within = np.mean([value <= high for value, _, high in values])
    # 97.5 % are expected, and three standard errors are 3.3 %.
    assert within >= 0.94


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_reliability_curve_is_scikit_learns_with_wilson_intervals(strategy):
    y, p = make_risks(n=400)
    curve = reliability_curve(y, p, n_bins=8, strategy=strategy)
    observed, predicted = calibration_curve(y, p, n_bins=8, strategy=strategy)
    np.testing.assert_allclose(curve["observed"], observed)
    np.testing.assert_allclose(curve["predicted"], predicted)
    assert curve["n"].sum() == 400
    for row in curve.itertuples():
        wilson = binomtest(round(row.observed * row.n), row.n).proportion_ci(
            method="wilson"
        )
        assert (row.low, row.high) == pytest.approx(wilson)


def test_reliability_curve_counts_patients():
    y, p = make_risks(n=200)
    curve = reliability_curve(y, p, level=0.9)
    patient = np.repeat(np.arange(200), 3)
    grouped = reliability_curve(
        np.repeat(y, 3), np.repeat(p, 3), groups=patient, level=0.9
    )
    np.testing.assert_allclose(grouped["observed"], curve["observed"])
    width, grouped_width = (c["high"] - c["low"] for c in (curve, grouped))
    np.testing.assert_allclose(grouped_width, width, rtol=0.15)


@pytest.mark.parametrize(
    "function",
    [calibration_fit, brier_decomposition, calibration_error, reliability_curve],
)
@pytest.mark.parametrize(
    ("y", "p", "match"),
    [
        ([0, 1, 1], [0.1, 0.2], "3 labels.*2 scores"),
        ([0, 1], [0.1, 1.2], "1 values outside.*1.2 at index 1"),
        ([0, 1], [0.1, np.nan], "1 NaN"),
        ([0, 0], [0.1, 0.2], "one class only"),
        ([1, 2], [0.1, 0.2], "pos_label"),
        ([0, 1], [[0.9, 0.1], [0.2, 0.8]], "column of the positive class"),
    ],
)
def test_errors_say_what_was_seen(function, y, p, match):
    with pytest.raises(ValueError, match=match):
        function(y, p)


@pytest.mark.parametrize("seed", range(20))
def test_fit_is_found_however_wrong_the_risks(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(scale=8), 10 ** rng.uniform(-2, 1), size=50)
    x = np.clip(x, -18, 18)
    y = rng.permutation(np.arange(50) < rng.integers(2, 49)).astype(int)
    fit = calibration_fit(y, expit(x), groups=np.arange(50) // 2)
    residual = y - expit(fit.intercept.value + fit.slope.value * x)
    assert residual.sum() == pytest.approx(0, abs=1e-5)
    assert residual @ (x - x.mean()) == pytest.approx(0, abs=1e-5 * x.std())
    residual = y - expit(fit.intercept_in_the_large.value + x)
    assert residual.sum() == pytest.approx(0, abs=1e-5)


def test_no_slope_where_none_is_finite():
    y = np.repeat([0, 1], 10)
    with pytest.warns(UndefinedMetricWarning, match="separate the classes .ties"):
        fit = calibration_fit(y, np.linspace(0.2, 0.7, 20))
    assert fit.slope.value == np.inf
    assert np.isnan(fit.slope[1:]).all()
    assert np.isnan(fit.intercept).all()
    assert np.isfinite(fit.intercept_in_the_large).all()
    with pytest.warns(UndefinedMetricWarning, match="the wrong way"):
        assert calibration_fit(1 - y, np.linspace(0.2, 0.7, 20)).slope.value == -np.inf
    with pytest.warns(UndefinedMetricWarning, match="the same for every case"):
        fit = calibration_fit(y, np.full(20, 0.3))
    assert np.isnan(fit.slope).all()
    assert fit.intercept_in_the_large.value == pytest.approx(-logit(0.3))


def test_certain_probabilities_are_said():
    y, p = make_risks()
    p[:3] = [0, 1, 1]
    with pytest.warns(UserWarning, match="3 of 400 probabilities are exactly 0 or 1"):
        fit = calibration_fit(y, p)
    assert np.isfinite(fit).all()
