"""The clips and episodes that an evaluation keeps for the report.

Each kind is one ``.npz`` file in the run directory: ``clips``, ``unprompted`` and ``duplicate`` hold clips,
``episodes`` and ``learned_episodes`` whole episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from wmplay.contracts import GOAL_PREFIX, Array, Trajectory
from wmplay.errors import DamagedError, RunError
from wmplay.system.array_files import arrays_in
from wmplay.system.files import archive_written_beside, open_archive

OBSERVATION = "observation/"
STEPS = ("action", "reward", "terminated", "truncated")
LARGEST = 4096  # pixels along an axis

T = TypeVar("T")


@dataclass(frozen=True)
class ShownClips:
    """A few predictions for the report. Screens hold probabilities, other keys the values of observations.

    ``clips`` are most likely futures under the real actions, ``unprompted`` sampled ones from a reset's first
    frame; in ``duplicate`` all rows are sampled futures of the same start.
    """

    context: int
    truth: dict[str, Array]  # [N, context + H, ...]
    prediction: dict[str, Array]  # [N, H, ...]


@dataclass(frozen=True)
class ShownPair:
    """A possible and an impossible episode for the report, with a model's surprise at each."""

    frames: Array  # uint8 [2, T + 1, H, W], binary
    surprise: Array  # [2, T]


ShownPairs: TypeAlias = Mapping[str, ShownPair]  # by kind of event


def save_pairs(run_dir: Path, pairs: ShownPairs) -> None:
    """Write ``violation.npz`` into a run directory; without pairs, delete an earlier file."""
    frames = {f"frames/{kind}": pair.frames for kind, pair in pairs.items()}
    _write(
        run_dir / "violation.npz",
        frames | {f"surprise/{kind}": pair.surprise for kind, pair in pairs.items()},
    )


def load_pairs(run_dir: Path) -> ShownPairs:
    """Return the pairs in a run directory.

    Raises:
        RunError: if the file is damaged.
    """
    path = run_dir / "violation.npz"
    return _read(path, _pairs) if path.exists() else {}


def save_clips(run_dir: Path, name: str, clips: ShownClips | None) -> None:
    """Write ``<name>.npz`` into a run directory; without clips, delete the file of an earlier evaluation."""
    if clips is None:
        _write(run_dir / f"{name}.npz", {})
        return
    arrays = {f"truth/{key}": value for key, value in clips.truth.items()}
    arrays |= {f"prediction/{key}": _compact(value) for key, value in clips.prediction.items()}
    _write(run_dir / f"{name}.npz", {"context": np.array(clips.context), **arrays})


def load_clips(run_dir: Path, name: str = "clips") -> ShownClips | None:
    """Return the clips of this name in a run directory, or None if it has none.

    Raises:
        RunError: if the file is damaged.
    """
    path = run_dir / f"{name}.npz"
    return _read(path, _clips) if path.exists() else None


def save_episodes(run_dir: Path, name: str, episodes: Sequence[Trajectory]) -> None:
    """Write ``<name>.npz``, with only the images among the observations; write no file without images."""
    _write(run_dir / f"{name}.npz", {k: v for i, t in enumerate(episodes) for k, v in _images(i, t)})


def load_episodes(run_dir: Path, name: str = "episodes") -> list[Trajectory]:
    """Return the episodes of this name in a run directory, with only the images of their observations.

    Raises:
        RunError: if the file is damaged.
    """
    path = run_dir / f"{name}.npz"
    return _read(path, _episodes) if path.exists() else []


def _images(number: int, trajectory: Trajectory) -> list[tuple[str, Array]]:
    """Return the arrays to keep of an episode, by name: observations [T + 1, H, W (, C)] and all step arrays.

    Return none if only goals are images, because they do not move.
    """
    images = {key: value for key, value in trajectory.observation.items() if value.ndim in (3, 4)}
    if all(key.startswith(GOAL_PREFIX) for key in images):
        return []
    steps = [(f"{number}/{name}", value) for name, value in trajectory.per_step.items()]
    return [(f"{number}/observation/{key}", value) for key, value in images.items()] + steps


