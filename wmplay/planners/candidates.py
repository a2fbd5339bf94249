"""Scoring and selection of candidate plans, shared by the planners that sample."""

from __future__ import annotations

import torch
from torch import Tensor

from wmplay.contracts import Belief, Plan, Score, Valued, WorldModel
from wmplay.errors import ShapeError
from wmplay.nets.trees import repeat_rows


def score_candidates(
    model: WorldModel,
    belief: Belief,
    score: Score,
    candidates: Tensor,
    particles: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the scores [B, N] of candidate plans [B, N, H, A] (or [B, N, H] int64), all finite.

    NaN and minus infinity become the lowest finite number, so that differences of scores are numbers as well.

    Args:
        model: predicts each candidate's most likely future, or samples of it.
        belief: of B * N rows, in which row b * N + n belongs to candidate n of row b.
        score: Prediction of B * N rows -> [B * N].
        candidates: action sequences.
        particles: sampled futures of each candidate, whose mean score is its score; 0 = the most likely one.
        generator: of the samples; None is one that torch's global generator seeds.

    Raises:
        ShapeError: if the score is not one number per candidate.
    """
    batch, number = candidates.shape[:2]
    actions = candidates.flatten(0, 1)
    if particles:
        if generator is None:
            generator = torch.Generator(actions.device).manual_seed(int(torch.randint(2**31, ())))
        futures, actions = repeat_rows((belief, actions), particles)
        scores = score(model.predict(futures, actions, generator=generator))
    else:
        scores = score(model.predict(belief, actions))
    if scores.shape != (len(actions),):
        raise ShapeError("an objective's score", scores.shape, (len(actions),), advice="one number per plan")
    if particles:
        scores = scores.reshape(-1, particles).mean(1)
    return torch.nan_to_num(scores, nan=torch.finfo(scores.dtype).min).reshape(batch, number)


def best_plan(candidates: Tensor, scores: Tensor) -> Plan:
    """Return the best candidate of each row, given candidates [B, N, H, ...] and scores [B, N]."""
    score, index = scores.max(dim=1)
    return Plan(candidates[torch.arange(len(index), device=index.device), index], score)


def scored(
    model: WorldModel,
    belief: Belief,
    score: Score,
    candidates: Tensor,
    particles: int = 0,
    generator: torch.Generator | None = None,
) -> Plan:
    """Return the best of a few candidates [B, N, H, ...], scored as by ``score_candidates``."""
    repeated = repeat_rows(belief, candidates.shape[1])
    return best_plan(candidates, score_candidates(model, repeated, score, candidates, particles, generator))


def held(drawn: Tensor, hold: int, horizon: int) -> Tensor:
    """Return plans [B, N, H, ...] that hold each drawn action of [B, N, K, ...] for some steps."""
    return drawn if hold == 1 else drawn.repeat_interleave(hold, dim=2)[:, :, :horizon]


def policy_plans(
    model: WorldModel,
    belief: Belief,
    number: int,
    knots: int,
    hold: int,
    generator: torch.Generator | None,
) -> Tensor | None:
    """Return plans [B, N, K, ...] of the model's own policy, drawn in its own futures; None for a model
    without one.

    Args:
        model: any world model; one with a policy is ``Valued``.
        belief: of B rows.
        number: N, of the plans for each row.
        knots: K, of actions in a plan.
        hold: steps for which each action is held.
        generator: of the actions.
    """
    if not number or not isinstance(model, Valued):
        return None
    belief, actions = repeat_rows(belief, number), []
    for knot in range(knots):
        actions.append(model.policy(belief).sample(generator))
        if knot < knots - 1:
            held_on = actions[-1].unsqueeze(1).repeat_interleave(hold, dim=1)
            belief = model.predict(belief, held_on).belief
    plans = torch.stack(actions, 1)
    return plans.reshape(-1, number, *plans.shape[1:])


def joined(drawn: Tensor, *more: Tensor | None) -> Tensor:
    """Return candidates [B, N, ...] with more of them, if any, along the second axis."""
    found = [each for each in more if each is not None]
    return torch.cat([drawn, *found], dim=1) if found else drawn
