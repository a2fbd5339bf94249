"""How real do a model's futures look: clips of them before an arbiter, beside real and frozen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from wmplay.contracts import Segment, WorldModel
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.network import FRAMES, Arbiter
from wmplay.evaluation.arbiter.set_distances import likeness
from wmplay.evaluation.clips import Episodes, batches, cut_windows
from wmplay.evaluation.scores import MODEL, REAL, ArbiterScore, Likeness
from wmplay.evaluation.statistics import mean_interval
from wmplay.simulation.rollout import observe, predict

Futures: TypeAlias = Mapping[str, Tensor]  # {"lcd": [W, H, ...] of zeros and ones, "proprio": [W, H, P]}

FROZEN = "copy-last"


@torch.no_grad()
def judge(
    model: WorldModel,
    store: Episodes,
    arbiter: Arbiter,
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 1024,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ArbiterScore:
    """Samples futures of a model under the true actions and has an arbiter compare them with real ones.

    Half of the episodes give the contexts and actions, the other half the real clips to compare with. The
    frames of the futures are cut into clips of five; each window gives horizon // 5 of them. A screen is what
    a player would see of the sampled future: the pixels whose probability is over .5.

    Args:
        model: any world model that predicts what the arbiter judges.
        store: held-out episodes, one window of each.
        arbiter: of the same world.
        context: frames shown before predicting.
        horizon: steps predicted, at least 5.
        clips: in each of the sets; fewer where there are not episodes enough.
        seed: chooses the windows and draws the futures.
        device: where the model is.

    Raises:
        ArbiterError: for what the arbiter cannot judge, and for too few clips.
        WmplayError: if no episode is long enough.
    """
    if horizon < FRAMES:
        raise ArbiterError(f"horizon is {horizon} steps, expected at least {FRAMES}, the frames of a clip")
    windows = cut_windows(store, context, horizon, windows_needed(clips, horizon), seed)
    half = len(windows.action) // 2
    if not half:
        raise ArbiterError(
            "1 episode is long enough, expected many: some to prompt with, others to compare with"
        )
    prompts = cut_windows(store, context, horizon, half, seed)  # the first half of the windows
    generated = sample_futures(model, prompts, context, list(arbiter.shapes), seed, device)
    keys = [key for key in arbiter.shapes if key in windows.observation]
    true = {key: windows.observation[key][:half, context:] for key in keys}
    real = {key: windows.observation[key][half : 2 * half, context:] for key in keys}
    last = {key: windows.observation[key][:half, context - 1 : context] for key in keys}
    frozen = {key: value.expand(true[key].shape) for key, value in last.items()}
    actions = windows.action[:half, context - 1 :]
    return ArbiterScore(
        arbiter=arbiter.name,
        digest=arbiter.digest,
        context=context,
        horizon=horizon,
        clips=half * (horizon // FRAMES),
        episodes=half,
        seed=seed,
        likeness={
            name: compare(arbiter, frames, real, actions)
            for name, frames in ((MODEL, generated), (REAL, true), (FROZEN, frozen))
        },
        chance=None if arbiter.reader is None else float((actions - actions.mean((0, 1))).square().mean()),
    )


def windows_needed(clips: int, horizon: int) -> int:
    """How many windows, each of another episode, give so many clips twice: to prompt and to compare with."""
    return 2 * max(clips // max(horizon // FRAMES, 1), 1)


@torch.no_grad()
def sample_futures(
    model: WorldModel,
    windows: Segment,
    context: int,
    keys: Sequence[str],
    seed: int,
    device: torch.device | str = "cpu",
) -> Futures:
    """One sampled future of each window, as a player sees it: {key: [W, H, ...]} of the keys there are.

    Args:
        model: any world model.
        windows: W windows of context - 1 + H steps.
        context: frames shown before predicting.
        keys: what to look at. Of "lcd" it is the pixels whose probability is over .5.
        seed: draws the futures.
        device: where the model is.
    """
    generator = torch.Generator(device).manual_seed(seed)
    futures: list[dict[str, Tensor]] = []
    for batch in batches(windows, device):
        belief = observe(model, batch, context)
        future = predict(model, belief, batch.action[:, context - 1 :], generator=generator).observation
        futures.append({key: future[key].float().cpu() for key in keys if key in future})
    together = {key: torch.cat([future[key] for future in futures]) for key in futures[0]}
    if "lcd" in together:
        together["lcd"] = together["lcd"] > 0.5
    return together


@torch.no_grad()
def compare(arbiter: Arbiter, futures: Futures, real: Futures, actions: Tensor) -> Likeness:
    """How alike futures and real ones look, clip by clip.

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
