"""The comparison of areas against direct formulas, its interval, and simulation."""

import numpy as np
import pytest
from published_examples import subarachnoid_haemorrhage
from scipy.stats import norm, t

from skmedimg.metrics import delong_test, roc_auc_ci


def make_pair(n=80, gain=0.0, patients=None, seed=0):
    """Two classifiers that share half of their noise; a patient's cases share some."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) if patients is None else rng.integers(patients, size=n)
    y = (np.arange(n) < 0.4 * n).astype(int)
    noise = rng.normal(size=(3, n)) + rng.normal(size=(3, n))[:, patient]
    a, b = noise[0] + noise[1], noise[0] + noise[2]
    return y, np.round(a + (1.5 + gain) * y, 1), np.round(b + 1.5 * y, 1), patient


def direct_components(y, score):
    higher = np.sign(score[y == 1][:, None] - score[y == 0][None, :]) / 2 + 0.5
    return higher.mean(axis=1), higher.mean(axis=0)


def test_published_examples():
    # roc.test of pROC, paired and unpaired; its interval is of the normal distribution.
    y, s100b, wfns = subarachnoid_haemorrhage()
    paired = delong_test(y, wfns, s100b, pos_label="Poor")
    assert paired.statistic == pytest.approx(2.20898359144091, abs=1e-12)
    error = paired.difference / paired.statistic
    pROC = paired.difference + error * norm.ppf([0.025, 0.975])
    np.testing.assert_allclose(pROC, [0.0104061769564846, 0.174214419249478])
    unpaired = delong_test(y, wfns, s100b, pos_label="Poor", y_true_b=y)
    assert unpaired.statistic == pytest.approx(1.43490640926908, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_paired_test_is_delongs(seed):
    y, a, b, _ = make_pair(seed=seed)
    (v10_a, v01_a), (v10_b, v01_b) = direct_components(y, a), direct_components(y, b)
    s10, s01 = np.cov(v10_a, v10_b), np.cov(v01_a, v01_b)
    covariance = s10 / len(v10_a) + s01 / len(v01_a)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    result = delong_test(y, a, b)
    difference = v10_a.mean() - v10_b.mean()
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert result.statistic == pytest.approx(difference / error, abs=1e-10)
    df = min(y.sum(), (1 - y).sum()) - 1
    assert result.p_value == pytest.approx(2 * t.sf(abs(difference / error), df))
    half = t.ppf(0.975, df) * error
    np.testing.assert_allclose(result[1:3], [difference - half, difference + half])


def test_unpaired_test_is_welchs():
    (y, a, _, _), (y_b, _, b, _) = make_pair(seed=1), make_pair(120, seed=2)
    result = delong_test(y, a, b, y_true_b=y_b)
    variances, df = [], [31, 47]
    for labels, score in ((y, a), (y_b, b)):
        v10, v01 = direct_components(labels, score)
        variances.append(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01))
    difference = roc_auc_ci(y, a).value - roc_auc_ci(y_b, b).value
    assert result.difference == pytest.approx(difference)
    statistic = difference / np.sqrt(sum(variances))
    assert result.statistic == pytest.approx(statistic)
    welch = sum(variances) ** 2 / sum(np.square(variances) / df)
    assert result.p_value == pytest.approx(2 * t.sf(abs(statistic), welch))


def test_swapping_the_classifiers_or_the_labels_flips_the_numbers():
    y, a, b, patient = make_pair(patients=30)
    for params in ({}, {"groups": patient}):
        forward = delong_test(y, a, b, **params)
        expected = (
            -forward.difference,
            -forward.high,
            -forward.low,
            -forward.statistic,
            forward.p_value,
        )
        np.testing.assert_allclose(delong_test(y, b, a, **params), expected, rtol=1e-9)
        flipped = delong_test(y, a, b, pos_label=0, **params)
        np.testing.assert_allclose(flipped, expected, rtol=1e-9)


def test_repeated_images_of_a_patient_tell_nothing_new():
    y, a, b, patient = make_pair(gain=0.5)
    plain = delong_test(y, a, b)
    np.testing.assert_allclose(delong_test(y, a, b, groups=patient[::-1]), plain)
    repeated = [np.repeat(x, 3) for x in (y, a, b)]
    clustered = delong_test(*repeated, groups=np.repeat(patient, 3))
    np.testing.assert_allclose(clustered, plain)
    assert delong_test(*repeated).p_value < plain.p_value


def test_other_images_of_the_same_patients_are_dependent():
    y, a, b, patient = make_pair()
    paired = delong_test(y, a, b)
    same = delong_test(y, a, b, y_true_b=y, groups=patient, groups_b=patient)
    # The paired variance, up to the n / (n - 1) of either class.
    assert same.statistic == pytest.approx(paired.statistic, rel=0.02)
    apart = delong_test(y, a, b, y_true_b=y, groups=patient, groups_b=patient + 80)
    unpaired = delong_test(y, a, b, y_true_b=y)
    np.testing.assert_allclose(apart, unpaired)
    assert abs(unpaired.statistic) < abs(same.statistic)
    itself = delong_test(y, a, a, y_true_b=y, groups=patient, groups_b=patient)
    assert itself.low < itself.difference == 0 < itself.high
    assert itself.p_value == 1


def test_equal_rankings_do_not_differ():
    y, a, _, patient = make_pair()
    for params in ({}, {"groups": patient}):
        assert delong_test(y, a, np.exp(a / 5), **params) == (0, 0, 0, 0, 1)
    assert delong_test([0, 1], [1, 2], [1, 2]) == (0, 0, 0, 0, 1)


def test_without_a_variance_the_interval_comes_from_either_area():
    y = np.repeat([0, 1], [20, 15])
    result = delong_test(y, np.arange(35), np.zeros(35))
    perfect, constant = roc_auc_ci(y, np.arange(35)), roc_auc_ci(y, np.zeros(35))
    assert result.difference == 0.5
    down = np.hypot(1 - perfect.low, constant.high - 0.5)
    assert result.low == pytest.approx(0.5 - down)
    assert result.statistic == pytest.approx(norm.ppf(0.975) * 0.5 / down)
    other = delong_test(y, np.arange(35), -np.arange(35)[::-1] + 40)
    assert other.difference == 0
    assert other.p_value == 1
    lone = delong_test([0, 0, 0, 1], [1, 2, 3, 4], [1, 2, 4, 3])
    assert -1 <= lone.low < 0 < lone.difference < lone.high <= 1
    assert lone.p_value > 0.05


@pytest.mark.parametrize("patients", [None, 40])
def test_size_of_the_test_and_coverage(patients):
    results = [
        delong_test(y, a, b, groups=patient)
        for y, a, b, patient in (
            make_pair(120, 0.0, patients, seed) for seed in range(400)
        )
    ]
    rejected = np.mean([result.p_value < 0.05 for result in results])
    # Three standard errors around 5 % reach to 8.3 %.
    assert 0.017 <= rejected <= 0.083
    agree = [(r.p_value < 0.05) == (r.low > 0 or r.high < 0) for r in results]
    assert all(agree)


@pytest.mark.parametrize(
    ("args", "params", "match"),
    [
        (([0, 1], [1, 2], [1]), {}, "2 labels but y_score_b has 1"),
        (([0, 1], [1], [1, 2]), {}, "2 labels but y_score_a has 1"),
        (([0, 1], [1, np.nan], [1, 2]), {}, "y_score_a contains 1 NaN"),
        (([0, 1], [1, 2], [1, 2]), {"groups_b": [1, 2]}, "without y_true_b"),
        (
            ([0, 1], [1, 2], [1, 2]),
            {"y_true_b": [0, 1], "groups": [1, 2]},
            "Only one of groups and groups_b",
        ),
        (([0, 1], [1, 2], [1, 2]), {"y_true_b": [0, 0]}, "y_true_b holds one class"),
    ],
)
def test_errors_say_what_was_seen(args, params, match):
    with pytest.raises(ValueError, match=match):
        delong_test(*args, **params)
