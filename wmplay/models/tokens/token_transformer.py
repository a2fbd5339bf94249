"""A transformer over blocks of tokens: in each a condition, and tokens that follow from it one by one.

p(z_1 .. z_n | condition, blocks before) = prod over i of p(z_i | condition, z_1 .. z_i-1, blocks before)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wmplay.models.boxlcd.transformer import Cache, CausalTransformer
from wmplay.models.symbols import gumbel, pick_class


class TokenTransformer(nn.Module):
    """A distribution over the n tokens of each block, of which each is one of C codes.

    Tokens are one-hot, so that gradients pass through them.

    Args:
        tokens: number n of tokens in a block.
        codes: number C.
        condition: numbers K of a condition.
        size: size E of what the transformer makes of a condition or token.
        layers: of the transformer.
        heads: of its attention.
        context: blocks that it sees.

    Raises:
        ConfigError: for sizes out of range.
    """

    def __init__(
        self, tokens: int, codes: int, condition: int, size: int, layers: int, heads: int, context: int
    ) -> None:
        super().__init__()
        self.tokens, self.codes = tokens, codes
        self.trunk = CausalTransformer(size, layers, heads, context * (tokens + 1))
        self.read_condition = nn.Linear(condition, size)
        self.read_token = nn.Linear(codes, size, bias=False)
        self.place = nn.Parameter(0.02 * torch.randn(tokens + 1, size))
        self.logits = nn.Linear(size, codes)

    def blank(self, rows: int, device: torch.device) -> Cache:
        """Return a cache of sequences that have not begun."""
        return self.trunk.blank(rows, device)

    def forward(self, condition: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [B, T, n, C] of the tokens of whole sequences, each given all before it, and
        features [B, T, E] of the blocks up to each.

        Args:
            condition: [B, T, K].
            tokens: [B, T, n, C].
        """
        features = self.trunk(self._blocks(condition, tokens)).unflatten(1, (-1, self.tokens + 1))
        return self.logits(features[:, :, :-1]).float(), features[:, :, -1]

    def loss(self, logits: Tensor, tokens: Tensor) -> Tensor:
        """Return the nats [...] of all tokens [..., n, C] of a block."""
        return -(logits.log_softmax(-1) * tokens).sum((-1, -2))

    def read(self, cache: Cache, condition: Tensor, tokens: Tensor) -> tuple[Tensor, Cache]:
        """Return features [B, T, E] of T more blocks, and the cache after them."""
        features, cache = self.trunk.extend(cache, self._blocks(condition, tokens))
        return features[:, self.tokens :: self.tokens + 1], cache

    def track(self, condition: Tensor, tokens: Tensor) -> tuple[Tensor, Cache]:
        """Return features [B, T, E] of whole sequences, and the cache before each block and after the last:
        row b * (T + 1) + t is after t blocks."""
        features, cache = self.trunk.track(self._blocks(condition, tokens), self.tokens + 1)
        return features[:, self.tokens :: self.tokens + 1], cache

    def draw(
        self, cache: Cache, condition: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor, Cache]:
        """Return the next block's tokens [B, n, C], features [B, E] of it, and the cache after it.

        Each token is drawn given those before it, or without a generator is the likeliest.
        """
        seen, tokens = self.read_condition(condition), list[Tensor]()
        for place in self.place:
            features, cache = self.trunk.extend(cache, (seen + place).unsqueeze(1))
            if len(tokens) < self.tokens:
                logits = self.logits(features.squeeze(1)).float()
                noise = None if generator is None else temperature * gumbel(logits, generator)
                tokens.append(pick_class(logits, noise))
                seen = self.read_token(tokens[-1])
        return torch.stack(tokens, 1), features.squeeze(1), cache

    def _blocks(self, condition: Tensor, tokens: Tensor) -> Tensor:
        """Return the sequences [B, T (n + 1), E] of blocks."""
        parts = [self.read_condition(condition).unsqueeze(2), self.read_token(tokens)]
        return (torch.cat(parts, 2) + self.place).flatten(1, 2)
