"""The store: trajectories on disk, for data sets and for replay alike.

A store is a directory::

    manifest.json        what belongs to the store: the columns, and the shards in order
    shards/<name>/       trajectories end to end, as plain .npy files (see shard.py); never changed
    shards/.writing-*/   where a writer prepares its shards; nobody reads it
    .lock                held for a moment while the manifest changes

A writer prepares new shards beside the others. Then, holding the lock, it reads the manifest, moves its
shards into place and renames a new manifest over the old one: that rename is the moment at which the
trajectories join the store, all of them or none, whatever kills the writer. Readers take no lock: they
read one manifest and map what it names, and that view stays as it is while others append. Small shards
are merged into larger ones as they come, so that any number of small appends stays quick to read.

Appending deletes no files, so the store can return to any earlier ``snapshot()``, until ``vacuum()``.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmplay.contracts import Array, Segment, Trajectory
from wmplay.errors import StoreError, did_you_mean
from wmplay.shard import (
    OBSERVATION,
    Column,
    Columns,
    Damaged,
    Layout,
    Record,
    Shard,
    columns,
    layout_of,
    merge_shards,
    open_shard,
    unpack,
    write_shard,
)

SCHEMA = 1
CHUNK = 64 << 20  # bytes of trajectories that a writer holds before it writes a shard
FULL = 32 << 20  # bytes of a shard that is never merged again
MANIFEST = "manifest.json"
SHARDS = "shards"
LOCK = ".lock"
FANOUT = 8  # how many small shards may stand in a row


def save_trajectories(
    trajectories: Iterable[Trajectory], path: str | Path, *, max_steps: int | None = None
) -> Store:
    """Append trajectories to the store at ``path``, made if it is not there, and clear up behind.

    All of them join the store at once, at the end. A generator is written as it comes, in bounded memory.

    Args:
        trajectories: with the same keys, dtypes and shapes as those in the store.
        path: the store's directory.
        max_steps: afterwards, drop the oldest episodes until at most so many steps are left
            (the newest episode always stays).

    Raises:
        StoreError: where trajectories do not fit the store or the disk; the store is then as before.
    """
    store = _append(Path(path), trajectories, max_steps)
    store.vacuum()
    return store


def load_trajectories(path: str | Path, *, skip_damaged: bool = False) -> Store:
    """The store at ``path``, as it is now.

    Args:
        path: the store's directory.
        skip_damaged: verify every file, and leave out the episodes of those that are damaged.

    Raises:
        StoreError: where there is no store, it has another schema, or a file is damaged.
    """
    return _open(Path(path), skip_damaged=skip_damaged)


class Store:
    """A view of a store as it was when it was loaded: ``len(store)`` episodes, ``store[i]`` a Trajectory.

    The view never changes, whatever is appended, merged, dropped or deleted meanwhile;
    ``append`` and ``load_trajectories`` return new ones.
    """

    def __init__(
        self, path: Path, manifest: Manifest, shards: Sequence[Shard], damages: Sequence[Damaged] = ()
    ) -> None:
        """A view of the shards of a manifest; use ``load_trajectories``."""
        self.path = path
        self._manifest = manifest
        self._shards = list(shards)
        self.damages = list(damages)  # what was left out
        is_whole = len(shards) > 0 and shards[0].record == manifest.shards[0]
        live = slice(manifest.dropped if is_whole else 0, None)
        lengths = [shard.lengths for shard in shards]
        self.lengths = _concatenate(lengths)[live]  # [episodes]: T of each
        self._shard = _concatenate([np.full(len(n), i) for i, n in enumerate(lengths)])[live]
        # the rows of each episode's first action and first observation in its shard
        self._first_step = _concatenate([np.cumsum(n) - n for n in lengths])[live]
        self._first_frame = _concatenate([np.cumsum(n + 1) - (n + 1) for n in lengths])[live]

    def __len__(self) -> int:
        """The number of episodes."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> Trajectory:
        """Episode ``index``, oldest first; negative ones count from the end. Arrays are copies."""
        episode = range(len(self))[index]
        length = int(self.lengths[episode])
        arrays = {
            name: self._gather(name, np.array([episode]), np.array([0]), length)[0]
            for name in self._manifest.columns
        }
        observation = {
            name.removeprefix(OBSERVATION): arrays.pop(name)
            for name in self._manifest.columns
            if name.startswith(OBSERVATION)
        }
        return Trajectory(observation, **arrays)

    def __iter__(self) -> Iterator[Trajectory]:
        """All episodes, oldest first."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} episodes, {self.steps} steps)"

    @property
    def steps(self) -> int:
        """The number of steps in all episodes."""
        return int(self.lengths.sum())

    @property
    def space(self) -> dict[str, Column]:
        """The dtype and shape of one step's ``observation.<key>``, ``action``, ``reward`` and so on."""
        return dict(self._manifest.columns)

    def sample(self, batch_size: int, length: int, generator: np.random.Generator | int) -> Segment:
        """Random windows, all valid starts in the store equally likely.

        An episode of T >= length steps has T - length + 1 starts. A shorter one has a single one: it is
        padded by its last frame and by zero actions, with the mask False.

        Args:
            batch_size: B.
            length: T of the segment, in steps.
            generator: all random draws come from it.

        Returns:
            A Segment: observation {key: [B, length + 1, ...]}, action [B, length, A] and so on.

        Raises:
            StoreError: where there is nothing to sample.
        """
        if len(self) == 0:
            raise StoreError(f"store {self.path} has no episodes to sample: save some trajectories first")
        starts = np.maximum(self.lengths - length + 1, 1)
        ends = np.cumsum(starts)
        drawn = np.random.default_rng(generator).integers(ends[-1], size=batch_size)
        episodes = np.searchsorted(ends, drawn, side="right")
        return self.segment(episodes, drawn - (ends - starts)[episodes], length)

    def segment(self, episodes: Array, starts: Array, length: int) -> Segment:
        """The windows that begin at step ``starts[b]`` of episode ``episodes[b]``, padded as in ``sample``.

        Args:
            episodes: [B] int.
            starts: [B] int, each less than its episode's number of steps.
            length: of all windows, in steps.
        """
        episodes, starts = np.asarray(episodes), np.asarray(starts)
        left = self.lengths[episodes] - starts
        if length < 1 or np.any(starts < 0) or np.any(left < 1):
            raise StoreError("a window must have a length of at least 1 and start inside of its episode")
        arrays = {
            name: torch.from_numpy(self._gather(name, episodes, starts, length))
            for name in self._manifest.columns
            if name != "truncated"
        }
        observation = {
            name.removeprefix(OBSERVATION): arrays.pop(name)
            for name in self._manifest.columns
            if name.startswith(OBSERVATION)
        }
        mask = torch.from_numpy(np.arange(length) < left[:, None])
        return Segment(observation, mask=mask, **arrays)

    def _gather(self, name: str, episodes: Array, starts: Array, length: int) -> Array:
        """[B, length (+ 1 for observations), ...] of one column, in its own dtype."""
        column = self._manifest.columns[name]
        is_observation = name.startswith(OBSERVATION)
        firsts = self._first_frame if is_observation else self._first_step
        rows = firsts[episodes] + starts
        sizes = np.minimum(self.lengths[episodes] - starts, length) + is_observation
        length += is_observation
        parts = [shard.stored[name] for shard in self._shards]
        packed = [name in shard.record.packed for shard in self._shards]
        together = all(packed)  # then the windows are gathered packed, and unpacked all at once
        row_shape, dtype = (parts[0].shape[1:], np.uint8) if together else (column.shape, column.dtype)
        out: Array = np.empty((len(episodes), length, *row_shape), dtype)
        for window, part, row, size in zip(
            out, self._shard[episodes].tolist(), rows.tolist(), sizes.tolist(), strict=True
        ):
            values = parts[part][row : row + size]
            window[:size] = unpack(values, column) if packed[part] and not together else values
            if size < length:
                window[size:] = window[size - 1] if is_observation else 0
        return unpack(out, column) if together else out

    def append(self, trajectories: Iterable[Trajectory], *, max_steps: int | None = None) -> Store:
        """Append trajectories as ``save_trajectories`` does, but delete no files; returns the new view."""
        return _append(self.path, trajectories, max_steps, self._shards)

    def snapshot(self) -> dict[str, Any]:
        """What this view holds, as JSON: give it to ``Store.restore`` to come back to it."""
        return self._manifest.to_json()

    @staticmethod
    def restore(path: str | Path, snapshot: Mapping[str, Any]) -> Store:
        """Make the store what it was at a snapshot: what joined it since is dropped.

        Raises:
            StoreError: where files of the snapshot are gone: it was vacuumed since.
        """
        path = Path(path)
        manifest = Manifest.from_json(snapshot)
        gone = [record.name for record in manifest.shards if not (path / SHARDS / record.name).is_dir()]
        if gone:
            raise StoreError(
                f"store {path} cannot go back to the snapshot: {len(gone)} of its {len(manifest.shards)} "
                "shards are no longer there (deleted by a vacuum since)"
            )
        with _locked(path), _explained(path):
            _write_manifest(path, manifest)
        return _open(path)

    def verify(self) -> None:
        """Read every file of the store, as it is now. Raises StoreError where a checksum differs."""
        readable = load_trajectories(self.path, skip_damaged=True)
        if readable.damages:
            raise _damage_error(readable)

    def vacuum(self) -> None:
        """Delete what the store no longer refers to: dropped and merged shards, dead writers' leftovers.

        Open views stay readable. Snapshots from before may no longer be restored.
        """
        with _locked(self.path), _explained(self.path):
            entries = list((self.path / SHARDS).iterdir())
            _sweep(self.path, {entry.name for entry in entries if not _is_held(entry)})


