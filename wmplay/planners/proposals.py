"""Distributions over action sequences that planners draw candidates from, for all rows at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium as gym
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.nn import functional as F

from wmplay.nets.actions import ActionEncoder, action_bounds

TAIL = 2.0  # standard deviations


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians over bounded actions."""

    mean: Tensor  # [B, K, A]
    std: Tensor  # [B, K, A]
    low: Tensor  # [K, A]: clipping by [A] is five times slower
    high: Tensor  # [K, A]
    min_std: Tensor  # [K, A]
    truncated: bool = False  # cut off at TAIL standard deviations, and narrowed near the bounds

    def sample(self, number: int, generator: torch.Generator | None, beta: float = 0.0) -> Tensor:
        """Draw [B, N, K, A], clipped to the bounds; candidate 0 is the mean itself.

        ``beta`` is the exponent of the noise's spectrum over the steps K, see ``coloured_noise``.
        """
        batch, knots, actions = self.mean.shape
        std = self.std
        if self.truncated:
            drawn = truncated_noise((batch, number, knots, actions), generator, self.mean.device)
            std = torch.minimum(std, torch.minimum(self.mean - self.low, self.high - self.mean) / TAIL)
        elif beta:
            shape = (batch, number, actions, knots)
            drawn = coloured_noise(shape, beta, generator, self.mean.device).transpose(2, 3).contiguous()
        else:
            drawn = torch.randn(batch, number, knots, actions, device=self.mean.device, generator=generator)
        drawn.select(1, 0).zero_()
        # in place, because allocating memory at each step costs more than the arithmetic
        torch.addcmul(self.mean.unsqueeze(1), std.unsqueeze(1), drawn, out=drawn)
        return drawn.clamp_(self.low, self.high)

    def fit(self, elites: Tensor, weights: Tensor | None = None, widths: bool = True) -> Gaussian:
        """Return the Gaussian fitted to elites [B, E, K, A], with weights [B, E] that sum to 1 if given.

        Without ``widths`` the standard deviations remain.
        """
        if weights is None:
            std, mean = torch.std_mean(elites, dim=1, correction=0)
        else:
            each = weights[..., None, None]
            mean = (each * elites).sum(1)
            std = (each * (elites - mean.unsqueeze(1)).square_()).sum(1).sqrt_() if widths else self.std
        return replace(self, mean=mean, std=torch.maximum(std, self.min_std) if widths else self.std)

    def blend(self, old: Gaussian, momentum: float) -> Gaussian:
        """Return this Gaussian with a part ``momentum`` of the old one's mean and standard deviation."""
        if not momentum:
            return self
        return replace(self, mean=self.mean.lerp(old.mean, momentum), std=self.std.lerp(old.std, momentum))

    def middle(self) -> Tensor:
        """Return the mean actions [B, K, A]."""
        return self.mean

    def spread(self) -> Tensor:
        """Return the widths [B, A] of the first action."""
        return self.std[:, 0]


@dataclass(frozen=True)
class Categorical:
    """Independent categorical actions."""

    probabilities: Tensor  # [B, K, C]
    smoothing: float

    def sample(self, number: int, generator: torch.Generator | None, beta: float = 0.0) -> Tensor:
        """Draw [B, N, K] int64, each step by itself; candidate 0 is the most likely action of each step."""
        batch, knots, classes = self.probabilities.shape
        flat = self.probabilities.reshape(batch * knots, classes)
        drawn = torch.multinomial(flat, number, replacement=True, generator=generator)
        drawn = drawn.reshape(batch, knots, number).transpose(1, 2).contiguous()
        drawn[:, 0] = self.middle()
        return drawn

    def fit(self, elites: Tensor, weights: Tensor | None = None, widths: bool = True) -> Categorical:
        """Return the frequencies of elites [B, E, K], mixed with a part of the uniform distribution.

        Categorical actions have no ``widths``.
        """
        classes = self.probabilities.shape[-1]
        chosen = F.one_hot(elites, classes).float()
        frequencies = chosen.mean(1) if weights is None else (weights[..., None, None] * chosen).sum(1)
        return replace(self, probabilities=(1 - self.smoothing) * frequencies + self.smoothing / classes)

    def blend(self, old: Categorical, momentum: float) -> Categorical:
        """Return this distribution with a part ``momentum`` of the old one."""
        mixed = momentum * old.probabilities + (1 - momentum) * self.probabilities
        return replace(self, probabilities=mixed)

    def middle(self) -> Tensor:
        """Return the most likely actions [B, K] int64."""
        return self.probabilities.argmax(-1)

    def spread(self) -> Tensor:
        """Return the probabilities [B, C] of the first action."""
        return self.probabilities[:, 0]


