"""What ``wmplay simulate`` does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from wmplay.configuration import parse
from wmplay.contracts import Policy
from wmplay.envs import make_env
from wmplay.progress import bar, console
from wmplay.run import load_run
from wmplay.simulate import simulate
from wmplay.store import save_trajectories


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
    num_workers: int = 0,
    max_steps: int | None = None,
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
        num_workers: processes that share the envs.
        max_steps: cuts episodes.

    Raises:
        WmplayError: an unknown env, a run without a checkpoint, a store of another schema, ...
    """
    policy: Policy | None = None
    device = torch.device("cpu")
    if run is not None:
        loaded = load_run(run)
        policy, device = loaded.parts.explorer if explore else loaded.policy, loaded.device
    chosen: dict[str, Any] = {override.key_or_group: override.value() for override in parse(overrides)}
    venv = make_env(env, num_envs=min(num_envs, episodes), num_workers=num_workers, **chosen)
    with closing(venv), bar("simulate", episodes, "episodes") as advance:
        trajectories = simulate(
            venv,
            policy,
            episodes,
            seed,
            explore=explore,
            device=device,
            max_steps=max_steps,
            progress=lambda done, steps: advance(done, f"{steps:,} steps"),
        )
    store = save_trajectories(trajectories, out)
    console.print(f"{out}: {len(store):,} episodes, {store.steps:,} steps")
