"""An adapter from any vector env of Gymnasium, learned or not, to the ``VecEnv`` of stable-baselines3.

>>> env = SB3VecEnv(run.learned_env(num_envs=64)) >>> stable_baselines3.PPO("MultiInputPolicy",
env).learn(100_000)

Only this module imports stable-baselines3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from wmplay.errors import ConfigError
from wmplay.system.arrays import Array
from wmplay.vector.stepping import autoreset_mode

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """A Gymnasium vector env for agents of stable-baselines3.

    The agents expect the first frame of the next episode from the step that ends one, and in that step's info
    the last frame (``terminal_observation``) and whether the episode was truncated (``TimeLimit.truncated``).

    Args:
        env: of N slots, in same-step mode.

    Raises:
        ConfigError: for another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if autoreset_mode(env) is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                "stable-baselines3 needs an env of autoreset='same_step'", advice="make it with that"
            )
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Begin episodes in all slots, with the seed of ``seed(...)`` if it was called."""
        seed = self._seeds[0]
        observation, _ = self.env.reset(seed=seed) if seed is not None else self.env.reset()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        return observation

    def step_async(self, actions: Array) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        """Take one step: observations {key: [N, ...]}, rewards [N] float32, dones [N] bool, infos of each
        slot."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = np.asarray(terminated | truncated, np.bool_)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for slot in np.flatnonzero(done):
            infos[slot] = {
                "terminal_observation": info["final_obs"][slot],
                "TimeLimit.truncated": bool(truncated[slot] and not terminated[slot]),
            }
        return observation, np.asarray(reward, np.float32), done, infos

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of the vector env, once for each slot; ``render_mode`` may be missing."""
        default = () if attr_name != "render_mode" else (None,)
        return [getattr(self.env, attr_name, *default) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the vector env, and so of all slots."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the vector env, once for all slots."""
        answer = getattr(self.env, method_name)(*args, **kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Return False for each slot, because a vector env has no single envs."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Array | None]:
        """Return an image of each slot, or None if the env does not render."""
        pictures: Any = self.env.render()
        return [None] * self.num_envs if pictures is None else list(pictures)
