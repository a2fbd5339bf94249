"""Vector envs step by step: frames by key on arrays (``Stepper``) or tensors (``TensorEnv``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from wmplay.contracts import Array
from wmplay.errors import ConfigError, WmplayError
from wmplay.vector.answers import BatchAnswers
from wmplay.vector.frames import Frames, copied, recorded_infos


class Step(NamedTuple):
    """One step of N slots. Rows that were only reset (``stepped`` is False) have no meaning in the other
    fields."""

    arrived: Frames  # {key: [N, ...]}: where the action led to; valid until the env's next call
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool: by the env, or because ``last`` was set
    over: Array  # [N] bool: terminated or truncated
    stepped: Array  # [N] bool: False where the env began the next episode instead
    info: Mapping[str, Array]  # {name: [N]} of the infos that trajectories keep


class Stepper:
    """A vector env whose slots go from episode to episode, in any of Gymnasium's three autoreset modes.

    The mode (``metadata["autoreset_mode"]``) is one of:

    - same-step: the step that ends an episode returns the next one's first frame, and the last frame in
      ``info["final_obs"]``;
    - next-step: the step that ends an episode returns its last frame; the step after that ignores its action
      and returns the next one's first frame, so it is in no trajectory;
    - disabled: nothing happens until ``reset``, with a ``reset_mask`` for the rows that ended.

    Args:
        env: of N slots, or ``BatchOfOne``.

    Raises:
        SpaceError: for observations that are not made of arrays.
        WmplayError: if the env does not declare its autoreset mode; from ``reset`` and ``step``, if a
            returned value differs from the env's spaces.
    """

    frames: Frames  # {key: [N, ...]}: the frames to act on next, until the env's next call
    first: Array  # [N] bool: rows in which an episode has just begun

    def __init__(self, env: Any) -> None:
        self.env = env
        self.mode = autoreset_mode(env)
        self.num_envs: int = env.num_envs
        self._answers = BatchAnswers(env)
        self.spaces, self.name = self._answers.spaces, self._answers.name

    def reset(self, seed: int | Sequence[int]) -> None:
        """Begin episodes in all slots, from one seed or from one for each slot."""
        self.frames = self._answers.reset(self.env.reset(seed=seed))
        self.first = np.ones(self.num_envs, np.bool_)
        self._resetting = np.zeros(self.num_envs, np.bool_)  # next-step: the next step only resets

    def step(self, action: Array, last: Array) -> Step:
        """Take one step.

        Args:
            action: of each slot, in the form that the env takes.
            last: [N] bool: rows whose episode is truncated after this step unless the step ends it. In an env
                that resets itself, the next episode then continues from the same state.
        """
        arrived, reward, terminated, truncated, info = self._answers.step(self.env.step(action))
        self.frames = arrived
        stepped = ~self._resetting
        ended = terminated | truncated
        cut = stepped & ~ended & last
        self.first = over = ended | cut
        if self.mode is AutoresetMode.NEXT_STEP:
            self.first, self._resetting = self._resetting | cut, ended
        elif self.mode is AutoresetMode.SAME_STEP and np.count_nonzero(ended):
            arrived = self._answers.final(arrived, ended, info)
        elif self.mode is AutoresetMode.DISABLED and np.count_nonzero(over):
            arrived = copied(arrived)  # the reset may write into it
            self.frames = self._begun(over, arrived)
        infos = recorded_infos(info, ended, self.num_envs)
        return Step(arrived, reward, terminated, truncated | cut, over, stepped, infos)

    def _begun(self, rows: Array, frames: Frames) -> Frames:
        """Return the frames after a reset of some rows."""
        fresh = self._answers.reset(self.env.reset(options={"reset_mask": rows.copy()}), rows)
        frames = copied(frames)
        for key, value in fresh.items():
            frames[key][rows] = value[rows]
        return frames


class Transition(NamedTuple):
    """One step of N envs, which begin the next episode in the step that ends one."""

    arrived: Mapping[str, Tensor]  # {key: [N, ...]}: where the action led to, also at an episode's end
    observation: Mapping[str, Tensor]  # {key: [N, ...]}: the frames to act on next
    reward: Tensor  # [N] float32
    terminated: Tensor  # [N] bool
    truncated: Tensor  # [N] bool


@runtime_checkable
class _Native(Protocol):
    def reset_tensors(self, seed: int | None = None) -> Mapping[str, Tensor]: ...

    def step_tensors(self, action: Tensor) -> Transition: ...


class TensorEnv:
    """A vector env on tensors: a learned env on its own device, any other env through numpy.

    Args:
        env: of N slots, in same-step mode.
        device: of observations, rewards and flags.

    Raises:
        ConfigError: for another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], device: torch.device) -> None:
        if autoreset_mode(env) is not AutoresetMode.SAME_STEP:
            raise ConfigError(
                "to practise in, a vector env must reset itself", advice="make it with autoreset='same_step'"
            )
        self.env, self.device = env, device
        self.num_envs = env.num_envs
        self._answers = BatchAnswers(env)
        self.spaces = self._answers.spaces
        self._dtype = env.single_action_space.dtype
        self._native = env if isinstance(env, _Native) else None

    def reset(self, seed: int) -> Mapping[str, Tensor]:
        """Begin episodes in all slots and return their first frames {key: [N, ...]}."""
        if self._native is not None:
            return self._native.reset_tensors(seed)
        return self._tensors(self._answers.reset(self.env.reset(seed=seed)))

    def step(self, action: Tensor) -> Transition:
        """Take one step under action [N, A] (within the space's bounds), or [N] int64."""
        if self._native is not None:
            return self._native.step_tensors(action)
        executed = action.cpu().numpy().astype(self._dtype, copy=False)
        now, reward, terminated, truncated, info = self._answers.step(self.env.step(executed))
        ended = terminated | truncated
        arrived = self._answers.final(now, ended, info) if ended.any() else now
        following = self._tensors(now)
        return Transition(
            self._tensors(arrived) if ended.any() else following,
            following,
            *(
                torch.tensor(each, device=self.device)
                for each in (reward.astype(np.float32), terminated, truncated)
            ),
        )

    def _tensors(self, frames: Frames) -> dict[str, Tensor]:
        return {key: torch.tensor(value, device=self.device) for key, value in frames.items()}  # copies


def autoreset_mode(env: Any) -> AutoresetMode:
    """Return the autoreset mode that a vector env declares.

    Raises:
        WmplayError: if it declares none.
    """
    mode = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise WmplayError(
            f"{type(env).__name__}.metadata['autoreset_mode'] is {mode!r}: expected "
            "a gymnasium.vector.AutoresetMode, so that episodes are cut in the right place",
            got=mode,
        ) from error
