"""A policy step by step, on numpy arrays: for a robot's loop, a game's, a notebook's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch

from wmplay.contracts import Array, Policy
from wmplay.errors import ShapeError, SpaceError
from wmplay.simulate import _Actor, _BatchOfOne
from wmplay.stepping import frame_spaces, frames_of


class Actor:
    """Acts in one env: observation in, action out. It remembers the episode so far, until ``reset``.

    Args:
        policy: acts.
        env: what it was made for; only its spaces matter.
        device: where the policy computes.
        explore: whether to add exploration.
        seed: of the policy's draws; with the seed of ``simulate`` it acts as it does there.
    """

    def __init__(
        self,
        policy: Policy,
        env: gymnasium.Env[Any, Any],
        *,
        device: torch.device | str = "cpu",
        explore: bool = False,
        seed: int = 0,
    ) -> None:
        batch = _BatchOfOne(env)
        self._spaces = frame_spaces(batch.single_observation_space)
        self._actor = _Actor(batch, policy, seed, explore, torch.device(device))
        self.reset()

    def reset(self) -> None:
        """The next observation begins an episode."""
        self._first = np.ones(1, np.bool_)
        self._last = np.zeros_like(self._actor.zeros)

    def __call__(self, observation: Mapping[str, Any], last_action: Any = None) -> Array:
        """The next action.

        Args:
            observation: {key: [...]}, as the env gives it; others than the policy's are left alone.
            last_action: what was executed, where it was not what this returned last.

        Returns:
            action [A] within its bounds, or a whole number; in the dtype of the action space.

        Raises:
            SpaceError, ShapeError: for an observation that is missing, or of another shape.
        """
        for key, space in self._spaces.items():
            if key not in observation:
                raise SpaceError(f"the policy needs the observation '{key}', got {', '.join(observation)}")
            if np.shape(observation[key]) != space.shape:
                raise ShapeError(f"observation '{key}'", np.shape(observation[key]), space.shape or ())
        if last_action is not None:
            self._last = np.asarray(last_action, self._last.dtype)[None]
        batch = {key: np.asarray(observation[key])[None] for key in self._spaces}
        action = self._actor.act(frames_of(batch, self._spaces), self._last, self._first)
        self._last, self._first = action, np.zeros(1, np.bool_)
        native: Array = self._actor.native(action)[0]
        return native
