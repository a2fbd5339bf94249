"""The same error in whatever unit observations and actions are, bounded or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

from wmplay import registry
from wmplay.contracts import Segment
from wmplay.loop.fitter import Fitter
from wmplay.nets.inputs import VectorInputs
from wmplay.nets.units import Units, measure_units, to_measure
from wmplay.runs.weights import load_weights

UPDATES, BATCH, STEPS = 250, 47, 5
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": 61, "layers": 2, "frames": 2},
    "gru": {"hidden": 37},
    "rssm": {"deter": 23, "stoch": 5, "hidden": 29, "image_hidden": 31},
    "ensemble": {"members": 2, "settings": {"hidden": 37, "layers": 1}},
}


def turning(seed: int, rows: int) -> Segment:
    """Points within the unit square that an action turns, and a number that another one pushes."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (rows, STEPS, 2))
    x = np.zeros((rows, STEPS + 1, 3))
    x[:, 0] = rng.uniform(-0.7, 0.7, (rows, 3))
    for t in range(STEPS):
        turn = np.exp(1j * (0.3 + 0.3 * action[:, t, 0])) * (x[:, t, 0] + 1j * x[:, t, 1])
        x[:, t + 1] = np.stack([turn.real, turn.imag, 0.8 * x[:, t, 2] + 0.2 * action[:, t, 1]], -1)
    ones = torch.ones(rows, STEPS, dtype=torch.bool)
    flat = torch.zeros(rows, STEPS)
    return Segment({"x": torch.tensor(x)}, torch.tensor(action), flat, ~ones, ones, ones[:, 0])


def in_units(segment: Segment, observation: float, action: float, offset: float = 0.0) -> Segment:
    x = (segment.observation["x"] * observation + offset).float()
    rest = segment.reward, segment.terminated, segment.mask, segment.first
    return Segment({"x": x}, (segment.action * action).float(), *rest)


def space(unit: float, size: int, bounded: bool) -> Box:
    bound = unit if bounded else np.inf
    return Box(np.float32(-bound), np.float32(bound), (size,), np.float32)


def error(name: str, unit: float, action_unit: float, bounded: bool, updates: int = UPDATES) -> float:
    """Of one step, in standard deviations, after a little training."""
    torch.manual_seed(3)
    spaces = Dict(x=space(unit, 3, bounded)), space(action_unit, 2, bounded)
    heads = {"reward_weight": 0.0, "continuation_weight": 0.0}
    model = registry.make(
        "model", name, observation_space=spaces[0], action_space=spaces[1], **SMALL[name], **heads
    )
    data = in_units(turning(5, 499), unit, action_unit)
    measure_units(model, data)
    fitter = Fitter(model.train(), torch.device("cpu"), updates, precision="float32", lr=5e-3)
    for number in range(updates):
        torch.manual_seed(number)
        start = number * BATCH % (499 - BATCH)
        fitter.update(data.rows(slice(start, start + BATCH)), number, (0, updates))
    held_out = in_units(turning(7, 251), unit, action_unit)
    x = held_out.observation["x"]
    with torch.no_grad():
        belief = model.eval().initial({"x": x[:, 0]})
        belief = model.observe(belief, held_out.action[:, :-1], {"x": x[:, 1:-1]})
        guess = model.predict(belief, held_out.action[:, -1:]).observation["x"][:, 0]
    return float((guess - x[:, -1]).double().square().mean().sqrt() / x[:, -1].double().std())


@pytest.fixture(scope="module")
def usual() -> float:
    return error("mlp", 1.0, 1.0, bounded=True)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("units", [(1e-6, 1e6), (1001.0, 1e-6), (1e6, 1e3), (1.0, 1.0)])
def test_the_error_does_not_depend_on_the_units(
    usual: float, units: tuple[float, float], bounded: bool
) -> None:
    assert usual < 0.1
    assert error("mlp", *units, bounded=bounded) == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize("name", ["gru", "rssm", "ensemble"])
def test_nor_does_that_of_other_models(name: str) -> None:
    plain = error(name, 1.0, 1.0, bounded=True, updates=67)
    assert error(name, 1e6, 1e-6, bounded=False, updates=67) == pytest.approx(plain, rel=0.1)


def measured(box: Box, data: Any) -> Units:
    units = Units(box, "x")
    units.measure(np.asarray(data, np.float32))
    return units


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_bounds_count_if_the_data_fills_them(offset: float) -> None:
    data = offset + np.linspace(-1.0, 1.0, 101)[:, None] * [2000.0, 1.0, 3.0, 0.5]
    low = np.array([offset - 2000, -3.4e38, offset - 5, -np.inf], np.float32)
    high = np.array([offset + 2000, 3.4e38, np.inf, offset + 1], np.float32)
    units = measured(Box(low, high), data)
    assert units.limit[:2].tolist() == [1.0, float("inf")]
    assert units.limit[2:].isinf().all()
    scaled = units(torch.as_tensor(data).float())
    assert scaled.amax(0).tolist() == pytest.approx([1, 1, 1, 1], rel=0.1)
    assert scaled.amin(0).tolist() == pytest.approx([-1, -1, -1, -1], rel=0.1)


def test_constants_outliers_and_trusted_bounds() -> None:
    data = np.stack(
        [np.full(1001, 7e5), np.zeros(1001), np.r_[np.zeros(1000), 1e9], np.linspace(-1, 1, 1001)], 1
    )
    low = np.array([-np.inf, -np.inf, -np.inf, -1e-6], np.float32)
    units = measured(Box(low, -low), data)
    assert units(torch.as_tensor(data).float())[:1000, :3].abs().max() < 1
    assert units.scale[3] == pytest.approx(1e-6)
    assert units.scale.isfinite().all()
    assert (units.scale > 0).all()


def test_units_are_saved_and_old_checkpoints_mean_none() -> None:
    spaces = {"observation_space": Dict(x=space(1.0, 3, False)), "action_space": space(1.0, 2, True)}
    model, again, old = (registry.make("model", "mlp", **SMALL["mlp"], **spaces) for _ in range(3))
    measure_units(model, in_units(turning(5, 53), 100.0, 1.0))
    weights = model.state_dict()
    load_weights({"model": again}, {"model": weights}, Path("run"))
    assert not to_measure(again)
    x = 100 * torch.randn(7, 3)
    assert torch.equal(again.states({"x": x}), model.states({"x": x}))
    before = {name: value for name, value in weights.items() if ".units." not in name}
    load_weights({"model": old}, {"model": before}, Path("run"))
    assert torch.equal(old.states({"x": x}), x)
    assert not to_measure(old)


def test_a_model_of_usual_bounds_has_no_units_among_its_weights() -> None:
    spaces = {"observation_space": Dict(x=space(1.0, 3, True)), "action_space": space(1.0, 2, True)}
    model = registry.make("model", "mlp", **SMALL["mlp"], **spaces)
    assert not to_measure(model)
    assert not [name for name in model.state_dict() if "units" in name]


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_policies_see_the_same_in_any_unit(unit: float) -> None:
    def seen(unit: float) -> Tensor:
        inputs = VectorInputs(Dict(x=space(unit, 3, False), goal_x=space(unit, 3, False)))
        flat = inputs.flat({k: v * unit for k, v in values.items()})
        inputs.update(flat)
        return inputs(flat)

    generator = torch.Generator().manual_seed(3)
    values = {key: torch.randn(59, 3, generator=generator) for key in ("x", "goal_x")}
    torch.testing.assert_close(seen(unit), seen(1.0), rtol=1e-3, atol=1e-3)
