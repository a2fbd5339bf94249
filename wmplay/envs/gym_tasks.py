"""Tasks of Gymnasium's classic envs: their rewards and ends as functions of observations alone.

With a task, a learned env and ``objective=task_reward`` need no model of the reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

KEY = "vector"  # of the observation, in ``env=gym``


class SwingUp:
    """Pendulum-v1: the squared angle from the upright, the squared velocity and the squared torque are costs.

    The torque is inferred from the change of the velocity. At the speed limit it cannot be, and the cost is
    then wrong by at most .004.

    Args:
        gravity: m/s^2, the ``g`` of the env.
    """

    def __init__(self, gravity: float = 10.0) -> None:
        self.gravity = gravity

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the reward [...] of steps between observations {"vector": [..., 3]}; no step terminates."""
        cosine, sine, speed = before[KEY].unbind(-1)
        angle = torch.atan2(sine, cosine)
        push = (after[KEY][..., 2] - speed) / 0.05 - 1.5 * self.gravity * angle.sin()
        torque = (push / 3).clamp(-2, 2)
        cost = angle.square() + 0.1 * speed.square() + 0.001 * torque.square()
        return -cost, torch.zeros_like(cost, dtype=torch.bool)


class Balance:
    """CartPole: 1 for each step; the end is a cart off the track, or a pole that leans by over 12 degrees."""

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the reward [...] and the end of steps between observations {"vector": [..., 4]}."""
        place, _, lean, _ = after[KEY].unbind(-1)
        fallen = (place.abs() > 2.4) | (lean.abs() > math.radians(12))
        return torch.ones_like(place), fallen


def task_of(env_id: str, kwargs: Mapping[str, Any]) -> Any:
    """Return the task of an id of Gymnasium's registry made with some arguments, or None."""
    rest = {key: value for key, value in kwargs.items() if key != "render_mode"}
    if env_id == "Pendulum-v1" and not rest.keys() - {"g"}:
        return SwingUp(rest.get("g", 10.0))
    if env_id in ("CartPole-v0", "CartPole-v1") and not rest:
        return Balance()
    return None
