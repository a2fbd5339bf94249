"""Inputs of policies without convolutions: the vectors of an observation, concatenated and normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from wmplay.contracts import GOAL_PREFIX, observation_spaces
from wmplay.errors import SpaceError

LARGEST = 10.0  # normalised inputs are clipped here, because one outlier can ruin a network

SMALLEST = 0.001  # a variance is raised by at most this part of itself, whatever the unit


class VectorInputs(nn.Module):
    """A map from vector observations {key: [..., D]} to normalised inputs [..., size].

    Images are ignored, except for binary screens where these are asked for: each pixel is then an input.

    For each x with a ``goal_x``, the difference goal_x - x is an input as well: a policy has to act on it,
    and a network learns differences of its inputs slowly. The mean and variance of all inputs given to
    ``update`` are buffers, and so part of a checkpoint.

    Args:
        space: of the observations.
        changes: whether the change of each vector in the last step is an input as well, except for goals; a
            policy cannot infer velocities from positions alone.
        screens: whether the pixels of binary screens are inputs as well.

    Raises:
        SpaceError: if the observation space has no input.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, space: gym.Space[Any], changes: bool = False, screens: bool = False) -> None:
        super().__init__()
        spaces = observation_spaces(space)
        self.keys = [key for key, x in spaces.items() if _is_vector(x) or (screens and _is_screen(x))]
        if not self.keys:
            raise SpaceError(
                f"the observations are {', '.join(spaces)}",
                got=list(spaces),
                expected=f"a vector{' or a binary screen' * screens} among them: this policy sees no images",
            )
        self.ways = [key for key in self.keys if GOAL_PREFIX + key in self.keys]
        self.shapes = {key: tuple(spaces[key].shape or ()) for key in self.keys}
        self.sizes = {key: math.prod(shape) for key, shape in self.shapes.items()}
        self.moving = [key for key in self.keys if changes and not key.startswith(GOAL_PREFIX)]
        self.size = sum(self.sizes[key] for key in [*self.keys, *self.ways, *self.moving])
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("variance", torch.ones(self.size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def flat(self, observation: Mapping[str, Tensor], before: Tensor | None = None) -> Tensor:
        """Return the inputs [..., size] before normalisation; only ``keys`` are read.

        Args:
            observation: {key: [..., D]}; screens are [..., *shape].
            before: [..., size], the result of this method for the previous step; None at the start of an
                episode, for changes of zero.

        Raises:
            SpaceError: if a vector is missing or has another size: the observations belong to another env.
        """
        parts = {}
        for key, shape in self.shapes.items():
            found = tuple(observation[key].shape[-len(shape) :]) if key in observation else None
            if found != shape:
                there = "missing" if found is None else f"of size {'x'.join(map(str, found))}"
                raise SpaceError(
                    f"this policy looks at the vector '{key}' of size {'x'.join(map(str, shape))}, which is "
                    f"{there} in the observations ({', '.join(observation) or 'none'})",
                    advice="let it act in the env it was made for",
                )
            parts[key] = observation[key].float().flatten(-len(shape))
        ways = [parts[GOAL_PREFIX + key] - parts[key] for key in self.ways]
        if not self.moving:
            return torch.cat([*parts.values(), *ways], dim=-1)
        past = parts if before is None else self._parts(before)
        return torch.cat([*parts.values(), *ways, *(parts[key] - past[key] for key in self.moving)], dim=-1)

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the observation {key: [..., D]} for which ``flat`` returned these inputs."""
        sizes = list(self.sizes.values())
        parts: tuple[Tensor, ...] = torch.split(flat[..., : sum(sizes)], sizes, dim=-1)
        return dict(zip(self.sizes, parts, strict=True))

    def forward(self, flat: Tensor) -> Tensor:
        """Normalise the inputs [..., size] that ``flat`` returned."""
        spread = (self.variance + (SMALLEST * self.variance).clamp(max=1e-8)).sqrt()
        spread = torch.where(spread > 0, spread, 1e-4)  # an input that never changed has variance 0
        return ((flat - self.mean) / spread).clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def update(self, flat: Tensor) -> None:
        """Add inputs [..., size] to the statistics (Chan et al. 1979, the merge of two samples)."""
        flat = flat.reshape(-1, self.size)
        count = self.count + len(flat)
        weight = (len(flat) / count).float()
        difference = flat.mean(0) - self.mean
        spread = flat.var(0, correction=0) + difference.square() * (1 - weight)
        self.mean += weight * difference
        self.variance.mul_(1 - weight).add_(weight * spread)  # removes the initial variance of 1
        self.count.copy_(count)


def _is_vector(space: gym.Space[Any]) -> bool:
    return isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


def _is_screen(space: gym.Space[Any]) -> bool:
    if not isinstance(space, Box):
        return False
    return space.dtype == np.bool_ or (space.dtype == np.uint8 and bool((space.high == 1).all()))
