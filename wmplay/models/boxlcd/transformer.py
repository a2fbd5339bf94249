"""A causal transformer over an endless sequence, with a key-value cache."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.errors import ConfigError

Cache: TypeAlias = dict[str, list[Tensor] | Tensor]
# keys, values: for each layer [B, heads, slots, E / heads], the newest token in the last slot; age: [B]
# int64, the number of slots that hold a token


class CausalTransformer(nn.Module):
    """Pre-LN blocks (GPT-2, Radford et al. 2019); each token attends to the last ``context`` tokens, itself
    included.

    Positions are relative: each head adds a learned bias for each distance between two tokens (Shaw et al.
    2018, arXiv 1803.02155; the additive form is T5's, arXiv 1910.10683), initialised to ALiBi's slope (arXiv
    2108.12409). So the window can slide for ever, rows of a batch can have different ages, and cached keys
    stay valid; absolute positions allow none of that.

    A whole sequence is computed as an extension of an empty cache, so that one computation serves both cases.

    Args:
        size: size E of a token.
        layers: blocks.
        heads: of attention, in each block.
        context: tokens that a token attends to. Older tokens still have an effect through deeper layers.

    Raises:
        ConfigError: for sizes below 1, or tokens that do not divide into heads.
    """

    def __init__(self, size: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        if min(size, layers, heads, context) < 1:
            raise ConfigError("size, layers, heads and context of a transformer must be at least 1")
        if size % heads:
            raise ConfigError(
                f"size is {size}", got=size, expected=f"a multiple of the number of heads, {heads}"
            )
        self.size, self.heads, self.context = size, heads, context
        self.blocks = nn.ModuleList(Block(size, heads, context) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features [B, T, E] of whole sequences of tokens [B, T, E]."""
        features, _ = self.extend(self._cache(len(tokens), 0, tokens.device), tokens)
        return features

    def blank(self, rows: int, device: torch.device) -> Cache:
        """Return a cache of sequences that have not begun."""
        return self._cache(rows, self.context - 1, device)

    def extend(self, cache: Cache, tokens: Tensor) -> tuple[Tensor, Cache]:
        """Return features [B, T, E] of the next tokens [B, T, E], and a new cache that includes them."""
        x, keys, values = self._run(cache, tokens)
        past, age = keys[0].shape[2] - tokens.shape[1], cache["age"]
        assert isinstance(age, Tensor)
        return x, {
            "keys": [each[:, :, tokens.shape[1] :] for each in keys],
            "values": [each[:, :, tokens.shape[1] :] for each in values],
            "age": (age + tokens.shape[1]).clamp(max=past),
        }

    def track(self, tokens: Tensor, block: int = 1) -> tuple[Tensor, Cache]:
        """Return features [B, T, E] of whole sequences of tokens [B, T, E], and the cache before each of
        their N blocks of ``block`` tokens and after the last one: row b * (N + 1) + n is after n blocks."""
        rows, steps = tokens.shape[:2]
        x, keys, values = self._run(self.blank(rows, tokens.device), tokens)

        def windows(slots: Tensor) -> Tensor:
            return slots.unfold(2, self.context - 1, block).permute(0, 2, 1, 4, 3).flatten(0, 1)

        after = torch.arange(0, steps + 1, block, device=tokens.device)
        age = after.clamp(max=self.context - 1).repeat(rows)
        return x, {"keys": [*map(windows, keys)], "values": [*map(windows, values)], "age": age}

    def _run(self, cache: Cache, tokens: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return features of the next tokens, and all keys and values of each layer, old and new."""
        keys, values, age = cache["keys"], cache["values"], cache["age"]
        assert isinstance(age, Tensor)
        past, steps = keys[0].shape[2], tokens.shape[1]
        slots = torch.arange(past + steps, device=tokens.device)
        distance = slots[past:, None] - slots
        visible = (distance >= 0) & (distance < self.context)
        visible = visible & (slots >= past - age[:, None])[:, None]  # [B, T, past + T]
        distance = distance.clamp(0, self.context - 1)

        x, new_keys, new_values = tokens, [], []
        for block, layer_keys, layer_values in zip(self.blocks, keys, values, strict=True):
            x, layer_keys, layer_values = block(x, layer_keys, layer_values, distance, visible)
            new_keys.append(layer_keys)
            new_values.append(layer_values)
        return self.norm(x), new_keys, new_values

    def _cache(self, rows: int, slots: int, device: torch.device) -> Cache:
        shape = (rows, self.heads, slots, self.size // self.heads)
        return {
            "keys": [torch.zeros(shape, device=device) for _ in self.blocks],
            "values": [torch.zeros(shape, device=device) for _ in self.blocks],
            "age": torch.zeros(rows, dtype=torch.int64, device=device),
        }


class Block(nn.Module):
    """Attention and a hidden layer of 4 E units, each after a LayerNorm and with a residual connection."""

    def __init__(self, size: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.hidden_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.queries_keys_values = nn.Linear(size, 3 * size)
        self.attended = nn.Linear(size, size)
        self.hidden, self.out = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        self.bias = nn.Parameter(-slopes[:, None] * torch.arange(context))  # [heads, context]

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, distance: Tensor, visible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the block's output for new tokens, and all keys and values, old and new.

        Args:
            x: [B, T, E], the new tokens.
            keys: of the S tokens before them, [B, heads, S, E / heads].
            values: the same.
            distance: [T, S + T], from each new token back to each token, within 0 .. context - 1.
            visible: [B, T, S + T] bool, the tokens that a new one attends to.
        """
        rows, steps, size = x.shape
        projected = self.queries_keys_values(self.attention_norm(x))
        projected = projected.reshape(rows, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, new_keys, new_values = projected  # [B, heads, T, E / heads]
        keys = torch.cat([keys, new_keys.to(keys.dtype)], dim=2)
        values = torch.cat([values, new_values.to(values.dtype)], dim=2)
        scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5 + self.bias[:, distance]
        weights = scores.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
        attended = (weights @ values).transpose(1, 2).reshape(rows, steps, size)
        x = x + self.attended(attended)
        return x + self.out(F.gelu(self.hidden(self.hidden_norm(x)))), keys, values
