"""The functions ``save_trajectories`` and ``load_trajectories``, and the view of a store that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from wmplay.contracts import Array, Provenance, Segment, Trajectory, provenance_of
from wmplay.errors import StoreError
from wmplay.store import writer
from wmplay.store.manifest import Contents, Manifest, read_contents
from wmplay.store.metadata import origins, read_metadata
from wmplay.store.provenance import as_origin
from wmplay.store.shard import INFO, OBSERVATION, Column, Damaged, Shard, unpack

T = TypeVar("T")  # of arrays or tensors


def save_trajectories(
    trajectories: Iterable[Trajectory],
    path: str | Path,
    *,
    max_steps: int | None = None,
    env: Any = None,
    other_world: bool = False,
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Store:
    """Append trajectories to the store at ``path``, and delete shards that are no longer used.

    The store is created if it does not exist. All trajectories join the store at once, at the end. A
    generator is written as it yields, in bounded memory.

    Args:
        trajectories: with the same keys, dtypes and shapes as those in the store.
        path: the store's directory.
        max_steps: limit of the store's steps; the oldest episodes are dropped to keep to it (the newest
            episode always stays). None keeps all.
        env: the env that the trajectories come from, as ``make_env`` returns it, or its provenance. The store
            records it, and a run in another world refuses the store. None = unknown, or the provenance of the
            store given as ``trajectories``.
        other_world: whether trajectories from another world may join the store.
        notes: returns the content of a new store's ``metadata.json``, once all trajectories are written.

    Raises:
        StoreError: if trajectories do not fit the store or the disk; the store is then unchanged.
        WorldError: if the trajectories come from another world than those in the store.
    """
    path = Path(path)
    made_with = _made_with(trajectories, env)
    contents = writer.append(
        path, trajectories, max_steps, made_with=made_with, other_world=other_world, notes=notes
    )
    writer.vacuum(path)
    return Store(path, contents)


def load_trajectories(path: str | Path, *, skip_damaged: bool = False) -> Store:
    """Return a view of the store at ``path``.

    Args:
        path: the store's directory.
        skip_damaged: whether to verify every file, and leave out the episodes of damaged ones.

    Raises:
        StoreError: if the store does not exist, has another schema, or has a damaged file.
    """
    path = Path(path)
    contents = read_contents(path, verify=skip_damaged)
    if not skip_damaged:
        contents.check(path)
    return Store(path, contents)


class Store:
    """A view of a store at the time it was loaded: ``len(store)`` episodes, ``store[i]`` a Trajectory.

    The view never changes when trajectories are appended, merged, dropped or deleted; ``append`` and
    ``load_trajectories`` return new views.
    """

    def __init__(self, path: Path, contents: Contents) -> None:
        """Make a view of a store's content, for ``load_trajectories``."""
        self.path = path
        self._contents = contents
        self._columns = contents.manifest.columns
        self.lengths = contents.lengths  # [episodes] int64: T of each episode
        sizes = [shard.lengths for shard in contents.shards]
        self._shard = self._per_episode([np.full(len(size), i) for i, size in enumerate(sizes)])
        # the rows of each episode's first action and first observation in its shard
        self._first_step = self._per_episode([np.cumsum(size) - size for size in sizes])
        self._first_frame = self._per_episode([np.cumsum(size + 1) - (size + 1) for size in sizes])

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> Trajectory:
        """Return a copy of episode ``index``, oldest first; negative indices count from the end.

        A file's checksum is compared when its first episode is read.

        Raises:
            StoreError: if a checksum differs.
        """
        episode = range(len(self))[index]
        self._sound(int(self._shard[episode]))
        length = int(self.lengths[episode])
        arrays = {
            name: self._gather(name, np.array([episode]), np.array([0]), length)[0] for name in self._columns
        }
        observation, info = _taken(OBSERVATION, arrays), _taken(INFO, arrays)
        return Trajectory(observation, **arrays, info=info)

    def __iter__(self) -> Iterator[Trajectory]:
        """Iterate over all episodes, oldest first."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} episodes, {self.steps} steps)"

    @property
    def steps(self) -> int:
        """The number of steps in all episodes."""
        return int(self.lengths.sum())

    @property
    def space(self) -> dict[str, Column]:
        """The dtype and shape of one step's ``observation.<key>``, ``action``, ``info.<name>`` and so
        on."""
        return dict(self._columns)

    def rows(self, name: str) -> Iterator[Array]:
        """Yield all rows of one column of ``space``, in episode order, a shard at a time.

        Raises:
            StoreError: if a checksum differs.
        """
        frames = name.startswith(OBSERVATION)
        for number in range(len(self._contents.shards)):
            shard = self._sound(number)
            dropped = shard.lengths[: self._contents.dropped if number == 0 else 0]
            start = int(dropped.sum()) + len(dropped) * frames
            yield shard.decoded(name, start, len(shard.stored[name]))

    def sample(
        self,
        batch_size: int,
        length: int,
        generator: np.random.Generator | int,
        *,
        part: slice = slice(None),
        ends: bool = False,
    ) -> Segment:
        """Return random windows; all valid starts in the store are equally likely.

        An episode of T >= length steps has T - length + 1 starts. A shorter one has a single start: it is
        padded with its last frame and with zero actions, and its mask is False there.

        The last step of a long episode is in one of its windows, and a step in the middle in ``length`` of
        them. With ``ends`` a window may begin up to length - 1 steps before its episode or after its last
        start, and is moved into it, so that no step is in fewer windows than those in the middle.

        Args:
            batch_size: B.
            length: T of the segment, in steps.
            generator: of all random draws.
            part: the rows of the batch to read; all rows are drawn, and other processes read the others.
            ends: whether the ends of episodes are drawn as often as their middle.

        Returns:
            A Segment: observation {key: [B, length + 1, ...]}, action [B, length, A] and so on.

        Raises:
            StoreError: if the store is empty, or if a size is below 1.
        """
        if min(batch_size, length) < 1:
            raise StoreError(
                f"batch_size is {batch_size} and length {length}",
                got=(batch_size, length),
                expected="at least 1 of each",
            )
        if len(self) == 0:
            raise StoreError(
                f"store {self.path} has no episodes to sample",
                got=self.path,
                advice="save some trajectories first",
            )
        beyond = length - 1 if ends else 0
        starts = np.maximum(self.lengths - length + 1, 1)
        weights = starts + 2 * beyond
        bounds = np.cumsum(weights)
        drawn = np.random.default_rng(generator).integers(bounds[-1], size=batch_size)
        episodes = np.searchsorted(bounds, drawn, side="right")
        begins = drawn - (bounds - weights)[episodes] - beyond
        begins = np.clip(begins, 0, starts[episodes] - 1)
        return self.segment(episodes[part], begins[part], length)

    def segment(self, episodes: Array, starts: Array, length: int) -> Segment:
        """Return the windows that begin at step ``starts[b]`` of episode ``episodes[b]``, padded as in
        ``sample``.

        Args:
            episodes: [B] int.
            starts: [B] int, each less than its episode's number of steps.
            length: of all windows, in steps.
        """
        episodes, starts = np.asarray(episodes), np.asarray(starts)
        left = self.lengths[episodes] - starts
        if length < 1 or np.any(starts < 0) or np.any(left < 1):
            raise StoreError(
                "a window must have a length of at least 1 and start inside of its episode",
                got=(starts.tolist(), length),
            )
        arrays = {
            name: torch.from_numpy(self._gather(name, episodes, starts, length))
            for name in self._columns
            if name != "truncated" and not name.startswith(INFO)
        }
        observation = _taken(OBSERVATION, arrays)
        mask = torch.from_numpy(np.arange(length) < left[:, None])
        return Segment(observation, mask=mask, first=torch.from_numpy(starts == 0), **arrays)

    def _gather(self, name: str, episodes: Array, starts: Array, length: int) -> Array:
        """Return [B, length (+ 1 for observations), ...] of one column, in its own dtype."""
        column = self._columns[name]
        is_observation = name.startswith(OBSERVATION)
        sizes = np.minimum(self.lengths[episodes] - starts, length) + is_observation
        rows = (self._first_frame if is_observation else self._first_step)[episodes] + starts
        length += is_observation
        stored = [shard.stored[name] for shard in self._contents.shards]
        packed = [name in shard.record.packed for shard in self._contents.shards]
        unpack_last = all(packed)  # unpacking all windows together is faster
        pieces = []
        for shard, row, size in zip(
            self._shard[episodes].tolist(), rows.tolist(), sizes.tolist(), strict=True
        ):
            piece = stored[shard][row : row + size]
            if packed[shard] and not unpack_last:
                piece = unpack(piece, column)
            pieces.append(piece)
            if size < length:
                last = piece[-1:] if is_observation else np.zeros_like(piece[-1:])
                pieces.append(np.repeat(last, length - size, axis=0))
        values = np.concatenate(pieces)
        if unpack_last:
            values = unpack(values, column)
        return values.reshape(len(episodes), length, *column.shape)

    @property
    def made_with(self) -> tuple[Provenance, ...]:
        """The worlds of the store's trajectories, as far as they are known; more than one in a mixed
        store."""
        return origins(read_metadata(self.path))

    def append(
        self,
        trajectories: Iterable[Trajectory],
        *,
        max_steps: int | None = None,
        env: Any = None,
        other_world: bool = False,
    ) -> Store:
        """Append trajectories as ``save_trajectories`` does, without deleting files; return the new view."""
        contents = writer.append(
            self.path,
            trajectories,
            max_steps,
            self._contents.shards,
            made_with=_made_with(trajectories, env),
            other_world=other_world,
        )
        return Store(self.path, contents)

    def snapshot(self) -> dict[str, Any]:
        """Return this view's content as JSON, for ``Store.restore``."""
        return self._contents.manifest.to_json()

    @staticmethod
    def restore(path: str | Path, snapshot: Mapping[str, Any]) -> Store:
        """Reset the store to a snapshot; all trajectories that joined later, from any process, are dropped.

        Raises:
            StoreError: if files of the snapshot are gone, because the store was vacuumed.
        """
        writer.restore(Path(path), Manifest.from_json(snapshot, "the snapshot"))
        return load_trajectories(path)

    def verify(self) -> None:
        """Read every file of the store in its current state. Raise StoreError if a checksum differs."""
        read_contents(self.path, verify=True).check(self.path)

    def vacuum(self) -> None:
        """Delete shards that the store no longer refers to, and files that killed writers left.

        Open views stay readable. Earlier snapshots may no longer be restorable.
        """
        writer.vacuum(self.path)

    def _sound(self, number: int) -> Shard:
        """Return a verified shard, because its data may be saved elsewhere. Raise StoreError if it is
        damaged."""
        try:
            return self._contents.shards[number].verified()
        except Damaged as damage:
            raise StoreError(
                f"{damage}",
                advice=(
                    f"the other episodes are readable by load_trajectories('{self.path}', "
                    "skip_damaged=True); to go on, save those elsewhere"
                ),
            ) from damage

    def _per_episode(self, values: Sequence[Array]) -> Array:
        """Concatenate values of each shard's episodes, without the dropped ones."""
        return np.concatenate([np.zeros(0, np.int64), *values])[self._contents.dropped :]


def _taken(prefix: str, arrays: dict[str, T]) -> dict[str, T]:
    """Remove the columns with a prefix from a store's columns and return them by their key."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays.pop(name) for name in names}


def _made_with(trajectories: Iterable[Trajectory], env: Any) -> tuple[Provenance, ...]:
    if env is None:
        return trajectories.made_with if isinstance(trajectories, Store) else ()
    origin = as_origin(env) or provenance_of(env)
    return () if origin is None else (origin,)
