"""What plans are worth, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from refusals import refused
from torch import Tensor

from wmplay.contracts import EnvSpec, LazyMapping, Prediction
from wmplay.envs.lcd import LcdEnv
from wmplay.errors import ConfigError
from wmplay.objectives import DiscountedReturn, GoalDistance, SafeGoalDistance, SumOfRewards, TaskReward

REWARD = torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, -1.0]])


def prediction(
    reward: Tensor | None = REWARD, discount: Tensor | None = None, **observation: Tensor
) -> Prediction:
    return Prediction(torch.zeros(2, 3, 5), reward, discount, {}, lambda latent: observation)


def test_sum_of_rewards() -> None:
    assert SumOfRewards()(prediction(), {}).tolist() == [7, 2]


def test_discounted_return_really_discounts() -> None:
    assert DiscountedReturn(gamma=0.5)(prediction(), {}).tolist() == [1 + 1 + 1, 3 - 0.25]
    assert DiscountedReturn(gamma=1.0)(prediction(), {}).tolist() == [7, 2]


def test_nothing_is_earned_after_the_end() -> None:
    ends = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert DiscountedReturn(gamma=1.0)(prediction(discount=ends), {}).tolist() == [3, 3]
    likely = torch.full((2, 3), 0.5)
    assert DiscountedReturn(gamma=1.0)(prediction(discount=likely), {}).tolist() == [3, 2.75]


@pytest.mark.parametrize("objective", [SumOfRewards(), DiscountedReturn()])
def test_a_model_without_rewards_is_one_line(objective: Any) -> None:
    with refused(ConfigError, "reward"):
        objective(prediction(reward=None), {})


@pytest.mark.parametrize("gamma", [0.0, 1.5, -1.0])
def test_gamma_out_of_range(gamma: float) -> None:
    with refused(ConfigError, ("discounted_return", "gamma"), got=gamma):
        DiscountedReturn(gamma=gamma)


class Worth:
    """A model whose beliefs are worth what they hold, with a discount of .5."""

    gamma = 0.5
    initial = observe = predict = decode = loss = policy = dict  # none is called

    def value(self, belief: Any) -> Tensor:
        return belief["worth"]


def with_worth(*worth: float, discount: Tensor | None = None) -> Prediction:
    return replace(prediction(discount=discount), belief={"worth": torch.tensor(worth)})


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_a_value_stands_for_what_follows_the_plan(gamma: float | None) -> None:
    objective = DiscountedReturn(gamma, bootstrap=True, model=Worth())
    assert objective(with_worth(16, -8), {}).tolist() == [3 + 2, 2.75 - 1]
    ends = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.5]])
    assert objective(with_worth(16, -8, discount=ends), {}).tolist() == [3, 2.75 - 0.5]
    assert DiscountedReturn(None, model=Worth())(with_worth(16, -8), {}).tolist() == [3, 2.75]


@pytest.mark.parametrize(
    ("about", "settings"),
    [
        ("bootstrap", {"bootstrap": True}),
        ("bootstrap", {"bootstrap": True, "model": object()}),
        ("gamma", {"gamma": None}),
        ("gamma", {"gamma": 0.99, "bootstrap": True, "model": Worth()}),
    ],
)
def test_a_value_that_is_missing_or_of_another_discount_is_one_line(
    about: str, settings: dict[str, Any]
) -> None:
    with refused(ConfigError, ("discounted_return", about)):
        DiscountedReturn(**settings)


PLACE = Box(-1, 1, (2,), np.float32)
PREDICTED = torch.tensor([[[0.0, 0], [1, 1], [3, 3]], [[0, 4], [0, 2], [0, 0]]])  # [R 2, H 3, 2]
GOAL = torch.tensor([[1.0, 2.0], [0.0, 4.0]])


ACTIONS = Box(-1, 1, (1,), np.float32)


def plain_env(**spaces: Any) -> Any:
    return EnvSpec(Dict(spaces), ACTIONS)


def test_goal_distance_without_a_task() -> None:
    env = plain_env(place=PLACE, goal_place=PLACE, extra=PLACE)
    observation = {"place": torch.full((2, 2), 9.0), "goal_place": GOAL}
    distance = torch.tensor([[1.5, 0.5, 1.5], [0, 1, 2]])
    score = GoalDistance(env)(prediction(place=PREDICTED), observation)
    torch.testing.assert_close(score, -(distance.amin(1) + 0.1 * distance.mean(1)))
    score = GoalDistance(env, minimum_weight=2.0, mean_weight=0.0)(prediction(place=PREDICTED), observation)
    torch.testing.assert_close(score, torch.tensor([-1.0, 0.0]))


@pytest.mark.parametrize("vector", [False, True])
def test_goal_distance_is_the_tasks_own(vector: bool) -> None:
    task = SimpleNamespace(distance=lambda o: (o["goal_place"] - o["place"]).abs()[..., 0])
    if vector:
        spaces = {"single_observation_space": Dict({"place": PLACE}), "single_action_space": ACTIONS}
        env = SimpleNamespace(**spaces, task=task)
    else:
        spaces = {"observation_space": Dict({"place": PLACE}), "action_space": ACTIONS}
        env = SimpleNamespace(**spaces, unwrapped=SimpleNamespace(task=task))
    score = GoalDistance(env, mean_weight=0.0)(prediction(place=PREDICTED), {"goal_place": GOAL})
    assert score.tolist() == [0, 0]


def test_goal_distance_decodes_only_what_it_looks_at() -> None:
    def decoded(key: str) -> Tensor:
        assert key == "place", f"{key} was decoded for nothing"
        return PREDICTED

    env = plain_env(place=PLACE, goal_place=PLACE, lcd=Box(0, 1, (5, 7), np.uint8))
    future = Prediction(
        torch.zeros(2, 3, 5), None, None, {}, lambda latent: LazyMapping(["lcd", "place"], decoded)
    )
    assert GoalDistance(env)(future, {"goal_place": GOAL}).shape == (2,)


def test_an_env_without_goals_is_one_line() -> None:
    with refused(ConfigError, got=["place"]):
        GoalDistance(plain_env(place=PLACE))


# ---- the task's own reward --------------------------------------------------------------------------


class Steps:
    """A task: the reward is the way made towards the goal, and 3 is the end."""

    def reward_and_terminated(self, before: Any, after: Any) -> tuple[Tensor, Tensor]:
        near = [(seen["goal_x"] - seen["x"]).abs() for seen in (before, after)]
        return near[0] - near[1], after["x"] == 3


def stepping(task: Any) -> EnvSpec:
    line = Box(-9, 9, (), np.float32)
    return EnvSpec(Dict({"x": line, "goal_x": line}), PLACE, task=task)


def test_the_tasks_own_reward_of_predicted_steps() -> None:
    now = {"x": torch.tensor([0.0, 0.0]), "goal_x": torch.tensor([5.0, -1.0])}
    future = prediction(None, x=torch.tensor([[1.0, 3, 5], [1, 2, 4]]))
    assert TaskReward(stepping(Steps()))(future, now).tolist() == [3, -4]  # the last step comes after the end
    assert TaskReward(stepping(Steps()), gamma=0.5)(future, now).tolist() == [1 + 1, -1 - 0.5 - 0.5]


def test_a_task_without_a_reward_and_gamma_out_of_range() -> None:
    with refused(ConfigError, "task_reward"):
        TaskReward(stepping(None))
    with refused(ConfigError, ("task_reward", "gamma"), got=0.0):
        TaskReward(stepping(Steps()), gamma=0.0)
    with refused(ConfigError, ("task_reward", "goal_x")):
        TaskReward(stepping(Steps()))(prediction(None, x=torch.zeros(2, 3)), {"x": torch.zeros(2)})


def test_a_future_keeps_out_of_a_hazard() -> None:
    env = LcdEnv("luxo", task="body_goal", hazard=[4, 0, 6, 2])  # of 10 x 5 m
    safe = torch.zeros(1, 3, 4, 4)
    safe[..., 0] = 0.6  # every body at x = 8, 2 m from the hazard
    entered = safe.clone()
    entered[0, 1, 2, :2] = torch.tensor([0.0, -0.6])  # one body at (5, 1) for one step: 1 m deep
    frames = torch.cat([safe, entered]).flatten(2).requires_grad_()
    limits = SafeGoalDistance(env, margin=0.25).constraints(prediction(proprio=frames), {})
    assert limits.shape == (2, 1)
    assert limits.flatten().tolist() == pytest.approx([0, 1.25 / 3])
    stays = entered.clone()
    stays[0, 2] = stays[0, 1]
    longer = prediction(proprio=stays.flatten(2))
    assert SafeGoalDistance(env, margin=0.25).constraints(longer, {}).item() == pytest.approx(2.5 / 3)
    limits.sum().backward()  # type: ignore[no-untyped-call]
    assert frames.grad is not None
    assert env.task is not None
    assert env.task.cost({"proprio": frames.detach()}).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_an_objective_of_a_hazard_needs_one() -> None:
    with refused(ConfigError, "hazard"):
        SafeGoalDistance(LcdEnv("luxo", task="body_goal"))
    for hazard in ([6, 0, 4, 2], [4, 0, 6]):
        with refused(ConfigError, "hazard"):
            LcdEnv("luxo", task="body_goal", hazard=hazard)
    with refused(ConfigError, "task"):
        LcdEnv("luxo", hazard=[4, 0, 6, 2])
