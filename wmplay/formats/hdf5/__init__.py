"""HDF5 files: a group for each episode, with a compressed dataset for each array.

Files of robomimic and D4RL can be read as well (``layouts``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from wmplay.contracts import Trajectory
from wmplay.errors import DataError
from wmplay.formats.episodes import (
    STEPS,
    named_arrays,
    natural_order,
    observation_key,
    parse_json,
    trajectory_of,
)
from wmplay.formats.hdf5.files import opened
from wmplay.formats.hdf5.layouts import known_layout
from wmplay.system.files import explained, new_file_written_beside

METADATA = "metadata"  # a dataset, because an attribute is limited to 64 KiB


def count(path: Path, episode_length: int | None = None) -> int:
    """Return the number of episodes. Raise DataError if the file does not exist."""
    with opened(path) as file:
        layout = known_layout(file, path, episode_length)
        return len(_groups(file, path)) if layout is None else layout.count()


def read(path: Path, episode_length: int | None = None) -> Iterator[Trajectory]:
    """Yield all episodes, in the order of the groups' names (9 before 10).

    Args:
        path: of the file.
        episode_length: steps after which an episode in D4RL's layout ends if no flag ends it earlier.

    Raises:
        DataError: for missing or malformed data.
    """
    with opened(path) as file:
        layout = known_layout(file, path, episode_length)
        if layout is not None:
            try:
                yield from layout.read()
            except (OSError, KeyError) as error:
                raise DataError(f"cannot read {path} ({error})", advice="restore it from a copy") from error
            return
        for name in _groups(file, path):
            group = file[name]
            where = f"{path}, group '{name}'"
            try:
                arrays = {key: group[key][()] for key in group if isinstance(group[key], h5py.Dataset)}
            except (OSError, KeyError) as error:
                raise DataError(f"cannot read {where} ({error})", advice="restore it from a copy") from error
            observation = {
                key: array for each, array in arrays.items() if (key := observation_key(each)) is not None
            }
            yield trajectory_of(
                observation, {each: array for each, array in arrays.items() if each in STEPS}, where
            )


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the file's dataset ``metadata``, empty if it is missing. Raise DataError if it is malformed."""
    with opened(path) as file:
        layout = known_layout(file, path)
        if layout is not None:
            return layout.metadata()
        if METADATA not in file:
            return {}
        return parse_json(file[METADATA].asstr()[()], f"{path}, dataset '{METADATA}'")


def write(trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a file with groups ``episode_0`` and so on to a path that is free. Raise WriteError."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        new_file_written_beside(path) as beside,
        h5py.File(beside, "w", track_order=True, locking=False) as file,  # locked already
    ):
        for number, trajectory in enumerate(trajectories):
            group = file.create_group(f"episode_{number}", track_order=True)
            for name, array in named_arrays(trajectory).items():
                compression = "gzip" if array.size else None  # an empty array cannot be divided into chunks
                group.create_dataset(name, data=array, compression=compression)
        if metadata:
            file[METADATA] = json.dumps(metadata)


def _groups(file: h5py.File, path: Path) -> list[str]:
    groups = sorted((name for name in file if isinstance(file[name], h5py.Group)), key=natural_order)
    if not groups:
        held = f"only {', '.join(sorted(file))}" if len(file) else "nothing"
        raise DataError(
            f"{path} holds {held}: expected a group for each episode, with its arrays in it", got=held
        )
    return groups
