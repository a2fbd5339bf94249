"""The graph network simulator: symmetries that hold for any weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor

import wmplay
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.gns import GNS

ACTION = Box(-1, 1, (1,), np.float32)
ORDER = torch.tensor([3, 0, 4, 1, 2])


def space(bodies: int) -> Dict:
    vector = Box(-8, 8, (2 * bodies,), np.float32)
    return Dict({"positions": vector, "velocities": vector})


def springs(bodies: int = 5, **settings: Any) -> GNS:
    torch.manual_seed(0)
    model = GNS(space(bodies), ACTION, hidden=16, **{"walls": 0.0, **settings}).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def frames(bodies: int = 5, rows: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = torch.rand(3, rows, 4, 2 * bodies, generator=generator) - 0.5
    return {"positions": 2 * draw[0][:, :1] + 0.1 * draw[1], "velocities": 0.1 * draw[2]}


def future(model: GNS, seen: Mapping[str, Tensor], steps: int = 3) -> dict[str, Tensor]:
    rows = len(seen["positions"])
    belief = model.initial({key: value[:, 0] for key, value in seen.items()})
    belief = model.observe(
        belief, torch.zeros(rows, 3, 1), {key: value[:, 1:] for key, value in seen.items()}
    )
    with torch.no_grad():
        found = model.predict(belief, torch.ones(rows, steps, 1)).observation
        return {key: found[key].reshape(rows, steps, -1, 2) for key in seen}


def test_forces_are_as_exact_in_a_fit_of_lower_precision() -> None:
    model, seen = springs(), frames()
    with torch.autocast("cpu", torch.bfloat16):
        low = future(model, seen)
    for key, value in future(model, seen).items():
        torch.testing.assert_close(low[key], value)


@pytest.mark.parametrize("settings", [{}, {"conserve": True}, {"radius": 0.1}, {"walls": 0.9}])
def test_permuting_the_bodies_permutes_the_future(settings: dict[str, Any]) -> None:
    model, seen = springs(**settings), frames()
    moved = {key: value.unflatten(-1, (-1, 2))[..., ORDER, :].flatten(-2) for key, value in seen.items()}
    before, after = future(model, seen), future(model, moved)
    for key, value in before.items():
        torch.testing.assert_close(after[key], value[..., ORDER, :], atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [{}, {"conserve": True}, {"radius": 0.1}])
def test_moving_all_bodies_moves_the_future(settings: dict[str, Any]) -> None:
    model, seen, way = springs(**settings), frames(), torch.tensor([1.5, -0.7])
    moved = {**seen, "positions": seen["positions"] + way.repeat(5)}
    before, after = future(model, seen), future(model, moved)
    torch.testing.assert_close(after["positions"], before["positions"] + way, atol=1e-5, rtol=0)
    torch.testing.assert_close(after["velocities"], before["velocities"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bodies", [2, 5])
def test_momentum_is_kept_by_antisymmetric_forces_alone(bodies: int) -> None:
    seen = frames(bodies)
    velocities = seen["velocities"].unflatten(-1, (-1, 2))
    start = velocities[:, :1].sum(-2)
    seen["velocities"] = (velocities + (start - velocities.sum(-2)).unsqueeze(-2) / bodies).flatten(-2)
    kept = future(springs(bodies, conserve=True, frames=2), seen)["velocities"].sum(-2) / bodies
    torch.testing.assert_close(kept, (start / bodies).expand_as(kept), atol=1e-6, rtol=0)
    lost = future(springs(bodies, frames=2), seen)["velocities"].sum(-2) / bodies
    assert float((lost - start / bodies).abs().max()) > 1e-3


def test_bodies_out_of_reach_send_no_messages() -> None:
    model, seen = springs(radius=0.25), frames()  # in half-ranges: 2 m
    seen["positions"][..., :2] += 5
    before = future(model, seen, 1)
    seen["positions"][..., 2:] += 0.01
    after = future(model, seen, 1)
    torch.testing.assert_close(after["positions"][:, :, 0], before["positions"][:, :, 0])
    assert not torch.equal(after["velocities"][:, :, 1:], before["velocities"][:, :, 1:])


def test_the_weights_of_three_bodies_simulate_six() -> None:
    few, many = springs(3), springs(6)
    many.load_state_dict(few.state_dict())
    seen, far = frames(6), torch.tensor([7.0, -7.0]).repeat(3)
    few.radius = many.radius = 0.3
    seen["positions"][..., 6:] += far
    alone = {key: value[..., :6] for key, value in seen.items()}
    torch.testing.assert_close(
        future(many, seen, 1)["positions"][..., :3, :], future(few, alone, 1)["positions"]
    )


def test_the_keys_of_lcd_worlds_are_found_and_others_refused() -> None:
    world = wmplay.make_env("object2", full_state=True)
    model = wmplay.make("model", "gns", env=world)
    assert (model.predicted, model.numbers) == (["full_state"], 4)
    for settings in ({"keys": ["none"]}, {"keys": ["positions"], "entries": 3}, {"entries": 1}, {"keys": []}):
        with pytest.raises(ConfigError):
            GNS(space(5), ACTION, **settings)
    with pytest.raises(ConfigError):
        wmplay.make("model", "gns", env=wmplay.make_env("object2"))
    with pytest.raises(SpaceError):
        wmplay.make("model", "gns", env=wmplay.make_env("catch"))
