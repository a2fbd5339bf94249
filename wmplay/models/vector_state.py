"""States of frames, and a Gaussian over the next state, for models of vectors (``mlp`` and ``gru``).

The state of a frame is its vector observations, with a learned code of its screens if vectors are missing or
incomplete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, Segment
from wmplay.errors import ConfigError
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import OutcomeHeads, masked_mean, nats
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import ImageHead, ObservationEncoder, vectors

CODE = 64


class FrameStates(nn.Module):
    """A map from frames {key: [..., *shape]} to states [..., size] of order one, and back to distributions of
    frames.

    Images are decoded from the state by heads that are fitted on real states.

    Args:
        space: a Dict of the kinds in ``wmplay.nets.modalities``.
        code: size of the learned code of the screens; None = 64 without a vector observation, 0 with one.
        hidden: units of each hidden layer of the networks from and to images.
        position_features: octaves of sines and cosines of the vectors that enter the image heads.
        widths: see ``wmplay.nets.modalities.modalities``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range, or a code in a space without screens.
    """

    def __init__(
        self, space: gym.Space[Any], code: int | None, hidden: int, position_features: int, **widths: Any
    ) -> None:
        super().__init__()
        if position_features < 0:
            raise ConfigError(f"position_features is {position_features}", expected="at least 0")
        self.modalities = modalities(space, **widths)
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.vectors = vectors(self.modalities)
        screens = {key: m for key, m in self.modalities.items() if key not in self.vectors}
        if code is None:
            code = 0 if self.vectors else CODE
        if code < 0 or (code > 0 and not screens) or (code == 0 and not self.vectors):
            needed = "more than 0 without a vector observation" if screens else "0 without a screen"
            raise ConfigError(f"code is {code}", got=code, expected=f"{needed}")
        self.vector_size = sum(m.size for m in self.vectors.values())
        self.size = self.vector_size + code
        self.register_buffer("code_limit", torch.ones(code), persistent=False)  # a code is a tanh
        self.encoder = ObservationEncoder(screens, 0, hidden, 1, code) if code else None
        self.image_heads = ModulesByKey(
            {
                key: ImageHead(m, code, self.vector_size, position_features, hidden)
                for key, m in screens.items()
            }
        )

    code_limit: Tensor

    @property
    def limit(self) -> Tensor:
        """The largest value of each state entry, [S]."""
        return torch.cat([*(m.limit for m in self.vectors.values()), self.code_limit])

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the states [..., S] of frames {key: [..., *shape]}; keys that are not modelled are
        ignored."""
        parts = [m.encode(observation[key]) for key, m in self.vectors.items()]
        if self.encoder is not None:
            parts.append(self.encoder(observation).float().tanh())
        return torch.cat(parts, dim=-1)

    def decode(self, state: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from states [..., S], each computed at its first
        use."""
        positions, code = state[..., : self.vector_size], state[..., self.vector_size :]
        outputs = self.parts(state)

        def distribution(key: str) -> Distribution:
            output = outputs[term(key)] if key in self.vectors else self.image_heads[key](code, positions)
            return self.modalities[key].distribution(output)

        return LazyMapping(self.modalities, distribution)

    def parts(self, state: Tensor) -> dict[str, Tensor]:
        """Return the entries of states [..., S] by loss term: one for each vector, and ``code``."""
        sizes = {term(key): m.size for key, m in self.vectors.items()}
        if self.encoder is not None:
            sizes["code"] = self.size - self.vector_size
        return dict(zip(sizes, torch.split(state, list(sizes.values()), dim=-1), strict=True))

    def as_target(self, state: Tensor) -> Tensor:
        """Return states [..., S] as targets: without gradient in the code, which the image heads alone
        shape."""
        if self.encoder is None:
            return state
        return torch.cat([state[..., : self.vector_size], state[..., self.vector_size :].detach()], dim=-1)


def begin_history(state: Tensor, frames: int, action_size: int) -> dict[str, Tensor]:
    """Return the last k states [B, k, S] and k - 1 actions at an episode's first state [B, S], as if nothing
    had moved before it."""
    return {
        "state": state.unsqueeze(1).repeat(1, frames, 1),
        "action": state.new_zeros(len(state), frames - 1, action_size),
    }


def extend_history(before: Mapping[str, Tensor], actions: Tensor, states: Tensor) -> dict[str, Tensor]:
    """Return the last k states and k - 1 actions after actions [B, T, A] and the states [B, T, S] that they
    led to."""
    frames = before["state"].shape[1]
    states = torch.cat([before["state"], states], dim=1)
    actions = torch.cat([before["action"], actions], dim=1)
    return {"state": states[:, -frames:], "action": actions[:, actions.shape[1] - frames + 1 :]}


def histories(states: Tensor, actions: Tensor, frames: int) -> dict[str, Tensor]:
    """Return the last k states [B, T + 1, k, S] and k - 1 actions [B, T + 1, k - 1, A] at each of states
    [B, T + 1, S]."""
    before = frames - 1
    padded = torch.cat([states[:, :1].expand(-1, before, -1), states], dim=1)
    acted = F.pad(actions, (0, 0, before, 0))
    return {
        "state": padded.unfold(1, frames, 1).transpose(-1, -2),
        "action": acted.unfold(1, before, 1).transpose(-1, -2),
    }


def history_inputs(states: Tensor, actions: Tensor, change_scale: float) -> Tensor:
    """Return a network's input [..., inputs] for k states [..., k, S] and any actions [..., n, A].

    It is the last state, the changes before it in the unit ``change_scale``, and the actions.
    """
    changes = (states[..., 1:, :] - states[..., :-1, :]) / change_scale
    return torch.cat([states[..., -1, :], changes.flatten(-2), actions.flatten(-2)], dim=-1)


def step_inputs(states: Tensor, actions: Tensor, frames: int, change_scale: float) -> Tensor:
    """Return the network's input [B, T, inputs] of each step between states [B, T + 1, S]."""
    before = histories(states, actions, frames)
    taken = torch.cat([before["action"][:, :-1], actions.unsqueeze(2)], dim=2)
    return history_inputs(before["state"][:, :-1], taken, change_scale)


class NextState(nn.Module):
    """Heads of the next state, state[t + 1] ~ N(state[t] + m, s) with (m, s) = f(x), and of its outcome.

    Args:
        inputs: size of x.
        states: the states to predict.
        hidden: units of each hidden layer.
        layers: number of hidden layers.
        change_scale: the unit of changes and of their widths.
        min_sigma: the smallest width, in the same unit.
        beta: weights each entry's likelihood by sigma^(2 beta) (Seitzer et al. 2022, arXiv 2203.09168): with
            0, an entry that is hard to predict gets a wide Gaussian and so hardly any gradient; with 1, the
            mean is fitted as by squared errors.
        reward_weight: see ``OutcomeHeads``.
        continuation_weight: see ``OutcomeHeads``.

    Raises:
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        inputs: int,
        states: FrameStates,
        hidden: int,
        layers: int,
        change_scale: float,
        min_sigma: float,
        beta: float,
        reward_weight: float,
        continuation_weight: float,
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ConfigError(f"beta is {beta}", got=beta, expected="0 to 1")
        for name, value in (("change_scale", change_scale), ("min_sigma", min_sigma)):
            if not value > 0:
                raise ConfigError(f"{name} is {value}", got=value, expected="a positive number")
        self.change_scale, self.min_sigma, self.beta = change_scale, min_sigma, beta
        self._states = (states,)  # in a tuple, so that its weights are not registered here
        self.change = mlp(inputs, hidden, layers, 2 * states.size)
        self.outcomes = OutcomeHeads(inputs + states.size, hidden, layers, reward_weight, continuation_weight)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and width, each [..., S], of the state after ``state``."""
        mean, width = self.change(x).float().chunk(2, dim=-1)
        sigma = F.softplus(width.contiguous()) + self.min_sigma  # softplus is slow on strided memory
        return state + self.change_scale * mean, self.change_scale * sigma

    def pick(self, x: Tensor, state: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Return the mean [..., S], or a draw, clipped to the space's bounds so that long rollouts stay
        within them."""
        mean, sigma = self(x, state)
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            mean = mean + temperature * sigma * noise
        limit = self._states[0].limit
        return torch.clamp(mean, -limit, limit)

    def loss(
        self, x: Tensor, state: Tensor, states: FrameStates, segment: Segment, mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood, in nats, of each step given the real frames before it.

        Args:
            x: [B, T, inputs] of each step.
            state: [B, T + 1, S] of each frame.
            states: the map that computed ``state``.
            segment: of the frames.
            mask: [B, T] bool, the steps that count.

        Returns:
            (scalar, metrics ``loss/<key>``, ``loss/code``, ``loss/reward``, ``loss/continuation``, each
            before its weight, but with beta).
        """
        mean, sigma = self(x, state[:, :-1])
        target = states.as_target(state[:, 1:])
        values = self.outcomes.negative_log_likelihoods(torch.cat([x, target], dim=-1), segment)
        entries = nats(target, mean, sigma) * (sigma.detach() / self.change_scale) ** (2 * self.beta)
        values |= {name: part.sum(-1) for name, part in states.parts(entries).items()}
        terms = {name: masked_mean(value, mask) for name, value in values.items()}
        drawn = states.decode(state[:, :1])
        for key in states.image_heads:
            # one frame of each segment is enough, because its frames look alike
            value = -drawn[key].log_prob(segment.observation[key][:, :1].float())
            terms[term(key)] = masked_mean(value, segment.mask[:, :1])
        weights = self.outcomes.weights
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return total, {f"loss/{name}": term.detach() for name, term in terms.items()}


def with_history(segment: Segment, frames: int) -> Tensor:
    """Return which steps, [B, T] bool, count if a step needs ``frames`` frames up to it.

    A step counts if the segment has that many frames before it, or if the segment begins with its episode.
    """
    steps = torch.arange(segment.action.shape[1], device=segment.mask.device)
    complete = (steps >= frames - 1).expand_as(segment.mask)
    if segment.first is not None:
        complete = complete | segment.first.unsqueeze(1)
    return segment.mask & complete
