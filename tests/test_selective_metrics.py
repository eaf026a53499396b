"""Risk and coverage against loops, random orders of ties, and known areas."""

import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from skmedimg.metrics import aurc, bootstrap_ci, risk_coverage_curve


def make_errors(n=300, seed=0):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return (rng.random(n) > confidence).astype(int), confidence


def test_curve_is_the_running_mean_by_falling_confidence():
    error, confidence = make_errors(50)
    coverage, risk = risk_coverage_curve(error, confidence)
    order = np.argsort(-confidence)
    for k in range(1, 51):
        assert coverage[k - 1] == pytest.approx(k / 50)
        assert risk[k - 1] == pytest.approx(error[order[:k]].mean())
    area = aurc(error, confidence, random_state=0)
    assert area.value == pytest.approx(risk.mean())
    assert area.random == pytest.approx(error.mean())
    _, best = risk_coverage_curve(error, -error)
    assert area.oracle == pytest.approx(best.mean())


def test_equally_confident_cases_count_as_in_random_order():
    rng = np.random.default_rng(0)
    error, confidence = rng.normal(size=30), rng.integers(5, size=30)
    curves = [
        risk_coverage_curve(error, confidence + 0.01 * rng.random(30))[1]
        for _ in range(4000)
    ]
    _, risk = risk_coverage_curve(error, confidence)
    spread = np.std(curves, axis=0)
    assert np.all(
        np.abs(np.mean(curves, axis=0) - risk) <= 5 * spread / 4000**0.5 + 1e-9
    )
    area = aurc(error, confidence, random_state=0)
    assert area.value == pytest.approx(risk.mean())
    same = aurc(error, np.zeros(30), random_state=0)
    assert same.value == pytest.approx(error.mean())
    assert same.gain == (0, 0, 0)


@pytest.mark.parametrize("decimals", [1, 5])
def test_interval_is_that_of_the_curves_of_resampled_cases(decimals):
    error, confidence = make_errors(80)
    confidence, patient = confidence.round(decimals), np.arange(80) // 2

    def area(error, confidence):
        return risk_coverage_curve(error, confidence)[1].mean()

    params = {"groups": patient, "random_state": 0}
    expected = bootstrap_ci(area, error, confidence, **params)
    found = aurc(error, confidence, **params)
    np.testing.assert_allclose(found[:3], expected[:3])
    gain = bootstrap_ci(lambda e, c: e.mean() - area(e, c), error, confidence, **params)
    np.testing.assert_allclose(found.gain, gain[:3])


def test_confidence_that_knows_beats_random_referral():
    error, confidence = make_errors(400)
    area = aurc(error, confidence, random_state=0)
    assert area.oracle < area.low < area.value < area.high < area.random
    assert area.gain.value == pytest.approx(area.random - area.value)
    assert 0 < area.gain.low < area.gain.value < area.gain.high
    shuffled = np.random.default_rng(1).permutation(confidence)
    assert aurc(error, shuffled, random_state=0).gain.low < 0


def test_repeated_images_of_a_patient_tell_nothing_new():
    error, confidence = make_errors(100)
    plain = aurc(error, confidence, random_state=0)
    patient = np.repeat(np.arange(100), 3)
    error, confidence = np.repeat(error, 3), np.repeat(confidence, 3)
    grouped = aurc(error, confidence, groups=patient, random_state=0)
    assert grouped.high - grouped.low == pytest.approx(plain.high - plain.low, rel=0.1)
    naive = aurc(error, confidence, random_state=0)
    assert naive.high - naive.low < 0.7 * (grouped.high - grouped.low)


def test_no_error_at_all_leaves_doubt():
    with pytest.warns(UndefinedMetricWarning, match="every bootstrap replicate gave 0"):
        area = aurc(np.zeros(20), np.arange(20), random_state=0)
    assert area.value == area.random == area.oracle == 0
    assert np.isnan([area.low, area.high]).all()


@pytest.mark.parametrize(
    ("error", "confidence", "params", "match"),
    [
        ([0, 1], [0.1], {}, "error has 2 entries and confidence 1"),
        ([0, np.nan], [0.1, 0.2], {}, "error holds 1 NaN.*index 1"),
        ([0, 1], [0.1, np.inf], {}, "confidence holds 1 NaN or infinite"),
        ([], [], {}, "error is empty"),
        ([0, 1], [0.1, 0.2], {"groups": [1]}, "groups has 1"),
        ([0, 1], [0.1, 0.2], {"level": 95}, "level"),
    ],
)
def test_errors_say_what_was_seen(error, confidence, params, match):
    with pytest.raises(ValueError, match=match):
        aurc(error, confidence, **params)
