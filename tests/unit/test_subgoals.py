"""Subgoals: a sequence is worth its worst leg, and a planner or a policy walks from one to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused

import wmplay
from wmplay.contracts import EnvSpec, Practice, Prediction
from wmplay.envs.exact.two_rooms import MOVES
from wmplay.errors import ConfigError
from wmplay.objectives import GoalDistance
from wmplay.planners.cem import CEM
from wmplay.policies.subgoals.hvf import HVF
from wmplay.policies.subgoals.hvpc import HVPC
from wmplay.policies.subgoals.walker import SubgoalPolicy

PLACE, MOVE = Box(0, 50, (1,), np.float32), Box(-1, 1, (1,), np.float32)
CORRIDOR = EnvSpec(Dict({"x": PLACE, "goal_x": PLACE}), MOVE, None)


class Walk(torch.nn.Module):
    """The corridor's dynamics: x' = x + a."""

    def initial(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return observation["x"]

    def observe(self, belief: Any, action: Any, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        return observation["x"][:, -1]

    def predict(self, belief: torch.Tensor, action: torch.Tensor, *, generator: Any = None) -> Prediction:
        x = belief.unsqueeze(1) + action.cumsum(1)
        return Prediction(x, None, None, x[:, -1], self.decode)

    def decode(self, latent: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": latent}


class Towards(torch.nn.Module):
    """The corridor's best policy in place of a cloned one: towards the goal, by at most 1."""

    def forward(self, seen: torch.Tensor) -> Towards:
        place, goal, _ = (25 * seen).unbind(-1)  # half of the corridor's length
        self.action = (goal - place).clamp(-1, 1).unsqueeze(-1)
        return self

    def mode(self) -> torch.Tensor:
        return self.action


def corridor(below: str, horizon: int, **settings: Any) -> SubgoalPolicy:
    objective = GoalDistance(CORRIDOR, mean_weight=0)
    if below == "policy":
        policy = HVPC(CORRIDOR, Walk(), objective, horizon=horizon, hidden=13, **settings)
        policy.actor = Towards()  # type: ignore[assignment]
        return policy
    planner = CEM(MOVE, horizon=horizon, candidates=31, iterations=2, hold=horizon)
    return HVF(CORRIDOR, Walk(), planner, objective, hidden=13, **settings)


@pytest.mark.parametrize("below", ["planner", "policy"])
def test_the_worst_leg_chooses_the_midpoint_where_the_sum_leaves_it_open(below: str) -> None:
    policy = corridor(below, horizon=4)
    middle = torch.arange(4.0, 9.0)  # each leg is out of reach by 0 to 4, both together by 4
    observation = {"x": torch.zeros(1, 1), "goal_x": torch.full((1, 1), 12.0)}
    with torch.no_grad():
        draws = torch.Generator().manual_seed(0)
        legs = policy.legs(observation, {"x": middle.reshape(1, 5, 1, 1)}, draws)[0]
    torch.testing.assert_close(-legs.sum(-1), torch.full((5,), 4.0), atol=0.02, rtol=0)
    torch.testing.assert_close(-legs.amin(-1), torch.tensor([4.0, 3, 2, 3, 4]), atol=0.02, rtol=0)


@pytest.mark.parametrize("below", ["planner", "policy"])
def test_a_leg_ends_at_its_subgoal_or_with_patience(below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = corridor(below, horizon=3, subgoals=2, near=0.3, patience=5)
    given = torch.tensor([[[3.0], [40.0]], [[2.0], [4.0]]])  # [B, K, 1]; the 40 is out of reach
    monkeypatch.setattr(policy, "search", lambda seen, generator: {"x": given[: len(seen["x"])]})
    x, goal, carry = torch.zeros(2, 1), torch.full((2, 1), 6.0), None
    action, legs = torch.zeros(2, 1), []
    for step in range(9):
        first, seen = torch.full((2,), step == 0), {"x": x, "goal_x": goal}
        action, carry = policy.act(carry, seen, action, first, generator=torch.Generator().manual_seed(step))
        legs.append(carry.leg.tolist())
        x = x + action
    assert [leg for leg, _ in legs] == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert [leg for _, leg in legs] == [0, 0, 1, 1, 2, 2, 2, 2, 2]
    torch.testing.assert_close(x[1], goal[1], atol=0.3, rtol=0)


def test_what_was_seen_soon_after_was_the_goal(tmp_path: Path) -> None:
    """Of random walks, the action that leads to a neighbouring cell is the one cloned for it."""
    env = wmplay.make_env("two_rooms", doors=[1])
    store = wmplay.save_trajectories(wmplay.simulate(env, episodes=40, seed=0), tmp_path / "walks")
    objective = wmplay.make("objective", "goal_distance", env=env)
    torch.manual_seed(0)
    policy = HVPC(env, wmplay.make("model", "oracle", env=env), objective, hidden=31, batch_size=61, lr=1e-2)
    policy.improve(Practice(None, 61 * 60, 0, torch.device("cpu"), store))  # type: ignore[arg-type]
    cells = np.array([(r, c, r + dr, c + dc) for r in (2, 5) for c in (1, 6) for dr, dc in MOVES], float)
    frames = {key: torch.as_tensor(value) for key, value in env.unwrapped.observe(cells).items()}
    with torch.no_grad():
        begun = torch.ones(len(cells), dtype=torch.bool)
        action, _ = policy.act_below(None, frames, begun.long(), begun, explore=False, generator=None)
    assert action.tolist() == 4 * [0, 1, 2, 3]


def test_the_generator_proposes_what_it_saw(tmp_path: Path) -> None:
    env = wmplay.make_env("two_rooms", doors=[1])
    store = wmplay.save_trajectories(wmplay.simulate(env, episodes=40, seed=0), tmp_path / "walks")
    parts = {
        "model": wmplay.make("model", "oracle", env=env),
        "planner": wmplay.make("planner", "random_shooting", env=env, candidates=3, horizon=2),
        "objective": wmplay.make("objective", "goal_distance", env=env),
    }
    torch.manual_seed(0)
    policy = HVF(env, **parts, hidden=31, batch_size=61, lr=1e-2)

    def improved(updates: int) -> float:
        practice = Practice(None, 61 * updates, 0, torch.device("cpu"), store)  # type: ignore[arg-type]
        return policy.improve(practice)["subgoal_loss"]

    assert improved(1) - 20 > improved(100)
    now = store.sample(1, 1, 0).observation
    frames = {key: now[key][:, 0] for key in ("place", "screen")}
    drawn = policy.generator.decode(frames, torch.randn(1, 101, 8))
    cells = ((drawn["place"][0] + 1) * 4).round().long()
    assert len(cells.unique(dim=0)) > 10


def test_what_has_no_subgoals_is_refused() -> None:
    planner, objective = CEM(MOVE), GoalDistance(CORRIDOR)
    for keys in ({"x": PLACE}, {"x": PLACE, "goal_y": PLACE}):
        with refused(ConfigError, expected="an observation x for each goal_x, and at least one"):
            HVF(EnvSpec(Dict(keys), MOVE, None), Walk(), planner, objective)
    for below in ("planner", "policy"):
        with refused(ConfigError, got=9):
            corridor(below, 3, elites=9, candidates=8)


def test_goals_across_the_wall() -> None:
    env = wmplay.make_env("two_rooms", across=True)
    starts = [env.reset(seed=seed)[0] for seed in range(23)]
    assert all(start["place"][1] * start["goal_place"][1] < 0 for start in starts)
    assert env.unwrapped.optimum() == 1
    assert isinstance(env, gym.Env)
