"""Shortcut models (Frans et al. 2024, arXiv 2410.12557), as in the dynamics of Dreamer 4 (Hafner et al. 2025,
arXiv 2509.24527): the next screen by a flow whose steps may be long.

A screen x, of -1 and 1, is mixed with noise, x_t = (1 - t) e + t x. The network f(x_t, t, d) predicts the x
towards which a step of length d has to go. For the shortest step that is the screen itself; a longer step has
to end where two of half its length do, so that one step becomes as good as many.

The authors predict codes of frames by a transformer, and noise the frames that are given; here are pixels,
convolutions, and the frames as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor
from torch.nn import functional as F

from wmplay.errors import ConfigError, check_values
from wmplay.models.next_screen.denoiser import OCTAVES, Denoiser, first_noise, hard
from wmplay.models.next_screen.next_screen import NextScreen
from wmplay.nets.layers import fourier_features

Flow: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]  # f of x_t [R, ...], t and d [R, 1, ...]


class Shortcut(NextScreen):
    """A screen that is drawn by a flow, in one step or a few.

    Args:
        denoiser_blocks: residual blocks of the network f.
        steps: of a draw, a power of two up to ``finest``.
        finest: a power of two; the shortest step has length 1 / finest.
        longer: part of the training's rows that teach longer steps.
        longer_from: part of all updates from which they do; before, all rows teach the shortest step.
        others: as for ``NextScreen``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    progress: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 4,
        width: int = 32,
        blocks: int = 2,
        hidden: int = 64,
        denoiser_blocks: int = 2,
        steps: int = 4,
        finest: int = 16,
        longer: float = 0.25,
        longer_from: float = 0.25,
        vector_sigma: float = 0.03,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        sizes = (frames, width, blocks, hidden, vector_sigma, reward_weight, continuation_weight)
        super().__init__(observation_space, action_space, *sizes)
        parts = {"longer": longer, "longer_from": longer_from}
        check_values("shortcut", at_least_one={"denoiser_blocks": denoiser_blocks}, fractions=parts)
        for name, value, largest in (("finest", finest, finest), ("steps", steps, finest)):
            if not 1 <= value <= largest or value & (value - 1):
                expected = "a power of two" + f" up to {finest}" * (name == "steps")
                raise ConfigError(f"shortcut: {name} is {value}", got=value, expected=expected)
        self.steps_drawn, self.finest, self.longer, self.longer_from = steps, finest, longer, longer_from
        self.denoiser = Denoiser(width, denoiser_blocks, 1 + 2 * OCTAVES + finest.bit_length())
        self.register_buffer("progress", torch.zeros(()))

    def draw(
        self, pixels: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Return screens drawn from noise, or from its middle without a generator, and their pixels before
        they were rounded."""
        drawn = flow(self.flow_of(pixels), first_noise(pixels, generator, temperature), self.steps_drawn)
        probability = (0.5 + drawn / 2).clamp(0, 1)
        return hard(probability), probability

    def screen_loss(self, pixels: Tensor, screen: Tensor) -> Tensor:
        """Return the mean squared errors [R], of which ``longer`` are of longer steps once these are
        taught."""
        longer = self.longer if float(self.progress) >= self.longer_from else 0.0

        def of_rows(which: Tensor) -> Flow:
            return self.flow_of(pixels[which])

        return shortcut_loss(of_rows, 2 * screen - 1, self.finest, longer)

    def flow_of(self, pixels: Tensor) -> Flow:
        """Return f, given the features [R, C, H, W] of the pixels."""
        context = self.denoiser.context(pixels)

        def predict(noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:
            level = described(time, length, self.finest)
            output: Tensor = self.denoiser(context, noisy, level)
            return output

        return predict

    def after_update(self, progress: float) -> None:
        """Note the part of all updates that are done, on which it depends whether longer steps are taught."""
        self.progress.fill_(progress)


def described(time: Tensor, length: Tensor, finest: int) -> Tensor:
    """Return the numbers [R, L] by which a network knows times and lengths of steps, each [R, 1, ...].

    Each length is a class of its own: with lengths as a number, errors of longer steps, which teach each
    other, grew without bound.
    """
    doubled = (length.flatten(1).squeeze(1) * finest).log2().round().long()
    return torch.cat([fourier_features(time.flatten(1), OCTAVES), F.one_hot(doubled, finest.bit_length())], 1)


def flow(predict: Flow, noise: Tensor, steps: int) -> Tensor:
    """Return the data that noise [R, ...] flows to in a number of equal steps."""
    one = torch.ones_like(noise.flatten(1)[:, :1]).reshape(-1, *[1] * (noise.ndim - 1))
    for step in range(steps):
        noise = _moved(predict, noise, one * step / steps, one / steps)
    return noise


def shortcut_loss(of_rows: Callable[[Tensor], Flow], data: Tensor, finest: int, longer: float) -> Tensor:
    """Return the mean squared errors [R] of data [R, ...], at random times and for steps of random length.

    A longer step's error is that of its velocity, times (1 - t)^2. All errors are weighted by .9 t + .1
    (Dreamer 4, equations 7 and 8).

    Args:
        of_rows: of indices of rows, their f.
        data: of about unit scale.
        finest: a power of two.
        longer: part of the rows that are longer steps.
    """
    order, shape = torch.randperm(len(data), device=data.device), (-1, *[1] * (data.ndim - 1))
    octaves = finest.bit_length() - 1
    which = order[: int(longer * len(data))] if octaves else order[:0]
    doubled = torch.zeros(len(data), device=data.device)
    doubled[which] = torch.randint(1, octaves + 1, which.shape, device=data.device).float()
    length = (2**doubled / finest).reshape(shape)
    time = (torch.rand(len(data), device=data.device).reshape(shape) / length).floor() * length
    noisy, target = (1 - time) * torch.randn_like(data) + time * data, data.clone()
    if len(which):
        with torch.no_grad():
            predict, start, begin, half = of_rows(which), noisy[which], time[which], length[which] / 2
            middle = _moved(predict, start, begin, half)
            end = _moved(predict, middle, begin + half, half)
            target[which] = start + (end - start) * (1 - begin) / (2 * half)
    error = (of_rows(order)(noisy[order], time[order], length[order]) - target[order]).square()
    weighted = error.flatten(1).mean(1) * (0.9 * time[order] + 0.1).flatten()
    return weighted[order.argsort()]


def _moved(predict: Flow, noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:
    """Return noisy data after one step from a time."""
    return noisy + length * (predict(noisy, time, length) - noisy) / (1 - time)
