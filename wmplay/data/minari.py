"""Minari datasets, by Farama's own package: any of its storages is read, HDF5 is written.

Screens are written raw: Minari's default for images is JPEG, which loses pixels.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.serialization import deserialize_space, serialize_space

from wmplay.contracts import Array, Trajectory
from wmplay.data.episodes import read_json, trajectory_of
from wmplay.errors import DataError
from wmplay.files import folder_written_beside

VERSION = importlib.metadata.version("minari")
DATA = "data"  # the folder that a dataset's own folder has
# What describes these files and not where the data comes from; a copy has its own.
OF_THE_FILES = (
    "total_episodes",
    "total_steps",
    "data_format",
    "jpeg_encoding",
    "dataset_size",
    "dataset_id",
    "minari_version",
)


def count(path: Path) -> int:
    """The number of episodes. Raises DataError where there is no dataset."""
    return len(_dataset(path))


def read(path: Path) -> Iterator[Trajectory]:
    """All episodes, in order; ``infos`` and the seeds of episodes are left out.

    Args:
        path: the dataset's folder, or its ``data`` folder.

    Raises:
        DataError: for nested observations, and for holes.
    """
    dataset = _dataset(path)
    for index in dataset.episode_indices.tolist():
        where = f"{path}, episode {index}"
        try:
            episode = dataset[index]
        except (KeyError, OSError, ValueError, AssertionError, IndexError) as error:
            raise DataError(f"cannot read {where} ({error}): a part is missing or damaged") from error
        steps = {
            "action": episode.actions,
            "reward": episode.rewards,
            "terminated": episode.terminations,
            "truncated": episode.truncations,
        }
        if isinstance(episode.actions, dict | tuple):
            raise DataError(f"{where}: the action is a {type(episode.actions).__name__}, expected one array")
        yield trajectory_of(_frames(episode.observations, where), steps, where)


def read_metadata(path: Path) -> dict[str, Any]:
    """What the dataset says of where it comes from: spaces, env, author and so on."""
    content = read_json(_data(path) / METADATA_FILE_NAME)
    return {key: value for key, value in content.items() if key not in OF_THE_FILES}


def write(trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a dataset whose id is the folder's name, for ``minari.load_dataset`` with its parent as root.

    Args:
        trajectories: at least one.
        path: the folder, called ``<name>-v<number>``.
        metadata: may have ``observation_space`` and ``action_space`` as Minari serialises them. Without
            them spaces are as wide as their dtype, and there are as many discrete actions as the data shows.

    Raises:
        DataError: a name or an observation key that Minari cannot have.
        WriteError: no space, no permission.
    """
    if not re.fullmatch(r"[-\w]+-v\d+", path.name):
        raise DataError(
            f"a Minari dataset is called <name>-v<number>: {path.name} is not, try {path.name}-v0"
        )
    rest = iter(trajectories)
    first = next(rest, None)
    if first is None:
        raise DataError(f"there are no episodes to make the dataset {path} of: give at least one")
    observation_space = _given_space(metadata, "observation_space") or _observation_space(first)
    action_space = _given_space(metadata, "action_space")
    lowest, highest = 0, 0  # of discrete actions, as far as the data shows

    def buffers() -> Iterator[EpisodeBuffer]:
        nonlocal lowest, highest
        for each in chain([first], rest):
            if each.action.ndim == 1:
                lowest = int(each.action.min(initial=lowest))
                highest = int(each.action.max(initial=highest))
            yield EpisodeBuffer(
                observations=each.observation
                if isinstance(observation_space, Dict)
                else each.observation["observation"],
                actions=each.action,
                rewards=each.reward,
                terminations=each.terminated,
                truncations=each.truncated,
            )

    with folder_written_beside(path) as folder:
        data = (folder / DATA).resolve()  # Minari doubles a relative path when it counts the bytes
        data.mkdir()
        shown = Discrete(1) if first.action.ndim == 1 else _space(first.action)
        storage = MinariStorage.new(
            data, observation_space, action_space or shown, data_format="hdf5", jpeg_encoding=False
        )
        storage.update_episodes(buffers())
        file = data / METADATA_FILE_NAME
        content = {**metadata, **read_json(file), "dataset_id": path.name, "minari_version": VERSION}
        if action_space is None and first.action.ndim == 1:
            content["action_space"] = serialize_space(Discrete(highest - lowest + 1, start=lowest))
        file.write_text(json.dumps(content), encoding="utf-8")


def _dataset(path: Path) -> minari.MinariDataset:
    data = _data(path)
    read_json(data / METADATA_FILE_NAME)  # which Minari takes for what it should be
    try:
        return minari.MinariDataset(data)
    except (KeyError, OSError, ValueError, AssertionError, ImportError, gymnasium.error.Error) as error:
        why = str(error) or type(error).__name__
        raise DataError(f"cannot read the Minari dataset {path} ({why}): see docs/data.md") from error


def _data(path: Path) -> Path:
    for folder in (path / DATA, path):
        if (folder / METADATA_FILE_NAME).exists():
            return folder
    raise DataError(
        f"{path} is not a Minari dataset (it has no {DATA}/{METADATA_FILE_NAME}): expected the folder that "
        "`minari download` fills"
    )


def _frames(observations: Any, where: str) -> dict[str, Array]:
    frames = observations if isinstance(observations, dict) else {"observation": observations}
    for key, value in frames.items():
        if isinstance(value, dict | tuple):
            raise DataError(f"{where}: observation '{key}' is nested, expected one array")
    return frames


def _given_space(metadata: Mapping[str, Any], name: str) -> gymnasium.Space[Any] | None:
    if name not in metadata:
        return None
    try:
        space: gymnasium.Space[Any] = deserialize_space(metadata[name])
    except (KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"the metadata's {name} is not a space as Minari writes it ({error}): mend it, or take it out"
        ) from error
    return space


def _observation_space(trajectory: Trajectory) -> gymnasium.Space[Any]:
    """As wide as the dtypes; a single ``observation`` stands alone, as it came from an env without keys."""
    frames = trajectory.observation
    for key in frames:
        if key in ("", ".", "..") or "/" in key:
            raise DataError(f"observation '{key}' cannot be in a Minari dataset: rename it, without '/'")
    if list(frames) == ["observation"]:
        return _space(frames["observation"])
    return Dict({key: _space(value) for key, value in frames.items()})


def _space(rows: Array) -> gymnasium.Space[Any]:
    shape, dtype = rows.shape[1:], rows.dtype
    if 0 in shape:
        raise DataError(
            f"empty arrays (of shape {list(shape)}) cannot be in a Minari dataset: leave them out"
        )
    if dtype.kind == "f":
        return Box(-np.inf, np.inf, shape, dtype.type)
    if dtype.kind == "b":
        return Box(0, 1, shape, np.bool_)
    if dtype.kind in "iu":
        return Box(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype.type)
    raise DataError(f"{dtype} arrays cannot be in a Minari dataset: leave them out")
