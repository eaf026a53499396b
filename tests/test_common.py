"""scikit-learn's own contract, over every public estimator."""

from unittest import SkipTest

import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    estimator_checks_generator,
)

from skmedimg import CNNImageClassifier
from skmedimg.uncertainty import (
    ConformalClassifier,
    DeepEnsembleClassifier,
    EmbeddingOutlierDetector,
    PixelStatistics,
    SelectiveClassifier,
    SensitivityThresholdClassifier,
)

BASE = LogisticRegression()
# The checks fit on twenty rows: rates that so few can promise.
ESTIMATORS = [
    CNNImageClassifier(),
    ConformalClassifier(BASE, alpha=0.5),
    ConformalClassifier(BASE, alpha=0.5, cv=3),
    DeepEnsembleClassifier(BASE, n_members=2),
    EmbeddingOutlierDetector(
        PixelStatistics(), false_alarm_rate=0.3, calibration_fraction=0.5
    ),
    EmbeddingOutlierDetector(
        PixelStatistics(),
        method="knn",
        false_alarm_rate=0.3,
        calibration_fraction=0.5,
    ),
    PixelStatistics(),
    # With less coverage it would answer "refer", where the checks want a class.
    SelectiveClassifier(BASE, coverage=1.0),
    SensitivityThresholdClassifier(
        BASE, sensitivity=0.5, confidence=0.5, calibration_fraction=0.5, random_state=0
    ),
]
# 63 checks of any classifier, and 4 of one with the multi-label tag.
N_CHECKS = {"1.8.0": 66, "1.9.1": 67}
NO_POSITIVE = "needs pos_label where labels are not {0, 1} or {-1, 1}"
EXPECTED_FAILURES = {
    SensitivityThresholdClassifier: {
        "check_classifier_data_not_an_array": NO_POSITIVE,
        "check_classifiers_classes": NO_POSITIVE,
        "check_estimators_dtypes": NO_POSITIVE,
        "check_fit2d_1feature": NO_POSITIVE,
        "check_classifiers_train": "decides at another threshold than one half",
    }
}


def _checks():
    for estimator in ESTIMATORS:
        failures = EXPECTED_FAILURES.get(type(estimator), {})
        for est, check in estimator_checks_generator(estimator, mark=None):
            name = getattr(check, "func", check).__name__
            extra = getattr(check, "keywords", {})
            label = "-".join([name, *(f"{k}={v}" for k, v in extra.items())])
            marks = ()
            if name in failures:
                marks = pytest.mark.xfail(reason=failures[name])
            case = f"{ESTIMATORS.index(estimator)}-{type(est).__name__}-{label}"
            yield pytest.param(est, check, id=case, marks=marks)


@pytest.fixture
def numpy_state_restored():
    """scikit-learn's checks themselves draw from NumPy's global generator."""
    import numpy as np

    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
def test_estimator_check(estimator, check, numpy_state_restored):
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"skipped itself: {reason}")


def test_number_of_checks():
    n = len(list(estimator_checks_generator(ESTIMATORS[0], mark=None)))
    assert n >= 66
    assert n == N_CHECKS.get(sklearn.__version__, n)
    for estimator in ESTIMATORS:
        assert len(list(estimator_checks_generator(estimator, mark=None))) >= 46


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "check",
    [
        check_param_validation,
        check_dataframe_column_names_consistency,
        check_inplace_ensure_writeable,
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_further_check(estimator, check, numpy_state_restored):
    check(type(estimator).__name__, estimator)


def test_ensembles_of_networks_take_label_indicators(numpy_state_restored):
    ensemble = DeepEnsembleClassifier(CNNImageClassifier(max_epochs=1), n_members=2)
    checks = [
        check
        for _, check in estimator_checks_generator(ensemble, mark=None)
        if "multilabel" in check.func.__name__ and "decision" not in str(check)
    ]
    assert len(checks) == 3
    for check in checks:
        check(ensemble)
