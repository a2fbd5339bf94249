"""The conformance kit on objectives: honest ones pass, each property fails one built to break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mutants import Mutants, expect_failures, named
from push import Push, Reach
from torch import Tensor

import wmplay
from wmplay.check import check_objective
from wmplay.check.objectives import PROPERTIES
from wmplay.contracts import Prediction


class Never(Reach):
    radius = 0.0


def env(max_steps: int = 17) -> Push:
    return Push(max_steps=max_steps, task=Never())


class Honest:
    """Rewards until the episode ends, and how near to the goal it is on average."""

    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        reward, discount = self.heads(prediction)
        before = discount.cumprod(1).roll(1, 1)
        before[:, 0] = 1
        return self.sum(reward * self.alive(before, discount)) - self.distance(prediction, observation)

    def heads(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        if prediction.reward is None:
            raise wmplay.errors.ConfigError("the model predicts no reward: give it a reward head")
        goes_on = torch.ones_like(prediction.reward) if prediction.discount is None else prediction.discount
        return prediction.reward, goes_on

    def alive(self, before: Tensor, discount: Tensor) -> Tensor:
        return before

    def sum(self, reward: Tensor) -> Tensor:
        return reward.sum(1)

    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        return (prediction.observation["x"] - self.goal(observation).unsqueeze(1)).square().mean((1, 2))

    def goal(self, observation: Any) -> Tensor:
        return observation["goal_x"]


# ---- objectives that each break something --------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


class Changed(Honest):
    """The honest scores, with something done to them."""

    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        return self.change(super().__call__(prediction, observation))

    def change(self, scores: Tensor) -> Tensor:
        raise NotImplementedError


EVERY = named(PROPERTIES)


@breaks(*EVERY)
class OneScoreForAll(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return scores.mean()


@breaks(*EVERY)
class ScoresOfEachStep(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return reward

    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        return super().distance(prediction, observation).unsqueeze(1)


@breaks("predictions matter")
class ScoresThePresent(Honest):
    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        return -(observation["x"] - observation["goal_x"]).square().mean(1)


@breaks("batch invariance", "better is higher")
class CentredScores(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return scores - scores.mean()


@breaks("batch invariance")
class GoalOfTheFirstRow(Honest):
    def goal(self, observation: Any) -> Tensor:
        return observation["goal_x"][:1]


@breaks("better is higher")
class ACost(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return -scores


@breaks("better is higher")
class FarFromTheGoal(Honest):
    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        return -super().distance(prediction, observation)


@breaks("what comes after the end")
class LosesTheLastReward(Honest):
    def alive(self, before: Tensor, discount: Tensor) -> Tensor:
        return before * discount


@breaks("what comes after the end")
class GoesOnAfterTheEnd(Honest):
    def alive(self, before: Tensor, discount: Tensor) -> Tensor:
        return (1 + before) / 2


@breaks("models without a head")
class NeedsEveryHead(Honest):
    def heads(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        return prediction.reward * 1, prediction.discount * 1  # type: ignore[operator]


@breaks("gradients go through")
class CutsTheGraph(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return torch.as_tensor(scores.detach().tolist(), dtype=scores.dtype)


@breaks("gradients go through")
class DetachedRewards(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return super().sum(reward.detach())


@breaks("isolation")
class RewardsInPlace(Honest):
    def heads(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        reward, discount = super().heads(prediction)
        return reward.mul_(0.5) if not reward.requires_grad else reward * 0.5, discount


@breaks("isolation")
class LeavesAKeyBehind(Honest):
    def goal(self, observation: Any) -> Tensor:
        observation["goal_y"] = observation["goal_x"]
        return super().goal(observation)


@breaks("isolation")
class ScaledByWhatItHasSeen(Changed):
    largest = 1e-3

    def change(self, scores: Tensor) -> Tensor:
        self.largest = max(self.largest, float(scores.detach().abs().max()))
        return scores + 1e-3 * self.largest


@breaks("same numbers again", "isolation")
class BreaksTiesByLot(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return scores + 1e-6 * torch.rand(scores.shape)


# ---- tests ---------------------------------------------------------------------------------------


def test_an_honest_objective_has_every_property() -> None:
    report = check_objective(Honest(), env())
    assert report.passed, report
    assert all(finding.tried for finding in report.findings), report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    expect_failures(check_objective(make(), env()), expected)


def test_each_property_is_broken_by_a_mutant_of_its_own() -> None:
    own = [expected for _, expected in MUTANTS.values() if expected != EVERY]
    assert set.union(*own) == EVERY - {"a score for each future"}


def test_a_function_is_an_objective_too() -> None:
    def count(prediction: Prediction, observation: Any) -> Tensor:
        return (prediction.observation["x"] > 0).float().mean((1, 2))

    report = check_objective(count, env())
    assert report.piece == "count"
    assert report.passed, report
    assert "--   gradients go through: not tried" in str(report)


def test_an_env_of_short_episodes_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="expected 5 for an objective to be tried on"):
        check_objective(Honest(), env(max_steps=2))
