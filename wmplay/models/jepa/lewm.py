"""LeWorldModel: a latent world model from pixels, kept from collapse by one term (stable-worldmodel's LeWM;
SIGReg from LeJEPA, Balestriero & LeCun 2025, arXiv 2511.08544).

    e[t] = encoder(o[t]),  e'[t + 1] = predictor(e[t - k + 1 .. t], a[t - k + 1 .. t])
    loss = mean (e' - e)^2 + weight * SIGReg(e of all rows, at each time)

The gradient flows into both sides of the squared error. SIGReg pushes the latents of a batch towards an
isotropic Gaussian, so that a constant is no solution. Unlike in the published model, the encoder is
convolutional, the predictor has no attention over its k frames (both are sizes for a laptop), and a layer
norm stands in the place of the batch norm, so that a latent depends on its frame alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import check_values
from wmplay.models.jepa.latent_dynamics import LatentDynamics, seen_frames
from wmplay.models.jepa.networks import FrameEncoder, Predictor
from wmplay.models.jepa.regularisers import sigreg, unit_directions
from wmplay.nets.heads import masked_mean


class LeWM(LatentDynamics):
    """A latent model without a decoder, for planning by ``latent_distance``.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        keys: see ``LatentDynamics``, and so are frames and decoder.
        code: size E of a latent.
        hidden: units of each hidden layer of encoder and decoder.
        channels: of the encoder's first convolution.
        position_features: octaves of sines and cosines of vectors.
        width: of the predictor's layers.
        layers: of the predictor.
        sigreg_weight: weight of SIGReg; 0 = without it, and the latents collapse.
        directions: random projections on which SIGReg is computed in each update.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        keys: Sequence[str] | None = None,
        frames: int = 3,
        code: int = 32,
        hidden: int = 128,
        channels: int = 16,
        position_features: int = 5,
        width: int = 96,
        layers: int = 2,
        sigreg_weight: float = 0.09,
        directions: int = 64,
        decoder: bool = False,
    ) -> None:
        super().__init__(observation_space, action_space, keys, frames, hidden, decoder)
        sizes = {"code": code, "channels": channels, "width": width, "layers": layers}
        not_negative = {"sigreg_weight": sigreg_weight, "position_features": position_features}
        check_values("lewm", at_least_one={**sizes, "directions": directions}, not_negative=not_negative)
        self.sigreg_weight, self.directions = sigreg_weight, directions
        self.encoder = FrameEncoder(self.modalities, code, hidden, channels, position_features)
        self.predictor = Predictor(code, self.encode_action.size, frames, width, layers)
        self.make_heads(code)

    def latents(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the latents [..., E] of frames {key: [..., *shape]}."""
        latent: Tensor = self.encoder(observation)
        return latent.float()

    def step(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent [R, E] of the last ones [R, k, E] and encoded actions [R, k, A]."""
        after: Tensor = self.predictor(latent, action)
        return after.float()

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the next latent, given real ones, plus SIGReg of all latents.

        Metrics: ``loss/latent``, ``loss/sigreg`` and those of the decoder, each before its weight.
        """
        seen = seen_frames(segment)
        latent = self.latents(segment.observation)
        guess = self.next_latents(latent, self.encode_action(segment.action))
        error = (guess - latent[:, 1:]).square().mean(-1)
        terms = {"latent": masked_mean(error, self.counted(segment))}
        if self.sigreg_weight:
            directions = unit_directions(latent.shape[-1], self.directions, latent.device)
            each = sigreg(latent.transpose(0, 1), directions, seen.transpose(0, 1))
            terms["sigreg"] = each.sum() / (each > 0).sum().clamp(min=1)
        return self.total(terms, {"sigreg": self.sigreg_weight}, segment, latent)
