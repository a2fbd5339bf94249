"""Blocks: episodes that are simulated in one piece, all from one seed. This is the only way of simulating.

Single and vector environments go through the same code: a single one is a batch of one. The autoreset mode of
a vector env (see ``Stepper``) has no influence on the trajectories.

The episodes of a slot follow from all that happened in the slot before, so that a block cannot be divided.
Several processes share many blocks (``simulate_blocks``), each with a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from wmplay.contracts import Policy, Trajectory
from wmplay.errors import LARGEST_SEED, SpaceError, check_range
from wmplay.simulation.policy_driver import PolicyDriver
from wmplay.simulation.ray_pool import RayPool
from wmplay.system.progress import tell
from wmplay.vector.answers import BatchOfOne
from wmplay.vector.recorder import Tape
from wmplay.vector.stepping import Stepper

Env: TypeAlias = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]
EnvMaker: TypeAlias = Callable[[], Env]
Progress: TypeAlias = Callable[[int, int], None]  # (episodes that ended, steps taken); may raise to stop

PROGRESS_EVERY = 100  # batched steps
ENDLESS = 10_000  # steps after which an episode that nothing cuts is reported


def simulate_block(
    env: Env | EnvMaker,
    policy: Policy | None,
    episodes: int,
    seed: int,
    *,
    explore: bool,
    max_steps: int | None,
    device: torch.device,
    progress: Progress | None = None,
) -> list[Trajectory]:
    """Simulate one block in this process; the arguments and errors are those of ``simulate``."""
    _check_numbers(episodes, seed, max_steps)
    if callable(env):
        raise SpaceError(
            f"env is a {type(env).__name__}", expected="an env (a function that makes one goes with workers)"
        )
    batch = env if isinstance(env, VectorEnv) else BatchOfOne(env)
    stepper = Stepper(batch)
    driver = PolicyDriver(batch, policy, seed, explore, device)
    return _simulate(stepper, driver, episodes, seed, max_steps, progress)


def _simulate(
    stepper: Stepper,
    driver: PolicyDriver,
    episodes: int,
    seed: int,
    max_steps: int | None,
    progress: Progress | None,
) -> list[Trajectory]:
    """Act and step, all slots at once, until the episodes that were asked for have ended."""
    slots = stepper.num_envs
    tape = Tape(slots, stepper.spaces, driver.zeros)
    kept: dict[int, Trajectory] = {}
    finished = np.zeros(slots, np.int64)
    wanted = np.arange(slots) < episodes  # False where the slot has run all of its episodes
    calls = steps = 0
    warned = max_steps is not None

    stepper.reset(seed)
    tape.begin(stepper.first, stepper.frames)
    last_action = driver.zeros
    while len(kept) < episodes:
        action = driver.act(stepper.frames, last_action, stepper.first, wanted)
        acted = wanted.copy()
        step = stepper.step(driver.native(action), last=tape.time + 1 == max_steps)
        tape.record(action, step.reward, step.terminated, step.truncated, step.arrived)
        for slot in np.flatnonzero(step.over).tolist():
            if wanted[slot]:
                kept[slot + slots * int(finished[slot])] = tape.episode(slot)
                finished[slot] += 1
                wanted[slot] = slot + slots * finished[slot] < episodes

        if stepper.first.any():
            tape.begin(stepper.first, stepper.frames)
            action = action.copy()
            action[stepper.first] = 0
        last_action = action

        if not warned and calls % PROGRESS_EVERY == 0 and tape.time[wanted].max(initial=0) >= ENDLESS:
            warned = True
            tell(
                f"{stepper.name}: an episode has not ended after {ENDLESS:,} steps; where none does, set "
                "collect.max_episode_steps (simulate's max_steps)"
            )
        calls, steps = calls + 1, steps + int((step.stepped & acted).sum())
        if progress is not None and (step.over.any() or calls % PROGRESS_EVERY == 0):
            progress(len(kept), steps)
    return [kept[episode] for episode in range(episodes)]


def simulate_blocks(
    env: Env | EnvMaker,
    policy: Policy | None = None,
    episodes: int = 100,
    seed: int = 0,
    *,
    actors: RayPool | None = None,
    explore: bool = False,
    max_steps: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[Trajectory]:
    """Yield episodes that several processes share, in order, each as soon as it is known.

    A block is N episodes, one in each slot of the env; with a single env each episode is a block. Block k is
    what ``simulate`` returns for N episodes and a seed that follows from (seed, k). The block is the same
    wherever it is simulated, and when it is simulated once more after an actor's death, so that any number of
    actors gives the same trajectories.

    Without actors, all episodes are one block with the seed itself, as in ``simulate``.

    A slot whose episode has ended is stepped for nothing, without the policy, until the last episode of its
    block has ended: where episodes are of very different lengths, take few slots.

    Args:
        env: as for ``simulate``.
        policy: as for ``simulate``.
        episodes: as for ``simulate``.
        seed: as for ``simulate``.
        actors: the processes that share the work. A pool of 0 simulates the same in this process.
        explore: as for ``simulate``.
        max_steps: as for ``simulate``.
        device: of the policy in this process; in Ray's actors it acts on the CPU.
        progress: as for ``simulate``.

    Raises:
        WmplayError: as ``simulate`` and ``RayPool.map``.
    """
    if actors is None:
        how: dict[str, Any] = {"explore": explore, "max_steps": max_steps, "device": torch.device(device)}
        yield from simulate_block(env, policy, episodes, seed, progress=progress, **how)
        return
    _check_numbers(episodes, seed, max_steps)
    slots = _slots(env)
    blocks = [
        _Block(seed, number, first, min(first + slots, episodes))
        for number, first in enumerate(range(0, episodes, slots))
    ]
    where = torch.device("cpu" if actors.number else device)
    settings = {"explore": explore, "max_steps": max_steps, "device": where}
    parts = {"env": env, "policy": policy, "settings": settings}
    done = steps = 0

    def report() -> None:
        if progress is not None:
            progress(done, steps)

    for trajectories in actors.map(_Simulator, parts, blocks, look=report):
        done, steps = done + len(trajectories), steps + sum(map(len, trajectories))
        report()
        yield from trajectories


@dataclass(frozen=True)
class _Block:
    """The consecutive episodes of one block."""

    seed: int  # of all blocks
    number: int
    first: int  # episode
    stop: int

    def __str__(self) -> str:
        last = self.stop - 1
        which = f"episode {last}" if self.first == last else f"episodes {self.first} to {last}"
        return f"{which} of seed {self.seed}"


class _Simulator:
    """A callable that simulates block after block in one env."""

    def __init__(self, env: Env | EnvMaker, policy: Policy | None, settings: dict[str, Any]) -> None:
        self.env = env() if callable(env) else env
        self.policy, self.settings = policy, settings

    def __call__(self, block: _Block) -> list[Trajectory]:
        seed = int(np.random.SeedSequence([block.seed, block.number]).generate_state(1)[0])
        return simulate_block(self.env, self.policy, block.stop - block.first, seed, **self.settings)


def _slots(env: Env | EnvMaker) -> int:
    """Return how many episodes an env, or the env that a function makes, simulates at once."""
    if not callable(env):
        return env.num_envs if isinstance(env, VectorEnv) else 1
    with closing(env()) as made:
        return _slots(made)


def _check_numbers(episodes: int, seed: int, max_steps: int | None) -> None:
    """Raise ConfigError for numbers out of range."""
    check_range("episodes", episodes, 0)
    check_range("seed", seed, 0, LARGEST_SEED)
    check_range("max_steps", max_steps, 1)
