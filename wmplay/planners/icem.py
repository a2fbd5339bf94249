"""The improved cross-entropy method, iCEM (Pinneri et al. 2020, arXiv 2008.06389).

Compared with CEM: noise that is correlated over the steps, fewer candidates in each iteration than in the one
before, some of the elites of an iteration as candidates of the next, a slowly moving distribution, and its
middle as a candidate of the last iteration. Elites are not kept from one plan to the next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import ConfigError, check_values
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import best_plan, joined, policy_plans, score_candidates
from wmplay.planners.proposals import Proposals


class ICEM:
    """A planner by repeated sampling with coloured noise and refitting; it returns the best plan of all.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: plans of the first iteration, per row.
        iterations: rounds of sampling and refitting.
        decay: divisor of the number of candidates from one iteration to the next; never below twice the
            elites.
        elites: number of candidates that the next distribution is fitted to.
        kept: part of the elites that are candidates of the next iteration again.
        momentum: part of the old distribution in the new one.
        noise_beta: exponent of the noise's power spectrum: 0 white, 2 slow. It has no effect on discrete
            actions.
        std: first standard deviation of continuous actions, in half-ranges of the space.
        min_std: their smallest standard deviation, in half-ranges of the space.
        smoothing: part of a uniform distribution kept in the distribution of discrete actions.
        particles: sampled futures of each candidate, whose mean score is its score; 0 = the most likely one.
        explores: whether plans have a spread, from which exploration draws the first action: that of the last
            distribution.
        proposed: number of further candidates, as a part of the first iteration's, that the policy of a
            ``Valued`` model draws.

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
        decay: float = 1.25,
        elites: int = 10,
        kept: float = 0.3,
        momentum: float = 0.1,
        noise_beta: float = 2.0,
        std: float = 0.5,
        min_std: float = 0.0,
        smoothing: float = 0.05,
        particles: int = 0,
        explores: bool = False,
        proposed: float = 0.05,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "iterations": iterations, "elites": elites}
        check_values(
            "icem",
            at_least_one={**sizes, "decay": decay},
            positive={"std": std},
            not_negative={"min_std": min_std, "noise_beta": noise_beta, "particles": particles},
            fractions={"kept": kept, "momentum": momentum, "smoothing": smoothing, "proposed": proposed},
        )
        if momentum == 1:
            raise ConfigError(
                "icem: momentum is 1", got=momentum, expected="less than 1, or nothing is learned"
            )
        self.horizon, self.iterations, self.noise_beta = horizon, iterations, noise_beta
        self.elites, self.kept, self.momentum = min(elites, candidates), kept, momentum
        self.particles = particles
        self.explores, self.proposed = explores, round(proposed * candidates)
        least = min(2 * self.elites, candidates)
        self.numbers = [max(round(candidates / decay**i), least) for i in range(iterations)]
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
        elites = proposal.middle().unsqueeze(1)[:, :0]
        own = policy_plans(model, belief, self.proposed, self.horizon, 1, generator)
        winners, winning_scores = [], []
        for number in self.numbers:
            drawn = proposal.sample(number, generator, self.noise_beta)  # [B, N, H, ...], the middle first
            again = elites[:, : round(self.kept * self.elites)]
            candidates = joined(drawn, again, own)
            futures = repeat_rows(belief, candidates.shape[1])
            scores = score_candidates(model, futures, score, candidates, self.particles, generator)
            top = scores.topk(self.elites, dim=1)
            elites = candidates[row, top.indices]
            proposal = proposal.fit(elites).blend(proposal, self.momentum)  # type: ignore[arg-type]
            winners.append(elites[:, 0])
            winning_scores.append(top.values[:, 0])
        best = best_plan(torch.stack(winners, dim=1), torch.stack(winning_scores, dim=1))
        return replace(best, spread=proposal.spread()) if self.explores else best
