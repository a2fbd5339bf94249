"""The networks of MuZero: representation, dynamics, prediction and chance."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.agents.frames import FrameInputs
from wmplay.nets.agents.two_hot import of_roots

SPARSE = 4.0  # times the first weights: few pixels of a screen are lit


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
        self.inputs = FrameInputs(space, 1, images=True)
        self.encoder = normed(self.inputs.size, hidden, layers, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.from_frames = nn.Linear(frames * hidden, latent)
        inputs = (latent + 1) * actions + (codes if codes > 1 else 0)
        self.dynamics = normed(inputs, hidden, layers, latent + self.scalars.size)
        self.prediction = normed(latent, hidden, layers, actions + self.scalars.size)
        if codes > 1:
            self.chance = normed(latent, hidden, layers, actions * codes)
            self.code = normed(2 * hidden, hidden, layers, codes)
        # Uniform policies, rewards of 0 and values of about 0: while a network still learns the mean, what it
        # tells apart would fade.
        peak = -self.scalars.bins.abs()
        with torch.no_grad():
            self.encoder[0].get_parameter("weight").mul_(SPARSE)
            for network, first, bias in ((self.dynamics, latent, 9 * peak), (self.prediction, 0, peak)):
                for weight in network[-1].parameters():
                    weight[first:] = 0
                network[-1].get_parameter("bias")[-self.scalars.size :] = bias.clamp(min=-9)

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings [..., E] of frames {key: [..., *shape]}, the goals among them."""
        inputs = self.inputs.history(self.inputs(observation).unsqueeze(-2))
        embedding: Tensor = F.silu(self.norm(self.encoder(inputs))).float()
        return embedding

    def represent(self, windows: Tensor) -> Tensor:
        """Return the state [..., S] after the embeddings [..., k, E] of k frames."""
        return scaled(self.from_frames(windows.flatten(-2)).float())

    def step(self, latent: Tensor, action: Tensor, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the state [..., S] after a one-hot action [..., C] and a one-hot code, and the logits of the
        reward.

        Each action has its own weights for the state, because a sum of the two hides their agreement.
        """
        own = (centered(latent).unsqueeze(-1) * action.unsqueeze(-2)).flatten(-2)
        inputs = torch.cat([own, action] if code is None else [own, action, code], -1)
        change, reward = self.dynamics(inputs).float().tensor_split((self.latent,), -1)
        return scaled(latent + change), reward

    def advance(self, latent: Tensor, action: Tensor, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``step`` for a one-hot action [B, C] and a code [B] int64; with one code it is not read."""
        one_hot = None if code is None or self.outcomes == 1 else F.one_hot(code, self.outcomes).float()
        return self.step(latent, action, one_hot)

    def judge(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [..., C] of the policy and [..., bins] of the value."""
        logits, value = self.prediction(centered(latent)).float().tensor_split((self.actions,), -1)
        return logits, value

    def chance_logits(self, latent: Tensor) -> Tensor:
        """Return the logits [..., C, codes] of the outcomes of each action."""
        logits: Tensor = self.chance(centered(latent)).float().unflatten(-1, (self.actions, self.outcomes))
        return logits

    def chances(self, latent: Tensor) -> Tensor | None:
        """Return the probabilities [B, C, codes] of the outcomes of each action; None if there is one."""
        return None if self.outcomes == 1 else self.chance_logits(latent).softmax(-1)

    def codes(self, embedding: Tensor) -> Tensor | None:
        """Draw the outcomes of the steps between embeddings [B, T + 1, E], one-hot [B, T, codes], with the
        gradient of their probabilities; None if there is one.

        They are drawn (from torch's global generator) because a code that is never taken is never learned.
        """
        if self.outcomes == 1:
            return None
        logits = self.code(torch.cat([embedding[:, :-1], embedding[:, 1:]], -1)).float()
        soft, noise = logits.softmax(-1), -torch.rand_like(logits).clamp(min=1e-20).log()
        hard = F.one_hot((soft / noise).argmax(-1), self.outcomes).float()
        codes: Tensor = hard + soft - soft.detach()
        return codes


def centered(latent: Tensor) -> Tensor:
    """Return states of 0..1 as -1..1, for networks."""
    return 2 * latent - 1


def normed(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """Return ``layers`` layers of ``hidden`` normalised SiLU units and a linear layer.

    States are positive, and their gradients small without the normalisation.
    """
    sizes, stack = [inputs] + [hidden] * layers, list[nn.Module]()
    for before, after in pairwise(sizes):
        stack += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU()]
    return nn.Sequential(*stack, nn.Linear(sizes[-1], outputs))


class Likeness(nn.Module):
    """The similarity of states that SimSiam's two networks see (Chen and He 2020, arXiv 2011.10566).

    Statistics of the batch normalise the projections: without them all states become alike.

    Args:
        latent: size S of the state.
        hidden: size of the projections.
    """

    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(latent, hidden),
            _Centered(hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            _Centered(hidden),
        )
        self.foretell = nn.Sequential(
            nn.Linear(hidden, hidden), _Centered(hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )

    def forward(self, state: Tensor, aim: Tensor) -> Tensor:
        """Return the cosines [...] of states [..., S] to aims of the same shape, which get no gradient."""
        with torch.no_grad():
            wanted = self.project(aim)
        return F.cosine_similarity(self.foretell(self.project(state)), wanted, dim=-1)


class _Centered(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(size, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = self.norm(x.flatten(0, -2)).reshape(x.shape)
        return normal


def scaled(x: Tensor) -> Tensor:
    """Return each row of [..., S] scaled to 0..1."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-5)
