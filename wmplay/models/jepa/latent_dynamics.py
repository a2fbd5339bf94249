"""The part that all models of the family share: the verbs over the latents of the last few frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import Prediction, Segment
from wmplay.errors import check_values
from wmplay.models.vector_state import histories, with_history
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import term
from wmplay.nets.heads import masked_mean
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import ObservationDecoder, chosen

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, E] of the last frames, action [B, k - 1, A] between them


class LatentDynamics(nn.Module, ABC):
    """A model of latents: e[t + 1] from the last k latents and actions, without noise.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        keys: the observation keys that it reads; None = the images, or all where there is none.
        frames: number k of frames on which the next latent depends.
        hidden: units of the decoder's hidden layers.
        decoder: whether to fit a decoder to look at, through which no gradient reaches the latents.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range, or a key that the observations lack.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        keys: Sequence[str] | None,
        frames: int,
        hidden: int,
        decoder: bool,
    ) -> None:
        super().__init__()
        check_values(type(self).__name__.lower(), at_least_one={"frames": frames, "hidden": hidden})
        known = modalities(observation_space, vector_sigma=0.03, pixel_sigma=0.1)
        self.modalities = chosen(known, keys)
        self.reads, self.frames, self.hidden = list(self.modalities), frames, hidden
        self.predicted: Sequence[str] = self.reads if decoder else ()
        self.encode_action = ActionEncoder(action_space)

    def make_heads(self, size: int) -> None:
        """Make the decoder's heads, from latents of this size; without a decoder, none."""
        decoded = {key: self.modalities[key] for key in self.predicted}
        self.heads = ObservationDecoder(decoded, size, self.hidden)

    @abstractmethod
    def latents(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the latents [..., E] of frames {key: [..., *shape]}."""

    @abstractmethod
    def step(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent [R, E] of the last ones [R, k, E] and encoded actions [R, k, A]."""

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        latent = self.latents(observation)
        return {
            "state": latent.unsqueeze(1).repeat(1, self.frames, 1),
            "action": latent.new_zeros(len(latent), self.frames - 1, self.encode_action.size),
        }

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        states = torch.cat([belief["state"], self.latents(observation)], dim=1)
        return self._last(states, torch.cat([belief["action"], self.encode_action(action)], dim=1))

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict under action [B, H, A]. The model has no noise: with a generator it is the same."""
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        states = self.unroll(states, actions)
        latent = states[:, self.frames :]
        return Prediction(latent, None, None, self._last(states, actions), self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of the keys that are decoded to be looked at, from latents [..., E]."""
        found: Mapping[str, Distribution] = self.heads(latent)
        return found

    # ---- as features -----------------------------------------------------------------------------

    def embed(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the latents [..., E] of single frames {key: [..., *shape]}, as in predictions."""
        return self.latents(observation)

    def features(self, belief: Belief) -> Tensor:
        """Return the last k latents and the actions between, [B, k E + (k - 1) A]: one frame shows no
        motion."""
        return torch.cat([belief["state"].flatten(1), belief["action"].flatten(1)], dim=-1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        latents, actions = self.latents(segment.observation), self.encode_action(segment.action)
        return {key: x.flatten(0, 1) for key, x in histories(latents, actions, self.frames).items()}

    # ---- training --------------------------------------------------------------------------------

    def next_latents(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the prediction [B, T, E] of each step between real latents [B, T + 1, E], given those
        before it."""
        before = histories(latent, action, self.frames)
        acted = torch.cat([before["action"][:, :-1], action.unsqueeze(2)], dim=2)
        states = before["state"][:, :-1]
        after = self.step(states.flatten(0, 1), acted.flatten(0, 1))
        return after.reshape(*action.shape[:2], -1)

    def unroll(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return k latents [B, k, E] with all that follow under encoded actions [B, k - 1 + H, A]:
        [B, k + H, E]."""
        every = list(states.unbind(1))
        for h in range(actions.shape[1] - self.frames + 1):
            last = torch.stack(every[-self.frames :], 1)
            every.append(self.step(last, actions[:, h : h + self.frames]))
        return torch.stack(every, 1)

    def counted(self, segment: Segment) -> Tensor:
        """Return which steps, [B, T] bool, have enough frames before them to be predicted."""
        return with_history(segment, self.frames)

    def total(
        self, terms: dict[str, Tensor], weights: Mapping[str, float], segment: Segment, latent: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of loss terms, with those of the decoder, and the metrics of all."""
        decoded, seen = self.decode(latent.detach()), seen_frames(segment)
        for key in self.predicted:
            truth = segment.observation[key].float()
            terms[term(key)] = masked_mean(-decoded[key].log_prob(truth), seen)
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def _last(self, states: Tensor, actions: Tensor) -> Belief:
        return {
            "state": states[:, -self.frames :],
            "action": actions[:, actions.shape[1] - self.frames + 1 :],
        }


def seen_frames(segment: Segment) -> Tensor:
    """Return which frames, [B, T + 1] bool, the mask keeps."""
    return F.pad(segment.mask, (1, 0), value=True)
