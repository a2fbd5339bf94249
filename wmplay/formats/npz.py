"""npz folders: a compressed ``.npz`` file for each episode, in the order of their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.contracts import Trajectory
from wmplay.errors import DataError
from wmplay.formats.episodes import (
    STEPS,
    named_arrays,
    natural_order,
    observation_key,
    read_json,
    trajectory_of,
)
from wmplay.system.array_files import arrays_in
from wmplay.system.files import folder_written_beside

METADATA = "metadata.json"
LARGEST = 1 << 34  # bytes of an episode at most


def count(path: Path) -> int:
    """Return the number of episodes. Raise DataError if the folder does not exist or has no episodes."""
    return len(_files(path))


def read(path: Path) -> Iterator[Trajectory]:
    """Yield all episodes, in the order of the files' names (9 before 10). Raise DataError."""
    for file in _files(path):
        try:
            with file.open("rb") as opened:
                arrays = arrays_in(opened, LARGEST)
        except Exception as error:  # zipfile raises errors of many types
            raise DataError(
                f"cannot read {file} ({error}): expected an .npz file of arrays", got=file
            ) from error
        observation = {
            key: array for name, array in arrays.items() if (key := observation_key(name)) is not None
        }
        steps = {name: array for name, array in arrays.items() if name in STEPS}
        yield trajectory_of(observation, steps, str(file))


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the folder's ``metadata.json``, empty if it does not exist. Raise DataError if it is
    malformed."""
    return read_json(path / METADATA)


def write(trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a folder with ``episode_0000000.npz`` and so on. Raise WriteError."""
    with folder_written_beside(path) as folder:
        for number, trajectory in enumerate(trajectories):
            arrays: dict[str, Any] = named_arrays(trajectory)
            np.savez_compressed(folder / f"episode_{number:07}.npz", **arrays)
        if metadata:
            (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: expected one with an .npz file for each episode", got=path)
    files = sorted(path.glob("*.npz"), key=lambda file: natural_order(file.name))
    if not files:
        raise DataError(f"{path} has no .npz files: expected one for each episode", got=path)
    return files
