"""The frame transformer FIT of boxLCD (Wilson 2021): GPT over raw frames, one frame a token, no autoencoder.

    p(screen_{t+1} | frames and actions so far)          independent pixels, by the transformer

Departures from the original: positions are relative, because learned absolute ones cannot slide along
episodes longer than the context; vectors are part of a frame (``vectors``), because tasks compute rewards
from them; reward and continuation have heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Surprise
from wmplay.models.boxlcd.frame_transformer import Belief, FrameTransformer
from wmplay.models.symbols import Bits
from wmplay.nets.by_key import term
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import the_screen
from wmplay.nets.observations import vectors as vectors_of


class FIT(nn.Module):
    """A transformer over pixels.

    The latent of a predicted step is the flat screen and the numbers of the vectors. With a generator its
    pixels are a sample; without one they are probabilities, while the more likely value is fed back.

    Args:
        vectors: whether vectors are read and predicted; False, as published, models the screen alone.
        code_weight: of the loss per pixel, relative to the loss per number of the vectors.
        others: as for ``FBT``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        size: int = 128,
        layers: int = 2,
        heads: int = 4,
        context: int = 12,
        hidden: int = 64,
        vectors: bool = True,
        vector_sigma: float = 0.03,
        change_scale: float = 0.1,
        min_sigma: float = 0.01,
        position_features: int = 5,
        code_weight: float = 32.0,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        found = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        self.screen = the_screen(found)
        self.shape = found[self.screen].shape
        beside = vectors_of(found) if vectors else {}
        self.predicted = tuple(key for key in found if key == self.screen or key in beside)
        self.dynamics = FrameTransformer(
            Bits(found[self.screen].size),
            beside,
            action_space,
            size=size,
            layers=layers,
            heads=heads,
            context=context,
            hidden=hidden,
            change_scale=change_scale,
            min_sigma=min_sigma,
            position_features=position_features,
            code_weight=code_weight,
            reward_weight=reward_weight,
            continuation_weight=continuation_weight,
        )
        self.least_length = context

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        return self.dynamics.initial(self._code(observation))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        return self.dynamics.observe(belief, action, self._code(observation))

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]; samples spread more at a higher temperature."""
        future = self.dynamics.predict(belief, action, generator, temperature)
        latent = future.code
        if generator is None:
            numbers = self.dynamics.split(future.code)[1]
            latent = torch.cat([self.dynamics.symbols.expected(future.output), numbers], dim=-1)
        return LazyPrediction(latent, future.outcomes, future.belief, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from latents [..., H * W + V]."""

        def distribution(key: str) -> Distribution:
            if key != self.screen:
                return self.dynamics.vector(key, latent)
            pixels = self.dynamics.split(latent)[0].reshape(*latent.shape[:-1], *self.shape)
            return Independent(Bernoulli(probs=pixels, validate_args=False), 2, validate_args=False)

        return LazyMapping(self.predicted, distribution)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return ``FrameTransformer.features`` of beliefs, [B, F]."""
        return self.dynamics.features(belief)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        return self.dynamics.track(self._code(segment.observation), segment.action)

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of each frame's prediction from those before it, with ``FrameTransformer.loss``'s
        metrics."""
        code = self._code(segment.observation)
        target = self.dynamics.split(code)[0][:, 1:]
        return self.dynamics.loss(code, target, segment, term(self.screen))

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return the exact surprise: given the past, pixels are independent."""
        code = self._code(segment.observation)
        output = self.dynamics(code[:, :-1], segment.action).output
        target = self.dynamics.split(code)[0][:, 1:]
        symbols = self.dynamics.symbols
        return Surprise(symbols.size * symbols.loss(output, target), "exact")

    def _code(self, observation: Mapping[str, Tensor]) -> Tensor:
        return self.dynamics.code(observation[self.screen].flatten(-2).float(), observation)
