"""Displays: what is drawn is what was computed, on the axes asked for."""

import subprocess
import sys
from functools import partial

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from skmedimg.io import ImageSequence
from skmedimg.metrics import (
    DecisionCurveDisplay,
    Estimate,
    HistoryDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    RocBandDisplay,
    SubgroupDisplay,
    aurc,
    net_benefit,
    proportion_ci,
    reliability_curve,
    risk_coverage_curve,
    roc_auc_ci,
    sensitivity_ci,
)
from skmedimg.metrics._plot.roc_band import _sensitivity_at


@pytest.fixture(autouse=True)
def matplotlib_stays_as_it_was():
    """No figure is left open, and no setting of the user's changed."""
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


@pytest.fixture
def ax():
    return Figure().subplots()


def make_predictions(n=300, n_patients=80, seed=0):
    rng = np.random.default_rng(seed)
    patient = rng.integers(n_patients, size=n)
    logit = rng.normal(size=n) + rng.normal(size=n_patients)[patient]
    prob = 1 / (1 + np.exp(-logit))
    return (rng.random(n) < prob).astype(int), prob, patient


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


BAND = {"n_bootstrap": 20, "random_state": 0}
PARAMS = {ReliabilityDisplay: {}, DecisionCurveDisplay: {}, RocBandDisplay: BAND}
MAKE = [partial(cls.from_predictions, **params) for cls, params in PARAMS.items()]
BINARY = pytest.mark.parametrize("make", MAKE, ids=[cls.__name__ for cls in PARAMS])


# -- what all displays do --------------------------------------------------------------


def test_importing_metrics_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, skmedimg.metrics as m; m.RocBandDisplay, m.HistoryDisplay; "
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_given_axes_are_drawn_on_and_no_figure_opened(ax):
    y, p, _ = make_predictions()
    error = (p > 0.5) != y
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0]})
    axes = Figure().subplots(6)
    displays = [
        *[make(y, p, ax=a) for make, a in zip(MAKE, axes, strict=False)],
        RiskCoverageDisplay.from_predictions(error, np.abs(p - 0.5), ax=axes[3]),
        SubgroupDisplay.from_predictions(y, p, y, ax=axes[4], min_cases=1),
        HistoryDisplay(history).plot(ax=axes[5]),
    ]
    for display, given in zip(displays, axes, strict=True):
        assert display.ax_ is given
        assert display.figure_ is given.figure
    assert plt.get_fignums() == []


def test_without_axes_a_figure_is_made_that_holds_all_that_is_drawn():
    y, p, _ = make_predictions()
    display = SubgroupDisplay.from_predictions(y, p, np.arange(300) % 3)
    assert plt.get_fignums() == [display.figure_.number]
    display.figure_.canvas.draw()
    drawn = display.ax_.get_tightbbox()
    assert display.figure_.bbox.x0 <= drawn.x0
    assert drawn.x1 <= display.figure_.bbox.x1


@BINARY
def test_the_positive_class_is_explicit_and_named(make, ax):
    y, p, _ = make_predictions()
    named = np.array(["benign", "malignant"])[y]
    with pytest.raises(ValueError, match="pos_label"):
        make(named, p, ax=ax)
    display = make(named, p, pos_label="malignant", ax=ax)
    assert "positive = malignant" in display.ax_.get_ylabel()
    plain = make(y, p, ax=Figure().subplots())
    assert "positive = 1" in plain.ax_.get_ylabel()
    mirrored = make(named, 1 - p, pos_label="benign", ax=Figure().subplots())
    assert "positive = benign" in mirrored.ax_.get_ylabel()


@BINARY
def test_two_models_share_axes_and_references(make, ax):
    y, p, _ = make_predictions()
    first = make(y, p, name="first", ax=ax)
    references = len(legend_texts(first)) - 1
    second = make(y, p**2, name="second", ax=ax)
    texts = legend_texts(second)
    curves = [t for t in texts if t.startswith(("first", "second"))]
    assert len(curves) == 2
    assert texts[-1] in {"Ideal", "Treat none", "Chance"}
    # Each reliability diagram has a distribution of its own.
    extra = 1 + (texts[-1] == "Ideal")
    assert len(texts) == 1 + references + extra


