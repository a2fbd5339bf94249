"""What evaluations find out, as plain data, and how it lies in a run directory.

``evaluation.json`` holds the numbers, ``clips.npz`` a few predictions and ``episodes.npz`` a few episodes of
the policy to look at. A number that is not finite is ``null`` in JSON and NaN here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.contracts import Array, Trajectory
from wmplay.errors import RunError
from wmplay.files import write_json, written_beside
from wmplay.intervals import Interval
from wmplay.measures import BASELINES, Metric

MODEL = "model"  # the name of the model's own most likely future among the predictors
REAL = "real"  # the name of the true futures among what an arbiter judges

EVALUATION_FILE = "evaluation.json"
CLIPS_FILE = "clips.npz"
EPISODES_FILE = "episodes.npz"


@dataclass(frozen=True)
class PolicyScore:
    """A policy's episodes: means with t intervals, success with a Wilson interval, and the raw numbers."""

    episodes: int
    seed: int  # of the episodes: scores of equal seed are paired
    mean_return: Interval
    mean_length: Interval
    success: Interval | None  # None where there is no goal to reach
    returns: list[float]  # of each episode: the plain sum of rewards
    lengths: list[int]
    successes: list[bool] | None

    def row(self) -> dict[str, float]:
        """Flat metrics for a log: ``return``, ``return_low``, ``return_high``, ``success``, ..."""
        named = {"return": self.mean_return, "length": self.mean_length}
        if self.success is not None:
            named["success"] = self.success
        row = {"episodes": float(self.episodes)}
        for name, interval in named.items():
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return row


@dataclass(frozen=True)
class Curve:
    """A mean over clips at each horizon 1 .. H, with the ends of its 95% t interval."""

    mean: list[float]
    low: list[float]
    high: list[float]

    def at(self, horizon: int) -> Interval:
        """The interval at a horizon, counted from 1."""
        return Interval(self.mean[horizon - 1], self.low[horizon - 1], self.high[horizon - 1])


@dataclass(frozen=True)
class KeyScore:
    """How well one observation key is predicted, by each predictor.

    The metric follows from what the key holds: ``iou`` for a binary screen (intersection over union of
    the lit pixels at threshold .5; two empty frames agree: 1), ``mse`` for pixels (of values scaled to
    0 .. 1), ``mae`` for vectors. The baselines know the context and the reference episodes only:
    ``copy-last``, then ``background`` and ``marginal`` for screens, ``mean`` for the rest.
    """

    metric: Metric
    curves: dict[str, Curve]  # "model", the baselines, then "1 sample", "mean of N", "best of N"

    @property
    def higher_is_better(self) -> bool:
        """Whether the metric is a likeness rather than an error."""
        return self.metric == "iou"

    @property
    def baselines(self) -> list[str]:
        """The names of the predictors that have learned nothing from time."""
        return [name for name in self.curves if name in BASELINES]

    def ahead_until(self) -> int:
        """The last horizon up to which the model beats every baseline, their intervals not overlapping."""
        model = self.curves[MODEL]
        for h in range(1, len(model.mean) + 1):
            for name in self.baselines:
                ours, theirs = model.at(h), self.curves[name].at(h)
                apart = ours.low > theirs.high if self.higher_is_better else ours.high < theirs.low
                if not apart:
                    return h - 1
        return len(model.mean)


@dataclass(frozen=True)
class PredictionScore:
    """Open-loop predictions under the true actions: ``context`` frames shown, ``horizon`` steps predicted."""

    context: int
    horizon: int
    clips: int  # windows scored, each of another episode: fewer than asked for where there are no more
    seed: int
    keys: dict[str, KeyScore]

    def row(self) -> dict[str, float]:
        """Flat metrics of the model for a log, at horizons 1, 2, 5, 10, ...: ``lcd/iou@5``."""
        return {
            f"{key}/{score.metric}@{h}": score.curves[MODEL].mean[h - 1]
            for key, score in self.keys.items()
            for h in selected_horizons(self.horizon)
        }


@dataclass(frozen=True)
class Likeness:
    """How alike clips and real ones look to an arbiter, with jackknife intervals over episodes."""

    frechet: Interval  # squared, between latents, of which real ones have variance 1 in each dimension
    neighbours: dict[str, Interval]  # "precision@k", "recall@k", "f1@k", "density@k" for k = 3 and 5
    action_error: Interval | None  # mean squared error of actions read off the clips; None: no robot to act

    def row(self) -> dict[str, float]:
        """Flat metrics for a log: ``frechet``, ``frechet_low``, ``frechet_high``, ``precision@3``, ..."""
        named = {"frechet": self.frechet, **self.neighbours}
        if self.action_error is not None:
            named["action_error"] = self.action_error
        return {
            f"{name}{end}": number
            for name, interval in named.items()
            for end, number in zip(("", "_low", "_high"), interval, strict=True)
        }


@dataclass(frozen=True)
class ArbiterScore:
    """Sampled futures under the true actions, as an arbiter sees them, beside what frames its scale.

    All of ``likeness`` is against the same real clips, of other episodes, and with equally many clips: a
    Frechet distance depends on their number, so scores compare at equal ``clips`` and ``arbiter`` only.
    """

    arbiter: str  # "luxo-v1"
    digest: str  # of the arbiter's weights
    context: int
    horizon: int
    clips: int  # in each of the sets
    episodes: int  # that each of the sets is cut from
    seed: int
    likeness: dict[str, Likeness]  # MODEL; REAL, the true futures: the floor; "copy-last": the ceiling
    chance: float | None  # the action error of always guessing the mean action

    def row(self) -> dict[str, float]:
        """Flat metrics for a log: the model's ``frechet``, ..., then ``real/frechet``, ..."""
        row = {"clips": float(self.clips)}
        for name, likeness in self.likeness.items():
            prefix = "" if name == MODEL else f"{name}/"
            row |= {f"{prefix}{key}": value for key, value in likeness.row().items()}
        if self.chance is not None:
            row["chance/action_error"] = self.chance
        return row


