"""Generation: sampled futures of a model, several of one beginning, or from a reset's first frame alone.

(Prompted generation, under true context and true actions, is ``evaluate_prediction`` and ``predict_clips``.)
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from wmplay.contracts import Segment, WorldModel
from wmplay.evaluation.clips import Episodes, batches, cut_windows
from wmplay.evaluation.gallery import Clips
from wmplay.evaluation.metrics import Metric, as_observed, distance, metric_of
from wmplay.evaluation.scores import Curve, KeySpread, SpreadScore
from wmplay.nets.trees import repeat_rows
from wmplay.simulation.rollout import observe, predict


@torch.no_grad()
def evaluate_spread(
    model: WorldModel,
    store: Episodes,
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 32,
    futures: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> SpreadScore:
    """Duplicate generation: how far apart are several futures of one beginning under the same actions?

    Args:
        model: any world model; one that samples nothing has spread 0.
        store: held-out episodes.
        context: frames shown before predicting.
        horizon: steps predicted.
        clips: beginnings, at most one of each episode.
        futures: of each beginning, at least 2.
        seed: chooses the windows and draws the futures.
        device: where the model is.

    Raises:
        WmplayError: if no episode is long enough.
    """
    assert futures >= 2, f"{futures} futures have no distance"
    windows = cut_windows(store, context, horizon, clips, seed)
    metrics = {key: metric_of(frames) for key, frames in windows.observation.items()}
    generator = torch.Generator(device).manual_seed(seed)
    scored: list[dict[str, tuple[Tensor, Tensor]]] = []
    for batch in batches(windows, device, copies=futures):
        sampled = sample_futures(model, batch, context, futures, generator)
        scored.append(
            {
                key: _distances(metrics[key], several, batch.observation[key][:, context:])
                for key, several in sampled.items()
            }
        )
    keys = {}
    for key in scored[0]:
        truth = windows.observation[key][:, context:]
        unrelated = distance(metrics[key], truth.roll(1, 0), truth)
        among, to_truth = (torch.cat([batch[key][i] for batch in scored]) for i in (0, 1))
        keys[key] = KeySpread(
            metrics[key],
            Curve.over(among),
            Curve.over(to_truth),
            Curve.over(unrelated if len(unrelated) > 1 else unrelated[:0]),
        )
    return SpreadScore(context, horizon, len(windows.action), futures, seed, keys)


def _distances(metric: Metric, futures: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """[B, H] mean distances: of two of the futures [B, N, H, ...], of a future to the truth [B, H, ...]."""
    each = as_observed(metric, futures, truth.dtype).unbind(1)
    among = torch.stack([distance(metric, one, other) for one, other in combinations(each, 2)]).mean(0)
    return among, torch.stack([distance(metric, one, truth) for one in each]).mean(0)


def sample_futures(
    model: WorldModel, windows: Segment, context: int, futures: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """{key: [B, N, H, ...]}: N sampled futures of each window under its own actions."""
    belief = repeat_rows(observe(model, windows, context), futures)
    actions = windows.action[:, context - 1 :].repeat_interleave(futures, dim=0)
    predicted = predict(model, belief, actions, generator=generator).observation
    return {
        key: predicted[key].reshape(-1, futures, *predicted[key].shape[1:])
        for key in predicted
        if key in windows.observation
    }


@torch.no_grad()
def duplicate_clips(
    model: WorldModel,
    store: Episodes,
    *,
    context: int = 3,
    horizon: int = 20,
    futures: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Clips:
    """Futures of the first window that ``evaluate_spread`` scores: N rows with one and the same truth."""
    window = cut_windows(store, context, horizon, 1, seed).to(device)
    sampled = sample_futures(model, window, context, futures, torch.Generator(device).manual_seed(seed))
    return Clips(
        context,
        truth={key: window.observation[key].cpu().numpy().repeat(futures, 0) for key in sampled},
        prediction={key: several[0].float().cpu().numpy() for key, several in sampled.items()},
    )


@torch.no_grad()
def unprompted_clips(
    model: WorldModel,
    store: Episodes,
    *,
    steps: int = 50,
    clips: int = 6,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Clips:
    """Sampled futures from the first frame of a reset alone, under the random actions of held-out episodes.

    Args:
        model: any world model.
        store: held-out episodes by the random policy.
        steps: predicted; fewer where no episode is that long.
        clips: of as many episodes.
        seed: chooses the episodes and draws the futures.
        device: where the model is.
    """
    steps = min(steps, max(len(store[i]) for i in range(len(store))))
    windows = cut_windows(store, 1, steps, clips, seed, from_reset=True).to(device)
    sampled = sample_futures(model, windows, 1, 1, torch.Generator(device).manual_seed(seed))
    return Clips(
        context=1,
        truth={key: windows.observation[key].cpu().numpy() for key in sampled},
        prediction={key: one[:, 0].float().cpu().numpy() for key, one in sampled.items()},
    )
