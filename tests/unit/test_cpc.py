"""Contrastive predictive coding: its bound against exact numbers, and what takes no part in it."""

import math

import pytest
import torch

from wmplay.models.rssm.cpc import info_nce

CLASSES = 8


def bound(states: int, batches: int = 300) -> float:
    """Return the mean of log N - loss, in nats, of the ideal critic of 8 equally likely classes."""
    generator = torch.Generator().manual_seed(0)
    kept, found = torch.ones(states, dtype=torch.bool), []
    for _ in range(batches):
        shown = torch.randint(CLASSES, (states,), generator=generator)
        scores = torch.where(shown[:, None] == shown, math.log(CLASSES), -1e9)
        found.append(float(info_nce(scores, kept).mean()))
    return math.log(states) - sum(found) / batches


def test_the_bound_of_the_ideal_critic_rises_to_the_information_with_the_batch() -> None:
    assert bound(64) == pytest.approx(2.023, abs=0.01)
    assert bound(512, 40) == pytest.approx(2.073, abs=0.005)
    assert bound(512, 40) < math.log(CLASSES)


def test_entries_that_are_left_out_neither_count_nor_pass_a_gradient() -> None:
    torch.manual_seed(0)
    scores, kept = torch.randn(7, 7, requires_grad=True), torch.tensor([1, 1, 0, 1, 0, 1, 1]).bool()
    value = info_nce(scores, kept)[kept]
    few = info_nce(scores[kept][:, kept], torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(value, few)
    value.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[~kept].any()
    assert not scores.grad[:, ~kept].any()
