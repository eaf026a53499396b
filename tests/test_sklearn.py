"""Whatever scikit-learn does with a classifier works with images in four axes."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_resampling_pipeline
from imblearn.under_sampling import RandomUnderSampler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import loguniform
from search_toys import assert_same_results
from sklearn import ensemble, metrics
from sklearn import model_selection as ms
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import Callback

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet

CLF = CNNImageClassifier(
    ResNet(width=4, depth=1), max_epochs=3, batch_size=4, lr=0.05, random_state=0
)
PAIR = [("a", CLF), ("b", clone(CLF).set_params(random_state=1))]
WIDTHS = {"architecture__width": [4, 6]}
DEPTHS = {"architecture": [ResNet(depth=1), ResNet(depth=2)]}
SEARCH = {"cv": 2, "error_score": "raise"}
EPOCHS = {"min_resources": 2, "max_resources": 4, "random_state": 0}


def _invert(X):
    return 255 - X


@pytest.fixture
def data(images):
    """Colour images (40, 10, 10, 3) of ten patients, with string labels."""
    X, y = images
    colour = np.repeat(X[..., np.newaxis], 3, axis=3)
    return colour, np.array(["healthy", "lesion"])[y], np.arange(40) // 4


@pytest.fixture
def table(images):
    """The grey images flattened to (40, 100), and a classifier that knows it."""
    X, y = images
    return X.reshape(40, -1), y, clone(CLF).set_params(image_shape=(10, 10))


META_ESTIMATORS = {
    "pipeline": make_pipeline(FunctionTransformer(_invert), CLF),
    "grid": ms.GridSearchCV(CLF, WIDTHS, **SEARCH),
    "randomized": ms.RandomizedSearchCV(
        CLF, WIDTHS | DEPTHS, n_iter=2, random_state=0, **SEARCH
    ),
    "halving": ms.HalvingGridSearchCV(
        CLF, WIDTHS, resource="max_epochs", factor=2, **EPOCHS, **SEARCH
    ),
    "sigmoid": CalibratedClassifierCV(CLF, method="sigmoid", cv=2),
    "isotonic": CalibratedClassifierCV(CLF, method="isotonic", cv=2),
    "temperature": CalibratedClassifierCV(CLF, method="temperature", cv=2),
    "one calibrated": CalibratedClassifierCV(CLF, cv=2, ensemble=False),
    "threshold": ms.TunedThresholdClassifierCV(CLF, cv=2),
    "stacking": ensemble.StackingClassifier(PAIR, cv=2),
    "soft voting": ensemble.VotingClassifier(PAIR, voting="soft"),
    "hard voting": ensemble.VotingClassifier(PAIR),
    "adaboost": ensemble.AdaBoostClassifier(CLF, n_estimators=2, random_state=0),
    "one-vs-rest": OneVsRestClassifier(CLF),
}


@pytest.mark.parametrize("name", META_ESTIMATORS)
def test_meta_estimator(name, data):
    X, y, _ = data
    model = clone(META_ESTIMATORS[name]).fit(X[:30], y[:30])
    assert model.classes_.tolist() == ["healthy", "lesion"]
    assert model.score(X[30:], y[30:]) > 0.8
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(X[30:])
        assert proba.shape == (10, 2)
        np.testing.assert_allclose(proba.sum(1), 1)
    if hasattr(model, "cv_results_"):
        assert np.isfinite(model.cv_results_["mean_test_score"]).all()
        assert model.best_params_["architecture__width"] in {4, 6}
    if name == "halving":
        assert model.cv_results_["n_resources"].tolist() == [2, 2, 4]
        assert model.best_estimator_.n_iter_ == 4


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_prefit_calibration(method, data):
    X, y, _ = data
    fitted = clone(CLF).fit(X[:20], y[:20])
    before = fitted.predict_proba(X)
    model = CalibratedClassifierCV(FrozenEstimator(fitted), method=method)
    assert model.fit(X[20:], y[20:]).score(X, y) > 0.8
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


def test_several_classes_and_outputs(data):
    X, y, _ = data
    shades, factor = np.arange(40) % 3, np.array([4, 2, 1], dtype=np.uint8)
    grey = X // factor[shades, np.newaxis, np.newaxis, np.newaxis]
    model = OneVsRestClassifier(CLF).fit(grey, shades)
    assert model.predict_proba(grey).shape == (40, 3)
    assert model.score(grey, shades) > 0.6
    both = np.column_stack([y, np.where(y == "lesion", "b", "a")])
    model = MultiOutputClassifier(CLF).fit(X, both)
    assert (model.predict(X) == both).mean() > 0.8


def test_cross_validate_in_processes(data):
    X, y, groups = data
    scores = ms.cross_validate(
        CLF,
        X,
        y == "lesion",
        groups=groups,
        cv=ms.StratifiedGroupKFold(2),
        scoring=["accuracy", "roc_auc", "average_precision", "neg_log_loss"],
        n_jobs=2,
        error_score="raise",
    )
    assert scores["test_roc_auc"].min() > 0.9
    assert np.isfinite(scores["test_neg_log_loss"]).all()


@pytest.mark.parametrize("search", ["grid", "randomized"])
def test_searches_give_the_same_in_processes(search, images):
    """At equal numbers of threads: here all processes have one."""
    X, y = images
    space = {"lr": [1e-4, 0.05], "architecture__width": [2, 4]}
    options = {"scoring": ["roc_auc", "neg_log_loss"], "refit": "roc_auc"} | SEARCH
    if search == "grid":
        make = ms.GridSearchCV(CLF, space, **options)
    else:
        sampling = {"n_iter": 3, "random_state": 0}
        space = {"lr": loguniform(1e-4, 0.1)}
        make = ms.RandomizedSearchCV(CLF, space, **sampling, **options)
    one, two = (clone(make).set_params(n_jobs=n).fit(X, y) for n in (1, 2))
    assert_same_results(one.cv_results_, two.cv_results_)
    losses = one.cv_results_["mean_test_neg_log_loss"]
    assert len(np.unique(losses)) == len(losses)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


@pytest.mark.parametrize("incremental", [False, True])
def test_learning_curve(incremental, data):
    X, y, _ = data
    options = {"train_sizes": [10, 20], "shuffle": True, "random_state": 0} | SEARCH
    sizes, train, test = ms.learning_curve(
        CLF, X, y, exploit_incremental_learning=incremental, **options
    )
    assert sizes.tolist() == [10, 20]
    assert train.shape == test.shape == (2, 2)


def test_validation_curve(data):
    X, y, _ = data
    varied = {"param_name": "architecture__width", "param_range": [4, 6]}
    _, test = ms.validation_curve(CLF, X, y, **varied, **SEARCH)
    assert test.mean() > 0.8


def test_permutation_test_score(data):
    X, y, _ = data
    options = {"cv": 2, "n_permutations": 3, "random_state": 0}
    score, permuted, p = ms.permutation_test_score(CLF, X, y, **options)
    assert score > permuted.mean()
    assert p == pytest.approx(0.25)


DISPLAYS = {
    metrics.RocCurveDisplay: {},
    metrics.PrecisionRecallDisplay: {},
    metrics.DetCurveDisplay: {},
    metrics.ConfusionMatrixDisplay: {},
    CalibrationDisplay: {"n_bins": 3},
    ms.LearningCurveDisplay: {"cv": 2, "train_sizes": [10, 20]},
    ms.ValidationCurveDisplay: {"param_name": "lr", "param_range": [0.01, 0.05]},
}


@pytest.mark.parametrize("display", DISPLAYS)
def test_display(display, data):
    X, y, _ = data
    # A figure outside pyplot: nothing global is drawn on, nothing stays open.
    canvas = FigureCanvasAgg(Figure())
    ax = canvas.figure.subplots()
    estimator = clone(CLF).fit(X, y)
    shown = display.from_estimator(estimator, X, y, ax=ax, **DISPLAYS[display])
    canvas.draw()
    assert shown.ax_.lines or shown.ax_.images


# -- metadata routing ------------------------------------------------------------------

SEEN = []


class Witness(Callback):
    """Notes the groups that a fit was given."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        SEEN.append(X.groups.tolist())


