"""Models of the next screen: their likelihoods and draws against exact numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.next_screen.autoregressive import Autoregressive
from wmplay.models.next_screen.diamond import Diamond, euler, scales, schedule
from wmplay.models.next_screen.shortcut import Shortcut, described, flow, shortcut_loss
from wmplay.models.next_screen.videoflow import VideoFlow
from wmplay.nets.layers import mlp

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


# ---- invertible flows --------------------------------------------------------------------------------


def video_flow(*shape: int, levels: int, steps: int = 3) -> VideoFlow:
    torch.manual_seed(0)
    model = VideoFlow(space(*shape), ACTED, width=7, blocks=1, hidden=5, levels=levels, steps=steps)
    with torch.no_grad():
        for weight in model.flow.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("shape", "levels"), [((4, 4), 1), ((4, 4), 2), ((8, 16), 3)])
def test_a_flow_is_inverted_and_its_determinant_is_that_of_its_jacobian(
    shape: tuple[int, int], levels: int
) -> None:
    flow, pixels = video_flow(*shape, levels=levels).flow.double(), torch.randn(5, 7, *shape).double()
    noises = []

    def noise(like: Tensor) -> Tensor:
        noises.append(torch.randn(like.shape, dtype=like.dtype))
        return noises[-1]

    with torch.no_grad():
        drawn = flow.draw(pixels, noise)
        density = flow.log_density(drawn, pixels)
    normal = sum(torch.distributions.Normal(0, 1).log_prob(z).flatten(1).sum(1) for z in noises)
    sizes = [z[0].numel() for z in noises]

    def screen(flat: Tensor) -> Tensor:  # of the first row's noise
        parts = [z.reshape(1, *x.shape[1:]) for z, x in zip(flat.split(sizes), noises, strict=True)]
        return flow.draw(pixels[:1], lambda _: parts.pop(0)).flatten()

    first = torch.cat([z[0].flatten() for z in noises])
    stretched = torch.linalg.slogdet(torch.autograd.functional.jacobian(screen, first)).logabsdet
    assert float(density[0]) == pytest.approx(float(normal[0] - stretched), abs=1e-4)
    assert len(density) == 5


def test_the_density_of_a_flow_integrates_to_one_and_is_that_of_its_draws() -> None:
    model, draws = video_flow(2, 2, levels=1), 10000
    pixels, generator = torch.randn(1, 7, 2, 2), torch.Generator().manual_seed(1)
    wide = 0.5 * torch.randn(draws, 2, 2, generator=generator)
    with torch.no_grad():
        for step in model.flow.steps[0]:
            step.scale.add_(0.4)  # most draws are then within the cells of the screens
        density = model.flow.log_density(wide, pixels.expand(draws, -1, -1, -1)).double()
        proposed = torch.distributions.Normal(0, 0.5).log_prob(wide).sum((1, 2))
        assert float((density - proposed).exp().mean()) == pytest.approx(1, abs=0.05)
        many = pixels.expand(draws, -1, -1, -1)
        numbers = model.flow.draw(many, lambda like: torch.randn(like.shape, generator=generator))
        every = all_screens(2, 2)
        counts = torch.stack([((numbers > 0) == (one > 0)).all(-1).all(-1).sum() for one in every])
        found = torch.stack([-model.screen_loss(pixels.expand(16, -1, -1, -1), every) for _ in range(128)])
        assert (found.mean(0).double().exp() < counts / draws).all()  # the bound


def test_the_bound_of_a_flow_that_is_sure_of_a_screen_is_tight() -> None:
    torch.manual_seed(0)
    model = VideoFlow(space(2, 2), ACTED, width=7, blocks=1, hidden=5, levels=1, steps=1)
    every = all_screens(2, 2)
    with torch.no_grad():
        model.flow.steps[0][0].scale.fill_(math.log(8))  # noise of an eighth becomes that of the prior
        model.flow.steps[0][0].shift.copy_(-8 * (every[6].flatten() - 0.5))
        chance = (-model.screen_loss(torch.randn(16, 7, 2, 2), every)).exp()
    assert float(chance[6]) == pytest.approx(1, abs=0.001)
    assert float(chance.sum()) == pytest.approx(1, abs=0.001)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert float(model.screen_loss(torch.randn(1, 7, 2, 2), every[6:7])) == pytest.approx(0, abs=0.001)


# ---- diffusion and flows -----------------------------------------------------------------------------


def test_the_sigmas_and_the_scales_are_those_of_the_papers() -> None:
    assert schedule(3, 5.0) == pytest.approx([5, 0.283082, 0.002, 0], rel=1e-5)
    assert schedule(1, 5.0) == pytest.approx([5, 0])
    skip, out, into = scales(torch.tensor([0.0, 0.5, 5.0]))
    assert skip.tolist() == pytest.approx([1, 0.5, 0.25 / 25.25])
    assert out.tolist() == pytest.approx([0, 0.5**1.5, 2.5 / 25.25**0.5])
    assert into.tolist() == pytest.approx([2, 2**0.5, 25.25**-0.5])


@pytest.mark.parametrize(("steps", "start", "width"), [(3, 1.0, 0.0501), (3, 5.0, 0.2503), (10, 5.0, 0.4147)])
def test_few_steps_of_diffusion_lose_spread_by_known_factors(steps: int, start: float, width: float) -> None:
    def ideal(noisy: Tensor, sigma: float) -> Tensor:  # of Gaussian data of width 0.5
        return noisy * 0.25 / (0.25 + sigma**2)

    assert euler(ideal, torch.tensor([start]), schedule(steps, 5.0)).item() == pytest.approx(width, abs=1e-4)


def ideal_flow(noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:
    """Return the mean of Gaussian data of width 0.5 given a mixture with noise."""
    return noisy * 0.25 * time / (0.25 * time**2 + (1 - time) ** 2)


@pytest.mark.parametrize(("steps", "width"), [(1, 0), (2, 0.2), (4, 0.3405), (8, 0.4148), (64, 0.4886)])
def test_few_steps_of_an_ideal_flow_lose_spread_by_known_factors(steps: int, width: float) -> None:
    assert flow(ideal_flow, torch.ones(1, 1), steps).item() == pytest.approx(width, abs=1e-4)


def test_a_fitted_shortcut_keeps_the_spread_in_one_step() -> None:
    torch.manual_seed(0)
    net, finest, steps = mlp(1 + 7 + 7, 64, 2, 1), 64, 400

    def predict(noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:
        output: Tensor = net(torch.cat([noisy, described(time, length, finest)], 1))
        return output

    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        optimizer.zero_grad()
        data = 0.5 * torch.randn(256, 1)
        shortcut_loss(lambda _: predict, data, finest, 0.5 * (step >= 100)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        width = flow(predict, torch.randn(4096, 1), 1).std().item()
    assert width == pytest.approx(0.5, abs=0.05)


def test_an_ideal_long_step_has_no_error_and_a_wrong_one_has() -> None:
    def certain(noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:  # all data are 0.3
        return torch.full_like(noisy, 0.3)

    def longer(noisy: Tensor, time: Tensor, length: Tensor) -> Tensor:
        return certain(noisy, time, length) + length * (length > 1 / 8)

    data = torch.full((101, 2, 3), 0.3)
    assert float(shortcut_loss(lambda _: certain, data, 8, 1.0).max()) < 1e-10
    wrong = shortcut_loss(lambda _: longer, data, 8, 0.5)
    assert float((wrong > 0.001).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shortcut_loss(lambda _: longer, data, 8, 0.0).max()) < 1e-10


@pytest.mark.parametrize("make", [Diamond, Shortcut, VideoFlow])
def test_draws_differ_and_without_a_generator_they_do_not(
    make: type[Diamond | Shortcut | VideoFlow],
) -> None:
    torch.manual_seed(0)
    model = make(space(5, 7), ACTED, width=7, blocks=1, hidden=5)
    pixels = torch.randn(64, 7, 5, 7)[:1].expand(64, -1, -1, -1)
    with torch.no_grad():
        drawn, likely = model.draw(pixels, torch.Generator().manual_seed(1), 1.0)
        assert set(drawn.unique().tolist()) <= {0, 1}
        assert torch.equal(drawn, (likely > 0.5).float())
        assert float(likely.std(0).mean()) > 0.01
        same, _ = model.draw(pixels, None, 1.0)
        assert len(same.unique(dim=0)) == 1
        cold, _ = model.draw(pixels, torch.Generator().manual_seed(1), 0.0)
        assert torch.equal(cold, same)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Diamond, {"steps": 0}),
        (Diamond, {"largest": 0.0}),
        (Diamond, {"start": -1.0}),
        (Diamond, {"denoiser_blocks": 0}),
        (Shortcut, {"steps": 3}),
        (Shortcut, {"steps": 32}),
        (Shortcut, {"finest": 12}),
        (Shortcut, {"longer": 1.5}),
        (VideoFlow, {"levels": 0}),
        (VideoFlow, {"steps": 0}),
        (VideoFlow, {"draws": 0}),
    ],
)
def test_a_draw_that_cannot_be_is_refused(
    make: type[Diamond | Shortcut | VideoFlow], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        make(space(3, 3), ACTED, **wrong)
