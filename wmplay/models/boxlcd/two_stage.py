"""The base of ``fbt`` and ``frnld``: an autoencoder, then a transformer over its frozen codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Stage
from wmplay.errors import ConfigError
from wmplay.models.boxlcd.bvae import BVAE
from wmplay.models.boxlcd.frame_transformer import Belief, FrameTransformer
from wmplay.models.boxlcd.rnlda import RNLDA
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import vectors


class TwoStage(nn.Module, ABC):
    """A world model over the symbols of an autoencoder.

    Predictions stay among the codes: no frame is decoded or encoded between two predicted steps.

    Args:
        observation_space: of the frames.
        action_space: a one-dimensional Box, or Discrete.
        autoencoder: of single frames.
        direct_vectors: whether the transformer predicts the vectors, which the autoencoder then leaves out.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        autoencoder_share: of the updates.
        settings: of the ``FrameTransformer`` over the autoencoder's symbols.

    Raises:
        ConfigError: for a share that is not between 0 and 1.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        autoencoder: BVAE | RNLDA,
        direct_vectors: bool,
        vector_sigma: float,
        autoencoder_share: float,
        **settings: Any,
    ) -> None:
        super().__init__()
        if not 0 < autoencoder_share < 1:
            raise ConfigError(
                f"autoencoder_share is {autoencoder_share}",
                got=autoencoder_share,
                expected="more than 0, less than 1",
            )
        found = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        beside = vectors(found) if direct_vectors else {}
        self.autoencoder = autoencoder
        self.dynamics = FrameTransformer(autoencoder.symbols, beside, action_space, **settings)
        self.keys, self.autoencoder_share = tuple(found), autoencoder_share
        self.least_length = self.dynamics.trunk.context

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        return self.dynamics.initial(self._likely_code(observation))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}.

        Symbols of the frames are the most likely ones.
        """
        return self.dynamics.observe(belief, action, self._likely_code(observation))

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]; a latent is the code of a frame."""
        future = self.dynamics.predict(belief, action, generator, temperature)
        return LazyPrediction(future.code, future.outcomes, future.belief, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from codes [..., S + V], each computed at its first
        use."""
        drawn = self.autoencoder.decode(self.dynamics.split(latent)[0])

        def distribution(key: str) -> Distribution:
            return self.dynamics.vector(key, latent) if key in self.dynamics.vectors else drawn[key]

        return LazyMapping(self.keys, distribution)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return ``FrameTransformer.features`` of beliefs, [B, F]."""
        return self.dynamics.features(belief)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        return self.dynamics.track(self._likely_code(segment.observation), segment.action)

    # ---- training --------------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """Return the stages: the autoencoder, then the dynamics over its frozen codes."""
        share = self.autoencoder_share
        return [
            Stage("autoencoder", share, self.autoencoder, self.autoencoder.loss),
            Stage("dynamics", 1 - share, self.dynamics, self.dynamics_loss),
        ]

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of both stages' losses, which share no gradient."""
        drawing, metrics = self.autoencoder.loss(segment)
        moving, more = self.dynamics_loss(segment)
        return drawing + moving, {**metrics, **more}

    def dynamics_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the dynamics' loss for the next frame's code given those before it, on codes without
        gradient.

        Metrics are those of ``FrameTransformer.loss``; ``loss/code`` is that of the symbols.
        """
        with torch.no_grad():
            output = self.autoencoder(segment.observation)
            symbols = self.autoencoder.symbols.pick(output, self.autoencoder.symbols.noise(output))
            code = self.dynamics.code(symbols, segment.observation)
        return self.dynamics.loss(code, self.target(output, symbols)[:, 1:], segment, "code")

    @abstractmethod
    def target(self, output: Tensor, symbols: Tensor) -> Tensor:
        """Return the dynamics' target [..., S] for frames with the autoencoder's ``output`` and sampled
        ``symbols``."""

    def _likely_code(self, observation: Mapping[str, Tensor]) -> Tensor:
        symbols = self.autoencoder.symbols.pick(self.autoencoder(observation), None)
        return self.dynamics.code(symbols, observation)
