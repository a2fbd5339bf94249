"""The spread of several sampled futures of one start: their distances from each other and from the real
future."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import sample_futures
from wmplay.evaluation.observation_metrics import Metric, as_observed, distance, metric_of
from wmplay.evaluation.scores import Curve, KeySpread, SpreadScore


@torch.no_grad()
def evaluate_spread(model: WorldModel, clips: ClipSet, futures: int = 8) -> SpreadScore | None:
    """Score the distances of several futures of one start, under the same actions; return None for a model
    that predicts no observation.

    Args:
        model: any world model; one that samples nothing has spread 0.
        clips: whose contexts are the starts.
        futures: of each start, at least 2.
    """
    assert futures >= 2, f"{futures} futures have no distance"
    metrics = {key: metric_of(frames) for key, frames in clips.frames.items()}
    batches = [
        {
            key: _distances(metrics[key], several, batch.observation[key][:, clips.context :])
            for key, several in sampled.items()
        }
        for batch, sampled in sample_futures(model, clips, futures)
    ]
    if not batches[0]:
        return None
    keys = {}
    for key in batches[0]:
        truth = clips.truth[key]
        unrelated = distance(metrics[key], truth.roll(1, 0), truth)
        among, to_truth = (torch.cat([batch[key][i] for batch in batches]) for i in (0, 1))
        keys[key] = KeySpread(
            metrics[key],
            Curve.over(among),
            Curve.over(to_truth),
            Curve.over(unrelated if len(unrelated) > 1 else unrelated[:0]),
        )
    return SpreadScore(clips.context, clips.horizon, len(clips), futures, clips.seed, keys)


def _distances(metric: Metric, futures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return [B, H] mean distances, from futures [B, N, H, ...] and the truth [B, H, ...].

    The first is of two of the futures, the second of a future to the truth.
    """
    each = as_observed(metric, futures, truth.dtype).unbind(1)
    among = torch.stack([distance(metric, one, other) for one, other in combinations(each, 2)]).mean(0)
    return among, torch.stack([distance(metric, one, truth) for one in each]).mean(0)
