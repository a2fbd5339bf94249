"""A generator of observations that an episode may pass through (a conditional VAE, Sohn et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from wmplay.nets.layers import mlp
from wmplay.nets.modalities import Binary, Pixels, Vector, modalities
from wmplay.nets.observations import ObservationDecoder, ObservationEncoder


class SubgoalGenerator(nn.Module):
    """A model p(s | c, z) of later frames s, given an earlier frame c of the same episode.

    The latent z is Gaussian, N(0, 1) a priori, so that drawing z proposes a frame, and a search over z moves
    among frames that look real.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``; goals are not generated.
        latent: size Z of the latent.
        hidden: units of each hidden layer.
        layers: hidden layers of the encoders.

    Raises:
        SpaceError: for other spaces.
    """

    def __init__(self, observation_space: gym.Space[Any], latent: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.latent = latent
        self.modalities = modalities(observation_space, vector_sigma=0.1, pixel_sigma=0.1)
        self.encoder = ObservationEncoder(self.modalities, 0, hidden, layers, hidden)
        self.posterior = mlp(2 * hidden, hidden, 1, 2 * latent)
        self.inputs = mlp(hidden + latent, hidden, 1, hidden)
        self.decoder = ObservationDecoder(self.modalities, hidden, hidden)

    def decode(self, now: Mapping[str, Tensor], latent: Tensor) -> dict[str, Tensor]:
        """Return the most likely frames {key: [B, ..., *shape]} of latents [B, ..., Z], in the types of now.

        Args:
            now: {key: [B, *shape]}, the frames c.
            latent: z.
        """
        code = self.encoder(now)
        code = code.reshape(len(code), *[1] * (latent.ndim - 2), -1).expand(*latent.shape[:-1], -1)
        found = self._decoded(code, latent)
        return {key: self._typed(key, found[key].mean, now[key]) for key in self.modalities}

    def loss(
        self, now: Mapping[str, Tensor], later: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative evidence lower bound of later frames, in nats per frame, and metrics.

        Args:
            now: {key: [B, *shape]}, the frames c.
            later: {key: [B, *shape]}, the frames s.
            generator: draws the latents.
        """
        code = self.encoder(now)
        mean, log_std = self.posterior(torch.cat([code, self.encoder(later)], -1)).chunk(2, -1)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        found = self._decoded(code, mean + noise * log_std.exp())
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1).sum(-1) - log_std.sum(-1)
        log_prob = torch.stack([found[key].log_prob(later[key].float()) for key in self.modalities]).sum(0)
        loss = (kl - log_prob).mean()
        return loss, {"loss": loss.detach(), "kl": kl.mean().detach()}

    def _decoded(self, code: Tensor, latent: Tensor) -> Any:
        return self.decoder(self.inputs(torch.cat([code, latent], -1)))

    def _typed(self, key: str, mean: Tensor, like: Tensor) -> Tensor:
        """Return expected values as an observation would have them."""
        modality = self.modalities[key]
        if isinstance(modality, Binary):
            mean = mean > 0.5
        elif isinstance(modality, Pixels):
            mean = mean.round().clamp(0, 255)
        elif isinstance(modality, Vector):
            low, high = modality.units.low, modality.units.high
            mean = mean.clamp(*(torch.from_numpy(bound).to(mean) for bound in (low, high)))
        return mean.to(like.dtype)
