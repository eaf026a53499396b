"""Bootstrap intervals against scikit-learn's metrics, SciPy's BCa and simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

from skmedimg.metrics import bootstrap_ci

THRESHOLD = 0.45
SKLEARN = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "accuracy": lambda y, p: sk.accuracy_score(y, p >= THRESHOLD),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p >= THRESHOLD),
    "f1": lambda y, p: sk.f1_score(y, p >= THRESHOLD),
    "sensitivity": lambda y, p: sk.recall_score(y, p >= THRESHOLD),
    "specificity": lambda y, p: sk.recall_score(y, p >= THRESHOLD, pos_label=0),
    "brier": sk.brier_score_loss,
    "log_loss": sk.log_loss,
}


def make_predictions(n=120, patients=None, seed=0):
    """Probabilities with ties; those of a patient resemble each other."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) if patients is None else rng.integers(patients, size=n)
    y = (rng.random(n) < 0.4).astype(int)
    score = rng.normal(size=n) + rng.normal(size=n)[patient] + 1.5 * y
    return y, np.round(1 / (1 + np.exp(0.7 - score)), 2).clip(0.01, 0.99), patient


@pytest.mark.parametrize("name", SKLEARN)
@pytest.mark.parametrize("clustered", [False, True])
def test_named_metrics_are_those_of_scikit_learn(name, clustered):
    # A callable sees the drawn cases themselves: equal draws must give equal figures.
    y, p, patient = make_predictions(patients=30)
    params = {
        "groups": patient if clustered else None,
        "n_bootstrap": 200,
        "threshold": THRESHOLD,
        "random_state": 3,
    }
    direct = bootstrap_ci(SKLEARN[name], y, p, **params)
    np.testing.assert_allclose(bootstrap_ci(name, y, p, **params), direct, rtol=1e-9)


def brier(y, p, axis=-1):
    return np.mean((y - p) ** 2, axis=axis)


@pytest.mark.parametrize("patients", [12, 60])
def test_bounds_are_efrons_formula(patients):
    y, p, patient = make_predictions(patients=patients)
    seen = []

    def recorded(y, p):
        seen.append(brier(y, p))
        return seen[-1]

    value, low, high, _ = bootstrap_ci(
        recorded, y, p, groups=patient, level=0.9, n_bootstrap=500, random_state=0
    )
    replicates = np.array(seen[:500])
    without = [brier(y[patient != i], p[patient != i]) for i in np.unique(patient)]
    d = np.mean(without) - without
    a = np.sum(d**3) / (6 * np.sum(d**2) ** 1.5)
    z0 = norm.ppf(np.mean(replicates < value))
    for bound, z in (low, norm.ppf(0.05)), (high, norm.ppf(0.95)):
        share = norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
        assert bound == pytest.approx(np.quantile(replicates, share))


@pytest.mark.parametrize("n", [30, 100])
def test_interval_is_scipys(n):
    y, p, _ = make_predictions(n)
    expected = bootstrap(
        (y, p), brier, paired=True, n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    value, low, high, _ = bootstrap_ci("brier", y, p, n_bootstrap=9999, random_state=0)
    assert value == pytest.approx(brier(y, p))
    # The draws differ.
    assert (low, high) == pytest.approx(expected, abs=0.04 * (high - low))


def test_flipping_the_labels_flips_the_numbers():
    y, p, patient = make_predictions(patients=40)
    params = {"groups": patient, "random_state": 0}
    names = np.array(["benign", "malignant"])[y]
    both = ["roc_auc", "sensitivity", "specificity"]
    malignant = bootstrap_ci(both, names, p, pos_label="malignant", **params)
    assert malignant == bootstrap_ci(both, y, p, **params)
    # The same scores taken for those of the other class rank the wrong way round.
    value, low, high, _ = malignant["roc_auc"]
    benign = bootstrap_ci("roc_auc", names, p, pos_label="benign", **params)
    np.testing.assert_allclose(benign[:3], [1 - value, 1 - high, 1 - low])
    # Nothing lies on the threshold, so that the mirrored scores give mirrored calls.
    p = p + 0.001
    malignant = bootstrap_ci(both, names, p, pos_label="malignant", **params)
    benign = bootstrap_ci(both, names, 1 - p, pos_label="benign", **params)
    np.testing.assert_allclose(benign["roc_auc"], malignant["roc_auc"])
    assert benign["sensitivity"] == malignant["specificity"]
    assert benign["specificity"] == malignant["sensitivity"]


def test_kappa_is_scikit_learns_and_takes_grades_as_they_are():
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=200)
    pred = np.clip(y + rng.integers(-1, 2, size=200), 0, 3)

    def kappa(y, pred):
        return sk.cohen_kappa_score(y, pred, weights="quadratic")

    params = {"n_bootstrap": 200, "random_state": 0}
    expected = bootstrap_ci(kappa, y, pred, **params)
    np.testing.assert_allclose(
        bootstrap_ci("quadratic_kappa", y, pred, **params), expected
    )
    # Where no case has grade 2, 1 and 3 are two apart all the same.
    y, pred = np.array([0, 1, 3, 3, 1, 0]), np.array([0, 3, 3, 1, 1, 1])
    value = bootstrap_ci("quadratic_kappa", y, pred, **params).value
    assert value == pytest.approx(
        sk.cohen_kappa_score(y, pred, labels=range(4), weights="quadratic")
    )


