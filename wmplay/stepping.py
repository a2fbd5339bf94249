"""Vector envs step by step: frames by key, from episode to episode, and all of it as tensors."""

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


class Step(NamedTuple):
    """One step of N slots. Where they were only reset (``stepped``), the rest says nothing."""

    arrived: Frames  # {key: [N, ...]}: what the action led to, also where an episode ended
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool: by the env, or cut
    over: Array  # [N] bool: the episode ended, or was cut
    stepped: Array  # [N] bool: False where the env began the next episode instead


class Stepper:
    """A vector env whose slots go from episode to episode, in whichever way it begins the next one.

    Gymnasium has three (``metadata["autoreset_mode"]``):

    - same-step: the step that ends an episode returns the next one's first frame, and the last frame in
      ``info["final_obs"]``;
    - next-step: the step that ends an episode returns its last frame; the step after that ignores its
      action and returns the next one's first frame, so it is in no trajectory;
    - disabled: nothing happens until ``reset``, with a ``reset_mask`` for the rows that ended.

    Args:
        env: of N slots; or ``acting.BatchOfOne``.

    Raises:
        SpaceError: for observations that are not made of arrays.
        WmplayError: if the env does not say its autoreset mode.
    """

    frames: Frames  # {key: [N, ...]}: what to act on next
    first: Array  # [N] bool: rows in which an episode has just begun

    def __init__(self, env: Any) -> None:
        self.env = env
        self.mode = autoreset_mode(env)
        self.num_envs: int = env.num_envs
        self.spaces = frame_spaces(env.single_observation_space)

    def reset(self, seed: int) -> None:
        """Episodes begin in all slots."""
        self.frames = frames_of(self.env.reset(seed=seed)[0], self.spaces)
        self.first = np.ones(self.num_envs, np.bool_)
        self._resetting = np.zeros(self.num_envs, np.bool_)  # next-step: to be reset only

    def step(self, action: Array, last: Array) -> Step:
        """One step.

        Args:
            action: of each slot, as the env takes it.
            last: [N] bool: rows whose episode is cut, as truncated, if this step does not end it. Where the
                env resets itself, the next episode goes on from the same state.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.frames = arrived = frames_of(observation, self.spaces)
        stepped = ~self._resetting
        ended = np.asarray(terminated | truncated, np.bool_)
        cut = stepped & ~ended & last
        self.first = over = ended | cut
        if self.mode is AutoresetMode.NEXT_STEP:
            self.first, self._resetting = self._resetting | cut, ended
        elif self.mode is AutoresetMode.SAME_STEP and ended.any():
            arrived = with_final(arrived, ended, info, self.spaces)
        elif self.mode is AutoresetMode.DISABLED and over.any():
            self.frames = self._begun(over, arrived)
        return Step(arrived, reward, terminated, truncated | cut, over, stepped)

    def _begun(self, rows: Array, frames: Frames) -> Frames:
        """The frames after a reset of some rows."""
        fresh = frames_of(self.env.reset(options={"reset_mask": rows.copy()})[0], self.spaces)
        frames = {key: value.copy() for key, value in frames.items()}
        for key, value in fresh.items():
            frames[key][rows] = value[rows]
        return frames


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
        # copied, as frames are: envs may write into their arrays again
        outcome = (np.array(reward, np.float32), np.array(terminated), np.array(truncated))
        following = self._tensors(now)
        return Transition(
            self._tensors(arrived) if ended.any() else following,
            following,
            *(torch.from_numpy(each).to(self.device) for each in outcome),
        )

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
