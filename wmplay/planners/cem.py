"""The cross-entropy method (Rubinstein 1999; as a planner: PlaNet, arXiv 1811.04551, algorithm 2).

Each iteration draws candidate plans from a distribution, scores them in the model and fits the distribution
to the best. Actions are independent per step, Gaussian or, if discrete, categorical. All rows are planned at
once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import ConfigError, check_values
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import best_plan, held, joined, policy_plans, score_candidates, scored
from wmplay.planners.proposals import Proposals


class CEM:
    """A planner by repeated sampling and refitting.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: plans per iteration and row.
        iterations: rounds of sampling and refitting.
        elite_fraction: part of the candidates that the next distribution is fitted to; at least one.
        hold: steps for which each action is held; the search is over ceil(H / hold) actions.
        std: first standard deviation of continuous actions, in half-ranges of the space.
        min_std: their smallest standard deviation, in half-ranges of the space.
        smoothing: part of a uniform distribution kept in the distribution of discrete actions.
        returns: "best", the best plan among all iterations, or "mean", the middle of the last distribution:
            the best plan profits most from the errors of a model.
        momentum: part of the old distribution in the new one (alpha of PETS, arXiv 1805.12114).
        truncated: whether continuous actions come from Gaussians cut off at two standard deviations, which
            are at most half of the distance to the nearer bound, as in PETS; else they are clipped.
        particles: sampled futures of each candidate, whose mean score is its score; 0 = the most likely one.
        explores: whether plans have a spread, from which exploration draws the first action: that of the last
            distribution.
        proposed: part of the candidates that the policy of a ``Valued`` model draws.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 64,
        iterations: int = 3,
        elite_fraction: float = 0.1,
        hold: int = 2,
        std: float = 0.7,
        min_std: float = 0.05,
        smoothing: float = 0.05,
        returns: Literal["best", "mean"] = "best",
        momentum: float = 0.0,
        truncated: bool = False,
        particles: int = 0,
        explores: bool = False,
        proposed: float = 0.05,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "iterations": iterations, "hold": hold}
        least = {"min_std": min_std, "particles": particles}
        check_values("cem", at_least_one=sizes, positive={"std": std}, not_negative=least)
        check_values("cem", fractions={"proposed": proposed})
        if not 0 <= momentum < 1:
            raise ConfigError(
                f"cem: momentum is {momentum}",
                got=momentum,
                expected="0 to less than 1, or nothing is learned",
            )
        for name, value in (("elite_fraction", elite_fraction), ("smoothing", smoothing)):
            if not 0 < value <= 1:
                raise ConfigError(f"cem: {name} is {value}", got=value, expected="more than 0 and at most 1")
        if returns not in ("best", "mean"):
            raise ConfigError(f"cem: returns is {returns!r}", got=returns, expected="best or mean")
        self.horizon, self.candidates, self.iterations = horizon, candidates, iterations
        self.elites = max(1, round(elite_fraction * candidates))
        self.hold, self.returns, self.momentum, self.particles = hold, returns, momentum, particles
        self.proposals = Proposals(action_space, std, min_std, smoothing, truncated)
        self.explores, self.proposed = explores, min(round(proposed * candidates), candidates - 1)

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
        """Return a plan for each row; the best one is never worse than ``warm_start`` [B, H, A] (or [B, H]
        int64)."""
        batch, device = rows(belief), device_of(belief)
        knots = -(-self.horizon // self.hold)
        first = None if warm_start is None else warm_start[:, :: self.hold]
        proposal = self.proposals.start(batch, knots, first, device)
        repeated = repeat_rows(belief, self.candidates)
        row = torch.arange(batch, device=device).unsqueeze(1)
        own = policy_plans(model, belief, self.proposed, knots, self.hold, generator)
        number = self.candidates - (0 if own is None else self.proposed)
        winners, winning_scores = [], []
        for _ in range(self.iterations):
            drawn = joined(proposal.sample(number, generator), own)  # [B, N, K, ...]
            plans = held(drawn, self.hold, self.horizon)
            scores = score_candidates(model, repeated, score, plans, self.particles, generator)  # [B, N]
            top = scores.topk(self.elites, dim=1)  # sorted, best first
            elites = drawn[row, top.indices]
            proposal = proposal.fit(elites).blend(proposal, self.momentum)  # type: ignore[arg-type]
            winners.append(elites[:, 0])
            winning_scores.append(top.values[:, 0])
        spread = proposal.spread() if self.explores else None
        if self.returns == "mean":
            middle = held(proposal.middle().unsqueeze(1), self.hold, self.horizon)
            found = scored(model, belief, score, middle, self.particles, generator)
            return replace(found, spread=spread)
        best = held(torch.stack(winners, dim=1), self.hold, self.horizon)
        return replace(best_plan(best, torch.stack(winning_scores, dim=1)), spread=spread)
