"""Validation of all values that environments return, against their spaces, at every reset and step.

A mistake is reported in one line that names the env, its method, the step and the problem, before the value
is stored or fitted on. Valid observations are passed on as they are. An env may write into its arrays again,
so whoever keeps an observation beyond the env's next call copies it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.contracts import observation_spaces
from wmplay.errors import ConfigError, ShapeError, SpaceError, WmplayError
from wmplay.system.arrays import Array, are_flags, first_not_finite
from wmplay.vector.frames import (
    Frames,
    Limits,
    as_array,
    by_key,
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
Path: TypeAlias = tuple[str, ...]  # keys that lead to a part of an observation

OURS = "wmplay.envs."  # environments from there answer as they should, with new arrays


class Step(NamedTuple):
    """The validated values that a vector env of N slots returned from a step."""

    frames: Frames  # {key: [N, ...]}, until the env's next call
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    info: Mapping[str, Any]


class Held(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A single env whose returned values are validated, in the dtypes of its spaces.

    ``BatchAnswers`` validates that floats are finite and within bounds, for all envs at once. The last
    observation of an episode is a copy: a vector env holds it while it resets the env.

    ``reset`` and ``step`` raise a WmplayError that names the env, the method and the step.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._name = name_of(env)
        self._counts = _counts(env.observation_space)
        self._episode = self._step = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin an episode."""
        if not self._episode:
            _check_methods(self.env, self._name)
        self._episode, self._step = self._episode + 1, 0
        answer = self.env.reset(seed=seed, options=options)
        observation, info = _parts(answer, "reset", self._name)
        try:
            return _held(observation, self.observation_space, self._counts), _info(info)
        except WmplayError as slip:
            raise self._placed("reset", slip) from None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        self._step += 1
        observation, reward, terminated, truncated, info = _parts(self.env.step(action), "step", self._name)
        try:
            seen = _held(observation, self.observation_space, self._counts)
            flags = _flag("terminated", terminated), _flag("truncated", truncated)
            return deepcopy(seen) if any(flags) else seen, _reward(reward), *flags, _info(info)
        except WmplayError as slip:
            raise self._placed("step", slip) from None

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The spec of the wrapped env, from which Gymnasium can make the env again."""
        return self.env.spec

    def _placed(self, method: str, slip: WmplayError) -> WmplayError:
        step = f", step {self._step}" if self._step else ""
        return _again(slip, f"{self._name}.{method} (episode {self._episode}{step})")


class BatchOfOne(VectorEnv[Any, Any, Any]):
    """A single env, validated, as a vector env of one slot that never resets itself."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs, self.envs = 1, [held(env)]
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.action_space = batch_space(env.action_space, 1)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the only slot, whatever the mask in the options is."""
        own = seed[0] if isinstance(seed, Sequence) else seed
        observation, info = self.envs[0].reset(seed=own, options=None)
        return _batched(observation), info

    def step(self, action: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """Take one step, with arrays of one row."""
        observation, reward, terminated, truncated, info = self.envs[0].step(action[0])
        flags = np.array([terminated]), np.array([truncated])
        return _batched(observation), np.array([reward]), *flags, info


class BatchAnswers:
    """A validator of a vector env's returned values: keys, shapes, kinds of number, values within bounds.

    Args:
        env: of N slots, or ``BatchOfOne``. The envs of a ``SyncVectorEnv`` are wrapped in ``Held``, in place.

    Raises:
        SpaceError: for observations that are not made of arrays.
    """

    def __init__(self, env: Any) -> None:
        inner = env.unwrapped
        if isinstance(inner, SyncVectorEnv):
            inner.envs = [held(each) for each in inner.envs]
        single = inner.envs[0] if isinstance(inner, SyncVectorEnv | BatchOfOne) else inner
        self.name, self._slots = name_of(single), env.num_envs
        self.spaces = observation_spaces(env.single_observation_space)
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
                raise ConfigError(f"info is a {type(info).__name__}", expected="a dict")
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
            raise SpaceError(f"reward is {rewards.dtype}", expected="real numbers")
        if not math.isfinite(np.add.reduce(rewards)) and (bad := first_not_finite(rewards)):
            raise SpaceError(f"reward is {bad[1]} ({self._where(bad[0])})", expected="a finite number")
        return rewards

    def _flags(self, name: str, flags: Any) -> Array:
        array = np.asarray(flags)
        if array.shape != (self._slots,):
            raise ShapeError(name, array.shape, (self._slots,))
        if array.dtype != np.bool_ and not are_flags(array):  # are_flags is slow
            raise SpaceError(f"{name} is {array.tolist()}", expected="booleans")
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
    if spec is not None:
        return str(spec.id)
    return type(env.unwrapped if isinstance(env, gymnasium.Env | VectorEnv) else env).__name__


def _batched(observation: Any) -> Any:
    """Return an observation as a batch of one."""
    if isinstance(observation, (dict, Mapping)):  # dict first, which is faster
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _parts(answer: Any, method: str, name: str) -> tuple[Any, ...]:
    returns = RETURNS[method]
    if not isinstance(answer, tuple) or len(answer) != len(returns):
        given = f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise ConfigError(f"{name}.{method} returned {given}", got=given, expected=f"({', '.join(returns)})")
    return answer


def _check_methods(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Raise ConfigError unless reset and step exist, and reset takes a seed and options."""
    own, none = type(env.unwrapped), gymnasium.Env
    for method, missing in (("reset", own.reset is none.reset), ("step", own.step is none.step)):
        if missing:
            raise ConfigError(f"{name} has no {method}(), as every env needs it", advice="see docs/env.md")
    layer: Any = env
    while layer is not None:
        known = inspect.signature(layer.reset).parameters
        anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
        unknown = [f"'{key}'" for key in ("seed", "options") if key not in known and not anything]
        if unknown:
            raise ConfigError(
                f"{name}.reset takes no {' and no '.join(unknown)}",
                got=unknown,
                advice="write it as reset(self, *, seed=None, options=None)",
            )
        layer = layer.env if isinstance(layer, gymnasium.Wrapper) else None


