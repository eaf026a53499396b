"""scikit-learn's own contract, over every public estimator."""

from unittest import SkipTest

import pytest
import sklearn
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    estimator_checks_generator,
)

from skmedimg import CNNImageClassifier

ESTIMATORS = [CNNImageClassifier()]
# 63 checks of any classifier, and 4 of one with the multi-label tag.
N_CHECKS = {"1.8.0": 66, "1.9.1": 67}


def _checks():
    for estimator in ESTIMATORS:
        for est, check in estimator_checks_generator(estimator, mark=None):
            name = getattr(check, "func", check).__name__
            extra = getattr(check, "keywords", {})
            label = "-".join([name, *(f"{k}={v}" for k, v in extra.items())])
            yield pytest.param(est, check, id=f"{type(est).__name__}-{label}")


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
    for estimator in ESTIMATORS:
        n = len(list(estimator_checks_generator(estimator, mark=None)))
        assert n >= 66
        assert n == N_CHECKS.get(sklearn.__version__, n)


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
