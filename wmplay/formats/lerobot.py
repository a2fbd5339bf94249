"""LeRobot datasets, format v3.0, read from their JSON, Parquet and MP4 files.

LeRobot records each frame with the action that was taken in it, and ``next.reward`` and ``next.done`` of that
step, as the time rule does. The frame after an episode's last action is not recorded, so that the last step
is left out (see ``beside_actions``).

Layout: https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from wmplay.contracts import Array, Trajectory
from wmplay.errors import DataError
from wmplay.formats.arrow import runs, to_numpy
from wmplay.formats.episodes import beside_actions, parse_json
from wmplay.system.reading import JSON_BYTES, read_bytes

INFO = "meta/info.json"
VIDEO_PATH = re.compile(
    r"([^{}]|\{(video_key|chunk_index|file_index)(:0?\dd)?\})+"
)  # a format string, no more
EPISODES = "meta/episodes"
TASKS = "meta/tasks.parquet"
VERSION = "v3."
OBSERVATION = "observation"
ACTION, REWARD, DONE, TRUNCATED = "action", "next.reward", "next.done", "next.truncated"
EPISODE, FRAME, TIME = "episode_index", "frame_index", "timestamp"
IMAGES = ("PNG", "JPEG", "WEBP")  # Pillow decodes some other formats by external programs
OF_THE_FILES = ("data_path", "video_path", "chunks_size", "data_files_size_in_mb", "video_files_size_in_mb")


def count(path: Path) -> int:
    """Return the number of episodes with at least one step (two frames). Raise DataError."""
    _info(path)
    return sum(episode["length"] > 1 for episode in _episodes(path).values())


def read(path: Path) -> Iterator[Trajectory]:
    """Yield all episodes in order; ``observation.<key>`` becomes ``<key>``, videos and images uint8 [H, W,
    C].

    Raises:
        DataError: for another version of the format, and for missing data.
    """
    info, episodes = _info(path), _episodes(path)
    features = info["features"]
    left = {number for number, episode in episodes.items() if episode["length"] > 1}
    for number, rows in runs(_batches(path), EPISODE):
        where = f"{path}, episode {number}"
        if number not in episodes:
            raise DataError(f"{where} is in data/ and not in {EPISODES}", advice="restore it from a copy")
        episode = episodes[number]
        if not np.array_equal(_column(rows, FRAME, features, where)[:, 0], np.arange(episode["length"])):
            raise DataError(
                f"{where}: {FRAME} is not 0 to {episode['length'] - 1}: frames are missing; leave it out"
            )
        if number not in left:
            continue
        left.remove(number)
        observation = {
            name.removeprefix(f"{OBSERVATION}."): _observation(path, info, episode, rows, name, where)
            for name in _observations(features)
        }
        yield beside_actions(observation, _steps(rows, features, where), where)
    if left:
        raise DataError(
            f"{path} has no frames of episode {min(left)}", advice="restore its data/ from a copy"
        )


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of ``meta/info.json``, the task descriptions, and the features left out."""
    info = _info(path)
    read = {*_observations(info["features"]), ACTION, REWARD, DONE, TRUNCATED, EPISODE, FRAME, TIME, "index"}
    return {
        **{key: value for key, value in info.items() if key not in OF_THE_FILES},
        "tasks": _tasks(path),
        "left_out": [name for name in info["features"] if name not in read],
    }


def _observations(features: Mapping[str, Any]) -> list[str]:
    """Return the features that are observations of numbers or images."""
    return [
        name
        for name, feature in features.items()
        if (name == OBSERVATION or name.startswith(f"{OBSERVATION}.")) and feature["dtype"] != "string"
    ]


def _steps(rows: pa.Table, features: Mapping[str, Any], where: str) -> dict[str, Array]:
    if ACTION not in features:
        raise DataError(
            f"{where} has no '{ACTION}' (it has {', '.join(features)}): nothing is learned without"
        )
    action = _column(rows, ACTION, features, where)
    if action.dtype.kind in "iu" and action.shape[1:] == (1,):
        action = action[:, 0]  # discrete
    none = np.zeros(len(rows), np.bool_)
    steps = {
        name: _column(rows, name, features, where).reshape(len(rows), -1)[:, 0] if name in features else none
        for name in (REWARD, DONE, TRUNCATED)
    }
    done, truncated = (steps[name].astype(np.bool_) for name in (DONE, TRUNCATED))
    reward = steps[REWARD].astype(np.float32)
    return {"action": action, "reward": reward, "terminated": done & ~truncated, "truncated": truncated}


