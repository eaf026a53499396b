"""Proportions against published examples, direct formulas and simulation."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import beta, norm, t

from skmedimg.metrics import (
    accuracy_ci,
    predictive_values_ci,
    proportion_ci,
    sensitivity_ci,
    specificity_ci,
)


def cases(hits, n):
    return np.arange(n) < hits


def decisions(tp, fn, fp, tn):
    return np.repeat([1, 1, 0, 0], [tp, fn, fp, tn]), np.repeat(
        [1, 0, 1, 0], [tp, fn, fp, tn]
    )


@pytest.mark.parametrize(
    ("hits", "n", "wilson", "exact"),
    [  # Newcombe 1998, Statistics in Medicine 17:857-872, table I: methods 3 and 5
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_published_examples(hits, n, wilson, exact):
    got = proportion_ci(cases(hits, n))
    np.testing.assert_allclose(got, [hits / n, *wilson], atol=5e-5)
    got = proportion_ci(cases(hits, n), method="exact")
    np.testing.assert_allclose(got[1:], exact, atol=5e-5)


def test_sensitivity_specificity_and_accuracy_are_proportions():
    y_true, y_pred = decisions(40, 10, 5, 95)
    assert sensitivity_ci(y_true, y_pred) == proportion_ci(cases(40, 50))
    assert specificity_ci(y_true, y_pred) == proportion_ci(cases(95, 100))
    assert accuracy_ci(y_true, y_pred) == proportion_ci(cases(135, 150))
    names = np.array(["benign", "malignant"])
    params = {"pos_label": "malignant", "method": "exact", "level": 0.9}
    got = sensitivity_ci(names[y_true], list(names[y_pred]), **params)
    low = beta.ppf(0.05, 40, 11)
    assert got[:2] == pytest.approx((0.8, low))
    assert got == specificity_ci(1 - y_true, 1 - y_pred, method="exact", level=0.9)
    assert accuracy_ci(["a", "b", "c"], ["a", "b", "b"]).value == pytest.approx(2 / 3)


def test_flipping_the_labels_swaps_the_figures():
    y_true, y_pred = decisions(40, 10, 5, 95)
    assert sensitivity_ci(y_true, y_pred, pos_label=0) == specificity_ci(y_true, y_pred)
    ppv, npv = predictive_values_ci(y_true, y_pred, prevalence=0.2)
    flipped = predictive_values_ci(y_true, y_pred, prevalence=0.8, pos_label=0)
    np.testing.assert_allclose(flipped, [npv, ppv])


@pytest.mark.parametrize("method", ["wilson", "exact"])
@pytest.mark.parametrize("hits", [0, 1, 14, 20])
def test_clusters_of_one_case_are_independent_cases(method, hits):
    success = cases(hits, 20)
    plain = proportion_ci(success, method=method)
    patient = np.arange(20)[::-1].astype(str)
    assert proportion_ci(success, groups=patient, method=method) == plain
    # Repeats tell no more; how far they depend is estimated, up to some shrinkage.
    success, patient = np.repeat(success, 4), np.repeat(patient, 4)
    repeated = proportion_ci(success, groups=patient, method=method)
    np.testing.assert_allclose(repeated, plain, atol=0.03)


def test_clustered_interval_is_korns_and_graubards():
    rng = np.random.default_rng(0)
    patient = rng.integers(25, size=120)
    success = rng.random(120) < rng.beta(0.7, 0.3, size=25)[patient]
    share, n_images = success.mean(), np.bincount(patient)
    half = n_images.mean() / 2
    sizes = np.append(n_images, [half, half])
    hits = np.append(np.bincount(patient, success), [half, 0])
    # Rao and Scott's ratio variance, Kish's design effect and number of clusters.
    m, n, mean = len(sizes), sizes.sum(), hits.sum() / sizes.sum()
    variance = m / (m - 1) * np.sum((hits - sizes * mean) ** 2) / n**2
    size = 120 / (variance / (mean * (1 - mean) / (n - 1)))
    clusters = 120**2 / np.sum(n_images**2)
    size *= (t.ppf(0.975, 119) / t.ppf(0.975, clusters - 1)) ** 2
    got = proportion_ci(success, groups=patient, method="exact")
    assert size < 80
    low = beta.ppf(0.025, share * size, (1 - share) * size + 1)
    high = beta.ppf(0.975, share * size + 1, (1 - share) * size)
    np.testing.assert_allclose(got, [share, low, high])


def test_one_cluster_counts_as_one_case():
    got = proportion_ci([True, True, False, True], groups=["p"] * 4)
    assert got.value == 0.75
    assert got.high - got.low > 0.8


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.8])
def test_predictive_values_are_mercaldos(prevalence):
    tp, fn, fp, tn = 240, 178, 87, 288
    got = predictive_values_ci(*decisions(tp, fn, fp, tn), prevalence=prevalence)
    se, sp, prior = tp / (tp + fn), tn / (tn + fp), prevalence
    z = norm.ppf(0.975) * np.array([-1, 1])
    ppv = se * prior / (se * prior + (1 - sp) * (1 - prior))
    error = np.sqrt((1 - se) / se / (tp + fn) + sp / (1 - sp) / (tn + fp))
    expected = [ppv, *expit(logit(ppv) + z * error)]
    np.testing.assert_allclose(got.ppv, expected)
    npv = sp * (1 - prior) / (sp * (1 - prior) + (1 - se) * prior)
    error = np.sqrt(se / (1 - se) / (tp + fn) + (1 - sp) / sp / (tn + fp))
    np.testing.assert_allclose(got.npv, [npv, *expit(logit(npv) + z * error)])


def test_predictive_values_of_the_sample_are_its_proportions():
    got = predictive_values_ci(*decisions(60, 20, 15, 105))
    assert got.ppv.value == pytest.approx(60 / 75)
    assert got.npv.value == pytest.approx(105 / 125)
    # The logit interval of a proportion of a random number of cases.
    half = norm.ppf(0.975) * np.sqrt(1 / 60 + 1 / 15)
    assert got.ppv.low == pytest.approx(expit(logit(0.8) - half))
    y_true, y_pred = (np.repeat(x, 3) for x in decisions(60, 20, 15, 105))
    clustered = predictive_values_ci(
        y_true, y_pred, groups=np.repeat(np.arange(200), 3)
    )
    np.testing.assert_allclose(clustered, got, atol=2e-3)


def test_predictive_values_without_errors_leave_doubt():
    ppv, npv = predictive_values_ci(*decisions(30, 0, 0, 50), prevalence=0.1)
    assert ppv.value == npv.value == ppv.high == npv.high == 1
    assert 0.3 < ppv.low < 0.9
    assert 0.9 < npv.low < 1
    ppv, npv = predictive_values_ci(*decisions(0, 30, 0, 50), prevalence=0.1)
    np.testing.assert_equal(ppv, (np.nan, 0, 1))
    assert npv.low < npv.value == 0.9 < npv.high


def make_clustered(rate, patients, seed):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 31, size=patients))
    own = rng.beta(rate, 1 - rate, size=patients)
    return rng.random(len(patient)) < own[patient], patient


@pytest.mark.parametrize("patients", [30, 100])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
def test_clustered_coverage(rate, patients):
    covered = []
    for seed in range(400):
        success, patient = make_clustered(rate, patients, seed)
        _, low, high = proportion_ci(success, groups=patient)
        covered.append(low <= rate <= high)
    # Three standard errors below 95 %; the fewer failures, the more it errs wide.
    assert 0.917 <= np.mean(covered) <= (0.983 if rate < 0.9 else 1)


@pytest.mark.parametrize("prevalence", [None, 0.1])
def test_clustered_coverage_of_predictive_values(prevalence):
    rng = np.random.default_rng(0)
    share = 0.4 if prevalence is None else prevalence
    expected = 0.8 * share / (0.8 * share + 0.1 * (1 - share))
    covered = []
    for _ in range(400):
        patient = np.repeat(np.arange(60), rng.integers(1, 8, size=60))
        y_true = (rng.random(60) < 0.4)[patient]
        rate = np.where(y_true, 0.8, 0.1)
        own = rng.beta(2 * rate, 2 * (1 - rate))[
            np.unique(patient, return_index=True)[1]
        ]
        y_pred = rng.random(len(patient)) < own[patient]
        ppv, _ = predictive_values_ci(
            y_true, y_pred, groups=patient, prevalence=prevalence
        )
        covered.append(ppv.low <= expected <= ppv.high)
    # Three standard errors around 95 %.
    assert 0.917 <= np.mean(covered) <= 0.983


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: proportion_ci([]), "empty"),
        (lambda: proportion_ci([0, 2]), "success holds 2"),
        (lambda: proportion_ci([0, np.nan]), "success contains missing"),
        (lambda: proportion_ci([0, 1], groups=[1]), "groups has 1 entries for 2"),
        (lambda: proportion_ci([0, 1], level=95), "level"),
        (lambda: sensitivity_ci([0, 0], [0, 1]), "no positive case among 2"),
        (lambda: specificity_ci([1, 1], [0, 1]), "no negative case among 2"),
        (lambda: sensitivity_ci(["a", "b"], ["a", "a"]), "pos_label"),
        (lambda: sensitivity_ci([0, 1], [0, 2]), "3 classes"),
        (lambda: sensitivity_ci([0, 1], ["0", "1"]), "4 classes"),
        (lambda: sensitivity_ci([0, 1], [0]), "y_true has 2 labels but y_pred has 1"),
        (lambda: predictive_values_ci([1, 1], [0, 1]), "no negative case"),
        (lambda: predictive_values_ci([0, 1], [0, 1], prevalence=1.0), "prevalence"),
    ],
)
def test_errors_say_what_was_seen(call, match):
    with pytest.raises(ValueError, match=match):
        call()
