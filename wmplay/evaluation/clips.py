"""The clips that a world model is scored on: windows of held-out episodes, cut once for all metrics.

The independent unit is the episode, so that each gives at most one clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Segment, Trajectory, model_keys, modelled
from wmplay.errors import WmplayError

BATCH = 64  # clips predicted at once: bounds the memory, has no influence on the numbers of a mode rollout
FRAMES = 2048  # that baselines are fitted on, drawn evenly from the reference episodes


class Episodes(Protocol):
    """Recorded episodes: a store, or a list of trajectories."""

    def __len__(self) -> int:
        """Return the number of episodes."""

    def __getitem__(self, index: int, /) -> Trajectory:
        """Return one episode."""


@dataclass(frozen=True)
class ClipSet:
    """B clips of ``context`` frames and ``horizon`` steps, with what every metric needs besides a model."""

    segment: Segment  # [B, context - 1 + horizon] steps, on the CPU
    context: int  # frames shown before predicting
    seed: int  # that chose the clips, and draws whatever a metric draws
    reference: Mapping[str, Tensor]  # {key: [N, ...]}: frames that baselines are fitted on
    device: torch.device | str = "cpu"  # where the model is

    def __len__(self) -> int:
        return len(self.segment.action)

    @property
    def horizon(self) -> int:
        """Steps to predict."""
        return self.segment.action.shape[1] - self.context + 1

    @property
    def truth(self) -> dict[str, Tensor]:
        """{key: [B, H, ...]}: the true frames after the context."""
        return {key: frames[:, self.context :] for key, frames in self.frames.items()}

    @property
    def frames(self) -> dict[str, Tensor]:
        """{key: [B, context + H, ...]}: all frames, without the task's goals."""
        return modelled(self.segment.observation)

    @property
    def actions(self) -> Tensor:
        """[B, H, ...]: the true actions that led to ``truth``."""
        return self.segment.action[:, self.context - 1 :]

    def first(self, number: int) -> ClipSet:
        """Return the first clips: the same as ``cut_clips`` returns for this number."""
        return replace(self, segment=self.segment.rows(slice(number)))

    def batches(self, copies: int = 1) -> Iterator[Segment]:
        """Yield the clips in order, on the device: ``BATCH`` at a time, fewer if each has several copies."""
        size = max(1, BATCH // copies)
        for start in range(0, len(self), size):
            yield self.segment.rows(slice(start, start + size)).to(self.device)


def cut_clips(
    episodes: Episodes,
    context: int = 3,
    horizon: int = 20,
    number: int = 256,
    seed: int = 0,
    *,
    from_reset: bool = False,
    reference: Episodes | None = None,
    device: torch.device | str = "cpu",
) -> ClipSet:
    """Cut one clip out of each of at most ``number`` episodes, which are drawn at random.

    Args:
        episodes: held-out episodes.
        context: frames to show.
        horizon: steps to predict after them.
        number: of clips; fewer where fewer episodes have that length.
        seed: chooses episodes and places.
        from_reset: begin each clip at its episode's first frame, not at a random one.
        reference: episodes that baselines are fitted on; None = the held-out ones themselves, which can only
            flatter the baselines.
        device: where the model is.

    Raises:
        WmplayError: if no episode is long enough.
    """
    steps = context - 1 + horizon
    rng = np.random.default_rng(seed)
    chosen: list[Trajectory] = []
    longest = 0
    for index in rng.permutation(len(episodes)):
        trajectory = episodes[int(index)]
        longest = max(longest, len(trajectory))
        if len(trajectory) >= steps:
            start = 0 if from_reset else int(rng.integers(len(trajectory) - steps + 1))
            chosen.append(trajectory.steps(start, start + steps))
        if len(chosen) == number:
            break
    if not chosen:
        raise WmplayError(
            f"the longest of {len(episodes)} held-out episodes has {longest} steps",
            got=longest,
            expected=(
                f"at least {steps}: {context} frames of context and {horizon} steps of "
                "prediction; ask for a shorter horizon"
            ),
        )
    keys = model_keys(chosen[0].observation)
    frames = _some_frames(episodes if reference is None else reference, keys, number, seed)
    return ClipSet(_stacked(chosen), context, seed, frames, device)


def cut_from_resets(
    episodes: Episodes, steps: int, number: int = 6, seed: int = 0, device: torch.device | str = "cpu"
) -> ClipSet:
    """Cut clips that show the first frame of a reset alone; of fewer steps where no episode is that long."""
    steps = min(steps, max(len(episodes[i]) for i in range(len(episodes))))
    return cut_clips(episodes, 1, steps, number, seed, from_reset=True, device=device)


def _stacked(chosen: list[Trajectory]) -> Segment:
    def stack(arrays: Iterator[Array]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    action = stack(t.action for t in chosen)
    return Segment(
        {key: stack(t.observation[key] for t in chosen) for key in chosen[0].observation},
        action,
        stack(t.reward for t in chosen),
        stack(t.terminated for t in chosen),
        mask=torch.ones(action.shape[:2], dtype=torch.bool),
    )


def _some_frames(episodes: Episodes, keys: list[str], number: int, seed: int) -> dict[str, Tensor]:
    """Return {key: [N, ...]}: about ``FRAMES`` frames, equally many of each of ``number`` episodes."""
    rng = np.random.default_rng(seed)
    some = [episodes[int(i)] for i in rng.permutation(len(episodes))[:number]]
    each = -(-FRAMES // len(some))
    picks = [rng.permutation(len(episode) + 1)[:each] for episode in some]
    return {
        key: torch.from_numpy(
            np.concatenate([t.observation[key][pick] for t, pick in zip(some, picks, strict=True)])
        )
        for key in keys
    }
