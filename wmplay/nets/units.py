"""Scaling of vectors to order one, whatever the units of the env are."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from wmplay.contracts import Segment
from wmplay.system.arrays import Array

TRUSTED = 1e3  # bounds up to this are trusted; larger ones may mean no more than "any float"
FILLED = 0.01  # part of the range between larger bounds that the data must cover for them to be trusted
WIDEST = 4.0  # standard deviations: rarer values do not make all others small


class Units(nn.Module):
    """The center and half-range of each entry of a vector [..., D], from its bounds or from data.

    Bounds up to ``TRUSTED`` are used as they are. All other entries, without bounds or with larger ones, are
    not scaled until ``measure_units`` has seen data; their center and half-range are then in buffers that are
    saved with the weights. For a checkpoint that was written before the buffers existed, ``unmeasured`` gives
    their values.

    Args:
        space: of the vector.
        key: of the observation; None for the action.
    """

    center: Tensor
    scale: Tensor
    limit: Tensor  # [D]: the largest value after scaling, 1 or infinity
    measured: Tensor  # bool

    def __init__(self, space: gym.spaces.Box, key: str | None) -> None:
        super().__init__()
        self.key = key
        self.low, self.high = space.low.astype(np.float64), space.high.astype(np.float64)
        trusted = np.maximum(np.abs(self.low), np.abs(self.high)) <= TRUSTED
        self.bounded = trusted & (self.high > self.low)
        self.open = not self.bounded.all()
        for name, value in self._by_bounds().items():
            self.register_buffer(name, value, persistent=self.open)
        self.register_buffer("measured", torch.tensor(not self.open), persistent=self.open)

    def _by_bounds(self) -> dict[str, Tensor]:
        low, high = np.where(self.bounded, self.low, -1.0), np.where(self.bounded, self.high, 1.0)
        limit = np.where(self.bounded, 1.0, np.inf)
        values = {"center": (low + high) / 2, "scale": (high - low) / 2, "limit": limit}
        return {name: torch.as_tensor(value).float() for name, value in values.items()}

    def forward(self, value: Tensor) -> Tensor:
        """Scale a vector to float32 [..., D] of order one."""
        return (value.float() - self.center) / self.scale

    def back(self, value: Tensor) -> Tensor:
        """Undo ``forward``."""
        return value * self.scale + self.center

    def unmeasured(self) -> dict[str, Tensor]:
        """Return the buffers of a vector whose unbounded entries are not scaled."""
        return self._by_bounds() | {"measured": torch.tensor(True)} if self.open else {}

    @torch.no_grad()
    def measure(self, data: Array) -> None:
        """Set the center and half-range of unbounded entries from data [N, D]."""
        data = data.astype(np.float64)
        least, most, center = data.min(0), data.max(0), data.mean(0)
        reach = np.maximum(most - center, center - least)
        scale = np.minimum(reach, WIDEST * data.std(0))
        scale = np.where(scale > 0, scale, np.where(center == 0, 1.0, np.abs(center)))
        finite = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(finite, self.low, 0.0), np.where(finite, self.high, 0.0)
        filled = (high > low) & (most - least >= FILLED * (high - low))
        center, scale = np.where(filled, (low + high) / 2, center), np.where(filled, (high - low) / 2, scale)
        found = {"center": center, "scale": scale, "limit": np.where(filled, 1.0, np.inf)}
        for name, value in found.items():
            buffer = self.get_buffer(name)
            kept = torch.as_tensor(self.bounded).to(buffer.device)
            buffer.copy_(torch.where(kept, buffer, torch.as_tensor(value).to(buffer)))
        self.measured.fill_(True)


def to_measure(model: nn.Module) -> bool:
    """Return whether a model has units that need data."""
    return any(True for _ in _waiting(model))


def measure_units(model: nn.Module, segment: Segment) -> None:
    """Set the units of a model that need data from the steps that a segment's mask keeps."""
    seen = torch.nn.functional.pad(segment.mask, (1, 0), value=True)
    for units in list(_waiting(model)):
        values = segment.action[segment.mask] if units.key is None else segment.observation[units.key][seen]
        units.measure(values.detach().cpu().numpy())


def copy_units(model: nn.Module, other: nn.Module) -> None:
    """Give a model the units of another one of the same shape."""
    theirs = dict(other.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, Units):
            module.load_state_dict(theirs[name].state_dict())


def missing_units(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers missing from a checkpoint that was written before units were measured."""
    return {
        f"{name}.{buffer}": value
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Units)
        for buffer, value in module.unmeasured().items()
    }


def _waiting(model: nn.Module) -> Iterator[Units]:
    return (each for each in model.modules() if isinstance(each, Units) and not bool(each.measured))
