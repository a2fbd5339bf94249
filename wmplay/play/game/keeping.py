"""Keeping of cases: the steps of a game since a moment, as a test of later models."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np

from wmplay.contracts import Array, Trajectory, observation_spaces
from wmplay.errors import WmplayError
from wmplay.play.game.screen import shown_key
from wmplay.play.game.timeline import Branch, Moment
from wmplay.runs.load import LoadedRun
from wmplay.vector.frames import Frames


def keeper(folder: Path, run: LoadedRun, env: gymnasium.Env[Any, Any]) -> Callable[[str, Branch, int], str]:
    """Return a function that saves the steps of a branch since a moment as a case, and returns its path."""
    shown = shown_key(observation_spaces(env.observation_space))

    def keep(name: str, branch: Branch, since: int) -> str:
        """Raise WmplayError for a name that exists, or if the disk is full."""
        # all of evaluation: a game begins sooner without it
        from wmplay.evaluation.cases import About, Case, save_case, score_case

        path = folder / _file_name(name, folder)
        if path.exists():
            raise WmplayError(f"{path} exists", advice="choose another name")
        real = _trajectory([each.real for each in branch.moments], branch, 0)
        later = branch.moments[since + 1 :]
        said = [branch.moments[since].real, *(_as_observed(each) for each in later)]
        about = About(
            name=path.name,
            key=shown.key,
            since=since,
            held=0,
            model=type(run.model).__name__,
            run=run.path.name,
            seed=branch.beginning.seed,
            state=None if branch.beginning.state is None else branch.beginning.state.tolist(),
        )
        score = score_case(run.model, Case(path, about, real, ()), run.device)
        about = msgspec.structs.replace(about, held=score.held)
        save_case(path, about, real, _trajectory(said, branch, since), env)
        return str(path)

    return keep


def _file_name(name: str, folder: Path) -> str:
    """Return a name of letters, digits and dashes; the next free number for an empty one."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain:
        return plain
    numbers = map("case-{}".format, itertools.count(1))
    return next(number for number in numbers if not (folder / number).exists())


def _as_observed(moment: Moment) -> Frames:
    """Return the learned world's frame as an env would show it; keys that it lacks are the real ones."""
    learned: Mapping[str, Array] = moment.learned or {}
    return {
        key: _rounded(learned[key], real) if key in learned else real for key, real in moment.real.items()
    }


def _rounded(value: Array, like: Array) -> Array:
    whole = value if like.dtype.kind == "f" else np.clip(np.rint(value), 0, np.iinfo(like.dtype).max)
    return whole.astype(like.dtype).reshape(like.shape)


def _trajectory(frames: list[Frames], branch: Branch, since: int) -> Trajectory:
    """Return the steps of a branch from a moment on, with these frames."""
    steps = branch.moments[since + 1 :]
    no = np.zeros(len(steps), np.bool_)
    cut = no.copy()
    cut[-1:] = True  # the player stopped here
    action = np.stack(branch.actions[since:])
    return Trajectory(
        {key: np.stack([frame[key] for frame in frames]) for key in frames[0]},
        action if action.dtype.kind == "f" else action.astype(np.int64),
        np.array([each.reward for each in steps], np.float32),
        no,
        cut,
    )
