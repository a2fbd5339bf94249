"""Explorers around policies whose actions are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias

import gymnasium
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.fixtures.scripts import Acting, flat
from wmplay.contracts import Policy

Make: TypeAlias = Callable[[Policy], Any]

MANY, LONG = 499, 17  # rows and steps, enough to see rare events


class Inside:
    """The wrapped policy: its actions depend only on its memory, and it records its arguments."""

    def __init__(self, trial: Exploring) -> None:
        self.trial = trial
        self.told: list[tuple[Any, ...]] = []
        self.returned: list[tuple[Tensor, Tensor]] = []

    def initial(self, batch_size: int) -> Tensor:
        """Return a memory of one number for each row."""
        return torch.zeros(batch_size, dtype=torch.float64)

    def act(
        self,
        carry: Tensor,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return an action that depends on all observations and actions of the episode."""
        self.told.append((carry, observation, last_action, first, explore, generator))
        seen = sum(_gist(x) for x in (*observation.values(), last_action))
        memory = torch.where(first, 0.0, carry) / 2 + seen
        angles = memory.unsqueeze(1) + torch.arange(self.trial.width)
        self.returned.append((self.trial.at((1 + 0.9 * angles.sin()) / 2), memory))
        return self.returned[-1]


class Scripted:
    """The wrapped policy: its actions are given, whatever it sees.

    Args:
        actions: [LONG, B, A], or [LONG, B] int64.
    """

    def __init__(self, actions: Tensor) -> None:
        self.actions, self.steps = actions, 0

    def initial(self, batch_size: int) -> Tensor:
        """Return a memory without content."""
        return torch.zeros(batch_size)

    def act(self, carry: Tensor, *told: Any, **how: Any) -> tuple[Tensor, Tensor]:
        """Return the next actions."""
        self.steps += 1
        return self.actions[self.steps - 1].clone(), carry


class Exploring(Acting):
    """An explorer around policies whose actions are known.

    Actions are described by their place in the space: 0 at its lower bound, 1 at its upper one.
    """

    def __init__(self, make: Make, env: gymnasium.Env[Any, Any], seed: int) -> None:
        super().__init__(None, env, seed)
        self.make = make
        self.discrete = isinstance(self.space, Discrete)
        low, high = self.bounds
        self.low, self.span = low.clamp(-1e2, 1e2), high.clamp(-1e2, 1e2) - low.clamp(-1e2, 1e2)
        self.width = len(low)
        self.inside = Inside(self)
        self.policy = make(self.inside)
        generator = torch.Generator().manual_seed(seed)
        self.constant = self.at(_wide(0.3 + 0.03 * (torch.arange(self.width) % 5)))  # no entry in the middle
        self.scattered = self.at(0.25 + 0.5 * torch.rand(LONG, MANY, self.width, generator=generator))
        places = (torch.full((self.width,), place) for place in (0.5, 0.0, 1.0))
        self.middle, self.lowest, self.highest = (self.at(_wide(place)) for place in places)
        self.played: dict[Any, Tensor] = {}

    def at(self, place: Tensor) -> Tensor:
        """Return the actions [..., A] float32, or [...] int64, at places [..., A]."""
        if self.discrete:
            number = (place * (self.span + 1)).floor().clamp(max=self.span)
            return (self.low + number).long().squeeze(-1)
        return (self.low + place.double() * self.span).float()

    def actions(self, around: Tensor, seed: int = 0, anew: bool = False) -> Tensor:
        """Return [MANY, LONG, N], exploring around known actions, in episodes that begin together.

        Args:
            around: one of the actions of this trial, [LONG, MANY, ...].
            seed: of the draws.
            anew: whether each step begins an episode.
        """
        key = (id(around), seed, anew)
        if key not in self.played:
            outside = self.make(Scripted(around))
            self.played[key] = self.episode(outside, outside.initial(MANY), around, seed, anew)[0]
        return self.played[key]

    def second_episode(self, around: Tensor, seed: int = 0) -> Tensor:
        """Return ``actions`` of an episode that follows another one."""
        outside = self.make(Scripted(around.repeat(2, *[1] * (around.ndim - 1))))
        _, carry = self.episode(outside, outside.initial(MANY), around, seed + 1)
        return self.episode(outside, carry, around, seed)[0]

    def rate_after(self, step: int) -> Tensor:
        """Return the share [LONG - step] of rows that act otherwise than the wrapped policy, of those that
        begin another episode in a step in which the others go on."""
        outside = self.make(Scripted(self.constant))
        actions, _ = self.episode(outside, outside.initial(MANY), self.constant, 0, again=step)
        known = self.constant.reshape(LONG, MANY, -1).double().transpose(0, 1)
        return (actions != known)[::2, step:].any(-1).double().mean(0)

    def episode(
        self,
        outside: Any,
        carry: Any,
        around: Tensor,
        seed: int,
        anew: bool = False,
        again: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Return the actions [MANY, LONG, N] of an explorer and its carry after them.

        In step ``again`` every second row begins another episode.
        """
        generator = torch.Generator().manual_seed(self.seed + seed)
        last, actions = torch.zeros_like(around[0]), []
        for step in range(LONG):
            first = torch.full((MANY,), anew or step == 0)
            if step == again:
                first[::2] = True
            last = torch.where(first.reshape(-1, *[1] * (last.ndim - 1)), torch.zeros_like(last), last)
            seen = dict(self.seen[step % len(self.seen)])
            with torch.no_grad():
                last, carry = outside.act(carry, seen, last, first, explore=True, generator=generator)
            actions.append(flat(last))
        return torch.stack(actions, 1), carry

    @cached_property
    def seen(self) -> list[dict[str, Tensor]]:
        """The observations of one episode, {key: [MANY, ...]} in each step."""
        rows = [scene.observation for scene in self.script()]
        return [{k: x[:1].repeat_interleave(MANY, 0) for k, x in each.items()} for each in rows]

    def added(self, around: Tensor, seed: int = 0, anew: bool = False) -> Tensor:
        """Return the changes [MANY, LONG, N] to known actions."""
        known = around.reshape(LONG, MANY, -1).double().transpose(0, 1)
        return self.actions(around, seed, anew) - known

    def chances(self, seed: int) -> Tensor:
        """Return [MANY, LONG] bool: whether the action differs from that of the wrapped policy."""
        return (self.added(self.constant, seed) != 0).any(-1)


def _wide(place: Tensor) -> Tensor:
    """Return [LONG, MANY, A] of one place [A]."""
    return place.expand(LONG, MANY, -1)


def _gist(x: Tensor) -> Tensor:
    """Return a number [B] that identifies rows of [B, ...]."""
    rows = x.reshape(len(x), -1).double()
    return (rows * torch.arange(1, rows.shape[1] + 1).double().sqrt().sin()).sum(1)
