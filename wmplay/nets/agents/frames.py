"""Inputs of encoders without memory: the last few frames, with the task's goals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wmplay.contracts import GOAL_PREFIX
from wmplay.errors import ConfigError
from wmplay.nets.modalities import Vector, modalities
from wmplay.nets.observations import ObservationInputs

CHANGE = 0.1  # typical change of a vector's entry in a step, in half-ranges: the unit of changes as inputs


class FrameInputs(nn.Module):
    """Numbers of frames, of order one, and the input of an encoder that reads the last k frames.

    Args:
        space: of the observations, a Dict.
        frames: number k.
        images: whether to read screens and images; None = only where there is no vector.

    Raises:
        SpaceError: for other spaces.
        ConfigError: without images, if there is no vector.
    """

    unit: Tensor  # [I], the unit of changes

    def __init__(self, space: Any, frames: int, images: bool | None) -> None:
        super().__init__()
        self.frames = frames
        found = modalities(space, vector_sigma=1.0, pixel_sigma=1.0, goals=True)
        seen = {key: m for key, m in found.items() if not key.startswith(GOAL_PREFIX)}
        if images is None:
            images = not any(isinstance(m, Vector) for m in seen.values())
        read = {key: m for key, m in found.items() if images or isinstance(m, Vector)}
        self.seen = [key for key in read if key in seen]
        if not self.seen:
            raise ConfigError(
                f"images is false, and the observations are {', '.join(seen)}",
                got=list(seen),
                expected="a vector among them",
            )
        # a goal is encoded as what it is the goal of, so that the two can be subtracted
        self.of = {key: key.removeprefix(GOAL_PREFIX) for key in read if key not in seen}
        self.of = {key: of if of in self.seen else key for key, of in self.of.items()}
        encoded = {key: m for key, m in read.items() if key in self.seen or self.of[key] == key}
        self.encode = ObservationInputs(encoded, 0)
        units = [
            torch.full((self.encode.sizes[key],), CHANGE if isinstance(read[key], Vector) else 1.0)
            for key in self.seen
        ]
        self.register_buffer("unit", torch.cat(units), persistent=False)
        paired = sum(self.encode.sizes[of] for key, of in self.of.items() if of != key)
        goals = sum(self.encode.sizes[of] for of in self.of.values())
        self.size = frames * len(self.unit) + goals + paired

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the inputs [..., I + G] of frames {key: [..., *shape]}: of the observations, then of the
        goals."""
        parts = [self.encode.part(key, observation[key]) for key in self.seen]
        goals = [self.encode.part(of, observation[key]) for key, of in self.of.items()]
        return torch.cat([*parts, *goals], -1)

    def history(self, frames: Tensor) -> Tensor:
        """Return an encoder's input [..., size] for the inputs [..., k, I + G] of the last k frames.

        It is the last frame, the changes before it, the goals, and their differences to the last frame.
        """
        now, goals = frames[..., -1, : len(self.unit)], frames[..., -1, len(self.unit) :]
        past = frames[..., : len(self.unit)]
        changes = (past[..., 1:, :] - past[..., :-1, :]) / self.unit
        parts = [now, changes.flatten(-2), goals]
        if self.of:
            sizes = self.encode.sizes
            at = dict(zip(self.seen, torch.split(now, [sizes[key] for key in self.seen], -1), strict=True))
            wanted = torch.split(goals, [sizes[of] for of in self.of.values()], -1)
            parts += [goal - at[of] for goal, of in zip(wanted, self.of.values(), strict=True) if of in at]
        return torch.cat(parts, -1)

    def stacked(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the inputs [B, T, k, I + G] of the last k frames at each of T frames {key: [B, T, ...]}; the
        first ones are preceded by copies of the first."""
        inputs = self(observation)
        before = inputs[:, :1].expand(-1, self.frames - 1, -1)
        return torch.cat([before, inputs], 1).unfold(1, self.frames, 1).transpose(-1, -2)
