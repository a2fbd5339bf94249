"""A world model whose numbers tell where they belong, and one whose returns are known in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wmplay.contracts import Prediction, Segment


class Featured(nn.Module):
    """The parts that both models share: the belief is the vector ``x`` of the last frame."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["x"].float()

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return observation["x"][:, -1].float()

    def features(self, belief: Tensor) -> Tensor:
        return belief

    def track(self, segment: Segment) -> Tensor:
        return segment.observation["x"].float().flatten(0, 1)

    def decode(self, latent: Tensor) -> dict[str, Tensor]:
        return {"x": latent}

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        return self.weight.square(), {}


class Clock(Featured):
    """x counts steps. From x = t under action a: reward 100 t + a, and the episode goes on with probability
    1 / (t + 2)."""

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        steps = torch.arange(action.shape[1])
        time = belief + steps  # [B, H], before each step
        acted = action.float() if action.ndim == 2 else action[..., 0]
        latent = (time + 1).unsqueeze(-1)
        return Prediction(latent, 100 * time + acted, 1 / (time + 2), latent[:, -1], self.decode)


class Linear(Featured):
    """x' = A x + B a without noise, with reward w x' (and no ends)."""

    def __init__(self) -> None:
        super().__init__()
        self.A = torch.tensor([[0.9, 0.2], [-0.1, 0.7]])
        self.B = torch.tensor([[0.3, -0.5], [1.0, 0.4]])
        self.w = torch.tensor([1.0, -0.6])

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        states = []
        for acted in action.unbind(1):
            belief = belief @ self.A.T + acted @ self.B.T
            states.append(belief)
        latent = self.weight * torch.stack(states, 1)
        return Prediction(latent, latent @ self.w, None, latent[:, -1], self.decode)
