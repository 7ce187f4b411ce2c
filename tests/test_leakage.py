"""n_leaked against the exact values of the second paper's reporting script and its own inverse."""

import math

import numpy as np
import pytest

from helpers.leakage import (
    contrast,
    leak,
    n_leaked,
    n_leaked_regression,
    regression_leak,
)

CAPS = {0.0: 13.6, 1.0: 13.6, 0.1: 16.1, 0.9: 16.1, 0.2: 20.1, 0.8: 20.1, 0.3: 28.0, 0.7: 28.0,
        0.4: 51.7, 0.6: 51.7}


@pytest.mark.parametrize("ratio, cap", CAPS.items())
def test_the_caps_of_the_released_script(ratio, cap):
    assert n_leaked(0.99998, 0.5, ratio) == pytest.approx(cap, abs=0.06)


def test_the_mean_of_the_caps_is_the_papers_best_cell():
    mean = np.mean([n_leaked(0.99998, 0.5, ratio) for ratio in CAPS])
    assert mean == pytest.approx(25.9, abs=0.05)
    intended = np.mean([n_leaked(0.998, 0.5, ratio) for ratio in CAPS])
    assert intended == pytest.approx(13.3, abs=0.05)


@pytest.mark.parametrize("accuracy, ratio, wanted", [
    (0.95, 0.1, 2.8), (0.95, 0.2, 3.5), (0.95, 0.3, 4.9), (0.95, 0.4, 9.1),
    (0.80, 0.1, 0.76), (0.80, 0.2, 0.95), (0.80, 0.3, 1.33), (0.80, 0.4, 2.45)])
def test_sensitivity_values(accuracy, ratio, wanted):
    assert n_leaked(accuracy, 0.5, ratio) == pytest.approx(wanted, abs=0.05)


def test_ends():
    assert n_leaked(1.0, 0.5, 0.4) == math.inf
    assert n_leaked(0.9, 0.0, 1.0) == math.inf
    assert n_leaked(1.0, 0.3, 0.3) == 0.0
    assert n_leaked(0.5, 0.5, 0.4) == 0.0
    assert n_leaked(0.2, 0.5, 0.4) == 0.0


def test_it_inverts_the_bound():
    for n in (0.5, 3, 40):
        omega = 0.5 + 0.5 * math.sqrt(1 - contrast(0.5, 0.3) ** n)
        assert n_leaked(omega, 0.5, 0.3) == pytest.approx(n)
        assert n_leaked(omega, 0.3, 0.5) == pytest.approx(n)


@pytest.mark.parametrize("call, said", [
    (lambda: n_leaked(82.5, 0.5, 0.3), "not a percentage"),
    (lambda: n_leaked(0.8, 0.5, 1.3), "lies in"),
    (lambda: leak([], 0.5, 0.3), "no victims"),
    (lambda: n_leaked_regression(0.5, -1.0), "at least 0"),
    (lambda: n_leaked_regression(0.5, float("nan")), "at least 0")])
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_capped_leak_assumes_one_error():
    perfect = leak([True] * 200, 0.5, 0.4)
    assert perfect.capped and perfect.high == math.inf
    assert perfect.value == pytest.approx(n_leaked(1 - 1 / 200, 0.5, 0.4))
    assert "at least" in str(perfect)
    almost = leak([True] * 199 + [False], 0.5, 0.4)
    assert not almost.capped and almost.value == pytest.approx(perfect.value)
    assert almost.low < almost.value < almost.high < math.inf


def test_equal_worlds_leak_nothing_even_when_capped():
    found = leak([True] * 10, 0.5, 0.5)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_regression():
    assert n_leaked_regression(0.5, 0.01) == pytest.approx(25.0)
    assert n_leaked_regression(0.5, 0.0) == math.inf
    errors = np.array([0.1, -0.1, 0.1, -0.1])
    found = regression_leak(0.5 + errors, 0.5)
    assert found.value == pytest.approx(25.0) and found.low == pytest.approx(25.0)
