"""Writes LeRobot v3.0 datasets, as its specification has them: JSON, Parquet and MP4 files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
VIDEO = "observation.images.top"


def write_lerobot(path: Path, episodes: Sequence[dict[str, np.ndarray]], *, per_file: int = 2) -> None:
    """A dataset of frames, so many episodes to a file: {feature: [L, ...]}; ``VIDEO`` goes into a video."""
    features = {name: _feature(array, name) for name, array in episodes[0].items()}
    default = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in default.items()}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "fps": FPS,
        "total_episodes": len(episodes),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(info))
    rows = []
    for start in range(0, len(episodes), per_file):
        numbers = range(start, min(start + per_file, len(episodes)))
        file = start // per_file
        tables = [_table(episodes[number], number) for number in numbers]
        _write(pa.concat_tables(tables), path / "data" / "chunk-000" / f"file-{file:03d}.parquet")
        lengths = [len(table) for table in tables]
        for place, number in enumerate(numbers):
            row: dict[str, Any] = {"episode_index": number, "length": lengths[place], "tasks": ["push"]}
            if VIDEO in features:
                row[f"videos/{VIDEO}/chunk_index"], row[f"videos/{VIDEO}/file_index"] = 0, file
                row[f"videos/{VIDEO}/from_timestamp"] = sum(lengths[:place]) / FPS
            rows.append({**row, "stats/action/mean": [0.0]})
        if VIDEO in features:
            frames = np.concatenate([episodes[number][VIDEO] for number in numbers])
            _encode(frames, path / "videos" / VIDEO / "chunk-000" / f"file-{file:03d}.mp4")
    _write(pa.Table.from_pylist(rows), path / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    _write(pa.table({"task_index": [0], "task": ["push"]}), path / "meta" / "tasks.parquet")


def _feature(array: np.ndarray, name: str) -> dict[str, Any]:
    dtype = "video" if name == VIDEO else array.dtype.name
    return {"dtype": dtype, "shape": list(array.shape[1:] or [1]), "names": None}


def _table(frames: dict[str, np.ndarray], number: int) -> pa.Table:
    length = len(next(iter(frames.values())))
    columns = {name: _column(array) for name, array in frames.items() if name != VIDEO}
    return pa.table(
        {
            **columns,
            "timestamp": np.arange(length, dtype=np.float32) / FPS,
            "frame_index": np.arange(length),
            "episode_index": np.full(length, number),
            "index": np.arange(length),
        }
    )


def _column(array: np.ndarray) -> pa.Array:
    """Single numbers as they are, vectors as lists, larger arrays as lists of lists."""
    if array.ndim == 1 or array.shape[1:] == (1,):
        return pa.array(array.reshape(-1))
    return pa.array(array.tolist(), _list_type(array))


def _list_type(array: np.ndarray) -> pa.DataType:
    kind = pa.from_numpy_dtype(array.dtype)
    for size in reversed(array.shape[1:]):
        kind = pa.list_(kind, size) if array.ndim == 2 else pa.list_(kind)
    return kind


def _write(table: pa.Table, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def _encode(frames: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(file, "w") as container:
        stream = container.add_stream("libx264rgb", rate=FPS, options={"qp": "0"})  # loses nothing
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