def test_difference_is_paired():
    y, p, patient = make_predictions(n=300, patients=60)
    other = np.round(0.5 * p + 0.2, 3)
    # An order that is all the same: an exact zero in every replicate.
    with pytest.warns(UndefinedMetricWarning, match="every bootstrap replicate gave 0"):
        bootstrap_ci("roc_auc", y, p, y_score_b=other, random_state=0)
    same = bootstrap_ci(["f1", "roc_auc"], y, p, y_score_b=p)
    assert same == dict.fromkeys(["f1", "roc_auc"], (0, 0, 0, 0))
    worse = np.clip(p + np.random.default_rng(1).normal(scale=0.4, size=300), 0, 1)
    params = {"groups": patient, "random_state": 0}
    value, low, high, _ = bootstrap_ci("roc_auc", y, p, y_score_b=worse, **params)
    assert value == pytest.approx(sk.roc_auc_score(y, p) - sk.roc_auc_score(y, worse))
    assert 0 < low < value < high
    first, second = (bootstrap_ci("roc_auc", y, s, **params) for s in (p, worse))
    assert high - low < 0.8 * np.hypot(first.high - first.low, second.high - second.low)
    back = bootstrap_ci("roc_auc", y, worse, y_score_b=p, **params)
    np.testing.assert_allclose(back[:3], [-value, -high, -low])


def test_metrics_of_a_list_share_their_replicates():
    y, p, _ = make_predictions()
    params = {"random_state": 0, "n_bootstrap": 300}
    both = bootstrap_ci(["f1", sk.roc_auc_score], y, p, **params)
    assert list(both) == ["f1", sk.roc_auc_score]
    assert both["f1"] == bootstrap_ci("f1", y, p, **params)
    auc = bootstrap_ci("roc_auc", y, p, **params)
    np.testing.assert_allclose(both[sk.roc_auc_score], auc)


def test_replicates_without_a_class_are_counted():
    y = np.repeat([0, 1], [12, 2])
    p = np.arange(14) / 14 * np.where(np.arange(14) % 3, 1, 0.5)
    auc = bootstrap_ci("roc_auc", y, p, random_state=0)
    accuracy = bootstrap_ci("accuracy", y, p, random_state=0)
    assert accuracy.n_skipped == 0
    # (12 / 14)^14 = 11.6 % of the draws hold no positive case.
    assert 0.09 < auc.n_skipped / 2000 < 0.14
    direct = bootstrap_ci(lambda y, p: np.mean(p), y, p, random_state=0)
    assert direct.n_skipped == auc.n_skipped


def test_a_callable_may_take_a_score_a_class():
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[rng.integers(3, size=90)]
    proba = rng.dirichlet(np.ones(3), size=90) + 0.3 * (y[:, None] == ["a", "b", "c"])
    proba /= proba.sum(axis=1, keepdims=True)

    def macro_auc(y, proba):
        return sk.roc_auc_score(y, proba, multi_class="ovr")

    value, low, high, n_skipped = bootstrap_ci(
        macro_auc, y, proba, n_bootstrap=100, random_state=0
    )
    assert value == macro_auc(y, proba)
    assert low < value < high
    assert n_skipped == 0


