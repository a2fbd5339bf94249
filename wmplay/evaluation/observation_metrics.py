"""Measures of a predicted observation, and the baselines that a prediction must beat.

The metric follows from what an observation key holds: foreground IoU for binary screens, squared error for
pixels, absolute error for vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

Metric: TypeAlias = Literal["iou", "mse", "mae"]

BASELINES = ("copy-last", "background", "marginal", "mean")


def metric_of(frames: Tensor) -> Metric:
    """Return ``iou`` for frames [B, T, ...] of binary screens, ``mse`` for images, else ``mae``."""
    if frames.dtype in (torch.uint8, torch.bool) and frames.ndim == 4 and int(frames.max()) <= 1:
        return "iou"
    return "mse" if frames.ndim > 3 else "mae"


def measure(metric: Metric, guess: Tensor, truth: Tensor) -> Tensor:
    """Return the metric [B, H] of a guess that broadcasts to the truth [B, H, ...].

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
    """Return ``measure`` as an error, 0 for equals: IoU becomes 1 - IoU."""
    value = measure(metric, guess, truth)
    return 1 - value if metric == "iou" else value


def as_observed(metric: Metric, guess: Tensor, dtype: torch.dtype) -> Tensor:
    """Return predicted frames as an env would show them: whole numbers in images, 0 and 1 on screens."""
    if metric == "iou":
        return (guess > 0.5).to(dtype)
    return guess if dtype.is_floating_point else guess.round().clamp(0, 255).to(dtype)


def foreground_iou(guess: Tensor, truth: Tensor) -> Tensor:
    """Return intersection over union of the lit pixels of bool frames [..., H, W]; 1 if both are empty."""
    both = (guess & truth).flatten(-2).sum(-1)
    either = (guess | truth).flatten(-2).sum(-1)
    return torch.where(either == 0, 1.0, both / either.clamp(min=1))


def fit_baselines(
    frames: Mapping[str, Tensor], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, Tensor]]:
    """Return {key: {name: one frame [...]}}: constant predictions that do not depend on the clip.

    They are ``background`` and ``marginal`` for screens, and ``mean`` for other keys. (``copy-last`` needs no
    fitting.)

    Args:
        frames: {key: [N, ...]} to fit on.
        metrics: {key: its metric}.
    """
    baselines = {}
    for key, metric in metrics.items():
        mean = frames[key].float().mean(0)
        if metric == "iou":
            baselines[key] = {
                "background": torch.zeros_like(mean),
                "marginal": _best_marginal(mean, frames[key] > 0),
            }
        else:
            baselines[key] = {"mean": mean}
    return baselines


def _best_marginal(probability: Tensor, frames: Tensor) -> Tensor:
    """Return each pixel's frequency [H, W], thresholded for the best mean IoU on frames [N, H, W].

    A threshold of .5 would make it all background if bodies move about, and so no baseline of its own.
    """

    def fit(cut: Tensor) -> float:
        return float(foreground_iou(cut.expand_as(frames), frames).mean())

    cuts: list[Tensor] = [probability > threshold for threshold in np.linspace(0, 0.95, 20)]
    return max(cuts, key=fit).float()
