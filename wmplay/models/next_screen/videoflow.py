"""VideoFlow (Kumar et al. 2020, arXiv 1903.01434): the next screen by an invertible flow, with a density.

A screen of zeros and ones is spread to numbers, x = bit - 1/2 + e, with e Gaussian and cut where it would
turn the bit, so that the bits are the signs of x; the flow has the density p of x given the last frames. The
mean of log p(x) - log q(e) over e is a bound of the screen's log-likelihood (Ho et al. 2019, arXiv
1902.00275), and the logarithm of a mean of p / q a closer one.

The authors spread colours uniformly. Where a bit is sure, an affine flow has no such density, but that of a
Gaussian: a fourth of a bit would be lost for each pixel. They also take the noise of one frame as the mean of
the next one's; here the features of the last frames enter the means and every coupling.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor
from torch.nn import functional as F

from wmplay.contracts import Segment, Surprise
from wmplay.errors import check_values
from wmplay.models.next_screen.denoiser import hard
from wmplay.models.next_screen.flow import Flow
from wmplay.models.next_screen.next_screen import NextScreen
from wmplay.nets.agents.distributions import HALF_LOG_TAU

WIDTH = 1 / 8  # of the Gaussian noise; at 4 of its widths it is cut
KEPT = math.erf(0.5 / WIDTH / math.sqrt(2))  # part of a Gaussian that is not cut


class VideoFlow(NextScreen):
    """A screen that is drawn by a flow from noise, all pixels at once.

    Args:
        levels: scales of the flow, each of half the size of the one before.
        steps: of the flow, at each scale.
        draws: of e in an estimate of a likelihood (``surprise``).
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 3,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        levels: int = 2,
        steps: int = 4,
        draws: int = 4,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, action_space, *sizes)
        check_values("videoflow", at_least_one={"levels": levels, "steps": steps, "draws": draws})
        self.flow, self.draws = Flow(width, levels, steps, width), draws
        unit = 2**levels
        self.edge = (0, -self.shape[1] % unit, 0, -self.shape[0] % unit)  # dark pixels, right and below

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return screens drawn from noise, or from its middle without a generator, and the numbers of their
        pixels, within 0 and 1."""

        def noise(like: Tensor) -> Tensor:
            if generator is None:
                return torch.zeros_like(like)
            return temperature * torch.randn(like.shape, device=like.device, generator=generator)

        numbers = self.flow.draw(F.pad(pixels, self.edge), noise)[:, : self.shape[0], : self.shape[1]]
        probability = (0.5 + numbers).clamp(0, 1)
        return hard(probability), probability

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return a bound [R] of the nats of screens [R, H, W], by one draw of e."""
        bits = F.pad(screen, self.edge)
        noise = math.sqrt(2) * torch.erfinv(KEPT * (2 * torch.rand_like(bits) - 1))
        spread = -0.5 * noise.square() - HALF_LOG_TAU - math.log(WIDTH * KEPT)
        density = self.flow.log_density(bits - 0.5 + WIDTH * noise, F.pad(pixels, self.edge))
        return spread.flatten(1).sum(1) - density

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return a bound of the surprise, by ``draws`` draws of e from torch's global generator."""
        past, after = self.steps(segment)
        screen = after[:, : self.size].reshape(-1, *self.shape)
        found = torch.stack([-self.screen_loss(past.pixels, screen) for _ in range(self.draws)])
        nats = math.log(self.draws) - found.logsumexp(0)
        return Surprise(nats.reshape(segment.mask.shape), "bound")
