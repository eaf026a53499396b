"""Conformal sets: the promise holds, exactly where theory says exactly."""

import numpy as np
import pytest
from lookup import frozen, make_patients
from scipy.stats import betabinom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from skmedimg.model_selection import PatientKFold
from skmedimg.uncertainty import ConformalClassifier


def make_table(n, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes))
    table = np.exp(2 * logits)
    table /= table.sum(axis=1, keepdims=True)
    y = (table.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return table, y


def quantile_of(scores, alpha):
    """The ⌈(n + 1)(1 - α)⌉-th smallest score, as textbooks write it."""
    k = int(np.ceil(round((len(scores) + 1) * (1 - alpha), 9)))
    return np.sort(scores)[k - 1]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [19, 99, 250])
def test_sets_are_those_of_the_textbook(n, alpha):
    table, y = make_table(n + 500)
    rows, new = np.arange(n), np.arange(n, n + 500)
    clf = ConformalClassifier(frozen(table, range(3)), alpha=alpha).fit(rows, y[:n])
    threshold = quantile_of(1 - table[rows, y[:n]], alpha)
    np.testing.assert_array_equal(clf.predict_set(new), 1 - table[new] <= threshold)
    assert clf.coverage_guarantee_ == 1 - alpha
    assert clf.n_calibration_.tolist() == [n] * 3


def test_sets_per_class_take_the_scores_of_the_class():
    table, y = make_table(800)
    rows, new = np.arange(300), np.arange(300, 800)
    clf = ConformalClassifier(frozen(table, range(3)), method="per_class")
    sets = clf.fit(rows, y[:300]).predict_set(new)
    for code in range(3):
        own = rows[y[:300] == code]
        threshold = quantile_of(1 - table[own, code], 0.1)
        np.testing.assert_array_equal(sets[:, code], 1 - table[new, code] <= threshold)
        assert clf.n_calibration_[code] == len(own)


def test_a_patient_counts_once_by_its_worst_image():
    y, p, patient = make_patients(60)
    rows = np.arange(len(y))
    clf = ConformalClassifier(frozen(p)).fit(rows, y, groups=patient)
    score = 1 - np.column_stack([1 - p, p])
    worst = [score[rows, y][patient == each].max() for each in range(60)]
    np.testing.assert_array_equal(
        clf.predict_set(rows), score <= quantile_of(worst, 0.1)
    )
    assert clf.n_calibration_.tolist() == [60, 60]


def test_scores_of_a_class_are_of_its_patients():
    y, p, patient = make_patients(80)
    # Every patient has images of both classes, and so one score for either.
    y = (np.arange(len(y)) + patient) % 2
    clf = ConformalClassifier(frozen(p), method="per_class", alpha=0.2)
    clf.fit(np.arange(len(y)), y, groups=patient)
    expected = [len(np.unique(patient[y == code])) for code in (0, 1)]
    assert clf.n_calibration_.tolist() == expected


@pytest.mark.parametrize("method", ["marginal", "per_class"])
@pytest.mark.parametrize("grouped", [False, True])
def test_coverage_over_resplits_is_beta_binomial(method, grouped):
    """Exactly so, for random halves: mean and spread of the patients covered."""
    images = (1, 6) if grouped else (1, 1)
    y, p, patient = make_patients(300, seed=1, images=images)
    rows, rng = np.arange(len(y)), np.random.default_rng(0)
    share, mean, variance = [], [], []
    for _ in range(300):
        held = np.isin(patient, rng.permutation(300)[:140])
        groups = patient[held] if grouped else None
        clf = ConformalClassifier(frozen(p), method=method)
        clf.fit(rows[held], y[held], groups=groups)
        new = rows[~held & ((y == 1) | (method == "marginal"))]
        right = clf.predict_set(new)[np.arange(len(new)), y[new]]
        whole = ~np.isin(np.unique(patient[new]), patient[new][~right])
        n = clf.n_calibration_[1]
        k = np.ceil((n + 1) * 0.9 - 1e-9)
        law = betabinom(len(whole), k, n + 1 - k)
        share.append(whole.mean())
        mean.append(law.mean() / len(whole))
        variance.append(law.var() / len(whole) ** 2)
    error = np.sqrt(np.mean(variance) / len(share))
    assert np.mean(mean) >= 0.9
    assert abs(np.mean(share) - np.mean(mean)) < 3 * error
    # The error of a standard deviation of 300 is 4 %.
    assert np.std(share, ddof=1) == pytest.approx(np.sqrt(np.mean(variance)), rel=0.15)


def test_images_of_patients_taken_as_independent_promise_too_much():
    y, p, patient = make_patients(4000, seed=2, images=(6, 6), alike=0.3)
    rows, covered = np.arange(len(y)), {}
    held = patient < 2000
    for grouped in (False, True):
        clf = ConformalClassifier(frozen(p))
        clf.fit(rows[held], y[held], groups=patient[held] if grouped else None)
        right = clf.predict_set(rows[~held])[np.arange((~held).sum()), y[~held]]
        covered[grouped] = right.reshape(-1, 6).all(axis=1).mean()
    assert covered[True] == pytest.approx(0.9, abs=0.03)
    assert covered[False] < 0.8


