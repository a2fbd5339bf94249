"""The HDF5 layouts of two other recorders: robomimic's demonstrations and D4RL's flat arrays.

Both store a frame for each action and, depending on the recorder's options, the frame after it; see
``beside_actions``.
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
    """``data/demo_<n>`` with ``obs/<key>``, ``actions``, ``rewards`` and optionally ``next_obs/<key>``.

    ``dones`` marks a demonstration's success or end, not a terminated world: every episode is truncated.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file, self.demos, self.path = file, file["data"], path
        self.names = sorted((name for name in self.demos if _is_group(self.demos[name])), key=natural_order)

    @staticmethod
    def fits(file: h5py.File) -> bool:
        """Return whether a file has this layout."""
        demos = file.get("data")
        return _is_group(demos) and any(_is_group(demo) and "obs" in demo for demo in demos.values())

    def count(self) -> int:
        """Return the number of episodes."""
        return len(self.names)

    def read(self) -> Iterator[Trajectory]:
        """Yield all episodes."""
        for name in self.names:
            where, demo = f"{self.path}, demonstration '{name}'", self.demos[name]
            missing = [each for each in ("obs", "actions") if each not in demo]
            if missing:
                raise DataError(f"{where} has no '{missing[0]}'", advice="leave it out, or fix it")
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
        """Return the metadata of the recorded env, and the split."""
        given, split = self.demos.attrs.get("env_args"), self._split()
        found = {} if split is None else {SPLIT: split}
        if given is not None:
            found["env_args"] = parse_json(given, f"{self.path}, attribute 'env_args'")
        return found

    def _split(self) -> dict[str, list[int]] | None:
        """Return the numbers of the episodes in each ``mask/<part>`` (``train``, ``valid``, ...)."""
        masks = self.file.get("mask")
        if not _is_group(masks):
            return None
        split = {}
        for part, held in masks.items():
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(held[()])]
            absent = [name for name in names if name not in self.names]
            if absent:
                raise DataError(
                    f"{self.path}: mask/{part} names {absent[0]}, which is not there",
                    got=absent[0],
                    advice="take it out",
                )
            split[part] = sorted(self.names.index(name) for name in names)
        return split


class Flat:
    """``observations``, ``actions``, ``rewards``, ``terminals``, optionally ``timeouts``,
    ``next_observations``.

    All episodes are stored end to end, as in D4RL; an episode ends where either flag is set. Without
    ``timeouts`` an episode also ends where the next row does not continue it: where ``next_observations``
    differs from the next row, or where a column that counts steps or numbers episodes (``infos/step``,
    ``episode_id``) starts again.

    Args:
        file: to read.
        path: of the file, for errors.
        episode_length: steps after which an episode ends if no flag ends it earlier; None if flags end all.

    Raises:
        DataError: for arrays that contradict each other.
    """

    def __init__(self, file: h5py.File, path: Path, episode_length: int | None = None) -> None:
        self.file, self.path = file, path
        self.rows = len(_rows(file["actions"], f"{path}: actions"))
        for name in ("observations", "rewards", *(each for each in _of_steps(file) if each not in FLAT)):
            if file[name].shape[:1] != (self.rows,):
                raise DataError(
                    f"{path}: {name} has shape {list(file[name].shape)}",
                    got=file[name].shape,
                    expected=f"a row for each of {self.rows} actions",
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
        """Return whether a file has this layout."""
        return all(isinstance(file.get(name), h5py.Dataset) for name in FLAT)

    def count(self) -> int:
        """Return the number of episodes that have a step with a next frame.

        Raises:
            DataError: if the ends of episodes are unknown, or if two columns contradict each other.
        """
        self._end()
        return sum(1 for _ in self._ranges())

    def read(self) -> Iterator[Trajectory]:
        """Yield all episodes. Raise DataError as ``count``."""
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
        """Return no metadata."""
        return {}

    def _ranges(self) -> Iterator[tuple[int, int]]:
        shortest = 1 if "next_observations" in self.file else 2
        ends = np.flatnonzero(self.terminated | self.timeout) + 1
        starts = [0, *ends.tolist()]
        for start, stop in zip(starts, [*ends.tolist(), self.rows], strict=True):
            if stop - start >= shortest:
                yield start, stop

    def _end(self) -> None:
        """Set ``timeout`` at ends that no flag marks. Raise DataError if the ends are unknown."""
        breaks = self._breaks() & ~(self.terminated | self.timeout)[:-1]
        flagged = bool(self.timeout.any())
        if breaks.any() and (flagged or breaks.mean() > 0.5):
            row = int(np.flatnonzero(breaks)[0])
            raise DataError(
                f"{self.path}: row {row + 1} does not go on from row {row}, where no episode ends "
                f"({breaks.sum():,} rows are so): correct the flags, or what contradicts them "
                "(next_observations, a counter of steps)",
                got=row + 1,
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
                "or give it 'timeouts'",
                got=self.path,
            )

    def _ends_are_known(self) -> bool:
        """Return whether the ends are marked: by both flags, ``next_observations`` or a counter."""
        flagged = "timeouts" in self.file and bool((self.terminated | self.timeout).any())
        return flagged or "next_observations" in self.file or bool(self._counters())

    def _check_longest(self) -> None:
        limit = self.file.attrs.get("max_episode_steps")
        longest = max((stop - start for start, stop in self._ranges()), default=0)
        if isinstance(limit, int | np.integer) and longest > limit:
            raise DataError(
                f"{self.path} has an episode of {longest} steps, its max_episode_steps is {limit}: some end "
                f"where no flag says so; give --episode-length {limit} if none ends before",
                got=longest,
            )

    def _breaks(self) -> Array:
        """Return [rows - 1] bool: whether a row certainly does not continue the previous one."""
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
        """Return the columns that count steps or episodes, by name; True for those that count episodes."""
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
                f"{self.path}: {name} is {flags.dtype} {list(flags.shape)}",
                expected=f"a boolean for each of {self.rows} actions",
            )
        return flags.astype(np.bool_)


