"""FRNLD of boxLCD (Wilson 2021): a transformer over the quantised codes of a frozen RNLDA, one frame a token.

The head's output, squashed by tanh, is fitted to the next code by squared error, and rounded to levels before
it is fed back. The model has no likelihood: a sampled future adds the autoencoder's noise before rounding.
The departures from the original are those of ``fbt``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from torch import Tensor

from wmplay.models.boxlcd.frame_transformer import FrameTransformer
from wmplay.models.boxlcd.rnlda import RNLDA
from wmplay.models.boxlcd.two_stage import TwoStage
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import vectors


class FRNLD(TwoStage):
    """A transformer over the levels of frames.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors.
        action_space: a one-dimensional Box, or Discrete.
        size: size E of a token.
        layers: of the transformer.
        heads: of its attention.
        context: frames that the transformer sees; at most the length of the segments it is fitted on.
        hidden: units of the hidden layers of the heads for vectors, reward and continuation.
        channels: levels in each cell of 4 x 4 pixels.
        width: channels of the autoencoder's convolutions.
        patch: side, in pixels, of the patches that enter the first convolution: 1 (as published), 2 or 4.
        direct_vectors: whether vectors are predicted directly, and not, as published, encoded in the levels.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        change_scale: the typical change of a vector's number in a step, in half-ranges; the unit in which
            changes are read and predicted.
        min_sigma: the smallest width of the Gaussian over a number's change, in the same unit.
        position_features: octaves of sines and cosines of the vectors that enter the networks.
        autoencoder_share: of the updates; the remaining ones fit the transformer.
        code_weight: of the loss per level, relative to the loss per number of the vectors.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

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
        channels: int = 8,
        width: int = 16,
        patch: int = 4,
        direct_vectors: bool = True,
        vector_sigma: float = 0.03,
        change_scale: float = 0.1,
        min_sigma: float = 0.01,
        position_features: int = 5,
        autoencoder_share: float = 0.3,
        code_weight: float = 4.0,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        found = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        beside = vectors(found) if direct_vectors else {}
        autoencoder = RNLDA(
            observation_space,
            channels,
            width,
            patch,
            hidden,
            vector_sigma,
            position_features,
            with_vectors=not direct_vectors,
        )
        dynamics = FrameTransformer(
            autoencoder.symbols,
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
        super().__init__(list(found), autoencoder, dynamics, autoencoder_share)

    def target(self, output: Tensor, symbols: Tensor) -> Tensor:
        """Return the sampled levels."""
        return symbols
