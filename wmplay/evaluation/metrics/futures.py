"""Futures of clips as a model predicts them: the most likely ones, and sampled ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wmplay.contracts import Segment, WorldModel
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.gallery import ShownClips
from wmplay.nets.trees import repeat_rows
from wmplay.simulation import observe, predict


@torch.no_grad()
def likely_futures(model: WorldModel, clips: ClipSet) -> Iterator[tuple[Segment, dict[str, Tensor]]]:
    """Yield batches of clips with {key: [B, H, ...]}: the most likely future of each under its own actions.

    Keys are those that the model predicts and the clips hold.
    """
    for batch in clips.batches():
        belief = observe(model, batch, clips.context)
        future = predict(model, belief, batch.action[:, clips.context - 1 :]).observation
        yield batch, {key: future[key] for key in future if key in clips.frames}


@torch.no_grad()
def sample_futures(
    model: WorldModel, clips: ClipSet, futures: int = 1
) -> Iterator[tuple[Segment, dict[str, Tensor]]]:
    """Yield batches of clips with {key: [B, N, H, ...]}: N sampled futures of each under its own actions.

    Keys are those of ``likely_futures``. All draws follow from the clips' seed.
    """
    generator = torch.Generator(clips.device).manual_seed(clips.seed)
    for batch in clips.batches(copies=futures):
        belief = repeat_rows(observe(model, batch, clips.context), futures)
        actions = batch.action[:, clips.context - 1 :].repeat_interleave(futures, dim=0)
        future = predict(model, belief, actions, generator=generator).observation
        yield (
            batch,
            {
                key: future[key].reshape(-1, futures, *future[key].shape[1:])
                for key in future
                if key in clips.frames
            },
        )


def shown_futures(model: WorldModel, clips: ClipSet, futures: int = 0) -> ShownClips | None:
    """Return futures of a few clips to look at, next to what happened; None of a model that predicts no
    observation.

    Args:
        model: any world model.
        clips: all are shown.
        futures: N > 0 samples N futures of each clip, in rows that share one truth; 0 takes the most likely.
    """
    if futures:
        batches = [
            {key: future.flatten(0, 1) for key, future in sampled.items()}
            for _, sampled in sample_futures(model, clips, futures)
        ]
    else:
        batches = [future for _, future in likely_futures(model, clips)]
    if not batches[0]:
        return None
    frames = clips.frames
    return ShownClips(
        clips.context,
        truth={key: frames[key].numpy().repeat(max(futures, 1), 0) for key in batches[0]},
        prediction={key: torch.cat([b[key] for b in batches]).float().cpu().numpy() for key in batches[0]},
    )
