"""Random shooting: the best of action sequences that are drawn uniformly."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import check_values
from wmplay.nets.actions import random_actions
from wmplay.nets.trees import device_of, rows
from wmplay.planners.candidates import held, scored


class RandomShooting:
    """The simplest planner, and the baseline for the others.

    Args:
        action_space: Discrete, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: sequences to try, per row.
        hold: how many steps each drawn action is held for.
        particles: sampled futures of each candidate, whose mean score is its score; 0 = the most likely one.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 256,
        hold: int = 1,
        particles: int = 0,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "hold": hold}
        check_values("random_shooting", at_least_one=sizes, not_negative={"particles": particles})
        random_actions(action_space, (1,))  # an unsupported space fails here, not at the first plan
        self.action_space = action_space
        self.horizon, self.candidates, self.hold = horizon, candidates, hold
        self.particles = particles

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
        """Return the best of the drawn sequences, and of ``warm_start`` [B, H, A], for each row."""
        batch, device = rows(belief), device_of(belief)
        knots = -(-self.horizon // self.hold)
        drawn = random_actions(self.action_space, (batch, self.candidates, knots), generator, device)
        plans = held(drawn, self.hold, self.horizon)
        if warm_start is not None:
            plans[:, 0] = warm_start
        return scored(model, belief, score, plans, self.particles, generator)
