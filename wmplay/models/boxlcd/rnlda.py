"""RNLDA of boxLCD (Wilson 2021), an autoencoder with ranged, noisy, quantised codes: a frame as a grid of
levels.

An output is squashed to -1..1, gets uniform noise of a quarter, and is rounded to -0.75, -0.25, 0.25 or 0.75,
with straight-through gradients. The loss has no term for the code: its few levels and the noise limit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import Segment
from wmplay.models.boxlcd.autoencoder import FrameAutoencoder, ends
from wmplay.models.symbols import Levels


class RNLDA(nn.Module):
    """An autoencoder from frames to levels. It is not a world model: ``frnld`` predicts its levels.

    Args:
        channels: levels in each cell of 4 x 4 pixels.
        others: as for ``BVAE``, with levels in place of bits.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        channels: int = 8,
        width: int = 16,
        patch: int = 4,
        hidden: int = 64,
        vector_sigma: float = 1.0,
        position_features: int = 5,
        with_vectors: bool = True,
    ) -> None:
        super().__init__()
        self.frames = FrameAutoencoder(
            observation_space, channels, width, patch, hidden, vector_sigma, position_features, with_vectors
        )
        self.symbols = Levels(self.frames.size)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs, before squashing and rounding, [..., S], of frames {key: [..., ...]}."""
        output: Tensor = self.frames(observation)
        return output.float()

    def decode(self, levels: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from levels [..., S], each computed at its first
        use."""
        return self.frames.decode(levels)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return nats per pixel + nats per number of each vector.

        The loss reads each segment's first and last frame. Metrics: ``loss/<key>``.
        """
        observation, seen = ends(segment)
        output = self(observation)
        levels = self.symbols.pick(output, self.symbols.noise(output))
        terms = self.frames.reconstruction(levels, observation, seen)
        total = sum(terms.values(), output.new_zeros(()))
        return total, {f"loss/{key}": term.detach() for key, term in terms.items()}
