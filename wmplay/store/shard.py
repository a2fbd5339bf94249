"""A shard: a directory of plain ``.npy`` files that holds whole trajectories end to end.

A shard is written once and never changed. Its columns are ``action``, ``reward``, ``terminated``,
``truncated`` and ``info.<name>`` with sum(T) rows, ``observation.<key>`` with sum(T + 1) rows, and
``episodes``, the T of each trajectory. Any program that reads ``.npy`` can read it; only binary screens are
packed, eight pixels to the byte (``numpy.unpackbits`` unpacks them).
"""

from __future__ import annotations

import io
import math
import mmap
import os
import stat
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import numpy as np
from msgspec import Meta

from wmplay.contracts import Array, Trajectory
from wmplay.system.array_files import array_in
from wmplay.system.arrays import are_flags, first_not_finite

OBSERVATION = "observation."
INFO = "info."  # float32 [], NaN where it is unknown
STEPS = ("action", "reward", "terminated", "truncated")
EPISODES = "episodes"
LINK = "it is a link, which may lead anywhere: copy the store with cp -rL"

Columns: TypeAlias = dict[str, Array]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 40)]
Crc32: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 32)]
Name: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{1,64}\Z")]


@dataclass(frozen=True)
class Column:
    """The dtype and shape of one row of a column."""

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
    """A store's manifest entry for a shard."""

    name: Name
    episodes: Count
    steps: Count
    packed: tuple[str, ...]  # the bit-packed columns
    crc32: dict[str, Crc32]  # of each file


