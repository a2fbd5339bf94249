"""The surprise of a model: bits per frame of binary screens, for a model with a likelihood or a bound of it.

One bit less per frame means that a frame was twice as likely, so that these numbers are comparable across
models of any kind, as long as exact numbers are not compared with bounds (which can only be too high).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wmplay.contracts import Array, Surprise, WorldModel, capabilities, seen_by
from wmplay.errors import ShapeError
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.observation_metrics import metric_of
from wmplay.evaluation.scores import SurpriseScore
from wmplay.evaluation.statistics import mean_interval


@torch.no_grad()
def evaluate_surprise(model: WorldModel, clips: ClipSet) -> SurpriseScore | None:
    """Score the bits per frame of a clip's screens after the context, each given all frames before it.

    Args:
        model: any world model; torch's global generator is seeded while it computes.
        clips: held-out; the marginal baseline counts the pixels of their reference frames.

    Returns:
        The score; None for a model without ``surprise``, and for observations without a screen.

    Raises:
        ShapeError: if the model's answer is not [B, T].
    """
    observation, surprise = clips.frames, capabilities(model).surprise
    screens = [key for key, frames in observation.items() if metric_of(frames) == "iou"]
    if surprise is None or not screens:
        return None
    answers: list[Surprise] = []
    with torch.random.fork_rng(devices=[clips.device] if torch.device(clips.device).type == "cuda" else []):
        torch.manual_seed(clips.seed)
        for batch in clips.batches():
            answer = surprise(seen_by(model, batch))
            if answer.nats.shape != batch.mask.shape:
                raise ShapeError(f"{type(model).__name__}.surprise", answer.nats.shape, batch.mask.shape)
            answers.append(answer)
    nats = torch.cat([answer.nats for answer in answers])[:, clips.context - 1 :]

    lit = torch.cat([clips.reference[key].flatten(1) for key in screens], 1) > 0  # [N, pixels]
    frames = torch.cat([observation[key].flatten(2) for key in screens], 2)[:, clips.context - 1 :] > 0
    baselines = {"marginal": marginal_nats(lit, frames[:, 1:]), "copy-last": copy_last_nats(frames)}
    return SurpriseScore(
        answers[0].kind,
        clips=len(clips),
        frames=clips.horizon,
        pixels=frames.shape[-1],
        seed=clips.seed,
        bits=mean_interval(_bits(nats)),
        baselines={name: mean_interval(_bits(each)) for name, each in baselines.items()},
    )


def marginal_nats(lit: Tensor, frames: Tensor) -> Tensor:
    """Return the nats [B, H] of bool frames [B, H, pixels]: pixels, lit as often as in [N, pixels].

    Half a frame of each colour is added to the counts (Krichevsky & Trofimov 1981), so that a pixel that was
    never lit can be.
    """
    probability = (lit.double().sum(0) + 0.5) / (len(lit) + 1)
    return -torch.where(frames, probability.log(), (1 - probability).log()).sum(-1)


def copy_last_nats(frames: Tensor) -> Tensor:
    """Return the nats [B, H] of bool frames [B, 1 + H, pixels], each the previous one with independent flips.

    The probability of a flip is the best one for these very frames: the frequency of flips in them.
    """
    flips = (frames[:, 1:] != frames[:, :-1]).double()
    rate = flips.mean()
    changed = flips.sum(-1)
    return -(torch.xlogy(changed, rate) + torch.xlogy(frames.shape[-1] - changed, 1 - rate))


def _bits(nats: Tensor) -> Array:
    """Return the mean bits per frame of each clip, from nats [B, H]."""
    bits: Array = (nats.double().mean(1) / math.log(2)).cpu().numpy()
    return bits