@BINARY
def test_style_and_name_can_be_given_when_drawing(make, ax):
    y, p, _ = make_predictions()
    display = make(y, p, name="old", ax=ax, curve_kwargs={"c": "#123456"})
    line = getattr(display.line_, "lines", [display.line_])[0]
    assert line.get_color() == "#123456"
    display.plot(ax=Figure().subplots(), name="new")
    assert any(text.startswith("new") for text in legend_texts(display))


# -- from a fitted classifier ----------------------------------------------------------


@pytest.fixture
def fitted():
    y, p, patient = make_predictions()
    X = np.log(p / (1 - p))[:, None]
    labels = np.array(["benign", "malignant"])[y]
    return LogisticRegression().fit(X, labels), X, labels, patient


@pytest.mark.parametrize("cls", PARAMS)
@pytest.mark.parametrize("pos_label", ["benign", "malignant"])
def test_from_estimator_takes_the_column_of_the_positive_class(cls, pos_label, fitted):
    clf, X, y, _ = fitted
    column = list(clf.classes_).index(pos_label)
    params = PARAMS[cls] | {"pos_label": pos_label}
    display = cls.from_estimator(clf, X, y, ax=Figure().subplots(), **params)
    probability = clf.predict_proba(X)[:, column]
    expected = cls.from_predictions(
        y, probability, ax=Figure().subplots(), name="LogisticRegression", **params
    )
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray | pd.DataFrame | Estimate):
            np.testing.assert_array_equal(getattr(display, name), value)
    assert legend_texts(display) == legend_texts(expected)
    assert any(t.startswith("LogisticRegression") for t in legend_texts(display))


def test_from_estimator_asks_for_the_positive_class(fitted):
    clf, X, y, _ = fitted
    with pytest.raises(ValueError, match=r"'benign', 'malignant'.*pos_label"):
        RocBandDisplay.from_estimator(clf, X, y)
    three = LogisticRegression().fit(X, np.arange(300) % 3)
    with pytest.raises(ValueError, match="3 classes"):
        RocBandDisplay.from_estimator(three, X, y)


def test_groups_of_a_sequence_are_the_patients(tiny, images, ax):
    X, y = images
    clf, patient = tiny().fit(X, y), np.arange(40) // 4
    sequence = ImageSequence.from_array(X, groups=patient)
    score = clf.predict_proba(X)[:, 1]
    clustered = RocBandDisplay.from_estimator(
        clf, sequence, y, n_bootstrap=50, random_state=0, ax=ax
    )
    assert clustered.roc_auc == roc_auc_ci(y, score, groups=patient)
    plain = RocBandDisplay.from_estimator(
        clf, X, y, n_bootstrap=50, random_state=0, ax=Figure().subplots()
    )
    assert plain.roc_auc == roc_auc_ci(y, score)


# -- ROC band --------------------------------------------------------------------------


def test_roc_curve_band_and_area_are_drawn(ax):
    y, p, patient = make_predictions()
    display = RocBandDisplay.from_predictions(
        y, p, groups=patient, level=0.9, random_state=0, ax=ax
    )
    fpr, tpr, _ = roc_curve(y, p)
    np.testing.assert_array_equal(display.line_.get_xydata(), np.c_[fpr, tpr])
    corners = display.band_.get_paths()[0].vertices
    drawn = {tuple(corner) for corner in np.round(corners, 12)}
    for x, low, high in zip(display.grid, display.low, display.high, strict=True):
        assert {
            (round(x, 12), round(low, 12)),
            (round(x, 12), round(high, 12)),
        } <= drawn
    area, low, high = roc_auc_ci(y, p, groups=patient, level=0.9)
    assert display.roc_auc == (area, low, high)
    text = f"AUC {area:.2f} (90 % CI {low:.2f} to {high:.2f})"
    assert legend_texts(display) == [text, "Chance"]


