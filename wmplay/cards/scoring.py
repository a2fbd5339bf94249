"""The scores of a card, from episodes that the run's own evaluation seed defines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmplay import registry
from wmplay.cards.card import Episodes, Number, counted
from wmplay.config.settings import (
    ArbiterSettings,
    EvaluateSettings,
    PolicySettings,
    Settings,
    ViolationSettings,
)
from wmplay.envs.recorded import RecordedEnv
from wmplay.evaluation.assess import assess
from wmplay.evaluation.held_out import held_out_episodes
from wmplay.evaluation.scores import (
    MODEL,
    FeatureScore,
    PolicyScore,
    PredictionScore,
    RewardScore,
    SurpriseScore,
)
from wmplay.evaluation.scores import selected_horizons as horizons
from wmplay.evaluation.statistics import Interval
from wmplay.runs.pieces import Parts
from wmplay.store import Store
from wmplay.system.device import seed_draws

OWN, RANDOM = ("policy", "policy_sampled"), "random"
DIGITS = 16  # of the digest


def is_recorded(settings: Settings) -> bool:
    """Return whether a run's env is recorded data, from which no new episode comes."""
    return registry.target(settings.env) is RecordedEnv


def of_card(settings: Settings, episodes: int) -> Settings:
    """Return a run's settings with the evaluation of its card, on at most this number of episodes."""
    own = settings.evaluate
    most = own.prediction.episodes if is_recorded(settings) else min(episodes, own.prediction.episodes)
    starts = 0 if settings.policy is None else min(episodes, own.policy.episodes)
    evaluate = EvaluateSettings(
        seed=own.seed,
        prediction=replace(own.prediction, episodes=most if settings.model is not None else 0),
        generation=replace(own.generation, clips=0),
        arbiter=ArbiterSettings(clips=0),
        violation=ViolationSettings(pairs=0),
        policy=PolicySettings(episodes=starts, starts="manifest"),
    )
    return replace(settings, evaluate=evaluate)


def score(
    settings: Settings,
    parts: Parts,
    device: torch.device,
    held_out: Path,
    *,
    reference: Store | None,
    baselines: bool,
) -> dict[str, Any]:
    """Return the scores of a run by name, as ``assess`` does, in the real world alone."""
    settings = replace(settings, improve=replace(settings.improve, steps=0))
    seed_draws(settings.evaluate.seed)
    return assess(settings, parts, held_out, device, reference=reference, baselines=baselines)


def digest_of_held_out(settings: Settings, held_out: Path, device: torch.device) -> str | None:
    """Return the digest of the first frames of the held-out episodes; None without any.

    Later frames depend on the processor in their last digits.
    """
    number = settings.evaluate.prediction.episodes
    if not number:
        return None
    content = hashlib.sha256()
    for episode in held_out_episodes(settings, number, held_out, device, lambda: None):
        for key in sorted(episode.observation):
            content.update(np.ascontiguousarray(episode.observation[key][0]).tobytes())
    return content.hexdigest()[:DIGITS]


def numbers(scores: Mapping[str, Any]) -> dict[str, Number]:
    """Return the numbers of scores by name, with those of their baselines."""
    return {name: counted(n, own, beside) for name, n, own, beside in _intervals(scores)}


def episodes_of(scores: Mapping[str, Any]) -> dict[str, Episodes]:
    """Return the episodes of the run's own policy, as it acts and with sampled actions."""
    own = ((name, scores[name]) for name in OWN if name in scores)
    return {name: Episodes(each.returns, each.successes, each.held) for name, each in own}


def manifest_of(scores: Mapping[str, Any]) -> str | None:
    """Return the digest of the starts that the policy was scored from."""
    return scores[OWN[0]].manifest if OWN[0] in scores else None


def _intervals(scores: Mapping[str, Any]) -> Iterator[tuple[str, int, Interval, dict[str, Interval]]]:
    """Yield (name, units, own interval, {baseline: interval})."""
    random = scores.get(RANDOM)
    for name in OWN:
        if (score := scores.get(name)) is not None:
            for key, own in _of_policy(score).items():
                yield (
                    f"{name}/{key}",
                    score.episodes,
                    own,
                    {RANDOM: _of_policy(random)[key]} if random else {},
                )
    match scores.get("prediction"):
        case PredictionScore(keys=keys, clips=clips, horizon=horizon):
            for key, each in keys.items():
                for h in horizons(horizon):
                    beside = {name: each.curves[name].at(h) for name in each.baselines}
                    yield f"prediction/{key}/{each.metric}@{h}", clips, each.curves[MODEL].at(h), beside
    match scores.get("rewards"):
        case RewardScore(curves=curves, clips=clips, horizon=horizon):
            for h in horizons(horizon):
                beside = {name: curve.at(h) for name, curve in curves.items() if name != MODEL}
                yield f"rewards/error@{h}", clips, curves[MODEL].at(h), beside
    match scores.get("surprise"):
        case SurpriseScore(kind=kind, clips=clips, bits=bits, baselines=baselines):
            yield f"surprise/bits ({kind})", clips, bits, baselines
    match scores.get("features"):
        case FeatureScore(keys=probes, clips=clips, error=error, copy_last=copy_last, horizon=horizon):
            for key, probe in probes.items():
                yield (
                    f"features/{key}/r2",
                    clips,
                    probe.r2,
                    {"untrained": probe.untrained} if probe.untrained else {},
                )
            yield f"features/error@{horizon}", clips, error.at(horizon), {"copy-last": copy_last.at(horizon)}


def _of_policy(score: PolicyScore) -> dict[str, Interval]:
    named = {"success": score.success, "success_at_end": score.success_at_end, "return": score.mean_return}
    return {key: each for key, each in named.items() if each is not None}
