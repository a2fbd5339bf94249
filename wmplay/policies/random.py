"""Uniform random actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Carry
from wmplay.errors import check_values
from wmplay.nets.actions import random_actions

KEEP = 0.8  # probability that a held action is held for another step: 5 steps on average


class Held(NamedTuple):
    """The policy's memory: B rows of each field."""

    chosen: Tensor  # [B] bool: True in episodes with held actions
    action: Tensor  # [B, A], or [B] int64: the last actions


class RandomPolicy:
    """A policy that draws every action uniformly from the action space; the baseline of all others.

    Independent draws mostly cancel out, so that a joint stays where it is. Holding actions for a while shows
    a model more of the world.

    Args:
        action_space: discrete, or a bounded one-dimensional Box.
        held: part of the episodes in which each entry of the action is held for a random time.

    Raises:
        SpaceError: for another space.
        ConfigError: if ``held`` is not in 0..1.
    """

    def __init__(self, action_space: gym.Space[Any], held: float = 0.0) -> None:
        random_actions(action_space, (1,))  # an unsupported space fails here, not in the middle of a run
        check_values("random", fractions={"held": held})
        self.action_space, self.held = action_space, held

    def initial(self, batch_size: int) -> Carry:
        """Return None: the first step has no action to hold."""
        return None

    def act(
        self,
        carry: Carry,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return actions [B, A], or [B] int64."""
        action = random_actions(self.action_space, (len(first),), generator, first.device)
        if not self.held:
            return action, carry
        chosen = torch.rand(first.shape, generator=generator, device=first.device) < self.held
        if carry is not None:
            chosen = torch.where(first, chosen, carry.chosen)
            goes_on = torch.rand(action.shape, generator=generator, device=first.device) < KEEP
            rows = (chosen & ~first).reshape(-1, *[1] * (action.ndim - 1))
            action = torch.where(rows & goes_on, carry.action, action)
        return action, Held(chosen, action)
