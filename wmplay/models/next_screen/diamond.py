"""DIAMOND (Alonso et al. 2024, arXiv 2405.12399): the next screen by diffusion, in a few steps.

A screen x, of -1/2 and 1/2, is noised to x + sigma e; the denoiser D estimates x from it (Karras et al. 2022,
arXiv 2206.00364, table 1):

    D(y, sigma) = c_skip y + c_out F(c_in y, log sigma / 4)

A draw follows D from noise of the largest sigma to none, by Euler steps. Few steps lose spread: data of width
.5 comes out at .25 after 3 steps, and at .41 after 10, by an ideal D. The authors add noise that all pixels
share, against drifting colours; a binary screen has none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.errors import check_values
from wmplay.models.next_screen.denoiser import OCTAVES, Denoiser, first_noise, hard
from wmplay.models.next_screen.next_screen import NextScreen
from wmplay.nets.layers import fourier_features

DATA = 0.5  # standard deviation of the data
SMALLEST, RHO = 0.002, 7.0  # the last sigma before 0; the power by which sigmas are spaced
LOG_MEAN, LOG_SIGMA, RANGE = -0.4, 1.2, (0.002, 20.0)  # of the sigmas of the training


class Diamond(NextScreen):
    """A screen that is drawn by diffusion.

    Args:
        denoiser_blocks: residual blocks of the denoiser.
        steps: of a draw.
        largest: sigma of the first step.
        start: width of the noise that a draw begins with; the authors' code begins with 1 instead of
            ``largest``, for less drift, and so loses spread.
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 4,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        denoiser_blocks: int = 2,
        steps: int = 3,
        largest: float = 5.0,
        start: float = 5.0,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, action_space, *sizes)
        counts = {"denoiser_blocks": denoiser_blocks, "steps": steps}
        check_values(
            "diamond", at_least_one=counts, positive={"largest": largest}, not_negative={"start": start}
        )
        self.sigmas, self.start = schedule(steps, largest), start
        self.denoiser = Denoiser(width, denoiser_blocks, 1 + 2 * OCTAVES)

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return screens drawn from noise, or from its middle without a generator, and their pixels before
        they were rounded."""
        context = self.denoiser.context(pixels)

        def denoise(noisy: Tensor, sigma: float) -> Tensor:
            width = noisy.new_full((len(noisy), 1, 1), sigma)
            return self.denoise(context, noisy, width).clamp(-DATA, DATA)

        noise = self.start * first_noise(pixels, generator, temperature)
        probability = DATA + euler(denoise, noise, self.sigmas)
        return hard(probability), probability

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the mean squared errors [R] of the network's outputs, under noise of random widths."""
        width = (LOG_MEAN + LOG_SIGMA * torch.randn(len(screen), 1, 1, device=screen.device)).exp()
        sigma, clean = width.clamp(*RANGE), screen - DATA
        noisy = clean + sigma * torch.randn_like(clean)
        error = self.denoise(self.denoiser.context(pixels), noisy, sigma) - clean
        return (error / scales(sigma)[1]).square().flatten(1).mean(1)

    def denoise(self, context: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return the estimates D [R, H, W] of screens under noise of widths sigma [R, 1, 1]."""
        skip, out, into = scales(sigma)
        level = fourier_features(sigma.flatten(1).log() / 4, OCTAVES)
        network: Tensor = self.denoiser(context, into * noisy, level)
        return skip * noisy + out * network


def scales(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out and c_in, which give the network inputs and targets of width one."""
    both = sigma.square() + DATA**2
    return DATA**2 / both, sigma * DATA * both.rsqrt(), both.rsqrt()


def schedule(steps: int, largest: float) -> list[float]:
    """Return the steps + 1 sigmas of a draw, from the largest to 0."""
    root = 1 / RHO
    part = [i / max(steps - 1, 1) for i in range(steps)]
    return [*((largest**root + p * (SMALLEST**root - largest**root)) ** RHO for p in part), 0.0]


def euler(denoise: Callable[[Tensor, float], Tensor], noisy: Tensor, sigmas: list[float]) -> Tensor:
    """Return noisy data [R, ...] after Euler steps along dx/dsigma = (x - D(x, sigma)) / sigma."""
    for now, after in pairwise(sigmas):
        noisy = noisy + (after - now) / now * (noisy - denoise(noisy, now))
    return noisy