def _calibrated(clf, X, y, cv, params):
    CalibratedClassifierCV(clf, cv=cv).fit(X, y, **params)


def _threshold(clf, X, y, cv, params):
    ms.TunedThresholdClassifierCV(clf, cv=cv).fit(X, y, **params)


def _grid(clf, X, y, cv, params):
    ms.GridSearchCV(clf, {}, cv=cv, error_score="raise").fit(X, y, **params)


def _nested(clf, X, y, cv, params):
    inner = ms.GridSearchCV(clf, {}, cv=cv, error_score="raise")
    ms.cross_validate(inner, X, y, cv=cv, params=params, error_score="raise")


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("flow", "sizes"),
    [
        (ms.cross_validate, {5}),
        (ms.cross_val_predict, {5}),
        (ms.learning_curve, {1, 2, 3, 4, 5}),
        (_calibrated, {5}),
        (_threshold, {5, 10}),
        (_grid, {5, 10}),
        (_nested, {2, 3, 5}),
    ],
)
def test_groups_are_routed(flow, sizes, piped, data):
    X, y, groups = data
    clf = clone(CLF).set_params(callbacks=[Witness()], max_epochs=1)
    clf = make_pipeline(FunctionTransformer(), clf) if piped else clf
    SEEN.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        flow(clf, X, y, cv=ms.StratifiedGroupKFold(2), params={"groups": groups})
    assert {len(groups) for groups in SEEN} == sizes


