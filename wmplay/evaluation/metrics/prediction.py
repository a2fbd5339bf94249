"""The errors of a world model by horizon, with intervals, next to those of baselines."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import likely_futures
from wmplay.evaluation.observation_metrics import Metric, fit_baselines, measure, metric_of
from wmplay.evaluation.scores import MODEL, Curve, KeyScore, PredictionScore


@torch.no_grad()
def evaluate_prediction(model: WorldModel, clips: ClipSet) -> PredictionScore:
    """Score a model's most likely futures by horizon, next to baselines on the same clips.

    Args:
        model: any world model.
        clips: held-out; the marginal and the mean are fitted on their reference frames.
    """
    metrics = {key: metric_of(frames) for key, frames in clips.frames.items()}
    baselines = fit_baselines(clips.reference, metrics)
    batches = [
        {
            key: _values(metrics[key], batch.observation[key], clips.context, guess, baselines[key])
            for key, guess in future.items()
        }
        for batch, future in likely_futures(model, clips)
    ]
    keys = {
        key: KeyScore(
            metrics[key],
            {name: Curve.over(torch.cat([each[key][name] for each in batches])) for name in names},
        )
        for key, names in batches[0].items()
    }
    return PredictionScore(clips.context, clips.horizon, len(clips), clips.seed, keys)


def _values(
    metric: Metric, frames: Tensor, context: int, guess: Tensor, baselines: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return {predictor: [B, H]} of one key: frames [B, context + H, ...], guess [B, H, ...]."""
    truth = frames[:, context:]
    fitted = {name: frame.to(truth.device) for name, frame in baselines.items()}
    guesses = {MODEL: guess, "copy-last": frames[:, context - 1 : context], **fitted}
    return {name: measure(metric, each, truth) for name, each in guesses.items()}
