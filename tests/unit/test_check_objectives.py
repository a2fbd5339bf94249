"""The conformance kit on objectives: honest ones pass, each property fails one built to break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Dict
from mutants import Mutants, expect_failures, named
from push import Push, Reach, Truth
from torch import Tensor, nn

import wmplay
from wmplay.check import check_objective
from wmplay.check.objectives import PROPERTIES
from wmplay.contracts import Prediction


class Never(Reach):
    radius = 0.0


class Pushes(Push):
    """Two goals of the same size: of where it is, and of the same turned around."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        spaces = self.observation_space.spaces
        self.observation_space = Dict({**spaces, "y": spaces["x"], "goal_y": spaces["x"]})

    def seen(self) -> dict[str, Any]:
        return {**super().seen(), "y": self.x[::-1].copy(), "goal_y": self.goal[::-1].copy()}


def env(max_steps: int = 17) -> Push:
    return Pushes(max_steps=max_steps, task=Never())


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


@breaks("a score for each future")
class OneScoreForAll(Changed):
    def change(self, scores: Tensor) -> Tensor:
        return scores.mean()


@breaks("a score for each future")
class ScoresOfEachStep(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return reward

    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        return super().distance(prediction, observation).unsqueeze(1)


@breaks("predictions matter")
class ScoresThePresent(Honest):
    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        return -(observation["x"] - observation["goal_x"]).square().mean(1)


@breaks("batch invariance")
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


@breaks("what comes after the end")
class TakesTheChanceToEnd(Honest):
    def alive(self, before: Tensor, discount: Tensor) -> Tensor:
        before = (1 - discount).cumprod(1).roll(1, 1)
        before[:, 0] = 1
        return before


@breaks("what comes after the end")
class GoesOnWhereItLooksAhead(Honest):
    def alive(self, before: Tensor, discount: Tensor) -> Tensor:
        return discount.flip(1).cumprod(1).flip(1)


@breaks("discounts go forward")
class DiscountsBackwards(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return (reward * 0.99 ** torch.arange(reward.shape[1]).flip(0)).sum(1)


@breaks("discounts go forward")
class DividesByTheDiscount(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return (reward / 0.9 ** torch.arange(reward.shape[1])).sum(1)


@breaks("small differences count")
class WholeNumbers(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return super().sum(reward).round()


@breaks("small differences count")
class ClipsRewards(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return super().sum(reward.clamp(-9, 9))


@breaks("every step counts")
class LeavesTheFirstRewardOut(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return reward[:, 1:].sum(1)


@breaks("every step counts")
class LeavesTheLastRewardOut(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return reward[:, :-1].sum(1)


@breaks("every step counts")
class LeavesTheLastObservationOut(Honest):
    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        seen = prediction.observation["x"]
        seen = seen[:, :-1] if seen.shape[1] > 1 else seen
        return (seen - self.goal(observation).unsqueeze(1)).square().mean((1, 2))


@breaks("discounts go forward")
class DiscountsByTheStepAfter(Honest):
    def sum(self, reward: Tensor) -> Tensor:
        return (reward.roll(1, 1) * 0.9 ** torch.arange(reward.shape[1])).sum(1)


@breaks("better is higher")
class TakesTheGoalOfAnotherKey(Honest):
    def distance(self, prediction: Prediction, observation: Any) -> Tensor:
        seen, y = prediction.observation, observation["goal_y"]
        return (seen["x"] - y.unsqueeze(1)).abs().mean((1, 2)) + super().distance(prediction, observation)


@breaks("models without a head")
class ScoresNothingWithoutRewards(Honest):
    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        if prediction.reward is None:
            return torch.zeros(len(observation["x"]))
        return super().__call__(prediction, observation)


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


@breaks("same numbers again")
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


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() == named(PROPERTIES)


# ---- objectives of other styles, all of them correct -----------------------------------------------


class WithAllHeads:
    """Counts on a model that predicts rewards and ends: where one does not, an error says so."""

    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        alive = torch.cat([torch.ones_like(prediction.discount[:, :1]), prediction.discount[:, :-1]], 1)
        return (prediction.reward * alive.cumprod(1)).sum(1)


class AtTheGoal:
    """Pays for a step at the goal, and nothing elsewhere."""

    def __call__(self, prediction: Prediction, observation: Any) -> Tensor:
        away = (prediction.observation["x"] - observation["goal_x"].unsqueeze(1)).abs().amax(2)
        return (away < 0.01).float().amax(1)


class ARareReward:
    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        return (prediction.reward > 50).float().sum(1)


class LastReward:
    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        return prediction.reward[:, -1]


class LaterIsMore:
    """Weighs each reward by its time, 1 to H."""

    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        return (prediction.reward * torch.arange(1, prediction.reward.shape[1] + 1)).mean(1)


class BestReward:
    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        return prediction.reward.amax(1)


class Survives:
    """How long the episode is expected to last."""

    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        return prediction.discount.cumprod(1).sum(1)


class Valued(nn.Module):
    """Rewards, and the worth of the last latent, by a model that the objective holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.value = model, nn.Linear(2, 1)

    def forward(self, prediction: Any, observation: Any) -> Tensor:
        rewards = prediction.reward[:, :-1].sum(1)
        latent = prediction.latent
        return rewards + self.value(latent[:, -1]).squeeze(-1)


class Novel:
    """How far the predictions of a model lie from those of another."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.other = model, nn.Linear(2, 2)

    def __call__(self, prediction: Any, observation: Any) -> Tensor:
        latent = prediction.latent
        return (self.other(latent) - latent).square().mean((1, 2))


UNUSUAL = {
    cls.__name__: cls
    for cls in (WithAllHeads, AtTheGoal, ARareReward, LastReward, LaterIsMore, BestReward, Survives)
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_one_of_another_style_is_not_accused(name: str) -> None:
    report = check_objective(UNUSUAL[name](), env())
    assert report.passed, str(report)


@pytest.mark.parametrize("cls", [Valued, Novel])
def test_one_that_holds_a_model_is_tried_on_its_latents(cls: Any) -> None:
    torch.manual_seed(0)
    report = check_objective(cls(Truth(keys=("x",))), Push(max_steps=17, task=Never()))
    assert report.passed, str(report)
    with_model = check_objective(
        cls(nn.Identity()), Push(max_steps=17, task=Never()), model=Truth(keys=("x",))
    )
    assert with_model.passed, str(with_model)


def test_a_function_is_an_objective_too() -> None:
    def count(prediction: Any, observation: Any) -> Tensor:
        return (prediction.observation["x"] > 0).float().mean((1, 2))

    report = check_objective(count, env())
    assert report.piece == "count"
    assert report.passed, report
    assert "--   gradients go through: not tried" in str(report)


def test_an_env_of_short_episodes_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="expected 5 for an objective to be tried on"):
        check_objective(Honest(), env(max_steps=2))
