"""GradCEM: the cross-entropy method whose candidates are improved by gradient steps (Bharadhwaj et al. 2020,
arXiv 2004.08763).
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import check_values
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import best_plan, score_candidates
from wmplay.planners.gradient import Climber
from wmplay.planners.proposals import Proposals


class GradCEM:
    """A planner by sampling, a few gradient steps on each candidate, and refitting.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: plans per iteration and row.
        iterations: rounds of sampling, climbing and refitting.
        elite_fraction: part of the candidates that the next distribution is fitted to; at least one.
        steps: gradient steps of each candidate; each costs a prediction and its gradient.
        lr: size of a step, in half-ranges of the space (or probability of discrete actions).
        optimizer: "adam" or "sgd".
        std: first standard deviation of continuous actions, in half-ranges of the space.
        min_std: their smallest standard deviation, in half-ranges of the space.
        smoothing: part of a uniform distribution kept in the distribution of discrete actions.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range; while planning, if no gradient reaches the actions.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 16,
        iterations: int = 3,
        elite_fraction: float = 0.2,
        steps: int = 4,
        lr: float = 0.1,
        optimizer: Literal["adam", "sgd"] = "adam",
        std: float = 0.7,
        min_std: float = 0.05,
        smoothing: float = 0.05,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "iterations": iterations, "steps": steps}
        parts = {"elite_fraction": elite_fraction, "smoothing": smoothing}
        positive = {"std": std, "lr": lr, **parts}
        check_values("gradcem", at_least_one=sizes, positive=positive, fractions=parts)
        check_values("gradcem", not_negative={"min_std": min_std})
        self.horizon, self.candidates, self.iterations, self.steps = horizon, candidates, iterations, steps
        self.elites = max(1, round(elite_fraction * candidates))
        self.climber = Climber(action_space, lr, optimizer)
        self.proposals = Proposals(action_space, std, min_std, smoothing)

    @torch.no_grad()
    def plan(
        self,
        model: WorldModel,
        belief: Belief,
        score: Score,
        *,
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Return the best plan found for each row, never worse than ``warm_start`` [B, H, A] (or [B, H]
        int64)."""
        batch, device = rows(belief), device_of(belief)
        row = torch.arange(batch, device=device).unsqueeze(1)
        proposal = self.proposals.start(batch, self.horizon, warm_start, device)
        repeated = repeat_rows(belief, self.candidates)
        winners, winning_scores = [], []
        for _ in range(self.iterations):
            drawn = proposal.sample(self.candidates, generator)  # [B, N, H, ...], the middle first
            free = self.climber.free(drawn.flatten(0, 1))
            climbed = self.climber.actions(self.climber.climb(model, repeated, score, free, self.steps))
            candidates = torch.cat([climbed.reshape(drawn.shape), drawn[:, :1]], 1)
            scores = score_candidates(model, repeat_rows(belief, self.candidates + 1), score, candidates)
            top = scores.topk(self.elites, dim=1)
            elites = candidates[row, top.indices]
            proposal = proposal.fit(elites)
            winners.append(elites[:, 0])
            winning_scores.append(top.values[:, 0])
        return best_plan(torch.stack(winners, dim=1), torch.stack(winning_scores, dim=1))
