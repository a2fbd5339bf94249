"""A feed-forward model: a Gaussian over the next state from the last few frames and actions.

These are the dynamics of PETS (Chua et al. 2018, arXiv 1805.12114) over short histories. The state of a frame
is its vector observations, with a learned code of its screens if vectors are missing or incomplete. The model
is fast, and has no memory beyond its frames, unlike the RSSM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyPrediction, Prediction, Segment
from wmplay.errors import check_values
from wmplay.models.vector_state import (
    FrameStates,
    NextState,
    begin_history,
    extend_history,
    histories,
    history_inputs,
    step_inputs,
    with_history,
)
from wmplay.nets.actions import ActionEncoder

Belief: TypeAlias = dict[str, Tensor]  # state [B, k, S], action [B, k - 1, A]


class MLP(nn.Module):
    """A feed-forward model, state[t + 1] ~ N(state[t] + m, s), with (m, s) from the last k states and
    actions.

    The model is fitted by the likelihood of single steps from real frames, all steps of a segment at once.
    Images are decoded from the state by heads that are fitted on real states.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        frames: number k of frames on which the next one depends.
        hidden: units of each hidden layer outside the image networks.
        image_hidden: units of each hidden layer of the networks from and to images.
        layers: hidden layers of the networks that predict the change and the outcomes.
        change_scale: the typical change of a state entry in a step, in half-ranges; the unit in which changes
            are read and predicted.
        min_sigma: the smallest width of the Gaussian over the next state, in the same unit.
        beta: above 0, entries that are hard to predict keep a gradient despite their wide Gaussian; see
            ``NextState``.
        code: size of the learned code of the screens in the state; None = 64 without a vector observation, 0
            with one.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        position_features: octaves of sines and cosines of the vectors that enter the image heads.
        symlog: whether to squash vectors without bounds.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range, or a code in a space without screens.
    """

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
        beta: float = 0.0,
        code: int | None = None,
        vector_sigma: float = 0.03,
        pixel_sigma: float = 1.0,
        position_features: int = 5,
        symlog: bool = False,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"frames": frames, "hidden": hidden, "image_hidden": image_hidden, "layers": layers}
        check_values("mlp", at_least_one=sizes)
        self.frames, self.change_scale = frames, change_scale
        self.states = FrameStates(
            observation_space,
            code,
            image_hidden,
            position_features,
            vector_sigma=vector_sigma,
            pixel_sigma=pixel_sigma,
            symlog=symlog,
        )
        self.encode_action = ActionEncoder(action_space)
        self.next = NextState(
            frames * (self.states.size + self.encode_action.size),
            self.states,
            hidden,
            layers,
            change_scale,
            min_sigma,
            beta,
            reward_weight,
            continuation_weight,
        )

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        return begin_history(self.states(observation), self.frames, self.encode_action.size)

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        return extend_history(belief, self.encode_action(action), self.states(observation))

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: draws with a generator, the means of the Gaussians without.

        ``temperature`` multiplies the widths of the Gaussians.
        """
        states, actions = belief["state"], torch.cat([belief["action"], self.encode_action(action)], dim=1)
        latents, seen = [], []
        for step in range(action.shape[1]):
            x = history_inputs(states, actions[:, step : step + self.frames], self.change_scale)
            state = self.next.pick(x, states[:, -1], generator, temperature)
            latents.append(state)
            seen.append(x)
            states = torch.cat([states[:, 1:], state.unsqueeze(1)], dim=1)
        latent = torch.stack(latents, 1)
        outcomes = self.next.outcomes(lambda: torch.cat([torch.stack(seen, 1), latent], dim=-1))
        last = {"state": states, "action": actions[:, action.shape[1] :]}
        return LazyPrediction(latent, outcomes, last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from states [..., S], each computed at its first
        use."""
        return self.states.decode(latent)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the last state, the changes before it, and the actions between, [B, k S + (k - 1) A]: all
        that the next state depends on."""
        return history_inputs(belief["state"], belief["action"], self.change_scale)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        states, actions = self.states(segment.observation), self.encode_action(segment.action)
        return {key: value.flatten(0, 1) for key, value in histories(states, actions, self.frames).items()}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood, in nats, of each step given the real frames before it.

        The first steps of a segment from the middle of an episode have too few frames before them, and do not
        count. Metrics: ``loss/<key>``, ``loss/code``, ``loss/reward``, ``loss/continuation``, each before its
        weight.
        """
        state, action = self.states(segment.observation), self.encode_action(segment.action)
        x = step_inputs(state, action, self.frames, self.change_scale)
        return self.next.loss(x, state, self.states, segment, with_history(segment, self.frames))
