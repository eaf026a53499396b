"""Copies are found however they were changed, and counted per side of every split."""

import io
from itertools import combinations, permutations, product

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from sklearn.model_selection import KFold, LeaveOneGroupOut

from skmedimg.io import ImageSequence
from skmedimg.model_selection import PatientKFold, SiteKFold, audit_leakage


def make_images(n=40, size=(28, 28), seed=0):
    """Different images with structures of several pixels, uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, *size))
    X = np.stack([gaussian_filter(image, 1.5) for image in noise])
    low, high = X.min(), X.max()
    return np.rint((X - low) / (high - low) * 255).astype(np.uint8)


def pairs_of(report):
    return set(zip(report.pairs["first"], report.pairs["second"], strict=True))


def jpeg(image, quality=60):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def resized(image, size=20):
    there = Image.fromarray(np.ascontiguousarray(image)).resize((size, size))
    return np.array(there.resize((28, 28)))


CHANGES = {
    "mirrored": (lambda x: x[:, ::-1], "mirrored W"),
    "upside down": (lambda x: x[::-1], "mirrored H"),
    "turned left": (np.rot90, "axes W H, mirrored H"),
    "turned right": (lambda x: np.rot90(x, 3), "axes W H, mirrored W"),
    "turned over": (lambda x: np.rot90(x, 2), "mirrored H W"),
    "transposed": (np.transpose, "axes W H"),
    "resized": (resized, "none"),
    "recompressed": (jpeg, "none"),
    "contrast": (lambda x: x // 2 + 60, "none"),
    "inverted": (lambda x: 255 - x, "inverted"),
    "all": (lambda x: 255 - jpeg(resized(np.rot90(x))), "axes W H, mirrored H, "),
}


# -- copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_copies_are_found_and_nothing_else(kind):
    change, name = CHANGES[kind]
    X = make_images()
    copies = np.stack([change(image) for image in X[:12]])
    report = audit_leakage(np.concatenate([X, copies]))
    assert pairs_of(report) == {(i, 40 + i) for i in range(12)}
    assert report.pairs["change"].str.startswith(name).all()
    assert set(report.pairs["kind"]) == {"near"}
    assert report.pairs["correlation"].is_monotonic_decreasing


def direct_correlation(a, b, count):
    """Best absolute correlation of edges over all ways to lay a image upon another."""
    best = 0.0
    weight = np.sqrt((np.indices((count,) * a.ndim) ** 2).sum(0))
    low = (slice(count),) * a.ndim
    target = (dctn(b, norm="ortho")[low] * weight).ravel()
    for axes in permutations(range(a.ndim)):
        for flips in product((1, -1), repeat=a.ndim):
            laid = a.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
            other = (dctn(laid, norm="ortho")[low] * weight).ravel()
            norm = np.linalg.norm(target) * np.linalg.norm(other)
            best = max(best, abs(target @ other) / norm)
    return best


def follow(change, image):
    """Do to an image what the table says."""
    axes = "DHW"[-image.ndim :]
    for step in change.split(", "):
        what, *names = step.split()
        if what == "axes":
            image = image.transpose([axes.index(name) for name in names])
        elif what == "mirrored":
            image = np.flip(image, [axes.index(name) for name in names])
        elif what == "inverted":
            image = 255 - image
    return image


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("swap", [False, True])
def test_the_change_can_be_followed(n_axes, swap):
    X = make_images(2, (14,) * n_axes)
    for order in permutations(range(n_axes)):
        turned = np.flip(X[0].transpose(order), 0)
        # Row 0 comes first: the pair of rows 1 and 2 is then named the other way round.
        rows = [turned, X[0], turned] if swap else [X[0], turned, X[1]]
        table = audit_leakage(np.stack(rows), spatial_dims=n_axes).pairs
        first, second = (1, 2) if swap else (0, 1)
        row = table[(table["first"] == first) & (table["second"] == second)].iloc[0]
        assert (follow(row["change"], rows[first]) == rows[second]).all()


def test_the_change_leads_from_the_first_to_the_second():
    # A turned image before and after the original: its two pairs turn either way.
    X = make_images(3)
    turned = np.stack([np.rot90(image) for image in X])
    pairs = audit_leakage(np.concatenate([turned, X, turned])).pairs
    table = pairs[pairs["kind"] == "near"].set_index(["first", "second"])["change"]
    for i in range(3):
        assert table.pop((i, 3 + i)) == CHANGES["turned right"][1]
        assert table.pop((3 + i, 6 + i)) == CHANGES["turned left"][1]
    assert table.empty
    pairs = audit_leakage(np.concatenate([turned, X]), X_test=turned).pairs
    wanted = {(i, i): "none" for i in range(3)}
    wanted |= {(3 + i, i): CHANGES["turned left"][1] for i in range(3)}
    assert pairs.set_index(["first", "second"])["change"].to_dict() == wanted


@pytest.mark.parametrize(("size", "count"), [((16, 16), 10), ((12, 12, 12), 8)])
def test_no_pair_is_missed(size, count):
    # Blurred so much that many of them look alike.
    rng = np.random.default_rng(1)
    X = np.stack([gaussian_filter(rng.normal(size=size), 4) for _ in range(16)])
    report = audit_leakage(X, threshold=0.6, spatial_dims=len(size))
    wanted = {
        (i, j): direct_correlation(X[i], X[j], count)
        for i, j in combinations(range(16), 2)
    }
    assert 5 < len(report.pairs) < 115
    assert pairs_of(report) == {pair for pair, r in wanted.items() if r >= 0.6}
    for row in report.pairs.itertuples():
        assert row.correlation == pytest.approx(wanted[row.first, row.second], abs=1e-4)


def test_layouts_sizes_and_types_of_one_image():
    X = make_images(10, (32, 32))
    smaller = np.stack([np.array(Image.fromarray(x).resize((20, 20))) for x in X])
    colour = np.repeat(smaller[..., np.newaxis], 3, axis=3)
    for other in (
        smaller,
        colour,
        smaller.astype(np.int16) * 4 - 1024,
        smaller / 255.0,
        smaller * 1e30,
        smaller * 1e-30,
        list(smaller),
        ImageSequence.from_array(smaller),
    ):
        report = audit_leakage(X, X_test=other)
        assert pairs_of(report) == {(i, i) for i in range(10)}
    mixed = [*X[:5], *smaller[:5]]
    with pytest.raises(ValueError, match="Set image_size"):
        audit_leakage(mixed)
    report = audit_leakage(mixed, image_size=(24, 24))
    assert pairs_of(report) == {(i, 5 + i) for i in range(5)}


def test_blank_images_are_exact_copies_but_like_no_other():
    X = make_images(6)
    X[1:3], X[4] = 7, 8
    report = audit_leakage(X)
    assert report.pairs[["first", "second", "kind"]].values.tolist() == [
        [1, 2, "exact"]
    ]


@pytest.mark.data
def test_twins_between_the_official_splits_of_breastmnist(data_file):
    with np.load(data_file("medmnist/breastmnist.npz")) as data:
        train, test = data["train_images"], data["test_images"]
        y = [data[f"{side}_labels"] for side in ("train", "test")]
    report = audit_leakage(train, y[0], X_test=test, y_test=y[1])
    assert (report.pairs["correlation"] > 0.99).sum() == pytest.approx(42, abs=5)
    assert report.summary.loc["near-duplicates", "test_share"] > 0.25
    assert not report.pairs["same_label"].all()


# -- splits ----------------------------------------------------------------------------


def scattered(n=60, kinds=15, seed=0):
    """Few images many times over, exact and with other contrast."""
    rng = np.random.default_rng(seed)
    kind, near = rng.integers(0, kinds, n), rng.random(n) < 0.3
    X = make_images(kinds)[kind]
    X[near] = X[near] // 2 + 30
    return X, kind, near


@pytest.mark.parametrize("cv", [4, KFold(3, shuffle=True, random_state=0)])
def test_counts_in_cross_validation_are_the_direct_ones(cv):
    X, kind, near = scattered()
    report = audit_leakage(X, cv=cv)
    splits = list((KFold(cv) if cv == 4 else cv).split(X))
    wanted = {
        (i, j): sum((i in tr and j in te) or (j in tr and i in te) for tr, te in splits)
        for i, j in combinations(range(60), 2)
        if kind[i] == kind[j]
    }
    table = report.pairs.set_index(["first", "second"])
    assert table["n_splits"].to_dict() == wanted
    exact = {(i, j) for i, j in wanted if near[i] == near[j]}
    assert set(table.index[table["kind"] == "exact"]) == exact
    for name, pairs in (
        ("exact duplicates", exact),
        ("near-duplicates", set(wanted) - exact),
    ):
        tested = {
            b
            for i, j in pairs
            for a, b in ((i, j), (j, i))
            for train, test in splits
            if a in train and b in test
        }
        row = report.summary.loc[name]
        assert row.to_list() == [len(pairs), len(tested), len(tested) / 60]


def test_counts_of_training_and_test_images_are_the_direct_ones():
    X, kind, near = scattered()
    report = audit_leakage(X[:40], X_test=X[40:])
    wanted = {
        (i, j - 40) for i in range(40) for j in range(40, 60) if kind[i] == kind[j]
    }
    assert pairs_of(report) == wanted
    exact = {(i, j) for i, j in wanted if near[i] == near[40 + j]}
    assert report.summary["found"].to_list() == [len(exact), len(wanted - exact)]
    tested = [len({j for _, j in pairs}) for pairs in (exact, wanted - exact)]
    assert report.summary["test_images"].to_list() == tested
    assert report.groups is None


def test_without_a_split_copies_are_counted():
    X, kind, near = scattered()
    report = audit_leakage(X)
    assert list(report.summary.columns) == ["found", "images"]
    label = kind * 2 + near
    twice = np.isin(label, np.flatnonzero(np.bincount(label) > 1))
    assert report.summary.loc["exact duplicates", "images"] == twice.sum()
    both = [k for k in range(15) if {0, 1} == set(near[kind == k].astype(int))]
    assert report.summary.loc["near-duplicates", "images"] == np.isin(kind, both).sum()
    assert "near-duplicates" in repr(report)


def test_folds_by_the_groups_found_leak_nothing():
    X, kind, _ = scattered()
    patients = np.arange(60) // 2
    y = np.arange(60) % 2
    report = audit_leakage(X, y, patients)
    for value in (kind, patients):
        table = pd.DataFrame({"group": report.groups, "value": value})
        assert (table.groupby("value")["group"].nunique() == 1).all()
    X = make_images(60)
    X[50:55], X[55:] = X[:5], X[5:10] // 2 + 60
    cv = KFold(5, shuffle=True, random_state=0)
    before = audit_leakage(X, y, patients, cv=cv)
    groups = before.groups
    assert before.summary["test_images"].min() > 0
    after = audit_leakage(X, y, groups, cv=PatientKFold(5))
    assert after.summary["test_images"].sum() == 0
    assert after.shared_groups.empty
    assert after.pairs["same_group"].all()
    assert len(np.unique(groups)) == 25


@pytest.mark.parametrize("cv", [[], [([0, 1], [])]])
def test_splits_that_test_nothing(cv):
    with pytest.raises(ValueError, match="tests nothing"):
        audit_leakage(make_images(2), cv=cv)


def test_shared_patients_are_listed_by_split():
    patients = ["p", "p", "q", "q", "r", "r"]
    X = ImageSequence.from_array(make_images(6), groups=patients)
    report = audit_leakage(X, cv=[([0, 2, 3], [1, 4]), ([0, 1], [2, 3])])
    assert report.shared_groups.to_dict("list") == {
        "split": [0],
        "group": ["p"],
        "train_images": [1],
        "test_images": [1],
    }
    assert report.summary.loc["shared groups"].to_list() == [1, 1, 1 / 4]
    # What the images carry reaches scikit-learn's splitters as well.
    assert audit_leakage(X, cv=LeaveOneGroupOut()).shared_groups.empty
    two = ImageSequence.from_array(make_images(2, seed=1), groups=["q", "s"])
    report = audit_leakage(X, X_test=two)
    assert report.shared_groups["group"].to_list() == ["q"]
    for cv in (PatientKFold(3), LeaveOneGroupOut(), SiteKFold(list("aabbcc"))):
        report = audit_leakage(X, [0, 1] * 3, groups=patients, cv=cv)
        assert report.summary["found"].to_list() == [0, 0, 0]


def test_labels_of_copies_are_compared():
    X = make_images(4)
    X = np.concatenate([X, X])
    y = np.array(
        [[0, 1], [1, np.nan], [0, 0], [1, 1], [0, 1], [1, np.nan], [0, 1], [1, 0]]
    )
    assert audit_leakage(X, y).pairs["same_label"].to_list() == [
        True,
        True,
        False,
        False,
    ]
    report = audit_leakage(X[:4], list("abcd"), X_test=X[4:], y_test=list("abdc"))
    assert report.pairs["same_label"].to_list() == [True, True, False, False]


# -- too many, and what cannot be audited ----------------------------------------------


def test_of_too_many_pairs_the_closest_are_kept():
    X = make_images(30)
    smooth = np.rint(X * 0.1 + X[:1] * 0.9).astype(np.uint8)  # all alike
    everything = audit_leakage(smooth)
    n = len(everything.pairs)
    assert n > 100
    with pytest.warns(
        UserWarning, match=f"{n} pairs are equal or .* closest 20"
    ) as seen:
        report = audit_leakage(smooth, max_pairs=20)
    assert seen[0].filename == __file__
    pd.testing.assert_frame_equal(report.pairs, everything.pairs.iloc[:20])
    assert report.summary.loc["near-duplicates", "found"] == n
    assert report.groups is None
    blank = np.zeros((2000, 16, 16), np.uint8)
    with pytest.warns(UserWarning, match="1999000 pairs"):
        report = audit_leakage(blank, max_pairs=50, cv=5)
    assert report.summary.loc["exact duplicates"].to_list() == [1999000, 2000, 1.0]
    # Nothing is lost on the groups: equal images are one.
    assert set(report.groups) == {0}


X = make_images(4)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"X": X, "X_test": X, "cv": 2}, "pass one of them"),
        ({"X": X, "y_test": [0, 1]}, "X_test, which is None"),
        ({"X": X, "y": [0] * 4, "X_test": X}, "y is known for one .* not for X_test"),
        ({"X": X, "groups": [0] * 4, "X_test": X}, "groups is known for one"),
        (
            {"X": X, "groups": [0] * 4, "X_test": X, "groups_test": list("abcd")},
            "cannot be compared",
        ),
        ({"X": X, "y": [0, 1]}, "inconsistent numbers"),
        ({"X": X, "groups": [0, 1]}, "groups has shape"),
        ({"X": X, "threshold": 1.0}, "threshold"),
        ({"X": X, "max_pairs": 0}, "max_pairs"),
        ({"X": X.reshape(4, -1)}, r"X has shape \(4, 784\): pass .*reshape"),
        ({"X": X[:0]}, "at least one image"),
        ({"X": X, "X_test": np.zeros((2, 9, 9, 9))}, "2 spatial axes .* 3"),
        ({"X": np.full((2, 8, 8), np.nan)}, "X contains 128 NaN"),
    ],
)
def test_errors_say_what_to_change(arguments, match):
    with pytest.raises(ValueError, match=match):
        audit_leakage(**arguments)
