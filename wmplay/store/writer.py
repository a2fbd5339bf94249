"""All functions that change a store. Only this module takes its locks."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.contracts import Provenance, Trajectory
from wmplay.errors import StoreError, suggestion
from wmplay.store.manifest import (
    SHARDS,
    Contents,
    Manifest,
    check_columns,
    exists,
    read_contents,
    read_manifest,
    write_manifest,
)
from wmplay.store.metadata import check_origins, origins, read_metadata, remembered
from wmplay.store.shard import (
    INFO,
    Columns,
    Damaged,
    Layout,
    Shard,
    columns,
    layout_of,
    merge_shards,
    write_shard,
)
from wmplay.system.locks import is_claimed, locked

LOCK = ".lock"
CHUNK = 64 << 20  # bytes of trajectories that a writer collects for a shard
FULL = 32 << 20  # bytes from which a shard is no longer merged
FANOUT = 8  # small shards at most at the end of a store


def append(
    path: Path,
    trajectories: Iterable[Trajectory],
    max_steps: int | None,
    known: Sequence[Shard] = (),
    *,
    made_with: Sequence[Provenance] = (),
    other_world: bool = False,
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Contents:
    """Write trajectories next to the store's shards, then commit them; after a failure the store is
    unchanged.

    ``known`` are shards that are open already, ``made_with`` is the provenance of the trajectories; see
    ``save_trajectories`` for the other arguments.
    """
    if max_steps is not None and max_steps < 1:
        raise StoreError(
            f"max_steps is {max_steps}", got=max_steps, expected="at least 1, or None to keep every episode"
        )
    contents = read_contents(path, known) if exists(path) else None
    if contents:
        contents.check(path)
        if not other_world:  # before the work of making the trajectories, not at the commit
            check_origins(path, origins(read_metadata(path)), made_with)
    with _workroom(path) as room:
        fresh = []
        for chunk in _chunks(trajectories, contents.manifest.columns if contents else None):
            with _explained(path):
                fresh.append(write_shard(room / secrets.token_hex(8), layout_of(chunk[0]), chunk))
        if fresh:
            with (
                _explained(path),
                locked(path / LOCK),
                remembered(path, made_with, notes, is_new=not exists(path)),
            ):
                return _commit(path, room, fresh, max_steps, contents.shards if contents else ())
    if contents is None:
        raise StoreError(
            f"there are no trajectories to make the store {path} of", got=path, advice="give at least one"
        )
    return contents


def restore(path: Path, manifest: Manifest) -> None:
    """Make an earlier manifest the store's again. Raise StoreError if its shards were deleted."""
    with _explained(path), locked(path / LOCK):
        gone = [record for record in manifest.shards if not (path / SHARDS / record.name).is_dir()]
        if gone:
            raise StoreError(
                f"store {path} cannot go back to the snapshot: {len(gone)} of its {len(manifest.shards)} "
                "shards are gone, by a vacuum or by hand",
                got=len(gone),
                advice="restore them from a copy",
            )
        write_manifest(path, manifest)


def vacuum(path: Path) -> None:
    """Delete all shards that the store does not refer to, and the folders of writers that died."""
    with _explained(path), locked(path / LOCK):
        if (path / SHARDS).is_symlink():
            raise StoreError(
                f"{path / SHARDS} is a link: nothing is deleted where it leads", got=path / SHARDS
            )
        entries = list((path / SHARDS).iterdir())
        _sweep(path, {entry.name for entry in entries if not is_claimed(entry / LOCK)})


def _chunks(trajectories: Iterable[Trajectory], layout: Layout | None) -> Iterator[list[Columns]]:
    """Yield trajectories in chunks of a shard, each checked against the layout, or against the first
    one's."""
    chunk: list[Columns] = []
    size = 0
    for index, trajectory in enumerate(trajectories):
        if len(trajectory) == 0:
            raise StoreError(f"trajectory {index} has no steps: expected at least one")
        try:
            arrays = columns(trajectory)
            if layout is None:
                layout = layout_of(arrays)
                check_columns(layout)
            arrays = _with_infos(arrays, layout)
        except ValueError as error:
            raise StoreError(
                f"trajectory {index}: {error}; leave it out, or fix what it was made with"
            ) from error
        _check_layout(layout_of(arrays), layout, f"trajectory {index}")
        chunk.append(arrays)
        size += sum(array.nbytes for array in arrays.values())
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _with_infos(arrays: Columns, layout: Layout) -> Columns:
    """Return a trajectory's columns with the infos of a layout, of which none need be known."""
    unknown = np.full(len(arrays["action"]), np.nan, np.float32)
    infos = {name: arrays.get(name, unknown) for name in layout if name.startswith(INFO)}
    return {**{name: array for name, array in arrays.items() if not name.startswith(INFO)}, **infos}


