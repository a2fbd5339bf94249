"""Actions read from predicted futures, by a network that was fitted to read them from real ones.

A future that ignores its actions may look right; its actions cannot be read (arXiv 2606.09028).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import WorldModel, capabilities
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.futures import likely_futures
from wmplay.evaluation.scores import MODEL, REAL, ActionScore, Curve
from wmplay.simulation import observe, predict

FRAMES = 3  # that an action is read from: velocities are often hidden in two
SIDE = 16  # pixels that images are reduced to
HIDDEN, UPDATES, LOOKS, BATCH, LR = 64, 500, 25, 256, 2e-3


def evaluate_actions(model: WorldModel, clips: ClipSet) -> ActionScore | None:
    """Score how well actions are read from predicted frames, next to real ones.

    The network is fitted on the real frames of the first half of the clips, and reads the second half: the
    last three frames up to the one that an action led to. Of a model with ``embed`` it reads latents, of
    others the predicted vectors, and images where there is no vector.

    Args:
        model: any world model.
        clips: held-out, with a context of two frames or more.

    Returns:
        The score; None of a model that predicts neither, of passive worlds, and for fewer than four clips.
    """
    truth, half = clips.actions, len(clips) // 2
    guess, real = (
        _frames(model, clips) if half > 1 and clips.context > 1 and truth[0].numel() else (None, None)
    )
    if guess is None or real is None:
        return None
    seen = real[:, : clips.context]
    windows = {
        REAL: _windows(real, clips.horizon),
        MODEL: _windows(torch.cat([seen, guess], 1), clips.horizon),
    }
    discrete = not truth.is_floating_point()
    targets = truth if discrete else (truth - truth.mean((0, 1))) / truth.std((0, 1)).clamp(min=1e-6)
    reader = _fitted(windows[REAL][:half], targets[:half], clips.seed)
    curves = {
        name: Curve.over(_errors(reader(each[half:]).detach(), targets[half:]))
        for name, each in windows.items()
    }
    return ActionScore(clips.context, clips.horizon, len(clips) - half, clips.seed, discrete, curves)


@torch.no_grad()
def _frames(model: WorldModel, clips: ClipSet) -> tuple[Tensor | None, Tensor | None]:
    """Return predicted frames [B, H, E] and all real ones [B, context + H, E]; None without any."""
    embed = capabilities(model).embed
    guesses, real = [], []
    for guess, seen in _embedded(model, clips) if embed is not None else _observed(model, clips):
        guesses.append(guess.float().cpu())
        real.append(seen.float().cpu())
    if not guesses:
        return None, None
    return torch.cat(guesses), torch.cat(real)


def _embedded(model: WorldModel, clips: ClipSet) -> Iterator[tuple[Tensor, Tensor]]:
    embed = capabilities(model).embed
    assert embed is not None
    for batch in clips.batches():
        belief = observe(model, batch, clips.context)
        latent = predict(model, belief, batch.action[:, clips.context - 1 :]).latent
        assert isinstance(latent, Tensor), "a model with embed predicts tensors"
        yield latent, embed(batch.modelled().observation)


def _observed(model: WorldModel, clips: ClipSet) -> Iterator[tuple[Tensor, Tensor]]:
    for batch, future in likely_futures(model, clips):
        if future:
            keys = [key for key in future if future[key].ndim == 3] or list(future)
            yield flat_frames(future, keys), flat_frames(batch.observation, keys)


def flat_frames(frames: Mapping[str, Tensor], keys: Iterable[str]) -> Tensor:
    """Return the keys' values [B, L, E] as numbers, images reduced and scaled to 0 .. 1."""
    parts = []
    for key in keys:
        x = frames[key]
        if x.ndim > 3:
            last = x.ndim > 4  # with channels at the end
            pixels = (x.movedim(-1, 2) if last else x.unsqueeze(2)).float()
            height, width = pixels.shape[-2:]
            small = min(SIDE, height), min(SIDE, width)
            x = F.adaptive_avg_pool2d(pixels.flatten(0, 1), small).reshape(*x.shape[:2], -1)
            x = x / (255 if last else 1)
        parts.append(x.float())
    return torch.cat(parts, -1)


def _windows(frames: Tensor, horizon: int) -> Tensor:
    """Return the three frames [B, H, 3 E] that end with each of the last H of [B, L, E].

    The oldest frame is repeated where the context has two.
    """
    padded = torch.cat([frames[:, :1], frames], 1)
    return torch.cat([padded[:, -horizon - back :][:, :horizon] for back in range(FRAMES)], -1)


def _fitted(inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
    """Return a network that reads targets from inputs [B, H, N]; its draws follow from the seed.

    It is that of the updates which reads every fourth clip best, on which it is not fitted.
    """
    kept = torch.arange(len(inputs)) % 4 == 3
    x, y = inputs[~kept].flatten(0, 1), targets[~kept].flatten(0, 1)
    discrete = not targets.is_floating_point()
    outputs = int(targets.max()) + 1 if discrete else y.shape[-1]
    best, least = None, float("inf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(HIDDEN, outputs)
        nn.init.zeros_(last.weight)
        reader = nn.Sequential(Standardised(x), nn.Linear(x.shape[-1], HIDDEN), nn.SiLU(), last)
        optimizer = torch.optim.AdamW(reader.parameters(), lr=LR, weight_decay=1e-2)
        for update in range(UPDATES):
            if update % LOOKS == 0:
                with torch.no_grad():
                    error = float(_errors(reader(inputs[kept]), targets[kept]).mean())
                if error < least:
                    best, least = deepcopy(reader), error
            rows = torch.randint(len(x), (BATCH,))
            guess = reader(x[rows])
            loss = F.cross_entropy(guess, y[rows]) if discrete else F.mse_loss(guess, y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return reader if best is None else best


class Standardised(nn.Module):
    """Inputs minus their mean, divided by their standard deviation, and kept within five of these."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.mean, self.scale = x.mean(0), x.std(0).clamp(min=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised inputs."""
        return ((x - self.mean) / self.scale).clamp(-5, 5)


def _errors(guess: Tensor, truth: Tensor) -> Tensor:
    """Return errors [B, H]: 1 for a wrong class, or the mean squared error of standardised actions."""
    if not truth.is_floating_point():
        return (guess.argmax(-1) != truth).float()
    return (guess - truth).square().mean(-1)
