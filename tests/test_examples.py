"""What the examples compute, with tiny settings; and pages whose code is to run."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.mark.data
def test_contrast_ct(data_file, tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    example = runpy.run_path(str(EXAMPLES / "io" / "plot_contrast_ct.py"))
    data, headers = example["load"](data_file("ct_contrast_dicom"), size=16)
    assert data.images.shape == (24, 16, 16)
    assert headers.index.tolist() == data.filenames.tolist()
    assert headers.notna().all(axis=None)
    scores = example["compare"](data, headers, tiny(), n_repeats=1)
    assert scores.shape == (4, 2)
    # Thickness and kernel, without any pixel, go a long way.
    assert scores["headers alone"].mean() > 0.7
    figure = example["plot"](scores, data, headers)
    figure.savefig(tmp_path / "figure.png")
    example["plt"].close(figure)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_report(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "agg")
    example = runpy.run_path(str(EXAMPLES / "evaluation" / "plot_report.py"))
    sets = example["load"](n_patients=280, image_size=16)
    patients = [set(part[2].tolist()) for part in sets]
    assert [len(part) for part in patients] == [140, 70, 70]
    assert len(set.union(*patients)) == 280
    clf = tiny(max_epochs=3).fit(*sets[0][:2])
    found, cases = example["areas"](clf, *sets[2])
    assert len(cases.y) == 70
    naive, clustered, _ = found.values()
    # Images of one patient are alike: an interval over them is too narrow.
    assert clustered.low < naive.low < naive.high < clustered.high
    report = example["report_on"](clf, sets, n_bootstrap=100)
    assert report.warnings == ()
    assert "on 70 other cases" in report.summary[2]
    report.to_html(tmp_path / "report.html")
    figure = example["plot"](cases)
    figure.savefig(tmp_path / "figure.png")
    example["plt"].close(figure)


def run_page(name):
    """Run the blocks of a page one after the other, as a reader would."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL):
        compile(block, name, "exec")  # of what needs a server or another package
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    return names


@pytest.fixture
def reader(monkeypatch, tmp_path):
    """Works in an empty folder, without a screen."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.close("all")


@pytest.mark.slow
def test_page_on_evaluation(reader):
    names = run_page("evaluation.md")
    assert "lesion" in names["report"].methods_text()
    assert (reader / "report.html").exists()


@pytest.mark.slow
def test_page_on_searching(reader):
    names = run_page("searching.md")
    assert len(names["search"].cv_results_["params"]) == 10
    assert names["search"].best_score_ > 0.6
    assert len(names["small"].cv_results_["params"]) == 4
    names["small"].set_params(param_distributions=names["conditional"], storage=None)
    names["small"].fit(names["X"], names["y"])
    assert (reader / "study.db").exists()
