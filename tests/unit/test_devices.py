"""Pieces keep to the device of what they are given: tried on torch's meta device, which has shapes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import ACTIONS, OBSERVATIONS, B, H, actions, make_model, segment
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import wmplay
from wmplay.contracts import Policy
from wmplay.explorers import EpsilonGreedy, GaussianNoise, RandomColdStart, Randomizer
from wmplay.objectives import GoalDistance
from wmplay.planners.cem import CEM
from wmplay.planners.random_shooting import RandomShooting
from wmplay.policies.mpc import MPC
from wmplay.policies.ppo import PPO
from wmplay.policies.random import RandomPolicy

SPACE = OBSERVATIONS["screen and vector"]


def elsewhere(tree: Any) -> Any:
    return tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, tree)


def assert_elsewhere(tree: Any) -> None:
    assert {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)} == {"meta"}


def seen(kind: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Frames, last actions and first flags of B rows."""
    frames = {key: value[:, 0] for key, value in segment(SPACE, ACTIONS[kind]).observation.items()}
    return elsewhere((frames, torch.zeros_like(actions(ACTIONS[kind], B, 1)[:, 0]), torch.ones(B) > 0))


def planning(planner: type, kind: str) -> MPC:
    model = make_model("mlp", SPACE, ACTIONS[kind]).to("meta")
    return MPC(
        model, planner(ACTIONS[kind], horizon=H, candidates=7), lambda future, _: future.reward.sum(1), 1
    )


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
@pytest.mark.parametrize("planner", [CEM, RandomShooting])
def test_planners(planner: type, kind: str) -> None:
    policy = planning(planner, kind)
    frames, last, first = seen(kind)
    belief = policy.model.initial(frames)
    plan = policy.planner.plan(policy.model, belief, lambda future: future.reward.sum(1))
    assert_elsewhere((plan.action, plan.score))
    again = policy.planner.plan(
        policy.model, belief, lambda future: future.reward.sum(1), warm_start=plan.action
    )
    assert_elsewhere((again.action, again.score))
    assert_elsewhere(policy.act(None, frames, last, first))


EXPLORERS: dict[str, tuple[str, Callable[[Policy, Any], Policy]]] = {
    "gaussian_noise": ("continuous", GaussianNoise),
    "epsilon_greedy": ("discrete", EpsilonGreedy),
    "random_cold_start": ("continuous", RandomColdStart),
    "randomizer": ("discrete", Randomizer),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_explorers(name: str) -> None:
    kind, explorer = EXPLORERS[name]
    policy = explorer(RandomPolicy(ACTIONS[kind], held=0.5), ACTIONS[kind])
    carry = policy.initial(B)
    for _ in range(2):
        action, carry = policy.act(carry, *seen(kind), explore=True)
        assert_elsewhere((action, carry))


@torch.no_grad()
def test_ppo_acts() -> None:  # torch knows no autocast there, of which SAC turns its own off
    net = PPO(SPACE, ACTIONS["continuous"]).to("meta")
    for explore in (False, True):
        assert_elsewhere(net.act(net.initial(B), *seen("continuous"), explore=explore)[0])


@pytest.mark.parametrize("name", ["luxo", "luxo_cube", "urchin_ball"])
def test_tasks(name: str) -> None:
    task = "body_goal" if name == "luxo" else "cube_goal"
    env = wmplay.make_env(name, task=task if name != "urchin_ball" else "body_goal", full_state=True)
    frames = {key: torch.from_numpy(value)[None].to("meta") for key, value in env.reset(seed=0)[0].items()}
    assert_elsewhere(env.unwrapped.task.reward_and_terminated(frames, frames))
    assert_elsewhere(GoalDistance(env).distance({key: value[:, None] for key, value in frames.items()}))
