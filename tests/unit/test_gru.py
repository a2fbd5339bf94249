"""The GRU over vectors: what it remembers, and which steps it learns from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS, B, seed_spaces, segment

from wmplay.contracts import Segment
from wmplay.errors import ConfigError
from wmplay.models.gru import GRU

SPACE, ACTION = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    seed_spaces()
    torch.manual_seed(7)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_first_steps_of_a_middle_do_not_count() -> None:
    model = GRU(SPACE, ACTION, hidden=17, burn_in=2)
    data = segment(SPACE, ACTION)
    data.reward[:, :2] += 100

    def loss(first: list[bool] | None) -> float:
        known = None if first is None else torch.tensor(first)
        return float(model.loss(dataclasses.replace(data, first=known))[1]["loss/reward"])

    assert loss(None) == loss([False, False]) < 10
    assert loss([True, True]) > 1000
    assert 100 < loss([True, False]) < loss([True, True])
    everything = GRU(SPACE, ACTION, hidden=17, burn_in=0)
    assert float(everything.loss(data)[1]["loss/reward"]) > 1000


@torch.no_grad()
def test_it_is_fitted_on_what_it_predicts() -> None:
    """The likelihood of a step is that of the Gaussian which a sampled prediction draws from."""
    space = Dict({"x": Box(-3, 5, (1,), np.float32), "y": Box(-np.inf, np.inf, (2,), np.float32)}, seed=3)
    model = GRU(space, ACTION, hidden=17, burn_in=0, reward_weight=0, continuation_weight=0)
    data = segment(space, ACTION, B, 1)
    for key in space:
        data.observation[key].mul_(0.1)
    belief = model.initial({key: value[:, 0] for key, value in data.observation.items()})
    rows = {key: value.repeat_interleave(10_007, 0) for key, value in belief.items()}
    action = data.action.repeat_interleave(10_007, 0)
    drawn = model.predict(rows, action, generator=seeded()).latent.reshape(B, 10_007, 3)
    normal = torch.distributions.Normal(drawn.mean(1), drawn.std(1))
    target = model.states({key: value[:, 1] for key, value in data.observation.items()})
    expected = -normal.log_prob(target).sum(-1).mean()
    assert float(model.loss(data)[0]) == pytest.approx(float(expected), rel=0.05)
    cool = model.predict(rows, action, generator=seeded(), temperature=0.5).latent.reshape(B, 10_007, 3)
    torch.testing.assert_close(cool.std(1), 0.5 * drawn.std(1))
    likely = model.predict(belief, data.action).latent[:, 0]
    torch.testing.assert_close(
        model.predict(belief, data.action, generator=seeded(), temperature=0.0).latent[:, 0], likely
    )


def test_it_remembers_what_frames_do_not_show() -> None:
    """Which way actions move the point is shown in the first frame only."""
    space, steps = Dict({"place": Box(-1, 1, (1,), np.float32), "way": Box(-1, 1, (1,), np.float32)}), 7
    model = GRU(space, Discrete(2), hidden=31, burn_in=0, reward_weight=0, continuation_weight=0)

    def draw(batch: int) -> Segment:
        way = 0.03 * torch.randn(batch, steps + 1, 1)
        way[:, 0] = 0.2 * torch.randint(2, (batch, 1)) - 0.1
        action = torch.randint(2, (batch, steps))
        moves = way[:, :1] * action.unsqueeze(-1) + 0.01 * torch.randn(batch, steps, 1)
        place = torch.nn.functional.pad(moves.cumsum(1), (0, 0, 1, 0))
        nothing = torch.zeros(batch, steps, dtype=torch.bool)
        return Segment({"place": place, "way": way}, action, torch.zeros(batch, steps), nothing, ~nothing)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(draw(32))[0].backward()
        optimizer.step()
    test = draw(64)
    first = {key: value[:, 0] for key, value in test.observation.items()}
    with torch.no_grad():
        guess = model.predict(model.initial(first), test.action).observation["place"][:, -1]
    truth = test.observation["place"][:, -1]
    assert (guess - truth).abs().mean() < 0.2 * truth.abs().mean()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_says_how_much_of_the_gradient_a_wide_gaussian_keeps(beta: float) -> None:
    """Of the mean's, sigma^(2 beta - 2): with beta 1 it is that of the squared error."""
    pulls, data = [], segment(SPACE, ACTION)
    for width in (2.0, 5.0):
        torch.manual_seed(3)
        model = GRU(
            SPACE, ACTION, hidden=17, min_sigma=1e-6, beta=beta, reward_weight=0, continuation_weight=0
        )
        last = model.next.change[-1]
        with torch.no_grad():
            last.weight.zero_()  # the same mean and width everywhere
            last.bias[: len(last.bias) // 2] = 0
            last.bias[len(last.bias) // 2 :] = width
        model.loss(data)[0].backward()
        pulls.append(last.bias.grad[: len(last.bias) // 2].clone())
    sigmas = torch.nn.functional.softplus(torch.tensor([2.0, 5.0]))
    ratio = (sigmas[1] / sigmas[0]) ** (2 * beta - 2)
    torch.testing.assert_close(pulls[1], ratio * pulls[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        ({"hidden": 0}, {"got": 0, "expected": "1"}),
        ({"burn_in": -1}, {"about": "burn_in", "got": -1, "expected": "0"}),
        ({"min_sigma": 0.0}, {"about": "min_sigma", "got": 0.0}),
        ({"beta": 1.5}, {"about": "beta", "got": 1.5, "expected": "0"}),
        ({"code": -1}, {"about": "code", "got": -1}),
    ],
)
def test_values_out_of_range_are_refused(config: dict[str, Any], fields: dict[str, object]) -> None:
    with refused(ConfigError, **fields):
        GRU(SPACE, ACTION, **config)
