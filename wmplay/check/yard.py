"""A made-up world for policies to practise in: nothing to see, and a rule for what an action brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.contracts import Array

# (place of each action in its range, 0 to 1; its episode's steps) -> reward, terminated, truncated; all [N]
Rule: TypeAlias = Callable[[Array, Array], tuple[Array, Array, Array]]


class Yard(VectorEnv[Any, Array, Array]):
    """Observations are drawn from the env's space and tell nothing; actions bring what the rule says.

    Episodes go over into the next within a step. All draws follow from the seed of ``reset``.

    Args:
        env: its spaces.
        slots: N.
        rule: what comes of a step, by the first entry of its action.
        strange_ends: show other last frames where an episode ran out of time; all else is as it was.

    Attributes:
        taken: transitions so far.
        outside: the first action that was not within the space.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], slots: int, rule: Rule, *, strange_ends: bool = False
    ) -> None:
        self.num_envs, self.rule, self.strange_ends = slots, rule, strange_ends
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, slots)
        self.action_space = batch_space(env.action_space, slots)
        self.low, self.high = _range(env.action_space)
        self.age = np.zeros(slots, np.int64)
        self.taken = 0
        self.outside: Array | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """New episodes in all slots."""
        self.observation_space.seed(seed)
        self.age[:] = 0
        return self.observation_space.sample(), {}

    def step(self, action: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """One step of all slots."""
        first = np.asarray(action, np.float64).reshape(self.num_envs, -1)
        wrong = ~((first >= self.low - 1e-4) & (first <= self.high + 1e-4)).all(1)
        if wrong.any() and self.outside is None:
            self.outside = first[wrong][0]
        self.taken, self.age = self.taken + self.num_envs, self.age + 1
        low, span = self.low[0], self.high[0] - self.low[0]
        place = ((first[:, 0] - low) / max(span, 1e-9)).clip(0, 1)
        reward, terminated, truncated = self.rule(place, self.age)
        ended = terminated | truncated
        self.age[ended] = 0
        last, following = self.observation_space.sample(), self.observation_space.sample()
        if not ended.any():
            return following, reward, terminated, truncated, {}
        if self.strange_ends:
            last = _swapped(last, truncated)
        return following, reward, terminated, truncated, {"final_obs": last, "_final_obs": ended}


def _range(space: Any) -> tuple[Array, Array]:
    """(low, high) of an action, each [A]; where there is no bound, as far as a policy may reasonably go."""
    if isinstance(space, Discrete):
        return np.array([float(space.start)]), np.array([float(space.start + space.n - 1)])
    low, high = (np.clip(bound.astype(np.float64), -1e2, 1e2) for bound in (space.low, space.high))
    return low, high


def _swapped(frames: Any, rows: Array) -> Any:
    """Frames {key: [N, ...]}, or [N, ...], in which the rows of a mask show their neighbours'."""
    if isinstance(frames, dict):
        return {key: _swapped(value, rows) for key, value in frames.items()}
    mask = rows.reshape(-1, *[1] * (frames.ndim - 1))
    return np.where(mask, np.roll(frames, 1, axis=0), frames)
