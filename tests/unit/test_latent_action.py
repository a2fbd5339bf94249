"""Latent actions: an exact likelihood, codes that nothing tells of actions, and the revival of codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.latent_action import PATIENCE, LatentAction


def make(*shape: int, **settings: Any) -> LatentAction:
    torch.manual_seed(0)
    space = Dict({"seen": Box(0, 1, shape, np.uint8), "place": Box(-3, 3, (1,), np.float32)})
    small = {"codes": 5, "width": 7, "blocks": 1, "hidden": 11}
    return LatentAction(space, Discrete(3), **{**small, **settings})


def segment(seen: Tensor, action: Tensor) -> Segment:
    nothing = torch.zeros(action.shape)
    place = torch.linspace(-1, 1, seen.shape[1]).expand(len(seen), -1).unsqueeze(-1)
    frames = {"seen": seen.to(torch.uint8), "place": place}
    return Segment(frames, action, nothing, nothing.bool(), ~nothing.bool(), ~nothing.bool()[:, 0])


def test_the_probabilities_of_all_screens_sum_to_one() -> None:
    model = make(2, 2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    every = (torch.arange(16)[:, None] >> torch.arange(4) & 1).reshape(16, 1, 2, 2)
    before = torch.tensor([[[0, 1], [1, 0]], [[1, 1], [0, 1]]]).expand(16, 2, 2, 2)
    found = model.surprise(segment(torch.cat([before, every], 1), torch.tensor([[2, 1]]).expand(16, 2)))
    assert found.kind == "exact"
    assert float((-found.nats[:, 1]).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert float((found.nats[:, 0] - found.nats[0, 0]).abs().max()) < 1e-5


def test_nothing_tells_the_codes_of_actions() -> None:
    model, seen = make(5, 7), torch.randint(2, (4, 4, 5, 7))

    def gradients(action: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        model.loss(segment(seen, action))[0].backward()
        return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}

    one, other = gradients(torch.zeros(4, 3).long()), gradients(torch.ones(4, 3).long())
    changed = {name.partition(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"table"}
    assert one["book"].abs().sum() > 0
    assert one["see_step.0.weight"].abs().sum() > 0


def test_a_code_is_that_of_its_own_step() -> None:
    model, seen = make(5, 7), torch.randint(2, (1, 5, 5, 7))
    states = model.states(segment(seen, torch.zeros(1, 4).long()).observation)
    changed = states.clone()
    changed[:, 3] = 1 - changed[:, 3]
    moved = (model.encode_steps(states) - model.encode_steps(changed)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [False, False, True, True]


def test_an_unused_code_is_revived_where_steps_are() -> None:
    model = make(5, 7)
    with torch.no_grad():
        model.book.copy_(torch.arange(5.0).unsqueeze(1).expand_as(model.book) * 100)
    seen = segment(torch.randint(2, (4, 4, 5, 7)), torch.zeros(4, 3).long())
    before = model.book.detach().clone()
    for update in range(PATIENCE):
        assert torch.equal(model.book, before)
        model.after_update(0.0)  # without a loss before it, nothing counts
        model.loss(seen)
        model.after_update(update / PATIENCE)
    assert torch.equal(model.book[0], before[0])
    steps = model.encode_steps(model.states(seen.observation)).flatten(0, 1)
    assert all(float((steps - code).detach().abs().amax(1).min()) < 1e-6 for code in model.book[1:])


def test_what_cannot_be_modelled_is_refused() -> None:
    with pytest.raises(SpaceError):
        LatentAction(Dict({"place": Box(-3, 3, (1,), np.float32)}), Discrete(3))
    for wrong in ("codes", "frames", "width", "hidden"):
        with pytest.raises(ConfigError):
            make(3, 3, **{wrong: 0})
