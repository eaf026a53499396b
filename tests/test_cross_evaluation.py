"""Cross-validated areas: their intervals, and models compared over folds."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm, t
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold, StratifiedKFold

from skmedimg.evaluation import cross_evaluate
from skmedimg.io import ImageSequence


class Given(ClassifierMixin, BaseEstimator):
    """Takes its first feature for the probability: its true area is known."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])


def test_cross_evaluation_is_ledell_by_direct_implementation():
    y = np.tile([0, 1], 100)
    X = np.random.default_rng(0).random((200, 1)) * 0.5 + 0.25 * y[:, None]
    folds = list(StratifiedKFold(4).split(X, y))
    found = cross_evaluate(Given(), X, y, cv=folds)
    areas, squares = [], []
    for _, test in folds:
        positive, negative = X[test][y[test] == 1, 0], X[test][y[test] == 0, 0]
        above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        areas.append(above.mean())
        # Equal numbers of either class: each has a share of a half.
        influence = [*above.mean(1) - above.mean(), *above.mean(0) - above.mean()]
        squares.append(np.mean((np.array(influence) / 0.5) ** 2))
    np.testing.assert_allclose(found.fold_auc, areas)
    auc = np.mean(areas)
    error = np.sqrt(np.mean(squares) / 200 * 200 / 199)
    half = t.ppf(0.975, 99) * error / (auc * (1 - auc))
    odds = np.log(auc / (1 - auc))
    expected = 1 / (1 + np.exp(-np.array([odds, odds - half, odds + half])))
    np.testing.assert_allclose(found.auc, expected)


@pytest.mark.parametrize("n_patients", [None, 60])
def test_coverage_of_the_cross_validated_area(n_patients):
    truth = norm.cdf(1.2 / np.sqrt(2))
    hits = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1], 90)
        score = rng.normal(size=180) + 1.2 * y
        groups = None
        if n_patients is not None:
            groups = np.arange(180) // 3
            shared = rng.normal(size=60)[groups]
            score = 1.2 * y + np.sqrt(0.5) * (shared + rng.normal(size=180))
        X = norm.cdf(score)[:, None]
        low, high = cross_evaluate(Given(), X, y, cv=3, groups=groups).auc[1:]
        hits.append(low <= truth <= high)
    # Three standard errors around 95 %.
    assert 0.90 <= np.mean(hits) <= 0.995


def test_cross_evaluation_compares_by_the_corrected_test():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 100)
    X = np.clip(0.5 + 0.2 * (y[:, None] - 0.5) + 0.2 * rng.normal(size=(200, 1)), 0, 1)

    class Noisy(Given):
        def predict_proba(self, X):
            noise = np.random.default_rng(1).random(len(X))
            return super().predict_proba(np.column_stack([(X[:, 0] + noise) / 2]))

    others = {"noisy": Noisy(), "same": Given()}
    found = cross_evaluate(Given(), X, y, cv=5, compare_with=others)
    assert found.comparisons["same"].p_value == 1
    assert found.comparisons["same"].difference == 0
    plain = found.comparisons["noisy"]
    assert plain.difference == pytest.approx(found.auc.value - found.others["noisy"][0])
    assert found.p_adjusted["noisy"] == pytest.approx(min(1, 2 * plain.p_value))
    frame = found.to_frame()
    assert frame.index.to_list() == ["model", "noisy", "same"]
    assert frame.loc["model", "auc"] == found.auc.value


def test_cross_evaluation_of_images_keeps_patients_apart(images, tiny):
    X, y = images
    patients = np.arange(40) // 2
    sequence = ImageSequence.from_array(X, groups=patients)
    found = cross_evaluate(tiny(max_epochs=8), sequence, y, cv=3)
    assert 0 <= found.auc.low <= found.auc.value <= found.auc.high <= 1
    assert len(found.proba) == 40
    assert found.plot(ax=Figure().subplots()).ax_ is not None
    flat = X.reshape(40, -1) / 255
    folds = list(StratifiedKFold(3).split(flat, y))
    with pytest.raises(ValueError, match="patients on both sides"):
        cross_evaluate(Given(), flat, y, cv=folds, groups=y)
    with pytest.raises(ValueError, match="are of one class"):
        cross_evaluate(Given(), flat, np.sort(y), cv=KFold(2))