def direct_sensitivity(y, score, at):
    """The highest sensitivity at each false positive rate, lines between points."""
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    values = []
    for x in at:
        k = np.flatnonzero(fpr <= x)[-1]
        if k == len(fpr) - 1:
            values.append(1.0)
            continue
        share = (x - fpr[k]) / (fpr[k + 1] - fpr[k])
        values.append(tpr[k] + share * (tpr[k + 1] - tpr[k]))
    return values


def test_sensitivity_of_replicates_is_that_of_their_curves():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1], 15))
    score = np.round(rng.normal(y), 1)
    grid = np.linspace(0.013, 0.97, 50)
    true, false, expected = [], [], []
    levels = np.unique(score)[::-1]
    for _ in range(20):
        rows = rng.integers(30, size=30)
        expected.append(direct_sensitivity(y[rows], score[rows], grid))
        above = score[rows] >= levels[:, None]
        true.append((above & (y[rows] == 1)).sum(axis=1))
        false.append((above & (y[rows] == 0)).sum(axis=1))
    got = _sensitivity_at(grid, np.array(true), np.array(false))
    np.testing.assert_allclose(got, expected)


def test_band_is_wider_for_few_patients_and_holds_the_curve(ax):
    y, p, _ = make_predictions(n=100)
    y, p, patient = (np.repeat(v, 4) for v in (y, p, np.arange(100)))
    params = {"random_state": 0, "ax": ax}
    naive = RocBandDisplay.from_predictions(y, p, **params)
    clustered = RocBandDisplay.from_predictions(y, p, groups=patient, **params)
    width, naive_width = (np.mean(d.high - d.low) for d in (clustered, naive))
    assert width == pytest.approx(2 * naive_width, rel=0.15)
    curve = direct_sensitivity(y, p, clustered.grid)
    inside = (clustered.low <= curve) & (curve <= clustered.high)
    assert inside.all()


@pytest.mark.parametrize("params", [{"n_bootstrap": 0}, {"level": 1.0}])
def test_band_needs_replicates_and_a_level(params):
    y, p, _ = make_predictions()
    with pytest.raises(ValueError, match=next(iter(params))):
        RocBandDisplay.from_predictions(y, p, **params)


def test_replicates_without_a_class_are_counted(ax):
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    display = RocBandDisplay.from_predictions(
        y, np.arange(8), n_bootstrap=4000, random_state=0, ax=ax
    )
    expected = 4000 * (0.75**8 + 0.25**8)
    assert display.n_skipped == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_equal_seeds_give_equal_bands_and_levels_widen_them(ax):
    y, p, _ = make_predictions()

    def band(seed, level=0.95):
        return RocBandDisplay.from_predictions(
            y, p, n_bootstrap=200, random_state=seed, level=level, ax=ax
        )

    assert np.array_equal(band(1).low, band(1).low)
    assert not np.array_equal(band(1).low, band(2).low)
    assert np.mean(band(1, 0.5).high - band(1, 0.5).low) < np.mean(
        band(1).high - band(1).low
    )


@pytest.mark.parametrize("clustered", [False, True])
def test_a_sensitivity_of_one_keeps_its_doubt(clustered, ax):
    y = np.repeat([0, 1], 40)
    patient = np.arange(80) // 2 if clustered else None
    display = RocBandDisplay.from_predictions(
        y, y + 0.0, groups=patient, random_state=0, ax=ax
    )
    seen = None if patient is None else patient[y == 1]
    expected = proportion_ci(np.ones(40, dtype=bool), groups=seen).low
    np.testing.assert_allclose(display.low[:-1], expected)
    assert display.low[-1] == 1
    assert (display.high == 1).all()
    mirrored = RocBandDisplay.from_predictions(
        y, -y, groups=patient, random_state=0, ax=ax
    )
    np.testing.assert_allclose(mirrored.high[:-1], 1 - expected)


