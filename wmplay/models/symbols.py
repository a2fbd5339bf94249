"""Discrete symbols that a network chooses, for the codes of frames and for binary pixels, and codebooks.

Gradients pass straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TINY = 1e-7
RATE, RARE = 0.05, 0.1  # of the running means of a codebook; uses per batch below which a code is revived


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


def gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return noise in the shape [..., C] of logits: the largest logit + noise is a sample of the classes."""
    uniform = torch.rand(like.shape, device=like.device, generator=generator).clamp(1e-20, 1 - TINY)
    return -(-uniform.log()).log()


def pick_class(logits: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return classes [..., C], one-hot, with the gradient of their probabilities: the likeliest, or with
    ``gumbel`` noise a sample."""
    soft = logits.softmax(-1)
    best = (logits if noise is None else logits + noise).argmax(-1)
    hard = F.one_hot(best, logits.shape[-1]).to(soft.dtype)
    return hard + (soft - soft.detach())


class Codebook(nn.Module):
    """The codes of a vector quantiser: an encoder's output stands for the nearest code.

    Each code follows the running mean of the outputs that stand for it (van den Oord et al. 2017, arXiv
    1711.00937, appendix A.1), and a code that is hardly used begins anew at an output.

    Args:
        codes: number C of codes.
        size: numbers D of a code.
    """

    vectors: Tensor  # [C, D]
    used: Tensor  # [C]: running mean of the outputs of a batch that stand for each code

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(codes, size))
        self.register_buffer("used", torch.ones(codes))
        self._noted: list[Any] = []  # of the last loss, for ``follow``: no part of the state

    @torch.no_grad()
    def nearest(self, output: Tensor) -> Tensor:
        """Return the codes [..., C], one-hot, that are nearest to outputs [..., D]."""
        with torch.autocast(output.device.type, enabled=False):
            near = output.float() @ self.vectors.T - self.vectors.square().sum(-1) / 2
        return F.one_hot(near.argmax(-1), len(self.vectors)).float()

    def straight_through(self, output: Tensor, code: Tensor) -> Tensor:
        """Return the vectors [..., D] of codes, one-hot [..., C], with the gradient of outputs [..., D]."""
        return code @ self.vectors + (output - output.detach())

    @torch.no_grad()
    def note(self, output: Tensor, code: Tensor) -> None:
        """Note outputs [N, D] and their codes, one-hot [N, C], for ``follow``."""
        places = output[torch.randint(len(output), (len(self.vectors),), device=output.device)]
        self._noted = [code.sum(0).tolist(), (code.T @ output).tolist(), places.tolist()]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the codes towards the outputs that were noted last, once."""
        if self._noted:
            used, total, places = (self.vectors.new_tensor(noted) for noted in self._noted)
            self._noted = []
            self.used.lerp_(used, RATE)
            rare = self.used < RARE
            step = RATE * (total - used.unsqueeze(1) * self.vectors) / self.used.clamp(min=RARE).unsqueeze(1)
            self.vectors.copy_(torch.where(rare.unsqueeze(1), places, self.vectors + step))
            self.used[rare] = 1