def _counts(space: Space[Any], path: Path = ()) -> dict[Path, Limits]:
    """Return the bounds of an observation's whole numbers that count or choose, by their place in it."""
    if isinstance(space, Dict):
        parts = (_counts(inner, (*path, key)) for key, inner in space.spaces.items())
        return {place: bounds for part in parts for place, bounds in part.items()}
    bounds = limits(space) if isinstance(space, (Discrete, MultiDiscrete, MultiBinary)) else None
    return {} if bounds is None else {path: bounds}


def _held(seen: Any, space: Space[Any], counts: Mapping[Path, Limits], path: Path = ()) -> Any:
    """Return an observation in the dtypes of its space; ``counts`` are the bounds that are validated."""
    if isinstance(space, Dict):
        named = by_key(seen, space.spaces)
        if len(named) != len(space.spaces):
            raise other_keys(named, space.spaces)
        return {key: _held(named[key], inner, counts, (*path, key)) for key, inner in space.spaces.items()}
    if space.shape is None or space.dtype is None:
        return seen  # the user of the space refuses it
    key = path[-1] if path else ""
    array = as_array(seen, space, key)
    bounds = counts.get(path)
    if bounds is not None and not bounds.hold(array):
        raise SpaceError(f"{observation_name(key)} {bounds.slip(array, space)}")
    return array


def _reward(reward: Any) -> float:
    if isinstance(reward, float) and math.isfinite(reward):  # np.float64 is a float, too
        return float(reward)
    number = np.asarray(reward)
    if number.dtype.kind not in "biuf":
        raise SpaceError(f"reward is {reward!r}", expected="a finite number")
    if number.shape != ():
        raise ShapeError("reward", number.shape, (), "return float(reward)")
    if not np.isfinite(number):
        raise SpaceError(f"reward is {reward}", expected="a finite number")
    return float(number)


def _flag(name: str, flag: Any) -> bool:
    if isinstance(flag, bool | np.bool_):
        return bool(flag)
    array = np.asarray(flag)
    if array.shape != () or not are_flags(array):
        raise SpaceError(f"{name} is {flag!r}", expected="True or False")
    return bool(array)


def _info(info: Any) -> dict[str, Any]:
    if not isinstance(info, Mapping):
        raise ConfigError(f"info is a {type(info).__name__}", expected="a dict")
    return {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in info.items()}


def _again(slip: WmplayError, where: str) -> WmplayError:
    """Return the same error with its place before the message."""
    again = type(slip).__new__(type(slip))
    again.args = (f"{where}: {slip}",)
    vars(again).update(vars(slip), problem=f"{where}: {slip.problem}")
    return again