def test_what_the_bootstrap_cannot_tell_is_said():
    y = np.repeat([0, 1], 10)
    with pytest.warns(UndefinedMetricWarning, match="gave 1.*roc_auc_ci") as caught:
        auc = bootstrap_ci("roc_auc", y, np.arange(20), random_state=0)
    assert auc.value == 1
    assert np.isnan(auc[1:3]).all()
    assert caught[0].filename == __file__


def test_bounds_are_finite_and_in_order_on_very_few_cases():
    for seed in range(200):
        y, p, _ = make_predictions(n=6, seed=seed)
        if 0 < y.sum() < 6:
            value, low, high, _ = bootstrap_ci(
                "brier", y, p, n_bootstrap=100, random_state=seed
            )
            assert 0 <= low < high <= 1
            assert low <= value * 1.5
            assert high >= value / 1.5


@pytest.mark.parametrize("patients", [None, 50])
def test_coverage(patients):
    metrics = ["roc_auc", "average_precision", "f1", "balanced_accuracy", "brier"]
    y, p, _ = make_predictions(200_000, seed=99)
    truth = {name: SKLEARN[name](y, p) for name in metrics}
    hits = []
    for seed in range(200):
        y, p, patient = make_predictions(150, patients, seed)
        found = bootstrap_ci(
            metrics,
            y,
            p,
            groups=patient,
            threshold=THRESHOLD,
            n_bootstrap=500,
            random_state=seed,
        )
        hits += [found[m].low <= truth[m] <= found[m].high for m in metrics]
    assert 0.92 <= np.mean(hits) <= 0.975


def test_seeds_repeat_and_kinds_of_input_agree():
    y, p, patient = make_predictions(patients=30)
    params = {"random_state": 5, "n_bootstrap": 300}
    expected = bootstrap_ci("f1", y, p, groups=patient, **params)
    assert bootstrap_ci("f1", y, p, groups=patient, **params) == expected
    series = pd.Series(p, index=np.arange(120) + 7), pd.Series(patient).astype(str)
    got = bootstrap_ci("f1", list(y), series[0], groups=series[1], **params)
    assert got == expected
    seeded = [
        bootstrap_ci("f1", y, p, random_state=np.random.RandomState(0), n_bootstrap=100)
        for _ in range(2)
    ]
    assert seeded[0] == seeded[1]


@pytest.mark.parametrize(
    ("metric", "y_true", "y_score", "params", "match"),
    [
        ("auc", [0, 1], [0.1, 0.2], {}, "metric"),
        (["roc_auc", "auc"], [0, 1], [0.1, 0.2], {}, "'auc' is unknown"),
        ("roc_auc", [1, 1], [0.1, 0.2], {}, "one class only"),
        ("roc_auc", ["a", "b"], [0.1, 0.2], {}, "pos_label"),
        ("roc_auc", [0, 1], [0.1], {}, "2 labels.*1 scores"),
        ("brier", [0, 1], [-1.5, 2], {}, "2 values outside.*-1.5 at index 0"),
        ("f1", [0, 1], [0.1, 0.2], {"groups": [1]}, "groups has 1 entries"),
        ("f1", [0, 1], [0.1, 0.2], {"groups": [1, 1]}, "of one group"),
        ("f1", [0, 1], [0.1, 0.2], {"n_bootstrap": 10}, "n_bootstrap"),
        (sk.f1_score, [0, 1], [1], {}, "2 labels.*1 scores"),
        ("quadratic_kappa", ["a", "b"], ["a", "b"], {}, "grades as numbers"),
        ("quadratic_kappa", [1, 2], [1], {}, "2 grades.*has 1"),
    ],
)
def test_errors_say_what_was_seen(metric, y_true, y_score, params, match):
    with pytest.raises(ValueError, match=match):
        bootstrap_ci(metric, y_true, y_score, **params)
