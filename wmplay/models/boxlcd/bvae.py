"""The binary variational autoencoder of boxLCD (Wilson 2021): each frame as a grid of Bernoulli bits.

    q(bits | frame), sampled with straight-through gradients
    p(screen | bits) Bernoulli pixels, p(vectors | bits) Gaussian

The loss is not a bound: it is a mean of nats per pixel and per number, minus a small bonus for the entropy of
the bits, which keeps bits without information at probability one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import Segment
from wmplay.errors import check_values
from wmplay.models.boxlcd.autoencoder import FrameAutoencoder, ends
from wmplay.models.symbols import Bits
from wmplay.nets.heads import masked_mean


class BVAE(nn.Module):
    """An autoencoder from frames to bits. It is not a world model: ``fbt`` predicts its bits.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors.
        channels: bits in each cell of 4 x 4 pixels.
        width: channels of the convolutions.
        patch: side, in pixels, of the patches that enter the first convolution: 1 (as published), 2 or 4.
        hidden: units of the hidden layer from bits to vectors.
        entropy_weight: weight of the mean entropy of the bits.
        vector_sigma: width of the Gaussian around vectors, in half-ranges of their space.
        position_features: octaves of sines and cosines of the vectors that enter the encoder; 0 as published.
        with_vectors: whether the bits encode the vectors as well as the screen.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        channels: int = 16,
        width: int = 16,
        patch: int = 4,
        hidden: int = 64,
        entropy_weight: float = 5e-4,
        vector_sigma: float = 1.0,
        position_features: int = 5,
        with_vectors: bool = True,
    ) -> None:
        super().__init__()
        check_values("bvae", not_negative={"entropy_weight": entropy_weight})
        self.frames = FrameAutoencoder(
            observation_space, channels, width, patch, hidden, vector_sigma, position_features, with_vectors
        )
        self.symbols = Bits(self.frames.size)
        self.entropy_weight = entropy_weight

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return logits [..., S] of the bits of frames {key: [..., ...]}."""
        logits: Tensor = self.frames(observation)
        return logits.float()

    def decode(self, bits: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from bits [..., S], each computed at its first use."""
        return self.frames.decode(bits)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return nats per pixel + nats per number of each vector - ``entropy_weight`` x nats of entropy per
        bit.

        The loss reads each segment's first and last frame. Metrics: ``loss/<key>``, and ``entropy``.
        """
        observation, seen = ends(segment)
        logits = self(observation)
        bits = self.symbols.pick(logits, self.symbols.noise(logits))
        terms = self.frames.reconstruction(bits, observation, seen)
        entropy = masked_mean(self.symbols.loss(logits, logits.sigmoid()), seen)
        metrics = {f"loss/{key}": term.detach() for key, term in terms.items()}
        total = sum(terms.values(), -self.entropy_weight * entropy)
        return total, {**metrics, "entropy": entropy.detach()}