# -- how many are needed ---------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.2, 4)])
def test_fewest_calibration_images(alpha, least):
    table, y = make_table(least + 100, n_classes=2)
    rows = np.arange(least)
    clf = ConformalClassifier(frozen(table), alpha=alpha)
    y[:2] = 0, 1
    sets = clf.fit(rows, y[:least]).predict_set(np.arange(least, least + 100))
    assert not sets.all()
    with pytest.raises(ValueError, match=f"at least {least} calibration images .*are"):
        clf.fit(rows[1:], y[1:least])


def test_too_few_of_a_class_are_an_error_per_class_only():
    table, _ = make_table(40, n_classes=2)
    y = np.repeat(["common", "rare"], [32, 8])
    clf = ConformalClassifier(frozen(table, ["common", "rare"]))
    clf.fit(np.arange(40), y)
    with pytest.raises(ValueError, match=r"at least 9 .* of class 'rare'.*there are 8"):
        clf.set_params(method="per_class").fit(np.arange(40), y)
    clf.set_params(method="marginal")
    with pytest.raises(ValueError, match=r"at least 9 calibration patients.*are 4"):
        clf.fit(np.arange(40), y, groups=np.arange(40) // 10)


# -- fitting ---------------------------------------------------------------------------


def make_points(n=400, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    return rng.normal(loc=y, size=(2, n)).T, y


def test_split_trains_on_the_rest():
    X, y = make_points()
    clf = ConformalClassifier(LogisticRegression(), random_state=0).fit(X, y)
    assert clf.n_calibration_.tolist() == [100, 100]
    assert len(clf.estimators_) == 1
    inner = clf.estimators_[0]
    np.testing.assert_array_equal(clf.predict_proba(X), inner.predict_proba(X))
    np.testing.assert_array_equal(clf.predict(X), inner.predict(X))
    half = ConformalClassifier(
        LogisticRegression(), calibration_fraction=0.5, random_state=0
    )
    assert half.fit(X, y).n_calibration_.tolist() == [200, 200]


def test_cross_conformal_sets_average_the_p_values_of_folds():
    X, y = make_points()
    clf = ConformalClassifier(LogisticRegression(), cv=KFold(4)).fit(X[:300], y[:300])
    p_value = np.zeros((100, 2))
    for train, held in KFold(4).split(X[:300]):
        inner = LogisticRegression().fit(X[train], y[train])
        score = 1 - inner.predict_proba(X[held])[np.arange(75), y[held]]
        new = 1 - inner.predict_proba(X[300:])
        p_value += (1 + (score[:, None, None] >= new).sum(axis=0)) / 76 / 4
    np.testing.assert_array_equal(clf.predict_set(X[300:]), p_value > 0.1)
    assert clf.coverage_guarantee_ == pytest.approx(0.8)
    assert clf.n_calibration_.tolist() == [300, 300]
    mean = np.mean([m.predict_proba(X) for m in clf.estimators_], axis=0)
    np.testing.assert_allclose(clf.predict_proba(X), mean)
    np.testing.assert_array_equal(clf.predict(X), mean.argmax(axis=1))


def test_cross_conformal_covers_at_least_what_it_promises():
    covered = []
    for seed in range(60):
        X, y = make_points(360, seed)
        clf = ConformalClassifier(LogisticRegression(), cv=4, random_state=seed)
        sets = clf.fit(X[:60], y[:60]).predict_set(X[60:])
        covered.append(sets[np.arange(300), y[60:]].mean())
    assert np.mean(covered) > 0.88  # usually close to 1 - alpha


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored by KFold")
def test_folds_that_split_a_patient_are_an_error():
    X, y = make_points()
    patient = np.arange(400) // 4
    clf = ConformalClassifier(LogisticRegression(), cv=KFold(3))
    with pytest.raises(ValueError, match=r"KFold.*patients on both sides.*Patient"):
        clf.fit(X, y, groups=patient)
    for cv in (3, PatientKFold(3)):
        clf.set_params(cv=cv).fit(X, y, groups=patient)
        assert clf.n_calibration_.tolist() == [100, 100]


def test_labels_that_cannot_be_learnt_are_an_error():
    X, y = make_points()
    with pytest.raises(ValueError, match=r"labels \[2\], but the frozen estimator"):
        ConformalClassifier(frozen(np.full(400, 0.5))).fit(np.arange(400), y + 1)
    patient = np.arange(400)
    y[-200:], patient[-200:] = 2, 999
    folds = [(np.arange(200), np.arange(200, 400))]
    with pytest.raises(ValueError, match=r"labels \[2\] were held out"):
        ConformalClassifier(LogisticRegression(), cv=folds).fit(X, y, groups=patient)


def test_labels_may_be_of_any_kind():
    X, y = make_points()
    names = np.array(["benign", "malignant"])[y]
    numbers = ConformalClassifier(LogisticRegression(), random_state=0).fit(X, y)
    words = ConformalClassifier(LogisticRegression(), random_state=0).fit(X, names)
    np.testing.assert_array_equal(numbers.predict_set(X), words.predict_set(X))
    assert words.classes_.tolist() == ["benign", "malignant"]


def test_flipped_labels_flip_the_sets():
    X, y = make_points()
    one = ConformalClassifier(LogisticRegression(), random_state=0).fit(X, y)
    other = ConformalClassifier(LogisticRegression(), random_state=0).fit(X, 1 - y)
    agree = one.predict_set(X) == other.predict_set(X)[:, ::-1]
    assert agree.mean() > 0.99  # but for the last digits of the optimiser
