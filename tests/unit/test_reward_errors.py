"""The error of predicted rewards, by hand: a belt whose reward is the place of its bar."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conveyor import Conveyor, episodes

from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.rewards import evaluate_rewards
from wmplay.evaluation.scores import MODEL


class Rewarded(Conveyor):
    """Expects the place plus an error that grows by 1 a step."""

    def predict(self, belief, action, *, generator=None):
        future = super().predict(belief, action, generator=generator)
        wrong = torch.arange(1, action.shape[1] + 1)
        return replace(future, reward=future.latent + wrong)


def paid(number):
    return [replace(e, reward=e.observation["place"][1:, 0]) for e in episodes(number)]


def test_errors_by_horizon_next_to_what_knows_nothing():
    clips = cut_clips(paid(7), context=3, horizon=5)
    score = evaluate_rewards(Rewarded(), clips)
    assert score.curves[MODEL].mean == pytest.approx([1, 2, 3, 4, 5])
    assert score.row() == pytest.approx({"error": 3, "error@1": 1, "error@2": 2, "error@5": 5})
    truth = clips.segment.reward[:, 2:]
    last = (truth - clips.segment.reward[:, 1:2]).abs().mean(0)
    assert score.curves["copy-last"].mean == pytest.approx(last.tolist())
    constant = torch.tensor(score.curves["constant"].mean).mean()
    for guess in (truth.mean(), truth.median() + 1, truth.median() - 1):
        assert constant <= (truth - guess).abs().mean() + 1e-6
    assert (score.context, score.horizon, score.clips) == (3, 5, 7)
    assert "copy-last" not in evaluate_rewards(Rewarded(), cut_clips(paid(7), context=1, horizon=5)).curves


def test_nothing_to_predict():
    assert evaluate_rewards(Conveyor(), cut_clips(paid(7), horizon=5)) is None  # no reward head
    assert evaluate_rewards(Rewarded(), cut_clips(episodes(7), horizon=5)) is None  # always the same
