"""A world that waits, as a simulator in another process does, and in which an episode is its seed's alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn


class Waiting(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A walk of 3 to 13 steps.

    Args:
        wait: seconds that a step takes.
        note: a folder in which each process that simulates leaves a file of its number.
        deadly: begins an episode by killing its process, where the first draw is above this.
    """

    def __init__(self, wait: float = 0.0, note: Path | None = None, deadly: float = 1.0) -> None:
        self.observation_space = Dict({"place": Box(-np.inf, np.inf, (2,), np.float32)})
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.wait, self.deadly = wait, deadly
        if note is not None:
            (note / str(os.getpid())).touch()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2).astype(np.float32)
        self.left = int(self.np_random.integers(3, 14))
        if self.np_random.random() > self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"place": self.place.copy()}, {}

    def step(self, action: np.ndarray) -> Any:
        time.sleep(self.wait)
        self.place = self.place + action
        self.left -= 1
        return {"place": self.place.copy()}, float(action.sum()), self.left == 0, False, {}


class Walker(nn.Module):
    """A policy with weights, a memory of the episode, and draws."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Linear(4, 2)

    def initial(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 2)

    def act(
        self,
        carry: Tensor,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        seen = torch.where(first.unsqueeze(1), 0.0, 0.5 * carry) + observation["place"]
        action = self.net(torch.cat([seen, last_action], 1)).tanh()
        return action + float(explore) * 0.3 * torch.randn(action.shape, generator=generator), seen
