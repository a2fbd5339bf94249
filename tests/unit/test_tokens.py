"""Models of tokens: the codebook, exact likelihoods of tokens, the cache, and what a model may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.symbols import RATE, Codebook, gumbel, pick_class
from wmplay.models.tokens.delta_iris import DeltaIris
from wmplay.models.tokens.iris import Iris
from wmplay.models.tokens.token_transformer import TokenTransformer

B, T, SHAPE = 2, 5, (5, 7)
SMALL = {
    Iris: {"codes": 7, "code_size": 3, "size": 22, "heads": 2, "context": 3, "hidden": 11, "width": 5},
    DeltaIris: {
        **{"tokens": 3, "codes": 7, "code_size": 2, "size": 22, "heads": 2, "context": 3, "hidden": 11},
        **{"width": 5, "blocks": 1},
    },
}


def make(kind: type[Any], **settings: Any) -> Any:
    torch.manual_seed(0)
    space = Dict({"seen": Box(0, 1, SHAPE, np.uint8), "place": Box(-3, 3, (1,), np.float32)})
    return kind(space, Discrete(3), **{**SMALL[kind], **settings}).eval()


def segment() -> Segment:
    torch.manual_seed(1)
    frames = {"seen": torch.randint(2, (B, T + 1, *SHAPE)), "place": torch.rand(B, T + 1, 1)}
    nothing = torch.zeros(B, T)
    first = torch.ones(B, dtype=torch.bool)
    return Segment(frames, torch.randint(3, (B, T)), nothing, nothing.bool(), ~nothing.bool(), first)


def transformer() -> TokenTransformer:
    torch.manual_seed(0)
    model = TokenTransformer(tokens=2, codes=3, condition=5, size=22, layers=2, heads=2, context=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def one_hot(number: Tensor, codes: int) -> Tensor:
    return torch.nn.functional.one_hot(number, codes).float()


@torch.no_grad()
def test_the_probabilities_of_all_blocks_sum_to_one() -> None:
    model, condition = transformer(), torch.randn(1, 3, 5).expand(9, -1, -1)
    block = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    past = torch.tensor([[[2, 1], [0, 2]]]).expand(9, -1, -1)
    tokens = one_hot(torch.cat([past, block.unsqueeze(1)], 1), 3)
    logits, _ = model(condition, tokens)
    assert float((-model.loss(logits, tokens)[:, -1]).exp().sum()) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_a_cached_draw_has_the_likelihood_of_an_uncached_pass() -> None:
    """The likeliest token at each place is that of the whole pass, beyond the context too."""
    model, condition = transformer(), torch.randn(B, T, 5)
    cache, drawn, features = model.blank(B, condition.device), [], []
    for step in range(T):
        tokens, feature, cache = model.draw(cache, condition[:, step], None, 1.0)
        drawn.append(tokens)
        features.append(feature)
    tokens = torch.stack(drawn, 1)
    logits, whole = model(condition, tokens)
    assert torch.equal(logits.argmax(-1), tokens.argmax(-1))
    torch.testing.assert_close(torch.stack(features, 1), whole)
    read, _ = model.read(model.blank(B, condition.device), condition, tokens)
    torch.testing.assert_close(read, whole)


@torch.no_grad()
def test_a_token_depends_on_those_before_it_alone() -> None:
    model, condition = transformer(), torch.randn(1, 3, 5)
    tokens = one_hot(torch.randint(3, (1, 3, 2)), 3)
    usual = model(condition, tokens)[0]
    for step in range(3):
        for place in range(2):
            other = tokens.clone()
            other[:, step, place] = other[:, step, place].roll(1, -1)
            moved = (model(condition, other)[0] - usual).abs().amax(-1)[0].flatten() > 1e-6
            assert moved.tolist() == [number > 2 * step + place for number in range(6)]
        changed = condition.clone()
        changed[:, step] += 1
        moved = (model(changed, tokens)[0] - usual).abs().amax(-1)[0].flatten() > 1e-6
        assert moved.tolist() == [number >= 2 * step for number in range(6)]


def test_a_code_is_the_nearest_one_and_its_gradient_passes_straight_through() -> None:
    book = Codebook(3, 2)
    book.vectors.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    output = torch.tensor([[1.0, 0.5], [2.5, 1.0], [-1.0, 3.0]], requires_grad=True)
    code = book.nearest(output)
    assert code.argmax(-1).tolist() == [0, 1, 2]
    vector = book.straight_through(output, code)
    assert torch.equal(vector, book.vectors)
    weights = torch.arange(6.0).reshape(3, 2)
    (vector * weights).sum().backward()
    assert torch.equal(output.grad, weights)


def test_codes_follow_the_running_mean_of_their_outputs_and_begin_anew_without_any() -> None:
    book = Codebook(3, 2)
    book.vectors.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [90.0, 90.0]]))
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 1.0]])
    before = book.vectors.clone()
    book.follow()  # nothing is noted yet
    assert torch.equal(book.vectors, before)
    book.note(output, book.nearest(output))
    assert torch.equal(book.vectors, before)
    book.follow()
    share = RATE * 2 / (1 + RATE)  # of the two outputs of a batch, in the running mean
    torch.testing.assert_close(book.vectors[0], share * torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(book.vectors[1], torch.tensor([4.0, RATE]))
    for _ in range(200):
        book.note(output, book.nearest(output))
        book.follow()
    assert all(bool((output == vector).all(-1).any()) for vector in book.vectors[2:])
    torch.testing.assert_close(book.vectors[1], torch.tensor([4.0, 1.0]), atol=1e-3, rtol=0)


def test_classes_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([0.5, 0.25, 0.25]).log().expand(4001, -1).clone().requires_grad_()
    picked = pick_class(logits, gumbel(logits, torch.Generator().manual_seed(0)))
    assert float((picked.detach().mean(0) - torch.tensor([0.5, 0.25, 0.25])).abs().max()) < 0.03
    assert set(picked.detach().flatten().tolist()) == {0.0, 1.0}
    picked[:, 0].sum().backward()
    assert bool((logits.grad != 0).any())


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_a_frame_ahead_changes_no_likelihood(kind: type[Any]) -> None:
    model, given = make(kind), segment()
    usual = model.surprise(given)
    assert usual.kind == "bound"
    other = {key: value.clone() for key, value in given.observation.items()}
    other["seen"][:, 4] = 1 - other["seen"][:, 4]
    moved = (model.surprise(replace(given, observation=other)).nats - usual.nats).abs().amax(0) > 1e-5
    assert moved.tolist() == [False, False, False, True, True]


def test_tokens_get_no_gradient_from_the_transformer() -> None:
    model = make(Iris)
    loss, _ = model.dynamics_loss(segment())
    loss.backward()
    assert all(weight.grad is None for weight in model.autoencoder.parameters())
    assert all(weight.grad is not None for weight in model.dynamics.parameters())


@pytest.mark.parametrize("kind", SMALL)
def test_what_cannot_be_modelled_is_refused(kind: type[Any]) -> None:
    with pytest.raises(SpaceError):
        kind(Dict({"place": Box(-3, 3, (1,), np.float32)}), Discrete(3))
    for wrong in ("codes", "code_size", "size", "context", "hidden"):
        with pytest.raises(ConfigError):
            make(kind, **{wrong: 0})
