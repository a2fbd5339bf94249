"""Checking a piece as the config of a run has it, one function a kind; ``registry.KINDS`` names them.

Each builds the piece, and the parts that the piece asks for, and returns what the check of its kind finds.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig

from wmplay import registry
from wmplay.check.envs import check_env
from wmplay.check.explorers import check_explorer
from wmplay.check.loggers import check_logger
from wmplay.check.models import check_model
from wmplay.check.objectives import check_objective
from wmplay.check.planners import check_planner
from wmplay.check.policies import check_policy
from wmplay.check.report import Report
from wmplay.config.loading import plain
from wmplay.config.references import settings
from wmplay.contracts import missing_methods
from wmplay.envs import build_env
from wmplay.loop.rehearsal import require_logger
from wmplay.runs.pieces import env_config
from wmplay.simulation import simulate
from wmplay.store import Store, save_trajectories

EPISODES, STEPS = 7, 23  # of what a policy that is checked may learn from


def try_env(config: DictConfig) -> Report:
    """Build an env and check it."""
    chosen = env_config(config)
    env = build_env(chosen)
    report = check_env(env, partial(build_env, chosen), seed=config.seed, verbose=True)
    env.close()  # unless it is refused: then it may have no close()
    return report


def try_model(config: DictConfig) -> Report:
    """Build a model and check it."""
    with closing(build_env(env_config(config))) as env:
        torch.manual_seed(config.seed)
        model = registry.build(plain(config.model), env=env)
        return check_model(model, env, seed=config.seed, verbose=True)


def try_planner(config: DictConfig) -> Report:
    """Build a planner and check it."""
    chosen = plain(config.planner)
    make = partial(registry.target(chosen), **settings(chosen))
    return check_planner(make, seed=config.seed, verbose=True)


def try_policy(config: DictConfig) -> Report:
    """Build a policy and check it."""
    with closing(build_env(env_config(config))) as env, TemporaryDirectory() as folder:
        torch.manual_seed(config.seed)
        parts = {"env": env}
        policy = _with_parts(config, "policy", parts)
        learns = not missing_methods(policy, ("improve",))
        if learns and config.model is not None and "model" not in parts:
            parts["model"] = _with_parts(config, "model", parts)
        store = _few_episodes(env, folder, config.seed) if learns else None
        model = parts.get("model")
        return check_policy(policy, env, model=model, store=store, seed=config.seed, verbose=True)


def _few_episodes(env: Any, folder: str, seed: int) -> Store:
    """Return a store of short random episodes, for a policy that learns from recorded data."""
    return save_trajectories(simulate(env, None, EPISODES, seed, max_steps=STEPS), folder)


def try_explorer(config: DictConfig) -> Report:
    """Build an explorer and check it."""
    chosen = plain(config.explorer)
    with closing(build_env(env_config(config))) as env:
        return check_explorer(
            lambda policy: registry.build(chosen, env=env, policy=policy), env, seed=config.seed, verbose=True
        )


def try_objective(config: DictConfig) -> Report:
    """Build an objective and check it."""
    with closing(build_env(env_config(config))) as env:
        objective = _with_parts(config, "objective", {"env": env})
        return check_objective(objective, env, seed=config.seed, verbose=True)


def try_logger(config: DictConfig) -> Report:
    """Build a logger and check it."""
    require_logger(config)
    whole = plain(config)
    return check_logger(
        lambda run_dir: registry.build(whole["logger"], run_dir=run_dir, config=whole), verbose=True
    )


def _with_parts(config: DictConfig, kind: str, parts: dict[str, Any]) -> Any:
    """Build a piece as a run would, after the parts that it asks for, which are added to ``parts``."""
    chosen = plain(config[kind])
    for part in registry.needs(chosen):
        if part in registry.KINDS and part not in parts and config[part] is not None:
            parts[part] = _with_parts(config, part, parts)
    return registry.build(chosen, **parts)
