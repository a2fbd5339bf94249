"""Numbers as distributions over bins: golden numbers of DreamerV3, TD-MPC2 and MuZero."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from wmplay.nets.agents.two_hot import TwoHot, from_root, of_roots, of_symlogs, of_values, to_root

KINDS = [of_values, of_symlogs, of_roots]


def mixture(two_hot: TwoHot, *targets: float) -> float:
    """The number that equal parts of the targets' distributions decode to."""
    return float(two_hot.mean(two_hot.encode(torch.tensor(targets)).mean(0).log()))


def test_bins_of_dreamer() -> None:
    bins = of_values().bins
    assert len(bins) == 255
    assert bins[[127, 128, 129, 254]].tolist() == pytest.approx([0, 0.17056, 0.37021, 4.85165e8], rel=1e-4)
    assert torch.equal(bins, -bins.flip(0))


def test_a_mixture_is_its_mean_only_in_the_space_of_values() -> None:
    assert mixture(of_values(), 0, 100) == pytest.approx(50, rel=1e-5)
    assert mixture(of_symlogs(), 0, 100) == pytest.approx(9.05, abs=0.005)
    assert mixture(of_roots(), 0, 100) < 50


def test_muzeros_transform() -> None:
    x = torch.tensor([10.0, 100, 300], dtype=torch.float64)
    assert to_root(x).tolist() == pytest.approx([2.3266, 9.1499, 16.6494], abs=5e-5)
    wide = torch.tensor([-3e4, -100, -1, -1e-3, 0, 1e-3, 2, 300, 3e4], dtype=torch.float64)
    torch.testing.assert_close(from_root(to_root(wide)), wide, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_logits_are_exactly_zero(kind: Callable[[], TwoHot]) -> None:
    two_hot = kind()
    assert two_hot.mean(torch.full((2, 3, two_hot.size), 1.7)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_comes_back(kind: Callable[[], TwoHot]) -> None:
    two_hot = kind()
    numbers = torch.tensor([[-9000.0, -50, -0.3, 0.0], [1e-3, 0.17, 7.0, 20000.0]])
    encoded = two_hot.encode(numbers)
    assert encoded.shape == (2, 4, two_hot.size)
    torch.testing.assert_close(encoded.sum(-1), torch.ones(2, 4))
    assert int((encoded > 0).sum(-1).max()) <= 2
    torch.testing.assert_close(two_hot.mean(encoded.log()), numbers, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_cross_entropy_to_the_code(kind: Callable[[], TwoHot]) -> None:
    two_hot = kind()
    logits = torch.randn(2, 5, two_hot.size, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[-1e12, -3.0, 0, 0.4, 1e12]]).expand(2, 5)  # from below all bins to above them
    expected = -(two_hot.encode(target) * logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(two_hot.loss(logits, target), expected)
    equal = two_hot.loss(torch.zeros(two_hot.size), torch.tensor(3.0))
    assert float(equal) == pytest.approx(math.log(two_hot.size))