def _of_steps(file: h5py.File) -> list[str]:
    """Return the names of a D4RL file's arrays that have a row for each step."""
    infos = file.get("infos")
    nested = [f"infos/{name}" for name in infos] if _is_group(infos) else []
    named = [*STEP_COUNTERS, *EPISODE_NUMBERS]
    names = [name for name in file if name.startswith("infos/") or name in named] + nested
    return [name for name in names if isinstance(file[name], h5py.Dataset) and file[name].ndim]


def known_layout(file: h5py.File, path: Path, episode_length: int | None = None) -> Robomimic | Flat | None:
    """Return the foreign layout of a file, or None if it has wmplay's.

    Raises:
        DataError: for arrays that contradict each other, or an episode length if each episode has a group.
    """
    if Flat.fits(file) and not Robomimic.fits(file):
        return Flat(file, path, episode_length)
    if episode_length is not None:
        raise DataError(
            f"{path} has a group for each episode: an episode length is for D4RL's flat arrays", got=path
        )
    return Robomimic(file, path) if Robomimic.fits(file) else None


def _is_group(value: Any) -> bool:
    return isinstance(value, h5py.Group)


def _frames(group: Any, what: str) -> dict[str, h5py.Dataset]:
    if not _is_group(group):
        raise DataError(f"{what} is an array", expected="a group with an array for each observation")
    return {key: _rows(dataset, f"{what}: observation '{key}'") for key, dataset in group.items()}


def _rows(dataset: Any, what: str) -> h5py.Dataset:
    """Return an array of several rows, which is not read yet. Raise DataError for anything else."""
    if _is_group(dataset):
        raise DataError(f"{what} is a group", expected="one array: flatten it")
    if dataset.shape in ((), None):
        raise DataError(f"{what} is a single value", expected="a row for each step")
    return dataset


def _check_following(following: Any, frames: Any, what: str) -> None:
    """Raise DataError unless the array has a next frame for each frame."""
    got = following.shape if isinstance(following, h5py.Dataset) else None
    if got != frames.shape:
        shown = None if got is None else list(got)
        raise DataError(
            f"{what} has the shape {shown}",
            got=shown,
            expected=f"that of the frames before, {list(frames.shape)}",
            advice="fix it, or leave out all that is next",
        )
