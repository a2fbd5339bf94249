"""What off-policy learners have met: the latest transitions, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wmplay.errors import ConfigError


class Batch(NamedTuple):
    """Transitions, one below the other."""

    flat: Tensor  # [M, inputs], before normalisation
    after: Tensor  # [M, inputs]: what it led to, also where an episode ended
    action: Tensor  # [M, A] in -1..1
    reward: Tensor  # [M, 1]
    terminated: Tensor  # [M, 1], 1 where the world ended


class Replay:
    """The latest transitions, each a row of numbers, in a ring; memory is taken as it fills."""

    def __init__(self, capacity: int, inputs: int, actions: int) -> None:
        self.capacity, self.widths = capacity, [inputs, inputs, actions, 1, 1]
        self.rows = torch.empty(0, sum(self.widths))
        self.added = 0  # ever

    def add(self, rows: Tensor) -> None:
        """Takes rows [N, width]; the oldest make room."""
        if not len(self.rows):
            self.rows = rows.new_empty(self.capacity, rows.shape[1])
        end = self.added + len(rows)
        place = torch.arange(max(self.added, end - self.capacity), end, device=rows.device) % self.capacity
        self.rows[place] = rows[-self.capacity :]
        self.added = end

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """[size, width], all rows equally likely."""
        held = min(self.added, self.capacity)
        return self.rows[torch.randint(held, (size,), generator=generator, device=self.rows.device)]

    def batch(self, rows: Tensor) -> Batch:
        """What is in rows [M, width]."""
        return Batch(*torch.split(rows, self.widths, dim=1))

    def state(self) -> dict[str, Any]:
        """What it holds, for a checkpoint."""
        return {"rows": self.rows[: self.added].clone(), "added": self.added, "capacity": self.capacity}

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Takes over from ``state``.

        Raises:
            ConfigError: for another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ConfigError(
                f"replay is {self.capacity}, in the checkpoint it is {state['capacity']}: leave it at that"
            )
        self.rows = torch.empty(self.capacity, sum(self.widths), device=device)
        self.rows[: len(state["rows"])] = state["rows"]
        self.added = state["added"]
