"""The manifest: the list of a store's columns and shards.

Readers trust only the manifest. A store changes only by renaming a new manifest over the old one.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from wmplay.contracts import Array
from wmplay.errors import StoreError
from wmplay.store.shard import (
    EPISODES,
    INFO,
    OBSERVATION,
    STEPS,
    Column,
    Damaged,
    Layout,
    Record,
    Shard,
    can_be_packed,
    file_of,
    open_shard,
)
from wmplay.system.reading import read_json

SCHEMA = 1
MANIFEST = "manifest.json"
SHARDS = "shards"
DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
LARGEST = 1 << 40  # values at most in a row of a column
LONGEST_NAME = 255  # bytes at most in a file's name, on any file system


@dataclass(frozen=True)
class Manifest:
    """The columns and shards of a store."""

    columns: Layout
    shards: tuple[Record, ...]  # oldest first
    dropped: int  # number of the first shard's episodes that no longer belong to the store

    @property
    def episodes(self) -> int:
        """The number of episodes in the store."""
        return sum(record.episodes for record in self.shards) - self.dropped

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain lists, dicts and numbers."""
        return {
            "schema": SCHEMA,
            "columns": {
                name: {"dtype": column.dtype.name, "shape": list(column.shape)}
                for name, column in self.columns.items()
            },
            "dropped": self.dropped,
            "shards": [{**asdict(record), "packed": list(record.packed)} for record in self.shards],
        }

    @staticmethod
    def from_json(content: Any, source: str) -> Manifest:
        """Return the manifest in the result of ``to_json``. Raise StoreError for another schema or
        content."""
        schema = content.get("schema") if isinstance(content, Mapping) else None
        if schema != SCHEMA:
            raise StoreError(
                f"{source} has schema {schema!r:.20}, this version of wmplay reads schema {SCHEMA}",
                got=schema,
                advice="read it with the version that wrote it",
            )
        try:
            found = msgspec.convert(content, _Content)
            columns = {name: Column(np.dtype(c.dtype), c.shape) for name, c in found.columns.items()}
            check_columns(columns)
            _check_shards(columns, found.shards, found.dropped)
        except ValueError as error:
            raise StoreError(
                f"{source} is damaged ({error})", got=source, advice="restore it from a copy"
            ) from error
        return Manifest(columns, found.shards, found.dropped)


@dataclass(frozen=True)
class _Column:
    dtype: Literal[DTYPES]  # type: ignore[valid-type]  # the names are data
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=1 << 31)], ...], Meta(max_length=16)]


@dataclass(frozen=True)
class _Content:
    """The content of a manifest's file."""

    columns: dict[str, _Column]
    shards: tuple[Record, ...]
    dropped: Annotated[int, Meta(ge=0)]


def check_columns(columns: Layout) -> None:
    """Raise ValueError if the columns cannot be those of trajectories."""
    for name, dtype in {"reward": "float32", "terminated": "bool", "truncated": "bool"}.items():
        if columns.get(name) != Column(np.dtype(dtype), ()):
            raise ValueError(f"{name} is {columns.get(name)}, expected {dtype} []")
    action = columns.get("action")
    if action is None or (action.dtype.kind, len(action.shape)) not in (("f", 1), ("i", 0), ("u", 0)):
        raise ValueError(f"action is {action}, expected floating [A], or whole [] for discrete actions")
    for name, column in columns.items():
        if name not in STEPS and not name.startswith((OBSERVATION, INFO)):
            raise ValueError(f"{name!r:.40} is no column of a store: expected {OBSERVATION}<key>")
        if name.startswith(INFO) and column != Column(np.dtype(np.float32), ()):
            raise ValueError(f"{name:.40} is {column}, expected float32 []")
        if len(file_of(name)) > LONGEST_NAME:
            raise ValueError(f"{name!r:.40} makes a file name of over {LONGEST_NAME} bytes")
        if column.dtype.name not in DTYPES or not column.dtype.isnative:
            raise ValueError(f"{name} has dtype {column.dtype}: expected one that tensors have too")
        if math.prod(max(size, 1) for size in column.shape) > LARGEST:
            raise ValueError(f"{name} is {column}, expected at most {LARGEST} values")


