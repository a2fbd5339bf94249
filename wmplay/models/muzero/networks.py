"""The networks of MuZero: representation, dynamics, prediction and chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.agents.two_hot import of_roots
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import ObservationEncoder


class Codes(NamedTuple):
    """The outcomes of steps, as the two frames around each tell."""

    hard: Tensor  # [B, T, codes]: one-hot, with the gradient of the probabilities
    distance: Tensor  # [B, T]: of the probabilities to one-hot ones


class Networks(nn.Module):
    """All networks that a search needs.

    Args:
        space: of the observations.
        actions: number C of actions.
        frames: number k of frames that are seen.
        latent: size S of the state.
        hidden: units of each hidden layer.
        layers: hidden layers of each network.
        scalars: bins of the distributions of numbers, and the root of the largest number.
        codes: number of outcomes of an action.
    """

    def __init__(
        self,
        space: gym.Space[Any],
        actions: int,
        frames: int,
        latent: int,
        hidden: int,
        layers: int,
        scalars: tuple[int, float],
        codes: int,
    ) -> None:
        super().__init__()
        self.scalars = of_roots(*scalars)
        self.actions, self.latent, self.outcomes = actions, latent, codes
        # widths are of no use: nothing is decoded
        self.encoder = ObservationEncoder(
            modalities(space, vector_sigma=1.0, pixel_sigma=1.0), 0, hidden, layers, hidden
        )
        self.from_frames = mlp(frames * hidden, hidden, 1, latent)
        inputs = latent + actions + (codes if codes > 1 else 0)
        self.dynamics = mlp(inputs, hidden, layers, latent + self.scalars.size)
        self.prediction = mlp(latent, hidden, layers, actions + self.scalars.size)
        if codes > 1:
            self.chance = mlp(latent, hidden, layers, actions * codes)
            self.code = mlp(2 * hidden, hidden, layers, codes)
        with torch.no_grad():  # rewards and values of 0, and uniform policies
            for network, first in ((self.dynamics, latent), (self.prediction, 0)):
                for weight in network[-1].parameters():
                    weight[first:] = 0

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings [..., E] of frames {key: [..., *shape]}."""
        embedding: Tensor = F.silu(self.encoder(observation).float())
        return embedding

    def represent(self, windows: Tensor) -> Tensor:
        """Return the state [..., S] after the embeddings [..., k, E] of k frames."""
        return scaled(self.from_frames(windows.flatten(-2)).float())

    def step(self, latent: Tensor, action: Tensor, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the state [..., S] after a one-hot action [..., C] and a one-hot code, and the logits of the
        reward."""
        inputs = [latent, action] if code is None else [latent, action, code]
        change, reward = self.dynamics(torch.cat(inputs, -1)).float().tensor_split((self.latent,), -1)
        return scaled(latent + change), reward

    def advance(self, latent: Tensor, action: Tensor, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``step`` for an action [B] and a code [B], both int64; with one code it is not read."""
        one_hot = None if code is None or self.outcomes == 1 else F.one_hot(code, self.outcomes).float()
        return self.step(latent, F.one_hot(action, self.actions).float(), one_hot)

    def judge(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [..., C] of the policy and [..., bins] of the value."""
        logits, value = self.prediction(latent).float().tensor_split((self.actions,), -1)
        return logits, value

    def chance_logits(self, latent: Tensor) -> Tensor:
        """Return the logits [..., C, codes] of the outcomes of each action."""
        logits: Tensor = self.chance(latent).float().unflatten(-1, (self.actions, self.outcomes))
        return logits

    def chances(self, latent: Tensor) -> Tensor | None:
        """Return the probabilities [B, C, codes] of the outcomes of each action; None if there is one."""
        return None if self.outcomes == 1 else self.chance_logits(latent).softmax(-1)

    def codes(self, embedding: Tensor) -> Codes | None:
        """Return the outcomes of the steps between embeddings [B, T + 1, E]; None if there is one."""
        if self.outcomes == 1:
            return None
        soft = self.code(torch.cat([embedding[:, :-1], embedding[:, 1:]], -1)).float().softmax(-1)
        hard = F.one_hot(soft.argmax(-1), self.outcomes).float()
        return Codes(hard + soft - soft.detach(), (soft - hard).square().sum(-1))


def scaled(x: Tensor) -> Tensor:
    """Return each row of [..., S] scaled to 0..1."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-5)
