"""Probes of a model's features: what they hold, and how well the model predicts them.

They need no picture, so that models are comparable whether they decode anything or not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wmplay.contracts import Latent, WorldModel, capabilities, featured, seen_by
from wmplay.evaluation.clips import ClipSet
from wmplay.evaluation.metrics.actions import flat_frames
from wmplay.evaluation.scores import Curve, FeatureScore, KeyProbe
from wmplay.evaluation.statistics import Interval, jackknife, success_rate
from wmplay.nets.trees import take_rows

RIDGES = (1e-6, 1e-4, 1e-2, 1.0)  # strengths to choose from, as parts of a standardised feature's variance
FOLDS = 5  # a probe is scored on episodes that it was not fitted on
GROUPS = 20  # of episodes, for the jackknife
OBSERVED = 0.99  # part of the decoded observations' variance that observable directions carry
ROUNDING = 1e-5  # an entry of a vector whose standard deviation is below this never varies


class Tracked(NamedTuple):
    """The beliefs of a model about L = 1 + H frames of each clip, from the last frame of the context on."""

    features: Tensor  # [B, L, F]
    latent: Tensor  # [B, L, E] of real frames
    predicted: Tensor  # [B, H, E], from the context and the true actions


@torch.no_grad()
def evaluate_features(
    model: WorldModel, clips: ClipSet, untrained: WorldModel | None = None
) -> FeatureScore | None:
    """Score what the features of a model hold.

    Args:
        model: any world model.
        clips: held-out.
        untrained: a model of the same shape before it learned anything, to compare with.

    Returns:
        The score; None for a model without features, and for a single clip.
    """
    if capabilities(model).features is None or len(clips) < 2:
        return None
    own = _tracked(model, clips)
    before = None if untrained is None else _tracked(untrained, clips)
    keys = {}
    for key, frames in clips.frames.items():
        if frames.is_floating_point() and frames.ndim == 3:
            truth = frames[:, clips.context - 1 :]
            floor = (None, None) if before is None else probe(before.features, truth)
            keys[key] = KeyProbe(*probe(own.features, truth), *floor)
    real, scale = own.latent[:, 1:], own.latent.flatten(0, 1).var(0, correction=0).sum()
    return FeatureScore(
        context=clips.context,
        horizon=clips.horizon,
        clips=len(clips),
        size=own.features.shape[-1],
        seed=clips.seed,
        rank=effective_rank(own.latent.flatten(0, 1)),
        untrained_rank=None if before is None else effective_rank(before.latent.flatten(0, 1)),
        keys=keys,
        error=Curve.over((own.predicted - real).square().sum(-1) / scale),
        copy_last=Curve.over((own.latent[:, :1] - real).square().sum(-1) / scale),
        jumps=_jumps(own),
        untrained_jumps=None if before is None else _jumps(before),
    )


def _tracked(model: WorldModel, clips: ClipSet) -> Tracked:
    trial, embed = featured(model, "the evaluation of features"), capabilities(model).embed
    parts = []
    for batch in clips.batches():
        seen = seen_by(model, batch)
        belief, (rows, steps) = trial.track(seen), batch.action.shape[:2]
        features = trial.features(belief).float().reshape(rows, steps + 1, -1)[:, clips.context - 1 :]
        start = torch.arange(rows, device=batch.action.device) * (steps + 1)
        belief, predicted = take_rows(belief, start + clips.context - 1), []
        for action in torch.split(batch.action[:, clips.context - 1 :], 1, dim=1):
            future = model.predict(belief, action)
            belief = future.belief
            predicted.append(trial.features(belief) if embed is None else _only(future.latent))
        latent = features if embed is None else embed(seen.observation)[:, clips.context - 1 :]
        parts.append(Tracked(features, latent.float(), torch.stack(predicted, 1).float()))
    return Tracked(*(torch.cat(each).double().cpu() for each in zip(*parts, strict=True)))


def _only(latent: Latent) -> Tensor:
    """Return the latent of a single predicted step."""
    assert isinstance(latent, Tensor), "a model with embed predicts tensors"
    return latent[:, 0]


def _jumps(tracked: Tracked) -> Interval:
    """Return the part of clips in which another clip's frame is further from the prediction than the real
    one."""
    guess, real = tracked.predicted[:, 0], tracked.latent[:, 1]
    error = (guess - real).square().sum(-1)
    return success_rate(int(((guess - real.roll(1, 0)).square().sum(-1) > error).sum()), len(real))


def probe(features: Tensor, truth: Tensor) -> tuple[Interval, list[float]]:
    """Return how much of a vector ridge regressions from features explain, in episodes held out from them.

    Args:
        features: [B, L, F] of L frames of B episodes.
        truth: [B, L, D], the vector.

    Returns:
        R2 (1: the vector is a linear function of the features; 0: the mean of the other episodes is as good a
        guess), averaged over the entries that vary, with a jackknife interval over episodes, and R2 of each
        entry, NaN for one that never varies. The strength of the ridge is the best of ``RIDGES``.
    """
    x, y = features.double(), truth.double()
    flat = x.flatten(0, 1)
    spread = flat.std(0, correction=0)
    x = (x - flat.mean(0)) / torch.where(spread > 0, spread, 1.0)
    errors, deviations = _cross_validated(x, y)
    varies = y.flatten(0, 1).std(0, correction=0) > ROUNDING
    if not varies.any():
        return Interval(float("nan"), float("nan"), float("nan")), [float("nan")] * len(varies)
    totals = (errors.sum(1) / deviations.sum(0).clamp(min=1e-300))[:, varies].mean(-1)
    error = errors[int(totals.argmin())]

    def explained(kept: Tensor) -> Tensor:
        return 1 - error[kept].sum(0) / deviations[kept].sum(0).clamp(min=1e-300)

    episodes = torch.arange(len(x))
    groups = min(GROUPS, len(x))
    without = [float(explained(episodes % groups != group)[varies].mean()) for group in range(groups)]
    whole = explained(episodes >= 0)
    r2 = jackknife(float(whole[varies].mean()), torch.tensor(without).numpy())
    return r2, torch.where(varies, whole, torch.nan).tolist()


def _cross_validated(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared errors [R, B, D] of each ridge, and those of the mean [B, D], summed over frames."""
    folds = torch.arange(len(x)) % min(FOLDS, len(x))
    errors = torch.zeros(len(RIDGES), len(x), y.shape[-1], dtype=x.dtype)
    deviations = torch.zeros(len(x), y.shape[-1], dtype=x.dtype)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        inputs, targets = x[~out].flatten(0, 1), y[~out].flatten(0, 1)
        input_mean, target_mean = inputs.mean(0), targets.mean(0)
        inputs, targets = inputs - input_mean, targets - target_mean
        values, axes = torch.linalg.eigh(inputs.T @ inputs)
        projected = axes.T @ (inputs.T @ targets)
        deviations[out] = (y[out] - target_mean).square().sum(1)
        for i, ridge in enumerate(RIDGES):
            weights = axes @ (projected / (values.clamp(min=0) + ridge * len(inputs)).unsqueeze(1))
            guess = (x[out] - input_mean) @ weights + target_mean
            errors[i, out] = (y[out] - guess).square().sum(1)
    return errors, deviations


