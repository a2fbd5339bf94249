"""Minari datasets through Farama's package: all of its storage formats are read, HDF5 is written.

Screens are written uncompressed, because Minari's default for images, JPEG, loses pixels.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.serialization import serialize_space

from wmplay.config.kinds import PIECE
from wmplay.config.references import settings
from wmplay.contracts import GOAL_PREFIX, Array, Trajectory
from wmplay.errors import DataError, SpaceError
from wmplay.formats.encoding import UNNAMED
from wmplay.formats.episodes import read_json, trajectory_of
from wmplay.formats.hdf5.files import opened
from wmplay.formats.spaces import NAMES, config_of_world, described, given_spaces, spaces_of_world
from wmplay.store.metadata import origins
from wmplay.system.files import folder_written_beside

VERSION = importlib.metadata.version("minari")
DATA = "data"  # the subfolder of a dataset's folder
# Metadata of the files rather than of the data's source; a copy has its own.
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
    """Return the number of episodes. Raise DataError if the dataset does not exist."""
    return len(_dataset(path))


def read(path: Path) -> Iterator[Trajectory]:
    """Yield all episodes in order; ``infos`` and the seeds of episodes are left out.

    Nested observations are named by their path, with ``.`` between keys.

    Args:
        path: the dataset's folder, or its ``data`` folder.

    Raises:
        DataError: for missing or malformed data.
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
            raise DataError(
                f"{where}: the action is a {type(episode.actions).__name__}", expected="one array"
            )
        yield trajectory_of(dict(_frames(episode.observations)), steps, where)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the dataset's metadata about its source: spaces, env, author and so on."""
    content = read_json(_data(path) / METADATA_FILE_NAME)
    for name, space in given_spaces(content).items():
        with suppress(SpaceError):  # other spaces stay as Minari writes them
            content |= described({name: space})
    return {key: value for key, value in content.items() if key not in OF_THE_FILES}