@dataclass(frozen=True)
class Manifest:
    """What belongs to a store: ``manifest.json``."""

    columns: Layout
    shards: tuple[Record, ...] = ()  # oldest first
    dropped: int = 0  # how many of the first shard's episodes no longer belong

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
    def from_json(content: Mapping[str, Any]) -> Manifest:
        """Undo ``to_json``. Raises KeyError, TypeError or ValueError where it is not such a content."""
        return Manifest(
            {name: Column(np.dtype(c["dtype"]), tuple(c["shape"])) for name, c in content["columns"].items()},
            tuple(Record(**{**record, "packed": tuple(record["packed"])}) for record in content["shards"]),
            content["dropped"],
        )


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "expected a directory made by save_trajectories"
        raise StoreError(f"{path} is not a trajectory store (it has no {MANIFEST}): {hint}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the store {path}: {file} is damaged ({error})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise StoreError(
            f"store {path} has schema {schema}, this version of wmplay reads {SCHEMA}: "
            "read it with the version that wrote it"
        )
    try:
        return Manifest.from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"cannot read the store {path}: {file} is damaged ({error!r})") from error


def _write_manifest(path: Path, manifest: Manifest) -> None:
    """The moment at which a change happens. The lock is held."""
    beside = path / f".{MANIFEST}.writing"
    try:
        beside.write_text(json.dumps(manifest.to_json(), indent=1))
        os.replace(beside, path / MANIFEST)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _open(path: Path, known: Sequence[Shard] = (), *, skip_damaged: bool = False) -> Store:
    """The store as it is now; shards that are open already are not opened again."""
    is_open = {shard.record.name: shard for shard in known}
    while True:
        manifest = _read_manifest(path)
        shards: list[Shard] = []
        damages: list[Damaged] = []
        for record in manifest.shards:
            try:
                shard = is_open.get(record.name) or open_shard(
                    path / SHARDS / record.name, record, manifest.columns
                )
                if skip_damaged:
                    shard.verify()
                shards.append(shard)
            except Damaged as damage:
                damages.append(damage)
        if damages and _read_manifest(path) != manifest:
            continue  # not damaged, but merged or dropped, and vacuumed, since the manifest was read
        store = Store(path, manifest, shards, damages)
        if damages and not skip_damaged:
            raise _damage_error(store)
        return store


