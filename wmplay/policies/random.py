"""Uniform random actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Carry
from wmplay.nets.actions import random_actions


class RandomPolicy:
    """Draws every action uniformly from the action space; the baseline of all others.

    Raises:
        SpaceError: for a space that is neither discrete nor a bounded one-dimensional Box.
    """

    def __init__(self, action_space: gym.Space[Any]) -> None:
        random_actions(action_space, (1,))  # an unsupported space fails here, not in the middle of a run
        self.action_space = action_space

    def initial(self, batch_size: int) -> Carry:
        """Nothing to carry."""
        return ()

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
        """Actions [B, A], or [B] int64."""
        return random_actions(self.action_space, (len(first),), generator, first.device), carry
