"""Blocks: N episodes, one in each slot of an env, that follow from one seed. This is the only way of
simulating.

Block k of a seed is the same whether it is simulated in this process or by one of several Ray actors, and
when it is simulated once more after an actor's death. Single and vector environments go through the same
code: a single one is a batch of one. The autoreset mode of a vector env (see ``Stepper``) has no influence on
the trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
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
    resets: Sequence[int] | None = None,
) -> Iterator[Trajectory]:
    """Yield the episodes that ``simulate`` returns, in order, each as soon as its block has ended.

    Args:
        env: as for ``simulate``, or a function that makes one, which is then closed.
        policy: as for ``simulate``.
        episodes: as for ``simulate``.
        seed: as for ``simulate``.
        actors: processes that share the blocks; without them, the blocks are simulated in this process.
        explore: as for ``simulate``.
        max_steps: as for ``simulate``.
        device: of the policy in this process; in Ray's actors it acts on the CPU.
        progress: as for ``simulate``.
        resets: the seed of each episode's reset, in place of those that follow from ``seed``.

    Raises:
        WmplayError: as ``simulate`` and ``RayPool.map``.
    """
    check_range("episodes", episodes, 0)
    check_range("seed", seed, 0, LARGEST_SEED)
    check_range("max_steps", max_steps, 1)
    parts: dict[str, Any] = {
        "env": env,
        "policy": policy,
        "explore": explore,
        "max_steps": max_steps,
        "device": torch.device("cpu" if actors is not None else device),
        "resets": resets,
    }
    done = steps = 0

    def report(episodes: int = 0, more: int = 0) -> None:
        if progress is not None:
            progress(done + episodes, steps + more)

    with ExitStack() as stack:
        results: Iterator[list[Trajectory]]
        if actors is None:
            work = _Simulator(**parts, progress=report)
            if callable(env):
                stack.callback(work.env.close)
            results = map(work, _blocks(episodes, seed, work.batch.num_envs))
        else:
            blocks = list(_blocks(episodes, seed, _slots(env)))
            results = actors.map(_Simulator, parts, blocks, look=report)
        for trajectories in results:
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

    @property
    def own_seed(self) -> int:
        """The seed of the block's env and policy; that of the first block is the seed of all blocks."""
        if self.number == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0])

    def __str__(self) -> str:
        last = self.stop - 1
        which = f"episode {last}" if self.first == last else f"episodes {self.first} to {last}"
        return f"{which} of seed {self.seed}"


def _blocks(episodes: int, seed: int, slots: int) -> Iterator[_Block]:
    """Divide episodes into blocks of one episode for each slot."""
    for number, first in enumerate(range(0, episodes, slots)):
        yield _Block(seed, number, first, min(first + slots, episodes))


class _Simulator:
    """A callable that simulates block after block in one env.

    A slot whose episode has ended is stepped without the policy until the last one of the block has ended.
    """

    def __init__(
        self,
        env: Env | EnvMaker,
        policy: Policy | None,
        explore: bool,
        max_steps: int | None,
        device: torch.device,
        resets: Sequence[int] | None = None,
        progress: Progress = lambda episodes, steps: None,
    ) -> None:
        self.env = env() if callable(env) else env
        if not isinstance(self.env, gymnasium.Env | VectorEnv):
            raise SpaceError(
                f"env is a {type(self.env).__name__}",
                got=type(self.env).__name__,
                expected="an env or a function that makes one",
            )
        self.batch = self.env if isinstance(self.env, VectorEnv) else BatchOfOne(self.env)
        self.stepper = Stepper(self.batch)
        self.policy, self.explore, self.device = policy, explore, device
        self.max_steps, self.progress, self.resets = max_steps, progress, resets
        self.warned = max_steps is not None

    def __call__(self, block: _Block) -> list[Trajectory]:
        """Act and step, all slots at once, until the episodes of the block have ended."""
        stepper, seed = self.stepper, block.own_seed
        driver = PolicyDriver(self.batch, self.policy, seed, self.explore, self.device)
        tape = Tape(stepper.num_envs, stepper.spaces, driver.zeros)
        kept: dict[int, Trajectory] = {}
        wanted = np.arange(stepper.num_envs) < block.stop - block.first  # False where the episode has ended
        calls = steps = 0

        stepper.reset(seed if self.resets is None else self._resets(block))
        tape.begin(stepper.first, stepper.frames)
        last_action = driver.zeros
        while wanted.any():
            action = driver.act(stepper.frames, last_action, stepper.first, wanted)
            step = stepper.step(driver.native(action), last=tape.time + 1 == self.max_steps)
            tape.record(action, step.reward, step.terminated, step.truncated, step.arrived, step.info)
            calls, steps = calls + 1, steps + int((step.stepped & wanted).sum())
            kept |= {slot: tape.episode(slot) for slot in np.flatnonzero(step.over & wanted).tolist()}
            wanted = wanted & ~step.over
            if stepper.first.any():
                tape.begin(stepper.first, stepper.frames)
                action = action.copy()
                action[stepper.first] = 0
            last_action = action
            if calls % PROGRESS_EVERY == 0:
                self._warn_of_endless(int(tape.time[wanted].max(initial=0)))
            if step.over.any() or calls % PROGRESS_EVERY == 0:
                self.progress(len(kept), steps)
        return [kept[slot] for slot in sorted(kept)]

    def _resets(self, block: _Block) -> list[int]:
        """Return the seed of each slot's reset; slots that the block does not need repeat the last one."""
        assert self.resets is not None
        own = list(self.resets[block.first : block.stop])
        return own + own[-1:] * (self.stepper.num_envs - len(own))

    def _warn_of_endless(self, steps: int) -> None:
        if not self.warned and steps >= ENDLESS:
            self.warned = True
            tell(
                f"{self.stepper.name}: an episode has not ended after {ENDLESS:,} steps; where none does, "
                "set collect.max_episode_steps (simulate's max_steps)"
            )


def _slots(env: Env | EnvMaker) -> int:
    """Return how many episodes an env, or the env that a function makes, simulates at once."""
    if not callable(env):
        return env.num_envs if isinstance(env, VectorEnv) else 1
    with closing(env()) as made:
        return _slots(made)
