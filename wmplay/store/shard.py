"""A shard: a directory of plain ``.npy`` files that holds whole trajectories end to end.

A shard is written once and never changed. Its columns are ``action``, ``reward``, ``terminated`` and
``truncated`` with sum(T) rows, ``observation.<key>`` with sum(T + 1) rows, and ``episodes``, the T of
each trajectory. Anything that reads ``.npy`` reads it; only binary screens are packed, eight pixels to
the byte (``numpy.unpackbits`` undoes it).
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np

from wmplay.contracts import Array, Trajectory

OBSERVATION = "observation."
EPISODES = "episodes"

Columns: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class Column:
    """What one row of a column is: its dtype and its shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values in a row."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


Layout: TypeAlias = dict[str, Column]


@dataclass(frozen=True)
class Record:
    """What a store's manifest says of a shard."""

    name: str
    episodes: int
    steps: int
    packed: tuple[str, ...]  # the columns that are bit-packed
    crc32: dict[str, int]  # of each file


class Damaged(Exception):
    """A shard's file that is missing, cut short or not what it was."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} is damaged ({reason})")


def columns(trajectory: Trajectory) -> Columns:
    """A trajectory's arrays by column name."""
    return {
        **{OBSERVATION + key: np.asarray(value) for key, value in trajectory.observation.items()},
        "action": np.asarray(trajectory.action),
        "reward": np.asarray(trajectory.reward, np.float32),
        "terminated": np.asarray(trajectory.terminated, np.bool_),
        "truncated": np.asarray(trajectory.truncated, np.bool_),
    }


def layout_of(arrays: Columns) -> Layout:
    """The dtype and row shape of each column."""
    return {name: Column(array.dtype, array.shape[1:]) for name, array in arrays.items()}


@dataclass(frozen=True)
class Shard:
    """An open shard, memory-mapped: it stays readable after its files are deleted."""

    directory: Path
    record: Record
    layout: Layout
    lengths: Array  # [episodes] int64: T of each
    stored: Columns  # as on disk, bit-packed columns still packed

    @property
    def nbytes(self) -> int:
        """Bytes on disk, but for the files' headers."""
        return sum(array.nbytes for array in self.stored.values())

    def decoded(self, name: str, start: int, stop: int) -> Array:
        """Rows start..stop-1 of a column as they were before packing."""
        rows = self.stored[name][start:stop]
        return unpack(rows, self.layout[name]) if name in self.record.packed else rows

    def verify(self) -> None:
        """Read every file and compare its checksum. Raises Damaged."""
        for name, expected in self.record.crc32.items():
            crc = 0
            try:
                with open(self.directory / name, "rb") as file:
                    while block := file.read(1 << 20):
                        crc = zlib.crc32(block, crc)
            except OSError as error:
                raise Damaged(self.directory / name, error.strerror or str(error)) from error
            if crc != expected:
                raise Damaged(self.directory / name, "its checksum differs")


def write_shard(directory: Path, layout: Layout, trajectories: Sequence[Columns]) -> Shard:
    """Write trajectories as a new shard, bit-packing the observations that hold nothing but 0 and 1."""
    lengths = np.array([len(arrays["action"]) for arrays in trajectories], np.int64)
    packed = []
    stored = {}
    for name, column in layout.items():
        rows = np.concatenate([arrays[name] for arrays in trajectories])
        if name.startswith(OBSERVATION) and _is_binary(rows, column):
            packed.append(name)
            rows = np.packbits(rows.reshape(len(rows), -1), axis=1)
        stored[name] = rows
    return _write(directory, layout, lengths, stored, packed)


def merge_shards(directory: Path, shards: Sequence[Shard], skip: int) -> Shard:
    """Write several shards, but for the first ``skip`` episodes of the first one, as a new shard."""
    layout = shards[0].layout
    lengths = np.concatenate([shard.lengths for shard in shards])[skip:]
    skipped_steps = int(shards[0].lengths[:skip].sum())
    packed = []
    stored = {}
    for name in layout:
        if all(name in shard.record.packed for shard in shards):
            packed.append(name)
            parts = [shard.stored[name] for shard in shards]
        else:
            parts = [shard.decoded(name, 0, len(shard.stored[name])) for shard in shards]
        skipped_rows = skipped_steps + (skip if name.startswith(OBSERVATION) else 0)
        stored[name] = np.concatenate([parts[0][skipped_rows:], *parts[1:]])
    return _write(directory, layout, lengths, stored, packed)


def open_shard(directory: Path, record: Record, layout: Layout) -> Shard:
    """Map a shard's files into memory. Raises Damaged where one is not what the record says."""
    lengths = _map(directory, EPISODES, np.dtype(np.int64), (record.episodes,))
    stored = {}
    for name, column in layout.items():
        rows = record.steps + (record.episodes if name.startswith(OBSERVATION) else 0)
        if name in record.packed:
            stored[name] = _map(directory, name, np.dtype(np.uint8), (rows, -(-column.size // 8)))
        else:
            stored[name] = _map(directory, name, column.dtype, (rows, *column.shape))
    return Shard(directory, record, layout, lengths, stored)


def unpack(rows: Array, column: Column) -> Array:
    """Undo the bit-packing: [..., bytes] uint8 -> [..., *shape] of the column's dtype."""
    bits = np.unpackbits(rows, axis=-1, count=column.size)
    return bits.view(column.dtype).reshape(*rows.shape[:-1], *column.shape)


def _is_binary(rows: Array, column: Column) -> bool:
    if column.size < 2:
        return False  # a byte per row either way
    return bool(rows.dtype == np.bool_ or (rows.dtype == np.uint8 and rows.max() <= 1))


def _write(directory: Path, layout: Layout, lengths: Array, stored: Columns, packed: Sequence[str]) -> Shard:
    directory.mkdir()
    files: Mapping[str, Array] = {EPISODES: lengths, **stored}
    crc32 = {_file(name): _write_npy(directory / _file(name), rows) for name, rows in files.items()}
    record = Record(directory.name, len(lengths), int(lengths.sum()), tuple(packed), crc32)
    return open_shard(directory, record, layout)


def _write_npy(file: Path, rows: Array) -> int:
    """Write an array and return the file's checksum.

    Not by ``numpy.save``: it hands the data to the C library, where a full disk can pass unseen.
    """
    rows = np.ascontiguousarray(rows)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    with open(file, "xb") as out:
        out.write(header.getvalue())
        out.write(rows.data)
    return zlib.crc32(rows.data, zlib.crc32(header.getvalue()))


def _map(directory: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    file = directory / _file(name)
    try:
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Damaged(file, str(error)) from error
    if (mapped.dtype, mapped.shape) != (dtype, shape):
        raise Damaged(file, f"it holds {mapped.dtype} {list(mapped.shape)}, expected {dtype} {list(shape)}")
    return np.asarray(mapped)  # a plain array on the same map: slicing it costs a third of a memmap's


def _file(column: str) -> str:
    return quote(column, safe=" ") + ".npy"
