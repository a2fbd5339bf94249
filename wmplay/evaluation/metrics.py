"""How a predicted observation is measured, and the baselines that a prediction must beat.

What is measured follows from what an observation key holds: foreground IoU for binary screens, squared
error for pixels, absolute error for vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Trajectory

Metric: TypeAlias = Literal["iou", "mse", "mae"]

BASELINES = ("copy-last", "background", "marginal", "mean")
FRAMES = 2048  # that baselines are fitted on, drawn evenly from the episodes


def metric_of(frames: Tensor) -> Metric:
    """What to measure on frames [B, T, ...]: ``iou`` for binary screens, ``mse`` for images, else ``mae``."""
    if frames.dtype in (torch.uint8, torch.bool) and frames.ndim == 4 and int(frames.max()) <= 1:
        return "iou"
    return "mse" if frames.ndim > 3 else "mae"


def measure(metric: Metric, guess: Tensor, truth: Tensor) -> Tensor:
    """[B, H] of a guess that broadcasts to the truth [B, H, ...].

    ``iou``: of the pixels whose probability is over .5. ``mse``: over pixels scaled to 0 .. 1. ``mae``: over
    the vector's entries.
    """
    guess = guess.float().expand(truth.shape)
    if metric == "iou":
        return foreground_iou(guess > 0.5, truth > 0)
    scale = 255.0 if truth.dtype == torch.uint8 else 1.0
    difference = ((guess - truth.float()) / scale).flatten(2)
    return difference.abs().mean(-1) if metric == "mae" else difference.square().mean(-1)


def distance(metric: Metric, guess: Tensor, truth: Tensor) -> Tensor:
    """``measure`` as an error, 0 for equals: IoU becomes 1 - IoU."""
    value = measure(metric, guess, truth)
    return 1 - value if metric == "iou" else value


def as_observed(metric: Metric, guess: Tensor, dtype: torch.dtype) -> Tensor:
    """Predicted frames as an env would show them: screens of zeros and ones, whole numbers for pixels."""
    if metric == "iou":
        return (guess > 0.5).to(dtype)
    return guess if dtype.is_floating_point else guess.round().clamp(0, 255).to(dtype)


def foreground_iou(guess: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of the lit pixels of boolean frames [..., H, W]; 1 where both are empty."""
    both = (guess & truth).flatten(-2).sum(-1)
    either = (guess | truth).flatten(-2).sum(-1)
    return torch.where(either == 0, 1.0, both / either.clamp(min=1))


def fit_baselines(
    episodes: Sequence[Trajectory], metrics: Mapping[str, Metric], rng: np.random.Generator
) -> dict[str, dict[str, Tensor]]:
    """{key: {name: one frame [...]}}: what to guess, always, without looking at the clip.

    ``background`` and ``marginal`` for screens, ``mean`` for the rest. (``copy-last`` needs no fitting.)
    """
    baselines = {}
    for key, frames in some_frames(episodes, metrics, rng).items():
        metric, mean = metrics[key], frames.float().mean(0)
        if metric == "iou":
            baselines[key] = {
                "background": torch.zeros_like(mean),
                "marginal": _best_marginal(mean, frames > 0),
            }
        else:
            baselines[key] = {"mean": mean}
    return baselines


def some_frames(
    episodes: Sequence[Trajectory], keys: Iterable[str], rng: np.random.Generator
) -> dict[str, Tensor]:
    """{key: [N, ...]}: about ``FRAMES`` frames, equally many of each episode, the same for all keys."""
    each = -(-FRAMES // len(episodes))
    picks = [rng.permutation(len(episode) + 1)[:each] for episode in episodes]
    return {
        key: torch.from_numpy(
            np.concatenate([t.observation[key][pick] for t, pick in zip(episodes, picks, strict=True)])
        )
        for key in keys
    }


def _best_marginal(probability: Tensor, frames: Tensor) -> Tensor:
    """Each pixel's frequency [H, W] cut at the threshold that gives the best mean IoU on frames [N, H, W].

    At .5 it would be all background wherever bodies move about, and no baseline of its own.
    """

    def fit(cut: Tensor) -> float:
        return float(foreground_iou(cut.expand_as(frames), frames).mean())

    cuts: list[Tensor] = [probability > threshold for threshold in np.linspace(0, 0.95, 20)]
    return max(cuts, key=fit).float()
