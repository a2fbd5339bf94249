"""The probabilistic ensemble of PETS, against numbers worked out outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from small_models import ACTIONS, OBSERVATIONS
from torch import Tensor, nn

from wmplay.contracts import Segment
from wmplay.errors import ConfigError, SpaceError, WmplayError
from wmplay.models.pets import PETS, Groups, bounded
from wmplay.nets.units import measure_units

LINE = Dict({"x": Box(-np.inf, np.inf, (1,), np.float32)})
PUSH = Box(-1, 1, (1,), np.float32)
FACTORS = (0.9, 1.0, 1.1)
ROWS, STEPS = 20_000, 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_bounds_of_the_log_variance() -> None:
    raw = torch.tensor([-20.0, 0.0, 5.0])
    found = bounded(raw, torch.tensor(-10.0), torch.tensor(0.5))
    assert found.tolist() == pytest.approx([-10.000, -0.4740, 0.4890], abs=1e-3)


def growing(choose: Any) -> PETS:
    """Three networks, x' = a x + N(0, .01) with an a each; silu(z) - silu(-z) = z makes them linear."""
    model = PETS(LINE, PUSH, members=3, choose=choose, hidden=2, layers=1, change_scale=1.0, weight_decay=0.0)
    with torch.no_grad():
        for parameter in model.nets.parameters():
            parameter.zero_()
        model.nets.weights[0][:, 0] = torch.tensor([1.0, -1.0])
        for i, factor in enumerate(FACTORS):
            model.nets.weights[1][i, :, 0] = (factor - 1) * torch.tensor([1.0, -1.0])
        model.nets.biases[1][..., 1] = np.log(0.01)
        model.least.fill_(-30)
        model.most.fill_(30)
    return model


def after_ten(model: PETS, **draws: Any) -> Tensor:
    belief = model.initial({"x": torch.ones(ROWS, 1)})
    with torch.no_grad():
        future = model.predict(belief, torch.zeros(ROWS, STEPS, 1), **draws)
    return future.observation["x"][:, -1, 0]


@pytest.mark.parametrize(
    ("choose", "mean", "deviation"), [("episode", 1.3141, 1.0144), ("step", 1.0000, 0.4144)]
)
def test_particles_spread_as_computed(choose: str, mean: float, deviation: float) -> None:
    x = after_ten(growing(choose), generator=seeded())
    assert float(x.mean()) == pytest.approx(mean, abs=0.025)
    assert float(x.std()) == pytest.approx(deviation, abs=0.02)


def test_without_a_generator_each_step_is_the_mean() -> None:
    x = after_ten(growing("episode"))
    torch.testing.assert_close(x, torch.ones(ROWS))


def test_a_row_keeps_its_network_until_a_new_belief() -> None:
    model = growing("episode")
    push = torch.zeros(ROWS, STEPS, 1)
    with torch.no_grad():
        start = model.predict(model.initial({"x": torch.ones(ROWS, 1)}), push, generator=seeded(1))
        first = start.observation["x"][:, -1, 0]
        member = start.belief["member"]
        rest = model.predict(start.belief, push, temperature=0.0, generator=seeded(2))
        likely = model.predict(start.belief, push)
    assert set(member.tolist()) == {0, 1, 2}
    grown = torch.tensor(FACTORS)[member] ** STEPS
    torch.testing.assert_close(rest.observation["x"][:, -1, 0], first * grown, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(likely.observation["x"], rest.observation["x"])
    assert torch.equal(rest.belief["member"], member)


@pytest.mark.parametrize("member", [[0, 2, 2, 0, 2], [1], [0, 1, 2, 3, 3]])
def test_rows_are_grouped_and_back(member: list[int]) -> None:
    groups = Groups(torch.tensor(member), 4)
    rows = torch.arange(2.0 * len(member)).reshape(-1, 2) + 1
    split = groups.split(rows)
    for i in range(4):
        own = rows[torch.tensor(member) == i]
        assert torch.equal(split[i, : len(own)], own)
        assert not split[i, len(own) :].any()
    assert torch.equal(groups.join(split), rows)


def segment(rows: int = 16, steps: int = 5) -> Segment:
    """x rises by the action plus noise; an entry of the vector never changes."""
    push = torch.rand(rows, steps, 1, generator=seeded()) * 2 - 1
    noise = 0.1 * torch.randn(rows, steps, 1, generator=seeded(1))
    x = torch.cat([torch.zeros(rows, 1, 1), (push + noise).cumsum(1)], 1)
    flags = torch.zeros(rows, steps, dtype=torch.bool)
    constant = torch.full_like(x, 7.0)
    return Segment({"x": torch.cat([x, constant], -1)}, push, torch.zeros(rows, steps), flags, ~flags)


def test_constant_entries_and_the_noise_are_learned() -> None:
    torch.manual_seed(0)
    space, data = Dict({"x": Box(-np.inf, np.inf, (2,), np.float32)}), segment(rows=64)
    model = PETS(space, PUSH, members=2, hidden=17, layers=1, reward_weight=0.0, continuation_weight=0.0)
    measure_units(model, data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        loss, _ = model.loss(data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0
    first = {"x": data.observation["x"][:, 0]}
    with torch.no_grad():
        drawn = model.predict(model.initial(first), data.action[:, :1], generator=seeded()).observation["x"]
    error = drawn[:, 0] - data.observation["x"][:, 0]
    error[:, 0] -= data.action[:, 0, 0]
    assert float(error[:, 0].std()) == pytest.approx(0.1, abs=0.05)
    assert float(error[:, 1].abs().max()) < 0.2


def test_each_layer_has_its_decay() -> None:
    model = PETS(LINE, PUSH, members=2, hidden=3, layers=3, weight_decay=2e-4)
    data = segment()
    data = Segment({"x": data.observation["x"][..., :1]}, data.action, data.reward, data.mask, data.mask)
    model.decays = [0.0] * 4
    without, _ = model.loss(data)
    model.decays = [2e-4, 5e-4, 5e-4, 1e-3]
    added = (model.loss(data)[0] - without).item()
    squares = [0.5 * weight.square().sum().item() for weight in model.nets.weights]
    assert added == pytest.approx(float(np.dot(model.decays, squares)), abs=1e-5)
    assert PETS(LINE, PUSH, layers=3, weight_decay=2e-4).decays == pytest.approx(model.decays)


def test_screens_are_neither_read_nor_predicted() -> None:
    space = OBSERVATIONS["screen and vector"]
    model = PETS(space, ACTIONS["continuous"], hidden=5)
    assert model.predicted == ["proprio"]
    future = model.predict(model.initial({"proprio": torch.zeros(2, 3)}), torch.zeros(2, 3, 11))
    assert list(future.observation) == ["proprio"]
    assert not [module for module in model.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("space", "settings", "error"),
    [
        (OBSERVATIONS["screen"], {}, SpaceError),
        (LINE["x"], {}, SpaceError),
        (LINE, {"members": 0}, ConfigError),
        (LINE, {"choose": "never"}, ConfigError),
        (LINE, {"weight_decay": -1.0}, ConfigError),
        (LINE, {"change_scale": 0.0}, ConfigError),
    ],
)
def test_what_it_refuses(space: Any, settings: dict[str, Any], error: type[WmplayError]) -> None:
    with refused(error):
        PETS(space, PUSH, **settings)
