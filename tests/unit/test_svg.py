"""SVG: its bound against exact sums, its divergence against the formula, and what its parts may see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.video.pyramid import Pyramid, halvings
from wmplay.models.video.svg import SVG

PRIORS = ("learned", "fixed", "none")


def make(prior: str, *shape: int, **settings: Any) -> SVG:
    torch.manual_seed(0)
    high = 1 if len(shape) == 2 else 255
    space = Dict({"seen": Box(0, high, shape, np.uint8)})
    model = SVG(space, Discrete(3), **{"prior": prior, "width": 2, "stoch": 3, "hidden": 5, **settings})
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    return model


def segment(seen: Tensor) -> Segment:
    rows, steps = len(seen), seen.shape[1] - 1
    nothing = torch.zeros(rows, steps)
    return Segment({"seen": seen}, nothing.long(), nothing, nothing.bool(), ~nothing.bool())


@pytest.mark.parametrize("prior", PRIORS)
def test_no_bound_exceeds_the_likelihood_and_fitted_ones_come_near(prior: str) -> None:
    """The likelihood of each of the 16 screens is the mean over latents from the prior; all sum to 1."""
    model, draws = make(prior, 2, 2), 64
    every = (torch.arange(16)[:, None] >> torch.arange(4) & 1).reshape(16, 1, 2, 2)
    videos = torch.cat([torch.tensor([[0, 1], [1, 0]]).expand(16, 1, 2, 2), every], 1).to(torch.uint8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(segment(videos))[0].backward()
        optimizer.step()
    found = model.surprise(segment(videos.repeat_interleave(draws, 0)))
    bound = -found.nats.reshape(16, draws).double().mean(1)
    assert found.kind == ("exact" if prior == "none" else "bound")
    with torch.no_grad():
        belief = model.initial({"seen": videos[:1, 0].expand(1024, 2, 2)})
        generator = torch.Generator().manual_seed(1)
        lit = model.predict(belief, torch.zeros(1024, 1).long(), generator=generator).latent.double()
    given = torch.where(every.unsqueeze(1).bool(), lit, 1 - lit)  # [16, 1024, 1, 2, 2]
    chance = given.flatten(2).prod(2).mean(1)
    assert float(chance.sum()) == pytest.approx(1)
    gap = chance.log() - bound
    assert float(gap.min()) > (-1e-5 if prior == "none" else -0.1)
    assert float(gap.max()) < (1e-5 if prior == "none" else 0.5)


def test_a_fixed_prior_is_standard() -> None:
    model, videos = make("fixed", 5, 7), torch.randint(2, (3, 2, 5, 7), dtype=torch.uint8)
    belief = model.initial({"seen": videos[:, 0]})
    code, _ = model._encode(model.frames.planes({"seen": videos}))
    action = model.encode_action(torch.zeros(3, 1, dtype=torch.long))
    output, _ = model._run("posterior", belief, [code[:, :1], code[:, 1:], action])
    mean, width = model.statistics["posterior"](output).chunk(2, -1)
    sigma = torch.nn.functional.softplus(width) + 0.01
    by_hand = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).sum(-1).mean()
    assert float(model.loss(segment(videos))[1]["loss/kl"]) == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_prior_does_not_see_the_frame_that_the_posterior_sees() -> None:
    model, videos = make("learned", 5, 7), torch.randint(2, (1, 3, 5, 7), dtype=torch.uint8)
    with torch.no_grad():
        futures = [
            model.predict(
                model.initial({"seen": videos[:, 0]}),
                torch.zeros(1, 1, dtype=torch.long),
                generator=torch.Generator().manual_seed(seed),
            ).latent
            for seed in (1, 1, 2)
        ]
        assert torch.equal(futures[0], futures[1])
        assert not torch.allclose(futures[0], futures[2])
        changed = videos.clone()
        changed[:, 2] = 1 - changed[:, 2]
        for name, moves in (("prior", False), ("posterior", True)):
            found = []
            for video in (videos, changed):
                code, _ = model._encode(model.frames.planes({"seen": video}))
                action = model.encode_action(torch.zeros(1, 2, dtype=torch.long))
                given = [code[:, :-1], *([code[:, 1:]] if moves else []), action]
                found.append(model._run(name, model.initial({"seen": video[:, 0]}), given)[0][:, 1])
            assert torch.allclose(*found) != moves


@pytest.mark.parametrize(("side", "count"), [(3, 0), (4, 0), (7, 0), (8, 1), (16, 2), (31, 2), (64, 4)])
def test_frames_are_halved_down_to_four_pixels(side: int, count: int) -> None:
    assert halvings((side, 2 * side)) == count


def test_width_makes_everything_wider() -> None:
    pyramid = Pyramid(3, (16, 32), 5, 2, 11)
    code, maps = pyramid(torch.zeros(7, 3, 16, 32))
    assert code.shape == (7, 11)
    assert [tuple(x.shape[1:]) for x in maps] == [(5, 16, 32), (10, 8, 16), (20, 4, 8)]
    weights = [sum(w.numel() for w in make("learned", 16, 16, width=n).parameters()) for n in (2, 4, 8)]
    assert weights[0] * 3 < weights[1] * 1.2 < weights[2] / 2.5


def test_images_are_modelled_and_other_observations_refused() -> None:
    model = make("learned", 9, 11, 3)
    videos = torch.randint(256, (2, 4, 9, 11, 3), dtype=torch.uint8)
    assert torch.isfinite(model.loss(segment(videos))[0])
    belief = model.initial({"seen": videos[:, 0]})
    assert model.predict(belief, torch.zeros(2, 3, dtype=torch.long)).observation["seen"].shape[1:] == (
        3,
        9,
        11,
        3,
    )
    with pytest.raises(SpaceError):
        SVG(Dict({"place": Box(-1, 1, (2,), np.float32)}), Discrete(3))
    for wrong in ({"prior": "wide"}, {"width": 0}, {"stoch": 0}, {"kl_weight": -1.0}):
        with pytest.raises(ConfigError):
            SVG(Dict({"seen": Box(0, 1, (5, 7), np.uint8)}), Discrete(3), **wrong)
