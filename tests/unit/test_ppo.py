"""PPO acts: within bounds, on vectors alone; and names what it cannot take."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from learned_push import learned
from ppo_learner import SPACE, act, learner, observation, practise
from push import CONTINUOUS, DISCRETE, Push, Truth
from refusals import refused

import wmplay
from wmplay.contracts import Learner
from wmplay.errors import ActionError, ConfigError, SpaceError


def test_actions_keep_to_the_spaces_bounds() -> None:
    policy = learner(log_std=1.0)
    practise(policy)
    low, high = torch.from_numpy(CONTINUOUS.low), torch.from_numpy(CONTINUOUS.high)
    drawn = act(policy, 1, explore=True)
    assert all(CONTINUOUS.contains(action) for action in drawn.numpy())
    assert ((drawn == low).any(0) & (drawn == high).any(0)).all(), "some are cut, on both sides"
    policy.actor[-1].bias.data = torch.tensor([0.0, 0.5])
    policy.actor[-1].weight.data.zero_()
    torch.testing.assert_close(act(policy)[0], torch.tensor([0.0, 2.0]))  # half-ranges 2 and 2 around 0 and 1
    policy.actor[-1].bias.data = torch.tensor([-3.0, 3.0])
    torch.testing.assert_close(act(policy)[0], torch.tensor([-2.0, 3.0]))


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_without_exploration_it_does_what_is_most_likely(actions: Any) -> None:
    policy = learner(actions)
    assert isinstance(policy, Learner)
    assert torch.equal(act(policy), act(policy, 1))
    assert torch.equal(act(policy, 1, explore=True), act(policy, 1, explore=True))
    assert not torch.equal(act(policy, 1, explore=True), act(policy, 2, explore=True))
    with torch.no_grad():
        output = policy.actor(policy.inputs(policy.inputs.flat(observation())))
    if actions is DISCRETE:
        assert torch.equal(act(policy), output.argmax(-1))
        assert act(policy, 1, explore=True).dtype == torch.int64
    else:
        torch.testing.assert_close(act(policy), policy.center + policy.scale * output.clamp(-1, 1))


def test_images_are_not_looked_at() -> None:
    policy = learner()
    before = copy.deepcopy(policy)
    practise(policy, learned(Truth(blind=True)))
    assert not torch.equal(policy.actor[0].weight, before.actor[0].weight)
    seen = observation()
    assert torch.equal(act(policy, seen=seen), act(policy, seen={**seen, "lcd": torch.ones(101, 5, 7)}))


def test_spaces_and_values_that_cannot_be_are_one_line() -> None:
    for space in (Dict({"lcd": SPACE["lcd"]}), Box(0, 255, (5, 7, 3), np.uint8), Discrete(3)):
        with refused(SpaceError, "observations", expected="vector"):
            learner(space=space)
    for actions in (Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2, 3)), gym.spaces.MultiDiscrete([2, 3])):
        with refused(SpaceError, "action", got=actions):
            learner(actions)
    with refused(SpaceError, "ppo", got=Discrete(3, start=1), expected="Discrete"):
        learner(Discrete(3, start=1))
    for name, value in (
        ("hidden", 0),
        ("rollout", 0),
        ("lr", 0.0),
        ("clip", -1.0),
        ("gamma", 1.5),
        ("gae_lambda", -0.1),
    ):
        with refused(ConfigError, ("ppo", name), got=value):
            learner(**{name: value})


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (
            Dict({"lcd": SPACE["lcd"], "goal_x": SPACE["x"]}),
            {"about": ("x", "2")},
        ),
        (
            Dict({"x": Box(-1, 1, (3,)), "goal_x": SPACE["x"]}),
            {"about": ("x", "2", "3")},
        ),
    ],
)
def test_another_envs_observations_are_named(space: Any, fields: dict[str, object]) -> None:
    class Other(Push):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = space

        def seen(self) -> Any:
            return self.observation_space.sample()

        def step(self, action: Any) -> Any:
            return self.seen(), 0.0, False, True, {}

    with refused(SpaceError, **fields):
        wmplay.simulate(Other(), learner(), 1)
    with refused(SpaceError, **fields):
        practise(learner(), SyncVectorEnv([Other] * 2, autoreset_mode=AutoresetMode.SAME_STEP))


def test_another_envs_actions_are_named() -> None:
    policy = learner(Box(-1, 1, (3,), np.float32))
    with refused(ActionError, "PPO", got=(1, 3), expected="[1, 2]"):
        wmplay.simulate(Push(), policy, 1)
    with refused(ActionError, "PPO", got="float32 [1, 2]", expected="integer"):
        wmplay.simulate(Push(DISCRETE), learner(), 1)
    with refused(ActionError, "action", got=(5, 3), expected="[5, 2]"):
        practise(policy, learned())
