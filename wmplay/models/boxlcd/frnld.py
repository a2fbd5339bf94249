"""FRNLD of boxLCD (Wilson 2021): a transformer over the quantised codes of a frozen RNLDA, one frame a token.

The head's output, squashed by tanh, is fitted to the next code by squared error, and rounded to levels before
it is fed back. The model has no likelihood: a sampled future adds the autoencoder's noise before rounding.
The departures from the original are those of ``fbt``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from torch import Tensor

from wmplay.models.boxlcd.rnlda import RNLDA
from wmplay.models.boxlcd.two_stage import TwoStage


class FRNLD(TwoStage):
    """A transformer over the levels of frames.

    Args:
        channels: levels in each cell of 4 x 4 pixels.
        code_weight: of the loss per level, relative to the loss per number of the vectors.
        others: as for ``FBT``, with levels in place of bits.

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
        super().__init__(
            observation_space,
            action_space,
            autoencoder,
            direct_vectors,
            vector_sigma,
            autoencoder_share,
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

    def target(self, output: Tensor, symbols: Tensor) -> Tensor:
        """Return the sampled levels."""
        return symbols
