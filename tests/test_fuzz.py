"""Damaged files of every format are read, or refused with file and cause.

`python tests/fuzz_files.py` does the same to twenty thousand, and prints a table.
"""

import pytest
from fuzz_files import report, run


@pytest.mark.parametrize(
    ("n", "seed"),
    [(400, 0), pytest.param(6000, 1, marks=pytest.mark.slow)],
)
def test_damaged_files_are_read_or_refused(n, seed, tmp_path):
    fuzz = run(n, seed, tmp_path)
    table = report(fuzz)
    assert fuzz.findings == [], table
    read = sum(one.read for one in fuzz.tallies.values())
    refused = sum(one.refused for one in fuzz.tallies.values())
    assert read + refused == n
    # Neither side is empty: the damage is neither too little nor too much.
    assert n / 10 < read < n * 9 / 10
    assert {"DICOM RLE", "NIfTI gz", "PNG", "TIFF"} <= {k for k, _ in fuzz.tallies}


def test_a_mistake_would_be_found(tmp_path, monkeypatch):
    """What the fuzz is for: it notices each kind of thing that must not happen."""

    def careless(path):
        if path.suffix == ".png":
            raise KeyError("IHDR")
        raise fuzz_error(f"cannot read {path.name}")

    from skmedimg.exceptions import InvalidImageError as fuzz_error

    monkeypatch.setattr("fuzz_files.read_image", careless)
    monkeypatch.setattr("fuzz_files.ImageSequence", lambda *a, **k: careless(a[0][0]))
    monkeypatch.setattr("fuzz_files.Fuzz.warm_up", lambda *a: None)
    problems = {problem for _, problem, _ in run(60, 0, tmp_path).findings}
    assert "another error" in problems
    assert "message without the file or the cause" in problems
