"""The disagreement of an ensemble about the next features, as a reward for exploration.

Plan2Explore (Sekar et al. 2020, arXiv 2005.05960): where its members were fitted they agree, elsewhere each
says something else.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.actions import ActionEncoder
from wmplay.nets.layers import ParallelNets
from wmplay.nets.optimizers import Adam

RATE = 0.01  # of the running mean of squared disagreements


class Disagreement(nn.Module):
    """Networks from features and the action taken there to the features that this action leads to.

    Args:
        features: F.
        action_space: of the actions.
        members: networks; each is fitted on half of the steps of every batch, drawn for it.
        hidden: units of each hidden layer.
        layers: hidden layers.
        lr: learning rate of Adam.
    """

    square: Tensor  # running mean of squared disagreements
    count: Tensor  # of its updates

    def __init__(
        self,
        features: int,
        action_space: gym.Space[Any],
        members: int,
        hidden: int,
        layers: int,
        lr: float,
    ) -> None:
        super().__init__()
        self.encode_action = ActionEncoder(action_space)
        self.members = ParallelNets(members, features + self.encode_action.size, hidden, layers, features)
        self.optimizer = Adam(self.members.parameters(), lr=lr, fused=True)
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Return the variance of the members' predictions [...] for features [..., F] and actions there, in
        units of its root mean square so far."""
        inputs = torch.cat([features, self.encode_action(action)], dim=-1)
        predicted = self.members(inputs.flatten(0, -2))
        mean = predicted.mean(0)  # member by member: ten times as fast as torch's var over the first axis
        apart = torch.stack([F.mse_loss(each, mean, reduction="none").mean(-1) for each in predicted])
        variance = apart.mean(0).reshape(inputs.shape[:-1])
        with torch.no_grad():
            self.square.lerp_(variance.square().mean(), RATE)
            self.count += 1
        scale = (self.square / (1 - (1 - RATE) ** self.count)).sqrt()
        reward: Tensor = variance / scale.clamp(min=torch.finfo(scale.dtype).tiny)
        return reward

    def learn(self, features: Tensor, action: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Take a gradient step on the steps of a batch, and return the loss.

        Args:
            features: [B, T + 1, F], of every frame.
            action: [B, T, A], or [B, T] int64: action[:, t] led from features[:, t] to features[:, t + 1].
            mask: [B, T] bool, steps that count.
            generator: draws the steps of each member.
        """
        inputs = torch.cat([features[:, :-1], self.encode_action(action)], dim=-1)[mask]
        target = features[:, 1:][mask]
        with torch.enable_grad():
            error = (self.members(inputs) - target).square().mean(-1)  # [members, M]
            drawn = torch.rand(error.shape, generator=generator, device=error.device) < 0.5
            loss: Tensor = (error * drawn).sum() / drawn.sum().clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()
