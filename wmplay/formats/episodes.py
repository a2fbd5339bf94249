"""Conversion of an episode to named arrays, as npz and HDF5 store it, and validation of foreign data.

Names: ``action``, ``reward``, ``terminated``, ``truncated`` of T rows, and ``observation.<key>`` of T + 1
(characters that a file name cannot have are percent-encoded), or ``observation`` if it is the only one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from wmplay.contracts import Array, Trajectory
from wmplay.errors import DataError
from wmplay.store.shard import INFO, OBSERVATION, columns
from wmplay.store.shard import STEPS as STEPS
from wmplay.system import reading
from wmplay.system.arrays import are_flags, first_not_finite


def named_arrays(trajectory: Trajectory) -> dict[str, Array]:
    """Return a trajectory's arrays by their stored names, without infos."""
    arrays = columns(trajectory)
    return {quote(name, safe=" "): arrays[name] for name in arrays if not name.startswith(INFO)}


def observation_key(name: str) -> str | None:
    """Return the observation key of a stored name, or None if the array is not an observation."""
    if name == "observation":
        return name
    return unquote(name.removeprefix(OBSERVATION)) if name.startswith(OBSERVATION) else None


def trajectory_of(observation: Mapping[str, Any], steps: Mapping[str, Any], where: str) -> Trajectory:
    """Return a trajectory made of unvalidated arrays.

    As ``simulate`` records them, floating actions become float32, whole ones int64, and rewards float32.

    Args:
        observation: {key: [T + 1, ...]}; of numbers or texts.
        steps: ``action``, ``reward``, ``terminated`` and ``truncated`` of T rows.
        where: the first words of an error.

    Raises:
        DataError: if an array is missing, is not numeric, has another length or is not finite; if the first
            or last frame is missing; if the episode continues after its end.
    """
    for name in STEPS:
        if name not in steps:
            raise DataError(f"{where} has no '{name}': expected {', '.join(STEPS)} and observations")
    if not observation:
        raise DataError(f"{where} has no observation: expected 'observation' or 'observation.<key>' arrays")
    arrays = {name: _numbers(steps[name], f"{where}: {name}") for name in STEPS}
    frames = {
        key: _numbers(value, f"{where}: observation '{key}'", frames=True, texts=True)
        for key, value in observation.items()
    }
    length = len(arrays["action"])
    for name, array in arrays.items():
        if len(array) != length:
            raise DataError(
                f"{where}: {name} has {len(array)} rows, action has {length}: expected the same",
                got=len(array),
            )
        if name != "action" and array.ndim != 1:
            raise DataError(
                f"{where}: {name} has shape {list(array.shape)}", got=array.shape, expected=f"[{length}]"
            )
    for key, array in frames.items():
        if len(array) == length:
            raise DataError(
                f"{where}: observation '{key}' has {length} rows for {length} actions",
                got=length,
                expected=(
                    f"{length + 1}: the reset's frame (or the last one) is missing; keep both when recording"
                ),
            )
        if len(array) != length + 1:
            raise DataError(
                f"{where}: observation '{key}' has {len(array)} rows",
                got=len(array),
                expected=f"{length + 1} for {length} actions",
            )
    terminated, truncated = (_flags(arrays[name], f"{where}: {name}") for name in STEPS[2:])
    ends = np.flatnonzero(terminated | truncated)
    if len(ends) and ends[0] < length - 1:
        raise DataError(
            f"{where} goes on after its end at step {ends[0]} of {length}: cut it into an episode for each",
            got=int(ends[0]),
        )
    reward = _as(np.dtype(np.float32), arrays["reward"], f"{where}: reward")
    return Trajectory(frames, _action(arrays["action"], where), reward, terminated, truncated)


def beside_actions(
    observation: Mapping[str, Any],
    steps: Mapping[str, Any],
    where: str,
    after: Mapping[str, Any] | None = None,
) -> Trajectory:
    """Return a trajectory of an episode whose frames were each recorded with the action taken in them.

    ``after`` is the frame that the last action led to. Without it the last step is left out, with its reward
    and flags. The last remaining step is truncated unless it is terminated.

    Args:
        observation: {key: [T, ...]}.
        steps: as for ``trajectory_of``, T rows of each.
        where: the first words of an error.
        after: {key: [...]}, the frame after the last action.

    Raises:
        DataError: as ``trajectory_of``.
    """
    arrays = {name: np.asarray(value) for name, value in steps.items()}
    frames = {key: np.asarray(value) for key, value in observation.items()}
    if after is None:
        arrays = {name: array[:-1] for name, array in arrays.items()}
    else:
        frames = {key: np.concatenate([value, np.asarray(after[key])[None]]) for key, value in frames.items()}
    last = np.arange(len(arrays["truncated"])) == len(arrays["truncated"]) - 1
    arrays["truncated"] = arrays["truncated"] | (last & ~arrays["terminated"])
    return trajectory_of(frames, arrays, where)


def read_json(file: Path) -> dict[str, Any]:
    """Return metadata from a JSON file, empty if it does not exist. Raise DataError if it is malformed."""
    try:
        return parse_json(reading.read_bytes(file, DataError, reading.JSON_BYTES), str(file))
    except FileNotFoundError:
        return {}


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
    """Return metadata from JSON. Raise DataError for anything but an object."""
    content = reading.parse_json(text if isinstance(text, bytes) else text.encode(), where, DataError)
    if not isinstance(content, dict):
        raise DataError(
            f"{where} holds a {type(content).__name__}", got=type(content).__name__, expected="a JSON object"
        )
    return content


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts episode_10 after episode_9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_text(array: Array) -> bool:
    """Return whether an array holds texts."""
    first = array.reshape(-1)[:1].tolist()
    return array.dtype.kind in "SU" or (
        array.dtype.kind == "O" and isinstance(first[0] if first else "", str | bytes)
    )


def _numbers(value: Any, what: str, *, frames: bool = False, texts: bool = False) -> Array:
    array = np.asarray(value)
    if texts and is_text(array) and array.ndim:
        return array
    if array.dtype.kind not in "biufc":
        raise DataError(f"{what} has dtype {array.dtype}", expected="numbers")
    if array.ndim == 0:
        raise DataError(
            f"{what} is a single number", expected=f"one row per {('frame' if frames else 'step')}"
        )
    if bad := first_not_finite(array):
        raise DataError(
            f"{what} is {bad[1]} in row {bad[0]}", got=bad[1], advice="leave this episode out, or fix it"
        )
    return array


def _flags(array: Array, what: str) -> Array:
    if not are_flags(array):
        raise DataError(f"{what} holds {array.min()}..{array.max()}", expected="booleans")
    return array.astype(np.bool_)


def _action(array: Array, where: str) -> Array:
    if array.dtype.kind == "f":
        return _as(np.dtype(np.float32), array.reshape(len(array), -1), f"{where}: action")
    if array.dtype.kind in "iu" and array.shape[1:] in ((), (1,)):
        return _as(np.dtype(np.int64), array.reshape(-1), f"{where}: action")
    raise DataError(
        f"{where}: action is {array.dtype} {list(array.shape)}",
        expected="floating [T, A], or whole [T] for discrete actions",
    )


def _as(dtype: np.dtype[Any], array: Array, what: str) -> Array:
    """Convert real numbers to another dtype. Raise DataError if they exceed its range."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if array.dtype.kind == "c" or ((array < limits.min) | (array > limits.max)).any():
        raise DataError(f"{what} has numbers that are none of {dtype}", advice="fix it")
    return array.astype(dtype)
