"""A conditional Glow (Kingma and Dhariwal 2018, arXiv 1807.03039): an invertible map between screens and
noise, whose log-determinant is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.agents.distributions import HALF_LOG_TAU

Noise = Callable[[Tensor], Tensor]  # standard noise in the shape of a tensor


class FlowStep(nn.Module):
    """A scale and shift of each channel, a 1 x 1 convolution by its LU parts, and an affine coupling.

    At first all three are the identity, but for the order of the channels, so that no batch of data is needed
    to begin.

    Args:
        channels: C, even.
        context: channels of the context.
        hidden: channels of the hidden layers of the coupling.
    """

    order: Tensor  # [C]: the channels as they are permuted

    def __init__(self, channels: int, context: int, hidden: int) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.lower, self.upper = (nn.Parameter(torch.zeros(channels, channels)) for _ in range(2))
        self.diagonal = nn.Parameter(torch.zeros(channels))  # logarithms
        self.register_buffer("order", torch.randperm(channels))
        self.moving = channels // 2
        self.net = nn.Sequential(
            nn.Conv2d(channels - self.moving + context, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, 2 * self.moving, 3, padding=1),
        )
        for weight in self.net[-1].parameters():
            nn.init.zeros_(weight)

    def mixed(self) -> Tensor:
        """Return the matrix [C, C] of the 1 x 1 convolution, whose log-determinant is the sum of
        ``diagonal``, but for the sign."""
        lower, upper = self._factors()
        return (lower @ upper)[self.order]

    def unmixed(self) -> Tensor:
        """Return the inverse of ``mixed``."""
        lower, upper = self._factors()
        back = torch.eye(len(self.order), device=lower.device)[:, self.order]
        solved = torch.linalg.solve_triangular(lower, back, upper=False, unitriangular=True)
        inverse: Tensor = torch.linalg.solve_triangular(upper, solved, upper=True)
        return inverse

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper triangle, each [C, C]."""
        one = torch.eye(len(self.diagonal), device=self.diagonal.device)
        return self.lower.tril(-1) + one, self.upper.triu(1) + self.diagonal.exp().diag()

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image [R, C, h, w] of x, and the log-determinant [R]."""
        with torch.autocast(x.device.type, enabled=False):  # in a lower precision it has no inverse
            x = x * self.scale.exp()[:, None, None] + self.shift[:, None, None]
            x = F.conv2d(x, self.mixed()[..., None, None])
        moved, kept = x.tensor_split([self.moving], 1)
        shift, log = self._coupling(kept, context)
        everywhere = (self.scale.sum() + self.diagonal.sum()) * x.shape[-1] * x.shape[-2]
        return torch.cat([moved * log.exp() + shift, kept], 1), everywhere + log.flatten(1).sum(1)

    def inverse(self, y: Tensor, context: Tensor) -> Tensor:
        """Return the x whose image is y."""
        moved, kept = y.tensor_split([self.moving], 1)
        shift, log = self._coupling(kept, context)
        x = torch.cat([(moved - shift) * (-log).exp(), kept], 1)
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv2d(x, self.unmixed()[..., None, None])
            return (x - self.shift[:, None, None]) * (-self.scale).exp()[:, None, None]

    def _coupling(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift and the logarithm of the scale, within -1 and 1, of the channels that move."""
        shift, raw = self.net(torch.cat([kept, context], 1)).float().chunk(2, 1)
        return shift, raw.tanh()


class Steps(nn.ModuleList):
    """Flow steps one after the other, at one scale."""

    def forward(self, x: Tensor, context: Tensor, backwards: bool = False) -> tuple[Tensor, Tensor]:
        """Return the image of x after all steps and the log-determinant [R]; or, backwards, the x with that
        image, and nothing."""
        total = x.new_zeros(len(x))
        for number in reversed(range(len(self))) if backwards else range(len(self)):
            step = self[number]
            assert isinstance(step, FlowStep)
            if backwards:
                x = step.inverse(x, context)
            else:
                x, change = step(x, context)
                total = total + change
        return x, total


class Flow(nn.Module):
    """Flow steps at a few scales; at each but the last, half of the channels become noise.

    Args:
        context: channels of the features of each pixel.
        levels: number of scales, each of half the size of the one before.
        steps: at each scale.
        hidden: channels of all hidden layers.
    """

    def __init__(self, context: int, levels: int, steps: int, hidden: int) -> None:
        super().__init__()
        self.levels = levels
        self.contexts, self.steps, self.priors = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels, before = 4, context
        for level in range(levels):
            self.contexts.append(nn.Conv2d(before, hidden, 2, 2))
            self.steps.append(Steps(FlowStep(channels, hidden, hidden) for _ in range(steps)))
            out = channels if level == levels - 1 else channels // 2
            prior = nn.Conv2d(hidden + channels - out, 2 * out, 3, padding=1)
            for weight in prior.parameters():
                nn.init.zeros_(weight)
            self.priors.append(prior)
            channels, before = 4 * (channels - out), hidden

    def log_density(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Return the log density [R] of screens [R, H, W], given the features [R, C, H, W] of their pixels.

        H and W are multiples of 2^levels.
        """
        total, x = torch.zeros(len(x), device=x.device), x.unsqueeze(1)
        for level, context in enumerate(self._contexts(pixels)):
            x = F.pixel_unshuffle(x, 2)
            x, change = self.steps[level](x, context)
            total = total + change
            out, x = self._split(level, x)
            mean, log = self._prior(level, x, context)
            normal = -0.5 * ((out - mean) * (-log).exp()).square() - log - HALF_LOG_TAU
            total = total + normal.flatten(1).sum(1)
        return total

    def draw(self, pixels: Tensor, noise: Noise) -> Tensor:
        """Return the screens [R, H, W] that noise becomes, from the smallest scale to the largest."""
        contexts = self._contexts(pixels)
        x = contexts[-1][:, :0]
        for level in reversed(range(self.levels)):
            mean, log = self._prior(level, x, contexts[level])
            x = torch.cat([mean + log.exp() * noise(mean), x], 1)
            x = F.pixel_shuffle(self.steps[level](x, contexts[level], backwards=True)[0], 2)
        return x.squeeze(1)

    def _contexts(self, pixels: Tensor) -> list[Tensor]:
        found = [pixels]
        for layer in self.contexts:
            found.append(layer(F.silu(found[-1])))
        return found[1:]

    def _split(self, level: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels that become noise, and those that go on."""
        out = x.shape[1] if level == self.levels - 1 else x.shape[1] // 2
        return x[:, :out], x[:, out:]

    def _prior(self, level: int, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and the logarithms of the widths of the channels that are noise."""
        mean, log = self.priors[level](torch.cat([context, kept], 1)).float().chunk(2, 1)
        return mean, log
