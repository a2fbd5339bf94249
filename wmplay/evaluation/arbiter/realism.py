"""The realism of a model's futures: an arbiter compares them, and frozen ones, with real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.network import FRAMES, Arbiter
from wmplay.evaluation.arbiter.set_distances import likeness
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import sample_futures
from wmplay.evaluation.scores import MODEL, REAL, ArbiterScore, Likeness
from wmplay.evaluation.statistics import mean_interval

Futures: TypeAlias = Mapping[str, Tensor]  # {"lcd": [W, H, ...] of zeros and ones, "proprio": [W, H, P]}

FROZEN = "copy-last"


@torch.no_grad()
def judge(model: WorldModel, clips: ClipSet, arbiter: Arbiter) -> ArbiterScore:
    """Sample futures of a model under the true actions and have an arbiter compare them with real ones.

    The first half of the clips gives the contexts and actions, the second half the real futures to compare
    with. Futures are cut into short clips of five frames, horizon // 5 of each. On a screen those pixels are
    lit whose probability is over .5.

    Args:
        model: any world model that predicts what the arbiter judges.
        clips: held-out, of at least 5 steps to predict (see ``clips_needed``).
        arbiter: of the same world.

    Raises:
        ArbiterError: for what the arbiter cannot judge, and for too few clips.
    """
    if clips.horizon < FRAMES:
        raise ArbiterError(
            f"horizon is {clips.horizon} steps",
            got=clips.horizon,
            expected=f"at least {FRAMES}, the frames of a clip",
        )
    half = len(clips) // 2
    if not half:
        raise ArbiterError(
            "1 episode is long enough", got=1, expected="many: some to prompt with, others to compare with"
        )
    prompts = clips.first(half)
    keys = [key for key in arbiter.shapes if key in clips.truth]
    real = {key: clips.truth[key][half : 2 * half] for key in keys}
    true = {key: prompts.truth[key] for key in keys}
    last = {key: prompts.segment.observation[key][:, clips.context - 1, None] for key in keys}
    sets = {
        MODEL: _as_seen(model, prompts, keys),
        REAL: true,
        FROZEN: {key: value.expand(true[key].shape) for key, value in last.items()},
    }
    actions = prompts.actions
    return ArbiterScore(
        arbiter=arbiter.name,
        digest=arbiter.digest,
        context=clips.context,
        horizon=clips.horizon,
        clips=half * (clips.horizon // FRAMES),
        episodes=half,
        seed=clips.seed,
        likeness={name: compare(arbiter, frames, real, actions) for name, frames in sets.items()},
        chance=None if arbiter.reader is None else float((actions - actions.mean((0, 1))).square().mean()),
    )


def clips_needed(short_clips: int, horizon: int) -> int:
    """Return the number of clips whose futures hold the short ones of two sets: to prompt, to compare."""
    return 2 * max(short_clips // max(horizon // FRAMES, 1), 1)


def _as_seen(model: WorldModel, clips: ClipSet, keys: Sequence[str]) -> Futures:
    """Return one sampled future of each clip as a player sees it, of the keys that the model predicts."""
    batches = [
        {key: future[key][:, 0].float().cpu() for key in keys if key in future}
        for _, future in sample_futures(model, clips)
    ]
    found = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    return {key: value > 0.5 if key == "lcd" else value for key, value in found.items()}


@torch.no_grad()
def compare(arbiter: Arbiter, futures: Futures, real: Futures, actions: Tensor) -> Likeness:
    """Return how alike futures and real ones look, in short clips of five frames.

    Args:
        arbiter: of their world.
        futures: {"lcd": [W, H, ...] of zeros and ones, "proprio": [W, H, P]}.
        real: as many, of other episodes.
        actions: [W, H, A], those that led *to* each frame of the futures.

    Raises:
        ArbiterError: for what the arbiter cannot judge, and for too few clips.
    """
    windows, count = len(actions), actions.shape[1] // FRAMES

    def clips(frames: Tensor) -> Tensor:
        return frames[:, : count * FRAMES].reshape(windows * count, FRAMES, *frames.shape[2:])

    def latents(frames: Futures) -> Tensor:
        latent: Tensor = arbiter({key: clips(value) for key, value in frames.items()})
        return latent

    ours, theirs = latents(futures), latents(real)
    if not ours.isfinite().all():
        raise ArbiterError("the futures hold numbers that are not finite: has the model diverged?")
    numbers = likeness(*(latent.reshape(windows, count, -1).numpy() for latent in (theirs, ours)))
    read = arbiter.read_actions(ours)
    error = None
    if read is not None:
        errors = (read - clips(actions)[:, 1:]).square().reshape(windows, -1).mean(1)
        error = mean_interval(errors.numpy())
    return Likeness(numbers.pop("frechet"), numbers, error)
