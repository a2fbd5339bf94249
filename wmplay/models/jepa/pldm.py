"""PLDM: a latent world model kept from collapse by variance and covariance (Sobal et al. 2025, arXiv
2502.14819).

    e[t] = encoder(o[t]), and e'[t + h] by h steps of a recurrent predictor from real latents and its own
    loss = mean (e' - e)^2 + variance and covariance of the latents of a batch (VICReg), variance over time,
           smoothness over time, and the error of the action that an inverse model reads from e[t], e[t + 1]

The weights are the published ones. Unlike there, the predictor reads the last k latents, not one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import check_values
from wmplay.models.jepa.latent_dynamics import LatentDynamics, seen_frames
from wmplay.models.jepa.networks import FrameEncoder, RecurrentPredictor
from wmplay.models.jepa.regularisers import covariance, variance_hinge
from wmplay.nets.heads import masked_mean
from wmplay.nets.layers import mlp


class PLDM(LatentDynamics):
    """A latent model without a decoder, for planning by ``latent_distance``.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        keys: see ``LatentDynamics``, and so are frames and decoder.
        code: size E of a latent.
        hidden: units of each hidden layer of encoder, inverse model and decoder.
        channels: of the encoder's first convolution.
        position_features: octaves of sines and cosines of vectors.
        memory: size of the GRU's state.
        variance: weight of the hinge on the standard deviation over a batch.
        covariance: weight of the covariances over a batch.
        time_variance: weight of the hinge over the frames of a segment.
        smoothness: weight of the squared change of the latent in a step.
        inverse: weight of the inverse model's squared error.

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
        memory: int = 128,
        variance: float = 3.98,
        covariance: float = 6.92,
        time_variance: float = 0.245,
        smoothness: float = 0.742,
        inverse: float = 1.07,
        decoder: bool = False,
    ) -> None:
        super().__init__(observation_space, action_space, keys, frames, hidden, decoder)
        self.weights = {
            "variance": variance,
            "covariance": covariance,
            "time_variance": time_variance,
            "smoothness": smoothness,
            "inverse": inverse,
        }
        sizes = {"code": code, "channels": channels, "memory": memory}
        check_values(
            "pldm",
            at_least_one=sizes,
            not_negative={**self.weights, "position_features": position_features},
        )
        self.encoder = FrameEncoder(self.modalities, code, hidden, channels, position_features)
        self.predictor = RecurrentPredictor(code, self.encode_action.size, memory)
        self.inverse = mlp(2 * code, hidden, 1, self.encode_action.size)
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
        """Return the squared error of latents predicted from a segment's first k frames, and the other terms.

        Metrics: ``loss/latent``, ``loss/variance``, ``loss/covariance``, ``loss/time_variance``,
        ``loss/smoothness``, ``loss/inverse`` and those of the decoder, each before its weight.
        """
        seen, mask = seen_frames(segment), segment.mask
        latent, action = self.latents(segment.observation), self.encode_action(segment.action)
        first = min(self.frames, latent.shape[1])
        begin = torch.cat([latent[:, :1].expand(-1, self.frames - first, -1), latent[:, :first]], dim=1)
        acted = torch.cat([action[:, :1].expand(-1, self.frames - first, -1) * 0, action], dim=1)
        guess = self.unroll(begin, acted)[:, self.frames :]
        error = (guess - latent[:, first:]).square().mean(-1)
        change = latent.diff(dim=1)
        read = self.inverse(torch.cat([latent[:, :-1], latent[:, 1:]], dim=-1))
        terms = {
            "latent": masked_mean(error, mask[:, first - 1 :]),
            "variance": variance_hinge(latent.transpose(0, 1), seen.transpose(0, 1)),
            "covariance": covariance(latent.transpose(0, 1), seen.transpose(0, 1)),
            "time_variance": variance_hinge(latent, seen),
            "smoothness": masked_mean(change.square().mean(-1), mask),
            "inverse": masked_mean((read - action).square().mean(-1), mask),
        }
        return self.total(terms, self.weights, segment, latent)