@pytest.mark.slow
@pytest.mark.parametrize("n_patients", [None, 100])
def test_band_covers_the_true_curve_pointwise(n_patients):
    at, covered = [10, 20, 40, 60], []
    truth = norm.cdf(1.2 + norm.ppf(np.array(at) / 100))
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n = 200 if n_patients is None else 2 * n_patients
        patient = np.arange(n) % (n_patients or n)
        score = np.sqrt(0.5) * (rng.normal(size=n) + rng.normal(size=n)[patient])
        y = rng.permutation(np.arange(n) % 2)
        display = RocBandDisplay.from_predictions(
            y,
            score + 1.2 * y,
            groups=patient,
            n_bootstrap=300,
            random_state=seed,
            ax=Figure().subplots(),
        )
        covered.append((display.low[at] <= truth) & (truth <= display.high[at]))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)


# -- calibration, decision, referral ---------------------------------------------------


def test_reliability_points_intervals_and_distribution(ax):
    y, p, patient = make_predictions()
    params = {"n_bins": 7, "groups": patient, "level": 0.9}
    display = ReliabilityDisplay.from_predictions(y, p, ax=ax, **params)
    assert "Observed (90 % CI)" in legend_texts(display)
    curve = reliability_curve(y, p, **params)
    pd.testing.assert_frame_equal(display.curve, curve)
    points, _, (bars,) = display.line_
    expected = curve[["predicted", "observed"]].to_numpy()
    np.testing.assert_array_equal(points.get_xydata(), expected)
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, curve[["low", "high"]])
    assert np.array_equal(display.ideal_.get_xydata(), [[0, 0], [1, 1]])
    values, edges, baseline = display.distribution_.get_data()
    count = np.histogram(p, bins=edges)[0]
    heights = (values - baseline) / (values - baseline).max()
    np.testing.assert_allclose(heights, count / count.max(), atol=1e-12)
    assert values.max() < 0
    assert ax.get_ylim()[0] <= baseline


def test_bins_of_one_outcome_only_are_drawn(ax):
    for prob in ([0.1, 0.2, 0.8, 0.9], [0.3, 0.3, 0.7, 0.7]):
        y = np.repeat([0, 0, 1, 1], 13)
        display = ReliabilityDisplay.from_predictions(y, np.repeat(prob, 13), ax=ax)
        assert set(display.line_.lines[0].get_ydata()) == {0, 1}


@pytest.mark.parametrize("power", [0.3, 3])
def test_reliability_legend_leaves_the_points_free(power):
    y, p, _ = make_predictions()
    display = ReliabilityDisplay.from_predictions(y, p**power)
    display.figure_.canvas.draw()
    box = display.ax_.get_legend().get_window_extent()
    points = display.ax_.transData.transform(display.line_.lines[0].get_xydata())
    assert not any(box.contains(*point) for point in points)
    strip = display.distribution_.get_window_extent()
    assert not box.overlaps(strip)


def test_decision_curve_and_its_extremes(ax):
    y, p, _ = make_predictions()
    thresholds = [0.05, 0.1, 0.3]
    display = DecisionCurveDisplay.from_predictions(
        y, p, thresholds=thresholds, prevalence=0.1, ax=ax
    )
    expected = net_benefit(y, p, thresholds, prevalence=0.1)
    for line, column in (
        (display.line_, "model"),
        (display.treat_all_, "treat_all"),
        (display.treat_none_, "treat_none"),
    ):
        np.testing.assert_array_equal(line.get_xdata(), thresholds)
        np.testing.assert_array_equal(line.get_ydata(), expected[column])


