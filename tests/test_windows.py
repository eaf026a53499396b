"""Window functions against hand-computed values of the standard, and their names."""

import numpy as np
import pytest

from skmedimg._windows import apply_window, ct_window, list_windows


def test_linear_is_that_of_the_standard():
    # PS3.3 C.11.2.1.2.1, note 4: centre 2^(n-1) and width 2^n is the identity.
    x = np.arange(256)
    assert np.allclose(apply_window(x, 128, 256, out=(0, 255)), x)
    # A window of width 1 is a threshold: below the centre black, from it on white.
    assert apply_window([9, 10, 11], 10, 1).tolist() == [0, 1, 1]


def test_linear_exact_reaches_its_ends_at_half_the_width():
    got = apply_window([-100, 0, 25, 50, 100, 300], 50, 100, "LINEAR_EXACT", (-1, 1))
    assert got.tolist() == [-1, -1, -0.5, 0, 1, 1]


def test_sigmoid():
    x = np.array([-1e6, 30, 40, 50, 1e6])
    expected = 1 / (1 + np.exp(-4 * (x[1:4] - 40) / 80))
    got = apply_window(x, 40, 80, "SIGMOID")
    assert np.allclose(got[1:4], expected)
    assert got[[0, 2, 4]].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64])
def test_any_dtype_becomes_float32_and_stays_as_it_was(dtype):
    x = np.array([[0, 100], [200, 90]], dtype)
    before = x.copy()
    shown = apply_window(x, 100, 101)
    assert shown.dtype == np.float32
    assert np.allclose(shown, [[0, 0.505], [1, 0.405]])
    assert np.array_equal(x, before)


def test_names():
    windows = list_windows()
    assert {"lung", "bone", "brain", "mediastinum", "abdomen", "liver"} <= set(windows)
    assert ct_window("lung") == (-600, 1500)
    assert ct_window("Soft_Tissue") == ct_window("soft tissue") == (50, 400)
    for name, window in windows.items():
        assert ct_window(name) == window[:2]
        assert window.width >= 1
        assert window.source
    windows.clear()
    assert list_windows()


def test_what_is_no_window_is_said():
    with pytest.raises(ValueError, match=r"(?s)'lungs'.*mediastinum.*mean 'lung'"):
        ct_window("lungs")
    with pytest.raises(ValueError, match="at least 1"):
        apply_window([1], 40, 0.5)
    with pytest.raises(ValueError, match="above 0"):
        apply_window([1], 40, 0, "LINEAR_EXACT")
    with pytest.raises(ValueError, match="'CUBIC' is no window function"):
        apply_window([1], 40, 80, "CUBIC")
    with pytest.raises(ValueError, match="finite centre"):
        apply_window([1], float("nan"), 80)
