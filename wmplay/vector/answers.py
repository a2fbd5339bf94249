"""Validation of all values that environments return, against their spaces, at every reset and step.

A mistake is reported in one line that names the env, its method, the step and the problem, before the value
is stored or fitted on. Valid values are passed on as copies, because an env may write into its arrays again.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wmplay.errors import ConfigError, ShapeError, SpaceError, WmplayError
from wmplay.system.arrays import Array, are_flags, first_not_finite
from wmplay.vector.frames import (
    Frames,
    as_array,
    by_key,
    frame_spaces,
    frames_of,
    limits,
    observation_name,
    other_keys,
    with_final,
)

RETURNS = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}
OURS = "wmplay.envs."  # environments from there answer as they should, with new arrays


class Step(NamedTuple):
    """The validated values that a vector env of N slots returned from a step."""

    frames: Frames  # {key: [N, ...]}, copies
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    info: Mapping[str, Any]


class Held(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A single env whose returned values are validated and copied, in the dtypes of its spaces.

    ``BatchAnswers`` validates that floats are finite and within bounds, for all envs at once.

    ``reset`` and ``step`` raise a WmplayError that names the env, the method and the step.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._name = name_of(env)
        self._episode = self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        if not self._episode:
            _check_methods(self.env, self._name)
        self._episode, self._step = self._episode + 1, 0
        answer = self.env.reset(seed=seed, options=options)
        observation, info = _parts(answer, "reset", self._name)
        try:
            return _held(observation, self.observation_space), _info(info)
        except WmplayError as slip:
            raise self._placed("reset", slip) from None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        self._step += 1
        observation, reward, terminated, truncated, info = _parts(self.env.step(action), "step", self._name)
        try:
            return (
                _held(observation, self.observation_space),
                _reward(reward),
                _flag("terminated", terminated),
                _flag("truncated", truncated),
                _info(info),
            )
        except WmplayError as slip:
            raise self._placed("step", slip) from None

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The spec of the wrapped env, from which Gymnasium can make the env again."""
        return self.env.spec

    def _placed(self, method: str, slip: WmplayError) -> WmplayError:
        step = f", step {self._step}" if self._step else ""
        return _again(slip, f"{self._name}.{method} (episode {self._episode}{step})")


class BatchAnswers:
    """A validator of a vector env's returned values: keys, shapes, kinds of number, values within bounds.

    Args:
        env: of N slots, or ``BatchOfOne``. The envs of a ``SyncVectorEnv`` are wrapped in ``Held``, in place.

    Raises:
        SpaceError: for observations that are not made of arrays.
    """

    def __init__(self, env: Any) -> None:
        inner = getattr(env, "unwrapped", env)
        if isinstance(inner, SyncVectorEnv):
            inner.envs = [held(each) for each in inner.envs]
        self.name, self._slots = _name_of_batch(inner), env.num_envs
        self.spaces = frame_spaces(env.single_observation_space)
        self._limits = {key: limits(space) for key, space in self.spaces.items()}
        self._steps = 0  # each of all slots at once
        self._episode = np.zeros(self._slots, np.int64)
        # next-step mode has one step between two episodes that only resets
        self._idle = int(env.metadata.get("autoreset_mode") is AutoresetMode.NEXT_STEP)
        self._over = np.zeros(self._slots, np.bool_)  # the episode ended in the last step
        self._begun = np.zeros(self._slots, np.int64)  # number of steps before each slot's episode

    def reset(self, answer: Any, rows: Array | None = None) -> Frames:
        """Return the frames {key: [N, ...]} of a reset of all slots, or of the slots in a mask [N]."""
        observation, _ = _parts(answer, "reset", self.name)
        begun = np.ones(self._slots, np.bool_) if rows is None else rows
        self._begun[begun] = self._steps
        self._episode[begun] += 1
        self._over = self._over & ~begun
        return self._frames(observation, "reset")

    def step(self, answer: Any) -> Step:
        """Return the parts of a step's returned values, validated."""
        observation, reward, terminated, truncated, info = _parts(answer, "step", self.name)
        if np.count_nonzero(self._over):  # faster than any()
            self._begun[self._over] = self._steps + self._idle
            self._episode[self._over] += 1
        self._steps += 1
        frames = self._frames(observation, "step")
        try:
            flags = [self._flags(*each) for each in (("terminated", terminated), ("truncated", truncated))]
            step = Step(frames, self._rewards(reward), flags[0], flags[1], info)
            if not isinstance(info, Mapping):
                raise ConfigError(f"info is a {type(info).__name__}, expected a dict")
        except WmplayError as slip:
            raise _again(slip, f"{self.name}.step") from None
        self._over = flags[0] | flags[1]
        return step

    def final(self, now: Frames, ended: Array, info: Mapping[str, Any]) -> Frames:
        """Return the frames that the last step of a same-step env led to, as ``with_final`` does."""
        try:
            arrived = with_final(now, ended, info, self.spaces)
        except WmplayError as slip:
            raise _again(slip, f"{self.name}.step") from None
        self._check_values(arrived, "step")
        return arrived

    def _frames(self, observation: Any, method: str) -> Frames:
        try:
            frames = frames_of(observation, self.spaces, self._slots)
        except WmplayError as slip:
            raise _again(slip, f"{self.name}.{method}") from None
        self._check_values(frames, method)
        return frames

    def _check_values(self, frames: Frames, method: str) -> None:
        for key, bounds in self._limits.items():
            if bounds is not None and not bounds.hold(frames[key]):
                row = bounds.first_outside(frames[key])
                what = f"{observation_name(key)} {bounds.slip(frames[key][row], self.spaces[key])}"
                raise SpaceError(f"{self.name}.{method} ({self._where(row)}): {what}")

    def _rewards(self, reward: Any) -> Array:
        rewards = np.array(reward)
        if rewards.shape != (self._slots,):
            raise ShapeError("reward", rewards.shape, (self._slots,))
        if rewards.dtype.kind not in "biuf":
            raise SpaceError(f"reward is {rewards.dtype}, expected real numbers")
        if not math.isfinite(np.add.reduce(rewards)) and (bad := first_not_finite(rewards)):
            raise SpaceError(f"reward is {bad[1]} ({self._where(bad[0])}), expected a finite number")
        return rewards

    def _flags(self, name: str, flags: Any) -> Array:
        array = np.asarray(flags)
        if array.shape != (self._slots,):
            raise ShapeError(name, array.shape, (self._slots,))
        if array.dtype != np.bool_ and not are_flags(array):  # are_flags is slow
            raise SpaceError(f"{name} is {array.tolist()}, expected booleans")
        return array.astype(np.bool_)

    def _where(self, row: int) -> str:
        slot = f"env {row}, " if self._slots > 1 else ""
        return f"{slot}episode {self._episode[row]}, step {self._steps - self._begun[row]}"


