"""Frames (observations by key): their spaces, copies in their dtypes, and bounds of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space

from wmplay.errors import ShapeError, SpaceError, WmplayError
from wmplay.system.arrays import Array

Frames: TypeAlias = dict[str, Array]

# Tolerance of a float's bounds, relative to the larger bound: 80 times the rounding error of float32.
TOLERANCE = 1e-5


def frames_of(observation: Any, spaces: Mapping[str, Space[Any]], slots: int) -> Frames:
    """Return {key: [N, ...]} of a batched observation, in the dtypes of the spaces.

    The env's own arrays are returned if they are of those dtypes: an env may write into them again at its
    next call.

    Raises:
        SpaceError, ShapeError: if keys, kinds of number or shapes differ from the spaces.
    """
    named = by_key(observation, spaces)
    return {key: as_array(named[key], space, key, (slots,)) for key, space in spaces.items()}


def copied(frames: Frames) -> Frames:
    """Return frames that no env writes into."""
    return {key: value.copy() for key, value in frames.items()}


def with_final(
    now: Frames, ended: Array, info: Mapping[str, Any], spaces: Mapping[str, Space[Any]]
) -> Frames:
    """Return the frames that a step of a same-step env led to: the last frame of each episode that ended.

    ``info["final_obs"]`` is Gymnasium's array of single observations, or a batched observation.

    Raises:
        WmplayError: if ``final_obs`` is missing, or if it differs from the spaces.
    """
    if "final_obs" not in info:
        raise WmplayError("the env's autoreset mode is same-step, but its info has no 'final_obs'")
    final, rows = info["final_obs"], np.flatnonzero(ended)
    arrived = copied(now)
    if isinstance(final, np.ndarray) and final.dtype == object:
        for row in rows:
            named = by_key(final[row], spaces)
            for key, space in spaces.items():
                arrived[key][row] = as_array(named[key], space, key)
    else:
        for key, value in frames_of(final, spaces, len(ended)).items():
            arrived[key][rows] = value[rows]
    return arrived


def recorded_infos(info: Mapping[str, Any], ended: Array, slots: int) -> Frames:
    """Return the infos of a step that trajectories keep, {name: [N]}: "cost", and "factors.<name>" of each.

    Infos are in Gymnasium's form, or those of a single env. Those of episodes that ended come from
    ``info["final_info"]`` if it exists. What is no real number for each slot is left out.
    """
    found = _numbers(info, slots)
    if isinstance(final := info.get("final_info"), Mapping):
        for name, values in _numbers(final, slots).items():
            found[name] = np.where(ended, values, found.get(name, np.nan))
    return found


def _numbers(info: Mapping[str, Any], slots: int) -> Frames:
    factors = info.get("factors")
    given = {"cost": info["cost"]} if "cost" in info else {}
    if isinstance(factors, Mapping):
        given |= {f"factors.{name}": value for name, value in factors.items() if not name.startswith("_")}
    arrays = {name: np.atleast_1d(np.asarray(value)) for name, value in given.items()}
    return {
        name: array
        for name, array in arrays.items()
        if array.shape == (slots,) and array.dtype.kind in "biuf"
    }


class Limits(NamedTuple):
    """The bounds of a space's values, in its dtype; those of floats are finite and include a tolerance."""

    low: Array | float  # [*shape], or a number if all entries are equal
    high: Array | float

    def hold(self, values: Array) -> bool:
        """Return whether all values [..., *shape] are within the bounds; NaN is outside."""
        if isinstance(self.low, np.ndarray) or isinstance(self.high, np.ndarray):
            return bool(self._within(values).all())
        # Reductions without a temporary array, NaN if any value is; unsigned values with low 0 need only one.
        if not np.maximum.reduce(values, None).item() <= self.high:
            return False
        return (self.low == 0 and values.dtype.kind == "u") or np.minimum.reduce(
            values, None
        ).item() >= self.low

    def first_outside(self, values: Array) -> int:
        """Return the first row of values [N, *shape] with a value outside the bounds."""
        return int(np.argwhere(~self._within(values))[0][0])

    def slip(self, value: Array, space: Space[Any]) -> str:
        """Return the end of an error about a value [*shape], for example "is 3 at [1], outside of 0 to 1"."""
        index = tuple(np.argwhere(~self._within(value))[0])
        at = f" at {[int(i) for i in index]}" if index else ""
        if not np.isfinite(value[index]):
            return f"is {value[index]}{at}, expected finite numbers"
        low, high = (np.broadcast_to(bound, value.shape)[index] for bound in _bounds(space))
        return f"is {value[index]:g}{at}, outside of {low:g} to {high:g}: clip it, or widen its space"

    def _within(self, values: Array) -> Array:
        return (values >= self.low) & (values <= self.high)


def limits(space: Space[Any]) -> Limits | None:
    """Return the bounds of a space's values, or None if its dtype cannot exceed them."""
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


def by_key(seen: Any, spaces: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an observation by key, with all keys of its space. Raise SpaceError if one is missing."""
    if isinstance(seen, (dict, Mapping)) and spaces.keys() <= seen.keys():  # dict first, which is faster
        return seen
    if spaces.keys() == {"observation"} and not isinstance(seen, Mapping):
        return {"observation": seen}
    raise other_keys(seen, spaces)


def other_keys(seen: Any, spaces: Mapping[str, Any]) -> SpaceError:
    """Return the error for an observation whose keys differ from its space."""
    given = ", ".join(sorted(map(str, seen))) if isinstance(seen, Mapping) else type(seen).__name__
    return SpaceError(f"observation has {given}; its observation_space has {', '.join(sorted(spaces))}")


def as_array(seen: Any, space: Space[Any], key: str, rows: tuple[int, ...] = ()) -> Array:
    """Return one key of an observation [*rows, *shape] in the dtype of its space.

    Raises:
        SpaceError, ShapeError: if it has another shape, or a kind of number that does not fit.
    """
    try:
        array = np.asarray(seen)
    except (TypeError, ValueError):
        raise SpaceError(f"{observation_name(key)} is a {type(seen).__name__}", expected="an array") from None
    dtype = space.dtype
    assert space.shape is not None
    assert dtype is not None
    if array.shape != (*rows, *space.shape):
        raise ShapeError(
            observation_name(key), array.shape, (*rows, *space.shape), "observation_space says so"
        )
    if array.dtype != dtype:
        if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and dtype.kind != "f"):
            raise SpaceError(
                f"{observation_name(key)} is {array.dtype}", expected=f"{dtype}, as observation_space says"
            )
        if dtype.kind in "iu":
            _check_fits(array, dtype, key)
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    return array


def _check_fits(array: Array, dtype: Any, key: str) -> None:
    """Raise SpaceError if whole numbers exceed the range of another dtype."""
    most = np.iinfo(dtype)
    if array.size and (int(array.min()) < most.min or int(array.max()) > most.max):
        worst = array.max() if int(array.max()) > most.max else array.min()
        raise SpaceError(
            f"{observation_name(key)} is {worst}, outside of {dtype}: clip it, or widen its space"
        )


def observation_name(key: str) -> str:
    """Return the name of an observation's key for error messages."""
    return "observation" if key in ("", "observation") else f"observation '{key}'"


def _bounds(space: Space[Any]) -> tuple[Array, Array]:
    """Return the lowest and highest value of a space, [*shape] or [], as float64 or whole numbers."""
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
    """Return a bound in a dtype, as one number if all entries are equal, because comparing is then faster."""
    bound = np.asarray(bound).astype(dtype)
    return bound.ravel()[0].item() if bound.size and (bound == bound.ravel()[0]).all() else bound
