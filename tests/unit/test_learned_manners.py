"""What a real env would not put up with, a learned one does not; it begins anew when it is told to."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from learned_push import STARTS, N, learned
from push import CONTINUOUS, DISCRETE
from refusals import refused
from torch import Tensor, nn

from wmplay.errors import ActionError, DivergedError


def test_a_reset_without_a_seed_begins_elsewhere() -> None:
    env = learned()
    in_order, drawn = (env.reset_tensors(seed=seed)["x"] for seed in (0, 2))
    assert not torch.equal(drawn, in_order)
    for seed, begun in ((0, in_order), (2, drawn)):
        assert torch.equal(env.reset_tensors(seed=seed)["x"], begun), "each seed its own starts"
    begun = [env.reset_tensors()["x"] for _ in range(41)]
    assert len(torch.cat(begun).unique(dim=0)) == STARTS
    assert not torch.equal(begun[0], begun[1])
    env.reset_tensors(seed=2)
    assert torch.equal(env.reset_tensors()["x"], begun[0]), "it follows from the last seed"
    goals = env.reset_tensors()["goal_x"]
    action = torch.zeros(N, 2)
    assert torch.equal(env.step_tensors(action).arrived["goal_x"], goals), "goals are those of the starts"


def test_a_step_before_the_first_reset_says_so() -> None:
    for native in (False, True):
        env = learned()
        with pytest.raises(gym.error.ResetNeeded):
            env.step_tensors(torch.zeros(N, 2)) if native else env.step(np.zeros((N, 2), np.float32))


def test_actions_are_executed_within_their_bounds() -> None:
    """A policy that leaves the cutting to the env must not learn to push harder than is possible."""
    env = learned()
    wild = torch.tensor([[9.0, 9.0], [-9.0, -9.0], [torch.inf, 0.0], [0.5, -torch.inf], [1.0, 2.0]])
    low, high = (torch.from_numpy(bound) for bound in (CONTINUOUS.low, CONTINUOUS.high))
    env.reset_tensors(seed=1)
    arrived = env.step_tensors(wild).arrived["x"]
    env.reset_tensors(seed=1)
    assert torch.equal(arrived, env.step_tensors(wild.clamp(low, high)).arrived["x"])


class Pusher(nn.Module):
    """Does the same always, and keeps what it is told that it did."""

    def __init__(self, action: Tensor) -> None:
        super().__init__()
        self.action = nn.Parameter(action)
        self.told: list[Tensor] = []

    def initial(self, batch_size: int) -> Any:
        return ()

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **how: Any) -> Any:
        self.told.append(last_action.detach())
        return self.action, carry


def test_so_are_those_of_a_rollout() -> None:
    env = learned()
    observation = env.reset_tensors(seed=1)
    policy = Pusher(torch.tensor([[9.0, 0.1]] * N))
    imagined = env.rollout(env.belief, policy, observation, 2)
    executed = torch.tensor([[2.0, 0.1]] * N)
    assert torch.equal(imagined.action, torch.stack([executed, executed], 1))
    assert torch.equal(policy.told[1], executed)
    imagined.reward.sum().backward()
    assert policy.action.grad is not None
    assert (policy.action.grad[:, 0] == 0).all(), "pushing harder than is possible changes nothing"
    assert policy.action.grad[:, 1].abs().max() > 0


@pytest.mark.parametrize("native", [False, True])
def test_actions_that_are_no_numbers_are_refused(native: bool) -> None:
    env = learned()
    env.reset_tensors(seed=1)
    action = torch.zeros(N, 2)
    action[3, 1] = torch.nan
    with refused(ActionError, ("action", "NaN", "[3, 1]"), expected="numbers"):
        env.step_tensors(action) if native else env.step(action.numpy())


@pytest.mark.parametrize("wrong", [5, -1])
def test_discrete_actions_that_there_are_not_are_refused(wrong: int) -> None:
    env = learned(actions=DISCRETE)
    env.reset_tensors(seed=1)
    with refused(ActionError, "action", got=wrong, expected=("0 .. 4", f"{N} envs")):
        env.step(np.array([0, 1, wrong, 2, 3]))


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_world_that_explodes_says_so_before_anybody_learns_from_it(number: float) -> None:
    env = learned()
    env.reset_tensors(seed=1)
    env.step_tensors(torch.zeros(N, 2))
    env.belief["v"][3] = number
    env._spaces["x"] = gym.spaces.Box(-np.inf, np.inf, (2,))
    env.model.move = lambda belief, action: {**belief, "x": belief["x"] + belief["v"]}
    with refused(DivergedError, ("1 of 5", "Truth", "reward"), advice="learned.max_steps"):
        env.step_tensors(torch.zeros(N, 2))
