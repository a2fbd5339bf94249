"""A rank correlation of 1 from a handful of pairs is not known to be 1."""

import math

import numpy as np
import pytest

from wmplay.evaluation.statistics import rank_correlation


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [5, 13])
def test_perfect_order_has_no_interval(n, sign):
    x = np.random.default_rng(n).permutation(n).astype(float)
    rho = rank_correlation(x, sign * np.exp(x), [str(i) for i in range(n)])
    assert rho.value == pytest.approx(sign)
    assert math.isnan(rho.low)
    assert math.isnan(rho.high)


def test_nearly_perfect_order_has_a_wide_one():
    rho = rank_correlation(np.arange(5.0), np.array([1, 0, 2, 3, 4.0]), list("abcde"))
    assert rho.value == pytest.approx(0.9)
    assert rho.low < 0.5
    assert rho.high == pytest.approx(1)
