"""Tables of images: what is read, what it means, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from loader_files import class_folders, save, table_of_images, values

from skmedimg.datasets import load_image_table
from skmedimg.io import read_image


@pytest.fixture(autouse=True)
def own_key_and_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SKMEDIMG_KEY", "a key for tests")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    return class_folders(tmp_path)


@pytest.fixture
def table():
    return table_of_images()


@pytest.mark.parametrize("kind", ["frame", "csv", "tsv", "xlsx"])
@pytest.mark.parametrize("column", ["file", "stem"])
def test_table(table, folder, kind, column):
    root = folder
    if kind != "frame":
        source = folder / f"labels.{kind}"
        if kind == "xlsx":
            pytest.importorskip("openpyxl")
            table.to_excel(source, index=False)
        else:
            table.to_csv(source, index=False, sep="\t" if kind == "tsv" else ",")
        table, root = source, None
    data = load_image_table(
        table,
        path_column=column,
        label_column="finding",
        group_column="patient",
        root=root,
    )
    assert values(data.images) == [0, 1, 2, 3, 4, 5]
    assert data.target.tolist() == [0, 1] * 3
    assert data.target_names.tolist() == ["normal", "pneumonia"]
    assert len(set(data.groups)) == 3
    assert "P0" not in data.groups
    assert data.filenames[1] == "pneumonia/deeper/P0_1.png"


@pytest.mark.parametrize(
    ("labels", "target", "names"),
    [
        ("code", [0, 1] * 3, ["0", "1"]),
        ("score", np.linspace(0, 1.5, 6).tolist(), None),
        (
            ["effusion", "mass"],
            [[1, 0], [0, 0], [0, 1], [0, 1], [1, 0], [1, 1]],
            ["effusion", "mass"],
        ),
        (None, None, None),
    ],
)
def test_labels_of_a_table(table, folder, labels, target, names):
    data = load_image_table(table, path_column="file", label_column=labels, root=folder)
    assert (None if data.target is None else data.target.tolist()) == target
    found = data.target_names
    assert (None if found is None else found.tolist()) == names


def read_labels(folder, words):
    names = [f"P{i // 2}_{i}" for i in range(6)]
    rows = [f"{name},{word}" for name, word in zip(names, words, strict=True)]
    source = folder / "labels.csv"
    source.write_text("\n".join(["file,label", *rows]))
    return load_image_table(source, path_column="file", label_column="label")


@pytest.mark.parametrize(
    ("words", "target", "names"),
    [
        (["001", "1"] * 3, [0, 1] * 3, ["001", "1"]),
        (["1", "2", "4", "5", "5", "1"], [0, 1, 2, 3, 3, 0], ["1", "2", "4", "5"]),
        (["10", "9"] * 3, [1, 0] * 3, ["9", "10"]),
        (["-1", "0"] * 3, [0, 1] * 3, ["-1", "0"]),
        (["0.5", "1"] * 3, [0.5, 1] * 3, None),
        (["1a", "2"] * 3, [0, 1] * 3, ["1a", "2"]),
        ([" a", "b "] * 3, [0, 1] * 3, ["a", "b"]),
        (["True", "False"] * 3, [1, 0] * 3, ["False", "True"]),
    ],
)
def test_labels_are_as_they_are_written(folder, words, target, names):
    data = read_labels(folder, words)
    assert data.target.tolist() == target
    if names is None:
        assert data.target_names is None
        return
    assert data.target_names.tolist() == names
    written = [word.strip() for word in words]
    assert data.target_names[data.target].tolist() == written
    assert data.frame["label"].astype(str).tolist() == written


def test_labels_that_differ_in_type_or_space(table, folder):
    def load(labels):
        frame = table.assign(label=labels)
        return load_image_table(
            frame, path_column="file", label_column="label", root=folder
        )

    with pytest.warns(UserWarning, match="one class: 'a ' and 'a'"):
        data = load(["a", "a ", "b", "a", "b", "b"])
    assert data.target_names.tolist() == ["a", "b"]
    assert data.frame["label"].tolist() == ["a", "a", "b", "a", "b", "b"]
    with pytest.warns(UserWarning, match="one class: '1' and 1"):
        data = load(pd.Series([1, "1", 2, 1, 2, 2], dtype=object))
    assert data.target.tolist() == [0, 0, 1, 0, 1, 1]
    with pytest.raises(ValueError, match="1 of 6 rows have nothing in label_column"):
        load(["a", " ", "b", "a", "b", "b"])


def test_many_whole_numbers_may_not_be_classes(tmp_path):
    paths = [save(tmp_path / f"{i}.png") for i in range(25)]
    frame = pd.DataFrame({"file": [path.name for path in paths], "age": range(30, 55)})
    options = {"path_column": "file", "label_column": "age", "root": tmp_path}
    with pytest.warns(UserWarning, match="25 different whole numbers are labels, from"):
        load_image_table(frame, **options)
    data = load_image_table(frame.astype({"age": float}), **options)
    assert data.target.tolist() == list(range(30, 55))


def test_patients_are_the_same_from_any_source(folder, write_dicom):
    names = [f"P{i // 2}_{i}" for i in range(6)]

    def load(patients, suffix=None):
        frame = pd.DataFrame({"file": names, "patient": patients})
        source = frame
        if suffix is not None:
            source = folder / f"patients{suffix}"
            if suffix == ".xlsx":
                pytest.importorskip("openpyxl")
                frame.to_excel(source, index=False)
            else:
                frame.to_csv(source, index=False)
        options = {"path_column": "file", "group_column": "patient", "root": folder}
        return load_image_table(source, **options).groups.tolist()

    padded = [f"{i:05}" for i in range(6)]
    assert load(padded, ".csv") == load(padded) == load(padded, ".xlsx")
    meta = read_image(write_dicom(PatientID="00003"))[1]
    assert load(padded, ".csv")[3] == meta.patient
    plain = load([str(i) for i in range(6)])
    assert plain != load(padded)
    for patients in (range(6), np.arange(6.0), [f"{i} " for i in range(6)]):
        for suffix in (None, ".csv", ".xlsx"):
            assert load(list(patients), suffix) == plain


def test_file_names_of_digits(tmp_path):
    for i in range(4):
        save(tmp_path / f"000{i}.png", i)
    lines = ["file,label", *(f"000{i},{i % 2}" for i in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = load_image_table(
        tmp_path / "labels.csv", path_column="file", label_column="label"
    )
    assert values(data.images) == [0, 1, 2, 3]


def test_files_that_a_table_lists_twice(table, folder):
    def load(frame, **options):
        options = {"label_column": "finding", "group_column": "patient"} | options
        return load_image_table(frame, path_column="file", root=folder, **options)

    twice = pd.concat([table, table.iloc[:2]], ignore_index=True)
    twice.loc[7, "file"] = "./pneumonia/deeper/../deeper/P0_1.png"
    with pytest.warns(UserWarning, match=r"2 files occur more than once.*P0_0.png"):
        assert len(load(twice).images) == 8
    other = twice.assign(finding=[*twice["finding"][:-1], "normal"])
    text = r"2 files occur more than once.* 1 of them with different labels.*P0_1.png"
    with pytest.raises(ValueError, match=text):
        load(other)
    other = twice.assign(patient=[*twice["patient"][:-1], "P9"])
    with pytest.raises(ValueError, match="1 of them with different patients"):
        load(other, label_column=None)
    missing = table.assign(mass=[0, None, 1, 1, 0, 1])
    with pytest.warns(UserWarning, match="2 files occur more than once"):
        load(pd.concat([missing, missing[:2]]), label_column=["effusion", "mass"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_excel_writes_them(table, folder, encoding, separator):
    table["finding"] = ["häufig", "b"] * 3
    source = folder / "labels.csv"
    table.to_csv(source, index=False, sep=separator, encoding=encoding)
    data = load_image_table(source, path_column="file", label_column="finding")
    assert data.target_names.tolist() == ["b", "häufig"]
    if separator == ";":
        table["score"] = [f"{i},5" for i in range(6)]
        table.to_csv(source, index=False, sep=separator, encoding=encoding)
        data = load_image_table(source, path_column="file", label_column="score")
        assert data.target.tolist() == [i + 0.5 for i in range(6)]


def test_tables_that_cannot_be_read(table, folder):
    source = folder / "labels.csv"
    table["finding"] = ["häufig", "b"] * 3
    table.to_csv(source, index=False, encoding="latin-1")
    with pytest.raises(ValueError, match=r"^labels.csv: its text is .*CSV UTF-8"):
        load_image_table(source, path_column="file")
    source.touch()
    source.write_text("")
    with pytest.raises(ValueError, match=r"^labels.csv: is no table"):
        load_image_table(source, path_column="file")
    source.write_text("name;finding\na;b")
    with pytest.raises(ValueError, match=r"it has \['name', 'finding'\]"):
        load_image_table(source, path_column="file")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["yes", "no"] * 3, "'mass' holds 'yes'"),
        ([0, 1, 2] * 2, "'mass' holds 2"),
        ([0, 1, -1, None, 0, 1], "'mass' holds -1"),
    ],
)
def test_columns_that_are_no_labels_are_named(table, folder, values, reason):
    table["mass"] = values
    with pytest.raises(ValueError, match=f"label_column {reason}"):
        load_image_table(
            table, path_column="file", label_column=["effusion", "mass"], root=folder
        )


def test_several_labels_in_one_column(table, folder):
    data = load_image_table(
        table,
        path_column="file",
        label_column="list",
        label_separator="|",
        root=folder,
    )
    assert data.target_names.tolist() == ["a", "b", "none"]
    assert data.target[:3].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_missing_labels_of_several_are_nan(table, folder):
    table["mass"] = [0, None, 1, 1, 0, 1]
    data = load_image_table(
        table, path_column="file", label_column=["mass"], root=folder
    )
    assert np.isnan(data.target).sum() == 1


def test_table_that_does_not_fit(table, folder):
    def load(table, path_column="file", **params):
        return load_image_table(table, path_column=path_column, root=folder, **params)

    with pytest.raises(ValueError, match="no column 'name'; it has"):
        load(table, "name")
    with pytest.raises(ValueError, match="1 of 6 rows have nothing in label_column"):
        load(table.assign(finding=["a", None, *"abab"]), label_column="finding")
    with pytest.raises(ValueError, match="1 of 6 rows have nothing in group_column"):
        load(table.assign(patient=["a", None, *"abab"]), group_column="patient")
    absent = table.assign(file=["lost.png", *table["file"][1:]])
    with pytest.raises(ValueError, match=r"1 of 6 images.* first is 'lost.png'"):
        load(absent)
    data = load(absent, label_column="code", on_error="skip")
    assert values(data.images) == [1, 2, 3, 4, 5]
    assert data.target.tolist() == [1, 0, 1, 0, 1]
    save(folder / "other" / "P0_0.png")
    with pytest.raises(ValueError, match=r"may be normal/deeper/P0_0.png or other/P0"):
        load(table)


def test_frame_follows_the_images(table, folder):
    table["site"] = list("xyzxyz")
    table.index = pd.Index(range(10, 16))
    (folder / "normal" / "deeper" / "P1_2.png").write_bytes(b"damaged")
    table.loc[14, "file"] = "lost.png"
    data = load_image_table(
        table,
        path_column="file",
        label_column="finding",
        group_column="patient",
        root=folder,
        on_error="skip",
    )
    assert data.frame.index.tolist() == [10, 11, 13, 15]
    assert values(data.images) == [0, 1, 3, 5]
    assert data.frame["site"].tolist() == list("xyxz")
    assert data.frame["finding"].tolist() == data.target_names[data.target].tolist()
    # What the loader was asked to hide is not beside it in the open.
    assert data.frame["patient"].tolist() == data.groups.tolist()
    assert "P0" not in data.frame["patient"].tolist()
    assert table["patient"].tolist()[0] == "P0"
    assert data.skipped["path"].tolist() == ["normal/deeper/P1_2.png", "lost.png"]


def test_frame_keeps_patients_that_are_not_to_be_hidden(table, folder):
    data = load_image_table(
        table,
        path_column="file",
        group_column="patient",
        root=folder,
        pseudonymise=False,
    )
    assert data.frame["patient"].tolist() == table["patient"].tolist()
    assert data.skipped.empty