def selected_horizons(horizon: int) -> list[int]:
    """The horizons that tables and film strips show: 1, 2, 5, 10, 20, 50, ... and the last."""
    steps = [m * 10**e for e in range(len(str(horizon))) for m in (1, 2, 5)]
    return sorted({*(h for h in steps if h < horizon), horizon})


@dataclass(frozen=True)
class Clips:
    """A few predictions to look at. Screens hold probabilities, the rest what the env's observations hold."""

    context: int
    truth: dict[str, Array]  # [N, context + H, ...]
    prediction: dict[str, Array]  # [N, H, ...]


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one evaluation."""

    prediction: PredictionScore | None = None
    policies: dict[str, PolicyScore] = field(default_factory=dict)  # "policy", then "random" and others


# On disk ----------------------------------------------------------------------------------------------


def save_evaluation(
    run_dir: Path,
    *,
    prediction: PredictionScore | None = None,
    clips: Clips | None = None,
    episodes: Sequence[Trajectory] = (),
    **policies: PolicyScore,
) -> None:
    """Writes an evaluation into a run directory, each file beside and then renamed.

    Args:
        run_dir: of the run.
        prediction: the model's score.
        clips: predictions to look at.
        episodes: of the policy, to look at: only images are kept (and nothing, where there are none).
        policies: scores by name: ``policy=...`` first, ``random=...`` beside it.
    """
    numbers = {
        "prediction": prediction and asdict(prediction),
        "policy": {name: asdict(score) for name, score in policies.items()},
    }
    write_json(run_dir / EVALUATION_FILE, _finite(numbers))
    if clips is not None:
        arrays = {f"truth/{key}": value for key, value in clips.truth.items()}
        arrays |= {f"prediction/{key}": _compact(value) for key, value in clips.prediction.items()}
        _write_npz(run_dir / CLIPS_FILE, {"context": np.array(clips.context), **arrays})
    if episodes:
        _write_npz(run_dir / EPISODES_FILE, {k: v for i, t in enumerate(episodes) for k, v in _images(i, t)})


def load_evaluation(run_dir: Path) -> Evaluation | None:
    """The evaluation in a run directory, None where there is none.

    Raises:
        RunError: if the file is damaged.
    """
    path = run_dir / EVALUATION_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        prediction = content["prediction"] and _prediction(content["prediction"])
        return Evaluation(prediction, {name: _policy(score) for name, score in content["policy"].items()})
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error!r}): evaluate the run again") from error


def load_clips(run_dir: Path) -> Clips | None:
    """The clips in a run directory, None where there are none.

    Raises:
        RunError: if the file is damaged.
    """
    arrays = _read_npz(run_dir / CLIPS_FILE)
    if not arrays:
        return None
    truth, prediction = (
        {name.removeprefix(part): value for name, value in arrays.items() if name.startswith(part)}
        for part in ("truth/", "prediction/")
    )
    return Clips(int(arrays["context"]), truth, prediction)


def load_episodes(run_dir: Path) -> list[Trajectory]:
    """The policy's episodes in a run directory, with the images of their observations only.

    Raises:
        RunError: if the file is damaged.
    """
    episodes: dict[str, dict[str, Array]] = {}
    for name, value in _read_npz(run_dir / EPISODES_FILE).items():
        number, part = name.split("/", 1)
        episodes.setdefault(number, {})[part] = value
    return [
        Trajectory(
            {k.removeprefix("observation/"): v for k, v in parts.items() if k.startswith("observation/")},
            *(parts[name] for name in ("action", "reward", "terminated", "truncated")),
        )
        for parts in episodes.values()
    ]


def _images(number: int, trajectory: Trajectory) -> list[tuple[str, Array]]:
    """The arrays to keep of an episode, named: observations [T + 1, H, W (, C)], and all that steps hold."""
    images = [(f"{number}/observation/{k}", v) for k, v in trajectory.observation.items() if v.ndim in (3, 4)]
    steps = [(f"{number}/{f.name}", getattr(trajectory, f.name)) for f in fields(trajectory)[1:]]
    return images + steps if images else []


def _compact(prediction: Array) -> Array:
    """Images [N, H, ...] in half precision: they are only looked at."""
    return prediction.astype(np.float16) if prediction.ndim > 3 else prediction


def _write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    with written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a flag for a name


def _read_npz(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive fails in many ways
        raise RunError(f"{path} is damaged ({type(error).__name__}): evaluate the run again") from error


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: None instead."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _policy(content: dict[str, Any]) -> PolicyScore:
    intervals = {
        name: content[name] and Interval(*_numbers(content[name]))
        for name in ("mean_return", "mean_length", "success")
    }
    return PolicyScore(**{**content, **intervals, "returns": _numbers(content["returns"])})


def _prediction(content: dict[str, Any]) -> PredictionScore:
    keys = {
        key: KeyScore(
            score["metric"],
            {
                name: Curve(**{end: _numbers(values) for end, values in curve.items()})
                for name, curve in score["curves"].items()
            },
        )
        for key, score in content["keys"].items()
    }
    return PredictionScore(**{**content, "keys": keys})
