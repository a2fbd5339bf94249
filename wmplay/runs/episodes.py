"""Episodes of a run: of any policy in any world, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeAlias

import torch
from gymnasium.vector import VectorEnv

from wmplay.contracts import Policy, Trajectory
from wmplay.simulation import simulate
from wmplay.system.progress import episodes_bar

Check: TypeAlias = Callable[[], None]  # called now and then; raises to stop


def run_episodes(
    env: VectorEnv[Any, Any, Any],
    policy: Policy | None,
    episodes: int,
    seed: int,
    title: str,
    *,
    device: torch.device,
    explore: bool = False,
    max_steps: int | None = None,
    check: Check = lambda: None,
) -> list[Trajectory]:
    """Simulate episodes of a policy (None = random) in a vector env, which is then closed.

    Args:
        env: the real world or a learned one.
        policy: as for ``simulate``.
        episodes: as for ``simulate``.
        seed: as for ``simulate``.
        title: of the progress bar.
        device: as for ``simulate``.
        explore: as for ``simulate``.
        max_steps: as for ``simulate``.
        check: called now and then; it may raise to stop.
    """
    with closing(env), episodes_bar(title, episodes, check) as progress:
        return simulate(
            env,
            policy,
            episodes,
            seed,
            explore=explore,
            device=device,
            max_steps=max_steps,
            progress=progress,
        )
