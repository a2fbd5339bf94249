"""The manifest: what belongs to a store.

Readers trust it alone, and renaming a new one over it is the only way in which a store changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.contracts import Array
from wmplay.errors import StoreError
from wmplay.store.shard import Column, Damaged, Layout, Record, Shard, open_shard

SCHEMA = 1
MANIFEST = "manifest.json"
SHARDS = "shards"


@dataclass(frozen=True)
class Manifest:
    """What belongs to a store."""

    columns: Layout
    shards: tuple[Record, ...]  # oldest first
    dropped: int  # how many of the first shard's episodes no longer belong

    @property
    def episodes(self) -> int:
        """The number of episodes in the store."""
        return sum(record.episodes for record in self.shards) - self.dropped

    def to_json(self) -> dict[str, Any]:
        """As plain lists, dicts and numbers."""
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
        """Undo ``to_json``. Raises StoreError for another schema, or where it is not such a content."""
        schema = content.get("schema") if isinstance(content, Mapping) else None
        if schema != SCHEMA:
            raise StoreError(
                f"{source} has schema {schema}, this version of wmplay reads schema {SCHEMA}: "
                "read it with the version that wrote it"
            )
        try:
            return Manifest(
                {
                    name: Column(np.dtype(c["dtype"]), tuple(c["shape"]))
                    for name, c in content["columns"].items()
                },
                tuple(
                    Record(**{**record, "packed": tuple(record["packed"])}) for record in content["shards"]
                ),
                content["dropped"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{source} is damaged ({error!r}): restore it from a copy") from error


@dataclass(frozen=True)
class Contents:
    """A manifest and its shards, open."""

    manifest: Manifest
    shards: tuple[Shard, ...]
    damages: tuple[Damaged, ...] = ()  # of the shards that could not be opened

    @property
    def dropped(self) -> int:
        """How many of the first open shard's episodes do not belong."""
        is_first = len(self.shards) > 0 and self.shards[0].record == self.manifest.shards[0]
        return self.manifest.dropped if is_first else 0

    @property
    def lengths(self) -> Array:
        """[episodes] int64: T of each readable episode."""
        lengths = [np.zeros(0, np.int64), *(shard.lengths for shard in self.shards)]
        return np.concatenate(lengths)[self.dropped :]

    def check(self, path: Path) -> None:
        """Raises StoreError where a shard is damaged."""
        if self.damages:
            more = f" and {len(self.damages) - 1} more" if len(self.damages) > 1 else ""
            raise StoreError(
                f"{self.damages[0]}{more}: {len(self.lengths)} of {self.manifest.episodes} episodes are "
                f"readable, by load_trajectories('{path}', skip_damaged=True); to go on, save those elsewhere"
            )


def exists(path: Path) -> bool:
    """Whether there is a store at ``path``."""
    return (path / MANIFEST).exists()


def read_manifest(path: Path) -> Manifest:
    """The manifest of the store at ``path``, as it is now. Raises StoreError."""
    file = path / MANIFEST
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{path} is not a trajectory store (it has no {MANIFEST}): expected a directory made by "
            "save_trajectories"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot read {file} ({error.strerror}): check its permissions") from error
    except ValueError as error:
        raise StoreError(f"{file} is damaged ({error}): restore it from a copy") from error
    return Manifest.from_json(content, str(file))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """The moment at which a store changes. The lock is held."""
    beside = path / f".{MANIFEST}.writing"
    try:
        beside.write_text(json.dumps(manifest.to_json(), indent=1))
        os.replace(beside, path / MANIFEST)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_contents(path: Path, known: Iterable[Shard] = (), *, verify: bool = False) -> Contents:
    """The store as it is now; shards that are open already are not opened again.

    Args:
        path: the store's directory.
        known: open shards.
        verify: read every file and compare checksums.
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
        # Not damaged, but merged or dropped, and vacuumed, since the manifest was read.
