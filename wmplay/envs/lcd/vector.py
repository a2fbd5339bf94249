"""Many copies of one LCD world as a ``gymnasium.vector.VectorEnv``, observed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.factors import read_factors
from wmplay.envs.lcd.options import RenderMode, check_options, enlarged, make_task, metadata_of
from wmplay.envs.lcd.physics import Physics
from wmplay.envs.lcd.screen import Rounding
from wmplay.envs.lcd.tasks import Reward
from wmplay.envs.lcd.worlds.parse import find_world
from wmplay.envs.lcd.worlds.world import World
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array
from wmplay.vector.autoreset import Autoreset
from wmplay.vector.rows_env import Rows, RowsVectorEnv


class LcdVectorEnv(RowsVectorEnv):
    """N copies of ``LcdEnv`` with exactly its observations for the same seeds.

    Args:
        num_envs: N.
        autoreset: see ``RowsVectorEnv``.
        world, task, physics, full_state, max_steps, render_mode, reward, goal_threshold, screen, factors,
        sound, hazard: as for ``LcdEnv``.
    """

    def __init__(
        self,
        num_envs: int,
        autoreset: Autoreset = "same_step",
        world: str | Mapping[str, Any] | World = "luxo",
        task: Literal["body_goal", "cube_goal"] | None = None,
        physics: Physics = "faithful",
        full_state: bool | None = None,
        max_steps: int | None = None,
        render_mode: RenderMode | None = None,
        reward: Reward | None = None,
        goal_threshold: float = 0.05,
        screen: Rounding = "outwards",
        factors: Mapping[str, Any] = {},
        sound: bool = False,
        hazard: Sequence[float] | None = None,
    ) -> None:
        if render_mode == "human":
            raise ConfigError("render_mode 'human' shows one env", advice="use 'rgb_array' or 'lcd' for many")
        self.world = find_world(world)
        self.task = make_task(self.world, task, reward, goal_threshold, hazard)
        self.factors = read_factors(factors, self.world)
        self.max_steps = check_options(self.world, physics, max_steps, render_mode)
        self.render_mode = render_mode
        options = self.task, physics, full_state, screen, self.factors, sound
        self._batch = Batch(self.world, *options, max(num_envs, 1))
        spaces = self._batch.observation_space, self._batch.action_space
        super().__init__(num_envs, autoreset, *spaces, metadata_of(self.world, self.factors))

    @property
    def state(self) -> Array:
        """The states [N, bodies, 6]: x, y, angle and their velocities, in metres, radians and seconds."""
        return np.stack([simulation.state for simulation in self._batch.simulations])

    def begin_rows(
        self, rows: Array, generators: Sequence[np.random.Generator], states: Sequence[Any] | None
    ) -> None:
        """Begin episodes in some slots."""
        self._batch.reset(rows, generators, states)

    def step_rows(
        self, action: Array, rows: Array | None, generators: Sequence[np.random.Generator]
    ) -> tuple[Rows, Array, Array, Array]:
        """Step the given slots; return the observations, reward, terminated and truncated of all."""
        self._batch.step(action.astype(float).clip(-1, 1), rows)
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        observation = self._batch.observe()
        if self.task is not None:
            reward[:], terminated[:] = self.task.reward_and_terminated(self._observation, observation)
        return observation, reward, terminated, self._batch.time >= self.max_steps

    def observe_rows(self, rows: Array | None = None) -> Rows:
        """Return the observations of the given slots."""
        return self._batch.observe(rows)

    def infos(self, observation: Rows, terminated: Array, mask: Array) -> dict[str, Any]:
        """Return distance, success, the cost of a hazard, and the values of factors, where ``mask``."""
        infos: dict[str, Any] = {}
        if self.task is not None:
            distance = np.where(mask, self.task.distance(observation), 0).astype(float)
            infos = {"distance": distance, "_distance": mask}
            infos |= {"success": terminated.copy(), "_success": mask.copy()}
            if self.task.hazard is not None:
                cost = np.where(mask, self.task.cost(observation), 0).astype(float)
                infos |= {"cost": cost, "_cost": mask.copy()}
        if self._batch.conditions is not None:
            infos |= {"factors": self._batch.conditions.infos(mask), "_factors": mask.copy()}
        return infos

    def render(self) -> tuple[Array, ...] | None:
        """Return an image of each env, as ``LcdEnv.render`` does, or None without a render mode."""
        if self.render_mode is None:
            return None
        if self.render_mode == "lcd":
            return tuple(enlarged(screen) for screen in self._observation["lcd"])
        from wmplay.envs.lcd.render import paint

        return tuple(paint(self._batch, row) for row in range(self.num_envs))
