"""A policy step by step in one env, for a robot's loop or a notebook's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch

from wmplay.contracts import Array, Policy, observation_spaces
from wmplay.errors import LARGEST_SEED, ShapeError, SpaceError, check_range
from wmplay.simulation.policy_driver import PolicyDriver
from wmplay.vector.actions import checked_action
from wmplay.vector.answers import BatchOfOne
from wmplay.vector.frames import frames_of


class Actor:
    """A policy in one env: observation in, action out. It keeps the policy's carry until ``reset``.

    Args:
        policy: chooses the actions.
        env: the env that the policy was made for; only its spaces matter.
        device: where the policy computes.
        explore: whether to add exploration.
        seed: of the policy's draws; with the seed of ``simulate`` the actions are the same.
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
        check_range("seed", seed, 0, LARGEST_SEED)
        batch = BatchOfOne(env)
        self._spaces = observation_spaces(batch.single_observation_space)
        self._driver = PolicyDriver(batch, policy, seed, explore, torch.device(device))
        self.reset()

    def reset(self) -> None:
        """Begin an episode with the next observation."""
        self._first = np.ones(1, np.bool_)
        self._last = np.zeros_like(self._driver.zeros)

    def __call__(self, observation: Mapping[str, Any], last_action: Any = None) -> Array:
        """Return the next action.

        Args:
            observation: {key: [...]}, as the env gives it; further keys are ignored.
            last_action: the action that was executed, if it was not the one returned last.

        Returns:
            action [A] within its bounds, or a whole number; in the dtype of the action space.

        Raises:
            SpaceError, ShapeError: for an observation that is missing, or of another shape.
            ActionError: for a ``last_action`` that cannot have been executed.
        """
        if not isinstance(observation, Mapping):
            raise SpaceError(
                f"the observation is a {type(observation).__name__}",
                got=type(observation).__name__,
                expected=f"a dict of {', '.join(self._spaces)}",
            )
        for key, space in self._spaces.items():
            if key not in observation:
                raise SpaceError(
                    f"the policy needs the observation '{key}', got {', '.join(observation)}",
                    got=list(observation),
                )
            if np.shape(observation[key]) != space.shape:
                raise ShapeError(f"observation '{key}'", np.shape(observation[key]), space.shape or ())
        last = self._last if last_action is None else self._executed(last_action)
        batch = {key: np.asarray(observation[key])[None] for key in self._spaces}
        action = self._driver.act(frames_of(batch, self._spaces, 1), last, self._first)
        self._last, self._first = action, np.zeros(1, np.bool_)
        native: Array = self._driver.native(action)[0]
        return native

    def _executed(self, action: Any) -> Array:
        """Return an action that the caller executed, as a batch of one; not clipped, since it was executed.

        The action is zero where the episode begins, which no earlier action has led to.
        """
        values = checked_action(action, self._driver.single_space, who="last_action", finite=True)
        return self._last if self._first[0] else values[None].astype(self._last.dtype)
