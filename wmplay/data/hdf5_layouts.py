"""HDF5 files as two well-known recorders lay them out: robomimic's demonstrations and D4RL's flat arrays.

Both hold a frame for each action, and (if they were written so) the frame after it; see ``beside_actions``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wmplay.contracts import Array, Trajectory
from wmplay.data.episodes import beside_actions, natural_order, parse_json
from wmplay.errors import DataError

FLAT = ("observations", "actions", "rewards", "terminals")


class Robomimic:
    """``data/demo_<n>`` with ``obs/<key>``, ``actions``, ``rewards`` and perhaps ``next_obs/<key>``.

    ``dones`` says when a demonstration succeeded or was over, not that the world ended: every episode is cut.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.demos, self.path = file["data"], path
        self.names = sorted((name for name in self.demos if _is_group(self.demos[name])), key=natural_order)

    @staticmethod
    def fits(file: h5py.File) -> bool:
        """Whether a file is laid out so."""
        demos = file.get("data")
        return _is_group(demos) and any(_is_group(demo) and "obs" in demo for demo in demos.values())

    def count(self) -> int:
        """The number of episodes."""
        return len(self.names)

    def read(self) -> Iterator[Trajectory]:
        """All episodes."""
        for name in self.names:
            where, demo = f"{self.path}, demonstration '{name}'", self.demos[name]
            missing = [each for each in ("obs", "actions") if each not in demo]
            if missing:
                raise DataError(f"{where} has no '{missing[0]}': leave it out, or mend it")
            action = _rows(demo["actions"], f"{where}: actions")[()]
            none = np.zeros(len(action), np.bool_)
            steps = {
                "action": action,
                "reward": _rows(demo["rewards"], f"{where}: rewards")[()] if "rewards" in demo else none,
                "terminated": none,
                "truncated": none,
            }
            frames = _frames(demo["obs"], f"{where}: obs")
            after = None
            if "next_obs" in demo:
                following = _frames(demo["next_obs"], f"{where}: next_obs")
                for key, rows in frames.items():
                    _check_following(following.get(key), rows, f"{where}: next_obs/{key}")
                after = {key: following[key][-1] for key in frames} if len(action) else None
            yield beside_actions({key: rows[()] for key, rows in frames.items()}, steps, where, after)

    def metadata(self) -> dict[str, Any]:
        """What it says of the env that was recorded."""
        given = self.demos.attrs.get("env_args")
        return {} if given is None else {"env_args": parse_json(given, f"{self.path}, attribute 'env_args'")}


class Flat:
    """``observations``, ``actions``, ``rewards``, ``terminals``, perhaps ``timeouts``, ``next_observations``.

    All episodes end to end, as D4RL has them; one ends where either flag is set.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file, self.path = file, path
        rows = _rows(file["actions"], f"{path}: actions").shape[:1]
        for name in ("observations", "rewards"):
            if file[name].shape[:1] != rows:
                raise DataError(
                    f"{path}: {name} has shape {list(file[name].shape)}, expected a row for each of "
                    f"{rows[0]} actions"
                )
        if "next_observations" in file:
            _check_following(file["next_observations"], file["observations"], f"{path}: next_observations")
        self.terminated, self.timeout = (
            self._whole(name) if name in file else np.zeros(len(file["actions"]), np.bool_)
            for name in ("terminals", "timeouts")
        )

    @staticmethod
    def fits(file: h5py.File) -> bool:
        """Whether a file is laid out so."""
        return all(isinstance(file.get(name), h5py.Dataset) for name in FLAT)

    def count(self) -> int:
        """The number of episodes that have a step whose successor is there."""
        return sum(1 for _ in self._ranges())

    def read(self) -> Iterator[Trajectory]:
        """All episodes."""
        for number, (start, stop) in enumerate(self._ranges()):
            rows = slice(start, stop)
            steps = {
                "action": self.file["actions"][rows],
                "reward": self.file["rewards"][rows],
                "terminated": self.terminated[rows],
                "truncated": self.timeout[rows] & ~self.terminated[rows],
            }
            after = None
            if "next_observations" in self.file:
                after = {"observation": self.file["next_observations"][stop - 1]}
            observation = {"observation": self.file["observations"][rows]}
            yield beside_actions(observation, steps, f"{self.path}, episode {number}", after)

    def metadata(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def _ranges(self) -> Iterator[tuple[int, int]]:
        shortest = 1 if "next_observations" in self.file else 2
        ends = np.flatnonzero(self.terminated | self.timeout) + 1
        starts = [0, *ends.tolist()]
        for start, stop in zip(starts, [*ends.tolist(), len(self.terminated)], strict=True):
            if stop - start >= shortest:
                yield start, stop

    def _whole(self, name: str) -> Array:
        flags: Array = self.file[name][()]
        if flags.shape != (len(self.file["actions"]),) or not np.isin(flags, (0, 1)).all():
            raise DataError(
                f"{self.path}: {name} is {flags.dtype} {list(flags.shape)}, expected a boolean for each of "
                f"{len(self.file['actions'])} actions"
            )
        return flags.astype(np.bool_)


def known_layout(file: h5py.File, path: Path) -> Robomimic | Flat | None:
    """How a file is laid out, if not as wmplay does it."""
    return next((layout(file, path) for layout in (Robomimic, Flat) if layout.fits(file)), None)


def _is_group(value: Any) -> bool:
    return isinstance(value, h5py.Group)


def _frames(group: Any, what: str) -> dict[str, h5py.Dataset]:
    if not _is_group(group):
        raise DataError(f"{what} is an array, expected a group with an array for each observation")
    return {key: _rows(dataset, f"{what}: observation '{key}'") for key, dataset in group.items()}


def _rows(dataset: Any, what: str) -> h5py.Dataset:
    """An array of several rows, not read yet. Raises DataError for anything else."""
    if _is_group(dataset):
        raise DataError(f"{what} is a group, expected one array: flatten it")
    if dataset.shape in ((), None):
        raise DataError(f"{what} is a single value, expected a row for each step")
    return dataset


def _check_following(following: Any, frames: Any, what: str) -> None:
    """Whether there is a frame that follows each frame. Raises DataError."""
    got = getattr(following, "shape", None)
    if got != frames.shape:
        shown = None if got is None else list(got)
        raise DataError(
            f"{what} has the shape {shown}, expected that of the frames before, {list(frames.shape)}: mend "
            "it, or leave out all that is next"
        )