@pytest.mark.parametrize("perfect", [False, True])
def test_decision_curve_is_shown_whole_below_the_legend(perfect):
    y, p, _ = make_predictions()
    display = DecisionCurveDisplay.from_predictions(
        y, 0.01 + 0.98 * y if perfect else p
    )
    display.figure_.canvas.draw()
    low, high = display.ax_.get_ylim()
    assert low < 0 < display.net_benefit["model"].max() < high
    box = display.ax_.get_legend().get_window_extent()
    points = display.ax_.transData.transform(display.line_.get_xydata())
    assert points[:, 1].max() < box.y0
    # Treating all falls without bound: the axis does not follow.
    assert low > -0.2


def test_risk_coverage_between_random_and_oracle(ax):
    y, p, patient = make_predictions()
    error, confidence = (p > 0.5) != y, np.abs(p - 0.5)
    display = RiskCoverageDisplay.from_predictions(
        error, confidence, groups=patient, random_state=0, name="CNN", ax=ax
    )
    coverage, risk = risk_coverage_curve(error, confidence)
    np.testing.assert_array_equal(display.line_.get_xydata(), np.c_[coverage, risk])
    np.testing.assert_array_equal(display.random_.get_ydata(), [error.mean()] * 2)
    oracle = display.oracle_.get_ydata()
    assert np.all(oracle <= risk + 1e-12)
    kept = round((1 - error.mean()) * len(error))
    assert not oracle[:kept].any()
    area = aurc(error, confidence, groups=patient, random_state=0)
    assert display.aurc == area
    text = f"CNN\nAURC {area.value:.2f} (95 % CI {area.low:.2f} to {area.high:.2f})"
    assert legend_texts(display) == [text, "Random referral", "Perfect referral"]


def test_risk_coverage_of_a_classifier_of_three_classes(ax):
    rng = np.random.default_rng(0)
    X, y = (
        rng.normal(size=(200, 3)),
        np.array(["a", "b", "c"])[rng.integers(3, size=200)],
    )
    X[:, 0] += y == "a"
    clf = LogisticRegression().fit(X, y)
    display = RiskCoverageDisplay.from_estimator(clf, X, y, random_state=0, ax=ax)
    error = clf.predict(X) != y
    expected = risk_coverage_curve(error, clf.predict_proba(X).max(axis=1))
    np.testing.assert_array_equal(display.risk, expected[1])
    assert legend_texts(display)[0].startswith("LogisticRegression\nAURC")


# -- subgroups -------------------------------------------------------------------------


def test_forest_of_subgroups_has_their_intervals():
    y, p, patient = make_predictions()
    sex, site = np.array(["f", "m"])[patient % 2], patient % 3
    display = SubgroupDisplay.from_predictions(
        y, p, {"Sex": sex, "Hospital": site}, groups=patient
    )
    rows = ["Sex: f", "Sex: m", "Hospital: 0", "Hospital: 1", "Hospital: 2"]
    assert list(display.estimates) == rows
    expected = [
        roc_auc_ci(y[part], p[part], groups=patient[part])
        for part in (sex == "f", sex == "m", site == 0, site == 1, site == 2)
    ]
    np.testing.assert_allclose(list(display.estimates.values()), expected)
    points, _, (bars,) = display.points_
    np.testing.assert_allclose(points.get_xdata(), [e.value for e in expected])
    np.testing.assert_array_equal(points.get_ydata(), range(1, 6))
    ends = np.array(bars.get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, [e[1:] for e in expected])
    overall = roc_auc_ci(y, p, groups=patient)
    assert display.overall == overall
    assert display.overall_line_.get_xdata() == [overall.value] * 2
    labels = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    counts = [300, *(np.sum(sex == s) for s in "fm"), *np.bincount(site)]
    names = ["Overall", *rows]
    assert labels == [f"{m} (n = {n})" for m, n in zip(names, counts, strict=True)]
    texts = [text.get_text() for text in display.ax_.texts]
    value, low, high = overall
    assert texts[0] == f"{value:.2f} ({low:.2f} to {high:.2f})"
    assert display.ax_.yaxis_inverted()


