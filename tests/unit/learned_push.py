"""The learned env in which the point of ``push`` is pushed, by the model that knows the rule or another."""

from __future__ import annotations

from typing import Any

from push import CONTINUOUS, Push, Truth, vector

from wmplay.contracts import Segment
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts

N, STARTS = 5, 31


def starts(count: int = STARTS, context: int = 1, seed: int = 3, **settings: Any) -> Segment:
    return real_starts(vector(**settings), count, context, seed)


def learned(
    model: Any = None, context: int = 1, actions: Any = CONTINUOUS, num_envs: int = N, **settings: Any
) -> LearnedVectorEnv:
    settings = {"precision": "float32", **settings}
    given = starts(context=context, actions=actions)
    return LearnedVectorEnv(Truth() if model is None else model, Push(actions), given, num_envs, **settings)


def drawn(env: Any, steps: int, seed: int = 11) -> list[Any]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def play(env: Any, seed: int = 1, steps: int = 17) -> list[Any]:
    """All that an env says."""
    return [env.reset(seed=seed), *[env.step(action) for action in drawn(env, steps)]]
