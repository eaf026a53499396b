"""Splits by site and by time: the test is new, and no patient is on both sides."""

import datetime
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection as ms
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from skmedimg._privacy import pseudonym
from skmedimg.io import ImageSequence
from skmedimg.model_selection import PatientKFold, SiteKFold, TemporalSplit

DATES = ["2019-03-01", "2019-03-01", "2020-01-31", "2020-02-01", "2021-12-24"]


def sequence(groups, n=None):
    pixels = np.zeros((len(groups) if n is None else n, 4, 4), np.uint8)
    return ImageSequence.from_array(pixels, groups=groups)


@pytest.fixture
def clinic():
    """Thirty patients with two images each, of three sites and four years."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 2)
    sites = np.repeat(np.array(["north", "south", "west"])[np.arange(30) % 3], 2)
    years = np.repeat(2018 + np.arange(30) % 4, 2)
    y = np.repeat(rng.integers(0, 2, 30), 2)
    X = rng.integers(0, 99, (60, 8, 8), dtype=np.uint8)
    X[y == 1, 2:6, 2:6] += 100
    return ImageSequence.from_array(X, groups=patients), y, sites, years


class Columns(LogisticRegression):
    """Reads an ImageSequence as rows of pixels."""

    def fit(self, X, y):
        return super().fit(self._rows(X), y)

    def predict(self, X):
        return super().predict(self._rows(X))

    @staticmethod
    def _rows(X):
        return X.to_numpy().reshape(len(X), -1) / 255


# -- what always holds -----------------------------------------------------------------

patients_of_images = st.lists(st.integers(0, 40), min_size=8, max_size=40)


@st.composite
def images_with(draw, values):
    patients = draw(patients_of_images)
    n = len(patients)
    return np.array(patients), draw(st.lists(values, min_size=n, max_size=n))


def folds_of(cv, patients):
    try:
        return list(cv.split(np.zeros(len(patients)), groups=patients))
    except ValueError as error:
        if "Each side needs one" not in str(error):
            raise
        return []


@pytest.mark.filterwarnings("ignore:.*more than one site:UserWarning")
@given(images_with(st.sampled_from("abcd")), st.sampled_from([None, 2]))
@settings(max_examples=60, deadline=None)
def test_each_site_is_tested_once_without_its_patients(drawn, n_splits):
    patients, sites = drawn[0], np.array(drawn[1])
    if len(set(sites)) < 2:
        return
    folds = folds_of(SiteKFold(sites, n_splits), patients)
    for train, test in folds:
        assert not set(sites[train]) & set(sites[test])
        assert not set(patients[train]) & set(patients[test])
        # Nothing else is left out.
        rest = np.setdiff1d(np.arange(len(sites)), [*train, *test])
        assert set(patients[rest]) <= set(patients[test])
    if folds:
        tested = np.concatenate([test for _, test in folds])
        assert sorted(tested) == list(range(len(sites)))
        assert len(folds) == (n_splits or len(set(sites)))


@given(images_with(st.integers(2000, 2012)), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_training_is_before_the_test(drawn, n_splits):
    patients, times = drawn[0], np.array(drawn[1])
    if len(set(times)) <= n_splits:
        return
    folds = folds_of(TemporalSplit(times, n_splits=n_splits), patients)
    for train, test in folds:
        assert times[train].max() < times[test].min()
        assert not set(patients[train]) & set(patients[test])
        earlier = np.flatnonzero(times < times[test].min())
        assert set(patients[np.setdiff1d(earlier, train)]) <= set(patients[test])
    for (_, first), (_, second) in pairwise(folds):
        assert times[first].max() < times[second].min()
    if folds:
        assert len(folds) == n_splits
        tested = np.concatenate([test for _, test in folds])
        start = times[tested].min()
        assert sorted(tested) == np.flatnonzero(times >= start).tolist()


def test_periods_are_as_equal_as_ties_allow():
    times = np.repeat(np.arange(20), 3)
    sizes = [
        len(test) for _, test in TemporalSplit(times, n_splits=4).split(np.zeros(60))
    ]
    assert sizes == [12, 12, 12, 12]
    times = [1] * 90 + [2] * 5 + [3] * 5
    cv = TemporalSplit(times, n_splits=2)
    assert [len(test) for _, test in cv.split(times)] == [5, 5]


# -- in scikit-learn -------------------------------------------------------------------


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate_a_network(clinic, tiny, routing):
    X, y, sites, years = clinic
    for cv, n_splits in (
        (SiteKFold(sites), 3),
        (TemporalSplit(years, test_from=2021), 1),
    ):
        with sklearn.config_context(enable_metadata_routing=routing):
            # No warning of a known patient.
            found = ms.cross_validate(
                tiny(), X, y, cv=cv, error_score="raise", return_indices=True
            )
        assert found["test_score"].shape == (n_splits,)
        assert cv.get_n_splits(X, y) == n_splits
    assert set(years[found["indices"]["train"][0]]) == {2018, 2019, 2020}


@pytest.mark.parametrize("routing", [False, True])
def test_groups_may_be_passed(clinic, routing):
    X, y, sites, _ = clinic
    patients, X = X.groups.copy(), X.to_numpy().reshape(60, -1) / 255
    patients[sites == "north"] = 0
    patients[-1] = 0  # once in the west
    key = "params" if routing else "groups"
    value = {"groups": patients} if routing else patients
    with (
        sklearn.config_context(enable_metadata_routing=routing),
        pytest.warns(UserWarning, match="1 of the 21 patients have images at more"),
    ):
        found = ms.cross_validate(
            DummyClassifier(),
            X,
            y,
            cv=SiteKFold(sites),
            return_indices=True,
            **{key: value},
        )
    sizes = [len(rows) for rows in found["indices"]["train"]]
    assert sizes == [39, 40, 20]


@pytest.mark.parametrize("outer", ["sites", "years", "patients"])
@pytest.mark.parametrize("inner", ["sites", "years", "some years"])
def test_nested_on_a_sequence(clinic, outer, inner):
    X, y, sites, years = clinic
    cv = {
        "sites": SiteKFold(sites),
        "years": TemporalSplit(years, test_from=2021),
        "some years": TemporalSplit(years, n_splits=2),
        "patients": PatientKFold(3),
    }
    inner_cv = cv["some years" if (outer, inner) == ("years", "years") else inner]
    search = ms.GridSearchCV(
        Columns(max_iter=500), {"C": [0.01, 1]}, cv=inner_cv, error_score="raise"
    )
    found = ms.cross_validate(
        search,
        X,
        y,
        cv=cv[outer],
        error_score="raise",
        return_estimator=True,
        return_indices=True,
    )
    for fitted, rows in zip(found["estimator"], found["indices"]["train"], strict=True):
        if inner == "sites":
            assert fitted.n_splits_ == len(set(sites[rows]))
        for train, test in inner_cv.split(X[rows], y[rows]):
            values = sites if inner == "sites" else years
            train, test = rows[train], rows[test]
            assert not set(values[train]) & set(values[test])
            if inner != "sites":
                assert values[train].max() < values[test].min()


def test_a_part_of_the_images_needs_to_know_its_place(clinic):
    X, _, sites, _ = clinic
    cv, rows = SiteKFold(sites), np.arange(0, 60, 2)
    inside = [sites[rows][test].tolist() for _, test in cv.split(X[rows])]
    assert [set(fold) for fold in inside] == [{"north"}, {"south"}, {"west"}]
    shuffled = X[np.random.default_rng(0).permutation(60)]
    for part in (X.to_numpy()[rows], X[rows[::-1]], shuffled[:30], X[[0, *rows]]):
        with pytest.raises(ValueError, match=r"sites has 60 .* needs X as an ImageSeq"):
            cv.split(part)
        with pytest.raises(ValueError, match="sites has 60 entries"):
            cv.get_n_splits(part)
    # Sites of some images cannot stand for those of a part of these.
    cv = SiteKFold(sites[rows])
    assert len(list(cv.split(X[rows]))) == 3
    with pytest.raises(ValueError, match="sites has 30 entries, but X has 15 images"):
        cv.split(X[rows][:15])


def test_files_that_were_skipped_keep_the_place_of_the_others(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(6)]
    for path in paths:
        np.save(path, np.zeros((4, 4), np.uint8))
    paths[1].write_bytes(b"no image")
    X = ImageSequence(paths, on_error="skip")
    sites = np.array(["a", "-", "a", "b", "b", "b"])
    cv = SiteKFold(sites)
    assert [test.tolist() for _, test in cv.split(X)] == [[0, 1], [2, 3, 4]]
    assert [test.tolist() for _, test in cv.split(X[1:])] == [[0], [1, 2, 3]]


def test_grid_search_cloned_and_pickled(clinic):
    X, y, sites, _ = clinic
    search = ms.GridSearchCV(Columns(max_iter=500), {"C": [1]}, cv=SiteKFold(sites))
    search = pickle.loads(pickle.dumps(clone(search))).fit(X, y)
    assert search.n_splits_ == 3
    assert "split2_test_score" in search.cv_results_


# -- sites -----------------------------------------------------------------------------


def test_sites_of_a_large_study_share_folds():
    sites = np.repeat(np.arange(10), np.arange(1, 11))
    cv = SiteKFold(sites, n_splits=3)
    assert cv.get_n_splits() == 3
    sizes = [len(test) for _, test in cv.split(sites)]
    assert sum(sizes) == 55
    assert max(sizes) - min(sizes) <= 2


def test_left_out_images_are_told():
    groups = [1, 1, 2, 2, 3, 3]
    cv = SiteKFold(["a", "b", "a", "a", "b", "b"])
    with pytest.warns(UserWarning, match=r"1 of the 3 patients .* 2 of 6 images"):
        cv.split(sequence(groups))
    table = cv.describe(sequence(groups))
    assert table.index.name == "fold"
    assert table.to_dict("list") == {
        "test_sites": ["a", "b"],
        "train_images": [2, 2],
        "test_images": [3, 3],
        "left_out_images": [1, 1],
        "train_patients": [1, 1],
        "test_patients": [2, 2],
    }
    assert cv.describe()["left_out_images"].tolist() == [0, 0]
    assert "train_patients" not in cv.describe()


def test_patients_numbered_at_each_site_are_no_training():
    with pytest.raises(ValueError, match="whether the groups are the patients"):
        SiteKFold(["a", "a", "b", "b"]).split(sequence([1, 2, 1, 2]))


def test_sites_are_sorted_as_their_kind():
    cv = SiteKFold([10, 2, 10, 1])
    assert cv.describe()["test_sites"].tolist() == ["1", "2", "10"]
    named = SiteKFold(pd.Series(["b", "a", "b"], index=[7, 8, 9], dtype="category"))
    assert named.describe()["test_sites"].tolist() == ["a", "b"]


# -- times -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "test_from"),
    [
        (DATES, "2020-02"),
        ([date.replace("-", "") for date in DATES], "20200201"),
        (np.array(DATES, "datetime64[D]"), np.datetime64("2020-02-01")),
        (pd.Series(pd.to_datetime(DATES), index=range(5, 10)), "2020-02-01"),
        (pd.to_datetime(DATES).tz_localize("Europe/Berlin"), "2020-01-31T23:00Z"),
        (list(pd.to_datetime(DATES)), pd.Timestamp("2020-02-01")),
        (
            [datetime.date.fromisoformat(date) for date in DATES],
            datetime.date(2020, 2, 1),
        ),
        ([0, 0, 1, 2.5, 3], 2),
        (pd.Series([0, 0, 1, 2, 3], dtype="Int64"), np.float64(1.5)),
    ],
)
def test_kinds_of_times(times, test_from):
    ((train, test),) = TemporalSplit(times, test_from=test_from).split(np.zeros(5))
    assert train.tolist() == [0, 1, 2]
    assert test.tolist() == [3, 4]


def test_follow_up_is_left_out_of_training():
    cv = TemporalSplit(DATES, test_from=["2020-01-01", "2021-01-01"])
    X = sequence(["p", "q", "p", "r", "r"])
    folds = [(train.tolist(), test.tolist()) for train, test in cv.split(X)]
    assert folds == [([1], [2, 3]), ([0, 1, 2], [4])]
    table = cv.describe(X)
    assert table["left_out_images"].tolist() == [1, 1]
    assert table["test_first"].tolist() == list(
        pd.to_datetime(["2020-01-31", "2021-12-24"])
    )
    assert cv.get_n_splits() == 2


# -- what cannot be split --------------------------------------------------------------


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_values_are_counted(missing):
    with pytest.raises(ValueError, match="sites has 1 missing entries, the first at 2"):
        SiteKFold(["a", "b", missing])
    for times in (["2020", "2021", missing], [2020, 2021, missing]):
        with pytest.raises(ValueError, match=r"times has 1 missing .* first at 2"):
            TemporalSplit(times, n_splits=1)
    groups = np.array([1, 2, 3, missing], dtype=object)
    X, y = np.zeros((4, 4, 4)), [0, 1, 0, 1]
    for cv in (PatientKFold(2), SiteKFold([1, 1, 2, 2])):
        for wrong in (groups, ["p", "q", "r", missing]):
            with pytest.raises(ValueError, match=r"groups has 1 missing .* first at 3"):
                cv.split(X, y, wrong)
    with pytest.raises(ValueError, match=r"groups has 1 missing .* first at 3"):
        sequence(groups)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SiteKFold(["a", "a"]), "2 images are of 1 sites"),
        (lambda: SiteKFold(["a", "b"], n_splits=3), "needs at least 3"),
        (lambda: SiteKFold(["a", "b"], n_splits=1), "n_splits=1 must be"),
        (lambda: SiteKFold([["a"], ["b"]]), r"sites has shape \(2, 1\)"),
        (lambda: SiteKFold("north"), r"sites has shape \(\)"),
        (lambda: TemporalSplit([1, 2]), "pass one of them"),
        (lambda: TemporalSplit([1, 2], test_from=2, n_splits=1), "pass one of them"),
        (lambda: TemporalSplit([1, 2], n_splits=0), "n_splits=0 must be"),
        (lambda: TemporalSplit([1, 2, 2], n_splits=2), "2 different values"),
        (lambda: TemporalSplit(["03/04/2021"], test_from="2021"), "1 entries that"),
        (lambda: TemporalSplit([True, False], test_from=1), "2 entries that are no"),
        (lambda: TemporalSplit(DATES, test_from=2020), "another kind"),
        (lambda: TemporalSplit([1, 2, 3], test_from=[3, 2]), "increase"),
        (lambda: TemporalSplit([1, 2, 3], test_from=[]), "increase"),
    ],
)
def test_errors_name_the_parameter(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("test_from", [2018, 2030])
def test_a_side_without_images(test_from):
    with pytest.raises(ValueError, match=r"fold 0 .*(0 images to train|and 0 to test)"):
        TemporalSplit([2018, 2019], test_from=test_from).split(np.zeros(2))


def test_neither_places_nor_dates_are_shown():
    shown = repr(SiteKFold(["St Mary", "Guy's"])) + repr(
        TemporalSplit(DATES, n_splits=1)
    )
    assert "Mary" not in shown
    assert "2021" not in shown
    with pytest.raises(ValueError, match="that are no time") as error:
        TemporalSplit([*DATES, "24.12.1953"], n_splits=1)
    assert "1953" not in str(error.value)
    assert error.value.__cause__ is None


# -- who the patients are, whatever they are called ------------------------------------


def test_folds_do_not_depend_on_the_names_of_patients():
    """Pseudonyms of another key are other names."""
    patients = np.repeat(np.arange(12), 3)
    y = np.tile([0, 1, 1, 0], 9)
    X = np.zeros((36, 2, 2))
    for params in ({}, {"shuffle": True, "random_state": 0}):
        folds = []
        for key in ("one key", "another"):
            names = [pseudonym(p, key=key) for p in patients]
            cv = PatientKFold(3, **params)
            folds.append([test.tolist() for _, test in cv.split(X, y, names)])
        assert folds[0] == folds[1]


@pytest.mark.parametrize(
    "groups", [[1, 1.0, 2, 3], ["1", 1.0, "2", "3"], np.array([1, 1.0, 2, 3])]
)
def test_one_patient_written_twice_is_one(groups):
    X, y = np.zeros((4, 2, 2)), [0, 0, 1, 1]
    for train, test in PatientKFold(2).split(X, y, groups):
        assert (0 in train) == (1 in train)
        assert (0 in test) == (1 in test)


def test_nested_where_files_were_skipped(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(13)]
    for path in paths:
        np.save(path, np.zeros((4, 4)))
    paths[5].write_bytes(b"damaged")
    X = ImageSequence(paths, on_error="skip")
    sites = np.repeat(list("abc"), 4)  # of the twelve that could be read
    cv = SiteKFold(sites)
    for train, test in cv.split(X):
        assert set(sites[train]).isdisjoint(sites[test])
        for inner, held_out in cv.split(X[train]):
            assert set(sites[train][inner]).isdisjoint(sites[train][held_out])
            assert len(inner) == len(held_out) == 4
