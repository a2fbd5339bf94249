"""A Gaussian latent of a whole video, [B, L, h, w], inferred from pairs of successive frames.

It is a map (L = 1) or a vector (h = w = 1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_LOG_VARIANCE = -5.0  # of the posterior, as in the authors' code


class Evidence(NamedTuple):
    """The sum of the evidence of some pairs of frames, each a Gaussian factor of the posterior."""

    precision: Tensor  # [B, L, h, w], without the prior's
    pull: Tensor  # [B, L, h, w], precision times mean

    def gaussian(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance, each [B, L, h, w], of prior N(0, 1) times all factors."""
        precision = 1 + self.precision
        return self.pull / precision, -precision.log().clamp(max=-SMALLEST_LOG_VARIANCE)

    def kl(self) -> Tensor:
        """Return KL(posterior || prior) of each video, [B] nats."""
        mean, log_variance = self.gaussian()
        return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


class PairEvidence(nn.Module):
    """A network from two successive frames to their factor of the posterior.

    Because the posterior is a product of factors, it is known after any number of frames, before the second
    frame it is the prior, and a belief can take in further frames one at a time.

    Args:
        image: channels of a frame.
        channels: of the hidden layers.
        stride: of the first of two layers; the second halves the picture once more.
        vector: numbers L of the latent, to each of which all places add their evidence; 0 = a map, whose
            numbers have one place each.
    """

    def __init__(self, image: int, channels: int, stride: int, vector: int) -> None:
        super().__init__()
        self.vector = vector
        self.first = nn.Conv2d(2 * image, channels, stride + 3, stride, (stride + 2) // 2)
        self.second = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        self.out = nn.Conv2d(2 * channels, 2 * max(vector, 1), 3, padding=1)

    def forward(self, frames: Tensor) -> Evidence:
        """Return the factors [B, T, L, h, w] of the T pairs in frames [B, T + 1, C, H, W]."""
        pairs = torch.cat([frames[:, :-1], frames[:, 1:]], 2)
        x = F.silu(self.second(F.silu(self.first(pairs.flatten(0, 1)))))
        mean, raw = self.out(x).float().unflatten(0, pairs.shape[:2]).chunk(2, 2)
        precision = F.softplus(raw)
        factors = Evidence(precision, precision * mean)
        return Evidence(*(x.sum((-1, -2), keepdim=True) for x in factors)) if self.vector else factors


def ramp(progress: Tensor, start: float, end: float) -> Tensor:
    """Return 0 until progress ``start``, 1 from ``end``, and a straight line between them."""
    if end <= start:
        return (progress >= start).float()
    return ((progress - start) / (end - start)).clamp(0, 1)


def log_mean_exp(values: Tensor) -> Tensor:
    """Return log mean exp of draws [K, ...] over the first axis: the estimate of a likelihood by importance
    sampling from the prior, whose logarithm is too low on average, by less with more draws (Burda et al.
    2015, arXiv 1509.00519)."""
    return values.logsumexp(0) - torch.tensor(len(values), dtype=values.dtype).log()
