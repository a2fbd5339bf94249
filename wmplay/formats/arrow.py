"""Conversion of Arrow tables to numpy arrays, one episode at a time, for Lance and LeRobot data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from wmplay.contracts import Array
from wmplay.errors import DataError


def runs(batches: Iterable[pa.RecordBatch], name: str) -> Iterator[tuple[int, pa.Table]]:
    """Yield the groups of adjacent rows with the same whole number in a column, as (number, rows).

    Raises:
        DataError: if the rows of a number are not adjacent.
    """
    seen: set[int] = set()
    held: list[pa.RecordBatch] = []
    current = -1
    for batch in batches:
        numbers = batch[name].to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()] if len(numbers) else []
        for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
            number = int(numbers[start])
            if held and number != current:
                yield current, pa.Table.from_batches(held)
                held = []
            if not held:
                if number in seen:
                    raise DataError(
                        f"the rows of {name} {number} are not together", advice=f"sort them by {name}"
                    )
                seen.add(number)
            current = number
            held.append(batch.slice(start, stop - start))
    if held:
        yield current, pa.Table.from_batches(held)


def to_numpy(column: pa.ChunkedArray, shape: Sequence[int], what: str) -> Array:
    """Return a column of numbers, or of lists of numbers, nested or not, as [rows, *shape].

    Raises:
        DataError: for nulls, and for lists of another size.
    """
    rows = len(column)
    flat = column.combine_chunks()
    while True:
        if flat.null_count:
            raise DataError(
                f"{what} has {flat.null_count} nulls too many",
                got=flat.null_count,
                advice="leave this episode out, or fix it",
            )
        if not is_list(flat.type):
            break
        list_size(flat, what)
        flat = flat.flatten()
    values: Array = flat.to_numpy(zero_copy_only=False)
    if values.size != rows * int(np.prod(shape)):
        raise DataError(
            f"{what} has {values.size} numbers in {rows} rows",
            got=values.size,
            expected=f"shape {list(shape)} in each",
            advice="fix it",
        )
    return values.reshape(rows, *shape)


def is_list(kind: pa.DataType) -> bool:
    """Return whether rows of this type are lists."""
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind))


def list_size(column: pa.Array, what: str) -> int:
    """Return the size of all lists of a column. Raise DataError if their sizes differ."""
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    sizes = column.value_lengths().to_numpy(zero_copy_only=False)
    if sizes.min() != sizes.max():
        raise DataError(f"{what} has lists of {sizes.min()} to {sizes.max()} numbers: expected one size")
    return int(sizes[0])
