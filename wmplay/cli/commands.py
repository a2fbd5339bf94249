"""What ``wmplay simulate`` and ``wmplay check`` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from wmplay import registry
from wmplay.check import (
    Report,
    check_env,
    check_explorer,
    check_logger,
    check_model,
    check_objective,
    check_planner,
    check_policy,
)
from wmplay.config.composing import plain, set_values
from wmplay.config.references import settings as own_settings
from wmplay.contracts import Policy, Trajectory, missing_methods
from wmplay.envs import build_env, make_env
from wmplay.errors import CheckError, UnknownName, UsageError
from wmplay.loop.rehearsal import check_policy as check_same_policy
from wmplay.loop.rehearsal import check_same_world, check_store, require_logger
from wmplay.runs.load import LoadedRun, load_run
from wmplay.runs.pieces import env_config
from wmplay.simulation.ray_pool import Actors
from wmplay.simulation.simulate import simulate, simulate_blocks
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.system.device import use_threads
from wmplay.system.progress import console, episodes_bar, tell

EPISODES, STEPS = 7, 23  # of what a policy that is checked may learn from


def simulate_into(
    env: str,
    overrides: Sequence[str],
    out: Path,
    *,
    episodes: int = 100,
    run: Path | None = None,
    explore: bool = False,
    seed: int = 0,
    num_envs: int = 64,
    num_workers: int | None = None,
    workers: str = "local",
    max_steps: int | None = None,
    other_world: bool = False,
) -> None:
    """Collects episodes of an env into a store.

    Args:
        env: a registered env or a Gymnasium id.
        overrides: of the env's config, as ``key=value``.
        out: the store; created, or appended to.
        episodes: how many.
        run: act by the policy of this run; None is uniformly at random.
        explore: with the run's exploration.
        seed: of the episodes and the policy's draws.
        num_envs: stepped together.
        num_workers: processes that share the envs (by default none), or Ray's actors.
        workers: "local", or "ray" for actors with so many envs each, see ``simulate_blocks``.
        max_steps: cuts episodes.
        other_world: let the run's policy act in another world than its own.

    Raises:
        WmplayError: an unknown env, a run without a checkpoint, a store of another schema, ...
    """
    if explore and run is None:
        raise UsageError("--explore is about a run's policy: give --run=<dir> too")
    actors = _actors(num_workers) if workers == "ray" else None
    loaded = None if run is None else load_run(run)
    use_threads("auto" if loaded is None else loaded.threads)
    chosen = OmegaConf.create({})
    set_values(chosen, overrides)
    num_envs = min(num_envs, episodes)
    make_venv = partial(make_env, env, num_envs=num_envs, **plain(chosen))
    venv = make_venv(num_workers=min(num_workers or 0, num_envs) if actors is None else 0)
    with closing(venv), nullcontext() if actors is None else actors:
        _check_fits(venv, loaded, out, other_world)
        collect: Callable[..., Iterable[Trajectory]] = partial(simulate, venv)
        if actors is not None:
            collect = partial(simulate_blocks, make_venv, actors=actors)
        collected = _episodes(collect, loaded, explore, episodes=episodes, seed=seed, max_steps=max_steps)
        try:
            # within the store's writer: a place that cannot be written to is refused before the work
            store = save_trajectories(collected, out, env=venv)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"nothing was added to {out}") from None
    console.print(f"{out}: {len(store):,} episodes, {store.steps:,} steps")


def _actors(number: int | None) -> Actors:
    """So many, of Ray, which must be installed."""
    if number is None:
        raise UsageError(
            "--workers ray needs --num-workers: how many actors (with 0 the same episodes, in this process)"
        )
    actors = Actors(number)
    actors.check()
    return actors


def _check_fits(venv: Any, run: LoadedRun | None, out: Path, other_world: bool) -> None:
    """Whether a run's policy, if there is one, can act in an env, and its episodes go into a store."""
    if run is not None:
        check_same_policy(run, venv, None if other_world else "give --other-world to mean it")
    if is_store(out):
        there = load_trajectories(out)
        check_same_world(f"store {out}", there.made_with, venv, "give another --out")
        check_store(there, venv, every_key=True)


