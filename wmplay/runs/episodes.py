"""Episodes of a run: of any policy in any world, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from wmplay.contracts import Policy, Trajectory
from wmplay.simulation import RayPool, simulate_blocks
from wmplay.system.progress import bar, episodes_bar

Check: TypeAlias = Callable[[], None]  # called now and then; raises to stop


def run_episodes(
    env: VectorEnv[Any, Any, Any] | Callable[[], VectorEnv[Any, Any, Any]],
    policy: Policy | None,
    episodes: int,
    seed: int,
    title: str,
    *,
    device: torch.device,
    explore: bool = False,
    max_steps: int | None = None,
    check: Check = lambda: None,
    actors: RayPool | None = None,
    resets: Sequence[int] | None = None,
) -> Iterator[Trajectory]:
    """Simulate episodes of a policy (None = random) with a progress bar, and close the env.

    Args:
        env: the real world or a learned one; for actors, a function that makes it.
        policy: as for ``simulate``.
        episodes: as for ``simulate``.
        seed: as for ``simulate``.
        title: of the progress bar.
        device: as for ``simulate``.
        explore: as for ``simulate``.
        max_steps: as for ``simulate``.
        check: called now and then; it may raise to stop.
        actors: as for ``simulate_blocks``.
        resets: as for ``simulate_blocks``.
    """
    with nullcontext() if callable(env) else closing(env), episodes_bar(title, episodes, check) as progress:
        yield from simulate_blocks(
            env,
            policy,
            episodes,
            seed,
            actors=actors,
            explore=explore,
            max_steps=max_steps,
            device=device,
            progress=progress,
            resets=resets,
        )


def run_steps(
    env: VectorEnv[Any, Any, Any],
    policy: Policy | None,
    steps: int,
    longest: int,
    seed: int,
    title: str,
    *,
    device: torch.device,
    explore: bool = False,
    check: Check = lambda: None,
) -> Iterator[Trajectory]:
    """Simulate episodes of ``steps`` steps in all, with a progress bar, and close the env.

    Episodes are simulated in blocks, as by ``simulate``, of no more slots than can all reach the longest
    episode. So only the last episodes are cut, as truncated.

    Args:
        env: the real world.
        policy: as for ``simulate``.
        steps: their number in all episodes together.
        longest: the largest number of steps of an episode.
        seed: of the resets and of the policy's draws.
        title: of the progress bar.
        device: as for ``simulate``.
        explore: as for ``simulate``.
        check: called now and then; it may raise to stop.
    """
    taken = block = 0
    with closing(env), bar(title, steps, "steps") as advance:

        def progress(episodes: int, more: int) -> None:
            check()
            advance(taken + more, "")

        while taken < steps:
            left = steps - taken
            slots = max(1, min(env.num_envs, left // longest))
            own = int(np.random.SeedSequence([seed, block]).generate_state(1)[0])
            found = list(
                simulate_blocks(
                    env,
                    policy,
                    slots,
                    own,
                    explore=explore,
                    max_steps=min(longest, left // slots),
                    device=device,
                    progress=progress,
                )
            )
            taken, block = taken + sum(map(len, found)), block + 1
            yield from found
