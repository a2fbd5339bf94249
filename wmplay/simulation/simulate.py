"""The verb ``simulate``: an environment and a policy make trajectories."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch

from wmplay.contracts import Policy, Trajectory
from wmplay.errors import UnknownName, check_range
from wmplay.simulation.blocks import Env, EnvMaker, Progress, simulate_blocks
from wmplay.simulation.ray_pool import RayPool
from wmplay.system.device import choose_device


def simulate(
    env: Env | EnvMaker,
    policy: Policy | None = None,
    episodes: int = 100,
    seed: int = 0,
    *,
    explore: bool = False,
    max_steps: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    workers: Literal["ray"] | None = None,
    num_workers: int = 1,
) -> list[Trajectory]:
    """Run a policy until exactly ``episodes`` episodes have ended.

    Episodes are simulated in blocks of N, one in each slot of the env; with a single env each episode is a
    block. Block k follows from (seed, k) alone, so that the choice of episodes is fixed before any is run
    (the first that end would be the short ones), and is the same in this process and in any number of
    others. A slot whose episode has ended waits for the last one of its block: where episodes are of very
    different lengths, take few slots.

    Args:
        env: any Gymnasium env, or vector env of N slots; left open. Or a function that makes one.
        policy: None draws actions uniformly from the action space.
        episodes: how many trajectories to return, in the order of j.
        seed: of the env's reset and of the policy's generator in the first block. The same seed gives the
            same trajectories.
        explore: passed to the policy.
        max_steps: end an episode here, as truncated, if it has not ended by itself. A single env, or a
            vector env with autoreset disabled, is then reset.
        device: where the policy gets its tensors.
        progress: called now and then as progress(episodes that ended, steps taken); it may raise to stop.
        workers: "ray" shares the blocks among Ray's actors. Env and policy are pickled, and run on the
            actors' CPUs.
        num_workers: how many actors. Any number gives the same trajectories; 0 is this process.

    Returns:
        Trajectories with the env's observations by key (``observation`` where they are not a dict), from
        the reset's frame to the true last one, and actions as executed: clipped, float32 (or int64).

    Raises:
        ActionError: where the policy's action has a wrong shape or type, or is not finite.
        ConfigError: for numbers out of range.
        SpaceError: for action spaces other than Box [A] and Discrete, and nested observations.
    """
    device = choose_device(device) if isinstance(device, str) else device
    if workers not in (None, "ray"):
        raise UnknownName("workers", workers, ("ray",))
    check_range("num_workers", num_workers, 0)
    with RayPool(num_workers) if workers and num_workers else nullcontext() as actors:
        found = simulate_blocks(
            env,
            policy,
            episodes,
            seed,
            actors=actors,
            explore=explore,
            max_steps=max_steps,
            device=device,
            progress=progress,
        )
        return list(found)
