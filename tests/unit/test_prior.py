"""Priors: acting as a model proposes, and planners that a policy which learns advises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from wmplay import registry
from wmplay.contracts import Valued, learner_of
from wmplay.errors import ConfigError, WmplayError
from wmplay.nets.agents.distributions import SquashedNormal
from wmplay.policies.dreamer import Dreamer
from wmplay.policies.prior import Guided, PriorPolicy
from wmplay.runs.pieces import assemble

CPU = torch.device("cpu")
FIRST = torch.tensor([True, True])


class Leaning(nn.Module):
    """A model whose belief sums up what is observed, and whose policy leans to half of it."""

    gamma = 0.9

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["push"]

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return belief + observation["push"].sum(1)

    def policy(self, belief: Tensor) -> SquashedNormal:
        one = torch.ones(1)
        return SquashedNormal(belief / 2, torch.ones_like(belief), -2 * one, 2 * one)

    def value(self, belief: Tensor) -> Tensor:
        return belief.squeeze(1)

    def predict(self, belief: Tensor, action: Tensor) -> Any:
        raise AssertionError("acting needs no future")

    decode = loss = predict


def test_a_prior_acts_as_the_model_proposes_from_its_belief() -> None:
    policy = PriorPolicy(Leaning())
    push = torch.tensor([[0.2], [-4.0]])
    action, carry = policy.act(policy.initial(2), {"push": push}, torch.zeros(2, 1), FIRST)
    torch.testing.assert_close(action, 2 * (push / 2).tanh())
    action, carry = policy.act(carry, {"push": push}, action, ~FIRST)
    torch.testing.assert_close(action, 2 * push.tanh())
    generator = torch.Generator().manual_seed(0)
    drawn, _ = policy.act(carry, {"push": push}, action, ~FIRST, explore=True, generator=generator)
    assert not torch.equal(drawn, action)
    assert float(drawn.abs().max()) <= 2


def test_a_model_that_proposes_nothing_is_no_prior() -> None:
    with refused(ConfigError, "prior"):
        PriorPolicy(nn.Linear(1, 1))


SMALL = ["model.deter=7", "model.stoch=3", "model.hidden=5", "model.image_hidden=11"]
PLANNED = ["planner=mppi", "planner.candidates=5", "planner.horizon=3", "planner.iterations=2"]
ADVISED = [
    *["env=luxo", "env.task=body_goal", "model=rssm", "policy=mpc", "policy.prior=dreamer_v3"],
    "policy.prior_settings={hidden: 13, layers: 1}",
    *["objective=discounted_return", "objective.bootstrap=true", "objective.gamma=null", "explorer=null"],
    *SMALL,
    *PLANNED,
]


def parts(*more: str) -> Any:
    return assemble(registry.compose([*ADVISED, *more]), CPU)


def test_a_policy_that_learns_advises_the_planner() -> None:
    found = parts()
    learner = learner_of(found.policy)
    assert isinstance(learner, Dreamer)
    assert found.modules() == {"model": found.model, "policy": learner}
    guided = found.policy.model
    assert isinstance(guided, Valued)
    assert found.objective.gamma == guided.gamma == learner.gamma
    space = found.env.observation_space
    space.seed(0)
    both = [space.sample() for _ in range(2)]
    frame = {key: torch.stack([torch.as_tensor(each[key]) for each in both]) for key in space.spaces}
    belief = guided.initial(frame)
    future = guided.predict(belief, torch.zeros(2, 3, *found.env.action_space.shape))
    assert future.reward is not None
    features = found.model.features(future.belief["model"])
    state = torch.cat([features, learner.goals(frame)], -1)
    critic = learner.agent.critic
    torch.testing.assert_close(guided.value(future.belief), critic.value(critic(state)))
    torch.testing.assert_close(guided.policy(future.belief).mode(), learner.agent.actor(state).mode())
    later = guided.observe(belief, torch.zeros(2, 1, *found.env.action_space.shape), _once(frame))
    assert torch.equal(later["goal"]["goal_proprio"], frame["goal_proprio"])
    zero = torch.zeros(2, *found.env.action_space.shape)
    action, _ = found.policy.act(None, frame, zero, FIRST, generator=torch.Generator().manual_seed(0))
    assert action.shape == zero.shape


def _once(frame: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.unsqueeze(1) for key, value in frame.items()}


@pytest.mark.parametrize(
    ("about", "more"),
    [
        ("policy.prior", ["policy.prior=sac", "policy.prior_settings={}"]),
        ("bootstrap", ["policy.prior=null"]),
        ("gamma", ["objective.gamma=0.5"]),
        ("policy 'dreamr'", ["policy.prior=dreamr"]),
    ],
)
def test_priors_that_cannot_be_are_refused_before_anything_is_collected(about: str, more: list[str]) -> None:
    with refused(WmplayError, about):
        parts(*more)


def test_a_model_is_guided_by_its_features() -> None:
    with refused(ConfigError, "features"):
        Guided(Leaning(), object())  # type: ignore[arg-type]
