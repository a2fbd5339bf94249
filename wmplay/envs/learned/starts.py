"""Starts of imagined episodes: real frames from fresh resets, or from any point of stored episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv

from wmplay.contracts import GOAL_PREFIX, Array, Segment, StoreView
from wmplay.errors import ConfigError
from wmplay.vector.answers import BatchAnswers
from wmplay.vector.frames import copied


def real_starts(env: VectorEnv[Any, Any, Any], count: int, context: int, seed: int) -> Segment:
    """Return the first ``context`` frames of ``count`` real episodes, under random actions.

    Args:
        env: a real vector env; it is reset as often as needed.
        count: of starts.
        context: frames k of each.
        seed: of resets and actions.

    Returns:
        observation {key: [count, k, ...]}, action [count, k - 1, A]; episodes that end earlier are left out.

    Raises:
        ConfigError: if too few episodes have that many frames.
    """
    answers = BatchAnswers(env)
    spaces = answers.spaces
    env.action_space.seed(seed)
    rows: list[dict[str, Array]] = []
    actions: list[Array] = []
    found = 0
    for turn in range(0, 10 * count, env.num_envs):
        shown = [copied(answers.reset(env.reset(seed=seed + turn)))]
        taken = []
        whole = np.ones(env.num_envs, np.bool_)
        for _ in range(context - 1):
            taken.append(np.asarray(env.action_space.sample()))
            step = answers.step(env.step(taken[-1]))
            whole &= ~(step.terminated | step.truncated)
            shown.append(copied(step.frames))
        rows.append({key: np.stack([frame[key] for frame in shown], 1)[whole] for key in spaces})
        size = (env.num_envs, 0, *(env.single_action_space.shape or ()))
        actions.append(
            (np.stack(taken, 1) if taken else np.zeros(size, env.single_action_space.dtype))[whole]
        )
        found += int(whole.sum())
        if found >= count:
            break
    if found < count:
        raise ConfigError(
            f"learned.context is {context}: the env's episodes end before so many frames", got=context
        )
    observations = {key: np.concatenate([row[key] for row in rows])[:count] for key in spaces}
    return _as_segment(observations, np.concatenate(actions)[:count])


def stored_starts(store: StoreView, goals: Segment | None, count: int, context: int, seed: int) -> Segment:
    """Return up to ``count`` starts of ``context`` frames from any point of stored episodes.

    Args:
        store: of trajectories.
        goals: starts whose goals replace those of the stored observations, if any.
        count: of starts.
        context: frames k of each.
        seed: of the choice.

    Raises:
        ConfigError: if no trajectory has that many frames.
    """
    windows = store.sample(count, max(context - 1, 1), seed)
    kept = windows.mask[:, : context - 1].all(1)
    if not kept.any():
        raise ConfigError(
            f"learned.context is {context} frames, the trajectories in the store have fewer", got=context
        )
    observation = {key: value[kept, :context] for key, value in windows.observation.items()}
    if goals is not None:
        row = np.random.default_rng(seed).integers(len(goals.action), size=int(kept.sum()))
        for key, value in goals.observation.items():
            if key.startswith(GOAL_PREFIX):
                observation[key] = value[row, -1:].expand(-1, context, *value.shape[2:])
    return Segment(
        observation,
        *(x[kept, : context - 1] for x in (windows.action, windows.reward, windows.terminated, windows.mask)),
    )


def first_frames(frames: Mapping[str, Array], actions: gymnasium.Space[Any]) -> Segment:
    """Return starts of one frame each.

    Args:
        frames: {key: [P, ...]}, where episodes begin.
        actions: the space of one action.
    """
    count = len(next(iter(frames.values())))
    action = np.zeros((count, 0, *(actions.shape or ())), actions.dtype)
    return _as_segment({key: value[:, None] for key, value in frames.items()}, action)


def _as_segment(observation: dict[str, Array], action: Array) -> Segment:
    tensors = {key: torch.from_numpy(value) for key, value in observation.items()}
    steps = action.shape[:2]
    flag = torch.zeros(steps, dtype=torch.bool)
    return Segment(tensors, torch.from_numpy(action), torch.zeros(steps), flag, ~flag)
