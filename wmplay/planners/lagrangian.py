"""Planning under constraints by an augmented Lagrangian (Rockafellar 1973; Nocedal & Wright 2006, ch. 17).

    maximise over actions   score - sum_c (max(0, lambda_c + rho g_c)^2 - lambda_c^2) / (2 rho)
    then                    lambda_c <- max(0, lambda_c + rho g_c), and rho <- 2 rho

with the constraints g_c <= 0 of a ``ConstrainedScore``. Every candidate has multipliers of its own, so that
no plan that keeps the constraints hides one that breaks them.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Belief, ConstrainedScore, Plan, Prediction, Score, WorldModel
from wmplay.errors import ShapeError, check_values
from wmplay.nets.actions import random_actions
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.gradient import Climber

LARGEST_RHO = 1e4


class Lagrangian:
    """A planner by gradient steps from several random plans, which keeps the constraints of an objective.

    It returns the best of all plans that keep the constraints, those of every round included; if it found
    none, the one that breaks them least. Without constraints it plans by gradients alone.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: random plans per row to start from; ``warm_start`` takes the place of the first.
        rounds: updates of the multipliers.
        steps: gradient steps in each round; each costs a prediction and its gradient for all candidates.
        lr: size of the first round's steps, in half-ranges of the space (or probability of discrete actions).
        decay: factor of the size from one round to the next.
        optimizer: "adam" or "sgd".
        rho: first weight of the squared violations; it doubles in each round, up to 10,000.
        tolerance: largest value of a constraint that counts as kept.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range; while planning, if no gradient reaches the actions.
        ShapeError: while planning, if the constraints are not [R, C].
    """

    keeps_constraints: Literal[True] = True

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 8,
        rounds: int = 8,
        steps: int = 10,
        lr: float = 0.1,
        decay: float = 0.7,
        optimizer: Literal["adam", "sgd"] = "adam",
        rho: float = 1.0,
        tolerance: float = 1e-3,
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "rounds": rounds, "steps": steps}
        positive = {"lr": lr, "decay": decay, "rho": rho}
        check_values("lagrangian", at_least_one=sizes, positive=positive, fractions={"decay": decay})
        check_values("lagrangian", not_negative={"tolerance": tolerance})
        self.horizon, self.candidates, self.rounds, self.steps = horizon, candidates, rounds, steps
        self.lr, self.decay, self.rho, self.tolerance = lr, decay, rho, tolerance
        self.climber = Climber(action_space, lr, optimizer)
        self.action_space = action_space

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
        """Return a plan for each row, never a worse one than ``warm_start`` [B, H, A] (or [B, H] int64)."""
        batch, device = rows(belief), device_of(belief)
        plans = random_actions(self.action_space, (batch, self.candidates, self.horizon), generator, device)
        if warm_start is not None:
            plans[:, 0] = warm_start
        repeated = repeat_rows(belief, self.candidates)
        ends, _ = self.climb(model, repeated, score, self.climber.free(plans.flatten(0, 1)))
        climbed = [self.climber.actions(each).reshape(plans.shape) for each in ends]
        return self._best(model, belief, score, torch.cat([plans, *climbed], 1))

    def climb(
        self, model: WorldModel, belief: Belief, score: Score, free: Tensor
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the free variables [R, H, ...] after each round, and the last multipliers [R, C], if any."""
        ends: list[Tensor] = []
        multipliers, rho, lr = None, self.rho, self.lr
        if isinstance(score, ConstrainedScore):
            multipliers = torch.zeros_like(_limits(score, model.predict(belief, self.climber.relaxed(free))))
        for _ in range(self.rounds):
            allowed = score if multipliers is None else _augmented(score, multipliers, rho)
            free = self.climber.climb(model, belief, allowed, free, self.steps, lr)
            ends.append(free)
            if multipliers is not None:
                limits = _limits(score, model.predict(belief, self.climber.relaxed(free)))
                multipliers = (multipliers + rho * limits).clamp(min=0)
                rho = min(2 * rho, LARGEST_RHO)
            lr *= self.decay
        return ends, multipliers

    def _best(self, model: WorldModel, belief: Belief, score: Score, plans: Tensor) -> Plan:
        """Return the best of plans [B, N, H, ...] that keep the constraints, or the one that breaks them
        least."""
        future = model.predict(repeat_rows(belief, plans.shape[1]), plans.flatten(0, 1))
        lowest = torch.finfo(torch.float32).min
        scores = torch.nan_to_num(score(future), nan=lowest).reshape(plans.shape[:2])
        broken = torch.zeros_like(scores)
        if isinstance(score, ConstrainedScore):
            broken = _limits(score, future).amax(1).clamp(min=0).reshape(plans.shape[:2])
        least = broken.amin(1, keepdim=True).clamp(min=self.tolerance)
        index = scores.where(broken <= least, -torch.inf).argmax(1)
        row = torch.arange(len(index), device=index.device)
        return Plan(plans[row, index], scores[row, index])


def _augmented(score: Score, multipliers: Tensor, rho: float) -> Score:
    """Return a score less what the constraints cost, with multipliers [R, C]."""

    def less(prediction: Prediction) -> Tensor:
        pressed = (multipliers + rho * _limits(score, prediction)).clamp(min=0)
        return score(prediction) - (pressed.square() - multipliers.square()).sum(1) / (2 * rho)

    return less


def _limits(score: Score, prediction: Prediction) -> Tensor:
    """Return the constraints [R, C] of a prediction; NaN breaks one."""
    assert isinstance(score, ConstrainedScore)
    limits = score.constraints(prediction)
    count = rows(prediction.latent)
    if limits.ndim != 2 or len(limits) != count:
        raise ShapeError("an objective's constraints", limits.shape, (count, "C"), advice="one row per plan")
    return limits.nan_to_num(nan=torch.finfo(limits.dtype).max)
