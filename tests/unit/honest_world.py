"""An honest world, for the tests of ``wmplay.check.check_env``."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

GOAL = 0.9


class Task:
    """Come as far to the right as there is."""

    def reward_and_terminated(self, before: Any, after: Any) -> Any:
        was, now = before["place"][..., 0], after["place"][..., 0]
        return now - was, now > GOAL


class Batch(SyncVectorEnv):
    """What Gymnasium makes of single ones."""

    num_workers = 0


class Honest(gym.Env[Any, Any]):
    """A point that is pushed, between two walls."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    batch: type[Batch] = Batch  # a world may bring its own
    clock = 13

    def __init__(self, discrete: bool = False, render_mode: str | None = None) -> None:
        self.observation_space: Any = Dict(
            place=Box(-1, 1, (3,), np.float32),
            screen=Box(0, 1, (5, 7), np.uint8),
            goal_place=Box(-1, 1, (3,)),
        )
        self.action_space: Any = Discrete(5) if discrete else Box(-1, 1, (3,), np.float32)
        self.task: Any = Task()
        self.render_mode = render_mode
        self.place, self.time = np.zeros(3, np.float32), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.begin()
        return self.seen(), {}

    def begin(self) -> None:
        self.place = self.np_random.uniform(-0.5, 0.5, 3).astype(np.float32)
        self.time = 0

    def step(self, action: Any) -> Any:
        before = self.seen()
        self.move(action)
        self.time += 1
        after = self.seen()
        reward, terminated = self.task.reward_and_terminated(before, after)
        return after, float(reward), *self.ends(bool(terminated)), {}

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return terminated, self.time >= self.clock

    def move(self, action: Any) -> None:
        push = action if isinstance(self.action_space, Box) else np.eye(5)[action][:3]
        self.place = (self.place + 0.2 * push).clip(-1, 1).astype(np.float32)

    def seen(self) -> Any:
        screen = np.zeros((5, 7), np.uint8)
        screen[2, int(3 + 3 * self.place[0])] = 1
        return {"place": self.place.copy(), "screen": screen, "goal_place": np.full(3, GOAL, np.float32)}

    def render(self) -> Any:
        return np.zeros((5, 7, 3), np.uint8)


def make(
    cls: Any, num_envs: int | None = None, autoreset: str = "same_step", num_workers: int = 0, **config: Any
) -> Any:
    """As ``wmplay.make_env``, for a class."""
    if num_envs is None:
        return cls(**config)
    mode = {"same_step": AutoresetMode.SAME_STEP, "next_step": AutoresetMode.NEXT_STEP}[autoreset]
    batch = cls.batch([partial(cls, **config)] * num_envs, autoreset_mode=mode)
    batch.num_workers = num_workers
    return batch
