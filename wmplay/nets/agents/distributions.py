"""Distributions over actions, in the units of the action space: implementations of ``Actions``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
REACH, NODES = 6.0, 49  # of the quadrature of an entropy: widths to either side, and points
INSIDE = 1 - 1e-6  # largest squashed value: float32 has no wide value for more


class Normal(ABC):
    """Gaussians between bounds: [B, A] means and widths in half-ranges, around the middle of the range.

    Args:
        mean: [B, A].
        sigma: [B, A], widths.
        low: [A], bounds of the action space.
        high: [A].
    """

    logits: Tensor | None = None

    def __init__(self, mean: Tensor, sigma: Tensor, low: Tensor, high: Tensor) -> None:
        self.mean, self.sigma = mean, sigma
        self.low, self.high = low, high
        self.center, self.scale = (low + high) / 2, (high - low) / 2

    def mode(self) -> Tensor:
        """Return the actions [B, A] of the means."""
        return self._action(self.mean)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw actions [B, A], reparametrised."""
        return self._action(self._wide(generator))

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log densities [B] of actions [B, A]."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Return the entropies [B]."""

    @abstractmethod
    def _action(self, wide: Tensor) -> Tensor:
        """Return the actions of Gaussian values [B, A]."""

    def _wide(self, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.sigma * noise

    def _log_gaussian(self, wide: Tensor) -> Tensor:
        """Return the log densities [B, A] of Gaussian values, by action units."""
        standard = (wide - self.mean) / self.sigma
        return -0.5 * standard.square() - (self.sigma * self.scale).log() - HALF_LOG_TAU


class SquashedNormal(Normal):
    """Gaussians squashed by tanh into the bounds (SAC, arXiv 1812.05905, appendix C; TD-MPC2, Dreamer v1).

    Means and widths are those before squashing.
    """

    def drawn(self, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw actions [B, A] and return their log densities [B], which are exact near the bounds too."""
        wide = self._wide(generator)
        return self._action(wide), self._log_density(wide)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log densities [B] of actions [B, A]; within 1e-6 of a bound, those at that distance."""
        squashed = (action - self.center) / self.scale
        return self._log_density(squashed.clamp(-INSIDE, INSIDE).atanh())

    def entropy(self) -> Tensor:
        """Return the entropies [B]; the part of the squashing is a sum over points of the Gaussian."""
        points = torch.linspace(-REACH, REACH, NODES, device=self.mean.device, dtype=self.mean.dtype)
        weights = (-0.5 * points.square()).softmax(-1)
        wide = self.mean.unsqueeze(-1) + self.sigma.unsqueeze(-1) * points
        slope = (_log_slope(wide) * weights).sum(-1)
        return ((self.sigma * self.scale).log() + HALF_LOG_TAU + 0.5 + slope).sum(-1)

    def _action(self, wide: Tensor) -> Tensor:
        return self.center + self.scale * wide.tanh()

    def _log_density(self, wide: Tensor) -> Tensor:
        return (self._log_gaussian(wide) - _log_slope(wide)).sum(-1)


class BoundedNormal(Normal):
    """Gaussians clipped to the bounds, as the envs clip them (DreamerV3, arXiv 2301.04104).

    All that is drawn outside the bounds becomes the bound, whose log-likelihood is that of the whole tail
    (Fujita and Maeda 2018, arXiv 1802.07564): the gradient of log-likelihoods has the same mean as
    DreamerV3's, which takes the density of the value before clipping, and varies less.
    """

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log densities [B] of actions [B, A]; of a bound, its log probability."""
        inside = self._log_gaussian((action - self.center) / self.scale)
        below = torch.special.log_ndtr((-1 - self.mean) / self.sigma)
        above = torch.special.log_ndtr((self.mean - 1) / self.sigma)
        values = torch.where(action <= self.low, below, torch.where(action >= self.high, above, inside))
        return values.sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropies [B] before clipping, as DreamerV3 does."""
        return ((self.sigma * self.scale).log() + HALF_LOG_TAU + 0.5).sum(-1)

    def _action(self, wide: Tensor) -> Tensor:
        return torch.clamp(self.center + self.scale * wide, self.low, self.high)


class Categorical:
    """Discrete actions 0 to C - 1.

    Args:
        logits: [B, C].
        unimix: part of a uniform distribution that is mixed in (DreamerV3).
    """

    logits: Tensor | None  # [B, C]: log probabilities

    def __init__(self, logits: Tensor, unimix: float = 0.0) -> None:
        logs = logits.log_softmax(-1)
        self.logs = ((1 - unimix) * logs.exp() + unimix / logs.shape[-1]).log() if unimix else logs
        self.logits = self.logs

    def mode(self) -> Tensor:
        """Return the most likely actions [B] int64."""
        return self.logs.argmax(-1)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw actions [B] int64."""
        return torch.multinomial(self.logs.exp(), 1, generator=generator).squeeze(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log probabilities [B] of actions [B] int64."""
        return self.logs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return the entropies [B]."""
        return -(self.logs.exp() * self.logs).sum(-1)

    def straight_through(self, action: Tensor) -> Tensor:
        """Return actions [B] as one-hot [B, C], with the gradient of the probabilities (DreamerV2)."""
        probabilities = self.logs.exp()
        hard = F.one_hot(action, self.logs.shape[-1]).to(probabilities.dtype)
        return hard + probabilities - probabilities.detach()


def _log_slope(wide: Tensor) -> Tensor:
    """Return log(1 - tanh^2), without cancellation."""
    return 2 * (math.log(2) - wide - F.softplus(-2 * wide))
