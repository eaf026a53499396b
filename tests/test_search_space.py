"""What a search draws from: distributions, functions of the trial, the default."""

import numpy as np
import optuna
import pytest
from scipy.spatial.distance import euclidean
from scipy.stats import loguniform, norm, poisson, randint, uniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skmedimg import CNNImageClassifier
from skmedimg.architectures import ResNet
from skmedimg.augmentation import Augmentation
from skmedimg.model_selection import OptunaSearchCV, default_search_space
from skmedimg.model_selection._study import finished


@pytest.fixture
def table():
    return make_classification(60, 5, random_state=0)


def test_every_kind_of_distribution(table):
    space = {
        "C": loguniform(1e-2, 1e2),
        "gamma": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
        "degree": randint(2, 5),
        "coef0": norm(0, 1),
        "cache_size": loguniform(0.1, 10, loc=200),
        "tol": uniform(1e-4, 1e-3),
        "kernel": ["rbf", "poly"],
        "class_weight": [None, {0: 1, 1: 2}],
        "shrinking": np.array([True, False]),
    }
    search = OptunaSearchCV(
        SVC(random_state=0), space, n_trials=12, cv=2, random_state=0
    )
    rows = search.fit(*table).cv_results_["params"]
    assert all(1e-2 <= row["C"] <= 1e2 and 1e-3 <= row["gamma"] <= 1 for row in rows)
    assert {row["degree"] for row in rows} <= {2, 3, 4}
    moved = np.array([row["cache_size"] for row in rows]) - 200
    assert np.median(moved) < 3  # the logarithm is of these: half of them below 1
    assert min(row["coef0"] for row in rows) < 0 < max(row["coef0"] for row in rows)
    assert all(1e-4 <= row["tol"] <= 1.1e-3 for row in rows)
    assert {"rbf", "poly"} == {row["kernel"] for row in rows}
    assert {0: 1, 1: 2} in [row["class_weight"] for row in rows]


def test_distributions_of_whole_numbers_and_of_objects(table):
    with pytest.warns(UserWarning, match="persistent storage"):  # Optuna's own
        metric = optuna.distributions.CategoricalDistribution(["l1", euclidean])
    space = {"n_neighbors": poisson(3, loc=1), "metric": metric}
    search = OptunaSearchCV(
        KNeighborsClassifier(), space, n_trials=9, cv=2, random_state=0
    )
    rows = search.fit(*table).cv_results_["params"]
    assert {type(row["n_neighbors"]) for row in rows} == {int}
    assert {row["metric"] for row in rows} == {"l1", euclidean}


def test_a_kernel_that_is_searched_decides_how_data_are_split(table):
    X, y = table
    svc = SVC(random_state=0)
    search = OptunaSearchCV(svc, {"kernel": ["precomputed"]}, n_trials=1, cv=2)
    assert search.fit(X @ X.T, y).best_score_ > 0.5


def _by_chance(trial, rng=np.random.default_rng(0)):  # noqa: B008
    return {"C": trial.suggest_float("C", 1, 2) * rng.random()}


def _by_the_study(trial):
    return {"C": trial.suggest_float("C", 1, 2 + len(trial.study.trials))}


@pytest.mark.parametrize("space", [_by_chance, _by_the_study])
def test_a_function_that_goes_by_more_than_it_draws(table, space):
    search = OptunaSearchCV(LogisticRegression(), space, n_trials=1)
    with pytest.raises(ValueError, match=f"{space.__name__} .*alone"):
        search.fit(*table)


def test_a_function_gives_parameters_only_where_others_ask(table):
    def space(trial):
        params = {"kernel": trial.suggest_categorical("kernel", ["rbf", "linear"])}
        if params["kernel"] == "rbf":
            params["gamma"] = trial.suggest_float("gamma", 1e-3, 1, log=True)
        return params

    search = OptunaSearchCV(
        SVC(random_state=0), space, n_trials=8, cv=2, random_state=0
    ).fit(*table)
    results = search.cv_results_
    linear = results["param_kernel"] == "linear"
    assert 0 < linear.sum() < 8
    np.testing.assert_array_equal(np.ma.getmaskarray(results["param_gamma"]), linear)
    for trial, params in zip(finished(search.study_), results["params"], strict=True):
        assert trial.params == params


def test_parts_are_searched_as_objects(images, tiny):
    parts = [ResNet(width=2, depth=1), ResNet(width=4, depth=1, activation="silu")]
    search = OptunaSearchCV(
        tiny(architecture="auto"),
        {"architecture": parts, "architecture__dropout": [0.0, 0.5]},
        n_trials=4,
        cv=2,
        random_state=0,
        pruner=optuna.pruners.NopPruner(),
    ).fit(*images)
    used = search.best_estimator_.architecture
    assert repr(used) in [
        repr(clone(part).set_params(dropout=dropout))
        for part in parts
        for dropout in (0.0, 0.5)
    ]
    assert used.dropout == search.best_params_["architecture__dropout"]
    # Those that were passed in are as they were.
    assert [part.dropout for part in parts] == [0.0, 0.0]
    labels = search.study_.trials[0].distributions["architecture"].choices
    assert labels == tuple(map(repr, parts))


def test_the_default_space_suits_the_classifier(images, tiny):
    X, y = images
    clf = tiny(architecture="auto")
    space = default_search_space(clf, X)
    assert {"lr", "architecture__activation", "architecture__dropout"} <= set(space)
    assert all(isinstance(a, Augmentation) for a in space["augmentation"])
    search = OptunaSearchCV(clf, "default", n_trials=1, cv=2, random_state=0).fit(X, y)
    assert set(search.best_params_) == set(space)
    assert search.best_estimator_.n_iter_ == 1


@pytest.mark.parametrize(
    ("X", "widths"),
    [
        (np.zeros((200, 20, 24, 24), np.uint8), [4, 8, 16]),
        (np.zeros((200, 24, 24), np.uint8), [8, 16, 32]),
        ([np.zeros((8, 8 + i % 2)) for i in range(200)], [8, 16, 32]),
    ],
)
def test_the_default_space_goes_by_the_images(X, widths):
    clf = CNNImageClassifier(image_size=(8, 8) if isinstance(X, list) else None)
    assert default_search_space(clf, X)["architecture__width"] == widths


def test_the_default_space_keeps_what_the_user_has_chosen(tiny):
    space = default_search_space(
        make_pipeline(StandardScaler(), tiny(augmentation=None, lr=0.1))
    )
    assert set(space) == {"cnnimageclassifier__lr", "cnnimageclassifier__weight_decay"}
    lr = space["cnnimageclassifier__lr"]
    assert lr.low < 0.1 < lr.high
