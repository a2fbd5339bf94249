"""The cross-entropy method (Rubinstein 1999; as a planner: PlaNet, arXiv 1811.04551, algorithm 2).

Each iteration draws candidate plans from a distribution, scores them in the model and fits the distribution
to the best. Actions are independent per step, Gaussian or, if discrete, categorical. All rows are planned at
once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.nn import functional as F

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import ConfigError, check_values
from wmplay.nets.actions import ActionEncoder, action_bounds
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import best_plan, score_candidates


class CEM:
    """A planner by repeated sampling and refitting; it returns the best plan among all iterations.

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
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "iterations": iterations, "hold": hold}
        check_values("cem", at_least_one=sizes, positive={"std": std}, not_negative={"min_std": min_std})
        for name, value in (("elite_fraction", elite_fraction), ("smoothing", smoothing)):
            if not 0 < value <= 1:
                raise ConfigError(f"cem: {name} is {value}", expected="more than 0 and at most 1")
        self.horizon, self.candidates, self.iterations = horizon, candidates, iterations
        self.elites = max(1, round(elite_fraction * candidates))
        self.hold = hold
        self.std, self.min_std, self.smoothing = std, min_std, smoothing
        self.classes = ActionEncoder(action_space).size if isinstance(action_space, Discrete) else None
        self.bounds = action_bounds(action_space) if self.classes is None else None

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
        knots = -(-self.horizon // self.hold)
        first = None if warm_start is None else warm_start[:, :: self.hold]
        proposal = self._start(batch, knots, first, device)
        repeated = repeat_rows(belief, self.candidates)
        row = torch.arange(batch, device=device).unsqueeze(1)
        winners, winning_scores = [], []
        for _ in range(self.iterations):
            drawn = proposal.sample(self.candidates, generator)  # [B, N, K, ...]
            scores = score_candidates(model, repeated, score, self._hold(drawn))  # [B, N]
            top = scores.topk(self.elites, dim=1)  # sorted, best first
            elites = drawn[row, top.indices]
            proposal = proposal.fit(elites)
            winners.append(elites[:, 0])
            winning_scores.append(top.values[:, 0])
        return best_plan(self._hold(torch.stack(winners, dim=1)), torch.stack(winning_scores, dim=1))

    def _hold(self, drawn: Tensor) -> Tensor:
        """Return plans [B, N, H, ...] that hold each drawn action of [B, N, K, ...]."""
        if self.hold == 1:
            return drawn
        return drawn.repeat_interleave(self.hold, dim=2)[:, :, : self.horizon]

    def _start(
        self, batch: int, knots: int, warm_start: Tensor | None, device: torch.device
    ) -> Gaussian | Categorical:
        """Return the first distribution: around the warm start [B, K, ...], or over the whole space."""
        if self.classes is not None:
            uniform = torch.full((batch, knots, self.classes), 1 / self.classes, device=device)
            if warm_start is None:
                return Categorical(uniform, self.smoothing)
            return Categorical((uniform + F.one_hot(warm_start, self.classes)) / 2, self.smoothing)
        assert self.bounds is not None
        low, high = (bound.to(device) for bound in self.bounds)
        middle, half_range = (high + low) / 2, (high - low) / 2
        shape = (batch, knots, len(low))
        mean = middle.expand(shape) if warm_start is None else warm_start
        return Gaussian(mean, (self.std * half_range).expand(shape), low, high, self.min_std * half_range)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians over bounded actions."""

    mean: Tensor  # [B, K, A]
    std: Tensor  # [B, K, A]
    low: Tensor  # [A]
    high: Tensor  # [A]
    min_std: Tensor  # [A]

    def sample(self, number: int, generator: torch.Generator | None) -> Tensor:
        """Draw [B, N, K, A], clipped to the bounds; candidate 0 is the mean itself."""
        batch, knots, actions = self.mean.shape
        drawn = torch.randn(batch, number, knots, actions, device=self.mean.device, generator=generator)
        drawn[:, 0] = 0
        # in place, because allocating memory at each step costs more than the arithmetic
        torch.addcmul(self.mean.unsqueeze(1), self.std.unsqueeze(1), drawn, out=drawn)
        return drawn.clamp_(self.low, self.high)

    def fit(self, elites: Tensor) -> Gaussian:
        """Return the Gaussian fitted to elites [B, E, K, A]."""
        std, mean = torch.std_mean(elites, dim=1, correction=0)
        return replace(self, mean=mean, std=torch.maximum(std, self.min_std))


@dataclass(frozen=True)
class Categorical:
    """Independent categorical actions."""

    probabilities: Tensor  # [B, K, C]
    smoothing: float

    def sample(self, number: int, generator: torch.Generator | None) -> Tensor:
        """Draw [B, N, K] int64; candidate 0 is the most likely action of each step."""
        batch, knots, classes = self.probabilities.shape
        flat = self.probabilities.reshape(batch * knots, classes)
        drawn = torch.multinomial(flat, number, replacement=True, generator=generator)
        drawn = drawn.reshape(batch, knots, number).transpose(1, 2).contiguous()
        drawn[:, 0] = self.probabilities.argmax(-1)
        return drawn

    def fit(self, elites: Tensor) -> Categorical:
        """Return the frequencies of elites [B, E, K], mixed with a part of the uniform distribution."""
        classes = self.probabilities.shape[-1]
        frequencies = F.one_hot(elites, classes).float().mean(dim=1)
        return replace(self, probabilities=(1 - self.smoothing) * frequencies + self.smoothing / classes)