def _check_shards(columns: Layout, shards: Sequence[Record], dropped: int) -> None:
    """Raise ValueError if the records of the shards contradict each other or the columns."""
    names = Counter(shard.name for shard in shards)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"shard {twice[0]} belongs to it twice")
    if dropped >= (shards[0].episodes if shards else 1):
        raise ValueError(f"{dropped} episodes of its first shard are dropped, expected fewer than it has")
    files = {file_of(name) for name in (EPISODES, *columns)}
    packable = {
        name for name, column in columns.items() if name.startswith(OBSERVATION) and can_be_packed(column)
    }
    for shard in shards:
        if shard.episodes > shard.steps:
            raise ValueError(f"shard {shard.name} has {shard.episodes} episodes of {shard.steps} steps")
        if not packable.issuperset(shard.packed) or len(set(shard.packed)) < len(shard.packed):
            raise ValueError(f"shard {shard.name} packs what is no binary observation, or twice")
        if shard.crc32.keys() != files:
            odd = min(shard.crc32.keys() ^ files)
            raise ValueError(f"shard {shard.name} has other files than its columns need: {odd!r:.80}")


@dataclass(frozen=True)
class Contents:
    """A manifest and its open shards."""

    manifest: Manifest
    shards: tuple[Shard, ...]
    damages: tuple[Damaged, ...] = ()  # of the shards that could not be opened

    @property
    def dropped(self) -> int:
        """The number of episodes of the first open shard that no longer belong to the store."""
        is_first = len(self.shards) > 0 and self.shards[0].record == self.manifest.shards[0]
        return self.manifest.dropped if is_first else 0

    @property
    def lengths(self) -> Array:
        """The number of steps T of each readable episode, [episodes] int64."""
        lengths = [np.zeros(0, np.int64), *(shard.lengths for shard in self.shards)]
        return np.concatenate(lengths)[self.dropped :]

    def check(self, path: Path) -> None:
        """Raise StoreError if a shard is damaged."""
        if self.damages:
            more = f" and {len(self.damages) - 1} more" if len(self.damages) > 1 else ""
            raise StoreError(
                f"{self.damages[0]}{more}",
                advice=(
                    f"{len(self.lengths)} of {self.manifest.episodes} episodes are readable, by "
                    f"load_trajectories('{path}', skip_damaged=True); to go on, save those elsewhere"
                ),
            )


def exists(path: Path) -> bool:
    """Return whether ``path`` is a store."""
    return (path / MANIFEST).exists()


def read_manifest(path: Path) -> Manifest:
    """Return the current manifest of the store at ``path``. Raise StoreError if it cannot be read."""
    file = path / MANIFEST
    try:
        content = read_json(file, StoreError)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{path} is not a trajectory store (it has no {MANIFEST}): expected a directory made by "
            "save_trajectories",
            got=path,
        ) from error
    return Manifest.from_json(content, str(file))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace the store's manifest, which is the moment at which a store changes. The lock must be held."""
    beside = path / f".{MANIFEST}.writing"
    try:
        beside.write_text(json.dumps(manifest.to_json(), indent=1))
        os.replace(beside, path / MANIFEST)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_contents(path: Path, known: Iterable[Shard] = (), *, verify: bool = False) -> Contents:
    """Return the current content of a store; shards that are open already are not opened again.

    Args:
        path: the store's directory.
        known: open shards.
        verify: whether to read every file and compare checksums.
    """
    is_open = {shard.record.name: shard for shard in known}
    while True:
        manifest = read_manifest(path)
        shards, damages = [], []
        for record in manifest.shards:
            try:
                shard = is_open.get(record.name)
                if shard is None:
                    shard = open_shard(path / SHARDS / record.name, record, manifest.columns)
                if verify:
                    shard.verify()
                shards.append(shard)
            except Damaged as damage:
                damages.append(damage)
        if not damages or read_manifest(path) == manifest:
            return Contents(manifest, tuple(shards), tuple(damages))
        # The shards were merged or dropped, and deleted, since the manifest was read: they are not damaged.
