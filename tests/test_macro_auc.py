"""The mean over classes against its two-class case, scikit-learn and simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from skmedimg.metrics import macro_auc_ci, roc_auc_ci


def make_classes(n=150, n_classes=3, patients=None, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    patient = np.arange(n) if patients is None else rng.integers(patients, size=n)
    y = np.sort(np.arange(n) % n_classes)
    noise = rng.normal(size=(n, n_classes)) + rng.normal(size=(n, n_classes))[patient]
    return y, noise + shift * np.sqrt(2) * np.eye(n_classes)[y], patient


def test_mean_is_scikit_learns():
    y, score, _ = make_classes()
    proba = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    expected = roc_auc_score(y, proba, multi_class="ovr")
    assert macro_auc_ci(y, proba).value == pytest.approx(expected)
    names = np.array(["a", "b", "c"])[y]
    assert macro_auc_ci(names, proba) == macro_auc_ci(y, proba)
    got = macro_auc_ci(names, proba[:, ::-1], labels=["c", "b", "a"])
    assert got == pytest.approx(macro_auc_ci(y, proba))
    got = macro_auc_ci(np.eye(3)[y], proba)
    assert got == pytest.approx(macro_auc_ci(y, proba))


@pytest.mark.parametrize("patients", [None, 40])
def test_two_classes_have_the_variance_of_their_area(patients):
    y, score, patient = make_classes(200, 2, patients)
    one = roc_auc_ci(y, score[:, 1] - score[:, 0], groups=patient)
    both = np.subtract(score, score[:, ::-1])
    got = macro_auc_ci(y, both, groups=patient)
    # Only the factors n / (n - 1) of clusters that hold both classes differ.
    rel = 1e-9 if patients is None else 0.01
    np.testing.assert_allclose(got, one, rtol=rel)


def test_class_of_which_one_patient_has_most_images_leaves_doubt():
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [101, 60])
    patient = np.append(np.repeat([0, 1], [100, 1]), np.arange(2, 62))
    score = rng.normal(size=161) + y
    _, low, high = macro_auc_ci(y, np.stack([-score, score], axis=1), groups=patient)
    assert (low, high) == pytest.approx((0, 1), abs=1e-3)


def test_variance_is_that_of_the_jackknife():
    y, score, _ = make_classes()
    n, replicates = len(y), []
    for i in range(n):
        keep = np.arange(n) != i
        replicates.append(macro_auc_ci(y[keep], score[keep]).value)
    error = np.sqrt((n - 1) / n * np.sum((replicates - np.mean(replicates)) ** 2))
    value, low, high = macro_auc_ci(y, score)
    logits = np.log([low / (1 - low), high / (1 - high)])
    got = np.diff(logits)[0] / 2 * value * (1 - value) / error
    assert got == pytest.approx(1.98, abs=0.04)


def test_repeated_images_of_a_patient_tell_nothing_new():
    y, score, patient = make_classes()
    plain = macro_auc_ci(y, score)
    y, score, patient = (np.repeat(x, 3, axis=0) for x in (y, score, patient))
    # But for the degrees of freedom, which clusters have from their errors.
    got = macro_auc_ci(y, score, groups=patient)
    np.testing.assert_allclose(got, plain, rtol=1e-3)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=(120, 2)).astype(float)
    score = rng.normal(size=truth.shape) + 2 * truth
    truth[:10] = np.nan
    got = macro_auc_ci(truth[::-1], score[::-1])
    assert got == pytest.approx(macro_auc_ci(truth, score))
    assert got == pytest.approx(macro_auc_ci(truth[10:], score[10:]))


def test_unknown_labels_are_left_out():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=(200, 3)).astype(float)
    score = rng.normal(size=(200, 3)) + truth
    full = macro_auc_ci(truth, score)
    truth[:50, 0] = truth[150:, 1] = np.nan
    got = macro_auc_ci(truth, score)
    areas = [
        roc_auc_ci(truth[known, k], score[known, k]).value
        for k, known in enumerate(~np.isnan(truth).T)
    ]
    assert got.value == pytest.approx(np.mean(areas))
    assert got.high - got.low > full.high - full.low
    table = pd.DataFrame(truth).astype("Int64")
    table[2] = table[2].astype("boolean")
    assert table[0].isna().sum() == 50
    assert macro_auc_ci(table, score) == got


def test_perfect_and_lone_classes_leave_doubt():
    y = np.repeat([0, 1, 2], 10)
    value, low, high = macro_auc_ci(y, np.eye(3)[y])
    assert value == high == 1
    single = roc_auc_ci(y == 2, y == 2)
    assert low == pytest.approx(single.low)
    y = np.append(np.repeat([0, 1], 20), 2)
    score = np.random.default_rng(0).normal(size=(41, 3)) + np.eye(3)[y]
    value, low, high = macro_auc_ci(y, score)
    assert 0 < low < value < high < 1


@pytest.mark.parametrize("patients", [None, 60])
def test_coverage(patients):
    # The score of a class has variance 2 and is shifted by sqrt(2) for its own cases.
    truth = norm.cdf(1 / np.sqrt(2))
    covered = []
    for seed in range(300):
        y, score, patient = make_classes(150, 3, patients, seed)
        _, low, high = macro_auc_ci(y, score, groups=patient)
        covered.append(low <= truth <= high)
    # Three standard errors around 95 %.
    assert 0.912 <= np.mean(covered) <= 0.988


@pytest.mark.parametrize(
    ("args", "params", "match"),
    [
        (([0, 1], [0.1, 0.2]), {}, r"shape \(2,\) for 2 cases"),
        (([0, 1], [[0.1, 0.2]] * 3), {}, "for 2 cases"),
        (([0, 1, 2], [[0.1, 0.2]] * 3), {}, "2 columns for 3 classes"),
        (([0, 1, 5], [[0.1, 0.2]] * 3), {"labels": [0, 1]}, "holds .*5"),
        (
            ([0, 1, 1], [[0.1, 0.2, 3]] * 3),
            {"labels": ["0", "1", "2"]},
            "among labels",
        ),
        (([0, 1, 1], [[0.1, 0.2, 3]] * 3), {"labels": [0, 1, 2]}, "2 has 0 positive"),
        (([[0, 1], [0, 2]], [[0.1, 0.2]] * 2), {}, "y_true holds 2"),
        (([[0, 1], [0, 0]], [[0.1, 0.2]] * 2), {}, "0 has 0 positive"),
        (([0, 1], [[0.1, np.nan]] * 2), {}, "2 NaN"),
        ((["a", None], [[0.1, 0.2]] * 2), {}, "missing"),
    ],
)
def test_errors_say_what_was_seen(args, params, match):
    with pytest.raises(ValueError, match=match):
        macro_auc_ci(*args, **params)
