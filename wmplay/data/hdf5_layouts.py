"""HDF5 files as two well-known recorders lay them out: robomimic's demonstrations and D4RL's flat arrays.

Both hold a frame for each action, and (if they were written so) the frame after it; see ``beside_actions``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    @staticmethod
    def fits(file: h5py.File) -> bool:
        """Whether a file is laid out so."""
        demos = file.get("data")
        return isinstance(demos, h5py.Group) and any("obs" in demo for demo in demos.values())

    def count(self) -> int:
        """The number of episodes."""
        return len(self.demos)

    def read(self) -> Iterator[Trajectory]:
        """All episodes."""
        for name in sorted(self.demos, key=natural_order):
            where, demo = f"{self.path}, demonstration '{name}'", self.demos[name]
            missing = [each for each in ("obs", "actions") if each not in demo]
            if missing:
                raise DataError(f"{where} has no '{missing[0]}': leave it out, or mend it")
            action = demo["actions"][()]
            none = np.zeros(len(action), np.bool_)
            steps = {
                "action": action,
                "reward": demo["rewards"][()] if "rewards" in demo else np.zeros(len(action)),
                "terminated": none,
                "truncated": none,
            }
            after = _frames(demo["next_obs"], -1) if "next_obs" in demo else None
            yield beside_actions(_frames(demo["obs"], ()), steps, where, after)

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


def _frames(group: Mapping[str, Any], rows: Any) -> dict[str, Array]:
    nested = [key for key, value in group.items() if not isinstance(value, h5py.Dataset)]
    if nested:
        raise DataError(f"observation '{nested[0]}' is a group, expected one array: flatten it")
    return {key: dataset[rows] for key, dataset in group.items()}
