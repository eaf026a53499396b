"""Intervals against direct implementations, published examples and simulation."""

import numpy as np
import pandas as pd
import pytest
from published_examples import subarachnoid_haemorrhage
from scipy.special import expit, logit
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from skmedimg.metrics import roc_auc_ci


def make_predictions(n=60, auc=0.75, prevalence=0.4, patients=None, seed=0):
    """Binormal scores with ties; those of a patient share half of their variance."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) if patients is None else rng.integers(patients, size=n)
    y = (rng.random(n) < prevalence).astype(int)
    score = np.sqrt(0.5) * (rng.normal(size=n) + rng.normal(size=n)[patient])
    return y, np.round(score + np.sqrt(2) * norm.ppf(auc) * y, 1), patient


def variance_within(y, score, **params):
    """Return the variance that the plain interval was built from."""
    auc, low, high = roc_auc_ci(y, score, transform=None, **params)
    assert 0 < low < auc < high < 1
    labels = y == max(set(y.tolist()))
    if "groups" not in params:
        df = min(labels.sum(), (~labels).sum()) - 1
    else:
        df = direct_df(labels.astype(int), score, params["groups"])
    return ((high - low) / 2 / t.ppf(0.975, df)) ** 2


def direct_df(y, score, patient):
    v10, v01 = direct_components(y, score)
    errors = []
    for i in np.unique(patient):
        of_pos = np.sum(v10[patient[y == 1] == i] - v10.mean()) / len(v10)
        of_neg = np.sum(v01[patient[y == 0] == i] - v01.mean()) / len(v01)
        errors.append(of_pos + of_neg)
    e = np.array(errors)
    fewest = min(len(np.unique(patient[y == k])) for k in (0, 1))
    return min(fewest - 1, max(2 * np.sum(e**2) ** 2 / np.sum(e**4) - 1, 3))


def direct_components(y, score):
    higher = np.sign(score[y == 1][:, None] - score[y == 0][None, :]) / 2 + 0.5
    return higher.mean(axis=1), higher.mean(axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_variance_is_delongs(seed):
    y, score, _ = make_predictions(seed=seed)
    v10, v01 = direct_components(y, score)
    expected = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)
    assert variance_within(y, score) == pytest.approx(expected, abs=1e-12)
    assert roc_auc_ci(y, score).value == pytest.approx(roc_auc_score(y, score))


@pytest.mark.parametrize("seed", range(5))
def test_clustered_variance_is_obuchowskis(seed):
    y, score, patient = make_predictions(n=100, patients=25, seed=seed)
    v10, v01 = direct_components(y, score)
    auc, x, z = v10.mean(), [], []
    for i in np.unique(patient):
        x.append(np.sum(v10[patient[y == 1] == i] - auc))
        z.append(np.sum(v01[patient[y == 0] == i] - auc))
    x, z, m, n = np.array(x), np.array(z), len(v10), len(v01)
    clusters = len(x)
    with_pos, with_neg = (len(np.unique(patient[y == k])) for k in (1, 0))
    expected = (
        with_pos / (with_pos - 1) * x @ x / m**2
        + with_neg / (with_neg - 1) * z @ z / n**2
        + 2 * clusters / (clusters - 1) * x @ z / (m * n)
    )
    got = variance_within(y, score, groups=patient)
    assert got == pytest.approx(expected, abs=1e-12)


def test_published_examples():
    # var(roc) and ci.auc(roc) of pROC.
    y, score, _ = subarachnoid_haemorrhage()
    variance = variance_within(y, score, pos_label="Poor")
    assert variance == pytest.approx(0.00266868245717244, abs=1e-14)
    auc = roc_auc_ci(y, score, pos_label="Poor").value
    pROC = auc + norm.ppf([0.025, 0.975]) * np.sqrt(variance)
    np.testing.assert_allclose(pROC, [0.6301182, 0.8326189], atol=1e-7)
    # Hanley and McNeil 1982, 109 CT images in five ratings; roctab's error in Stata.
    counts = [33, 6, 6, 11, 2, 3, 2, 2, 11, 33]
    ratings = np.repeat(np.tile(np.arange(5), 2), counts)
    y = np.repeat([0, 1], [58, 51])
    assert roc_auc_ci(y, ratings).value == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(variance_within(y, ratings)) == pytest.approx(0.0307, abs=5e-5)


def test_default_interval_is_symmetric_on_the_logit_scale():
    y, score, _ = make_predictions(n=80)
    auc, low, high = roc_auc_ci(y, score, level=0.9)
    half = t.ppf(0.95, min(y.sum(), len(y) - y.sum()) - 1)
    half *= np.sqrt(variance_within(y, score)) / (auc * (1 - auc))
    np.testing.assert_allclose(
        [low, high], expit(logit(auc) + half * np.array([-1, 1]))
    )


@pytest.mark.parametrize("transform", ["logit", None])
@pytest.mark.parametrize("clustered", [False, True])
def test_flipping_the_labels_flips_the_numbers(transform, clustered):
    y, score, patient = make_predictions(patients=20)
    params = {"transform": transform, "groups": patient if clustered else None}
    auc, low, high = roc_auc_ci(y, score, pos_label=1, **params)
    flipped = roc_auc_ci(y, score, pos_label=0, **params)
    np.testing.assert_allclose(flipped, [1 - auc, 1 - high, 1 - low], atol=1e-12)
    np.testing.assert_allclose(roc_auc_ci(1 - y, -score, **params), [auc, low, high])


def test_clusters_of_one_case_are_independent_cases():
    y, score, patient = make_predictions()
    plain = roc_auc_ci(y, score)
    np.testing.assert_allclose(roc_auc_ci(y, score, groups=patient[::-1]), plain)


def test_repeated_images_of_a_patient_tell_nothing_new():
    y, score, patient = make_predictions()
    plain = roc_auc_ci(y, score)
    y, score, patient = np.repeat([y, score, patient], 3, axis=1)
    np.testing.assert_allclose(roc_auc_ci(y, score, groups=patient), plain)
    naive = roc_auc_ci(y, score)
    assert naive.high - naive.low < 0.7 * (plain.high - plain.low)


def test_labels_scores_and_groups_of_any_kind():
    y, score, patient = make_predictions(patients=20)
    expected = roc_auc_ci(y, score, groups=patient)
    assert expected == roc_auc_ci(2 * y - 1, score, groups=patient)
    assert expected == roc_auc_ci(y == 1, score, groups=patient.astype(str))
    names = np.array(["benign", "malignant"])[y]
    for labels in (list(names), pd.Series(names), pd.Categorical(names)):
        got = roc_auc_ci(labels, score, pos_label="malignant", groups=patient)
        assert got == expected
    column = y[:, None], pd.Series(np.exp(score)), pd.Series(patient)
    assert roc_auc_ci(*column[:2], groups=column[2]) == expected


@pytest.mark.parametrize("transform", ["logit", None])
@pytest.mark.parametrize("n_pos", [1, 2, 40])
@pytest.mark.parametrize("n_neg", [1, 2, 40])
def test_perfect_separation_leaves_doubt(n_pos, n_neg, transform):
    y = np.repeat([0, 1], [n_neg, n_pos])
    auc, low, high = roc_auc_ci(y, np.arange(len(y)), transform=transform)
    assert 0 < low < auc == high == 1
    # Newcombe's method 5 says at its bound: this far away, but not farther.
    shape = 1 + ((n_pos + n_neg) / 2 - 1) * ((1 - low) / (2 - low) + low / (1 + low))
    error = np.sqrt(low * (1 - low) * shape / (n_pos * n_neg))
    assert 1 - low == pytest.approx(norm.ppf(0.975) * error)
    assert roc_auc_ci(y, -y, transform=transform) == (0, 0, pytest.approx(1 - low))


def test_constant_scores_and_lone_cases_have_an_interval_within_bounds():
    for y in (np.repeat([0, 1], 20), np.array([0, 1]), np.repeat([0, 1], [30, 1])):
        auc, low, high = roc_auc_ci(y, np.zeros(len(y)))
        assert auc == 0.5
        assert 0 <= low < 0.5 < high <= 1


def test_classes_of_one_patient_tell_less_than_their_images():
    y, score = np.repeat([0, 1], 20), np.arange(40) % 17
    _, low, high = roc_auc_ci(y, score)
    lone = roc_auc_ci(y, score, groups=np.where(y == 1, 99, np.arange(40)))
    assert 0 <= lone.low < low < high < lone.high <= 1


@pytest.mark.parametrize("patients", [None, 40])
@pytest.mark.parametrize("auc", [0.7, 0.9])
def test_coverage(auc, patients):
    intervals = [
        roc_auc_ci(y, score, groups=patient)
        for y, score, patient in (
            make_predictions(150, auc, 0.4, patients, seed) for seed in range(400)
        )
    ]
    assert all(0 <= i.low <= i.value <= i.high <= 1 for i in intervals)
    # Three standard errors around 95 % are 91.7 to 98.3 %.
    assert 0.917 <= np.mean([i.low <= auc <= i.high for i in intervals]) <= 0.983


@pytest.mark.parametrize("of_patient", [False, True])
@pytest.mark.parametrize("auc", [0.7, 0.9])
def test_coverage_with_1_to_30_images_a_patient(auc, of_patient):
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        patient = np.repeat(np.arange(60), rng.integers(1, 31, size=60))
        y = rng.random(len(patient)) < 0.4
        if of_patient:
            y = (rng.random(60) < 0.4)[patient]
        score = rng.normal(size=len(y)) + rng.normal(size=60)[patient]
        score += 2 * norm.ppf(auc) * y
        _, low, high = roc_auc_ci(y, score, groups=patient)
        covered.append(low <= auc <= high)
    assert 0.917 <= np.mean(covered) <= 0.983


@pytest.mark.parametrize(
    ("y_true", "y_score", "params", "match"),
    [
        ([1, 1], [0.1, 0.2], {}, "one class only"),
        ([0, 1, 2], [0.1, 0.2, 0.3], {}, "3 classes"),
        (["a", "b"], [0.1, 0.2], {}, "'a', 'b'.*pos_label"),
        ([1, 2], [0.1, 0.2], {}, "1, 2.*pos_label"),
        ([0, 1], [0.1, 0.2], {"pos_label": 2}, "pos_label=2"),
        ([0, 1], [0.1], {}, "2 labels.*1 scores"),
        ([0, 1], [0.1, np.nan], {}, "1 NaN, the first at index 1"),
        ([0, np.nan], [0.1, 0.2], {}, "y_true contains missing"),
        (["a", None], [0.1, 0.2], {"pos_label": "a"}, "y_true contains missing"),
        ([0, 1], ["b", "m"], {}, "y_score holds other than numbers.*'b'"),
        ([0, 1], [[0.9, 0.1], [0.2, 0.8]], {}, "column of the positive class"),
        ([], [], {}, "empty"),
        ([0, 1], [0.1, 0.2], {"groups": [1]}, "groups has 1 entries for 2"),
        ([0, 1], [0.1, 0.2], {"groups": ["p", None]}, "groups contains missing"),
        ([0, 1], [0.1, 0.2], {"groups": [pd.NaT, "p"]}, "missing values .NaT"),
        ([0, 1], [0.1, 0.2], {"level": 95}, "level"),
        ([0, 1], [0.1, 0.2], {"level": 1.0}, "level"),
        ([0, 1], [0.1, 0.2], {"transform": "probit"}, "transform"),
    ],
)
def test_errors_say_what_was_seen(y_true, y_score, params, match):
    with pytest.raises(ValueError, match=match):
        roc_auc_ci(y_true, y_score, **params)
