"""scikit-learn's searches on the workers of Dask, through joblib."""

import random

import pytest
from joblib import parallel_config
from search_toys import assert_same_results
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skmedimg.architectures import ResNet

distributed = pytest.importorskip("distributed", reason="pip install 'skmedimg[dask]'")


@pytest.fixture
def random_state_restored():
    """Dask itself draws from Python's global generator."""
    state = random.getstate()
    yield
    random.setstate(state)


@pytest.mark.slow
def test_a_grid_search_on_two_workers(images, tiny, random_state_restored):
    clf = tiny(architecture=ResNet(width=2, depth=1))
    search = GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2, scoring="neg_log_loss")
    here = clone(search).fit(*images)
    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster):
        with parallel_config("dask"):
            there = clone(search).fit(*images)
    assert_same_results(here.cv_results_, there.cv_results_)
