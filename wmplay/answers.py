"""What environments answer, held to what their spaces say, wherever a step is taken.

A slip is told in one line that names the env, its method, the step and what was wrong with it, before it is
written down or a model is fitted on it. What goes on is a copy: an env may write into its arrays again.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space
from gymnasium.vector import SyncVectorEnv

from wmplay.arrays import Array, are_flags, first_not_finite
from wmplay.errors import ConfigError, ShapeError, SpaceError, WmplayError

Frames: TypeAlias = dict[str, Array]

# How far outside of its bounds a float may be, as a part of the larger one: 80 times the rounding of float32.
TOLERANCE = 1e-5
RETURNS = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}
OURS = "wmplay.envs."  # environments from there answer as they should, with new arrays


class Step(NamedTuple):
    """What a vector env of N slots answers to a step."""

    frames: Frames  # {key: [N, ...]}, copies
    reward: Array  # [N]
    terminated: Array  # [N] bool
    truncated: Array  # [N] bool
    info: Mapping[str, Any]


class Held(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A single env that is held to its spaces; what it returns is a copy, in their dtypes.

    Whether floats are finite and within their bounds is left to ``BatchAnswers``, which looks at all envs at
    once.

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
        """One step."""
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
        """That of the env itself, which can be made again by it."""
        return self.env.spec

    def _placed(self, method: str, slip: WmplayError) -> WmplayError:
        return _again(slip, f"{self._name}.{method} (episode {self._episode}, step {self._step})")


class BatchAnswers:
    """The answers of a vector env, held to its spaces: keys, shapes, kinds of number, values within bounds.

    Args:
        env: of N slots; or ``acting.BatchOfOne``. Envs of a ``SyncVectorEnv`` become ``Held`` ones in it.

    Raises:
        SpaceError: for observations that are not made of arrays.
    """

    def __init__(self, env: Any) -> None:
        inner = getattr(env, "unwrapped", env)
        if isinstance(inner, SyncVectorEnv):
            inner.envs = [held(each) for each in inner.envs]
        self._name, self._slots = _name_of_batch(inner), env.num_envs
        self.spaces = frame_spaces(env.single_observation_space)
        self._limits = {key: limits(space) for key, space in self.spaces.items()}
        self._episode, self._step = np.zeros(self._slots, np.int64), np.zeros(self._slots, np.int64)

    def reset(self, answer: Any, rows: Array | None = None) -> Frames:
        """The frames {key: [N, ...]} of a reset of all slots, or of those in a mask [N]."""
        observation, _ = _parts(answer, "reset", self._name)
        begun = np.ones(self._slots, np.bool_) if rows is None else rows
        self._step[begun] = 0
        self._episode[begun] += 1
        return self._frames(observation, "reset")

    def step(self, answer: Any) -> Step:
        """The parts of what ``step`` answered."""
        observation, reward, terminated, truncated, info = _parts(answer, "step", self._name)
        self._step += 1
        frames = self._frames(observation, "step")
        try:
            flags = [self._flags(*each) for each in (("terminated", terminated), ("truncated", truncated))]
            step = Step(frames, self._rewards(reward), flags[0], flags[1], info)
            if not isinstance(info, Mapping):
                raise ConfigError(f"info is a {type(info).__name__}, expected a dict")
        except WmplayError as slip:
            raise _again(slip, f"{self._name}.step") from None
        ended = flags[0] | flags[1]
        self._step *= ~ended
        self._episode += ended
        return step

    def final(self, now: Frames, ended: Array, info: Mapping[str, Any]) -> Frames:
        """The frames that a same-step env's step led to, as ``with_final`` has them."""
        try:
            arrived = with_final(now, ended, info, self.spaces)
        except WmplayError as slip:
            raise _again(slip, f"{self._name}.step") from None
        self._check_values(arrived, "step")
        return arrived

    def _frames(self, observation: Any, method: str) -> Frames:
        try:
            frames = frames_of(observation, self.spaces, self._slots)
        except WmplayError as slip:
            raise _again(slip, f"{self._name}.{method}") from None
        self._check_values(frames, method)
        return frames

    def _check_values(self, frames: Frames, method: str) -> None:
        for key, bounds in self._limits.items():
            if bounds is not None and not bounds.hold(frames[key]):
                row = bounds.first_outside(frames[key])
                what = f"{_observation(key)} {bounds.slip(frames[key][row], self.spaces[key])}"
                raise SpaceError(f"{self._name}.{method} ({self._where(row)}): {what}")

    def _rewards(self, reward: Any) -> Array:
        rewards = np.array(reward)
        if rewards.shape != (self._slots,):
            raise ShapeError("reward", rewards.shape, (self._slots,))
        if rewards.dtype.kind not in "biuf":
            raise SpaceError(f"reward is {rewards.dtype}, expected real numbers")
        if not math.isfinite(rewards.sum()) and (bad := first_not_finite(rewards)):
            raise SpaceError(f"reward is {bad[1]} ({self._where(bad[0])}), expected a finite number")
        return rewards

    def _flags(self, name: str, flags: Any) -> Array:
        array = np.asarray(flags)
        if array.shape != (self._slots,):
            raise ShapeError(name, array.shape, (self._slots,))
        if array.dtype != np.bool_ and not are_flags(array):  # which is slow
            raise SpaceError(f"{name} is {array.tolist()}, expected booleans")
        return array.astype(np.bool_)

    def _where(self, row: int) -> str:
        slot = f"env {row}, " if self._slots > 1 else ""
        return f"{slot}episode {self._episode[row]}, step {self._step[row]}"


