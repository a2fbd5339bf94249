"""Options of an LCD world, single or vector, and their validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from wmplay.envs.lcd.factors import Factors
from wmplay.envs.lcd.physics import ITERATIONS
from wmplay.envs.lcd.tasks import DEFAULT_REWARD, TASKS, Region, Reward, Task
from wmplay.envs.lcd.worlds.world import World
from wmplay.errors import ConfigError, UnknownName
from wmplay.system.arrays import Array

Observation: TypeAlias = dict[str, Array]
RenderMode: TypeAlias = Literal["lcd", "rgb_array", "human"]

RENDER_MODES = ["lcd", "rgb_array", "human"]


def enlarged(screen: Array) -> Array:
    """Return a screen [H, W] of zeros and ones as an image [8 H, 8 W, 3] uint8, as video writers take it."""
    large = np.kron(screen * np.uint8(255), np.ones((8, 8), np.uint8))
    return np.repeat(large[..., None], 3, axis=-1)


def make_task(
    world: World,
    name: str | None,
    reward: Reward | None,
    threshold: float,
    hazard: Sequence[float] | None,
) -> Task | None:
    """Return the task of this name in this world, or None without a name.

    Raises:
        UnknownName, ConfigError: for an unknown task, one that is impossible in this world, or a hazard
            without a task or a region.
    """
    if hazard is not None and (name is None or len(hazard) != 4):
        raise ConfigError(
            f"hazard is {list(hazard)}{'' if name else ' without a task'}",
            got=hazard,
            expected="[left, bottom, right, top] in metres, in an env with a task",
            advice="where no task is wanted, give hazard=null (while collecting: collect.env.hazard=null)",
        )
    if name is None:
        return None
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    region = None if hazard is None else Region(*hazard)
    return TASKS[name](world, threshold, reward or DEFAULT_REWARD[name], region)


def check_options(world: World, physics: str, max_steps: int | None, render_mode: str | None) -> int:
    """Validate options and return the number of steps per episode.

    Raises:
        UnknownName, ConfigError: for an unknown or impossible option.
    """
    if physics not in ITERATIONS:
        raise UnknownName("physics", physics, ITERATIONS)
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise UnknownName("render_mode", render_mode, RENDER_MODES)
    if max_steps is not None and max_steps < 1:
        raise ConfigError(f"max_steps is {max_steps}", got=max_steps, expected="at least 1")
    return max_steps or world.steps


def metadata_of(world: World, factors: Factors) -> dict[str, Any]:
    """Return the metadata of a world's env: what Gymnasium knows, and what the env claims to be."""
    late = int(factors.ranges.get("delay", (0, 0))[1])
    claims = {"passive": not world.robots, **({"delay": late} if late else {})}
    return {"render_modes": RENDER_MODES, "render_fps": world.fps, **claims}