def _compact(values: Array) -> Array:
    """Return predicted images [N, H, ...] in half precision, enough to be shown."""
    return values.astype(np.float16) if values.ndim > 3 else values


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    if not arrays:
        path.unlink(missing_ok=True)
        return
    with archive_written_beside(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag for a name


def _read(path: Path, build: Callable[[dict[str, Array]], T]) -> T:
    try:
        with open_archive(path) as file:
            return build(arrays_in(file))
    except DamagedError as error:
        raise DamagedError(f"{error}", advice="evaluate the run again") from error
    except Exception as error:  # a damaged archive fails in many ways
        why = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise RunError(f"{path} is damaged ({why})", advice="evaluate the run again") from error


def _clips(arrays: dict[str, Array]) -> ShownClips:
    """Return clips. Raise ValueError, KeyError or TypeError for other arrays."""
    context = arrays["context"].item()
    truth, prediction = (
        {key.removeprefix(part): value for key, value in arrays.items() if key.startswith(part)}
        for part in ("truth/", "prediction/")
    )
    if not isinstance(context, int) or not truth or truth.keys() != prediction.keys():
        raise ValueError("it holds no clips")
    count, total = next(iter(truth.values())).shape[:2]
    for key, value in truth.items():
        _check_numbers(key, value)
        _check_numbers(key, prediction[key])
        if value.shape[:2] != (count, total) or not 1 <= context < total:
            raise ValueError(f"{key} has shape {list(value.shape)}, others {count} clips of {total} frames")
        if prediction[key].shape != (count, total - context, *value.shape[2:]):
            raise ValueError(f"{key} is predicted in shape {list(prediction[key].shape)}")
    return ShownClips(context, truth, prediction)


def _pairs(arrays: dict[str, Array]) -> ShownPairs:
    """Return pairs. Raise ValueError or KeyError for other arrays."""
    kinds = [name.removeprefix("frames/") for name in arrays if name.startswith("frames/")]
    pairs = {kind: ShownPair(arrays[f"frames/{kind}"], arrays[f"surprise/{kind}"]) for kind in kinds}
    if not pairs or len(arrays) != 2 * len(pairs):
        raise ValueError("it holds no pairs")
    for kind, pair in pairs.items():
        _check_numbers(kind, pair.frames)
        _check_numbers(kind, pair.surprise)
        if pair.frames.ndim != 4 or pair.surprise.shape != (2, pair.frames.shape[1] - 1):
            raise ValueError(f"{kind} has shapes {list(pair.frames.shape)} and {list(pair.surprise.shape)}")
    return pairs


def _episodes(arrays: dict[str, Array]) -> list[Trajectory]:
    """Return episodes. Raise ValueError or KeyError for other arrays."""
    found: dict[str, dict[str, Array]] = {}
    for path, value in arrays.items():
        number, part = path.split("/", 1)
        _check_numbers(part, value)
        found.setdefault(number, {})[part] = value
    episodes = [
        Trajectory(
            {k.removeprefix(OBSERVATION): v for k, v in parts.items() if k.startswith(OBSERVATION)},
            *(parts[part] for part in STEPS),
        )
        for parts in found.values()
    ]
    frames = [{key: value.shape[1:] for key, value in one.observation.items()} for one in episodes]
    if any(each != frames[0] or not each for each in frames):
        raise ValueError("its episodes have other images")
    if any(len(shape) not in (2, 3) for shape in frames[0].values()):
        raise ValueError("its observations are no images")
    return episodes


def _check_numbers(name: str, values: Array) -> None:
    """Raise ValueError for arrays that cannot be shown."""
    if values.dtype.kind not in "biuf" or values.ndim == 0 or values.size == 0:
        raise ValueError(f"{name} holds {values.dtype} {list(values.shape)}, expected numbers")
    if max(values.shape[1:], default=1) > LARGEST:
        raise ValueError(f"{name} has shape {list(values.shape)}, expected pixels")
