"""McNemar's test against published examples, enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from skmedimg.metrics import accuracy_ci, mcnemar_test


def make_pairs(both, first, second, neither):
    counts = [both, first, second, neither]
    y = np.ones(sum(counts), int)
    return y, np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


@pytest.mark.parametrize(
    ("counts", "mid_p", "interval"),
    [  # Fagerland et al. 2013 (mid-p) and 2014 (Tango's interval)
        ((1, 1, 7, 12), 0.0391, (-0.517, -0.026)),
        ((59, 6, 16, 80), 0.0347, (-0.124, -0.005)),
    ],
)
def test_published_examples(counts, mid_p, interval):
    result = mcnemar_test(*make_pairs(*counts))
    assert result.p_value == pytest.approx(mid_p, abs=5e-5)
    assert result[1:3] == pytest.approx(interval, abs=6e-4)
    _, better, worse, _ = counts
    expected = (better - worse) / np.sqrt(better + worse)
    assert result.statistic == pytest.approx(expected)


def test_difference_is_of_accuracies_of_any_number_of_classes():
    rng = np.random.default_rng(0)
    names = np.array(["cyst", "mass", "none"])
    y, a, b = names[rng.integers(3, size=(3, 60))]
    result = mcnemar_test(y, a, list(b))
    expected = accuracy_ci(y, a).value - accuracy_ci(y, b).value
    assert result.difference == pytest.approx(expected)
    swapped = mcnemar_test(y, b, a)
    assert swapped.p_value == result.p_value
    assert (swapped.low, swapped.high) == pytest.approx((-result.high, -result.low))


def test_interval_ends_where_the_score_statistic_is_the_quantile():
    better, worse, n = 14, 5, 80
    result = mcnemar_test(*make_pairs(40, better, worse, n - 40 - better - worse))
    for bound in (result.low, result.high):
        # Tango's constrained maximum, by search through the shares of worse pairs.
        q = np.linspace(max(0, -bound) + 1e-9, (1 - bound) / 2 - 1e-9, 400001)
        rest = n - better - worse
        likelihood = (
            better * np.log(q + bound)
            + worse * np.log(q)
            + rest * np.log(1 - 2 * q - bound)
        )
        q = q[np.argmax(likelihood)]
        z = (better - worse - n * bound) / np.sqrt(n * (2 * q + bound - bound**2))
        assert abs(z) == pytest.approx(1.95996, abs=1e-3)


def test_clustered_p_value_is_that_of_all_sign_patterns():
    rng = np.random.default_rng(3)
    patient = rng.integers(9, size=60)
    y, a, b = rng.integers(2, size=(3, 60))
    net = np.bincount(patient, (a == y).astype(int) - (b == y))
    net = net[net != 0]
    sums = np.abs([np.dot(signs, net) for signs in product([-1, 1], repeat=len(net))])
    seen = abs(net.sum())
    expected = np.mean(sums > seen) + np.mean(sums == seen) / 2
    result = mcnemar_test(y, a, b, groups=patient)
    assert result.p_value == pytest.approx(expected)
    assert result.statistic == pytest.approx(net.sum() / np.sqrt(net @ net))


def test_clusters_of_one_case_are_independent_cases():
    y, a, b = make_pairs(30, 14, 5, 11)
    plain = mcnemar_test(y, a, b)
    assert plain.p_value == pytest.approx(
        2 * binom.cdf(5, 19, 0.5) - binom.pmf(5, 19, 0.5)
    )
    np.testing.assert_allclose(mcnemar_test(y, a, b, groups=np.arange(60)), plain)
    y, a, b = (np.repeat(x, 4) for x in (y, a, b))
    repeated = mcnemar_test(y, a, b, groups=np.repeat(np.arange(60), 4))
    np.testing.assert_allclose(repeated, plain, atol=0.01)
    assert mcnemar_test(y, a, b).p_value < 0.1 * plain.p_value


def test_no_discordant_pair_leaves_doubt():
    result = mcnemar_test(*make_pairs(50, 0, 0, 0))
    z2 = 1.959964**2
    expected = z2 / (50 + z2)
    assert result == pytest.approx((0, -expected, expected, 0, 1))
    always = mcnemar_test(*make_pairs(0, 5, 0, 0))
    assert always.difference == always.high == 1
    assert 0 < always.low < 1
    assert always.p_value == pytest.approx(1 / 32)


def test_many_cases_take_no_time_and_keep_the_normal_limit():
    result = mcnemar_test(*make_pairs(60_000, 20_300, 20_000, 0))
    assert result.p_value == pytest.approx(0.1351, abs=1e-3)


@pytest.mark.parametrize("clustered", [False, True])
def test_size_of_the_test_and_coverage(clustered):
    rng = np.random.default_rng(0)
    rejected, covered = [], []
    for _ in range(400):
        patient = np.repeat(np.arange(50), rng.integers(1, 7, size=50))
        if not clustered:
            patient = np.arange(100)
        own = rng.normal(size=(2, len(patient))) + rng.normal(size=(2, 100))[:, patient]
        a, b = (own + rng.normal(size=len(patient)) + 1 > 0).astype(int)
        y = np.ones(len(patient), int)
        result = mcnemar_test(y, a, b, groups=patient)
        rejected.append(result.p_value < 0.05)
        covered.append(result.low <= 0 <= result.high)
    # Three standard errors around 5 and 95 %.
    assert 0.017 <= np.mean(rejected) <= 0.083
    assert 0.917 <= np.mean(covered) <= 0.983


def test_errors_say_what_was_seen():
    with pytest.raises(ValueError, match="2 labels but y_pred_b has 1"):
        mcnemar_test([0, 1], [0, 1], [0])
    with pytest.raises(ValueError, match="groups has 1 entries for 2"):
        mcnemar_test([0, 1], [0, 1], [0, 1], groups=[1])