def held(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return an env wrapped in ``Held``, unless it is wrapped already or one of ours."""
    trusted = isinstance(env, Held) or type(env).__module__.startswith(OURS)
    return env if trusted or not isinstance(env, gymnasium.Env) else Held(env)


def name_of(env: Any) -> str:
    """Return the name of an env for messages: its id, or the name of its class."""
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(getattr(env, "unwrapped", env)).__name__


def _parts(answer: Any, method: str, name: str) -> tuple[Any, ...]:
    returns = RETURNS[method]
    if not isinstance(answer, tuple) or len(answer) != len(returns):
        given = f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise ConfigError(f"{name}.{method} returned {given}, expected ({', '.join(returns)})")
    return answer


def _check_methods(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Raise ConfigError unless reset and step exist, and reset takes a seed and options."""
    for method in RETURNS:
        if getattr(type(env.unwrapped), method) is getattr(gymnasium.Env, method):
            raise ConfigError(f"{name} has no {method}(), as every env needs it: see docs/env.md")
    layer: Any = env
    while layer is not None:
        known = inspect.signature(layer.reset).parameters
        anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
        missing = [f"'{key}'" for key in ("seed", "options") if key not in known and not anything]
        if missing:
            raise ConfigError(
                f"{name}.reset takes no {' and no '.join(missing)}: write it as "
                "reset(self, *, seed=None, options=None)"
            )
        layer = layer.env if isinstance(layer, gymnasium.Wrapper) else None


def _held(seen: Any, space: Space[Any], key: str = "") -> Any:
    """Return a copy of an observation in its space; values of floats are not compared with bounds."""
    if isinstance(space, Dict):
        named = by_key(seen, space.spaces)
        if len(named) != len(space.spaces):
            raise other_keys(named, space.spaces)
        return {part: _held(named[part], inner, part) for part, inner in space.spaces.items()}
    if space.shape is None or space.dtype is None:
        return seen  # the user of the space refuses it
    array = as_array(seen, space, key)
    if isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        bounds = limits(space)
        if bounds is not None and not bounds.hold(array):
            raise SpaceError(f"{observation_name(key)} {bounds.slip(array, space)}")
    return array


def _reward(reward: Any) -> float:
    if isinstance(reward, float) and math.isfinite(reward):  # np.float64 is a float, too
        return float(reward)
    number = np.asarray(reward)
    if number.dtype.kind not in "biuf":
        raise SpaceError(f"reward is {reward!r}, expected a finite number")
    if number.shape != ():
        raise ShapeError("reward", number.shape, (), "return float(reward)")
    if not np.isfinite(number):
        raise SpaceError(f"reward is {reward}, expected a finite number")
    return float(number)


def _flag(name: str, flag: Any) -> bool:
    if isinstance(flag, bool | np.bool_):
        return bool(flag)
    array = np.asarray(flag)
    if array.shape != () or not are_flags(array):
        raise SpaceError(f"{name} is {flag!r}, expected True or False")
    return bool(array)


def _info(info: Any) -> dict[str, Any]:
    if not isinstance(info, Mapping):
        raise ConfigError(f"info is a {type(info).__name__}, expected a dict")
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in info.items()}


def _name_of_batch(inner: Any) -> str:
    if isinstance(inner, SyncVectorEnv):
        return name_of(inner.envs[0])
    return name_of(getattr(inner, "env", inner))


def _again(slip: WmplayError, where: str) -> WmplayError:
    """Return the same error with its place before the message."""
    again = type(slip).__new__(type(slip))
    again.args = (f"{where}: {slip}",)
    return again
