"""Autoregressive pixels, after PixelCNN (van den Oord et al. 2016, arXiv 1606.05328): an exact likelihood.

    p(screen | past) = prod over pixels i of p(x_i | the pixels above and left of i, past)

A pixel sees those of a window around it that come before it in reading order. The likelihood of a screen
takes one pass; drawing a screen takes as many as there are fronts, sets of pixels that do not see each other.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Segment, Surprise
from wmplay.errors import check_values
from wmplay.models.next_screen.next_screen import NextScreen
from wmplay.models.symbols import Bits


class Autoregressive(NextScreen):
    """A distribution over whole screens, pixel by pixel.

    Args:
        reach: rows above, and columns to both sides, of the window that a pixel sees.
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    order: Tensor  # [P]: the pixels front by front, as indices of the flat screen
    windows: Tensor  # [P, K]: the pixels that each of them sees, as indices of the flat padded screen
    places: Tensor  # [P]: they themselves, as indices of the flat padded screen

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 3,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        reach: int = 4,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, action_space, *sizes)
        check_values("autoregressive", at_least_one={"reach": reach})
        self.reach, self.bits = reach, Bits(self.size)
        side = 2 * reach + 1
        seen = reach * side + reach  # K: whole rows above, and what is left of the pixel in its own
        self.see = nn.Linear(seen, width, bias=False)
        self.logit = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        height, across = self.shape
        row, column = torch.arange(height)[:, None], torch.arange(across)
        front = ((reach + 1) * row + column).flatten()  # no pixel of a front is in another one's window
        order = front.argsort(stable=True)
        self.fronts = [count for count in torch.bincount(front).tolist() if count]
        padded = across + 2 * reach
        offset = (torch.arange(reach + 1)[:, None] * padded + torch.arange(side)).flatten()[:seen]
        corner = (row * padded + column).flatten()[order]
        for name, index in {
            "order": order,
            "windows": corner[:, None] + offset,
            "places": corner + reach * padded + reach,
        }.items():
            self.register_buffer(name, index, persistent=False)

    def logits(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return each pixel's logit [R, H, W], given the features [R, C, H, W] and those before it in the
        screen [R, H, W]."""
        side = 2 * self.reach + 1
        kernel = F.pad(self.see.weight, (0, self.reach + 1)).reshape(-1, 1, self.reach + 1, side)
        seen = F.conv2d(self._padded(screen).unsqueeze(1), kernel)
        logit: Tensor = self.logit((pixels + seen).movedim(1, -1)).squeeze(-1)
        return logit.float()

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return screens that are drawn front by front, and each pixel's probability given those before."""
        like = pixels[:, 0].detach().float()
        noise = None if generator is None else self.bits.noise(like, generator, temperature)
        logits = self.logits(pixels, self._drawn(pixels, noise))
        return self.bits.pick(logits, noise), logits.sigmoid()

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the exact nats [R] of screens [R, H, W]."""
        logits = self.logits(pixels, screen).flatten(1)
        return self.size * self.bits.loss(logits, screen.flatten(1))

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return the exact surprise."""
        past, after = self.steps(segment)
        screen = after[:, : self.size].reshape(-1, *self.shape)
        return Surprise(self.screen_loss(past.pixels, screen).reshape(segment.mask.shape), "exact")

    @torch.no_grad()
    def _drawn(self, pixels: Tensor, noise: Tensor | None) -> Tensor:
        """Return screens [R, H, W] in which each pixel follows from those before it."""
        height, across = self.shape
        edged = pixels.new_zeros(height + self.reach, across + 2 * self.reach, len(pixels)).float()
        flat = edged.flatten(0, 1)  # rows of a batch last, so that a pixel is one piece of memory
        given = pixels.flatten(2).permute(2, 1, 0)[self.order]  # [P, C, R]
        noises = None if noise is None else noise.flatten(1)[:, self.order].T
        start = 0
        for count in self.fronts:
            now = slice(start, start + count)
            start += count
            windows = flat.index_select(0, self.windows[now].flatten())
            features = given[now] + self.see.weight @ windows.reshape(count, -1, len(pixels))  # [n, C, R]
            logit = self.logit(features.transpose(1, 2)).squeeze(-1).float()  # [n, R]
            flat[self.places[now]] = self.bits.pick(logit, None if noises is None else noises[now])
        return edged[self.reach :, self.reach : self.reach + across].permute(2, 0, 1)

    def _padded(self, screen: Tensor) -> Tensor:
        """Return screens with an edge of background, above and to both sides."""
        return F.pad(screen, (self.reach, self.reach, self.reach, 0))
