"""An autoencoder of single frames: from a binary screen and vectors to a grid of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyMapping, Segment
from wmplay.errors import ConfigError
from wmplay.models.boxlcd.grid import GridDecoder, GridEncoder, grid_cells
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import masked_mean
from wmplay.nets.layers import fourier_features, mlp
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import the_screen, vectors


class FrameAutoencoder(nn.Module):
    """The networks that ``BVAE`` and ``RNLDA`` share; each of the two defines its own symbols.

    Args:
        channels: symbols in each cell of the grid.
        others: as for ``BVAE``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        channels: int,
        width: int,
        patch: int,
        hidden: int,
        vector_sigma: float,
        position_features: int,
        with_vectors: bool,
    ) -> None:
        super().__init__()
        if min(channels, width, hidden) < 1 or position_features < 0:
            raise ConfigError("channels, width and hidden must be at least 1, position_features at least 0")
        found = modalities(observation_space, vector_sigma=vector_sigma, pixel_sigma=1.0)
        self.screen = the_screen(found)
        self.vectors = vectors(found) if with_vectors else {}
        self.modalities = {key: m for key, m in found.items() if key == self.screen or key in self.vectors}
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.position_features = position_features
        shape = self.modalities[self.screen].shape
        rows, columns = grid_cells(shape)
        self.size = channels * rows * columns
        numbers = sum(m.size for m in self.vectors.values())
        inputs = numbers * (1 + 2 * position_features)
        self.encoder = GridEncoder(shape, inputs, width, patch, channels)
        self.screen_head = GridDecoder(shape, width, patch, channels)
        self.vector_head = mlp(self.size, hidden, 1, numbers) if numbers else None

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the outputs that choose the symbols, [..., S], of frames {key: [..., ...]}."""
        screen = observation[self.screen]
        batch = screen.shape[:-2]
        screen = screen.reshape(-1, *screen.shape[-2:])
        numbers = [m.encode(observation[key]).reshape(len(screen), m.size) for key, m in self.vectors.items()]
        beside = torch.cat([screen.new_zeros(len(screen), 0, dtype=torch.float32), *numbers], dim=-1)
        flat: Tensor = self.encoder(screen, fourier_features(beside, self.position_features))
        return flat.reshape(*batch, self.size)

    def decode(self, code: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from symbols [..., S], each computed at its first
        use."""

        def distribution(key: str) -> Distribution:
            modality = self.modalities[key]
            if key == self.screen:
                logits = self.screen_head(code.flatten(0, -2))
                return modality.distribution(logits.reshape(*code.shape[:-1], *modality.shape))
            assert self.vector_head is not None
            outputs = self.vector_head(code).split([m.size for m in self.vectors.values()], dim=-1)
            return modality.distribution(outputs[list(self.vectors).index(key)])

        return LazyMapping(self.modalities, distribution)

    def reconstruction(
        self, code: Tensor, observation: Mapping[str, Tensor], seen: Tensor
    ) -> dict[str, Tensor]:
        """Return each key's negative log-likelihood of frames given their codes, by loss term.

        Args:
            code: [B, F, S], of the frames.
            observation: {key: [B, F, ...]}.
            seen: [B, F] bool, the frames that count.

        Returns:
            nats per pixel, or per number of a vector, averaged over the frames that count.
        """
        decoded = self.decode(code)
        return {
            term(key): masked_mean(-decoded[key].log_prob(observation[key].float()) / m.size, seen)
            for key, m in self.modalities.items()
        }


def ends(segment: Segment) -> tuple[dict[str, Tensor], Tensor]:
    """Return a segment's first and last frame {key: [B, 2, ...]}, and [B, 2] bool, False for padding.

    They are enough to fit an autoencoder: the frames between them look alike, and cost time.
    """
    index = torch.tensor([0, segment.action.shape[1]], device=segment.action.device)
    seen = nn.functional.pad(segment.mask, (1, 0), value=True)
    return {key: value[:, index] for key, value in segment.observation.items()}, seen[:, index]
