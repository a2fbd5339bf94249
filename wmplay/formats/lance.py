"""Lance datasets: a row for each frame, so that any frame of any episode is available at random access.

Columns: ``episode``, ``step``, ``observation/<key>`` (Lance uses dots for parts of a struct), and ``action``,
``reward``, ``terminated`` and ``truncated`` of the step that begins with the frame, null for an episode's
last frame. An array is a fixed-size list; the field's metadata has its ``shape`` unless it is
one-dimensional. Metadata of the whole data is JSON under ``wmplay`` in the schema's metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from wmplay.contracts import Array, Trajectory
from wmplay.errors import DataError
from wmplay.formats.arrow import is_list, list_size, runs, to_numpy
from wmplay.formats.episodes import STEPS, named_arrays, observation_key, parse_json, trajectory_of
from wmplay.store.shard import OBSERVATION
from wmplay.system.files import folder_written_beside

EPISODE, STEP = "episode", "step"
METADATA = b"wmplay"
SHAPE = b"shape"
ROWS = 1024  # read at once


def count(path: Path) -> int:
    """Return the number of episodes. Raise DataError if the dataset does not exist."""
    try:
        return len(_dataset(path).to_table(columns=[EPISODE])[EPISODE].unique())
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def read(path: Path) -> Iterator[Trajectory]:
    """Yield all episodes in stored order; each episode's rows must be adjacent and in order.

    Raises:
        DataError: for missing or malformed data.
    """
    for number, rows in runs(_batches(path), EPISODE):
        where = f"{path}, episode {number}"
        if not np.array_equal(_column(rows, STEP, where), np.arange(len(rows))):
            raise DataError(
                f"{where}: {STEP} is not 0, 1, 2, ...", advice=f"sort the rows by {EPISODE} and {STEP}"
            )
        taken = rows.slice(0, len(rows) - 1)  # no step begins with the last frame
        names = {name: observation_key(name.replace("/", ".")) for name in rows.column_names}
        yield trajectory_of(
            {key: _column(rows, name, where) for name, key in names.items() if key is not None},
            {name: _column(taken, name, where) for name in STEPS if name in names},
            where,
        )


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the schema's metadata under ``wmplay``, empty if missing. Raise DataError if it is malformed."""
    held = (_dataset(path).schema.metadata or {}).get(METADATA)
    return {} if held is None else parse_json(held, f"{path}, metadata")


def write(trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a dataset.

    Raises:
        DataError: for arrays that Lance cannot store.
        WriteError: no space, no permission.
    """
    rest = iter(trajectories)
    first = next(rest, None)
    if first is None:
        raise DataError(
            f"there are no episodes to make the dataset {path} of", got=path, advice="give at least one"
        )
    schema = _schema(first, metadata)
    failed: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for number, trajectory in enumerate(chain([first], rest)):
                yield _batch(number, trajectory, schema)
        except BaseException as error:  # Lance would turn it into text
            failed.append(error)
            raise

    with folder_written_beside(path) as folder:
        try:
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), folder)
        except BaseException:
            if failed:
                raise failed[0] from None
            raise


def _columns(trajectory: Trajectory) -> dict[str, Array]:
    """Return a trajectory's arrays by the names of their columns."""
    keep = len(OBSERVATION)
    return {
        f"observation/{name[keep:].replace('.', '%2E')}" if name.startswith(OBSERVATION) else name: array
        for name, array in named_arrays(trajectory).items()
    }


def _schema(trajectory: Trajectory, metadata: Mapping[str, Any]) -> pa.Schema:
    fields = [pa.field(EPISODE, pa.int64()), pa.field(STEP, pa.int64())]
    for name, array in _columns(trajectory).items():
        shape = array.shape[1:]
        if 0 in shape:
            raise DataError(
                f"empty arrays (of shape {list(shape)}) cannot be in a Lance dataset",
                got=shape,
                advice="leave them out",
            )
        try:
            kind = pa.from_numpy_dtype(array.dtype)
        except pa.ArrowNotImplementedError as error:
            raise DataError(
                f"{array.dtype} arrays cannot be in a Lance dataset", got=array.dtype, advice="leave them out"
            ) from error
        if shape:
            kind = pa.list_(kind, math.prod(shape))
        fields.append(pa.field(name, kind, metadata={SHAPE: json.dumps(shape)} if len(shape) > 1 else None))
    return pa.schema(fields, metadata={METADATA: json.dumps(metadata)} if metadata else None)


def _batch(number: int, trajectory: Trajectory, schema: pa.Schema) -> pa.RecordBatch:
    frames = len(trajectory) + 1
    arrays: dict[str, Array] = {
        EPISODE: np.full(frames, number),
        STEP: np.arange(frames),
        **_columns(trajectory),
    }
    columns = [_rows(arrays[field.name], field.type, frames) for field in schema]
    return pa.record_batch(columns, schema=schema)


def _rows(array: Array, kind: pa.DataType, frames: int) -> pa.Array:
    """Return an Arrow array of ``frames`` rows; if the array has one row less, the last is null."""
    missing = np.arange(frames) >= len(array)
    padded = np.zeros((frames, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(padded, type=kind, mask=missing)
    return pa.FixedSizeListArray.from_arrays(pa.array(padded.reshape(-1)), type=kind, mask=pa.array(missing))


def _column(rows: pa.Table, name: str, where: str) -> Array:
    what, metadata, column = f"{where}: {name}", rows.schema.field(name).metadata or {}, rows[name]
    if SHAPE in metadata:
        shape = json.loads(metadata[SHAPE])
    else:
        shape = [list_size(column.combine_chunks(), what)] if is_list(column.type) else []
    return to_numpy(column, shape, what)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        yield from _dataset(path).to_batches(batch_size=ROWS)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _dataset(path: Path) -> lance.LanceDataset:
    try:
        dataset = lance.dataset(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    for fragment in dataset.get_fragments():
        for file in fragment.data_files():
            if file.base_id is not None or not (path / "data" / file.path).resolve().is_relative_to(
                path.resolve()
            ):
                raise DataError(
                    f"{path} has its values elsewhere ({file.path}), which is not read",
                    advice="copy them there",
                )
    for name in (EPISODE, STEP):
        if name not in dataset.schema.names:
            raise DataError(
                f"{path} has no column {name} (it has {', '.join(dataset.schema.names)}): expected a row for "
                "each frame, as docs/data.md says"
            )
    return dataset


def _damaged(path: Path, error: Exception) -> DataError:
    words = str(error).partition(", /")[0].partition("\n")[0]  # source locations within Lance follow
    return DataError(f"cannot read {path} ({words}): expected a Lance dataset, whole")
