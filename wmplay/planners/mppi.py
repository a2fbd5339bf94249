"""Model predictive path integral control (Williams et al. 2017, arXiv 1509.01149).

The next distribution is a mean of all candidates, weighted by exp(score / temperature). With several
iterations, elites and a standard deviation that follows them it is the planner of TD-MPC2 (arXiv 2310.16828,
section 3.2), whose settings are those of ``mppi_tdmpc2``.
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
from wmplay.planners.candidates import held, joined, policy_plans, score_candidates, scored
from wmplay.planners.proposals import Proposals


class MPPI:
    """A planner by weighted means of candidates; it returns the middle of the last distribution, or draws.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: plans per iteration and row.
        iterations: rounds of sampling and averaging.
        elite_fraction: part of the candidates that are averaged; 1 = all, as published by Williams et al.
        temperature: of the weights exp(score / temperature).
        scaled: whether the temperature is in standard deviations of the elites' scores, or in units of the
            score.
        hold: steps for which each action is held; the search is over ceil(H / hold) actions.
        std: first standard deviation of continuous actions, in half-ranges of the space.
        min_std: their smallest standard deviation, in half-ranges of the space.
        widths: whether the standard deviations follow those of the elites; False keeps the first ones, as
            published by Williams et al. It has no effect on discrete actions.
        smoothing: part of a uniform distribution kept in the distribution of discrete actions.
        particles: sampled futures of each candidate, whose mean score is its score; 0 = the most likely one.
        proposed: part of the candidates that the policy of a ``Valued`` model draws.
        draws: whether the first action of a plan is that of an elite, drawn by the last weights.
        explores: whether plans have a spread, from which exploration draws the first action: that of the last
            distribution.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 64,
        iterations: int = 6,
        elite_fraction: float = 0.125,
        temperature: float = 0.5,
        scaled: bool = True,
        hold: int = 2,
        std: float = 0.7,
        min_std: float = 0.05,
        widths: bool = True,
        smoothing: float = 0.05,
        particles: int = 0,
        proposed: float = 0.05,
        draws: bool = False,
        explores: bool = False,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "iterations": iterations, "hold": hold}
        positive = {"std": std, "temperature": temperature}
        least = {"min_std": min_std, "particles": particles}
        check_values("mppi", at_least_one=sizes, positive=positive, not_negative=least)
        check_values("mppi", fractions={"proposed": proposed})
        for name, value in (("elite_fraction", elite_fraction), ("smoothing", smoothing)):
            if not 0 < value <= 1:
                raise ConfigError(f"mppi: {name} is {value}", got=value, expected="more than 0 and at most 1")
        self.horizon, self.candidates, self.iterations, self.hold = horizon, candidates, iterations, hold
        self.elites = max(1, round(elite_fraction * candidates))
        self.temperature, self.scaled, self.particles = temperature, scaled, particles
        self.widths, self.draws, self.explores = widths, draws, explores
        self.proposed = min(round(proposed * candidates), candidates - 1)
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
        """Return the last middle or, if it scores higher, ``warm_start`` [B, H, A] (or [B, H] int64), for
        each row; with ``draws``, the last middle after the first action of an elite."""
        batch, device = rows(belief), device_of(belief)
        knots = -(-self.horizon // self.hold)
        first = None if warm_start is None else warm_start[:, :: self.hold]
        proposal = self.proposals.start(batch, knots, first, device)
        repeated = repeat_rows(belief, self.candidates)
        row = torch.arange(batch, device=device).unsqueeze(1)
        own = policy_plans(model, belief, self.proposed, knots, self.hold, generator)
        number = self.candidates - (0 if own is None else self.proposed)
        for _ in range(self.iterations):
            drawn = joined(proposal.sample(number, generator), own)  # [B, N, K, ...]
            plans = held(drawn, self.hold, self.horizon)
            scores = score_candidates(model, repeated, score, plans, self.particles, generator)
            top = scores.topk(self.elites, dim=1)
            elites = drawn[row, top.indices]
            weights = path_weights(top.values, self.temperature, self.scaled)
            proposal = proposal.fit(elites, weights, self.widths)
        plans = proposal.middle().unsqueeze(1)
        if self.draws:
            one = torch.multinomial(weights, 1, generator=generator)
            plans = torch.cat([elites[row, one][:, :, :1], plans[:, :, 1:]], 2)
        plans = held(plans, self.hold, self.horizon)
        if self.draws:
            found = Plan(plans.squeeze(1), top.values[row, one].squeeze(1))
        else:
            plans = plans if warm_start is None else torch.cat([plans, warm_start.unsqueeze(1)], 1)
            found = scored(model, belief, score, plans, self.particles, generator)
        return replace(found, spread=proposal.spread()) if self.explores else found


def path_weights(scores: Tensor, temperature: float, scaled: bool = True) -> Tensor:
    """Return weights [B, E] proportional to exp(score / temperature), of scores [B, E] whose first is the
    best.

    With ``scaled`` the temperature is in standard deviations of the row's scores. Equal scores have equal
    weights; of scores too far apart for a standard deviation the best one counts.
    """
    worse = scores - scores[:, :1]
    if not scaled:
        return (worse / temperature).softmax(1)
    known = torch.finfo(scores.dtype)
    # in place: the numbers are few, and each new tensor costs more than its arithmetic
    spread = scores.std(1, correction=0, keepdim=True).nan_to_num_(posinf=known.max)
    return worse.div_(spread.mul_(temperature).clamp_(min=known.tiny)).softmax(1)
