"""Models of the next screen: their likelihoods and draws against exact numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.next_screen.autoregressive import Autoregressive

ACTED = Box(-1, 1, (2,), np.float32)


def space(*shape: int) -> Dict:
    return Dict({"seen": Box(0, 1, shape, np.uint8), "place": Box(-3, 3, (1,), np.float32)})


def all_screens(height: int, across: int) -> Tensor:
    numbers = torch.arange(2 ** (height * across))[:, None] >> torch.arange(height * across)
    return (numbers % 2).float().reshape(-1, height, across)


def autoregressive(*shape: int, **settings: Any) -> Autoregressive:
    torch.manual_seed(0)
    model = Autoregressive(space(*shape), ACTED, **{"width": 7, "blocks": 1, "hidden": 5, **settings})
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("shape", "reach"), [((2, 2), 1), ((2, 2), 3), ((3, 4), 1), ((1, 7), 2)])
def test_the_probabilities_of_all_screens_sum_to_one_and_are_those_of_the_draws(
    shape: tuple[int, int], reach: int
) -> None:
    model, screens = autoregressive(*shape, reach=reach), all_screens(*shape)
    pixels = torch.randn(1, 7, *shape)
    with torch.no_grad():
        chance = (-model.screen_loss(pixels.expand(len(screens), -1, -1, -1), screens)).exp()
        assert float(chance.sum()) == pytest.approx(1, abs=1e-5)
        draws = 20000
        drawn, _ = model.draw(pixels.expand(draws, -1, -1, -1), torch.Generator().manual_seed(1), 1.0)
        power = 2.0 ** torch.arange(shape[0] * shape[1])
        counts = torch.bincount((drawn.flatten(1) @ power).round().long(), minlength=len(screens))
        error = (counts / draws - chance).abs().sum() / 2  # total variation
        assert float(error) < (len(screens) / draws) ** 0.5
        likely, probability = model.draw(pixels, None, 1.0)
        assert torch.equal(likely, (probability > 0.5).float())


def test_a_pixel_sees_all_of_its_window_and_nothing_else() -> None:
    model = autoregressive(5, 6, reach=2)
    pixels, screen = torch.randn(1, 7, 5, 6), torch.rand(1, 5, 6, requires_grad=True)
    for row in range(5):
        for column in range(6):
            model.logits(pixels, screen)[0, row, column].backward()
            assert screen.grad is not None
            found = {(i, j) for i, j in screen.grad[0].nonzero().tolist()}
            above = {(i, j) for i in (row - 2, row - 1) for j in range(column - 2, column + 3)}
            left = {(row, column - 1), (row, column - 2)}
            assert found == {(i, j) for i, j in above | left if i >= 0 and 0 <= j < 6}
            screen.grad = None


def test_the_surprise_of_a_segment_is_that_of_each_step_alone() -> None:
    model = autoregressive(3, 5, frames=2)
    generator = torch.Generator().manual_seed(2)
    screens = torch.randint(2, (2, 5, 3, 5), generator=generator, dtype=torch.uint8)
    place, action = torch.rand(2, 5, 1, generator=generator), torch.rand(2, 4, 2, generator=generator)
    nothing, kept = torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.bool)
    segment = Segment({"seen": screens, "place": place}, action, nothing, ~kept, kept, kept[:, 0])
    nats = model.surprise(segment).nats
    for t in range(4):
        belief = model.initial({key: value[:, 0] for key, value in segment.observation.items()})
        if t:
            until = {key: value[:, 1 : t + 1] for key, value in segment.observation.items()}
            belief = model.observe(belief, action[:, :t], until)
        acted = torch.cat([belief["action"], model.encode_action(action[:, t : t + 1])], 1)
        with torch.no_grad():
            pixels = model.past(belief["state"], acted).pixels
            assert torch.allclose(model.screen_loss(pixels, screens[:, t + 1].float()), nats[:, t], atol=1e-4)


def test_what_cannot_be_modelled_is_refused() -> None:
    with pytest.raises(SpaceError):
        Autoregressive(Dict({"place": Box(-3, 3, (1,), np.float32)}), ACTED)
    for wrong in ("reach", "frames", "width", "blocks", "hidden"):
        with pytest.raises(ConfigError):
            Autoregressive(space(3, 3), ACTED, **{wrong: 0})