@pytest.mark.parametrize(
    "meta",
    [
        lambda clf: make_pipeline(FunctionTransformer(), clf),
        lambda clf: ensemble.VotingClassifier([("a", clf)]),
        OneVsRestClassifier,
    ],
    ids=["pipeline", "voting", "one-vs-rest"],
)
def test_groups_are_routed_as_a_whole(meta, data):
    X, y, groups = data
    clf = clone(CLF).set_params(callbacks=[Witness()], max_epochs=1)
    SEEN.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        meta(clf).fit(X, y, groups=groups)
    assert [list(range(10))] == SEEN


# -- flattened images ------------------------------------------------------------------

FLATTENED = {
    "scaler": lambda clf: make_pipeline(StandardScaler(), clf.set_params(max_epochs=6)),
    "over": lambda clf: make_resampling_pipeline(RandomOverSampler(), clf),
    "under": lambda clf: make_resampling_pipeline(RandomUnderSampler(), clf),
    "smote": lambda clf: make_resampling_pipeline(SMOTE(k_neighbors=2), clf),
    "bagging": lambda clf: ensemble.BaggingClassifier(clf, 3, random_state=0),
    "columns": lambda clf: make_pipeline(
        ColumnTransformer([("pixels", "passthrough", slice(0, 100))]), clf
    ),
}


@pytest.mark.parametrize("name", FLATTENED)
def test_flattened(name, table):
    X, y, clf = table
    model = FLATTENED[name](clf)
    if name in {"over", "under", "smote"}:
        model[0].set_params(random_state=0)
    imbalanced = np.flatnonzero((y == 0) | (np.arange(40) < 20))
    assert model.fit(X[imbalanced], y[imbalanced]).score(X, y) > 0.8


def test_oversampled_copies_are_weights(table):
    X, y, clf = table
    sampler = RandomOverSampler(random_state=0)
    over = clone(clf).fit(*sampler.fit_resample(X[:25], y[:25]))
    times = np.bincount(sampler.sample_indices_, minlength=25)
    weighted = clone(clf).fit(X[:25], y[:25], sample_weight=times)
    np.testing.assert_array_equal(over.predict_proba(X), weighted.predict_proba(X))


def test_data_frame(table):
    X, y, clf = table
    names = [f"px{i}" for i in range(100)]
    frame = pd.DataFrame(X, columns=names)
    clf = clone(clf).fit(frame, pd.Series(y))
    assert clf.feature_names_in_.tolist() == names
    assert clf.score(frame, y) > 0.8
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame[names[::-1]])
    pixels = ColumnTransformer(
        [("pixels", "passthrough", names)], verbose_feature_names_out=False
    ).set_output(transform="pandas")
    model = make_pipeline(pixels, clf).fit(frame.assign(age=50), y)
    assert model[-1].feature_names_in_.tolist() == names
