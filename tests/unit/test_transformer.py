"""The causal transformer: what is cached, and what is not, are the same computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.errors import ConfigError
from wmplay.models.boxlcd.transformer import CausalTransformer
from wmplay.nets.trees import repeat_rows, take_rows, where_rows

B, T, SIZE, HEADS, CONTEXT, LAYERS = 2, 17, 22, 2, 5, 3


def make(context: int = CONTEXT) -> CausalTransformer:
    torch.manual_seed(0)
    trunk = CausalTransformer(SIZE, LAYERS, HEADS, context)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.mul_(1.5)
    return trunk


def extend(trunk: CausalTransformer, cache: Any, tokens: Tensor, *pieces: int) -> tuple[Tensor, Any]:
    """The tokens in pieces of these lengths."""
    features = []
    for piece in torch.split(tokens, list(pieces), dim=1):
        feature, cache = trunk.extend(cache, piece)
        features.append(feature)
    return torch.cat(features, dim=1), cache


@pytest.mark.parametrize("pieces", [[1] * T, [3, 1, 11, 2], [T], [7, 10]], ids=str)
@pytest.mark.parametrize("context", [1, 2, CONTEXT, 23])
@torch.no_grad()
def test_cached_is_uncached_also_beyond_the_window(pieces: list[int], context: int) -> None:
    trunk, tokens = make(context), torch.randn(B, T, SIZE)
    features, _ = extend(trunk, trunk.blank(B, tokens.device), tokens, *pieces)
    torch.testing.assert_close(features, trunk(tokens), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_of_different_ages_share_a_cache() -> None:
    trunk, tokens = make(), torch.randn(B, T, SIZE)
    reset = 7  # the second row begins anew there, as in a vector env that resets itself
    _, cache = extend(trunk, trunk.blank(B, tokens.device), tokens[:, :reset], *[1] * reset)
    fresh = torch.tensor([False, True])
    cache = where_rows(fresh, trunk.blank(B, tokens.device), cache)
    features, _ = extend(trunk, cache, tokens[:, reset:], *[1] * (T - reset))
    torch.testing.assert_close(features[0], trunk(tokens)[0, reset:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features[1], trunk(tokens[:, reset:])[1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_can_be_taken_and_repeated() -> None:
    trunk, tokens = make(), torch.randn(B, T, SIZE)
    _, cache = trunk.extend(trunk.blank(B, tokens.device), tokens[:, :-1])
    features, _ = trunk.extend(cache, tokens[:, -1:])
    swapped, _ = trunk.extend(take_rows(cache, torch.tensor([1, 0])), tokens[[1, 0], -1:])
    torch.testing.assert_close(swapped, features[[1, 0]])
    thrice, _ = trunk.extend(repeat_rows(cache, 3), tokens[:, -1:].repeat_interleave(3, 0))
    torch.testing.assert_close(thrice, features.repeat_interleave(3, 0))


@torch.no_grad()
def test_an_extended_cache_can_be_extended_again() -> None:
    """Two futures can begin at one belief."""
    trunk, tokens = make(), torch.randn(B, T, SIZE)
    _, cache = trunk.extend(trunk.blank(B, tokens.device), tokens[:, :3])
    before = tree_map(torch.clone, cache)
    first, after = trunk.extend(cache, tokens[:, 3:4])
    kept = tree_map(torch.clone, after)
    trunk.extend(cache, tokens[:, 5:6])
    again, _ = trunk.extend(cache, tokens[:, 3:4])
    assert torch.equal(again, first)
    for tree, other in ((cache, before), (after, kept)):
        assert all(torch.equal(x, y) for x, y in zip(tree_leaves(tree), tree_leaves(other), strict=True))


def test_a_token_sees_its_window_and_nothing_later() -> None:
    torch.manual_seed(0)
    trunk = CausalTransformer(SIZE, 1, HEADS, CONTEXT)
    tokens = torch.randn(1, T, SIZE, requires_grad=True)
    at = 11
    trunk(tokens)[0, at].sum().backward()
    seen = tokens.grad[0].abs().sum(-1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(at - CONTEXT + 1, at + 1))


@torch.no_grad()
def test_where_a_token_is_matters_only_relative_to_the_one_that_looks() -> None:
    trunk = make()
    tokens = torch.randn(B, T, SIZE)
    reach = LAYERS * (CONTEXT - 1)  # what is further back has no effect
    moved = trunk(torch.cat([torch.randn(B, 3, SIZE), tokens], 1))[:, 3:]
    torch.testing.assert_close(moved[:, reach:], trunk(tokens)[:, reach:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(moved[:, :reach], trunk(tokens)[:, :reach], atol=1e-3)
    order = tokens.clone()
    order[:, [T - 3, T - 2]] = tokens[:, [T - 2, T - 3]]
    assert not torch.allclose(trunk(order)[:, -1], trunk(tokens)[:, -1], atol=1e-3)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (5, 0, 1, 1), (5, 1, 0, 1), (5, 1, 1, 0), (5, 1, 2, 1)])
def test_sizes_out_of_range_are_refused(sizes: tuple[int, int, int, int]) -> None:
    with refused(ConfigError, ("size", "1") if 0 in sizes else "size"):
        CausalTransformer(*sizes)
