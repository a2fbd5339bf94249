"""How surprised is a model: bits per frame of binary screens, where it has a likelihood or a bound of it.

A bit less per frame is a frame that was twice as likely, so these numbers compare across models of any kind,
as long as exact ones are not held against bounds (which can only be too high).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Array, Surprise, WorldModel
from wmplay.errors import ShapeError
from wmplay.evaluation.clips import Episodes, batches, cut_windows, some_episodes
from wmplay.evaluation.metrics import metric_of, some_frames
from wmplay.evaluation.scores import SurpriseScore
from wmplay.evaluation.statistics import mean_interval


@torch.no_grad()
def evaluate_surprise(
    model: WorldModel,
    store: Episodes,
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 256,
    seed: int = 0,
    reference: Episodes | None = None,
    device: torch.device | str = "cpu",
) -> SurpriseScore | None:
    """Bits per frame of the screens of held-out episodes, each given all frames before it.

    Args:
        model: any world model.
        store: held-out episodes.
        context: frames shown before the first that counts.
        horizon: frames that count.
        clips: windows, at most one of each episode.
        seed: chooses the windows, and seeds torch's global generator while the model draws from it.
        reference: episodes whose pixels the marginal baseline counts; None = the held-out ones.
        device: where the model is.

    Returns:
        None where there is nothing to say: a model without ``surprise``, observations without a screen.

    Raises:
        ShapeError: if the model's answer is not [B, T].
        WmplayError: if no episode is long enough.
    """
    windows = cut_windows(store, context, horizon, clips, seed)
    screens = [key for key, frames in windows.observation.items() if metric_of(frames) == "iou"]
    if not callable(getattr(model, "surprise", None)) or not screens:
        return None
    answers: list[Surprise] = []
    with torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches(windows, device):
            answer: Surprise = model.surprise(batch)  # type: ignore[attr-defined]
            if answer.nats.shape != batch.mask.shape:
                raise ShapeError(f"{type(model).__name__}.surprise", answer.nats.shape, batch.mask.shape)
            answers.append(answer)
    nats = torch.cat([answer.nats for answer in answers])[:, context - 1 :]

    rng = np.random.default_rng(seed)
    counted = some_frames(some_episodes(store if reference is None else reference, clips, rng), screens, rng)
    lit = torch.cat([counted[key].flatten(1) for key in screens], 1) > 0  # [N, pixels]
    frames = torch.cat([windows.observation[key].flatten(2) for key in screens], 2)[:, context - 1 :] > 0
    baselines = {"marginal": marginal_nats(lit, frames[:, 1:]), "copy-last": copy_last_nats(frames)}
    return SurpriseScore(
        answers[0].kind,
        clips=len(nats),
        frames=horizon,
        pixels=frames.shape[-1],
        seed=seed,
        bits=mean_interval(_bits(nats)),
        baselines={name: mean_interval(_bits(each)) for name, each in baselines.items()},
    )


def marginal_nats(lit: Tensor, frames: Tensor) -> Tensor:
    """[B, H] nats of bool frames [B, H, pixels]: independent pixels, as often lit as in lit [N, pixels].

    Half a frame of each colour is added to the counts (Krichevsky & Trofimov 1981), so that a pixel that was
    never lit can be.
    """
    probability = (lit.double().sum(0) + 0.5) / (len(lit) + 1)
    return -torch.where(frames, probability.log(), (1 - probability).log()).sum(-1)


def copy_last_nats(frames: Tensor) -> Tensor:
    """[B, H] nats of bool frames [B, 1 + H, pixels], each the one before with independent flips.

    The chance to flip is the best one for these very frames: how often pixels do.
    """
    flips = (frames[:, 1:] != frames[:, :-1]).double()
    rate = flips.mean()
    changed = flips.sum(-1)
    return -(torch.xlogy(changed, rate) + torch.xlogy(frames.shape[-1] - changed, 1 - rate))


def _bits(nats: Tensor) -> Array:
    """The mean bits per frame of each clip, from nats [B, H]."""
    bits: Array = (nats.double().mean(1) / math.log(2)).cpu().numpy()
    return bits
