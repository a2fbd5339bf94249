"""The network that ``diamond`` and ``shortcut`` share: from noisy screens to one number for each pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.models.next_screen.next_screen import PATCH, of_patches, to_patches
from wmplay.nets.layers import ResidualBlock, mlp

OCTAVES = 3  # of the sines and cosines by which the amount of noise is described


class Denoiser(nn.Module):
    """Residual convolutions over patches of a noisy screen, next to the features of its pixels.

    Args:
        width: channels of those features, and of the convolutions.
        blocks: residual blocks.
        level: L, the numbers that describe the amount of noise.
    """

    def __init__(self, width: int, blocks: int, level: int) -> None:
        super().__init__()
        self.see = nn.Conv2d(width * PATCH**2, width, 1)
        self.stem = nn.Conv2d(PATCH**2, width, 3, padding=1, bias=False)
        self.level = mlp(level, width, 1, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, width) for _ in range(blocks))
        self.out = nn.Conv2d(width, PATCH**2, 1)

    def context(self, pixels: Tensor) -> Tensor:
        """Return the part of the features [R, C, H, W] of pixels, which is the same for all noise."""
        part: Tensor = self.see(to_patches(pixels))
        return part

    def forward(self, context: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        """Return the outputs [R, H, W] float32 for noisy screens [R, H, W].

        Args:
            context: the result of ``context``.
            noisy: in units of about one.
            level: [R, L], in units of about one.
        """
        x = context + self.stem(to_patches(noisy.unsqueeze(1)))
        embedding = self.level(level)
        for block in self.blocks:
            x = block(x, embedding)
        outputs = of_patches(self.out(F.silu(x)), noisy.shape[-2:]).squeeze(1)
        return outputs.float()


def hard(probability: Tensor) -> Tensor:
    """Return the likelier screens of zeros and ones, with the gradient of the probabilities."""
    return (probability > 0.5).float() + (probability - probability.detach())


def first_noise(like: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
    """Return standard noise [R, H, W], times the temperature, for features ``like`` [R, C, H, W]; zeros
    without a generator."""
    shape = like[:, 0].shape
    if generator is None:
        return torch.zeros(shape, device=like.device)
    return temperature * torch.randn(shape, device=like.device, generator=generator)
