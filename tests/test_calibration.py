"""Calibration against scikit-learn's logistic regression and formulas by hand."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, norm
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
    assert calibration_fit(y, p, pos_label=0).slope.value == -fit.slope.value


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


def test_no_slope_where_none_is_finite():
    y = np.repeat([0, 1], 10)
    with pytest.warns(UndefinedMetricWarning, match="separates the classes perfectly"):
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
    with pytest.warns(
        UserWarning, match="3 of 400 values of y_prob are exactly 0 or 1"
    ):
        fit = calibration_fit(y, p)
    assert np.isfinite(fit).all()
