"""A feed-forward model: a Gaussian over the next state, from the last few frames and actions (the dynamics of
PETS, Chua et al. 2018, arXiv 1805.12114, over short histories).

The state of a frame is its vector observations and, where those are missing or do not say it all, a learned
code of its screens. The fast contrast to the RSSM: no memory beyond its frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, Prediction, Segment
from wmplay.errors import ConfigError
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import ImageHead, ObservationEncoder, vectors

CODE = 64
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, S], action [B, k - 1, A]


class MLP(nn.Module):
    """state[t + 1] ~ N(state[t] + m, s), (m, s) = f(state[t - k + 1 .. t], action[t - k + 1 .. t]).

    It is fitted on single steps from true frames, by likelihood, all steps of a segment at once. Images are
    drawn from the state by heads that learn on true states.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        frames: how many frames k the next one depends on.
        hidden: units of each hidden layer, except those of
        image_hidden: the networks from and to images.
        layers: hidden layers of the networks that predict the change and the outcomes.
        change_scale: how much a step typically changes a state entry, in half-ranges; changes are fed
            and predicted in units of it.
        min_sigma: the smallest width of the Gaussian over the next state, in the same units.
        code: size of the learned code of the screens in the state; None = 64 where there is no vector,
            and none where there is one.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        position_features: octaves of sines and cosines in which the image heads see vectors.
        symlog: squash vectors without bounds.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the loss of "the episode goes on"; 0 = no such head.

    Raises:
        SpaceError: for spaces that are none of the above.
        ConfigError: for sizes out of range, or a code of screens that are not there.
    """

    limit: Tensor  # [S]: the largest value of each state entry

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        frames: int = 3,
        hidden: int = 256,
        image_hidden: int = 256,
        layers: int = 3,
        change_scale: float = 0.1,
        min_sigma: float = 0.01,
        code: int | None = None,
        vector_sigma: float = 0.03,
        pixel_sigma: float = 1.0,
        position_features: int = 5,
        symlog: bool = False,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if min(frames, hidden, image_hidden, layers) < 1:
            raise ConfigError("mlp: frames, hidden, image_hidden and layers must be at least 1")
        if position_features < 0:
            raise ConfigError(f"mlp: position_features is {position_features}, expected at least 0")
        for name, value in (("change_scale", change_scale), ("min_sigma", min_sigma)):
            if not value > 0:
                raise ConfigError(f"mlp: {name} is {value}, expected a positive number")
        self.frames, self.change_scale, self.min_sigma = frames, change_scale, min_sigma
        self.modalities = modalities(
            observation_space, vector_sigma=vector_sigma, pixel_sigma=pixel_sigma, symlog=symlog
        )
        self.registered = nn.ModuleDict(self.modalities)  # so that their buffers move with the model
        self.vectors = vectors(self.modalities)
        screens = {key: m for key, m in self.modalities.items() if key not in self.vectors}
        if code is None:
            code = 0 if self.vectors else CODE
        if code < 0 or (code > 0 and not screens) or (code == 0 and not self.vectors):
            needed = "more than 0 without a vector observation" if screens else "0 without a screen"
            raise ConfigError(f"mlp: code is {code}, expected {needed}")
        self.encode_action = ActionEncoder(action_space)
        self.vector_size = sum(m.size for m in self.vectors.values())
        state = self.vector_size + code
        limits = [m.limit for m in self.vectors.values()] + [torch.ones(code)]  # a code is a tanh
        self.register_buffer("limit", torch.cat(limits), persistent=False)
        self.encoder = ObservationEncoder(screens, 0, image_hidden, 1, code) if code else None
        inputs = frames * (state + self.encode_action.size)
        self.change = mlp(inputs, hidden, layers, 2 * state)
        self.image_heads = nn.ModuleDict(
            {
                key: ImageHead(m, code, self.vector_size, position_features, image_hidden)
                for key, m in screens.items()
            }
        )
        self.outcomes = OutcomeHeads(inputs + state, hidden, layers, reward_weight, continuation_weight)

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """The belief after an episode's first frame {key: [B, ...]}: as if it had stood still until now."""
        state = self.state(observation)
        return {
            "state": state.unsqueeze(1).repeat(1, self.frames, 1),
            "action": state.new_zeros(len(state), self.frames - 1, self.encode_action.size),
        }

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """The belief after action [B, T, A] and what it led to, {key: [B, T, ...]}."""
        states = torch.cat([belief["state"], self.state(observation)], dim=1)
        actions = torch.cat([belief["action"], self.encode_action(action)], dim=1)
        return {
            "state": states[:, -self.frames :],
            "action": actions[:, actions.shape[1] - self.frames + 1 :],
        }

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """The future under action [B, H, A]: the Gaussians' means, or draws with a generator.

        ``temperature`` multiplies the widths of the Gaussians.
        """
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        latents, features = [], []
        for step in range(action.shape[1]):
            x = self.inputs(states, actions[:, step : step + self.frames])
            state, sigma = self.next_state(x, states[:, -1])
            if generator is not None:
                noise = torch.randn(state.shape, generator=generator, device=state.device)
                state = state + temperature * sigma * noise
            state = torch.clamp(state, -self.limit, self.limit)  # a long run stays in the world
            latents.append(state)
            features.append(torch.cat([x, state], dim=-1))
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        latent = torch.stack(latents, 1)
        reward, discount = self.outcomes(torch.stack(features, 1))
        last = {"state": states, "action": actions[:, action.shape[1] :]}
        return Prediction(latent, reward, discount, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Distributions of each observation key from states [..., S], each worked out when asked for."""
        positions, code = latent[..., : self.vector_size], latent[..., self.vector_size :]
        outputs = self.parts(latent)

        def distribution(key: str) -> Distribution:
            output = outputs[key] if key in outputs else self.image_heads[key](code, positions)
            return self.modalities[key].distribution(output)

        return LazyMapping(self.modalities, distribution)

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean negative log-likelihood, in nats, of each step given the true frames before it.

        The first steps of a segment from the middle of an episode have too few frames before them, and do not
        count. Metrics: ``loss/<key>``, ``loss/code``, ``loss/reward``, ``loss/continuation``, each before its
        weight.
        """
        states = self.state({key: segment.observation[key] for key in self.modalities})
        x = self.inputs(*self.windows(states, self.encode_action(segment.action)))
        mean, sigma = self.next_state(x, states[:, :-1])
        target = states[:, 1:]
        if self.encoder is not None:  # what a code means is learned by drawing from it, below
            vectors, code = target[..., : self.vector_size], target[..., self.vector_size :]
            target = torch.cat([vectors, code.detach()], dim=-1)
        values = self.outcomes.negative_log_likelihoods(torch.cat([x, target], dim=-1), segment)
        entries = 0.5 * ((target - mean) / sigma).square() + sigma.log() + HALF_LOG_TAU
        for key, part in self.parts(entries).items():
            values[key] = part.sum(-1)
        mask = segment.mask & self.has_history(segment)
        drawn = self.decode(states[:, :1])
        for key in self.image_heads:
            # one frame of each segment will do: the others look much the same
            values[key] = -drawn[key].log_prob(segment.observation[key][:, :1].float())
        terms = {
            name: masked_mean(value, segment.mask[:, :1] if name in self.image_heads else mask)
            for name, value in values.items()
        }
        weights = self.outcomes.weights
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return total, {f"loss/{name}": term.detach() for name, term in terms.items()}

    def has_history(self, segment: Segment) -> Tensor:
        """[B, T] bool: the steps with all frames before them that they depend on; at the beginning of an
        episode there are none to miss."""
        steps = torch.arange(segment.action.shape[1], device=segment.mask.device)
        complete = (steps >= self.frames - 1).expand_as(segment.mask)
        return complete if segment.first is None else complete | segment.first.unsqueeze(1)

    def windows(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The k states [B, T, k, S] and actions [B, T, k, A] before each step of states [B, T + 1, S]."""
        before = self.frames - 1
        padded = torch.cat([states[:, :1].expand(-1, before, -1), states[:, :-1]], dim=1)
        acted = torch.cat([torch.zeros_like(actions[:, :1]).expand(-1, before, -1), actions], dim=1)
        return tuple(x.unfold(1, self.frames, 1).transpose(-1, -2) for x in (padded, acted))  # type: ignore[return-value]

    def inputs(self, states: Tensor, actions: Tensor) -> Tensor:
        """What the networks see [..., inputs], of k states [..., k, S] and k actions [..., k, A]."""
        changes = (states[..., 1:, :] - states[..., :-1, :]) / self.change_scale
        return torch.cat([states[..., -1, :], changes.flatten(-2), actions.flatten(-2)], dim=-1)

    def next_state(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and width, each [..., S], of the state after ``state``."""
        mean, width = self.change(inputs).float().chunk(2, dim=-1)
        sigma = F.softplus(width) + self.min_sigma
        return state + self.change_scale * mean, self.change_scale * sigma

    def parts(self, state: Tensor) -> dict[str, Tensor]:
        """State entries [..., S] by vector key, and the code's by ``code``."""
        sizes = {key: m.size for key, m in self.vectors.items()}
        if self.encoder is not None:
            sizes["code"] = state.shape[-1] - self.vector_size
        return dict(zip(sizes, torch.split(state, list(sizes.values()), dim=-1), strict=True))

    def state(self, observation: Mapping[str, Tensor]) -> Tensor:
        """[..., S] from {key: [..., ...]}."""
        parts = [m.encode(observation[key]) for key, m in self.vectors.items()]
        if self.encoder is not None:
            parts.append(self.encoder(observation).float().tanh())
        return torch.cat(parts, dim=-1)
