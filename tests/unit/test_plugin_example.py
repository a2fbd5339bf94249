"""The worked example in plugins/, used as its reader would use it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from small_models import ACTIONS, OBSERVATIONS, B, H, T, observations, seed_spaces, segment
from small_models import actions as random_actions

import wmplay
from wmplay.contracts import Segment, WorldModel

ROOT = Path(__file__).parents[2]


def make(observation_space: Any, action_space: Any, **config: Any) -> Any:
    env = SimpleNamespace(observation_space=observation_space, action_space=action_space)
    return wmplay.make("model", "my_gru", env=env, **config)


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_it_is_short_and_listed() -> None:
    assert len((ROOT / "plugins" / "my_gru.py").read_text().splitlines()) <= 60
    assert "my_gru" in wmplay.registry.names("model")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", ["screen and vector", "screen", "vector"])
def test_it_is_a_world_model(observation: str, action: str) -> None:
    seed_spaces()
    space, action_space = OBSERVATIONS[observation], ACTIONS[action]
    model = make(space, action_space, hidden=17)
    assert isinstance(model, WorldModel)
    data, actions = segment(space, action_space), random_actions(action_space, B, H)
    with torch.no_grad():
        belief = wmplay.observe(model, data)
        stepwise = wmplay.observe(model, data, context=T)
        stepwise = model.observe(
            stepwise, data.action[:, -1:], {k: v[:, -1:] for k, v in data.observation.items()}
        )
        future = wmplay.predict(model, belief, actions)
        half = wmplay.predict(model, belief, actions[:, :1])
        rest = wmplay.predict(model, half.belief, actions[:, 1:])
    torch.testing.assert_close(stepwise, belief)
    torch.testing.assert_close(torch.cat([half.latent, rest.latent], 1), future.latent)
    assert future.reward.shape == (B, H)
    for key in future.observation:
        assert future.observation[key].shape == observations(space, B, H)[key].shape
    loss, metrics = model.loss(data)
    loss.backward()
    assert loss.shape == ()
    assert all(p.grad is not None for p in model.parameters())
    assert list(metrics) == ["loss/frame"]


def test_it_learns() -> None:
    space = Dict({"place": Box(-1, 1, (1,), np.float32)})
    torch.manual_seed(0)
    model = make(space, Discrete(3), hidden=61)

    def draw(batch: int) -> Segment:
        action = torch.randint(3, (batch, T))
        start = 2 * torch.rand(batch, 1, 1) - 1
        place = torch.cat([start, 0.3 * (action.unsqueeze(-1) - 1)], dim=1).cumsum(1)
        nothing = torch.zeros(batch, T, dtype=torch.bool)
        return Segment({"place": place}, action, place[:, 1:, 0] ** 2, nothing, ~nothing)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss, _ = model.loss(draw(32))
        loss.backward()
        optimizer.step()
    test = draw(128)
    future = wmplay.predict(model, wmplay.observe(model, test, context=1), test.action)
    truth, first = test.observation["place"][:, 1:], test.observation["place"][:, :1]
    error, standing_still = (x.abs().mean() for x in (future.observation["place"] - truth, first - truth))
    assert error < 0.3 * standing_still
    assert (future.reward - test.reward).square().mean() < 0.3 * test.reward.var()
