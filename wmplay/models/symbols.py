"""Discrete symbols that a network chooses, for the codes of frames and for binary pixels.

Gradients pass straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-7


class Symbols(ABC):
    """``size`` symbols of one kind, each chosen by one output of a network."""

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def noise(
        self, like: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Return noise to choose with, in the shape [..., S] of ``like``; temperature 0 gives the likeliest
        symbols."""

    @abstractmethod
    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Return symbols [..., S] for a network's output [..., S]: sampled, or the likeliest without
        noise."""

    @abstractmethod
    def expected(self, output: Tensor) -> Tensor:
        """Return the means [..., S] of the symbols under an output."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss [...] of outputs [..., S] for symbols (or their means), averaged over the S."""


class Bits(Symbols):
    """Zeros and ones; an output is a logit."""

    def noise(
        self, like: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Return logistic noise: logit + noise > 0 is a sample."""
        uniform = torch.rand(like.shape, device=like.device, generator=generator).clamp(TINY, 1 - TINY)
        return temperature * uniform.logit()

    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Return bits with the gradient of the probability."""
        output = output.float()
        hard = (output > 0 if noise is None else output + noise > 0).float()
        soft = output.sigmoid()
        return hard + (soft - soft.detach())

    def expected(self, output: Tensor) -> Tensor:
        """Return probabilities."""
        return output.float().sigmoid()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy, in nats per bit."""
        return F.binary_cross_entropy_with_logits(output.float(), target, reduction="none").mean(-1)


class Levels(Symbols):
    """The numbers -0.75, -0.25, 0.25 and 0.75; an output is squashed by tanh and rounded to the nearest."""

    def noise(
        self, like: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Return uniform noise as wide as the distance of two levels: a value between two can become
        either."""
        uniform = torch.rand(like.shape, device=like.device, generator=generator)
        return temperature * (uniform - 0.5) / 2

    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Return levels with the gradient of the squashed output."""
        value = self.expected(output)
        nearest = value.detach() if noise is None else value.detach() + noise
        nearest = ((nearest * 2).floor() / 2 + 0.25).clamp(-0.75, 0.75)
        return nearest + (value - value.detach())

    def expected(self, output: Tensor) -> Tensor:
        """Return the squashed output."""
        return output.float().tanh()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the squared error."""
        return (self.expected(output) - target).square().mean(-1)
