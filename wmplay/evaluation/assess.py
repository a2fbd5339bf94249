"""The evaluation of a run: prediction on held-out episodes, the policy beside the random one.

Its seeds are its own (``evaluate.seed``), so that all runs are scored on the same episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from wmplay.contracts import Learner, Policy, Trajectory
from wmplay.envs import build_env
from wmplay.envs.lcd import WORLDS
from wmplay.envs.recorded import RecordedEnv
from wmplay.errors import ArbiterError, StoreError
from wmplay.evaluation.arbiter.network import FRAMES, Arbiter, load_arbiter, shipped_arbiters
from wmplay.evaluation.arbiter.realism import judge, windows_needed
from wmplay.evaluation.consistency import evaluate_agreement
from wmplay.evaluation.prediction import evaluate_prediction, predict_clips, score_episodes
from wmplay.evaluation.scores import ArbiterScore
from wmplay.evaluation.spread import duplicate_clips, evaluate_spread, unprompted_clips
from wmplay.evaluation.surprise import evaluate_surprise
from wmplay.runs.directory import RunDirectory
from wmplay.runs.load import load_run
from wmplay.runs.pieces import Parts, env_config, over_ray, untrained_policy
from wmplay.runs.worlds import learned_env
from wmplay.simulation.simulate import simulate
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.store.provenance import origin_of
from wmplay.store.split import hold_out
from wmplay.system.progress import episodes_bar

SHOWN_EPISODES = 6  # of the policy, in the report

Check = Callable[[], None]  # called now and then; raises to stop


def assess(
    config: DictConfig,
    parts: Parts,
    directory: RunDirectory,
    device: torch.device,
    *,
    reference: Store | None,
    baselines: bool = True,
    check: Check = lambda: None,
) -> dict[str, Any]:
    """Scores a run's model and policy as its config asks for.

    Args:
        config: of the run.
        parts: its pieces.
        directory: the held-out episodes are kept in it.
        device: where the model is.
        reference: what the model was fitted on; the marginal baselines are too.
        baselines: whether to score the policies that stay the same through a run, too.
        check: may raise to stop.

    Returns:
        What ``save_evaluation`` takes: scores of the model ("prediction", "surprise", ...) and of policies
        ("policy", "random", ...), and "clips", "episodes" and others to look at.
    """
    cfg = config.evaluate
    scores: dict[str, Any] = {}
    if parts.model is not None and cfg.prediction.episodes:
        held_out = held_out_episodes(config, cfg.prediction.episodes, directory, device, check)
        scores |= _assess_model(cfg, parts, held_out, reference, device)
    if parts.model is not None and cfg.arbiter.clips:
        scores["arbiter"] = _arbitrate(config, parts, directory, device, check)
    if cfg.policy.episodes:
        scores |= _assess_policies(config, parts, device, baselines, check)
    return scores


def _assess_policies(
    config: DictConfig, parts: Parts, device: torch.device, baselines: bool, check: Check
) -> dict[str, Any]:
    """Scores of the policy by its mean actions, of the random one, and more of a policy that learned:
    with sampled actions, in the learned world, untrained, and of a run to compare with."""
    number, seed = config.evaluate.policy.episodes, config.evaluate.seed
    scores: dict[str, Any] = {}

    def score(name: str, policy: Policy | None, **how: Any) -> list[Trajectory]:
        episodes = run_episodes(config, policy, number, seed, name, device, check=check, **how)
        scores[name] = score_episodes(episodes, seed)
        return episodes

    seen = score("policy", parts.policy)
    if isinstance(parts.policy, Learner):
        seen = score("policy_sampled", parts.policy, explore=True)
        practised = config.improve.steps and config.improve.world == "learned"
        if practised and parts.model is not None:
            world = learned_env(config, parts, None, device, min(config.collect.num_envs, number), seed)
            imagined = score("learned_sampled", parts.policy, explore=True, env=world)
            scores["learned_episodes"] = imagined[:SHOWN_EPISODES]
    scores["episodes"] = seen[:SHOWN_EPISODES]
    if not baselines:
        return scores
    if isinstance(parts.policy, Learner):
        score("untrained_sampled", untrained_policy(config, parts, device), explore=True)
    if config.evaluate.policy.reference is not None:
        other = load_run(config.evaluate.policy.reference).policy
        score("real_sampled", other, explore=True)
    score("random", None)
    return scores


def _assess_model(
    cfg: DictConfig, parts: Parts, held_out: Store, reference: Store | None, device: torch.device
) -> dict[str, Any]:
    """The scores of a world model, and predictions to look at; what cannot be scored is left out."""
    model = parts.model
    windows = {"context": cfg.prediction.context, "horizon": cfg.prediction.horizon, "device": device}
    each = {"clips": cfg.prediction.episodes, **windows}
    scores: dict[str, Any] = {
        "prediction": evaluate_prediction(model, held_out, reference=reference, **each),
        "surprise": evaluate_surprise(model, held_out, reference=reference, **each),
        "clips": predict_clips(model, held_out, **windows),
    }
    several = cfg.generation
    if several.clips:
        futures = {"futures": several.futures, **windows}
        scores |= {
            "spread": evaluate_spread(model, held_out, clips=several.clips, **futures),
            "agreement": evaluate_agreement(model, held_out, parts.env, **each),
            "duplicate": duplicate_clips(model, held_out, **futures),
            "unprompted": unprompted_clips(model, held_out, steps=several.steps, device=device),
        }
    return {name: score for name, score in scores.items() if score is not None}


def _arbitrate(
    config: DictConfig, parts: Parts, directory: RunDirectory, device: torch.device, check: Check
) -> ArbiterScore:
    """Sampled futures before the world's arbiter, on as many held-out episodes as it needs."""
    cfg = config.evaluate
    context, horizon = cfg.prediction.context, cfg.prediction.horizon
    episodes = windows_needed(cfg.arbiter.clips, horizon)
    return judge(
        parts.model,
        held_out_episodes(config, max(episodes, cfg.prediction.episodes), directory, device, check),
        arbiter_of(parts.env),
        context=context,
        horizon=horizon,
        clips=cfg.arbiter.clips,
        device=device,
    )


