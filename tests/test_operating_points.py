"""Operating points against a search through all thresholds, and simulation."""

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score, roc_curve

from skmedimg.metrics import (
    partial_roc_auc,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    threshold_at_sensitivity,
)


def make_predictions(n=60, seed=0, decimals=1):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) < 0.4 * n).astype(int)
    return y, np.round(rng.normal(size=n) + y, decimals)


def all_points(y, score):
    """Every threshold with its sensitivity and specificity."""
    return [
        (cut, np.mean(score[y == 1] >= cut), np.mean(score[y == 0] < cut))
        for cut in [*np.unique(score), np.inf]
    ]


@pytest.mark.parametrize("target", [0, 0.5, 0.75, 0.9, 0.95, 1])
@pytest.mark.parametrize("seed", range(3))
def test_operating_points_are_the_best_attainable(target, seed):
    y, score = make_predictions(seed=seed)
    points = all_points(y, score)
    value, cut = sensitivity_at_specificity(y, score, target)
    best = max((se, sp) for _, se, sp in points if sp >= target)
    assert (value, np.mean(score[y == 0] < cut)) == pytest.approx(best)
    assert np.mean(score[y == 1] >= cut) == pytest.approx(value)
    value, cut = specificity_at_sensitivity(y, score, target)
    best = max((sp, se) for _, se, sp in points if se >= target)
    assert (value, np.mean(score[y == 1] >= cut)) == pytest.approx(best)
    assert np.mean(score[y == 0] < cut) == pytest.approx(value)


def test_flipping_the_labels_mirrors_the_points():
    y, score = make_predictions()
    expected = specificity_at_sensitivity(y, score, 0.8).value
    flipped = sensitivity_at_specificity(y, -score, 0.8, pos_label=0)
    assert flipped.value == pytest.approx(expected)


def test_no_threshold_reaches_full_specificity():
    point = sensitivity_at_specificity([0, 1, 0, 1], [1, 0, 1, 0], 1)
    assert point == (0, np.inf)


@pytest.mark.parametrize("least", [0, 0.5, 0.8, 0.95])
def test_partial_areas_are_mcclishs(least):
    y, score = make_predictions()
    got = partial_roc_auc(y, score, min_specificity=least)
    assert got == pytest.approx(roc_auc_score(y, score, max_fpr=1 - least))
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    grid = np.linspace(least, 1, 200001)
    # Specificity as a function of sensitivity; the area to the right of the curve.
    specificity = 1 - np.interp(grid, tpr + 1e-12 * np.arange(len(tpr)), fpr)
    area = np.trapezoid(specificity, grid)
    chance, most = (1 - least) ** 2 / 2, 1 - least
    expected = (1 + (area - chance) / (most - chance)) / 2
    got = partial_roc_auc(y, score, min_sensitivity=least)
    assert got == pytest.approx(expected, abs=1e-4)


def test_threshold_is_wilkss_order_statistic():
    score = np.random.default_rng(0).normal(size=300)
    y = (np.arange(300) < 200).astype(int)
    for target, confidence in ((0.9, 0.95), (0.95, 0.9), (0.5, 0.99)):
        k = np.arange(1, 200)
        k = k[binom.sf(k - 1, 200, 1 - target) >= confidence][-1]
        got = threshold_at_sensitivity(y, score, target, confidence=confidence)
        assert got == np.sort(score[:200])[k - 1]


def test_smallest_sample_that_assures_a_sensitivity():
    # 59 cases assure 95 % with confidence .95 if all are found (Wilks).
    y, score = np.repeat([0, 1], [1, 59]), np.arange(60)
    assert threshold_at_sensitivity(y, score, 0.95) == 1
    with pytest.raises(ValueError, match=r"worth of 58 positive cases;.*takes 59"):
        threshold_at_sensitivity(y[:-1], score[:-1], 0.95)
    patient = np.append(0, np.repeat(np.arange(58), 5) + 1)
    with pytest.raises(ValueError, match=r"worth of 58 independent.*takes 59"):
        threshold_at_sensitivity(
            np.append(0, np.ones(290)), np.arange(291), 0.95, groups=patient
        )


def test_repeated_images_of_a_patient_tell_nothing_new():
    y, score = make_predictions(400, decimals=6)
    plain = threshold_at_sensitivity(y, score, 0.9)
    assert threshold_at_sensitivity(y, score, 0.9, groups=np.arange(400)) == plain
    y, score, patient = np.repeat(y, 5), np.repeat(score, 5), np.repeat(range(400), 5)
    assert threshold_at_sensitivity(y, score, 0.9, groups=patient) == plain
    assert threshold_at_sensitivity(y, score, 0.9) > plain


def test_tied_scores_are_found_together():
    y = np.repeat([0, 1], [10, 100])
    score = np.append(np.zeros(10), np.repeat([0.2, 0.8], [6, 94]))
    # 94 of 100 assure .88 at most, so that 0.9 takes all of them.
    assert threshold_at_sensitivity(y, score, 0.9) == 0.2
    assert threshold_at_sensitivity(y, score, 0.88) == 0.8


@pytest.mark.parametrize("share", [None, 0.3, 0.9])
def test_sensitivity_is_reached_as_often_as_promised(share):
    rng = np.random.default_rng(0)
    reached = []
    for _ in range(1000):
        n_images = rng.integers(1, 9, size=80)
        patient = np.repeat(np.arange(80), n_images)
        if share is None:
            patient, score = np.arange(150), rng.normal(size=150)
        else:
            score = np.sqrt(share) * rng.normal(size=80)[patient]
            score += np.sqrt(1 - share) * rng.normal(size=len(patient))
        y = np.append(np.ones(len(score)), 0)
        groups = np.append(patient, -1)
        cut = threshold_at_sensitivity(y, np.append(score, 0), 0.9, groups=groups)
        reached.append(norm.sf(cut) >= 0.9)
    # Less than two standard errors below; independent cases promise it exactly.
    assert np.mean(reached) >= 0.938


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sensitivity_at_specificity([0, 1], [1, 2], 90), "specificity"),
        (lambda: specificity_at_sensitivity([1, 1], [1, 2], 0.9), "one class only"),
        (lambda: partial_roc_auc([0, 1], [1, 2]), "exactly one"),
        (
            lambda: partial_roc_auc(
                [0, 1], [1, 2], min_specificity=0.5, min_sensitivity=0.5
            ),
            "exactly one",
        ),
        (lambda: partial_roc_auc([0, 1], [1, 2], min_specificity=1), "min_specificity"),
        (lambda: threshold_at_sensitivity([0, 1], [1, 2], 1.0), "sensitivity"),
    ],
)
def test_errors_say_what_was_seen(call, match):
    with pytest.raises(ValueError, match=match):
        call()
