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
from wmplay.errors import DataError
from wmplay.formats.episodes import beside_actions, natural_order, parse_json
from wmplay.store.metadata import SPLIT

FLAT = ("observations", "actions", "rewards", "terminals")
STEP_COUNTERS = ("step", "steps", "timestep", "timesteps", "time", "elapsed_steps")
EPISODE_NUMBERS = ("episode", "episode_id", "episode_index")
BLOCK = 1 << 16  # rows compared at once


class Robomimic:
    """``data/demo_<n>`` with ``obs/<key>``, ``actions``, ``rewards`` and perhaps ``next_obs/<key>``.

    ``dones`` says when a demonstration succeeded or was over, not that the world ended: every episode is cut.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file, self.demos, self.path = file, file["data"], path
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
        given, split = self.demos.attrs.get("env_args"), self._split()
        found = {} if split is None else {SPLIT: split}
        if given is not None:
            found["env_args"] = parse_json(given, f"{self.path}, attribute 'env_args'")
        return found

    def _split(self) -> dict[str, list[int]] | None:
        """Numbers of the episodes that ``mask/<part>`` names, by part (``train``, ``valid``, ...)."""
        masks = self.file.get("mask")
        if not _is_group(masks):
            return None
        split = {}
        for part, held in masks.items():
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(held[()])]
            absent = [name for name in names if name not in self.names]
            if absent:
                raise DataError(
                    f"{self.path}: mask/{part} names {absent[0]}, which is not there: take it out"
                )
            split[part] = sorted(self.names.index(name) for name in names)
        return split


class Flat:
    """``observations``, ``actions``, ``rewards``, ``terminals``, perhaps ``timeouts``, ``next_observations``.

    All episodes end to end, as D4RL has them; one ends where either flag is set. Where there is no
    ``timeouts``, one also ends where the next row does not go on from it: ``next_observations`` says
    otherwise, or a column that counts or names (``infos/step``, ``episode_id``) begins anew.

    Args:
        file: to read.
        path: of the file, for errors.
        episode_length: steps after which an episode ends if no flag says so before; None where flags do.

    Raises:
        DataError: for arrays that do not go together.
    """

    def __init__(self, file: h5py.File, path: Path, episode_length: int | None = None) -> None:
        self.file, self.path = file, path
        self.rows = len(_rows(file["actions"], f"{path}: actions"))
        for name in ("observations", "rewards", *(each for each in _of_steps(file) if each not in FLAT)):
            if file[name].shape[:1] != (self.rows,):
                raise DataError(
                    f"{path}: {name} has shape {list(file[name].shape)}, expected a row for each of "
                    f"{self.rows} actions"
                )
        if "next_observations" in file:
            _check_following(file["next_observations"], file["observations"], f"{path}: next_observations")
        self.terminated, self.timeout = (
            self._whole(name) if name in file else np.zeros(self.rows, np.bool_)
            for name in ("terminals", "timeouts")
        )
        self.episode_length = episode_length

    @staticmethod
    def fits(file: h5py.File) -> bool:
        """Whether a file is laid out so."""
        return all(isinstance(file.get(name), h5py.Dataset) for name in FLAT)

    def count(self) -> int:
        """The number of episodes that have a step whose successor is there.

        Raises:
            DataError: where nothing says where an episode ends, or one column contradicts another.
        """
        self._end()
        return sum(1 for _ in self._ranges())

    def read(self) -> Iterator[Trajectory]:
        """All episodes. Raises DataError as ``count``."""
        self._end()
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
        for start, stop in zip(starts, [*ends.tolist(), self.rows], strict=True):
            if stop - start >= shortest:
                yield start, stop

    def _end(self) -> None:
        """Sets ``timeout`` where an episode ends that no flag ends. Raises DataError if none is known."""
        breaks = self._breaks() & ~(self.terminated | self.timeout)[:-1]
        flagged = bool(self.timeout.any())
        if breaks.any() and (flagged or breaks.mean() > 0.5):
            row = int(np.flatnonzero(breaks)[0])
            raise DataError(
                f"{self.path}: row {row + 1} does not go on from row {row}, where no episode ends "
                f"({breaks.sum():,} rows are so): correct the flags, or what contradicts them "
                "(next_observations, a counter of steps)"
            )
        self.timeout[:-1] |= breaks
        if self.episode_length is not None:
            for start, stop in list(self._ranges()):
                self.timeout[start + self.episode_length - 1 : stop : self.episode_length] = True
        self._check_longest()
        if self.episode_length is None and not self._ends_are_known():
            raise DataError(
                f"{self.path} does not say where an episode ends (it has no timeouts, and terminals say "
                "nothing of one that was cut): say after how many steps at the latest, by --episode-length, "
                "or give it 'timeouts'"
            )

    def _ends_are_known(self) -> bool:
        """Return whether there are both flags, or something says of every row that the next one goes on."""
        flagged = "timeouts" in self.file and bool((self.terminated | self.timeout).any())
        return flagged or "next_observations" in self.file or bool(self._counters())

    def _check_longest(self) -> None:
        limit = self.file.attrs.get("max_episode_steps")
        longest = max((stop - start for start, stop in self._ranges()), default=0)
        if isinstance(limit, int | np.integer) and longest > limit:
            raise DataError(
                f"{self.path} has an episode of {longest} steps, its max_episode_steps is {limit}: some end "
                f"where no flag says so; give --episode-length {limit} if none ends before"
            )

    def _breaks(self) -> Array:
        """[rows - 1] bool: whether a row certainly does not go on from the one before it."""
        breaks = np.zeros(max(self.rows - 1, 0), np.bool_)
        for name, is_number in self._counters().items():
            rises = np.diff(self.file[name][()].reshape(-1).astype(np.float64))
            breaks |= (rises != 0) if is_number else (rises <= 0)
        if "next_observations" in self.file:
            for start in range(0, len(breaks), BLOCK):
                stop = min(start + BLOCK, len(breaks))
                said = self.file["next_observations"][start:stop].reshape(stop - start, -1)
                seen = self.file["observations"][start + 1 : stop + 1].reshape(stop - start, -1)
                breaks[start:stop] |= ~np.isclose(said, seen, rtol=1e-4, atol=1e-5, equal_nan=True).all(1)
        return breaks

    def _counters(self) -> dict[str, bool]:
        """Columns that count steps, by name; True for those that number episodes."""
        held = _of_steps(self.file)
        found = {}
        for name in held:
            last = name.rpartition("/")[2]
            single = self.file[name].dtype.kind in "iuf" and self.file[name].size == self.rows
            if single and last in (*STEP_COUNTERS, *EPISODE_NUMBERS):
                found[name] = last in EPISODE_NUMBERS
        return found

    def _whole(self, name: str) -> Array:
        flags: Array = self.file[name][()]
        if flags.shape != (self.rows,) or not np.isin(flags, (0, 1)).all():
            raise DataError(
                f"{self.path}: {name} is {flags.dtype} {list(flags.shape)}, expected a boolean for each of "
                f"{self.rows} actions"
            )
        return flags.astype(np.bool_)


def _of_steps(file: h5py.File) -> list[str]:
    """Arrays of a D4RL file that have a row for each step, by their names."""
    infos = file.get("infos")
    nested = [f"infos/{name}" for name in infos] if _is_group(infos) else []
    named = [*STEP_COUNTERS, *EPISODE_NUMBERS]
    names = [name for name in file if name.startswith("infos/") or name in named] + nested
    return [name for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim]


def known_layout(file: h5py.File, path: Path, episode_length: int | None = None) -> Robomimic | Flat | None:
    """How a file is laid out, if not as wmplay does it.

    Raises:
        DataError: for arrays that do not go together, or an episode length where episodes have groups.
    """
    if Flat.fits(file) and not Robomimic.fits(file):
        return Flat(file, path, episode_length)
    if episode_length is not None:
        raise DataError(f"{path} has a group for each episode: an episode length is for D4RL's flat arrays")
    return Robomimic(file, path) if Robomimic.fits(file) else None


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
