"""What policies without eyes look at: the vectors of an observation, side by side and normalised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

from wmplay.contracts import GOAL_PREFIX
from wmplay.errors import SpaceError

LARGEST = 10.0  # normalised inputs are cut here: one outlier must not wreck a network

SMALLEST = 0.001  # a variance is not rounded up by more than this part of it, whatever the unit


class VectorInputs(nn.Module):
    """Vector observations {key: [..., D]} to normalised inputs [..., size]; images are left alone.

    Where x comes with a ``goal_x``, the way to the goal, goal_x - x, stands beside them: it is what a policy
    has to act on, and a network learns differences of its inputs slowly. Mean and variance are kept over all
    that ``update`` was shown, as buffers: they are part of a checkpoint.

    Args:
        space: of the observations.
        changes: each vector that is no goal also comes with its change in the last step: with positions
            alone, a policy does not see how fast anything moves.

    Raises:
        SpaceError: if there is no vector in the observation space.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, space: gym.Space[Any], changes: bool = False) -> None:
        super().__init__()
        spaces = space.spaces if isinstance(space, Dict) else {"observation": space}
        self.keys = [key for key, each in spaces.items() if _is_vector(each)]
        if not self.keys:
            raise SpaceError(
                f"the observations are {', '.join(spaces)}, expected a vector among them: "
                "this policy sees no images"
            )
        self.ways = [key for key in self.keys if GOAL_PREFIX + key in self.keys]
        self.sizes = {key: math.prod(spaces[key].shape or ()) for key in self.keys}
        self.moving = [key for key in self.keys if changes and not key.startswith(GOAL_PREFIX)]
        self.size = sum(self.sizes[key] for key in [*self.keys, *self.ways, *self.moving])
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("variance", torch.ones(self.size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def flat(self, observation: Mapping[str, Tensor], before: Tensor | None = None) -> Tensor:
        """The inputs [..., size] before they are normalised; only vectors are looked at.

        Args:
            observation: {key: [..., D]}.
            before: [..., size], what this gave for the step before; None where an episode begins: no change.

        Raises:
            SpaceError: if one of them is missing, or of another size: the observations are another env's.
        """
        parts = {}
        for key, size in self.sizes.items():
            if key not in observation or observation[key].shape[-1] != size:
                there = f"of size {observation[key].shape[-1]}" if key in observation else "missing"
                raise SpaceError(
                    f"this policy looks at the vector '{key}' of size {size}, which is {there} in the "
                    f"observations ({', '.join(observation)}): let it act in the env it was made for"
                )
            parts[key] = observation[key].float()
        ways = [parts[GOAL_PREFIX + key] - parts[key] for key in self.ways]
        if not self.moving:
            return torch.cat([*parts.values(), *ways], dim=-1)
        past = parts if before is None else self._parts(before)
        return torch.cat([*parts.values(), *ways, *(parts[key] - past[key] for key in self.moving)], dim=-1)

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """The observation {key: [..., D]} that ``flat`` gave these inputs for."""
        sizes = list(self.sizes.values())
        parts: tuple[Tensor, ...] = torch.split(flat[..., : sum(sizes)], sizes, dim=-1)
        return dict(zip(self.sizes, parts, strict=True))

    def forward(self, flat: Tensor) -> Tensor:
        """Normalised inputs [..., size] of those that ``flat`` gives."""
        spread = (self.variance + (SMALLEST * self.variance).clamp(max=1e-8)).sqrt()
        spread = torch.where(spread > 0, spread, 1e-4)  # one that was always the same
        return ((flat - self.mean) / spread).clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def update(self, flat: Tensor) -> None:
        """Takes more inputs [..., size] into the statistics (Chan et al. 1979, the merge of two samples)."""
        flat = flat.reshape(-1, self.size)
        count = self.count + len(flat)
        weight = (len(flat) / count).float()
        difference = flat.mean(0) - self.mean
        spread = flat.var(0, correction=0) + difference.square() * (1 - weight)
        self.mean += weight * difference
        self.variance.mul_(1 - weight).add_(weight * spread)  # nothing is left of the first guess
        self.count.copy_(count)


def _is_vector(space: gym.Space[Any]) -> bool:
    return isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