def test_small_subgroups_are_named_without_a_figure(ax):
    y, p, patient = make_predictions()
    site = np.where(patient < 4, "small", "large")
    table = pd.DataFrame({"Hospital": site})
    display = SubgroupDisplay.from_predictions(y, p, table, groups=patient, ax=ax)
    assert display.estimates["Hospital: small"] is None
    assert display.n["Hospital: small"] == np.sum(site == "small")
    assert len(display.points_.lines[0].get_xdata()) == 1
    assert [text.get_text() for text in ax.texts][2] == "too few cases"
    # Patients count, not their images.
    assert np.sum(y[site == "small"]) >= 5
    display = SubgroupDisplay.from_predictions(y, p, site, min_cases=5, ax=ax)
    assert display.estimates["small"] is not None


def test_subgroups_by_another_metric_and_its_positive_class(ax):
    y, p, _ = make_predictions()
    site, named = np.arange(300) % 2, np.array(["benign", "malignant"])
    y, called = named[y], named[(p > 0.5).astype(int)]
    display = SubgroupDisplay.from_predictions(
        y,
        called,
        site,
        metric=sensitivity_ci,
        metric_name="Sensitivity",
        pos_label="malignant",
        level=0.9,
        ax=ax,
    )
    params = {"pos_label": "malignant", "level": 0.9}
    expected = sensitivity_ci(y[site == 1], called[site == 1], **params)
    assert display.estimates["1"] == expected
    assert ax.get_xlabel() == "Sensitivity (90 % CI)"


def test_subgroups_of_a_fitted_classifier(fitted, ax):
    clf, X, y, patient = fitted
    site = patient % 2
    display = SubgroupDisplay.from_estimator(
        clf, X, y, site, pos_label="malignant", groups=patient, ax=ax
    )
    part = site == 0
    score = clf.predict_proba(X)[part, 1]
    expected = roc_auc_ci(y[part], score, pos_label="malignant", groups=patient[part])
    np.testing.assert_allclose(display.estimates["0"], expected)


def test_subgroups_must_be_known_for_each_case():
    y, p, _ = make_predictions()
    with pytest.raises(ValueError, match=r"subgroups\['Sex'\] has 3 entries for 300"):
        SubgroupDisplay.from_predictions(y, p, {"Sex": ["f", "m", "f"]})
    with pytest.raises(ValueError, match="subgroups contains missing"):
        SubgroupDisplay.from_predictions(y, p, [None, *"ab" * 149, "a"])


def test_forest_of_nothing_but_small_subgroups(ax):
    display = SubgroupDisplay({"a": None}).plot(ax=ax)
    assert display.overall_ is None
    assert [text.get_text() for text in ax.texts] == ["too few cases"]


# -- history ---------------------------------------------------------------------------


def test_history_of_a_fitted_estimator(tiny, images, ax):
    X, y = images
    clf = tiny(max_epochs=3, early_stopping=True).fit(X, y)
    display = HistoryDisplay.from_estimator(clf, name="Fold 1", ax=ax)
    for column, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), clf.history_["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), clf.history_[column])
    best = clf.history_.loc[clf.history_["valid_loss"].idxmin()]
    assert display.best_.get_xdata() == [best["epoch"]]
    assert display.best_.get_ydata() == [best["valid_loss"]]
    assert legend_texts(display)[:2] == ["Training", "Validation"]
    assert ax.get_title() == "Fold 1"


def test_history_without_validation_and_of_one_epoch(tiny, images, ax):
    display = HistoryDisplay.from_estimator(tiny().fit(*images), ax=ax)
    assert list(display.lines_) == ["train_loss"]
    assert display.lines_["train_loss"].get_marker() == "o"
    assert display.best_ is None
    with pytest.raises(TypeError, match="LogisticRegression has no history_"):
        HistoryDisplay.from_estimator(LogisticRegression())
