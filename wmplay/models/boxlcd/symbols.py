"""Discrete numbers that a network can choose, with straight-through gradients (Bengio et al. 2013,
arXiv 1308.3432): the codes of frames, and binary pixels."""

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
        """What to choose with, in the shape [..., S] of ``like``; temperature 0: the most likely symbols."""

    @abstractmethod
    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Symbols [..., S] for a network's output [..., S]: sampled, or the most likely without noise."""

    @abstractmethod
    def expected(self, output: Tensor) -> Tensor:
        """The means [..., S] of the symbols that an output stands for."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """[...]: how far outputs [..., S] are from symbols (or their means), averaged over the S."""


class Bits(Symbols):
    """Zeros and ones; an output is a logit."""

    def noise(
        self, like: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Logistic noise: logit + noise > 0 is a sample."""
        uniform = torch.rand(like.shape, device=like.device, generator=generator).clamp(TINY, 1 - TINY)
        return temperature * uniform.logit()

    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Bits; their gradient is that of the probability."""
        output = output.float()
        hard = (output > 0 if noise is None else output + noise > 0).float()
        soft = output.sigmoid()
        return hard + (soft - soft.detach())

    def expected(self, output: Tensor) -> Tensor:
        """Probabilities."""
        return output.float().sigmoid()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, in nats per bit."""
        return F.binary_cross_entropy_with_logits(output.float(), target, reduction="none").mean(-1)


class Levels(Symbols):
    """The numbers -0.75, -0.25, 0.25 and 0.75; an output is squashed by tanh and rounded to the nearest."""

    def noise(
        self, like: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Uniform noise, as wide as the distance between two levels: a value between them goes to either."""
        uniform = torch.rand(like.shape, device=like.device, generator=generator)
        return temperature * (uniform - 0.5) / 2

    def pick(self, output: Tensor, noise: Tensor | None) -> Tensor:
        """Levels; their gradient is that of the squashed output."""
        value = self.expected(output)
        nearest = value.detach() if noise is None else value.detach() + noise
        nearest = ((nearest * 2).floor() / 2 + 0.25).clamp(-0.75, 0.75)
        return nearest + (value - value.detach())

    def expected(self, output: Tensor) -> Tensor:
        """The squashed output itself."""
        return output.float().tanh()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Squared error."""
        return (self.expected(output) - target).square().mean(-1)
