"""Atari 2600 games on the Arcade Learning Environment (Bellemare et al. 2013), through its own vector engine.

The engine preprocesses frames: it skips frames, takes the maximum of the last two (many games draw some
objects in every other frame only) and resizes by area. The defaults are those of Machado et al. 2018 (arXiv
1709.06009): actions are sticky, and an episode ends with the game, not with a life.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.envs.observations import Observation
from wmplay.errors import UnknownName, check_values
from wmplay.system.arrays import Array
from wmplay.system.extras import import_extra
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset, autoreset_mode

MAX_FRAMES = 108_000  # half an hour of play
SEEDS = 2**31  # seeds of the engine have 32 bits; a negative one means "continue"
# Games for several players only: the engine ends the process.
MULTIPLAYER = {"combat", "joust", "maze_craze", "warlords"}


class AtariEnv(gymnasium.Env[Observation, Any]):
    """A game, observed as ``pixels`` uint8 [size, size, 3], or [size, size, 1] in grey. Actions are discrete.

    A lost game is terminated; an episode at its time limit is truncated. Rewards are the game's own, not
    clipped.

    Args:
        game: in snake_case, for example "pong" or "ms_pacman".
        size: of ``pixels``, in both directions.
        grayscale: whether to observe one channel instead of three.
        action_repeat: frames for which each action is held; their rewards are summed.
        sticky: the probability that a frame keeps the last action instead of taking the new one.
        noops: largest number of frames without an action at the start of an episode; the number is drawn.
        full_actions: whether to allow all 18 actions, including those without effect in the game.
        max_steps: per episode, in frames.

    Raises:
        UnknownName: if no game has the name.
        ConfigError: without the package, or for values out of range.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        game: str = "pong",
        size: int = 64,
        grayscale: bool = False,
        action_repeat: int = 4,
        sticky: float = 0.25,
        noops: int = 0,
        full_actions: bool = False,
        max_steps: int = MAX_FRAMES,
    ) -> None:
        self._batch = AtariVectorEnv(  # next-step, in which the engine resets only at the next step
            1,
            "next_step",
            game=game,
            size=size,
            grayscale=grayscale,
            action_repeat=action_repeat,
            sticky=sticky,
            noops=noops,
            full_actions=full_actions,
            max_steps=max_steps,
        )
        self.observation_space: Space[Any] = self._batch.single_observation_space
        self.action_space: Space[Any] = self._batch.single_action_space

    @classmethod
    def vector(cls, num_envs: int, autoreset: Autoreset, **config: Any) -> VectorEnv[Any, Any, Any] | None:
        """Return the engine's own vector env, or None in disabled mode, which the engine lacks."""
        return None if autoreset == "disabled" else AtariVectorEnv(num_envs, autoreset, **config)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        frames, info = self._batch.reset(seed=seed)
        return {"pixels": frames["pixels"][0]}, _first(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold an action for ``action_repeat`` frames, or until the episode ends.

        Raises:
            ActionError: unless it is the number of an action.
        """
        row = checked_action(action, self.action_space)[None]
        frames, reward, terminated, truncated, info = self._batch.step(row)
        flags = bool(terminated[0]), bool(truncated[0])
        return {"pixels": frames["pixels"][0]}, float(reward[0]), *flags, _first(info)


class AtariVectorEnv(VectorEnv[Any, Any, Any]):
    """Many games at once, in the engine's own threads, with the same numbers as ``AtariEnv``.

    Args:
        num_envs: number of slots.
        autoreset: "same_step" or "next_step".
        game, size, grayscale, action_repeat, sticky, noops, full_actions, max_steps: as for ``AtariEnv``.

    Raises:
        UnknownName, ConfigError: as ``AtariEnv``.
    """

    def __init__(
        self,
        num_envs: int,
        autoreset: Autoreset,
        *,
        game: str,
        size: int,
        grayscale: bool,
        action_repeat: int,
        sticky: float,
        noops: int,
        full_actions: bool,
        max_steps: int,
    ) -> None:
        check_values(
            "env atari",
            at_least_one={"size": size, "action_repeat": action_repeat, "max_steps": max_steps},
            not_negative={"noops": noops},
            fractions={"sticky": sticky},
        )
        mode = autoreset_mode(autoreset)
        engine = import_extra("ale_py.vector_env", "atari", "env atari").AtariVectorEnv
        games = set(import_extra("ale_py.roms", "atari", "env atari").get_all_rom_ids()) - MULTIPLAYER
        if game not in games:
            raise UnknownName("Atari game", game, games)
        self._engine = engine(
            game,
            num_envs,
            max_num_frames_per_episode=max_steps,
            repeat_action_probability=sticky,
            full_action_space=full_actions,
            autoreset_mode=mode,
            img_height=size,
            img_width=size,
            grayscale=grayscale,
            stack_num=1,
            frameskip=action_repeat,
            maxpool=action_repeat > 1,
            noop_max=noops,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        shape = (size, size, 1 if grayscale else 3)
        self.single_observation_space: Space[Any] = Dict(pixels=Box(0, 255, shape, np.uint8))
        self.single_action_space: Space[Any] = Discrete(int(self._engine.single_action_space.n))
        self._shape = (num_envs, *shape)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin episodes with the seeds s + i, or with one seed of each slot."""
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + row for row in range(self.num_envs)]
        seeds = None if seed is None else np.array([-1 if each is None else each % SEEDS for each in seed])
        frames, info = self._engine.reset(seed=seeds, options=options)
        return self._observe(frames), info

    def step(self, actions: Any) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Take one step of every game.

        Raises:
            ActionError: unless each is the number of an action; the engine would hang.
        """
        rows = checked_action(actions, self.single_action_space, range(self.num_envs))
        frames, reward, terminated, truncated, info = self._engine.step(rows)
        if "final_obs" in info:
            info = {**info, "final_obs": self._observe(info["final_obs"])}
        return self._observe(frames), reward.astype(np.float64), terminated, truncated, info

    def _observe(self, frames: Array) -> Observation:
        """Return the observation of frames [N, 1, H, W] or [N, 1, H, W, 3]."""
        return {"pixels": frames.reshape(self._shape)}


def _first(info: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[0] for key, value in info.items() if key != "env_id"}