class Limits(NamedTuple):
    """What values of a space lie between, in its dtype; floats have their tolerance, and are finite."""

    low: Array | float  # [*shape], or a number where all are equal
    high: Array | float

    def hold(self, values: Array) -> bool:
        """Return whether all values [..., *shape] are within; NaN is not."""
        if isinstance(self.low, np.ndarray) or isinstance(self.high, np.ndarray):
            return bool(self._within(values).all())
        # Passes without an array in between; they give NaN if one value is. What is unsigned needs one only.
        if not np.maximum.reduce(values, None).item() <= self.high:
            return False
        return (self.low == 0 and values.dtype.kind == "u") or np.minimum.reduce(
            values, None
        ).item() >= self.low

    def first_outside(self, values: Array) -> int:
        """Return the first row of values [N, *shape] that are not all within."""
        return int(np.argwhere(~self._within(values))[0][0])

    def slip(self, value: Array, space: Space[Any]) -> str:
        """Return what is wrong with a value [*shape]: "is 3 at [1], outside of 0 to 1"."""
        index = tuple(np.argwhere(~self._within(value))[0])
        at = f" at {[int(i) for i in index]}" if index else ""
        if not np.isfinite(value[index]):
            return f"is {value[index]}{at}, expected finite numbers"
        low, high = (np.broadcast_to(bound, value.shape)[index] for bound in _bounds(space))
        return f"is {value[index]:g}{at}, outside of {low:g} to {high:g}: clip it, or widen its space"

    def _within(self, values: Array) -> Array:
        return (values >= self.low) & (values <= self.high)


def limits(space: Space[Any]) -> Limits | None:
    """Return what values of a space lie between; None where its dtype says it all."""
    low, high = _bounds(space)
    assert space.dtype is not None
    if space.dtype.kind == "f":
        most = np.finfo(space.dtype).max
        bounded = [np.where(np.isfinite(bound), np.abs(bound), 0) for bound in (low, high)]
        scale = np.maximum(*bounded)
        slack = TOLERANCE * np.where(scale > 0, scale, 1)
        with np.errstate(over="ignore"):
            low, high = np.clip(low - slack, -most, most), np.clip(high + slack, -most, most)
    elif space.dtype.kind == "b" or (
        (low <= np.iinfo(space.dtype).min).all() and (high >= np.iinfo(space.dtype).max).all()
    ):
        return None
    return Limits(_simple(low, space.dtype), _simple(high, space.dtype))


