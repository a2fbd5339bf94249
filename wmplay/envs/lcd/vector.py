"""Many copies of one LCD world as a ``gymnasium.vector.VectorEnv``, observed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.options import RENDER_MODES, Observation, RenderMode, check_options, enlarged, make_task
from wmplay.envs.lcd.physics import Physics
from wmplay.envs.lcd.screen import Rounding
from wmplay.envs.lcd.tasks import Reward
from wmplay.envs.lcd.worlds.parse import find_world
from wmplay.envs.lcd.worlds.world import World
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset, autoreset_mode


class LcdVectorEnv(VectorEnv[Observation, Array, Array]):
    """N copies of ``LcdEnv`` with exactly its observations for the same seeds.

    ``autoreset`` is the mode in which the next episode begins, in Gymnasium's terms: "same_step" (the
    observation is the new episode's first, the last one is ``info["final_obs"]``), "next_step" (the next
    ``step`` ignores the action and resets) or "disabled" (``reset(options={"reset_mask": mask})``).

    ``reset`` takes a seed for each env, or one seed s that gives env i the seed s + i; ``options={"state":
    states}`` takes a state for each env.

    Args:
        num_envs: N.
        autoreset: see above.
        world, task, physics, full_state, max_steps, render_mode, reward, goal_threshold, screen: as for
        ``LcdEnv``.
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
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}", expected="at least 1")
        if render_mode == "human":
            raise ConfigError("render_mode 'human' shows one env", advice="use 'rgb_array' or 'lcd' for many")
        self.num_envs = num_envs
        self.world = find_world(world)
        self.task = make_task(self.world, task, reward, goal_threshold)
        self.max_steps = check_options(self.world, physics, max_steps, render_mode)
        self.render_mode = render_mode
        self.autoreset = autoreset_mode(autoreset)
        self.metadata = {
            "render_modes": RENDER_MODES,
            "render_fps": self.world.fps,
            "passive": not self.world.robots,
            "autoreset_mode": self.autoreset,
        }
        self._batch = Batch(self.world, self.task, physics, full_state, screen, num_envs)
        self.single_observation_space = self._batch.observation_space
        self.single_action_space = self._batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._ended = np.zeros(num_envs, bool)

    @property
    def state(self) -> Array:
        """The states [N, bodies, 6]: x, y, angle and their velocities, in metres, radians and seconds."""
        return np.stack([simulation.state for simulation in self._batch.simulations])

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes in all envs, or in those of ``options["reset_mask"]`` [N] bool."""
        options = options or {}
        rows = self._reset_rows(options.get("reset_mask"))
        self._seed(seed, rows)
        states = options.get("state")
        if states is not None and len(states) != self.num_envs:
            raise ConfigError(
                f"reset option 'state' has {len(states)} rows",
                expected=f"one for each of {self.num_envs} envs",
            )
        chosen = None if states is None else [states[row] for row in rows]
        self._batch.reset(rows, [self._generators[row] for row in rows], chosen)
        self._ended[rows] = False
        self._observation = self._batch.observe()
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        return self._copies(), self._info(self._observation, np.zeros(self.num_envs, bool), mask)

    def _reset_rows(self, mask: Any) -> Array:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"reset option 'reset_mask' must be [{self.num_envs}] bool with a True in it")
        return np.flatnonzero(mask)

    def _seed(self, seed: int | Sequence[int | None] | None, rows: Array) -> None:
        if seed is not None and not isinstance(seed, (int, np.integer)) and len(seed) != self.num_envs:
            raise ConfigError(
                f"{len(seed)} seeds for {self.num_envs} envs", advice="pass one for each, or one int"
            )
        fresh = not self._generators
        if fresh:
            self._generators = [np.random.default_rng(0)] * self.num_envs  # each is replaced below
        for row in range(self.num_envs) if fresh else rows:
            if isinstance(seed, (int, np.integer)):
                own: int | None = int(seed) + int(row)
            else:
                own = seed[row] if seed is not None else None
            if own is not None or fresh:
                self._generators[row], _ = seeding.np_random(own)

    def step(self, actions: Array) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Take one step of every env: observations, rewards, terminated, truncated [N] and infos.

        Raises:
            ActionError: for actions of the wrong shape, or with NaN.
        """
        values = checked_action(actions, self.single_action_space, range(self.num_envs)).astype(float)
        resetting = self._begin_step()
        stepping = None if resetting is None else np.flatnonzero(~resetting)
        self._batch.step(values.clip(-1, 1), stepping)
        before, observation = self._observation, self._batch.observe()
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if self.task is not None:
            values, reached = self.task.reward_and_terminated(before, observation)
            rewards[:], terminated[:] = values, reached
        truncated = self._batch.time >= self.max_steps
        if resetting is not None:
            rewards[resetting], terminated[resetting] = 0.0, False
        self._observation = observation
        self._ended = terminated | truncated
        everywhere = np.ones(self.num_envs, bool)
        info = self._info(observation, terminated, everywhere)
        if self.autoreset is AutoresetMode.SAME_STEP and self._ended.any():
            info = self._reset_ended(info)
        return self._copies(), rewards, terminated, truncated, info

    def _begin_step(self) -> Array | None:
        """Reset ended envs in next-step mode; return the mask of envs that do not step, if any."""
        if not self._ended.any() or self.autoreset is AutoresetMode.SAME_STEP:
            return None
        if self.autoreset is AutoresetMode.DISABLED:
            ended = np.flatnonzero(self._ended).tolist()
            raise gymnasium.error.ResetNeeded(
                f"episodes of envs {ended} have ended: reset(options={{'reset_mask': mask}}) before step()"
            )
        resetting = self._ended
        rows = np.flatnonzero(resetting)
        self._batch.reset(rows, [self._generators[row] for row in rows])
        return resetting

    def _reset_ended(self, info: dict[str, Any]) -> dict[str, Any]:
        """Begin the next episodes; return the step's infos with the last frames of the ended ones."""
        rows, ended = np.flatnonzero(self._ended), self._ended.copy()
        last = {key: values[rows] for key, values in self._observation.items()}
        final_obs = np.full(self.num_envs, None, object)
        for i, row in enumerate(rows):
            final_obs[row] = {key: values[i] for key, values in last.items()}
        self._batch.reset(rows, [self._generators[row] for row in rows])
        for key, values in self._batch.observe(rows).items():
            self._observation[key][rows] = values
        final_info = {
            key: ended.copy() if key.startswith("_") else np.where(ended, values, 0).astype(values.dtype)
            for key, values in info.items()
        }
        info = self._info(
            self._observation,
            np.where(ended, False, info.get("success", False)),
            np.ones(self.num_envs, bool),
        )
        finals = {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended.copy(),
        }
        self._ended = np.zeros(self.num_envs, bool)
        return {**info, **finals}

    def _info(self, observation: Observation, success: Array, mask: Array) -> dict[str, Any]:
        """Return distance and success where ``mask``, in Gymnasium's form: values and a mask of each."""
        if self.task is None:
            return {}
        distance = np.where(mask, self.task.distance(observation), 0).astype(float)
        return {"distance": distance, "_distance": mask, "success": success.copy(), "_success": mask.copy()}

    def _copies(self) -> Observation:
        return {key: values.copy() for key, values in self._observation.items()}

    def render(self) -> tuple[Array, ...] | None:
        """Return an image of each env, as ``LcdEnv.render`` does, or None without a render mode."""
        if self.render_mode is None:
            return None
        if self.render_mode == "lcd":
            return tuple(enlarged(screen) for screen in self._observation["lcd"])
        from wmplay.envs.lcd.render import paint

        return tuple(paint(self._batch, row) for row in range(self.num_envs))
