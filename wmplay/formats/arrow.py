"""Arrow tables as numpy arrays, one episode at a time: what Lance and LeRobot data have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from wmplay.contracts import Array
from wmplay.errors import DataError


def runs(batches: Iterable[pa.RecordBatch], name: str) -> Iterator[tuple[int, pa.Table]]:
    """Rows that follow each other and have the same whole number in a column: (number, its rows).

    Raises:
        DataError: for a number that comes again later: its rows are not together.
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
                    raise DataError(f"the rows of {name} {number} are not together: sort them by {name}")
                seen.add(number)
            current = number
            held.append(batch.slice(start, stop - start))
    if held:
        yield current, pa.Table.from_batches(held)


def to_numpy(column: pa.ChunkedArray, shape: Sequence[int], what: str) -> Array:
    """[rows, *shape] of a column of numbers, or of lists of them, nested or not.

    Raises:
        DataError: for nulls, and lists of another size.
    """
    rows = len(column)
    flat = column.combine_chunks()
    while True:
        if flat.null_count:
            raise DataError(
                f"{what} has {flat.null_count} nulls too many: leave this episode out, or mend it"
            )
        if not is_list(flat.type):
            break
        list_size(flat, what)
        flat = flat.flatten()
    values: Array = flat.to_numpy(zero_copy_only=False)
    if values.size != rows * int(np.prod(shape)):
        raise DataError(
            f"{what} has {values.size} numbers in {rows} rows, expected shape {list(shape)} in each: mend it"
        )
    return values.reshape(rows, *shape)


def is_list(kind: pa.DataType) -> bool:
    """Whether rows of this type are lists."""
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind))


def list_size(column: pa.Array, what: str) -> int:
    """The size that all lists of a column have. Raises DataError where it is not one."""
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    sizes = column.value_lengths().to_numpy(zero_copy_only=False)
    if sizes.min() != sizes.max():
        raise DataError(f"{what} has lists of {sizes.min()} to {sizes.max()} numbers: expected one size")
    return int(sizes[0])
