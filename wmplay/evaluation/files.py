"""An evaluation on disk: its numbers in ``evaluation.json``, its clips and episodes in ``.npz`` files.

A number that is not finite is ``null`` in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from wmplay.contracts import Trajectory
from wmplay.errors import RunError
from wmplay.evaluation.gallery import ShownClips, ShownPairs, save_clips, save_episodes, save_pairs
from wmplay.evaluation.scores import (
    MODEL,
    ActionScore,
    AgreementScore,
    ArbiterScore,
    CalibrationScore,
    Curve,
    Evaluation,
    FactorScore,
    FeatureScore,
    PolicyScore,
    PredictionScore,
    RewardScore,
    SpreadScore,
    SurpriseScore,
    ViolationScore,
)
from wmplay.system.files import unsealed, write_sealed_json
from wmplay.system.reading import read_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EVALUATION_FILE = "evaluation.json"

T = TypeVar("T", bound="DataclassInstance")


def save_evaluation(
    run_dir: Path,
    *,
    prediction: PredictionScore | None = None,
    rewards: RewardScore | None = None,
    spread: SpreadScore | None = None,
    surprise: SurpriseScore | None = None,
    agreement: AgreementScore | None = None,
    arbiter: ArbiterScore | None = None,
    violation: ViolationScore | None = None,
    features: FeatureScore | None = None,
    calibration: CalibrationScore | None = None,
    factors: FactorScore | None = None,
    actions: ActionScore | None = None,
    pairs: ShownPairs | None = None,
    clips: ShownClips | None = None,
    unprompted: ShownClips | None = None,
    duplicate: ShownClips | None = None,
    episodes: Sequence[Trajectory] = (),
    learned_episodes: Sequence[Trajectory] = (),
    **policies: PolicyScore,
) -> None:
    """Write an evaluation into a run directory, each file atomically, in place of an earlier one.

    Args:
        run_dir: of the run.
        prediction, rewards, spread, surprise, agreement, arbiter, violation, features,
            calibration, factors, actions: the model's scores.
        pairs: of possible and impossible episodes, for the report.
        clips, unprompted, duplicate: predictions for the report (see ``ShownClips``).
        episodes: of the policy in the real world, for the report: only images are kept (and nothing without
            images).
        learned_episodes: the same in the learned world, from the same starts and with the same goals.
        policies: scores by name: ``policy=...`` first, then ``random=...`` and others.
    """
    known = prediction, rewards, spread, surprise, agreement, arbiter, violation, features, calibration
    save_numbers(run_dir / EVALUATION_FILE, Evaluation(*known, factors, actions, policies))
    for name, some in (("clips", clips), ("unprompted", unprompted), ("duplicate", duplicate)):
        save_clips(run_dir, name, some)
    save_pairs(run_dir, pairs or {})
    save_episodes(run_dir, "episodes", episodes)
    save_episodes(run_dir, "learned_episodes", learned_episodes)


def save_numbers(path: Path, scores: DataclassInstance) -> None:
    """Write a dataclass of scores as a JSON file with a checksum, in place of an earlier one."""
    write_sealed_json(path, _finite(asdict(scores)))


def load_evaluation(run_dir: Path) -> Evaluation | None:
    """Return the evaluation in a run directory, or None if it has none.

    Raises:
        RunError: if the file is damaged.
    """
    return load_numbers(run_dir / EVALUATION_FILE, Evaluation, _check)


def load_numbers(path: Path, kind: type[T], check: Callable[[T], None] = lambda _: None) -> T | None:
    """Return the scores that ``save_numbers`` wrote, None without a file.

    Args:
        path: of the file.
        kind: the dataclass of the scores.
        check: raises ValueError if parts of the scores do not fit each other.

    Raises:
        RunError: if the file is damaged.
    """
    try:
        content = unsealed(read_json(path, RunError), path)
    except FileNotFoundError:
        return None
    try:
        if unknown := sorted(content.keys() - {part.name for part in fields(kind)}):
            raise ValueError(f"it has {unknown[0]!r:.40}, which is not known here")
        scores = msgspec.convert(_numbers(content), kind)
        check(scores)
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error})", advice="evaluate the run again") from error
    return scores


def _numbers(content: Any) -> Any:
    """Return JSON content with NaN for each null in a list."""
    if isinstance(content, dict):
        return {key: _numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [math.nan if value is None else _numbers(value) for value in content]
    return content


def _check(evaluation: Evaluation) -> None:
    """Raise ValueError if the parts of an evaluation do not fit each other."""
    of_clips = (evaluation.prediction, evaluation.rewards, evaluation.spread, evaluation.calibration)
    for score in (*of_clips, evaluation.agreement, evaluation.features, evaluation.actions):
        lengths = {len(ends) for curve in _curves(score) for ends in (curve.mean, curve.low, curve.high)}
        if score is not None and not lengths <= {score.horizon}:
            raise ValueError(f"its curves have {lengths} points, its horizon is {score.horizon}")
    predicted = evaluation.prediction.keys if evaluation.prediction else {}
    lacking = [name for name, key in predicted.items() if MODEL not in key.curves]
    if evaluation.rewards and MODEL not in evaluation.rewards.curves:
        lacking.append("rewards")
    if lacking or (evaluation.arbiter and MODEL not in evaluation.arbiter.likeness):
        raise ValueError("a score of the model is missing")
    if evaluation.violation and any(
        MODEL not in kind.accuracy or kind.accuracy.keys() != kind.sets.keys()
        for kind in evaluation.violation.kinds.values()
    ):
        raise ValueError("a score of the model's surprise is missing")
    for name, policy in evaluation.policies.items():
        lists = (
            policy.returns,
            policy.lengths,
            policy.returns if policy.successes is None else policy.successes,
            policy.returns if policy.held is None else policy.held,
        )
        if any(len(each) != policy.episodes for each in lists):
            raise ValueError(f"policy '{name}' has other numbers than those of {policy.episodes} episodes")


def _curves(value: Any) -> Iterator[Curve]:
    """Yield all curves of a score."""
    if isinstance(value, Curve):
        yield value
    elif is_dataclass(value):
        for part in vars(value).values():
            yield from _curves(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _curves(part)


def _finite(value: Any) -> Any:
    """Return content with None for numbers that are not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