def _episodes(
    simulate: Callable[..., Iterable[Trajectory]],
    run: LoadedRun | None,
    explore: bool,
    *,
    episodes: int,
    **settings: Any,
) -> Iterator[Trajectory]:
    """Those that ``simulate``, or something like it with an env, gives for a run's policy; with a bar."""
    policy: Policy | None = None
    if run is not None:
        policy = run.parts.explorer if explore else run.policy
    with episodes_bar("simulate", episodes) as progress:
        yield from simulate(
            policy,
            episodes,
            explore=explore,
            device="cpu" if run is None else run.device,
            progress=progress,
            **settings,
        )


def check_piece(piece: str, overrides: Sequence[str] = ()) -> None:
    """Tries what a piece promises, and prints a line for each property.

    Args:
        piece: ``kind=name``.
        overrides: as of ``wmplay train``: settings of the piece, and the env to try it in.

    Raises:
        CheckError: if a property does not hold.
        WmplayError: for a piece that there is not, or that cannot be built.
    """
    kind = piece.partition("=")[0]
    if kind not in CHECKS:
        raise UnknownName("kind to check", kind, CHECKS)
    config = registry.compose([piece, *overrides], tell)
    use_threads(config.threads)
    report = CHECKS[kind](config)
    if not report.passed:
        raise CheckError(
            f"{piece}: {len(report.failures)} of {report.tried} properties do not hold: fix them, "
            "from the first FAIL on"
        )


def _check_env(config: DictConfig) -> Report:
    chosen = env_config(config)
    env = build_env(chosen)
    report = check_env(env, partial(build_env, chosen), seed=config.seed, verbose=True)
    env.close()
    return report


def _check_model(config: DictConfig) -> Report:
    with closing(build_env(env_config(config))) as env:
        torch.manual_seed(config.seed)
        model = registry.build(plain(config.model), env=env)
        return check_model(model, env, seed=config.seed, verbose=True)


def _check_planner(config: DictConfig) -> Report:
    settings = plain(config.planner)
    make = partial(registry.target(settings), **own_settings(settings))
    return check_planner(make, seed=config.seed, verbose=True)


def _check_policy(config: DictConfig) -> Report:
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
    """A store of some that are random and short, for a policy that learns from what has been recorded."""
    return save_trajectories(simulate(env, None, EPISODES, seed, max_steps=STEPS), folder)


def _check_explorer(config: DictConfig) -> Report:
    chosen = plain(config.explorer)
    with closing(build_env(env_config(config))) as env:
        return check_explorer(
            lambda policy: registry.build(chosen, env=env, policy=policy), env, seed=config.seed, verbose=True
        )


def _check_objective(config: DictConfig) -> Report:
    with closing(build_env(env_config(config))) as env:
        objective = _with_parts(config, "objective", {"env": env})
        return check_objective(objective, env, seed=config.seed, verbose=True)


def _check_logger(config: DictConfig) -> Report:
    require_logger(config)
    whole = plain(config)
    return check_logger(
        lambda run_dir: registry.build(whole["logger"], run_dir=run_dir, config=whole), verbose=True
    )


def _with_parts(config: DictConfig, kind: str, parts: dict[str, Any]) -> Any:
    """A piece as a run would build it, after the parts that it asks for, which are added to ``parts``."""
    chosen = plain(config[kind])
    for part in registry.needs(chosen):
        if part in registry.KINDS and part not in parts and config[part] is not None:
            parts[part] = _with_parts(config, part, parts)
    return registry.build(chosen, **parts)


CHECKS: Mapping[str, Callable[[DictConfig], Report]] = {
    "env": _check_env,
    "model": _check_model,
    "planner": _check_planner,
    "policy": _check_policy,
    "explorer": _check_explorer,
    "objective": _check_objective,
    "logger": _check_logger,
}
