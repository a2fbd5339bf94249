"""Actions for networks and planners: encoding, bounds, random draws."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.errors import SpaceError
from wmplay.nets.units import Units


class ActionEncoder(nn.Module):
    """An encoder of actions [..., A] to about -1..1, and of discrete actions [...] to one-hot, as [...,
    size]. Relaxed discrete actions, floats [..., size], are passed on.

    Raises:
        SpaceError: unless the space is a one-dimensional Box, or Discrete from 0.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        self.discrete = isinstance(space, gym.spaces.Discrete)
        if isinstance(space, gym.spaces.Discrete) and space.start == 0:
            self.size = int(space.n)
        elif isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
            self.size = space.shape[0]
            self.units = Units(space, None)
        else:
            raise SpaceError(
                f"action space is {space}", got=space, expected="a one-dimensional Box or Discrete from 0"
            )

    def forward(self, action: Tensor) -> Tensor:
        """Return the encoded actions [..., size] as float32."""
        if self.discrete:
            if action.is_floating_point() and action.shape[-1:] == (self.size,):
                return action
            return F.one_hot(action.long(), self.size).float()
        encoded: Tensor = self.units(action)
        return encoded


def action_bounds(space: gym.Space[Any]) -> tuple[Tensor, Tensor]:
    """Return the bounds (low, high), each [A], of a Box.

    Raises:
        SpaceError: unless it is a one-dimensional Box with finite bounds.
    """
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise SpaceError(f"action space is {space}", got=space, expected="a one-dimensional Box")
    if not space.is_bounded():
        raise SpaceError(
            f"action space is {space}",
            got=space,
            expected="finite bounds",
            advice="give env=gym some, env.action_limit=1, or the action space of an env of your own",
        )
    return torch.from_numpy(space.low).float(), torch.from_numpy(space.high).float()


def random_actions(
    space: gym.Space[Any],
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw uniform actions [*shape, A], or [*shape] int64 for discrete ones.

    Raises:
        SpaceError: for a space that is neither Discrete nor a bounded one-dimensional Box.
    """
    if isinstance(space, gym.spaces.Discrete):
        start = int(space.start)
        return torch.randint(start, start + int(space.n), shape, generator=generator, device=device)
    low, high = (bound.to(device) for bound in action_bounds(space))
    return low + (high - low) * torch.rand(*shape, len(low), generator=generator, device=device)
