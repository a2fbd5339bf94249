"""The command ``wmplay simulate``: collect episodes of an env, or sample futures of a prompt."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmplay.cli.arguments import at_least, overrides_argument
from wmplay.errors import LARGEST_SEED, UsageError

if TYPE_CHECKING:
    from wmplay.contracts import Trajectory
    from wmplay.runs.load import LoadedRun
    from wmplay.simulation import RayPool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "env",
        metavar="ENV|RUN",
        help="a registered env (see wmplay list env) or a Gymnasium id; with --prompt, a run",
    )
    overrides_argument(parser, "settings of the env: task=body_goal physics=fast ...")
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        help="the store: created, or appended to; with --prompt, a folder (default: futures)",
    )
    add("--episodes", type=at_least(1), default=100, help="number of episodes (default %(default)s)")
    add("--run", type=Path, help="act by the policy of this run (default: uniformly at random)")
    add("--explore", action="store_true", help="act with the exploration of the run")
    add("--other-world", action="store_true", help="allow a policy that was trained in another world")
    add(
        "--seed",
        type=at_least(0, LARGEST_SEED),
        default=0,
        help="of all random draws (default %(default)s)",
    )
    add("--num-envs", type=at_least(1), default=64, help="envs stepped together (default %(default)s)")
    add("--num-workers", type=at_least(0), help="processes that share the envs (default: none)")
    add(
        "--workers",
        choices=("local", "ray"),
        default="local",
        help="local: processes of this machine; ray: actors of a cluster, each with --num-envs of its own",
    )
    add("--max-steps", type=at_least(1), help="cut episodes at this many steps")
    _add_prompt(parser)


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a prompt."""
    add = parser.add_argument_group("futures of a run's model").add_argument
    add(
        "--prompt",
        type=Path,
        metavar="CLIP",
        help="frames to begin with: a store, a case, a GIF or a PNG strip",
    )
    add("--episode", type=at_least(0), default=0, help="of a store (default %(default)s)")
    add("--since", type=at_least(0), help="the last moment of the clip that the model is shown")
    add("--steps", type=at_least(1), default=50, help="to predict (default %(default)s)")
    add("--futures", type=at_least(1), default=4, help="to sample (default %(default)s)")
    add("--actions", choices=("recorded", "still", "random"), help="of the futures (default: recorded ones)")


def run(options: argparse.Namespace) -> None:
    """Collect episodes of an env into a store; with ``--prompt``, sample futures into a folder.

    Raises:
        WmplayError: an unknown env, a run without a checkpoint, a store of another schema, ...
    """
    if options.prompt is not None:
        _imagine(options)
        return
    if options.out is None:
        raise UsageError("the store is missing", advice="give --out=<dir>")
    _collect(options)


def _imagine(options: argparse.Namespace) -> None:
    """Write the futures of a prompted model."""
    from wmplay.play.prompt import prompt, read_clip
    from wmplay.runs.load import load_run
    from wmplay.system.device import use_threads
    from wmplay.system.printing import say

    if options.overrides:
        raise UsageError(f"a run has its own env: no '{options.overrides[0]}'")
    loaded, out = load_run(options.env), options.out or Path("futures")
    use_threads(loaded.threads)
    clip = read_clip(options.prompt, loaded, episode=options.episode, since=options.since)
    if clip.likeness is not None:
        say(f"vectors are those of similar frames of the real world: mean IoU {clip.likeness:.2f}")
    found = prompt(loaded, clip, options.steps, options.futures, actions=options.actions, seed=options.seed)
    found.save(out)
    say(f"{out}: {options.futures} futures of {options.steps} steps, after {clip.frames} frames")


def _collect(options: argparse.Namespace) -> None:
    """Collect episodes into a store."""
    from wmplay.config.overrides import env_values
    from wmplay.envs import make_env
    from wmplay.runs.load import load_run
    from wmplay.store import save_trajectories
    from wmplay.system.device import use_threads
    from wmplay.system.progress import console

    if options.explore and options.run is None:
        raise UsageError("--explore is about a run's policy", advice="give --run=<dir> too")
    out, episodes = options.out, options.episodes
    actors = _actors(options.num_workers) if options.workers == "ray" else None
    loaded = None if options.run is None else load_run(options.run)
    use_threads("auto" if loaded is None else loaded.threads)
    num_envs = min(options.num_envs, episodes)
    make_venv = partial(make_env, options.env, num_envs=num_envs, **env_values(options.overrides))
    venv = make_venv(num_workers=min(options.num_workers or 0, num_envs) if actors is None else 0)
    with closing(venv), actors or nullcontext():
        _check_fits(venv, loaded, out, options.other_world)
        how = {"seed": options.seed, "max_steps": options.max_steps, "explore": options.explore}
        collected = _episodes(
            venv if actors is None else make_venv, loaded, episodes=episodes, actors=actors, **how
        )
        try:
            # within the store's writer: a place that cannot be written to is refused before the work
            store = save_trajectories(collected, out, env=venv)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"nothing was added to {out}") from None
    console.print(f"{out}: {len(store):,} episodes, {store.steps:,} steps")


def _actors(number: int | None) -> RayPool | None:
    """Return Ray's actors, None for 0. Raises UsageError without their number, ConfigError without Ray."""
    from wmplay.simulation import RayPool

    if number is None:
        raise UsageError(
            "--workers ray needs --num-workers: how many actors (with 0 the same episodes, in this process)"
        )
    return RayPool(number) if number else None


def _check_fits(venv: Any, run: LoadedRun | None, out: Path, other_world: bool) -> None:
    """Raise WmplayError if a run's policy cannot act in an env, or its episodes do not go into a store."""
    from wmplay.runs.compatibility import check_policy, check_same_world, check_store
    from wmplay.store import load_trajectories
    from wmplay.store.manifest import exists as is_store

    if run is not None:
        check_policy(run, venv, None if other_world else "give --other-world to mean it")
    if is_store(out):
        store = load_trajectories(out)
        check_same_world(f"store {out}", store.made_with, venv, "give another --out")
        check_store(store, venv, every_key=True)


def _episodes(
    env: Any, run: LoadedRun | None, *, episodes: int, explore: bool, **how: Any
) -> Iterator[Trajectory]:
    """Yield episodes of a run's policy in an env, or in one that actors make, and show a progress bar."""
    from wmplay.simulation import simulate_blocks
    from wmplay.system.progress import episodes_bar

    policy = None
    if run is not None:
        policy = run.parts.explorer if explore else run.policy
    how |= {"explore": explore, "device": "cpu" if run is None else run.device}
    with episodes_bar("simulate", episodes) as progress:
        yield from simulate_blocks(env, policy, episodes, progress=progress, **how)
