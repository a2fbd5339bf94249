"""simulate: an environment and a policy make trajectories.

Single and vector environments go through the same code: a single one is a batch of one. However a vector
env begins the next episode (see ``stepping.Stepper``), the trajectories are the same.

What happens in a slot follows from all that happened in it before, so many episodes cannot be shared out.
For that they are simulated in blocks (``simulate_blocks``), each as if it were all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from wmplay.contracts import Policy, Trajectory
from wmplay.errors import LARGEST_SEED, SpaceError, UnknownName, check_range
from wmplay.simulation.policy_driver import BatchActor
from wmplay.simulation.ray_pool import Actors
from wmplay.system.device import choose_device
from wmplay.system.progress import tell
from wmplay.vector.answers import BatchOfOne
from wmplay.vector.recorder import Tape
from wmplay.vector.stepping import Stepper

Env: TypeAlias = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]
Progress: TypeAlias = Callable[[int, int], None]

PROGRESS_EVERY = 100  # batched steps
ENDLESS = 10_000  # steps after which an episode that nothing cuts is told of


def simulate(
    env: Env | Callable[[], Env],
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
    """Run a policy until exactly so many episodes have ended.

    Episode j is number j // N of the env's slot j % N. Which episodes are kept is thus settled before
    any is run: taking the first that end would favour the short ones.

    Args:
        env: any Gymnasium env, or vector env of N slots; left open. With workers, also a function that
            makes one.
        policy: None draws actions uniformly from the action space.
        episodes: how many trajectories to return, in the order of j.
        seed: of the env's reset and of the policy's generator. The same seed gives the same trajectories.
        explore: passed to the policy.
        max_steps: end an episode here, as truncated, if it has not ended by itself. A single env, or a
            vector env with autoreset disabled, is then reset. A vector env that resets itself cannot be:
            there the next trajectory goes on from the same state.
        device: where the policy gets its tensors.
        progress: called now and then as progress(episodes that ended, steps taken); it may raise to stop.
        workers: "ray" shares the episodes out to Ray's actors, in blocks of N: see ``simulate_blocks``. Env
            and policy are pickled, and act on the CPU there.
        num_workers: how many actors. Any number gives the same trajectories; 0 does the same in this process.

    Returns:
        Trajectories with the env's observations by key (``observation`` where they are not a dict), from
        the reset's frame to the true last one, and actions as executed: clipped, float32 (or int64).

    Raises:
        ActionError: where the policy's action has a wrong shape or type, or is not finite.
        ConfigError: for numbers out of range.
        SpaceError: for action spaces other than Box [A] and Discrete, and nested observations.
    """
    check_range("episodes", episodes, 0)
    check_range("seed", seed, 0, LARGEST_SEED)
    check_range("max_steps", max_steps, 1)
    device = choose_device(device) if isinstance(device, str) else device
    if workers is not None:
        if workers != "ray":
            raise UnknownName("workers", workers, ("ray",))
        how: dict[str, Any] = {"explore": explore, "max_steps": max_steps, "device": device}
        with Actors(num_workers) as actors:
            return list(simulate_blocks(env, policy, episodes, seed, actors=actors, progress=progress, **how))
    if callable(env):
        raise SpaceError(
            f"env is a {type(env).__name__}, expected an env (a function that makes one goes with workers)"
        )
    batch = env if isinstance(env, VectorEnv) else BatchOfOne(env)
    stepper = Stepper(batch)
    actor = BatchActor(batch, policy, seed, explore, device)
    return _simulate(stepper, actor, episodes, seed, max_steps, progress)


def _simulate(
    stepper: Stepper,
    actor: BatchActor,
    episodes: int,
    seed: int,
    max_steps: int | None,
    progress: Progress | None,
) -> list[Trajectory]:
    """Acts and steps, all slots at once, until the episodes that were asked for have ended."""
    slots = stepper.num_envs
    tape = Tape(slots, stepper.spaces, actor.zeros)
    kept: dict[int, Trajectory] = {}
    finished = np.zeros(slots, np.int64)
    wanted = np.arange(slots) < episodes  # False where the slot has run all of its episodes
    calls = steps = 0
    told = max_steps is not None

    stepper.reset(seed)
    tape.begin(stepper.first, stepper.frames)
    last_action = actor.zeros
    while len(kept) < episodes:
        action = actor.act(stepper.frames, last_action, stepper.first, wanted)
        acted = wanted.copy()
        step = stepper.step(actor.native(action), last=tape.time + 1 == max_steps)
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

        if not told and calls % PROGRESS_EVERY == 0 and tape.time[wanted].max(initial=0) >= ENDLESS:
            told = True
            tell(
                f"{stepper.name}: an episode has not ended after {ENDLESS:,} steps; where none does, set "
                "collect.max_episode_steps (simulate's max_steps)"
            )
        calls, steps = calls + 1, steps + int((step.stepped & acted).sum())
        if progress is not None and (step.over.any() or calls % PROGRESS_EVERY == 0):
            progress(len(kept), steps)
    return [kept[episode] for episode in range(episodes)]


def simulate_blocks(
    env: Env | Callable[[], Env],
    policy: Policy | None = None,
    episodes: int = 100,
    seed: int = 0,
    *,
    actors: Actors,
    explore: bool = False,
    max_steps: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[Trajectory]:
    """Episodes that several processes share, one after the other as soon as they are there.

    They are simulated in blocks of N, one in each slot of the env. Block k is what ``simulate`` gives for N
    episodes and a seed that follows from (seed, k): it is the same wherever and whenever it is simulated,
    alone or once more after an actor's death. With a single env each episode is a block. Trajectories come in
    the order of their numbers, so that they are the same, one by one, for any number of actors.

    A slot whose episode has ended is stepped for nothing, without the policy, until the last one of its block
    has ended: where episodes are of very different lengths, take few slots.

    Args:
        env: as for ``simulate``.
        policy: as for ``simulate``.
        episodes: as for ``simulate``.
        seed: as for ``simulate``.
        actors: who shares the work.
        explore: as for ``simulate``.
        max_steps: as for ``simulate``.
        device: of the policy, where there are no actors; in actors it acts on the CPU.
        progress: as for ``simulate``.

    Raises:
        WmplayError: as ``simulate`` and ``Actors.map``.
    """
    slots = _slots(env)
    blocks = [
        _Block(seed, number, first, min(first + slots, episodes))
        for number, first in enumerate(range(0, episodes, slots))
    ]
    parts = {
        "env": env,
        "policy": policy,
        "settings": {
            "explore": explore,
            "max_steps": max_steps,
            "device": device if not actors.number else "cpu",
        },
    }
    done = steps = 0

    def look() -> None:
        if progress is not None:
            progress(done, steps)

    for trajectories in actors.map(_Simulator, parts, blocks, look=look):
        done, steps = done + len(trajectories), steps + sum(map(len, trajectories))
        look()
        yield from trajectories


@dataclass(frozen=True)
class _Block:
    """Some consecutive episodes."""

    seed: int  # of all blocks
    number: int
    first: int  # episode
    stop: int

    def __str__(self) -> str:
        last = self.stop - 1
        which = f"episode {last}" if self.first == last else f"episodes {self.first} to {last}"
        return f"{which} of seed {self.seed}"


class _Simulator:
    """Simulates block after block in one env."""

    def __init__(self, env: Env | Callable[[], Env], policy: Policy | None, settings: dict[str, Any]) -> None:
        self.env = env() if callable(env) else env
        self.policy, self.settings = policy, settings

    def __call__(self, block: _Block) -> list[Trajectory]:
        seed = int(np.random.SeedSequence([block.seed, block.number]).generate_state(1)[0])
        return simulate(self.env, self.policy, block.stop - block.first, seed, **self.settings)


def _slots(env: Env | Callable[[], Env]) -> int:
    """How many episodes an env, or what a function makes, simulates at once."""
    if not callable(env):
        return env.num_envs if isinstance(env, VectorEnv) else 1
    with closing(env()) as made:
        return _slots(made)
