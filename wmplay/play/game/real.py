"""The real world of a game: an env that can return to any earlier moment, by taking its actions again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from wmplay.contracts import Array, observation_spaces
from wmplay.vector.frames import Frames, as_array, by_key


@dataclass(frozen=True)
class Beginning:
    """The start of an episode: the seed of its reset, and the state that replaces the drawn one."""

    seed: int
    state: Array | None = None  # for ``reset(options={"state": state})``


@dataclass(frozen=True)
class Arrival:
    """The result of a real step."""

    frame: Frames
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = field(default_factory=dict)


class RealWorld:
    """An env with a present moment: a beginning and the actions since then.

    An env is deterministic from its seed, so that the same beginning and actions lead to the same moment, bit
    for bit. ``go_to`` takes the actions again only where the present moment is not on the way.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env
        self.spaces = observation_spaces(env.observation_space)
        self._beginning: Beginning | None = None
        self._actions: list[Array] = []

    def begin(self, beginning: Beginning) -> Frames:
        """Reset the env and return its first frame."""
        options = None if beginning.state is None else {"state": beginning.state}
        observation, _ = self.env.reset(seed=beginning.seed, options=options)
        self._beginning, self._actions = beginning, []
        return self._frame(observation)

    def step(self, action: Array) -> Arrival:
        """Take one step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._actions.append(action)
        return Arrival(self._frame(observation), float(reward), bool(terminated), bool(truncated), info)

    def go_to(self, beginning: Beginning, actions: Sequence[Array]) -> None:
        """Make the moment after these actions the present one."""
        done = len(self._actions)
        on_the_way = beginning is self._beginning and done <= len(actions)
        if not on_the_way or any(
            mine is not given for mine, given in zip(self._actions, actions[:done], strict=True)
        ):
            self.begin(beginning)
            done = 0
        for action in actions[done:]:
            self.step(action)

    def _frame(self, observation: Any) -> Frames:
        named = by_key(observation, self.spaces)
        return {key: np.array(as_array(named[key], space, key)) for key, space in self.spaces.items()}
