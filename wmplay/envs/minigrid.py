"""MiniGrid's grid worlds (Chevalier-Boisvert et al. 2023, arXiv 2306.13831), through their own package."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

from wmplay.envs.conversion import registered, resized
from wmplay.envs.observations import Observation, one_hot
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.system.arrays import Array
from wmplay.system.extras import import_extra
from wmplay.vector.actions import checked_action

KINDS, COLOURS, STATES = 11, 6, 4  # of a cell; in the full view the states include the agent's direction


class MiniGridEnv(gymnasium.Env[Observation, Any]):
    """A grid world. The goal, or an end such as lava, terminates an episode; the time limit truncates it.

    Observations: ``cells`` uint8 [cells, 21] of zeros and ones, a row for each cell (row by row of the view):
    its kind (11), colour (6) and state (4), each one-hot; ``direction`` float32 [4], the agent's direction,
    one-hot; ``mission`` float32, the variable words of the mission's text, each one-hot (absent if no word
    varies); ``pixels`` uint8 [size, size, 3]. Actions: left, right, forward, pick up, drop, toggle, done.

    Args:
        id: as MiniGrid registers it with Gymnasium.
        full: whether to show the whole grid with the agent in it, instead of the cells in front of the agent.
        cells: whether to observe the content of each cell.
        pixels: whether to observe an image of the cells.
        size: of ``pixels``, in both directions.
        mission: whether to observe the mission.
        max_steps: per episode; the world's own limit by default. A goal is worth 1 at the first step, and 0.1
            at the world's own limit, or at this one if it is longer.
        render_mode: "rgb_array" makes ``render`` return images.

    Raises:
        UnknownName: if no world has the id.
        ConfigError: without the package, or if the world cannot be made.
        SpaceError: if missions do not differ by a few words only (BabyAI).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        id: str = "MiniGrid-Empty-5x5-v0",
        full: bool = False,
        cells: bool = True,
        pixels: bool = False,
        size: int = 64,
        mission: bool = True,
        max_steps: int | None = None,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        limits = {} if max_steps is None else {"max_steps": max_steps}
        check_values("env minigrid", at_least_one={"size": size, **limits})
        if not (pixels or cells):
            raise ConfigError("cells=false leaves nothing to see", advice="set pixels=true with it")
        package = import_extra("minigrid.minigrid_env", "minigrid", "env minigrid")
        wrappers = import_extra("minigrid.wrappers", "minigrid", "env minigrid")
        self._env: Any = registered(id, {}, max_steps, "MiniGrid world")
        if not isinstance(self._env.unwrapped, package.MiniGridEnv):
            raise ConfigError(f"'{id}' is not a world of MiniGrid", got=id, advice=f"use env=gym env.id={id}")
        inner: Any = self._env.observation_space
        if full:
            self._env = wrappers.FullyObsWrapper(self._env)
        self._full, self._size, self.render_mode = full, size, render_mode
        self._max_steps = max_steps or 0
        spaces: dict[str, Space[Any]] = {}
        if cells:
            count = int(np.prod(self._env.observation_space["image"].shape[:2]))
            spaces["cells"] = Box(0, 1, (count, KINDS + COLOURS + STATES), np.uint8)
        if pixels:
            spaces["pixels"] = Box(0, 255, (size, size, 3), np.uint8)
        spaces["direction"] = Box(0, 1, (4,), np.float32)
        self._missions = _missions(inner["mission"], id) if mission else {}
        if self._missions:
            spaces["mission"] = Box(0, 1, next(iter(self._missions.values())).shape, np.float32)
        self._keys = frozenset(spaces)
        self.observation_space: Space[Any] = Dict(spaces)
        self.action_space: Space[Any] = Discrete(int(self._env.action_space.n))

    @staticmethod
    def world_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that define the world; the choice and size of observations do not."""
        return {key: settings[key] for key in ("id", "full")}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        seen, info = self._env.reset(seed=seed, options=options)
        world = self._env.unwrapped  # has a clock of its own, and may set it in each episode
        world.max_steps = max(world.max_steps, self._max_steps)
        return self._observe(seen), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ActionError: unless it is the number of an action.
        """
        action = int(checked_action(action, self.action_space))
        seen, reward, terminated, truncated, info = self._env.step(action)
        return self._observe(seen), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """Return an image of the whole grid, or None without a render mode."""
        return None if self.render_mode is None else self._env.unwrapped.get_frame()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observe(self, seen: Mapping[str, Any]) -> Observation:
        observation: Observation = {}
        if "cells" in self._keys:
            cells = seen["image"].transpose(1, 0, 2).reshape(-1, 3)  # MiniGrid has columns first
            parts = [one_hot(cells[:, i], n, np.uint8) for i, n in enumerate((KINDS, COLOURS, STATES))]
            observation["cells"] = np.concatenate(parts, axis=-1)
        if "pixels" in self._keys:
            observation["pixels"] = self._picture()
        observation["direction"] = one_hot(seen["direction"], 4)
        if self._missions:
            if seen["mission"] not in self._missions:
                raise SpaceError(
                    f"mission '{seen['mission']}' is none of those that the world knows",
                    advice="set mission=false",
                )
            observation["mission"] = self._missions[seen["mission"]].copy()
        return observation

    def _picture(self) -> Array:
        world = self._env.unwrapped
        across = max(world.width, world.height) if self._full else world.agent_view_size
        tile = -(-self._size // across)  # enough pixels for one tile
        return resized(world.get_frame(tile_size=tile, agent_pov=not self._full), self._size)


def _missions(space: Any, env_id: str) -> dict[str, Array]:
    """Return each mission's text -> its variable words, one-hot and concatenated; empty if no word varies.

    Raises:
        SpaceError: if the texts are not one sentence with variable words.
    """
    if type(space).__name__ != "MissionSpace":
        raise SpaceError(
            f"the missions of '{env_id}' are free sentences, which are not encoded",
            got=env_id,
            advice="set mission=false",
        )
    words = space.ordered_placeholders or []
    if all(len(each) == 1 for each in words):
        return {}
    encoded = {}
    for chosen in itertools.product(*(range(len(each)) for each in words)):
        parts = [one_hot(i, len(each)) for i, each in zip(chosen, words, strict=True)]
        text = space.mission_func(*(each[i] for i, each in zip(chosen, words, strict=True)))
        encoded[text] = np.concatenate(parts)
    return encoded
