"""The error of predicted rewards by horizon, next to baselines."""

from __future__ import annotations

import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.scores import MODEL, Curve, RewardScore
from wmplay.simulation import observe, predict


@torch.no_grad()
def evaluate_rewards(model: WorldModel, clips: ClipSet) -> RewardScore | None:
    """Score the rewards that a model expects under the true actions; None without a reward head, and where
    all rewards are equal.

    The "constant" baseline is the best one, the median of these very rewards.
    """
    truth = clips.segment.reward[:, clips.context - 1 :]
    if bool((clips.segment.reward == clips.segment.reward[0, 0]).all()):
        return None
    guesses: list[Tensor] = []
    for batch in clips.batches():
        belief = observe(model, batch, clips.context)
        reward = predict(model, belief, batch.action[:, clips.context - 1 :]).reward
        if reward is None:
            return None
        guesses.append(reward.float().cpu())
    predictors = {MODEL: torch.cat(guesses), "constant": truth.median()}
    if clips.context > 1:
        predictors["copy-last"] = clips.segment.reward[:, clips.context - 2 : clips.context - 1]
    curves = {name: Curve.over((guess - truth).abs()) for name, guess in predictors.items()}
    return RewardScore(clips.context, clips.horizon, len(clips), clips.seed, curves)