class Damaged(Exception):
    """A shard's file that is missing, cut short or changed."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} is damaged ({' '.join(reason.split())})")


def columns(trajectory: Trajectory) -> Columns:
    """Return a trajectory's arrays by column name.

    Raises:
        ValueError: if an array is not numeric, has NaN or infinite values, or is a flag other than true and
            false.
    """
    arrays = {
        **{OBSERVATION + key: np.asarray(value) for key, value in trajectory.observation.items()},
        **{name: np.asarray(values) for name, values in trajectory.per_step.items()},
    }
    for name in ("terminated", "truncated"):
        if not are_flags(arrays[name]):
            raise ValueError(f"{name} holds other values than true and false")
        arrays[name] = arrays[name].astype(np.bool_, copy=False)
    if arrays["reward"].dtype.kind not in "biuf":
        raise ValueError(f"reward has dtype {arrays['reward'].dtype}, expected real numbers")
    with np.errstate(over="ignore"):  # overflow is found below, as infinity
        arrays["reward"] = arrays["reward"].astype(np.float32, copy=False)
    for name, array in arrays.items():
        if bad := first_not_finite(array):
            raise ValueError(f"{name} is {bad[1]} in row {bad[0]}, expected finite numbers")
    infos = {INFO + name: np.asarray(values, np.float32) for name, values in trajectory.info.items()}
    return {**arrays, **infos}


def layout_of(arrays: Columns) -> Layout:
    """Return the dtype and row shape of each column."""
    return {name: Column(array.dtype, array.shape[1:]) for name, array in arrays.items()}


@dataclass(frozen=True)
class Shard:
    """An open shard, memory-mapped: it stays readable after its files are deleted."""

    directory: Path
    record: Record
    layout: Layout
    lengths: Array  # [episodes] int64: T of each episode
    stored: Columns  # as on disk, bit-packed columns still packed
    files: Mapping[str, Array]  # [bytes] uint8 of each whole file

    @property
    def nbytes(self) -> int:
        """The number of bytes on disk, without the files' headers."""
        return sum(array.nbytes for array in self.stored.values())

    def decoded(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop-1 of a column, unpacked."""
        rows = self.stored[name][start:stop]
        return unpack(rows, self.layout[name]) if name in self.record.packed else rows

    def verify(self) -> None:
        """Read every file and compare its checksum. Raise Damaged if it differs."""
        for name, content in self.files.items():
            if zlib.crc32(content.data) != self.record.crc32[name]:
                raise Damaged(self.directory / name, "its checksum differs")

    def verified(self) -> Shard:
        """Return the shard itself, after verifying its files at the first call. Raise Damaged."""
        _ = self._is_sound
        return self

    @cached_property
    def _is_sound(self) -> bool:  # not the shard itself: a reference cycle would keep its files mapped
        self.verify()
        return True


def write_shard(directory: Path, layout: Layout, trajectories: Sequence[Columns]) -> Shard:
    """Write trajectories as a new shard, bit-packing observations that contain only 0 and 1."""
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
    """Write several shards as a new one, without the first ``skip`` episodes of the first.

    Raises:
        Damaged: if a checksum differs; the new shard's own checksums would hide the damage.
    """
    shards = [shard.verified() for shard in shards]
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
    """Map a shard's files into memory. Raise Damaged if a file differs from its record."""
    for folder in (directory, directory.parent):
        if folder.is_symlink():
            raise Damaged(folder, LINK)
    rows = {name: record.steps + (record.episodes if name.startswith(OBSERVATION) else 0) for name in layout}
    wanted = {
        EPISODES: Column(np.dtype(np.int64), (record.episodes,)),
        **{name: stored_as(column, rows[name], name in record.packed) for name, column in layout.items()},
    }
    files = {file_of(name): _map(directory / file_of(name)) for name in wanted}
    arrays = {name: _array(directory / file_of(name), files[file_of(name)], wanted[name]) for name in wanted}
    lengths = arrays.pop(EPISODES)
    if lengths.min() < 1 or lengths.max() > record.steps or lengths.sum() != record.steps:
        raise Damaged(
            directory / file_of(EPISODES), f"its lengths do not add up to the shard's {record.steps} steps"
        )
    return Shard(directory, record, layout, lengths, arrays, files)


def stored_as(column: Column, rows: int, is_packed: bool) -> Column:
    """Return the dtype and shape of the array that a shard stores for a whole column."""
    if is_packed:
        return Column(np.dtype(np.uint8), (rows, -(-column.size // 8)))
    return Column(column.dtype, (rows, *column.shape))


def unpack(rows: Array, column: Column) -> Array:
    """Unpack bits: [..., bytes] uint8 -> [..., *shape] of the column's dtype."""
    bits = np.unpackbits(rows, axis=-1, count=column.size)
    return bits.view(column.dtype).reshape(*rows.shape[:-1], *column.shape)


def _is_binary(rows: Array, column: Column) -> bool:
    return can_be_packed(column) and bool(rows.dtype == np.bool_ or rows.max() <= 1)


def can_be_packed(column: Column) -> bool:
    """Return whether a binary observation is bit-packed; with one value in a row, packing would save
    nothing."""
    return column.size > 1 and column.dtype in (np.bool_, np.uint8)


def file_of(column: str) -> str:
    """Return the name of a column's file."""
    return quote(column, safe=" ") + ".npy"


def _write(directory: Path, layout: Layout, lengths: Array, stored: Columns, packed: Sequence[str]) -> Shard:
    directory.mkdir()
    files: Mapping[str, Array] = {EPISODES: lengths, **stored}
    crc32 = {file_of(name): _write_npy(directory / file_of(name), rows) for name, rows in files.items()}
    record = Record(directory.name, len(lengths), int(lengths.sum()), tuple(packed), crc32)
    return open_shard(directory, record, layout)


def _write_npy(file: Path, rows: Array) -> int:
    """Write an array and return the file's checksum.

    ``numpy.save`` would hand the data to the C library, where an error by a full disk can go unnoticed.
    """
    rows = np.ascontiguousarray(rows)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    with open(file, "xb") as out:
        out.write(header.getvalue())
        out.write(rows.data)
    return zlib.crc32(rows.data, zlib.crc32(header.getvalue()))


def _map(file: Path) -> Array:
    """Map a plain file of the store, [bytes] uint8; links, devices and pipes are refused."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Damaged(file, "it is no plain file")
            return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        told = error.strerror if isinstance(error, OSError) else None
        reason = LINK if file.is_symlink() else told or str(error)
        raise Damaged(file, reason) from error


def _array(file: Path, content: Array, expected: Column) -> Array:
    """Return the array in a mapped ``.npy`` file. Raise Damaged if it differs from the expected column."""
    try:
        array = array_in(content)
    except ValueError as error:
        raise Damaged(file, str(error)) from error
    got = Column(array.dtype, array.shape)
    if got != expected or not array.flags.c_contiguous:
        raise Damaged(file, f"it holds {got}, expected {expected}")
    return array