def _observation(
    path: Path, info: Mapping[str, Any], episode: Mapping[str, Any], rows: pa.Table, name: str, where: str
) -> Array:
    features = info["features"]
    if features[name]["dtype"] == "video":
        video, offset = _video(path, info, episode, name, where)
        return _frames(video, offset + _column(rows, TIME, features, where)[:, 0], info["fps"])
    if features[name]["dtype"] == "image":
        images = rows[name].combine_chunks().field("bytes").to_pylist()
        try:
            return np.stack([np.asarray(Image.open(io.BytesIO(image), formats=IMAGES)) for image in images])
        except (OSError, TypeError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{where}: {name} has an image that cannot be read ({error})", advice="fix it"
            ) from error
    return _column(rows, name, features, where)


def _column(rows: pa.Table, name: str, features: Mapping[str, Any], where: str) -> Array:
    if name not in rows.column_names:
        raise DataError(
            f"{where} has no column {name}, which {INFO} promises", advice="restore data/ from a copy"
        )
    return to_numpy(rows[name], features[name]["shape"], f"{where}: {name}")


# ---- videos ----------------------------------------------------------------------------------------


def _video(
    path: Path, info: Mapping[str, Any], episode: Mapping[str, Any], name: str, where: str
) -> tuple[Path, float]:
    """Return the file that an episode's frames are in, and the episode's start in the file, in seconds."""
    try:
        numbers = {each: episode[f"videos/{name}/{each}"] for each in ("chunk_index", "file_index")}
        begins = episode[f"videos/{name}/from_timestamp"]
        if not VIDEO_PATH.fullmatch(str(info["video_path"])):
            raise ValueError(f"video_path is {info['video_path']!r:.99}")
        video = path / str(info["video_path"]).format(video_key=name, **numbers)
        begins = float(begins)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DataError(
            f"{where}: {EPISODES} does not say where its {name} is ({error})", advice="fix it"
        ) from error
    if not video.resolve().is_relative_to(path.resolve()):
        raise DataError(
            f"{where}: its {name} is at {video}, out of the dataset, which is not read",
            advice="copy it there",
        )
    return video, begins


def _frames(video: Path, times: Array, fps: float) -> Array:
    """Return [L, H, W, C] uint8: the frame nearest to each of the increasing times, in seconds."""
    found: list[Array] = []
    try:
        with av.open(video, format="mp4") as container:  # others may open more files
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            container.seek(max(0, math.floor((times[0] - 1 / fps) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                if frame.time is not None and abs(frame.time - times[len(found)]) < 0.5 / fps:
                    found.append(frame.to_ndarray(format="rgb24"))
                    if len(found) == len(times):
                        return np.stack(found)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise DataError(f"cannot read {video} ({error}): expected a video, whole") from error
    raise DataError(f"{video} has no frame at {times[len(found)]:.3f} s", advice="restore it from a copy")


# ---- files -----------------------------------------------------------------------------------------


def _info(path: Path) -> dict[str, Any]:
    file = path / INFO
    if not file.exists():
        raise DataError(
            f"{path} is not a LeRobot dataset (it has no {INFO}): expected the folder of one", got=path
        )
    info = parse_json(read_bytes(file, DataError, JSON_BYTES), str(file))
    version = str(info.get("codebase_version"))
    if not version.startswith(VERSION):
        raise DataError(
            f"{path} has LeRobot's format {version}",
            got=version,
            expected="v3.0",
            advice=(
                "convert it by LeRobot's own script (python -m "
                "lerobot.datasets.v30.convert_dataset_v21_to_v30)"
            ),
        )
    missing = [key for key in ("features", "fps", "data_path") if not info.get(key)]
    if missing:
        raise DataError(f"{file} is damaged: it has no {missing[0]}; restore it from a copy")
    return info


def _episodes(path: Path) -> dict[int, dict[str, Any]]:
    """Return each episode's record, by its number; statistics are not read."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((path / EPISODES).glob("*/*.parquet")):
        with _explained(file):
            names = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
            for row in pq.read_table(file, columns=names).to_pylist():
                found[row[EPISODE]] = row
    if not found:
        raise DataError(f"{path} has no episodes in {EPISODES}", advice="restore them from a copy")
    return found


def _tasks(path: Path) -> list[str]:
    if not (path / TASKS).exists():
        return []
    with _explained(path / TASKS):
        columns = pq.read_table(path / TASKS).drop_columns("task_index")
        return [str(task) for task in columns.column(0).to_pylist()]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    for file in sorted((path / "data").glob("*/*.parquet")):
        with _explained(file), pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(batch_size=1024)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {file} ({error})", advice="restore it from a copy") from error
