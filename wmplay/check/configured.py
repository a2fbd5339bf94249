"""Checking a piece as the config of a run has it, one function a kind; ``registry.KINDS`` names them.

Each builds the piece, and the parts that the piece asks for, and returns what the check of its kind finds.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch

from wmplay import registry
from wmplay.check.envs import check_env
from wmplay.check.explorers import check_explorer
from wmplay.check.loggers import check_logger
from wmplay.check.models import check_model
from wmplay.check.objectives import check_objective
from wmplay.check.planners import check_planner
from wmplay.check.policies import check_policy
from wmplay.check.report import Report
from wmplay.config.references import settings
from wmplay.config.settings import Settings
from wmplay.contracts import missing_methods
from wmplay.envs import build_env
from wmplay.loop.rehearsal import require_logger
from wmplay.runs.pieces import env_config
from wmplay.simulation import simulate
from wmplay.store import Store, save_trajectories

EPISODES, STEPS = 7, 23  # of what a policy that is checked may learn from


def try_env(run: Settings) -> Report:
    """Build an env and check it."""
    chosen = env_config(run)
    env = build_env(chosen)

    def make(num_envs: Any = None, num_workers: int = 0, autoreset: Any = "same_step", **changed: Any) -> Any:
        return build_env({**chosen, **changed}, num_envs, num_workers, autoreset)

    report = check_env(env, make, seed=run.seed, verbose=True)
    env.close()  # unless it is refused: then it may have no close()
    return report


def try_model(run: Settings) -> Report:
    """Build a model and check it."""
    with closing(build_env(env_config(run))) as env:
        torch.manual_seed(run.seed)
        model = registry.build(run.pieces()["model"], env=env)
        return check_model(model, env, seed=run.seed, verbose=True)


def try_planner(run: Settings) -> Report:
    """Build a planner and check it."""
    chosen = run.pieces()["planner"]
    make = partial(registry.target(chosen), **settings(chosen))
    return check_planner(make, seed=run.seed, verbose=True)


def try_policy(run: Settings) -> Report:
    """Build a policy and check it."""
    with closing(build_env(env_config(run))) as env, TemporaryDirectory() as folder:
        torch.manual_seed(run.seed)
        parts = {"env": env}
        policy = _with_parts(run, "policy", parts)
        learns = not missing_methods(policy, ("improve",))
        if learns and run.model is not None and "model" not in parts:
            parts["model"] = _with_parts(run, "model", parts)
        store = _few_episodes(env, folder, run.seed) if learns else None
        model = parts.get("model")
        return check_policy(policy, env, model=model, store=store, seed=run.seed, verbose=True)


def _few_episodes(env: Any, folder: str, seed: int) -> Store:
    """Return a store of short random episodes, for a policy that learns from recorded data."""
    return save_trajectories(simulate(env, None, EPISODES, seed, max_steps=STEPS), folder)


def try_explorer(run: Settings) -> Report:
    """Build an explorer and check it."""
    chosen = run.pieces()["explorer"]
    with closing(build_env(env_config(run))) as env:
        return check_explorer(
            lambda policy: registry.build(chosen, env=env, policy=policy), env, seed=run.seed, verbose=True
        )


def try_objective(run: Settings) -> Report:
    """Build an objective and check it."""
    with closing(build_env(env_config(run))) as env:
        parts = {"env": env}
        objective = _with_parts(run, "objective", parts)
        return check_objective(objective, env, model=parts.get("model"), seed=run.seed, verbose=True)


def try_logger(run: Settings) -> Report:
    """Build a logger and check it."""
    require_logger(run)
    config = run.config()
    return check_logger(
        lambda run_dir: registry.build(run.logger, run_dir=run_dir, config=config), verbose=True
    )


def _with_parts(run: Settings, kind: str, parts: dict[str, Any]) -> Any:
    """Build a piece as a run would, after the parts that it asks for, which are added to ``parts``."""
    pieces = run.pieces()
    for part in registry.needs(pieces[kind]):
        if part in pieces and part not in parts:
            parts[part] = _with_parts(run, part, parts)
    return registry.build(pieces[kind], **parts)
