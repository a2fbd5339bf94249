"""A replay of the latest transitions of an off-policy learner, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wmplay.errors import ConfigError


class Batch(NamedTuple):
    """Transitions, one per row."""

    flat: Tensor  # [M, inputs], before normalisation
    after: Tensor  # [M, inputs]: where the action led to, also at an episode's end
    action: Tensor  # [M, A] in -1..1
    reward: Tensor  # [M, 1]
    terminated: Tensor  # [M, 1], 1 where the episode was terminated


class Replay:
    """The latest transitions, each a row of numbers, in a ring whose memory is allocated as it fills."""

    def __init__(self, capacity: int, inputs: int, actions: int) -> None:
        self.capacity, self.widths = capacity, [inputs, inputs, actions, 1, 1]
        self.rows = torch.empty(0, sum(self.widths))
        self.added = 0  # rows added in total

    def add(self, rows: Tensor) -> None:
        """Add rows [N, width] in place of the oldest."""
        if not len(self.rows):
            self.rows = rows.new_empty(self.capacity, rows.shape[1])
        end = self.added + len(rows)
        place = torch.arange(max(self.added, end - self.capacity), end, device=rows.device) % self.capacity
        self.rows[place] = rows[-self.capacity :]
        self.added = end

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw [size, width], all rows equally likely."""
        held = min(self.added, self.capacity)
        return self.rows[torch.randint(held, (size,), generator=generator, device=self.rows.device)]

    def batch(self, rows: Tensor) -> Batch:
        """Split rows [M, width] into their fields."""
        return Batch(*torch.split(rows, self.widths, dim=1))

    def state(self) -> dict[str, Any]:
        """Return the content for a checkpoint."""
        return {"rows": self.rows[: self.added].clone(), "added": self.added, "capacity": self.capacity}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the content that ``state`` returned.

        Raises:
            ConfigError: for another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ConfigError(
                f"replay is {self.capacity}, in the checkpoint it is {state['capacity']}",
                got=self.capacity,
                advice="leave it at that",
            )
        self.rows = torch.empty(self.capacity, sum(self.widths), device=device)
        self.rows[: len(state["rows"])] = state["rows"]
        self.added = state["added"]