def arbiter_of(env: gymnasium.Env[Any, Any]) -> Arbiter:
    """The arbiter of an env's world.

    Raises:
        ArbiterError: if there is none.
    """
    world = getattr(env.unwrapped, "world", None)
    names = [name for name, built_in in WORLDS.items() if built_in == world]
    if not names:
        raise ArbiterError(
            f"{type(env.unwrapped).__name__} shows no built-in world, expected one with an arbiter "
            f"({', '.join(shipped_arbiters())}): leave evaluate.arbiter.clips at 0"
        )
    if names[0] not in shipped_arbiters():
        raise ArbiterError(
            f"no arbiter judges the world '{names[0]}' as yet (those of {', '.join(shipped_arbiters())} are "
            f"there): make one by python scripts/train_arbiter.py {names[0]}, or leave "
            "evaluate.arbiter.clips at 0"
        )
    return load_arbiter(names[0])


def check_arbiter(config: DictConfig, env: gymnasium.Env[Any, Any]) -> None:
    """Whether the arbiter that a run's config asks for can judge it.

    Raises:
        ArbiterError: if the env's world has none, or the horizon is too short for a clip.
    """
    horizon = config.evaluate.prediction.horizon
    if horizon < FRAMES:
        raise ArbiterError(
            f"evaluate.prediction.horizon is {horizon}, expected at least {FRAMES}, the frames of a clip of "
            "the arbiter's; or evaluate.arbiter.clips=0"
        )
    arbiter_of(env)


def given_episodes(
    config: DictConfig, env: gymnasium.Env[Any, Any], directory: RunDirectory
) -> Iterable[Trajectory]:
    """What a run's ``env.data`` has to fit on. Without a simulator, some of it is held out."""
    store, episodes = load_trajectories(config.env.data), config.evaluate.prediction.episodes
    if not isinstance(env, RecordedEnv) or not episodes:
        return store
    rest, held_out = hold_out(store, episodes, config.evaluate.seed)
    path = _held_out_path(config, episodes, directory)
    if not is_store(path):  # otherwise the run was stopped here, and begins again
        save_trajectories(held_out, path, env=env)
    return rest


def _held_out_path(config: DictConfig, episodes: int, directory: RunDirectory) -> Path:
    return directory.held_out / f"seed{config.evaluate.seed}-{episodes}"


def held_out_episodes(
    config: DictConfig, episodes: int, directory: RunDirectory, device: torch.device, check: Check
) -> Store:
    """Random episodes that no model is fitted on; simulated once per run directory."""
    seed = config.evaluate.seed
    path = _held_out_path(config, episodes, directory)
    if not is_store(path):  # a killed run may have left the directory of one
        overrides = config.collect.env
        held_out = run_episodes(
            config, None, episodes, seed, "hold out", device, overrides=overrides, check=check
        )
        save_trajectories(held_out, path, env=origin_of(env_config(config, overrides)))
    try:
        return load_trajectories(path)
    except StoreError as error:
        raise StoreError(f"{error}; or delete {path}: its episodes are then simulated anew") from error


def run_episodes(
    config: DictConfig,
    policy: Policy | None,
    episodes: int,
    seed: int,
    title: str,
    device: torch.device,
    *,
    overrides: DictConfig | None = None,
    explore: bool = False,
    env: VectorEnv[Any, Any, Any] | None = None,
    check: Check = lambda: None,
) -> list[Trajectory]:
    """Episodes of a policy (None = random) in a run's env, or in the one given, with a progress bar."""
    cfg = config.collect
    if env is None:
        num_envs = min(cfg.num_envs, episodes)
        workers = 0 if over_ray(config) else min(cfg.num_workers, num_envs)
        env = build_env(env_config(config, overrides), num_envs=num_envs, num_workers=workers)
    with closing(env), episodes_bar(title, episodes, check) as progress:
        return simulate(
            env,
            policy,
            episodes,
            seed,
            explore=explore,
            device=device,
            max_steps=cfg.max_episode_steps,
            progress=progress,
        )
