"""A policy, and scripts for it to act on: recorded episodes, cut and put together again."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from wmplay.check.compare import shown
from wmplay.check.result import Broken
from wmplay.check.trial import ROWS, record
from wmplay.contracts import Carry

BEFORE, AFTER = 5, 2  # steps before and after some rows begin a new episode
ANEW = torch.tensor([False, True, False, True, False])  # these rows


class Scene(NamedTuple):
    """What a policy is told in one step."""

    observation: dict[str, Tensor]  # {key: [B, ...]}
    last_action: Tensor  # [B, A], or [B] int64
    first: Tensor  # [B] bool


Script: TypeAlias = list[Scene]


class Acting:
    """A policy and what it is asked to act on.

    The generator is seeded anew for each step, so that two plays can be compared from any step on, however
    many numbers were drawn before.

    Args:
        policy: used as it is.
        env: a single one, of which some random episodes are recorded.
        seed: of all random draws.

    Raises:
        SpaceError: if the env's episodes are too short.
    """

    def __init__(self, policy: Any, env: gymnasium.Env[Any, Any], seed: int) -> None:
        self.policy, self.seed, self.space = policy, seed, env.action_space
        self.segment, _ = record(env, seed, BEFORE + AFTER, "a policy")

    # ---- scripts -----------------------------------------------------------------------------------

    def script(self, *, past: int = 0, anew: Tensor | None = None) -> Script:
        """BEFORE + AFTER steps of ROWS episodes.

        Args:
            past: which episode a row has seen in the first BEFORE steps: that so many rows further on.
            anew: [ROWS] bool, rows that begin another episode after BEFORE steps.
        """
        rows = torch.arange(ROWS)
        begin = torch.zeros(ROWS, dtype=torch.bool) if anew is None else anew
        scenes = [self._scene((rows + past) % ROWS, torch.full((ROWS,), t)) for t in range(BEFORE)]
        for step in range(AFTER):
            time = torch.where(begin, step, BEFORE + step)
            scenes.append(self._scene(torch.where(begin, (rows + 2) % ROWS, rows), time))
        return scenes

    def _scene(self, episode: Tensor, time: Tensor) -> Scene:
        """Each row at its own time of its own episode; both [ROWS] int64."""
        first = time == 0
        observation = {key: value[episode, time] for key, value in self.segment.observation.items()}
        action = self.segment.action[episode, (time - 1).clamp(min=0)].clone()
        action[first] = 0
        return Scene(observation, action, first)

    # ---- playing -----------------------------------------------------------------------------------

    def act(self, carry: Carry, scene: Scene, explore: bool, seed: int) -> tuple[Tensor, Carry]:
        """One step of the policy. Raises Broken for an answer that is none."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            answer = self.policy.act(carry, *scene, explore=explore, generator=generator)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Tensor)):
            raise Broken(f"act returned {shown(answer)}", "return (action, carry)")
        return answer

    def play(
        self, script: Script, *, explore: bool = False, seed: int | None = None, start: int = 0
    ) -> Tensor:
        """What the policy does, [B, T, N] float64.

        Args:
            script: T steps.
            explore: as of ``act``.
            seed: of the draws, another than usual.
            start: the number of the script's first step; step t draws the same numbers in all plays.
        """
        carry = self.policy.initial(len(script[0].first))
        actions = []
        for step, scene in enumerate(script, start):
            action, carry = self.act(carry, scene, explore, self.seed_of(step, seed))
            actions.append(flat(action))
        return torch.stack(actions, 1)

    def seed_of(self, step: int, seed: int | None = None) -> int:
        """The generator's seed for a step."""
        return 1000 * (self.seed if seed is None else seed) + step

    @cached_property
    def usual(self) -> dict[bool, Tensor]:
        """What it does on the plain script; by whether it explores, where that makes a difference."""
        plays = {explore: self.play(self.script(), explore=explore) for explore in (False, True)}
        return {False: plays[False]} if torch.equal(*plays.values()) else plays

    @cached_property
    def draws(self) -> dict[bool, bool]:
        """Whether its actions depend on the generator's seed, for the modes of ``usual``."""
        return {
            explore: not torch.equal(self.play(self.script(), explore=explore, seed=self.seed + 1), usual)
            for explore, usual in self.usual.items()
        }

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """(low, high) of an action, each [A] float64 (or [1] for discrete ones)."""
        if isinstance(self.space, Discrete):
            start = int(self.space.start)
            return torch.tensor([float(start)]).double(), torch.tensor(
                [start + int(self.space.n) - 1.0]
            ).double()
        assert isinstance(self.space, Box)  # or recording would have refused it
        low, high = (np.asarray(bound, np.float64) for bound in (self.space.low, self.space.high))
        return torch.from_numpy(low), torch.from_numpy(high)


def pick(script: Script, rows: Any) -> Script:
    """The script of some rows: a mask, an index [R] or a slice."""
    return [
        Scene({k: v[rows] for k, v in scene.observation.items()}, scene.last_action[rows], scene.first[rows])
        for scene in script
    ]


def exchanged(script: Script, rows: Tensor) -> Script:
    """The script in which the rows of a mask [B] see and did what their neighbours see and did."""

    def other(x: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x.roll(1, 0), x)

    return [
        Scene({k: other(v) for k, v in scene.observation.items()}, other(scene.last_action), scene.first)
        for scene in script
    ]


def flat(action: Tensor) -> Tensor:
    """Actions [B, A], or [B] int64, as [B, N] float64."""
    return action.reshape(len(action), -1).double()
