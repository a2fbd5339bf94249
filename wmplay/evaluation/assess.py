"""The evaluation of a run: its world model on held-out episodes, its policy next to the random one.

Its seeds are its own (``evaluate.seed``), so that all runs are scored on the same episodes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from wmplay.config.settings import Settings
from wmplay.contracts import Learner, Policy, Trajectory, capabilities, env_spec
from wmplay.envs.lcd.env import LcdEnv
from wmplay.evaluation.arbiter.choice import arbiter_of
from wmplay.evaluation.arbiter.realism import clips_needed, judge
from wmplay.evaluation.clips import ClipSet, cut_clips, cut_from_resets
from wmplay.evaluation.held_out import held_out_episodes
from wmplay.evaluation.manifest import draw_manifest, evaluation_env, score_manifest
from wmplay.evaluation.metrics.actions import evaluate_actions
from wmplay.evaluation.metrics.calibration import evaluate_calibration
from wmplay.evaluation.metrics.consistency import evaluate_agreement
from wmplay.evaluation.metrics.factors import evaluate_factors
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.metrics.probes import evaluate_features, observable_share
from wmplay.evaluation.metrics.rewards import evaluate_rewards
from wmplay.evaluation.metrics.spread import evaluate_spread
from wmplay.evaluation.metrics.surprise import evaluate_surprise
from wmplay.evaluation.violation import evaluate_violation
from wmplay.runs.episodes import Check, run_episodes
from wmplay.runs.load import load_run
from wmplay.runs.pieces import Parts, untrained_model, untrained_policy
from wmplay.runs.worlds import learned_env, real_env
from wmplay.store import Store

SHOWN_CLIPS = 6  # of predictions, in the report
SHOWN_EPISODES = 6  # of the policy, in the report


def assess(
    settings: Settings,
    parts: Parts,
    held_out: Path,
    device: torch.device,
    *,
    reference: Store | None,
    baselines: bool = True,
    check: Check = lambda: None,
) -> dict[str, Any]:
    """Score a run's model and policy as its config asks for.

    Args:
        settings: of the run.
        parts: its pieces.
        held_out: the folder that keeps the held-out episodes.
        device: of the model.
        reference: the data that the model was fitted on, for the marginal baselines.
        baselines: whether to score the random, the untrained and the reference policy, too, which are the
            same in every iteration.
        check: may raise to stop.

    Returns:
        The arguments of ``save_evaluation``: scores of the model ("prediction", "surprise", ...) and of
        policies ("policy", "random", ...), and "clips", "episodes" and others for the report.
    """
    cfg, model = settings.evaluate, parts.model
    episodes, context, horizon = cfg.prediction.episodes, cfg.prediction.context, cfg.prediction.horizon
    scores: dict[str, Any] = {}
    clips: ClipSet | None = None

    def cut(number: int) -> tuple[Store, ClipSet]:
        kept = held_out_episodes(settings, number, held_out, device, check)
        return kept, cut_clips(kept, context, horizon, number, reference=reference, device=device)

    if model is not None and episodes:
        kept, clips = cut(episodes)
        scores = {
            "prediction": evaluate_prediction(model, clips),
            "rewards": evaluate_rewards(model, clips),
            "surprise": evaluate_surprise(model, clips),
            "clips": shown_futures(model, clips.first(SHOWN_CLIPS)),
        }
        if cfg.prediction.actions:
            scores["actions"] = evaluate_actions(model, clips)
            if scores["rewards"] is not None:
                share = observable_share(model, clips)
                scores["rewards"] = replace(scores["rewards"], observable=share)
        if capabilities(model).features is not None:
            untrained = untrained_model(settings, parts, device) if baselines else None
            scores["features"] = evaluate_features(model, clips, untrained)
        if cfg.generation.clips:
            starts = clips.first(cfg.generation.clips)
            resets = cut_from_resets(kept, cfg.generation.steps, SHOWN_CLIPS, device=device)
            scores |= {
                "spread": evaluate_spread(model, starts, cfg.generation.futures),
                "calibration": evaluate_calibration(model, starts, cfg.generation.futures),
                "agreement": evaluate_agreement(model, clips, parts.env),
                "duplicate": shown_futures(model, clips.first(1), cfg.generation.futures),
                "unprompted": shown_futures(model, resets, 1),
            }
    if model is not None and cfg.arbiter.clips:
        needed = clips_needed(cfg.arbiter.clips, horizon)
        if clips is None or needed > episodes:
            clips = cut(needed)[1]
        scores["arbiter"] = judge(model, clips.first(needed), arbiter_of(parts.env))
    if model is not None and cfg.violation.pairs:
        scores |= _assess_violation(settings, parts, device, baselines)
    if cfg.policy.episodes:
        scores |= _assess_policies(settings, parts, device, baselines, check)
    if cfg.factors:
        scores["factors"] = evaluate_factors(settings, model, parts.policy, parts.env, device, check)
    return {name: score for name, score in scores.items() if score is not None}


def _assess_violation(
    settings: Settings, parts: Parts, device: torch.device, baselines: bool
) -> dict[str, Any]:
    """Score the model's surprise, and that of the same model before its fit; {} in other worlds."""
    env = parts.env.unwrapped
    if not isinstance(env, LcdEnv):
        return {}
    untrained, seed = untrained_model(settings, parts, device) if baselines else None, settings.evaluate.seed
    pairs = settings.evaluate.violation.pairs
    found = evaluate_violation(parts.model, env, pairs, untrained=untrained, seed=seed, device=device)
    return {} if found is None else {"violation": found[0], "pairs": found[1]}