class Proposals:
    """The first distributions of a search, for one action space.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        std: first standard deviation of continuous actions, in half-ranges of the space.
        min_std: their smallest standard deviation, in half-ranges of the space.
        smoothing: part of a uniform distribution kept in the distribution of discrete actions.
        truncated: see ``Gaussian``.

    Raises:
        SpaceError: for other spaces.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        std: float,
        min_std: float,
        smoothing: float,
        truncated: bool = False,
    ) -> None:
        self.std, self.min_std, self.smoothing, self.truncated = std, min_std, smoothing, truncated
        self.classes = ActionEncoder(action_space).size if isinstance(action_space, Discrete) else None
        self.bounds = action_bounds(action_space) if self.classes is None else None

    def start(
        self, batch: int, knots: int, warm_start: Tensor | None, device: torch.device
    ) -> Gaussian | Categorical:
        """Return the first distribution: around the warm start [B, K, ...], or over the whole space."""
        if self.classes is not None:
            uniform = torch.full((batch, knots, self.classes), 1 / self.classes, device=device)
            if warm_start is None:
                return Categorical(uniform, self.smoothing)
            return Categorical((uniform + F.one_hot(warm_start, self.classes)) / 2, self.smoothing)
        assert self.bounds is not None
        low, high = (bound.to(device).repeat(knots, 1) for bound in self.bounds)
        middle, half_range = (high + low) / 2, (high - low) / 2
        mean = middle.expand(batch, -1, -1) if warm_start is None else warm_start
        std = (self.std * half_range).expand(batch, -1, -1)
        return Gaussian(mean, std, low, high, self.min_std * half_range, self.truncated)


def truncated_noise(
    shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw standard normal noise, given that it is within TAIL; its standard deviation is 0.8796."""
    most = math.erf(TAIL / math.sqrt(2))
    drawn = torch.rand(shape, generator=generator, device=device).mul_(2 * most).sub_(most)
    return drawn.erfinv_().mul_(math.sqrt(2))


def coloured_noise(
    shape: tuple[int, ...], beta: float, generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw noise [..., K] of unit variance whose power falls with frequency f as f^-beta, over the last axis.

    Timmer and Koenig 1995: independent Gaussian Fourier coefficients. The lowest frequency is 1 / K, so that
    a constant offset is as strong as the slowest wave.
    """
    steps = shape[-1]
    widths = _coefficient_widths(steps, beta, torch.device(device))
    parts = torch.randn(*shape[:-1], len(widths), 2, generator=generator, device=device).mul_(widths)
    noise: Tensor = torch.fft.irfft(torch.view_as_complex(parts), n=steps)
    return noise


@lru_cache(maxsize=16)  # a search asks for the same ones in each round
def _coefficient_widths(steps: int, beta: float, device: torch.device) -> Tensor:
    """Return the standard deviations [K // 2 + 1, 2] of real and imaginary parts of Fourier coefficients."""
    frequency = torch.fft.rfftfreq(steps, device=device)
    amplitude = frequency.clamp(min=1 / steps) ** (-beta / 2)
    power = 4 * amplitude.square()  # of a coefficient and its conjugate, in units of 1 / K^2
    alone = [0, len(frequency) - 1] if steps % 2 == 0 else [0]  # coefficients that are their own conjugates
    power[alone] /= 2
    widths = torch.stack([amplitude, amplitude], 1)  # of the real and the imaginary part
    widths[alone] *= torch.tensor([math.sqrt(2), 0], device=device)
    widths *= steps / power.sum().sqrt()
    return widths
