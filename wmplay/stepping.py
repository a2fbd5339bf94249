"""Vector envs step by step: frames by key, an episode's true last frames, and all of it as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from wmplay.contracts import Array
from wmplay.errors import ConfigError, SpaceError, WmplayError

Frames: TypeAlias = dict[str, Array]


class Transition(NamedTuple):
    """One step of N envs. An episode that ended has been followed by the next one's first frame."""

    arrived: Mapping[str, Tensor]  # {key: [N, ...]}: what the action led to, also where an episode ended
    observation: Mapping[str, Tensor]  # {key: [N, ...]}: what to act on next
    reward: Tensor  # [N] float32
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool


class TensorEnv:
    """A vector env on tensors: a learned one as it is, on its own device, any other by way of numpy.

    Args:
        env: of N slots, which reset themselves in the step that ends an episode.
        device: where observations, rewards and flags are wanted.

    Raises:
        ConfigError: for another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], device: torch.device) -> None:
        if autoreset_mode(env) is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                "to practise in, a vector env must reset itself: make it with autoreset='same_step'"
            )
        self.env, self.device = env, device
        self.num_envs = env.num_envs
        self.spaces = frame_spaces(env.single_observation_space)
        self._dtype = env.single_action_space.dtype
        self._native = getattr(env, "step_tensors", None)

    def reset(self, seed: int) -> Mapping[str, Tensor]:
        """The first frames {key: [N, ...]} of new episodes in all slots."""
        if self._native is not None:
            first: Mapping[str, Tensor] = self.env.reset_tensors(seed)  # type: ignore[attr-defined]
            return first
        return self._tensors(frames_of(self.env.reset(seed=seed)[0], self.spaces))

    def step(self, action: Tensor) -> Transition:
        """One step under action [N, A] (within the space's bounds), or [N] int64."""
        if self._native is not None:
            transition: Transition = self._native(action)
            return transition
        executed = action.cpu().numpy().astype(self._dtype, copy=False)
        observation, reward, terminated, truncated, info = self.env.step(executed)
        ended = np.asarray(terminated | truncated, np.bool_)
        now = frames_of(observation, self.spaces)
        arrived = with_final(now, ended, info, self.spaces) if ended.any() else now
        flags = (torch.as_tensor(flag, device=self.device) for flag in (terminated, truncated))
        rewards = torch.as_tensor(reward, dtype=torch.float32, device=self.device)
        following = self._tensors(now)
        return Transition(self._tensors(arrived) if ended.any() else following, following, rewards, *flags)

    def _tensors(self, frames: Frames) -> dict[str, Tensor]:
        return {key: torch.from_numpy(value).to(self.device) for key, value in frames.items()}


def autoreset_mode(env: Any) -> AutoresetMode:
    """When a vector env begins the next episode.

    Raises:
        WmplayError: if it does not say.
    """
    mode = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise WmplayError(
            f"{type(env).__name__}.metadata['autoreset_mode'] is {mode!r}: expected "
            "a gymnasium.vector.AutoresetMode, so that episodes are cut in the right place"
        ) from error


def frame_spaces(space: gymnasium.Space[Any]) -> dict[str, gymnasium.Space[Any]]:
    """The observation's spaces by key (``observation`` where it is not a dict), each with shape and dtype.

    Raises:
        SpaceError: for an observation that is not made of arrays.
    """
    spaces = dict(space.spaces) if isinstance(space, Dict) else {"observation": space}
    for key, each in spaces.items():
        if each.shape is None or each.dtype is None:
            raise SpaceError(
                f"observation '{key}' has the space {each}: expected arrays (Box, Discrete, MultiBinary "
                "or MultiDiscrete); wrap the env (gymnasium.wrappers.FlattenObservation)"
            )
    return spaces


def frames_of(observation: Any, spaces: Mapping[str, gymnasium.Space[Any]]) -> Frames:
    """{key: [N, ...]}, copied: envs may write into their arrays again."""
    observation = _named(observation)
    return {key: np.array(observation[key], space.dtype) for key, space in spaces.items()}


def with_final(
    now: Frames, ended: Array, info: Mapping[str, Any], spaces: Mapping[str, gymnasium.Space[Any]]
) -> Frames:
    """The frames that a same-step env's step led to: where an episode ended, its last and not the next's
    first. ``final_obs`` is Gymnasium's array of single observations, or a batched observation.

    Raises:
        WmplayError: if the env does not give them.
    """
    if "final_obs" not in info:
        raise WmplayError("the env's autoreset mode is same-step, but its info has no 'final_obs'")
    final = info["final_obs"]
    arrived = {key: value.copy() for key, value in now.items()}
    for key in spaces:
        if isinstance(final, np.ndarray) and final.dtype == object:
            arrived[key][ended] = [_named(each)[key] for each in final[ended]]
        else:
            arrived[key][ended] = _named(final)[key][ended]
    return arrived


def _named(observation: Any) -> Mapping[str, Any]:
    return observation if isinstance(observation, Mapping) else {"observation": observation}
