"""What an evaluation leaves to look at, beside its numbers: clips of predictions and whole episodes.

Each kind is one ``.npz`` file in the run directory: ``clips``, ``unprompted`` and ``duplicate`` hold clips,
``episodes`` and ``learned_episodes`` whole episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from wmplay.contracts import GOAL_PREFIX, Array, Trajectory
from wmplay.errors import RunError
from wmplay.files import written_beside


@dataclass(frozen=True)
class Clips:
    """A few predictions to look at. Screens hold probabilities, the rest what the env's observations hold.

    ``clips`` are most likely futures under the true actions, ``unprompted`` sampled ones from a reset's first
    frame; of ``duplicate`` all rows are sampled futures of one and the same truth.
    """

    context: int
    truth: dict[str, Array]  # [N, context + H, ...]
    prediction: dict[str, Array]  # [N, H, ...]


def save_clips(run_dir: Path, name: str, clips: Clips | None) -> None:
    """Writes ``<name>.npz`` into a run directory; without clips, those of an earlier evaluation go."""
    if clips is None:
        _write(run_dir / f"{name}.npz", {})
        return
    arrays = {f"truth/{key}": value for key, value in clips.truth.items()}
    arrays |= {f"prediction/{key}": _compact(value) for key, value in clips.prediction.items()}
    _write(run_dir / f"{name}.npz", {"context": np.array(clips.context), **arrays})


def load_clips(run_dir: Path, name: str = "clips") -> Clips | None:
    """The clips of this name in a run directory, None where there are none.

    Raises:
        RunError: if the file is damaged.
    """
    arrays = _read(run_dir / f"{name}.npz")
    if not arrays:
        return None
    truth, prediction = (
        {key.removeprefix(part): value for key, value in arrays.items() if key.startswith(part)}
        for part in ("truth/", "prediction/")
    )
    return Clips(int(arrays["context"]), truth, prediction)


def save_episodes(run_dir: Path, name: str, episodes: Sequence[Trajectory]) -> None:
    """Writes ``<name>.npz``, with only the images among the observations; no file where there are none."""
    _write(run_dir / f"{name}.npz", {k: v for i, t in enumerate(episodes) for k, v in _images(i, t)})


def load_episodes(run_dir: Path, name: str = "episodes") -> list[Trajectory]:
    """The episodes of this name in a run directory, with the images of their observations only.

    Raises:
        RunError: if the file is damaged.
    """
    episodes: dict[str, dict[str, Array]] = {}
    for path, value in _read(run_dir / f"{name}.npz").items():
        number, part = path.split("/", 1)
        episodes.setdefault(number, {})[part] = value
    return [
        Trajectory(
            {k.removeprefix("observation/"): v for k, v in parts.items() if k.startswith("observation/")},
            *(parts[part] for part in ("action", "reward", "terminated", "truncated")),
        )
        for parts in episodes.values()
    ]


def _images(number: int, trajectory: Trajectory) -> list[tuple[str, Array]]:
    """The arrays to keep of an episode, named: observations [T + 1, H, W (, C)], and all that steps hold.

    None where only goals are images: what does not move is nothing to look at.
    """
    images = {key: value for key, value in trajectory.observation.items() if value.ndim in (3, 4)}
    if all(key.startswith(GOAL_PREFIX) for key in images):
        return []
    steps = [(f"{number}/{f.name}", getattr(trajectory, f.name)) for f in fields(trajectory)[1:]]
    return [(f"{number}/observation/{key}", value) for key, value in images.items()] + steps


def _compact(values: Array) -> Array:
    """Predicted images [N, H, ...] in half precision: they are only looked at."""
    return values.astype(np.float16) if values.ndim > 3 else values


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    if not arrays:
        path.unlink(missing_ok=True)
        return
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag for a name


def _read(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive fails in many ways
        raise RunError(f"{path} is damaged ({type(error).__name__}): evaluate the run again") from error
