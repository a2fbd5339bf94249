"""Clips to prompt a model with: a few frames, and what is known of the actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wmplay.contracts import Array, capabilities, model_keys, observation_spaces
from wmplay.envs import build_env
from wmplay.errors import RunError, WmplayError
from wmplay.evaluation.cases import CASE_FILE, load_cases
from wmplay.evaluation.observation_metrics import Metric, distance
from wmplay.play.game.screen import Shown, shown_key
from wmplay.play.prompt.pictures import read_frames
from wmplay.runs.compatibility import check_same_world, check_store
from wmplay.runs.load import LoadedRun
from wmplay.runs.pieces import env_config
from wmplay.simulation import simulate
from wmplay.store import load_trajectories
from wmplay.store.manifest import exists as is_store

SHOWN = 3  # frames of a store's episode, unless another moment is asked for
REAL = 32  # episodes whose frames are compared with a drawn one
STEPS = 100  # of each at most


@dataclass(frozen=True)
class Clip:
    """Frames to show to a model, from which it predicts."""

    observation: dict[str, Array]  # {key: [F, ...]}
    action: Array | None  # [n, A], or [n] int64: those between the frames, then later ones; None = unknown
    likeness: float | None = None  # mean IoU of drawn frames and the real ones whose vectors they have

    @property
    def frames(self) -> int:
        """The number F of frames."""
        return len(next(iter(self.observation.values())))


def read_clip(path: str | Path, run: LoadedRun, *, episode: int = 0, since: int | None = None) -> Clip:
    """Read a clip of a run's world.

    Args:
        path: of a store, of a case, or of a picture: a GIF, or a PNG with frames next to each other (see
            ``read_frames``). A picture holds the screen alone; all else that the model reads is taken from
            the most similar of some thousand frames of the real world.
        run: whose model will predict.
        episode: of a store.
        since: the moment from which the model predicts, and the last that it is shown. None = the third of a
            store, the kept one of a case, the last of a picture.

    Raises:
        WmplayError: if nothing is there, if the clip is of another world, or if it has no such moment.
    """
    path = Path(path)
    if path.is_dir() and (path / CASE_FILE).exists():
        (case,) = load_cases(path)
        return _recorded(path / "real", run, 0, case.about.since if since is None else since)
    if is_store(path):
        return _recorded(path, run, episode, since)
    if path.is_dir() or not path.exists():
        raise RunError(
            f"{path} is no clip" if path.exists() else f"{path} does not exist",
            expected="a store, a case, or a picture (GIF or PNG)",
        )
    return _drawn(path, run, since)


def _recorded(path: Path, run: LoadedRun, number: int, since: int | None) -> Clip:
    """Return the first frames of a recorded episode, and all of its actions."""
    store = load_trajectories(path)
    check_same_world(f"clip {path}", store.made_with, run.env, "give a clip of this one")
    check_store(store, run.env, every_key=False)
    if number >= len(store):
        raise RunError(f"{path} has no episode {number}", got=number, expected=f"0 to {len(store) - 1}")
    episode = store[number]
    moment = min(SHOWN - 1, len(episode)) if since is None else since
    _check_moment(path, moment, len(episode))
    frames = {key: np.array(value[: moment + 1]) for key, value in episode.observation.items()}
    return Clip(frames, np.array(episode.action))


def _drawn(path: Path, run: LoadedRun, since: int | None) -> Clip:
    """Return the frames of a picture, with the vectors of the most similar real ones."""
    shown = shown_key(observation_spaces(run.env.observation_space))
    screens = read_frames(path, shown)
    moment = len(screens) - 1 if since is None else since
    _check_moment(path, moment, len(screens) - 1)
    screens = screens[: moment + 1]
    others = [key for key in _received(run) if key != shown.key]
    if not others:
        return Clip({shown.key: screens}, None)
    nearest, likeness = _most_similar(run, shown, screens)
    return Clip({shown.key: screens, **{key: nearest[key] for key in others}}, None, likeness)


def _check_moment(path: Path, moment: int, last: int) -> None:
    if moment > last:
        raise WmplayError(f"{path} has no moment {moment}", got=moment, expected=f"0 to {last}")


def _received(run: LoadedRun) -> list[str]:
    """Return the observation keys that a run's model receives."""
    spaces, offered = observation_spaces(run.env.observation_space), capabilities(run.model)
    return list(spaces) if offered.goals else model_keys(spaces)


def _most_similar(run: LoadedRun, shown: Shown, screens: Array) -> tuple[dict[str, Array], float | None]:
    """Return the real frames most similar to screens [F, ...], {key: [F, ...]}, and their mean IoU."""
    env = build_env(env_config(run.settings), num_envs=REAL)
    episodes = list(simulate(env, None, episodes=REAL, max_steps=STEPS))
    env.close()
    real = {
        key: np.concatenate([each.observation[key] for each in episodes]) for key in episodes[0].observation
    }
    known = torch.from_numpy(real[shown.key])[None]
    metric: Metric = "iou" if shown.binary else "mse"
    away = torch.cat([distance(metric, torch.from_numpy(each)[None, None], known) for each in screens])
    nearest, index = away.min(1)
    likeness = 1 - float(nearest.mean()) if shown.binary else None
    return {key: value[index.numpy()] for key, value in real.items()}, likeness
