"""An env played by given actions, and what the properties of envs compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.contracts import Array

LIMIT = 211  # steps of a play
SHORT = 31  # of one that need not come to the end of an episode
Then = Callable[[Mapping[str, Any], Any], None]  # (the very arrays that were returned, the action)


@dataclass(frozen=True)
class Moment:
    """What one call of reset or step gave, copied at once."""

    observation: dict[str, Array]
    reward: Any = 0.0
    terminated: Any = False
    truncated: Any = False
    episode: int = 0
    step: int = 0  # 0 is the reset

    @property
    def over(self) -> bool:
        """Whether the episode ended here."""
        return bool(self.terminated or self.truncated)

    def __str__(self) -> str:
        return f"step {self.step}" + (f" of episode {self.episode}" if self.episode else "")


def named(observation: Any) -> Mapping[str, Any]:
    """The observation by key."""
    return observation if isinstance(observation, Mapping) else {"observation": observation}


def copied(observation: Any) -> dict[str, Array]:
    """The observation's arrays as they are now."""
    return {key: np.array(value) for key, value in named(observation).items()}


def moments(
    env: gymnasium.Env[Any, Any], seed: int, actions: Sequence[Any], then: Then | None = None
) -> Iterator[Moment]:
    """Plays on from episode to episode, only the first of which is seeded, until there are no more actions.

    Args:
        env: a single one.
        seed: of the first reset.
        actions: one for each step; they are copied before they are given away.
        then: called after each call of the env.
    """
    moment, seen = _begun(env, 0, seed)
    yield moment
    if then is not None:
        then(seen, None)
    for action in actions:
        if moment.over:
            moment, seen = _begun(env, moment.episode + 1)
            yield moment
            if then is not None:
                then(seen, None)
        given = copy.deepcopy(action)
        answer, reward, terminated, truncated, _ = env.step(given)
        seen = named(answer)
        flags = copy.copy(terminated), copy.copy(truncated)
        moment = Moment(copied(seen), copy.copy(reward), *flags, moment.episode, moment.step + 1)
        yield moment
        if then is not None:
            then(seen, given)


def _begun(
    env: gymnasium.Env[Any, Any], episode: int, seed: int | None = None
) -> tuple[Moment, Mapping[str, Any]]:
    seen = named(env.reset(seed=seed)[0])
    return Moment(copied(seen), episode=episode), seen


def play(
    env: gymnasium.Env[Any, Any], seed: int, actions: Sequence[Any], then: Then | None = None
) -> list[Moment]:
    """All moments of a play."""
    return list(moments(env, seed, actions, then))


def first_difference(one: Sequence[Moment], other: Sequence[Moment]) -> str | None:
    """Where and in what two plays first differ, in words; None if they are equal, bit for bit."""
    for mine, theirs in zip(one, other, strict=True):
        what = difference(mine, theirs)
        if what is not None:
            return f"{mine}: {what}"
    return None


def difference(mine: Moment, theirs: Moment, tolerance: float = 0.0) -> str | None:
    """In what two moments differ, in words."""
    for key, value in mine.observation.items():
        if key not in theirs.observation or not _equal(value, theirs.observation[key], tolerance):
            return f"observation '{key}'"
    for name in ("reward", "terminated", "truncated"):
        got, expected = getattr(mine, name), getattr(theirs, name)
        if not _equal(np.asarray(got), np.asarray(expected), tolerance):
            return f"{name} {got} or {expected}"
    return None


def same_observation(mine: Moment, theirs: Moment) -> bool:
    """Whether both show the same, bit for bit."""
    return all(_equal(value, theirs.observation[key], 0.0) for key, value in mine.observation.items())


def _equal(one: Array, other: Array, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if tolerance and np.issubdtype(one.dtype, np.floating):
        return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))
    return np.array_equal(one, other, equal_nan=np.issubdtype(one.dtype, np.floating))


class EnvTrial:
    """An env, and a way to make others like it.

    Args:
        env: a single one.
        make: as for ``check_env``.
        seed: of all random draws.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], make: Callable[..., Any] | None, seed: int) -> None:
        self.env, self.make, self.seed = env, make, seed

    @contextmanager
    def another(self) -> Iterator[gymnasium.Env[Any, Any]]:
        """A fresh env, where one can be made; else the one that there is."""
        if self.make is None:
            yield self.env
            return
        with closing(self.make()) as env:
            yield env

    def actions(self, seed: int, number: int = LIMIT) -> list[Any]:
        """Random actions."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(seed)
        return [space.sample() for _ in range(number)]

    def extremes(self) -> list[Any]:
        """Actions that are far from each other: every discrete one, or the corners of low and high."""
        space = self.env.action_space
        if isinstance(space, Discrete):
            return [np.int64(space.start + number) for number in range(int(space.n))]
        if isinstance(space, Box):
            low, high = np.clip(space.low, -1e2, None), np.clip(space.high, None, 1e2)
            return [low.astype(space.dtype), high.astype(space.dtype)]
        return self.actions(0, 5)

    @property
    def passive(self) -> bool:
        """Whether the env's metadata claim that actions change nothing."""
        return bool((self.env.metadata or {}).get("passive", False))