def write(trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a dataset whose id is the folder's name; ``minari.load_dataset`` reads it with the parent as
    root.

    Args:
        trajectories: at least one.
        path: the folder, called ``<name>-v<number>``.
        metadata: may contain ``observation_space`` and ``action_space``, or the provenance of the data: then
            the spaces are those of the data's world, and ``env_spec`` makes that world. Without either,
            spaces have the bounds of their dtype, and as many discrete actions as the data shows.

    Raises:
        DataError: for a name or an observation key that Minari cannot store.
        WriteError: no space, no permission.
    """
    if not re.fullmatch(r"[-\w]+-v\d+", path.name):
        raise DataError(
            f"a Minari dataset is called <name>-v<number>: {path.name} is not, try {path.name}-v0",
            got=path.name,
        )
    rest = iter(trajectories)
    first = next(rest, None)
    if first is None:
        raise DataError(f"there are no episodes to make the dataset {path} of", advice="give at least one")
    known, about = _known(metadata)
    observation_space = _observation_space(first, known.get("observation_space"))
    action_space = known.get("action_space")
    if action_space is None or not _fits(action_space, first.action):
        action_space = None if first.action.ndim == 1 else _space(first.action)
    lowest, highest = 0, 0  # of discrete actions in the data

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
        storage = MinariStorage.new(
            data, observation_space, action_space or Discrete(1), data_format="hdf5", jpeg_encoding=False
        )
        storage.update_episodes(buffers())
        file = data / METADATA_FILE_NAME
        content = {**about, **metadata, **read_json(file), "dataset_id": path.name, "minari_version": VERSION}
        if action_space is None:
            content["action_space"] = serialize_space(Discrete(highest - lowest + 1, start=lowest))
        file.write_text(json.dumps(content), encoding="utf-8")


def _dataset(path: Path) -> minari.MinariDataset:
    data = _data(path)
    read_json(data / METADATA_FILE_NAME)  # raises DataError, where Minari would accept a malformed file
    for file in data.glob("*.hdf5"):
        with opened(file):  # validates the file
            pass
    try:
        return minari.MinariDataset(data)
    except (KeyError, OSError, ValueError, AssertionError, ImportError, gymnasium.error.Error) as error:
        why = str(error) or type(error).__name__
        raise DataError(
            f"cannot read the Minari dataset {path} ({why})", got=path, advice="see docs/data.md"
        ) from error


def _data(path: Path) -> Path:
    for folder in (path / DATA, path):
        if (folder / METADATA_FILE_NAME).exists():
            return folder
    raise DataError(
        f"{path} is not a Minari dataset (it has no {DATA}/{METADATA_FILE_NAME}): expected the folder that "
        "`minari download` fills",
        got=path,
    )


def _frames(observations: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (name, rows) of each leaf of nested observations."""
    if isinstance(observations, dict | tuple):
        parts = observations.items() if isinstance(observations, dict) else enumerate(observations)
        for key, value in parts:
            yield from _frames(value, (*path, str(key)))
    else:
        yield ".".join(path) or UNNAMED, observations


def _known(metadata: Mapping[str, Any]) -> tuple[dict[str, gymnasium.Space[Any]], dict[str, Any]]:
    """Return the known spaces of the data, and the ``env_spec`` of the world it comes from."""
    worlds, given = origins(dict(metadata)), given_spaces(metadata)
    for name in NAMES:
        if name in metadata and name not in given:
            raise DataError(
                f"the metadata's {name} is not a space that is known",
                got=name,
                advice="fix it, or take it out",
            )
    if len(worlds) != 1:
        return given, {}
    config = config_of_world(worlds[0])
    spaces = {} if config is None else spaces_of_world(config)
    if config is None or not spaces:
        return given, {}
    name = str(config[PIECE]).partition("/")[2]
    kwargs = {"name": name, **settings(config)}
    spec = EnvSpec(f"wmplay/{name}-v0", entry_point="wmplay.envs:make_env", kwargs=kwargs)
    return {**spaces, **given}, {"env_spec": spec.to_json()}


def _observation_space(trajectory: Trajectory, given: gymnasium.Space[Any] | None) -> gymnasium.Space[Any]:
    """Return the known spaces of the observations; unknown ones have the bounds of their dtype.

    A single ``observation`` is not wrapped in a Dict, as in an env without keys.
    """
    frames = trajectory.observation
    for key in frames:
        if key in ("", ".", "..") or "/" in key:
            raise DataError(
                f"observation '{key}' cannot be in a Minari dataset", got=key, advice="rename it, without '/'"
            )
    parts = given.spaces if isinstance(given, Dict) else {"observation": given}
    spaces = {}
    for key, rows in frames.items():
        part = parts.get(key, parts.get(key.removeprefix(GOAL_PREFIX)))  # a goal has its key's space
        spaces[key] = part if part is not None and _fits(part, rows) else _space(rows)
    return spaces["observation"] if list(frames) == ["observation"] else Dict(list(spaces.items()))


def _fits(space: gymnasium.Space[Any], rows: Array) -> bool:
    """Return whether rows have the shape and dtype of a space."""
    return space.shape == rows.shape[1:] and space.dtype == rows.dtype


def _space(rows: Array) -> gymnasium.Space[Any]:
    shape, dtype = rows.shape[1:], rows.dtype
    if 0 in shape:
        raise DataError(
            f"empty arrays (of shape {list(shape)}) cannot be in a Minari dataset",
            got=shape,
            advice="leave them out",
        )
    if dtype.kind == "f":
        return Box(-np.inf, np.inf, shape, dtype.type)
    if dtype.kind == "b":
        return Box(0, 1, shape, np.bool_)
    if dtype.kind in "iu":
        return Box(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype.type)
    raise DataError(f"{dtype} arrays cannot be in a Minari dataset", got=dtype, advice="leave them out")