def _assess_policies(
    settings: Settings, parts: Parts, device: torch.device, baselines: bool, check: Check
) -> dict[str, Any]:
    """Score the policy by its mean actions, the random one, and further variants of a policy that learned.

    The variants are: with sampled actions, in the learned world, untrained, and from a run to compare with.
    """
    number, seed = settings.evaluate.policy.episodes, settings.evaluate.seed
    max_steps = settings.collect.max_episode_steps
    manifest = draw_manifest(settings) if settings.evaluate.policy.starts == "manifest" else None
    scores: dict[str, Any] = {}

    def score(
        name: str, policy: Policy | None, explore: bool = False, world: VectorEnv[Any, Any, Any] | None = None
    ) -> list[Trajectory]:
        how: dict[str, Any] = {"device": device, "max_steps": max_steps, "check": check, "explore": explore}
        if manifest is None or world is not None:
            env = real_env(settings, number) if world is None else world
            episodes = list(run_episodes(env, policy, number, seed, name, **how))
            scores[name] = score_episodes(episodes, seed)
        else:
            env = evaluation_env(settings)
            resets = manifest.seeds
            episodes = list(run_episodes(env, policy, number, seed, name, resets=resets, **how))
            scores[name] = score_manifest(episodes, manifest, seed, env_spec(env).task)
        return episodes[:SHOWN_EPISODES]

    def imagine(name: str, explore: bool = False) -> None:
        slots = min(settings.collect.num_envs, number)
        world = learned_env(settings, parts, None, device, slots, seed)
        scores["learned_episodes"] = score(name, parts.policy, explore, world)

    shown = score("policy", parts.policy)
    if settings.evaluate.policy.imagined and parts.model is not None:
        imagine("learned")
    learned = isinstance(parts.policy, Learner)
    if learned:
        shown = score("policy_sampled", parts.policy, explore=True)
        if settings.improve.steps and settings.improve.world == "learned" and parts.model is not None:
            imagine("learned_sampled", explore=True)
    scores["episodes"] = shown
    if not baselines:
        return scores
    if learned:
        score("untrained_sampled", untrained_policy(settings, parts, device), explore=True)
    if settings.evaluate.policy.reference is not None:
        score("real_sampled", load_run(settings.evaluate.policy.reference).policy, explore=True)
    score("random", None)
    return scores