@torch.no_grad()
def observable_share(model: WorldModel, clips: ClipSet) -> float | None:
    """Return the part of a reward head's gradient that lies in the observable directions of the features.

    Both maps are linearised by ridge regression from standardised features: of real frames to their
    observation, whose strongest directions carry 99% of what it explains, and of predicted beliefs to the
    rewards predicted for them. 1: whatever raises the reward is seen. After arXiv 2607.01736.

    Args:
        model: any world model.
        clips: held-out.

    Returns:
        The share; None of a model without features or without rewards, or whose rewards are all equal.
    """
    if capabilities(model).features is None:
        return None
    trial = featured(model, "the evaluation of rewards")
    real, seen, imagined, rewards = [], [], [], []
    for batch in clips.batches():
        belief, (rows, steps) = trial.track(seen_by(model, batch)), batch.action.shape[:2]
        real.append(trial.features(belief).double())
        frames = batch.modelled().observation
        seen.append(flat_frames(frames, frames).double().flatten(0, 1))
        belief = take_rows(
            belief, torch.arange(rows, device=batch.action.device) * (steps + 1) + clips.context - 1
        )
        for action in torch.split(batch.action[:, clips.context - 1 :], 1, dim=1):
            future = model.predict(belief, action)
            if future.reward is None:
                return None
            belief = future.belief
            imagined.append(trial.features(belief).double())
            rewards.append(future.reward.double())
    x, wanted = torch.cat(real), torch.cat(rewards)
    if wanted.std() < ROUNDING:
        return None
    mean, spread = x.mean(0), x.std(0).clamp(min=ROUNDING)
    decoded = _ridge((x - mean) / spread, torch.cat(seen))
    directions, strengths, _ = torch.linalg.svd(decoded, full_matrices=False)
    carried = strengths.square().cumsum(0) / strengths.square().sum()
    directions = directions[:, : int((carried < OBSERVED).sum()) + 1]
    gradient = _ridge((torch.cat(imagined) - mean) / spread, wanted)
    return float((directions.T @ gradient).square().sum() / gradient.square().sum())


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Return the weights [N, D] that explain y [B, D] by x [B, N], both less their means."""
    x, y = x - x.mean(0), y - y.mean(0)
    penalty = 1e-2 * len(x) * torch.eye(x.shape[-1], dtype=x.dtype)
    found: Tensor = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
    return found


def effective_rank(latent: Tensor) -> float:
    """Return the effective rank of latents [N, E] (RankMe, Garrido et al. 2023, arXiv 2210.02885).

    It is the exponential of the entropy of the singular values, divided by their sum: k for k equally strong
    dimensions, 1 for a constant, 0 for zeros. The mean is not subtracted, so that latents which collapsed to
    a constant, with tiny differences in many directions, have a rank near 1.
    """
    values = torch.linalg.svdvals(latent.double())
    if values[0] == 0:
        return 0.0
    part = values / values.sum()
    return float(torch.exp(-torch.xlogy(part, part).sum()))