def held(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return a ``Held`` env, but for what is one already, or answers as it should."""
    trusted = isinstance(env, Held) or type(env).__module__.startswith(OURS)
    return env if trusted or not isinstance(env, gymnasium.Env) else Held(env)


def name_of(env: Any) -> str:
    """Return what a person knows an env by: its id, or the name of its class."""
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(getattr(env, "unwrapped", env)).__name__


def frame_spaces(space: Space[Any]) -> dict[str, Space[Any]]:
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


def frames_of(observation: Any, spaces: Mapping[str, Space[Any]], slots: int) -> Frames:
    """{key: [N, ...]} of a batched observation, copied: envs may write into their arrays again.

    Raises:
        SpaceError, ShapeError: for keys, kinds of number and shapes that are not those of the spaces.
    """
    named = _named(observation, spaces)
    return {key: _array(named[key], space, key, (slots,)) for key, space in spaces.items()}


def with_final(
    now: Frames, ended: Array, info: Mapping[str, Any], spaces: Mapping[str, Space[Any]]
) -> Frames:
    """The frames that a same-step env's step led to: where an episode ended, its last and not the next's
    first. ``final_obs`` is Gymnasium's array of single observations, or a batched observation.

    Raises:
        WmplayError: if the env does not give them, or not as its spaces say.
    """
    if "final_obs" not in info:
        raise WmplayError("the env's autoreset mode is same-step, but its info has no 'final_obs'")
    final, rows = info["final_obs"], np.flatnonzero(ended)
    arrived = {key: value.copy() for key, value in now.items()}
    if isinstance(final, np.ndarray) and final.dtype == object:
        for row in rows:
            named = _named(final[row], spaces)
            for key, space in spaces.items():
                arrived[key][row] = _array(named[key], space, key)
    else:
        for key, value in frames_of(final, spaces, len(ended)).items():
            arrived[key][rows] = value[rows]
    return arrived


def _bounds(space: Space[Any]) -> tuple[Array, Array]:
    """The lowest and highest value [*shape] or [], as float64 (or int64)."""
    if isinstance(space, Box):
        wide = np.float64 if space.dtype.kind == "f" else space.dtype
        return space.low.astype(wide), space.high.astype(wide)
    if isinstance(space, Discrete):
        return np.asarray(space.start), np.asarray(space.start + space.n - 1)
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, MultiBinary):
        return np.asarray(0), np.asarray(1)
    assert space.dtype is not None
    limit = np.inf if space.dtype.kind == "f" else np.iinfo(space.dtype).max
    return np.asarray(-limit), np.asarray(limit)


def _simple(bound: Array, dtype: Any) -> Array | float:
    """A bound in a dtype; of equal ones a single one, with which comparing is quicker."""
    bound = np.asarray(bound).astype(dtype)
    return bound.ravel()[0].item() if bound.size and (bound == bound.ravel()[0]).all() else bound


def _parts(answer: Any, method: str, name: str) -> tuple[Any, ...]:
    returns = RETURNS[method]
    if not isinstance(answer, tuple) or len(answer) != len(returns):
        given = f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise ConfigError(f"{name}.{method} returned {given}, expected ({', '.join(returns)})")
    return answer


def _check_methods(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Whether reset and step are there, and reset takes a seed and options. Raises ConfigError."""
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
    """A copy of an observation that is of its space but for the values of floats."""
    if isinstance(space, Dict):
        named = _named(seen, space.spaces)
        if len(named) != len(space.spaces):
            raise _other_keys(named, space.spaces)
        return {part: _held(named[part], inner, part) for part, inner in space.spaces.items()}
    if space.shape is None or space.dtype is None:
        return seen  # whoever uses such a space says so
    array = _array(seen, space, key)
    if isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        bounds = limits(space)
        if bounds is not None and not bounds.hold(array):
            raise SpaceError(f"{_observation(key)} {bounds.slip(array, space)}")
    return array


def _named(seen: Any, spaces: Mapping[str, Any]) -> Mapping[str, Any]:
    """An observation by key, with all keys of its space."""
    if isinstance(seen, Mapping) and spaces.keys() <= seen.keys():
        return seen
    if spaces.keys() == {"observation"} and not isinstance(seen, Mapping):
        return {"observation": seen}
    raise _other_keys(seen, spaces)


def _other_keys(seen: Any, spaces: Mapping[str, Any]) -> SpaceError:
    given = ", ".join(sorted(map(str, seen))) if isinstance(seen, Mapping) else type(seen).__name__
    return SpaceError(f"observation has {given}; its observation_space has {', '.join(sorted(spaces))}")


def _array(seen: Any, space: Space[Any], key: str, rows: tuple[int, ...] = ()) -> Array:
    """A copy of a part of an observation [*rows, *shape] in the dtype of its space."""
    try:
        array = np.asarray(seen)
    except (TypeError, ValueError):
        raise SpaceError(f"{_observation(key)} is a {type(seen).__name__}, expected an array") from None
    dtype = space.dtype
    assert space.shape is not None
    assert dtype is not None
    if array.shape != (*rows, *space.shape):
        raise ShapeError(_observation(key), array.shape, (*rows, *space.shape), "observation_space says so")
    if array.dtype != dtype:
        if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and dtype.kind != "f"):
            raise SpaceError(
                f"{_observation(key)} is {array.dtype}, expected {dtype}, as observation_space says"
            )
        if dtype.kind in "iu":
            _check_fits(array, dtype, key)
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    return array.copy()


def _check_fits(array: Array, dtype: Any, key: str) -> None:
    """Whether whole numbers can be had in another dtype. Raises SpaceError."""
    most = np.iinfo(dtype)
    if array.size and (int(array.min()) < most.min or int(array.max()) > most.max):
        worst = array.max() if int(array.max()) > most.max else array.min()
        raise SpaceError(f"{_observation(key)} is {worst}, outside of {dtype}: clip it, or widen its space")


def _observation(key: str) -> str:
    return "observation" if key in ("", "observation") else f"observation '{key}'"


def _reward(reward: Any) -> float:
    if isinstance(reward, float) and math.isfinite(reward):  # np.float64 is one, too
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
    """The same error, with where it came up before it."""
    again = type(slip).__new__(type(slip))
    again.args = (f"{where}: {slip}",)
    return again
