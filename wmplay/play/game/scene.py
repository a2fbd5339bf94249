"""Setting the scene: the bodies of a real world moved by hand."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from wmplay.contracts import Array
from wmplay.envs.lcd.env import LcdEnv
from wmplay.errors import ConfigError, WmplayError


class Scene:
    """The bodies of an LCD world as a player grips them: each object, and each robot as a whole."""

    def __init__(self, env: LcdEnv) -> None:
        self._env = env
        world, first = env.world, len(env.world.objects)
        self._groups: list[list[int]] = [[index] for index in range(first)]
        for robot in world.robots:
            self._groups.append([*range(first, first + len(robot.bodies))])
            first += len(robot.bodies)

    @classmethod
    def of(cls, env: gymnasium.Env[Any, Any]) -> Scene | None:
        """Return the scene of an env, or None if its bodies cannot be moved."""
        inner = env.unwrapped
        return cls(inner) if isinstance(inner, LcdEnv) else None

    @property
    def movable(self) -> int:
        """The number of objects and robots."""
        return len(self._groups)

    def places(self) -> list[tuple[float, float]]:
        """Return left and top of each object's or robot's root, as parts of the screen's width and height."""
        world, state = self._env.world, self._env.state
        roots = [state[group[0]].tolist() for group in self._groups]
        return [(root[0] / world.width, 1 - root[1] / world.height) for root in roots]

    def moved(self, body: int, right: float, down: float) -> Array:
        """Return the state [bodies, 6], at rest, with one object or robot moved by parts of the screen.

        Raises:
            WmplayError: for a body that does not exist, or if it would leave the walls or touch another.
        """
        if body >= self.movable:
            raise WmplayError(f"there is no body {body}", expected=f"0 to {self.movable - 1}")
        world, state = self._env.world, np.array(self._env.state)
        state[:, 3:] = 0
        group = self._groups[body]
        state[group, 0] += right * world.width
        state[group, 1] -= down * world.height
        try:
            fits = bool(state[group, 1].min() > 0) and not self._env.touches(state, group)
        except ConfigError:  # a body is outside of the walls
            fits = False
        if not fits:
            raise WmplayError("the body does not fit there", advice="drop it where it touches nothing")
        return state
