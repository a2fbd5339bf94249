"""Checking a piece as the config of a run has it: ``try_piece``, and one function a kind.

Each builds the piece, and the parts that the piece asks for, and returns what the check of its kind finds.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch

from wmplay import registry
from wmplay.check import envs, loggers, models, objectives, planners
from wmplay.check.envs import check_env
from wmplay.check.explorers import EXPLORING, check_explorer
from wmplay.check.loggers import check_logger
from wmplay.check.models import check_model
from wmplay.check.objectives import check_objective
from wmplay.check.planners import check_planner
from wmplay.check.policies import LEARNING, POLICY, check_policy
from wmplay.check.policies.acting import ACTING
from wmplay.check.report import Property, Report
from wmplay.config.references import settings
from wmplay.config.settings import Settings
from wmplay.contracts import missing_methods
from wmplay.envs import build_env
from wmplay.errors import UnknownName
from wmplay.runs.pieces import PRIOR, assemble, env_config
from wmplay.simulation import simulate
from wmplay.store import Store, save_trajectories
from wmplay.system.device import use_threads

EPISODES, STEPS = 7, 23  # of what a policy that is checked may learn from


def properties(kind: str, piece: Any) -> list[str]:
    """Return the names of the properties that a class of pieces is tried for, in their order."""
    if kind == "policy" and missing_methods(piece, ("improve",)):
        return [each.name for each in POLICY]
    return [each.name for each in PROPERTIES[kind]]


def try_piece(
    piece: str,
    overrides: Sequence[str] = (),
    *,
    quick: bool = False,
    verbose: bool = False,
    tell: Callable[[str], object] = lambda line: None,
) -> Report:
    """Build the piece of a run's config, and the parts that it asks for, and check it.

    Args:
        piece: ``kind=name``.
        overrides: as of ``wmplay train``: settings of the piece, and the env for the test.
        quick: whether to leave out slow properties.
        verbose: whether to print each finding at once.
        tell: called with a line of text for each swapped piece.

    Raises:
        WmplayError: for a piece that does not exist, or that cannot be built.
    """
    kind = registry.KINDS.get(piece.partition("=")[0])
    if kind is None:
        raise UnknownName("kind to check", piece.partition("=")[0], registry.KINDS)
    run = registry.compose([piece, *overrides], tell)
    use_threads(run.threads)
    report: Report = pkgutil.resolve_name(kind.check)(run, seed=run.seed, verbose=verbose, quick=quick)
    return report


def try_env(run: Settings, **how: Any) -> Report:
    """Build an env and check it."""
    chosen = env_config(run)
    env = build_env(chosen)

    def make(num_envs: Any = None, num_workers: int = 0, autoreset: Any = "same_step", **changed: Any) -> Any:
        return build_env({**chosen, **changed}, num_envs, num_workers, autoreset)

    report = check_env(env, make, **how)
    env.close()  # unless it is refused: then it may have no close()
    return report


def try_model(run: Settings, **how: Any) -> Report:
    """Build a model and check it."""
    with closing(build_env(env_config(run))) as env:
        torch.manual_seed(run.seed)
        model = registry.build(run.pieces()["model"], env=env)
        return check_model(model, env, **how)


def try_planner(run: Settings, **how: Any) -> Report:
    """Build a planner and check it."""
    chosen = run.pieces()["planner"]
    return check_planner(partial(registry.target(chosen), **settings(chosen)), **how)


def try_policy(run: Settings, **how: Any) -> Report:
    """Build a policy and check it."""
    with closing(build_env(env_config(run))) as env, TemporaryDirectory() as folder:
        torch.manual_seed(run.seed)
        parts = {"env": env}
        if run.pieces()["policy"].get(PRIOR) is None:
            policy = _with_parts(run, "policy", parts)
        else:
            whole = assemble(run, torch.device("cpu"), env)
            policy, parts["model"] = whole.policy, whole.model
        learns = not missing_methods(policy, ("improve",))
        if learns and run.model is not None and "model" not in parts:
            parts["model"] = _with_parts(run, "model", parts)
        store = _few_episodes(env, folder, run.seed) if learns else None
        return check_policy(policy, env, model=parts.get("model"), store=store, **how)


def _few_episodes(env: Any, folder: str, seed: int) -> Store:
    """Return a store of short random episodes, for a policy that learns from recorded data."""
    return save_trajectories(simulate(env, None, EPISODES, seed, max_steps=STEPS), folder)


def try_explorer(run: Settings, **how: Any) -> Report:
    """Build an explorer and check it."""
    chosen = run.pieces()["explorer"]
    with closing(build_env(env_config(run))) as env:
        return check_explorer(lambda policy: registry.build(chosen, env=env, policy=policy), env, **how)


def try_objective(run: Settings, **how: Any) -> Report:
    """Build an objective and check it."""
    with closing(build_env(env_config(run))) as env:
        parts = {"env": env}
        objective = _with_parts(run, "objective", parts)
        return check_objective(objective, env, model=parts.get("model"), **how)


def try_logger(run: Settings, *, seed: int = 0, **how: Any) -> Report:
    """Build a logger and check it."""
    from wmplay.loop.rehearsal import require_logger  # with all that a run imports

    require_logger(run)
    config = run.config()
    return check_logger(lambda run_dir: registry.build(run.logger, run_dir=run_dir, config=config), **how)


def _with_parts(run: Settings, kind: str, parts: dict[str, Any]) -> Any:
    """Build a piece as a run would, after the parts that it asks for, which are added to ``parts``."""
    pieces = run.pieces()
    for part in registry.needs(pieces[kind]):
        if part in pieces and part not in parts:
            parts[part] = _with_parts(run, part, parts)
    return registry.build(pieces[kind], **parts)


PROPERTIES: Mapping[str, Sequence[Property[Any]]] = {
    "env": envs.PROPERTIES,
    "model": models.PROPERTIES,
    "planner": planners.PROPERTIES,
    "policy": (*POLICY, *LEARNING),
    "explorer": (*ACTING, *EXPLORING),
    "objective": objectives.PROPERTIES,
    "logger": loggers.PROPERTIES,
}
