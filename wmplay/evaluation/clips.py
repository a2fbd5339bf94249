"""Windows of held-out episodes: what a world model is scored on.

The independent unit is the episode, so there is at most one window of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Segment, Trajectory, model_keys
from wmplay.errors import WmplayError

BATCH = 64  # windows predicted at once: bounds the memory, has no influence on the numbers of a mode rollout


class Episodes(Protocol):
    """What can be evaluated on: a store, or a list of trajectories."""

    def __len__(self) -> int:
        """The number of episodes."""

    def __getitem__(self, index: int, /) -> Trajectory:
        """One episode."""


def some_episodes(episodes: Episodes, number: int, rng: np.random.Generator) -> list[Trajectory]:
    """At most so many of them, drawn at random."""
    return [episodes[int(i)] for i in rng.permutation(len(episodes))[:number]]


def cut_windows(
    store: Episodes, context: int, horizon: int, clips: int, seed: int, *, from_reset: bool = False
) -> Segment:
    """One window of each of at most ``clips`` episodes, which are drawn at random.

    Args:
        store: held-out episodes.
        context: frames to show.
        horizon: steps to predict after them.
        clips: windows wanted; there are fewer where there are fewer episodes of that length.
        seed: chooses episodes and places. The first windows of more are the same ones.
        from_reset: begin each window at its episode's first frame, not at a random one.

    Raises:
        WmplayError: if no episode is long enough.
    """
    steps = context - 1 + horizon
    rng = np.random.default_rng(seed)
    chosen: list[Trajectory] = []
    longest = 0
    for index in rng.permutation(len(store)):
        trajectory = store[int(index)]
        longest = max(longest, len(trajectory))
        if len(trajectory) >= steps:
            start = 0 if from_reset else int(rng.integers(len(trajectory) - steps + 1))
            chosen.append(_cut(trajectory, start, steps))
        if len(chosen) == clips:
            break
    if not chosen:
        raise WmplayError(
            f"the longest of {len(store)} held-out episodes has {longest} steps, expected at least {steps}: "
            f"{context} frames of context and {horizon} steps of prediction; ask for a shorter horizon"
        )

    def stack(arrays: Iterator[Array]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    return Segment(
        {key: stack(t.observation[key] for t in chosen) for key in model_keys(chosen[0].observation)},
        stack(t.action for t in chosen),
        stack(t.reward for t in chosen),
        stack(t.terminated for t in chosen),
        mask=torch.ones(len(chosen), steps, dtype=torch.bool),
    )


def batches(windows: Segment, device: torch.device | str, copies: int = 1) -> Iterator[Segment]:
    """The windows in order, on a device: ``BATCH`` at a time, fewer if each is predicted several times."""
    size = max(1, BATCH // copies)
    for start in range(0, len(windows.action), size):
        yield windows.rows(slice(start, start + size)).to(device)


def _cut(trajectory: Trajectory, start: int, steps: int) -> Trajectory:
    stop = start + steps
    return Trajectory(
        {key: value[start : stop + 1] for key, value in trajectory.observation.items()},
        trajectory.action[start:stop],
        trajectory.reward[start:stop],
        trajectory.terminated[start:stop],
        trajectory.truncated[start:stop],
    )