def _damage_error(store: Store) -> StoreError:
    episodes = sum(record.episodes for record in store._manifest.shards) - store._manifest.dropped
    more = f" and {len(store.damages) - 1} more" if len(store.damages) > 1 else ""
    return StoreError(
        f"{store.damages[0]}{more}: {len(store)} of {episodes} episodes are readable, by "
        f"load_trajectories('{store.path}', skip_damaged=True); save those to a new store to go on"
    )


def _append(
    path: Path, trajectories: Iterable[Trajectory], max_steps: int | None, known: Sequence[Shard] = ()
) -> Store:
    """Write trajectories beside the store and commit them; nothing changes where that fails."""
    store = _open(path, known) if (path / MANIFEST).exists() else None
    with _workroom(path) as room:
        fresh = []
        for chunk in _chunks(trajectories, store.space if store else None):
            with _explained(path):
                fresh.append(write_shard(room / secrets.token_hex(8), layout_of(chunk[0]), chunk))
        if fresh:
            with _explained(path), _locked(path):
                return _commit(path, room, fresh, max_steps, store._shards if store else ())
    if store is None:
        raise StoreError(f"there are no trajectories to make the store {path} of: give at least one")
    return store


def _chunks(trajectories: Iterable[Trajectory], layout: Layout | None) -> Iterator[list[Columns]]:
    """Trajectories by the shard, each checked against the layout, or the first one's."""
    chunk, size = [], 0
    for index, trajectory in enumerate(trajectories):
        arrays = columns(trajectory)
        if len(trajectory) == 0:
            raise StoreError(f"trajectory {index} has no steps: expected at least one")
        if layout is None:
            layout = layout_of(arrays)
            _check_dtypes(layout)
        _check_layout(layout_of(arrays), layout, f"trajectory {index}")
        chunk.append(arrays)
        size += sum(array.nbytes for array in arrays.values())
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _check_dtypes(layout: Layout) -> None:
    for name, column in layout.items():
        try:
            torch.from_numpy(np.empty(0, column.dtype))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{name} has dtype {column.dtype}: expected one that a tensor can have"
            ) from error


