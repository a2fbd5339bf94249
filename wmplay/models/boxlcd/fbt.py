"""The flat binary transformer FBT of boxLCD (Wilson 2021): GPT over the bits of a frozen BVAE.

    bits_t ~ q(bits | frame_t)                                   the BVAE, fitted first
    p(bits_{t+1} | bits_{..t}, action_{..t})                     independent Bernoullis, by the transformer

Each frame is one token. Departures from the original: positions are relative, because learned absolute ones
cannot slide along episodes longer than the context; vectors may be predicted directly (``direct_vectors``),
because tasks compute rewards from them and bits encode them coarsely; reward and continuation have heads. The
default is small and reads the screen in patches; ``fbt_published`` has the original's size and convolutions.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Segment, Surprise
from wmplay.models.boxlcd.bvae import BVAE
from wmplay.models.boxlcd.two_stage import TwoStage


class FBT(TwoStage):
    """A transformer over the bits of frames.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors.
        action_space: a one-dimensional Box, or Discrete.
        size: size E of a token.
        layers: of the transformer.
        heads: of its attention.
        context: frames that the transformer sees; at most the length of the segments it is fitted on.
        hidden: units of the hidden layers of the heads for vectors, reward and continuation.
        bits: in each cell of 4 x 4 pixels.
        width: channels of the autoencoder's convolutions.
        patch: side, in pixels, of the patches that enter the first convolution: 1 (as published), 2 or 4.
        entropy_weight: of the bits' mean entropy, in the autoencoder's loss.
        direct_vectors: whether vectors are predicted directly, and not, as published, encoded in the bits.
        vector_sigma: width of the Gaussian around decoded vectors, in half-ranges of their space.
        change_scale: the typical change of a vector's number in a step, in half-ranges; the unit in which
            changes are read and predicted.
        min_sigma: the smallest width of the Gaussian over a number's change, in the same unit.
        position_features: octaves of sines and cosines of the vectors that enter the networks.
        autoencoder_share: of the updates; the remaining ones fit the transformer.
        code_weight: of the loss per bit, relative to the loss per number of the vectors.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    autoencoder: BVAE

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        size: int = 128,
        layers: int = 2,
        heads: int = 4,
        context: int = 12,
        hidden: int = 64,
        bits: int = 16,
        width: int = 16,
        patch: int = 4,
        entropy_weight: float = 5e-4,
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
        autoencoder = BVAE(
            observation_space,
            bits,
            width,
            patch,
            hidden,
            entropy_weight,
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
        """Return the bits' probabilities: their loss is the expectation over all bits that could be
        sampled."""
        return output.sigmoid()

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return a bound: -log p(screen | bits) + KL(q(bits | frame) || p(bits | frames and actions before)).

        Each frame's bits are sampled once, from torch's global generator.
        """
        symbols = self.autoencoder.symbols
        logits = self.autoencoder(segment.observation)
        bits = symbols.pick(logits, symbols.noise(logits))
        code = self.dynamics.code(bits, segment.observation)
        prior = self.dynamics(code[:, :-1], segment.action).output
        posterior, probability = logits[:, 1:], logits[:, 1:].sigmoid()
        kl = symbols.size * (symbols.loss(prior, probability) - symbols.loss(posterior, probability))
        screen = self.autoencoder.frames.screen
        drawn = self.autoencoder.decode(bits[:, 1:])[screen]
        observed = segment.observation[screen][:, 1:].float()
        return Surprise(kl - drawn.log_prob(observed), "bound")
