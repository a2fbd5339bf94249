"""A feed-forward model: the change of the state from the last few frames and actions.

The state of a frame is its vector observations and, where those are missing or do not say it all, a learned
code of its screens. The fast contrast to the RSSM: no memory beyond its frames, no latent noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyMapping, Prediction, Segment
from wmplay.errors import ConfigError
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import ImageHead, ObservationEncoder, vectors

CODE = 64

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, S], action [B, k - 1, A]


class MLP(nn.Module):
    """Predicts state[t + 1] = state[t] + f(state[t - k + 1 .. t], action[t - k + 1 .. t]), k = ``frames``.

    It is trained on its own predictions: from a segment's first frames it runs free to the segment's end,
    and every predicted frame counts. Short segments fit it best: a chaotic world's far future has nothing
    to teach a model without noise. Images are drawn from the state by heads that learn on true states.
    There is one future for each plan, sampled or not.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        frames: how many frames k the next one depends on.
        hidden: units of each hidden layer, except those of
        image_hidden: the networks from and to images.
        layers: hidden layers of the networks that predict the change and the outcomes.
        change_scale: how much a step typically changes a state entry, in half-ranges; changes are fed
            and predicted in units of it.
        code: size of the learned code of the screens in the state; None = 64 where there is no vector,
            and none where there is one.
        vector_sigma: width of the Gaussian around vectors, in half-ranges of their space.
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
        if change_scale <= 0:
            raise ConfigError(f"mlp: change_scale is {change_scale}, expected a positive number")
        self.frames, self.change_scale = frames, change_scale
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
        self.code_sigma = vector_sigma
        self.encoder = ObservationEncoder(screens, 0, image_hidden, 1, code) if code else None
        inputs = frames * (state + self.encode_action.size)
        self.change = mlp(inputs, hidden, layers, state)
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
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """The future under action [B, H, A]; the model is deterministic, so a generator changes nothing."""
        latent, features, belief = self.rollout(belief, self.encode_action(action))
        reward, discount = self.outcomes(features)
        return Prediction(latent, reward, discount, belief, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Distributions of each observation key from states [..., S], each worked out when asked for."""
        positions, code = latent[..., : self.vector_size], latent[..., self.vector_size :]
        sizes = [m.size for m in self.vectors.values()]
        outputs = dict(zip(self.vectors, torch.split(positions, sizes, dim=-1), strict=True)) if sizes else {}

        def distribution(key: str) -> Distribution:
            output = outputs[key] if key in outputs else self.image_heads[key](code, positions)
            return self.modalities[key].distribution(output)

        return LazyMapping(self.modalities, distribution)

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean negative log-likelihood, in nats, of each step of a free run through the segment.

        The first ``frames`` frames are given (a prediction from fewer sees the first one repeated, as at
        the beginning of an episode), the rest are the model's own. A code is predicted like a vector; what
        it means is learned by drawing true frames from it. Metrics: ``loss/<key>``, ``loss/code``,
        ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        states = self.state({key: segment.observation[key] for key in self.modalities})
        action = self.encode_action(segment.action)
        start = {
            "state": states[:, :1].repeat(1, self.frames, 1),
            "action": torch.zeros_like(action[:, :1]).repeat(1, self.frames - 1, 1),
        }
        latent, features, _ = self.rollout(start, action, states[:, 1 : self.frames])
        predicted, drawn = self.decode(latent), self.decode(states[:, :1])
        values = self.outcomes.negative_log_likelihoods(features, segment)
        for key, observed in segment.observation.items():
            if key in self.vectors:
                values[key] = -predicted[key].log_prob(observed[:, 1:].float())
            elif key in self.image_heads:
                # one frame of each segment will do: the others look much the same
                values[key] = -drawn[key].log_prob(observed[:, :1].float())
        if self.encoder is not None:
            error = (latent - states[:, 1:].detach())[..., self.vector_size :] / self.code_sigma
            values["code"] = 0.5 * error.square().sum(-1)
        terms = {
            name: masked_mean(value, segment.mask[:, : value.shape[1]]) for name, value in values.items()
        }
        weights = self.outcomes.weights
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return total, {f"loss/{name}": term.detach() for name, term in terms.items()}

    def rollout(
        self, belief: Belief, action: Tensor, given: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Belief]:
        """Steps forward under action [B, H, A] (encoded).

        Args:
            belief: where to begin.
            action: encoded actions.
            given: true states [B, G, S] of the first steps, which the later ones then build on; G = 0
                for a prediction.

        Returns:
            predicted states [B, H, S], features of each step for the outcome heads, the last belief.
        """
        past = list(belief["state"].unbind(1))
        actions = torch.cat([belief["action"], action], dim=1)
        truths = [] if given is None else given.unbind(1)
        latents, features = [], []
        for step in range(action.shape[1]):
            recent = past[-self.frames :]
            changes = [(after - before) / self.change_scale for before, after in pairwise(recent)]
            x = torch.cat([recent[-1], *changes, actions[:, step : step + self.frames].flatten(1)], dim=-1)
            state = recent[-1] + self.change_scale * self.change(x).float()
            state = torch.clamp(state, -self.limit, self.limit)  # a long run stays in the world
            latents.append(state)
            features.append(torch.cat([x, state], dim=-1))
            past.append(truths[step] if step < len(truths) else state)
        last = {
            "state": torch.stack(past[-self.frames :], 1),
            "action": actions[:, action.shape[1] :],
        }
        return torch.stack(latents, 1), torch.stack(features, 1), last

    def state(self, observation: Mapping[str, Tensor]) -> Tensor:
        """[..., S] from {key: [..., ...]}."""
        parts = [m.encode(observation[key]) for key, m in self.vectors.items()]
        if self.encoder is not None:
            parts.append(self.encoder(observation).float().tanh())
        return torch.cat(parts, dim=-1)