def _check_layout(got: Layout, expected: Layout, what: str) -> None:
    if got == expected:
        return
    for name in got.keys() - expected.keys():
        raise StoreError(f"{what} has {name}, which the store has not{did_you_mean(name, expected)}")
    for name, column in expected.items():
        if name not in got:
            raise StoreError(f"{what} has no {name}: the store has {', '.join(expected)}")
        if got[name] != column:
            raise StoreError(
                f"{what}: {name} is {got[name]}, the store has {column}: save it to another store"
            )


def _commit(
    path: Path, room: Path, fresh: Sequence[Shard], max_steps: int | None, known: Sequence[Shard]
) -> Store:
    """Make shards of a writer's room part of the store. The lock is held."""
    manifest = Manifest(fresh[0].layout)
    shards: list[Shard] = []
    if (path / MANIFEST).exists():
        store = _open(path, known)  # anew: others may have appended meanwhile
        manifest, shards = store._manifest, store._shards
        _check_layout(fresh[0].layout, manifest.columns, "trajectory 0")
    shards, dropped = _drop_oldest([*shards, *fresh], manifest.dropped, max_steps)
    shards, dropped = _merge_small(shards, dropped, room)
    manifest = Manifest(manifest.columns, tuple(shard.record for shard in shards), dropped)
    try:
        for i, shard in enumerate(shards):
            if shard.directory.parent == room:
                shards[i] = replace(shard, directory=path / SHARDS / shard.record.name)
                os.rename(shard.directory, shards[i].directory)
        _write_manifest(path, manifest)
    except BaseException:
        _sweep(path, {shard.record.name for shard in shards})
        raise
    return Store(path, manifest, shards)


def _drop_oldest(shards: list[Shard], dropped: int, max_steps: int | None) -> tuple[list[Shard], int]:
    """Leave out the oldest episodes, all but the newest if need be, for at most ``max_steps`` steps."""
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
    """Merge the last shards where they are many and small.

    The longest tail of at least FANOUT shards is merged whose first is no larger than the rest of it.
    A row thus doubles its shard each time that it is copied, log2(n) times at most, and the sizes that
    stay at least halve from shard to shard: there are at most FANOUT + log2(n) of them that are not full.
    """
    sizes = [shard.nbytes for shard in shards]
    begin = max((i + 1 for i, size in enumerate(sizes) if size >= FULL), default=0)
    for i in range(begin, len(shards) - FANOUT + 1):
        if sizes[i] <= sum(sizes[i + 1 :]):
            skip = dropped if i == 0 else 0
            merged = merge_shards(room / secrets.token_hex(8), shards[i:], skip)
            return [*shards[:i], merged], dropped - skip
    return shards, dropped


def _sweep(path: Path, names: Iterable[str]) -> None:
    """Delete those entries of the shards' directory that the store does not refer to. The lock is held."""
    manifest = _read_manifest(path) if (path / MANIFEST).exists() else None
    kept = {record.name for record in manifest.shards} if manifest else set()
    for name in set(names) - kept:
        shutil.rmtree(path / SHARDS / name, ignore_errors=True)


@contextmanager
def _workroom(path: Path) -> Iterator[Path]:
    """A directory in which to prepare shards. Its lock, held as long as its writer lives, keeps it from
    being vacuumed; it is gone afterwards, and so is the store where none was made."""
    with ExitStack() as room_lock:
        with _explained(path), _locked(path):
            room = path / SHARDS / f".writing-{secrets.token_hex(8)}"
            room.mkdir(parents=True)
            room_lock.enter_context(_locked(room))
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
            if not (path / MANIFEST).exists():
                with _locked(path), suppress(OSError):
                    (path / SHARDS).rmdir()  # unless another writer is at work
                    (path / LOCK).unlink()
                    path.rmdir()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock. The system lets go of it when its holder dies, however it dies."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with open(directory / LOCK, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_there(directory / LOCK, file.fileno()):
                yield
                return


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether a file that was opened has not been deleted since."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_held(directory: Path) -> bool:
    """Whether a living process holds a directory's lock."""
    try:
        with open(directory / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the system's refusals into one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to the store {path} ({error.strerror or error}): nothing was saved, what was "
            "there is as before; make room or choose another directory"
        ) from error


def _concatenate(parts: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.int64), *parts])
