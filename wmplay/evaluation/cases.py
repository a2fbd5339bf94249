"""Cases: what a person found in a learned world, kept as a test of every later model.

A case is a folder of plain files, which can be committed::

    case.json    the moment from which the model predicted, and how long it held
    real/        a store of one episode, from its beginning to the end of the case
    learned/     a store of one episode: the steps since that moment, as the model predicted them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Provenance, Segment, Trajectory, WorldModel, observation_spaces
from wmplay.envs import build_env
from wmplay.errors import RunError, WmplayError
from wmplay.evaluation.observation_metrics import Metric, distance, measure, metric_of
from wmplay.simulation import observe, predict
from wmplay.store import load_trajectories, save_trajectories
from wmplay.system.files import folder_written_beside, unsealed, write_sealed_json
from wmplay.system.reading import read_json
from wmplay.vector.frames import by_key

CASE_FILE = "case.json"
LEAST_IOU = 0.5  # of a step that a model still holds


class About(msgspec.Struct, frozen=True):
    """The content of ``case.json``."""

    name: str
    key: str  # the screen that was looked at
    since: int  # the moment from which the model predicted
    held: int  # steps that the model held with which the case was kept
    model: str  # name of that model's class
    run: str  # name of its run's directory
    seed: int  # of the episode's reset
    state: list[list[float]] | None = None  # in which the episode began, if it was set by hand
    format: int = 1


@dataclass(frozen=True)
class Case:
    """A case, read from its folder."""

    path: Path
    about: About
    real: Trajectory
    made_with: tuple[Provenance, ...]

    @property
    def steps(self) -> int:
        """The number of steps to predict."""
        return len(self.real) - self.about.since


@dataclass(frozen=True)
class CaseScore:
    """The result of one model in one case."""

    case: Case
    curve: Array  # [steps]: IoU of a binary screen, otherwise the error of the screen
    held: int  # steps until the first that is not held

    @property
    def passed(self) -> bool:
        """True if the model holds to the end of the case."""
        return self.held == self.case.steps


def save_case(path: Path, about: About, real: Trajectory, learned: Trajectory, env: object) -> None:
    """Write a case into a new folder. Raises WriteError, StoreError; nothing is left then."""
    with folder_written_beside(path) as beside:
        save_trajectories([real], beside / "real", env=env)
        save_trajectories([learned], beside / "learned", env=env)
        write_sealed_json(beside / CASE_FILE, msgspec.to_builtins(about))


def load_cases(folder: Path) -> list[Case]:
    """Return the cases in a folder, by name; a folder that is a case itself is the only one.

    Raises:
        RunError: if there is none, or if one is damaged.
    """
    single = (folder / CASE_FILE).exists()
    paths = [folder] if single else sorted(file.parent for file in folder.glob(f"*/{CASE_FILE}"))
    if not paths:
        raise RunError(f"no cases in {folder}", advice="keep some while playing: wmplay play RUN")
    return [_load(path) for path in paths]


def _load(path: Path) -> Case:
    file = path / CASE_FILE
    try:
        about = msgspec.convert(unsealed(read_json(file, RunError), file), About)
    except msgspec.ValidationError as error:
        raise RunError(f"{file} is no case: {error}", advice="restore it from a copy") from None
    store = load_trajectories(path / "real")
    if len(store) != 1 or not 0 <= about.since < len(store[0]) or about.key not in store[0].observation:
        raise RunError(f"{path}: its episode does not go with {CASE_FILE}", advice="restore it from a copy")
    return Case(path, about, store[0], tuple(store.made_with))


@torch.no_grad()
def score_case(model: WorldModel, case: Case, device: torch.device | str = "cpu") -> CaseScore:
    """Score a model's most likely future in a case, given all real frames up to its moment.

    A step is held if the IoU of a binary screen is at least .5; for other pictures, if its error is below
    that of the last frame that was shown.

    Raises:
        WmplayError: if the model does not predict the screen.
    """
    key, since = case.about.key, case.about.since
    segment = _segment(case.real).to(device)
    belief = observe(model, segment, since + 1)
    future = predict(model, belief, segment.action[:, since:]).observation
    if key not in future:
        raise WmplayError(f"{case.path}: the model predicts no '{key}'", got=list(future))
    frames = segment.observation[key]
    metric, truth = metric_of(frames), frames[:, since + 1 :]
    copied = frames[:, since : since + 1].expand(truth.shape)
    return CaseScore(case, *_held(metric, future[key], truth, copied))


def replay(case: Case) -> int:
    """Take a case's actions again in its real world, and return the number of leading frames that are the
    same.

    Raises:
        WmplayError: if the case does not name its world, or if that cannot be made.
    """
    if not case.made_with:
        raise RunError(f"{case.path} does not name its world", advice="keep it again while playing a run")
    env = build_env(case.made_with[0])
    options = None if case.about.state is None else {"state": np.array(case.about.state)}
    spaces = observation_spaces(env.observation_space)
    frame, _ = env.reset(seed=case.about.seed, options=options)
    frames = [by_key(frame, spaces)]
    for action in case.real.action:
        frames.append(by_key(env.step(action)[0], spaces))
    env.close()
    kept = {
        key: value for key, value in case.real.observation.items() if key in spaces
    }  # a world has no task
    same = [all(np.array_equal(frame[key], kept[key][i]) for key in kept) for i, frame in enumerate(frames)]
    return same.index(False) if False in same else len(same)


def _held(metric: Metric, guess: Tensor, truth: Tensor, copied: Tensor) -> tuple[Array, int]:
    """Return the curve [H] of a guess [1, H, ...], and the steps until the first that is not held."""
    curve = measure(metric, guess, truth)[0]
    good = curve >= LEAST_IOU if metric == "iou" else curve < distance(metric, copied, truth)[0]
    return curve.cpu().numpy(), int(good.long().cumprod(0).sum())


def _segment(trajectory: Trajectory) -> Segment:
    """Return one trajectory as a batch."""
    tensors = {name: torch.from_numpy(np.array(x))[None] for name, x in trajectory.per_step.items()}
    frames: Mapping[str, Array] = trajectory.observation
    return Segment(
        {key: torch.from_numpy(np.array(value))[None] for key, value in frames.items()},
        tensors["action"],
        tensors["reward"],
        tensors["terminated"],
        torch.ones(1, len(trajectory), dtype=torch.bool),
    )
