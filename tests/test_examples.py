"""What the examples compute, with tiny settings."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


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