def _check_layout(got: Layout, expected: Layout, what: str) -> None:
    if got == expected:
        return
    for name, column in expected.items():
        if name not in got:
            raise StoreError(f"{what} has no {name}: the store has {', '.join(expected)}")
        if got[name] != column:
            raise StoreError(
                f"{what}: {name} is {got[name]}, the store has {column}; save it to another store"
            )
    for name in got.keys() - expected.keys():
        raise StoreError(
            f"{what} has '{name}', which the store does not have",
            got=name,
            advice=suggestion(name, expected),
        )


def _commit(
    path: Path, room: Path, fresh: Sequence[Shard], max_steps: int | None, known: Sequence[Shard]
) -> Contents:
    """Move a writer's new shards into the store. The lock must be held."""
    layout, shards, dropped = fresh[0].layout, list(fresh), 0
    if exists(path):
        contents = read_contents(path, known)  # again, because others may have appended
        contents.check(path)
        _check_layout(layout, contents.manifest.columns, "trajectory 0")
        layout, shards, dropped = contents.manifest.columns, [*contents.shards, *fresh], contents.dropped
    shards, dropped = _drop_oldest(shards, dropped, max_steps)
    try:
        shards, dropped = _merge_small(shards, dropped, room)
    except Damaged as damage:
        read_contents(path, known, verify=True).check(path)
        raise StoreError(f"{damage}: it was just written, look at the disk") from damage
    manifest = Manifest(layout, tuple(shard.record for shard in shards), dropped)
    try:
        for i, shard in enumerate(shards):
            if shard.directory.parent == room:
                shards[i] = replace(shard, directory=path / SHARDS / shard.record.name)
                os.rename(shard.directory, shards[i].directory)
        write_manifest(path, manifest)
    except BaseException:
        _sweep(path, {shard.record.name for shard in shards})
        raise
    return Contents(manifest, tuple(shards))


def _drop_oldest(shards: list[Shard], dropped: int, max_steps: int | None) -> tuple[list[Shard], int]:
    """Drop the oldest episodes to keep at most ``max_steps`` steps; the newest episode always stays."""
    if max_steps is None:
        return shards, dropped
    lengths = np.concatenate([shard.lengths for shard in shards])
    fitting = int(np.searchsorted(np.cumsum(lengths[::-1]), max_steps, side="right"))
    dropped = max(dropped, len(lengths) - max(fitting, 1))
    while dropped >= shards[0].record.episodes:
        dropped -= shards[0].record.episodes
        shards = shards[1:]
    return shards, dropped


def _merge_small(shards: list[Shard], dropped: int, room: Path) -> tuple[list[Shard], int]:
    """Merge the last shards if they are many and small.

    The merge takes the longest tail of at least FANOUT shards whose first is no larger than all others of it
    together. So each time that a row is copied, its shard at least doubles: a row is copied log2(n) times at
    most. The sizes of unmerged shards at least halve from one to the next: at most FANOUT + log2(n) shards
    are not full.
    """
    sizes = [shard.nbytes for shard in shards]
    not_full = max((i + 1 for i, size in enumerate(sizes) if size >= FULL), default=0)
    for i in range(not_full, len(shards) - FANOUT + 1):
        if sizes[i] <= sum(sizes[i + 1 :]):
            skip = dropped if i == 0 else 0
            merged = merge_shards(room / secrets.token_hex(8), shards[i:], skip)
            return [*shards[:i], merged], dropped - skip
    return shards, dropped


def _sweep(path: Path, names: set[str]) -> None:
    """Delete those entries of the shards' directory that the store does not refer to. The lock must be
    held."""
    kept = {record.name for record in read_manifest(path).shards} if exists(path) else set()
    for name in names - kept:
        shutil.rmtree(path / SHARDS / name, ignore_errors=True)


@contextmanager
def _workroom(path: Path) -> Iterator[Path]:
    """Yield a directory in which to prepare shards, and delete it afterwards.

    The writer holds the directory's lock, which keeps it from being vacuumed while the writer lives.
    """
    room = path / SHARDS / f".writing-{secrets.token_hex(8)}"
    with ExitStack() as alive:
        try:
            with _explained(path), locked(path / LOCK):
                alive.enter_context(locked(room / LOCK))
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
            if not exists(path):
                _remove_empty(path)


def _remove_empty(path: Path) -> None:
    """Remove the directories of a store that was never committed, unless another writer uses them."""
    with suppress(OSError), locked(path / LOCK):
        (path / SHARDS).rmdir()
        (path / LOCK).unlink()
        path.rmdir()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an OSError within the block into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to the store {path} ({error.strerror or error})",
            got=path,
            advice="it is as it was before; make room, get permission or choose another directory",
        ) from error
