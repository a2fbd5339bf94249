"""A learned env as a single env, and in Gymnasium's other autoreset modes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array


class LearnedEnv(gymnasium.Env[dict[str, Array], Any]):
    """One imagined episode at a time.

    Args:
        env: of one slot.
    """

    def __init__(self, env: LearnedVectorEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.task, self.max_steps = env.task, env.max_steps
        self._ended = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode at a start that is drawn with the seed."""
        super().reset(seed=seed)
        # drawn, because a seeded vector env's first slot always begins at the first start
        self.env.reset(seed=int(self.np_random.integers(2**31)))
        observation, _ = self.env.reset()
        self._ended = False
        return _row(observation), {}

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Take one step.

        Raises:
            ResetNeeded: before a reset, and after the end of an episode.
            ActionError, DivergedError: as ``LearnedVectorEnv.step_tensors``.
        """
        if self._ended:
            raise gymnasium.error.ResetNeeded("reset() the environment before step()")
        observation, reward, terminated, truncated, info = self.env.step(np.asarray(action)[None])
        self._ended = bool(terminated[0] or truncated[0])
        seen = info["final_obs"][0] if self._ended else _row(observation)
        return seen, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}


class LearnedModes(VectorEnv[Any, Any, Any]):
    """A learned vector env in next-step or disabled mode.

    Args:
        env: of N slots.
        mode: NEXT_STEP or DISABLED.
    """

    def __init__(self, env: LearnedVectorEnv, mode: AutoresetMode) -> None:
        self.env, self.mode, self.num_envs = env, mode, env.num_envs
        self.metadata = {**env.metadata, "autoreset_mode": mode}
        self.task, self.max_steps = env.task, env.max_steps
        self.single_observation_space, self.observation_space = (
            env.single_observation_space,
            env.observation_space,
        )
        self.single_action_space, self.action_space = env.single_action_space, env.action_space
        self._ended = np.zeros(self.num_envs, np.bool_)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin episodes in all slots, or in those of ``options["reset_mask"]`` [N] bool.

        Raises:
            ConfigError: for another mask.
        """
        mask = (options or {}).get("reset_mask")
        if mask is None:
            self._ended[:] = False
            return self.env.reset(seed=seed)
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"reset option 'reset_mask' must be [{self.num_envs}] bool with a True in it")
        others = torch.from_numpy(np.flatnonzero(~mask)).to(self.env.device)
        before = self.env.snapshot()
        self.env.reset(seed=seed)
        self.env.put_back(others, before)
        self._ended[mask] = False
        return self.env.seen(), {}

    def step(self, actions: Any) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Take one step of every slot; in next-step mode, a slot that ended gets its next first frame
        instead.

        Raises:
            ResetNeeded: if a slot has ended and is not reset (disabled mode).
            ActionError, DivergedError: as ``LearnedVectorEnv.step_tensors``.
        """
        resetting = self._ended
        if self.mode is AutoresetMode.DISABLED and resetting.any():
            raise gymnasium.error.ResetNeeded(
                f"episodes of envs {np.flatnonzero(resetting).tolist()} have ended: "
                "reset(options={'reset_mask': mask}) before step()"
            )
        before = self.env.snapshot() if resetting.any() else None
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if before is not None:
            rows = np.flatnonzero(resetting)
            self.env.put_back(torch.from_numpy(rows).to(self.env.device), before)
            observation = self.env.seen()
            reward[rows], terminated[rows], truncated[rows] = 0, False, False
        self._ended = terminated | truncated
        for row in np.flatnonzero(self._ended):
            for key, value in info["final_obs"][row].items():
                observation[key][row] = value
        return observation, reward, terminated, truncated, {}


def _row(observation: dict[str, Array]) -> dict[str, Array]:
    return {key: value[0] for key, value in observation.items()}
