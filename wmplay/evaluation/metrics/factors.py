"""Scores of a model and a policy at several values of a world's factors, inside and outside of the range that
they learned in."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
import torch

from wmplay.config.settings import Settings
from wmplay.contracts import Learner, Policy
from wmplay.envs.lcd.env import LcdEnv
from wmplay.envs.lcd.factors import read_factors, value_of
from wmplay.errors import ConfigError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.scores import MODEL, Curve, FactorScore, FactorSweep
from wmplay.evaluation.statistics import Interval
from wmplay.runs.episodes import Check, run_episodes
from wmplay.runs.worlds import real_env
from wmplay.store import save_trajectories

COPY = "copy-last"


def check_sweep(settings: Settings, env: gymnasium.Env[Any, Any]) -> None:
    """Raise an error if ``evaluate.factors`` has values that the env's world cannot have.

    Raises:
        ConfigError, UnknownName: for another kind of env, and for factors and values that do not exist.
    """
    swept, world = settings.evaluate.factors, env.unwrapped
    if not swept:
        return
    if not isinstance(world, LcdEnv):
        raise ConfigError(
            f"evaluate.factors has {', '.join(swept)}, and this env has no factors",
            got=dict(swept),
            expected="an LCD world",
            advice="choose one, or evaluate.factors={}",
        )
    for name, values in swept.items():
        if not values:
            raise ConfigError(f"evaluate.factors.{name} is empty", got=values, expected="a list of values")
        for value in values:
            read_factors({name: value}, world.world)


def evaluate_factors(
    settings: Settings,
    model: Any,
    policy: Policy | None,
    env: gymnasium.Env[Any, Any],
    device: torch.device,
    check: Check = lambda: None,
) -> FactorScore:
    """Score predictions, and a policy next to the random one, at each value that ``evaluate.factors`` lists.

    All values have the same seeds; all other factors stay as the run has them.

    Args:
        settings: of the run, with the numbers of episodes.
        model: of the run, or None.
        policy: of the run; a policy that learned acts as it practised, by sampled actions.
        env: of the run.
        device: of the model.
        check: may raise to stop.
    """
    check_sweep(settings, env)
    world = env.unwrapped
    assert isinstance(world, LcdEnv)
    given = world.factors.as_config()
    learned = settings.collect.env.get("factors", given)  # of the data that the model was fitted on
    ranges = {**world.factors.ranges, **read_factors(learned, world.world).ranges}
    spans = {name: np.ravel(ends) for name, ends in settings.collect.drift.items()}
    ranges |= {name: (float(ends.min()), float(ends.max())) for name, ends in spans.items()}
    predicted = model is not None and settings.evaluate.prediction.episodes > 0
    acted = settings.evaluate.policy.episodes > 0
    sweeps = {}
    metrics: dict[str, Any] = {}
    measure = None
    for name, values in settings.evaluate.factors.items():
        errors: list[dict[str, Any]] = []
        results: list[dict[str, Interval]] = []
        for value in values:
            if predicted:
                found = _prediction(settings, model, {**learned, name: value}, device, check)
                metrics = {key: score.metric for key, score in found.items()}
                errors.append(found)
            if acted:
                measure, scores = _policies(settings, policy, {**given, name: value}, device, check)
                results.append(scores)
        sweeps[name] = FactorSweep(
            values=[float(value) for value in values],
            trained=list(ranges.get(name, value_of(name, world.world))),
            model={key: _last(errors, key, MODEL) for key in metrics},
            copy_last={key: _last(errors, key, COPY) for key in metrics},
            policies={
                who: _curve([each[who] for each in results]) for who in (results[0] if results else {})
            },
        )
    cfg = settings.evaluate
    return FactorScore(cfg.prediction.horizon, cfg.seed, metrics, measure, sweeps)


def _prediction(
    settings: Settings, model: Any, factors: dict[str, Any], device: torch.device, check: Check
) -> dict[str, Any]:
    """Return the scores by key of predictions of random episodes in a world with these factors."""
    cfg = settings.evaluate.prediction
    env = real_env(settings, cfg.episodes, {**settings.collect.env, "factors": factors})
    how: dict[str, Any] = {"max_steps": settings.collect.max_episode_steps, "device": device, "check": check}
    episodes = list(run_episodes(env, None, cfg.episodes, settings.evaluate.seed, "predict", **how))
    with TemporaryDirectory() as folder:
        store = save_trajectories(episodes, folder)
        clips = cut_clips(store, cfg.context, cfg.horizon, cfg.episodes, device=device)
        return dict(evaluate_prediction(model, clips).keys)


def _policies(
    settings: Settings, policy: Policy | None, factors: dict[str, Any], device: torch.device, check: Check
) -> tuple[Any, dict[str, Interval]]:
    """Return what is measured, and its interval for the policy and the random one."""
    number, seed = settings.evaluate.policy.episodes, settings.evaluate.seed
    how: dict[str, Any] = {"max_steps": settings.collect.max_episode_steps, "device": device, "check": check}
    found = {}
    for who, actor in (("policy", policy), ("random", None)):
        env = real_env(settings, number, {"factors": factors})
        explore = isinstance(actor, Learner)
        episodes = list(run_episodes(env, actor, number, seed, who, explore=explore, **how))
        found[who] = score_episodes(episodes, seed)
    if all(score.success is not None for score in found.values()):
        return "success", {who: score.success for who, score in found.items() if score.success is not None}
    return "return", {who: score.mean_return for who, score in found.items()}


def _last(errors: Sequence[dict[str, Any]], key: str, who: str) -> Curve:
    """Return a predictor's error at the last horizon, by value."""
    curves = [each[key].curves[who] for each in errors]
    return _curve([curve.at(len(curve.mean)) for curve in curves])


def _curve(intervals: Sequence[Interval]) -> Curve:
    return Curve(*(list(ends) for ends in zip(*intervals, strict=True)))
