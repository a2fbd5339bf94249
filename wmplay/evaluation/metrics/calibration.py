"""Calibration of sampled futures: whether what a model finds likely happens that often.

For a calibrated model the real future is like one more sample. Then pixels that it lights with probability p
are lit in a part p of the cases, the spread of its futures is the error of their mean, and no other
distribution has a lower CRPS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import sample_futures
from wmplay.evaluation.observation_metrics import metric_of
from wmplay.evaluation.scores import (
    CalibrationScore,
    Curve,
    Diagram,
    ScreenCalibration,
    VectorCalibration,
    selected_horizons,
)
from wmplay.evaluation.statistics import Interval, jackknife

BINS = 10  # of probabilities
TRIVIAL = 0.01  # a pixel with a probability nearer to 0 or 1 than this is trivial
GROUPS = 20  # of clips, for the jackknife
ROUNDING = 1e-5  # an entry of a vector whose standard deviation is below this never varies


class Counts(NamedTuple):
    """Sums over the pixels of each clip, step and bin of probabilities, all [B, H, BINS]."""

    pixels: Tensor
    forecast: Tensor  # of probabilities
    lit: Tensor


@torch.no_grad()
def evaluate_calibration(model: WorldModel, clips: ClipSet, futures: int = 8) -> CalibrationScore | None:
    """Score the calibration of sampled futures, by horizon.

    Args:
        model: any world model.
        clips: whose contexts are the starts.
        futures: of each start, at least 2.

    Returns:
        The score; None for a model whose futures are all the same, or that predicts no screen and no vector.
    """
    assert futures >= 2, f"{futures} futures have no spread"
    batches = [sampled for _, sampled in sample_futures(model, clips, futures)]
    sampled = {key: torch.cat([batch[key].cpu() for batch in batches]).float() for key in batches[0]}
    if all(torch.equal(each[:, :1].expand_as(each), each) for each in sampled.values()):
        return None
    screens, vectors = dict[str, ScreenCalibration](), dict[str, VectorCalibration]()
    for key, several in sampled.items():
        metric, truth = metric_of(clips.frames[key]), clips.truth[key]
        last = clips.frames[key][:, clips.context - 1]
        if metric == "iou" and several.ndim == 5:
            screens[key] = _of_screen(several, truth > 0)
            places = [centre(each) for each in (several > 0.5, truth > 0, last > 0)]
            vectors |= _of_vector(f"centre of {key}", *places)
        elif metric == "mae":
            vectors |= _of_vector(key, several, truth.float(), last.float())
    if not screens and not vectors:
        return None
    return CalibrationScore(clips.context, clips.horizon, len(clips), futures, clips.seed, screens, vectors)


def centre(screens: Tensor) -> Tensor:
    """Return the mean place (x, y) of lit pixels of bool screens [..., H, W], [..., 2] in pixels.

    It is the middle of the screen where nothing is lit.
    """
    height, width = screens.shape[-2:]
    mass, lit = screens.double(), screens.flatten(-2).sum(-1)
    x = (mass.sum(-2) * torch.arange(width)).sum(-1) / lit.clamp(min=1)
    y = (mass.sum(-1) * torch.arange(height)).sum(-1) / lit.clamp(min=1)
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    return torch.where((lit > 0)[..., None], torch.stack([x, y], -1), middle)


# ---- screens ---------------------------------------------------------------------------------------------


def _of_screen(several: Tensor, truth: Tensor) -> ScreenCalibration:
    """Score futures [B, N, H, ...] of probabilities against bool frames [B, H, ...]."""
    counts, pixels = count(several.mean(1), truth), truth[0, 0].numel()
    diagrams = {str(h): diagram(Counts(*(each[:, h - 1] for each in counts))) for h in _shown(truth.shape[1])}
    return ScreenCalibration(
        error=by_horizon(
            lambda kept: reliability_error(Counts(*(each[kept] for each in counts))), len(truth)
        ),
        judged=(counts.pixels.sum((0, 2)) / (len(truth) * pixels)).tolist(),
        diagrams=diagrams,
    )


def count(probability: Tensor, lit: Tensor) -> Counts:
    """Count pixels that are not trivial by their probability [B, H, ...] of being lit, given bool [B, H,
    ...]."""
    p, y = probability.double().flatten(2), lit.double().flatten(2)
    judged = ((p >= TRIVIAL) & (p <= 1 - TRIVIAL)).double()
    number = (p * BINS).long().clamp(max=BINS - 1)
    empty = torch.zeros(*p.shape[:2], BINS, dtype=torch.float64)
    return Counts(*(empty.scatter_add(2, number, judged * each) for each in (torch.ones_like(p), p, y)))


def reliability_error(counts: Counts) -> Tensor:
    """Return the mean distance [H] of probability and frequency, over bins by their pixels."""
    pixels, forecast, lit = (each.sum(0) for each in counts)
    return (forecast - lit).abs().sum(-1) / pixels.sum(-1)


def diagram(counts: Counts) -> Diagram:
    """Return the reliability diagram of one step: counts [B, BINS]."""
    used = counts.pixels.sum(0) > 0
    pixels, forecast, lit = (each[:, used] for each in counts)

    def frequency(kept: Tensor) -> Tensor:
        return lit[kept].sum(0) / pixels[kept].sum(0)

    observed, probability = by_horizon(frequency, len(pixels)), forecast.sum(0) / pixels.sum(0)
    return Diagram(probability.tolist(), [observed.at(1 + i) for i in range(len(probability))])


def _shown(horizon: int) -> list[int]:
    """Return the first, a middle and the last horizon."""
    horizons = selected_horizons(horizon)
    return sorted({horizons[0], horizons[len(horizons) // 2], horizons[-1]})


# ---- vectors ---------------------------------------------------------------------------------------------


def _of_vector(key: str, several: Tensor, truth: Tensor, last: Tensor) -> dict[str, VectorCalibration]:
    """Score futures [B, N, H, D] of vectors [B, H, D], after last ones [B, D]; {} if these never vary."""
    varies = truth.double().flatten(0, -2).std(0, correction=0) > ROUNDING
    if not varies.any():
        return {}
    several, truth, last = (each.double()[..., varies] for each in (several, truth, last))
    variance, error = several.var(1).mean(-1), (several.mean(1) - truth).square().mean(-1)  # [B, H]
    ratio = by_horizon(lambda kept: spread_skill(variance[kept], error[kept], several.shape[1]), len(truth))
    copied = (last[:, None] - truth).abs().mean(-1)
    return {key: VectorCalibration(ratio, Curve.over(crps(several, truth).mean(-1)), Curve.over(copied))}


def spread_skill(variance: Tensor, error: Tensor, futures: int) -> Tensor:
    """Return the ratio [H] of the futures' spread to the error of their mean, 1 if calibrated.

    Args:
        variance: [B, H], of N futures, with N - 1 in the denominator.
        error: [B, H], the squared error of their mean.
        futures: N; the mean of few has an error of its own (Fortin et al. 2014, J. Hydrometeorology 15).
    """
    return ((1 + 1 / futures) * variance.mean(0) / error.mean(0)).sqrt()


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score [B, H, D] of samples [B, N, H, D] for a truth [B, H, D].

    It is mean |x - y| - mean |x - x'| / 2 over pairs of different samples (the fair estimate, Ferro 2014,
    QJRMS 140): the absolute error of a single prediction, lower for one that knows its uncertainty.
    """
    n = samples.shape[1]
    to_truth = (samples - truth[:, None]).abs().mean(1)
    ordered, rank = samples.sort(1).values, torch.arange(n, dtype=samples.dtype)
    weights = (2 * rank - (n - 1)).reshape(1, n, *[1] * (samples.ndim - 2))
    return to_truth - (weights * ordered).sum(1) / (n * (n - 1))


def by_horizon(statistic: Callable[[Tensor], Tensor], clips: int) -> Curve:
    """Return a statistic [H] of a selection of clips, with jackknife intervals over clips."""
    everything, groups = torch.arange(clips), min(GROUPS, clips)
    whole = statistic(everything >= 0).tolist()
    without = np.array([statistic(everything % groups != group).tolist() for group in range(groups)])
    ends: list[Interval] = [
        jackknife(value, without[:, i] if groups > 1 else without[:0, i]) for i, value in enumerate(whole)
    ]
    return Curve(*([list(each) for each in zip(*ends, strict=True)] if ends else [[], [], []]))
