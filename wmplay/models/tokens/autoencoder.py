"""A vector-quantised autoencoder of single frames (van den Oord et al. 2017, arXiv 1711.00937)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import Segment
from wmplay.errors import check_values
from wmplay.models.boxlcd.autoencoder import FrameAutoencoder
from wmplay.models.symbols import Codebook
from wmplay.nets.by_key import term
from wmplay.nets.heads import masked_mean

COMMITMENT = 0.02  # weight by which outputs stay near their codes; little is enough, as their norm is fixed
DARK = -3.0  # logit of a pixel before it is fitted: with 0, all cells become one code before screens are dark


class TokenAutoencoder(nn.Module):
    """An autoencoder from frames to n tokens, one for each cell of 4 x 4 pixels. It is not a world model.

    Args:
        observation_space: a Dict with one binary screen [H, W] and any number of float vectors, which the
            tokens encode as well.
        codes: number C of codes, of which a token is one.
        code_size: numbers D of a code.
        others: as for ``FrameAutoencoder``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        codes: int,
        code_size: int,
        width: int,
        patch: int,
        hidden: int,
        vector_sigma: float,
        position_features: int,
    ) -> None:
        super().__init__()
        check_values("iris", at_least_one={"codes": codes, "code_size": code_size})
        self.frames = FrameAutoencoder(
            observation_space, code_size, width, patch, hidden, vector_sigma, position_features, True
        )
        self.book = Codebook(codes, code_size)
        self.tokens = self.frames.size // code_size  # n
        last = self.frames.screen_head.out[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, DARK)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return outputs [..., n, D], which stand for the nearest codes, of frames {key: [..., ...]}."""
        flat: Tensor = self.frames(observation).float()
        cells = flat.reshape(*flat.shape[:-1], -1, self.tokens).transpose(-1, -2)
        return nn.functional.rms_norm(cells, cells.shape[-1:])

    @torch.no_grad()
    def tokenise(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the tokens [..., n, C], one-hot, of frames."""
        return self.book.nearest(self(observation))

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return the codes [..., n * D] of tokens [..., n, C]."""
        return (tokens @ self.book.vectors).flatten(-2).float()

    def decode(self, vectors: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from codes [..., n * D], each computed at its first
        use."""
        grid = vectors.reshape(*vectors.shape[:-1], self.tokens, -1).transpose(-1, -2)
        return self.frames.decode(grid.flatten(-2))

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the nats of each key of a frame, and the squared distances of outputs and their codes.

        The gradient of codes passes straight through to the outputs. Metrics: ``loss/<key>``,
        ``loss/code``, ``perplexity`` (of the codes in the batch: C if all are used equally).
        """
        output = self(segment.observation)
        tokens = self.book.nearest(output)
        seen = nn.functional.pad(segment.mask, (1, 0), value=True)
        drawn = self.decode(self.book.straight_through(output, tokens).flatten(-2))
        values = {
            term(key): -drawn[key].log_prob(segment.observation[key].float())
            for key in self.frames.modalities
        }
        apart = (output - tokens @ self.book.vectors).square().sum((-1, -2))
        values["code"] = COMMITMENT * apart
        terms = {f"loss/{name}": masked_mean(value, seen) for name, value in values.items()}
        self.book.note(output[seen].flatten(0, 1), tokens[seen].flatten(0, 1))
        part = tokens[seen].flatten(0, 1).mean(0)
        metrics = {name: value.detach() for name, value in terms.items()}
        perplexity = torch.special.entr(part).sum().exp()
        return torch.stack([*terms.values()]).sum(), {**metrics, "perplexity": perplexity}
