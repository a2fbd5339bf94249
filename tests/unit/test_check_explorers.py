"""The conformance kit on explorers: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from mutants import Mutants, expect_failures, named
from push import CONTINUOUS, DISCRETE, Push, Reach
from torch import Tensor

from wmplay.check import check_explorer
from wmplay.check.explorers import EXPLORING
from wmplay.check.explorers.exploring import Exploring
from wmplay.check.report import examine


class Never(Reach):
    radius = 0.0


def env(actions: Any) -> Push:
    return Push(actions, max_steps=17, task=Never())


class Honest:
    """In some steps, chosen by chance, adds noise, which fades in the next ones (or acts at random)."""

    actions: Any = CONTINUOUS  # that a mutant is tried on

    def __init__(self, policy: Any, actions: Any) -> None:
        self.policy, self.discrete = policy, isinstance(actions, Discrete)
        self.choices = int(actions.n) if self.discrete else 0
        if not self.discrete:
            self.low, self.high = torch.from_numpy(actions.low), torch.from_numpy(actions.high)

    def initial(self, batch_size: int) -> Any:
        width = 1 if self.discrete else 2
        return {"policy": self.policy.initial(batch_size), "noise": torch.zeros(batch_size, width)}

    def act(
        self,
        carry: Any,
        observation: Any,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: Any = None,
    ) -> Any:
        told = (observation, last_action, first)
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        if not self.wanted(explore):
            return action, {"policy": inside, "noise": carry["noise"]}
        chosen = self.chance(first, generator) < 0.3
        if self.discrete:
            drawn = torch.randint(0, self.last(), first.shape, generator=generator)
            return torch.where(chosen, drawn, action), {"policy": inside, "noise": carry["noise"]}
        drawn = 0.3 * self.noise(action, generator)
        noise = self.kept(carry["noise"], first) / 2 + torch.where(chosen.unsqueeze(1), drawn, 0.0)
        action = self.cut(action + noise * (self.high - self.low) / 2)
        return action, {"policy": inside, "noise": noise}

    def ask(self, carry: Any, *told: Any, **how: Any) -> Any:
        return self.policy.act(carry["policy"], *told, **how)

    def wanted(self, explore: bool) -> bool:
        return explore

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return torch.rand(first.shape, generator=generator)

    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return torch.randn(action.shape, generator=generator)

    def kept(self, noise: Tensor, first: Tensor) -> Tensor:
        return torch.where(first.unsqueeze(1), 0.0, noise)

    def cut(self, action: Tensor) -> Tensor:
        return action.clamp(self.low, self.high)

    def last(self) -> int:
        return self.choices


def check(cls: type[Honest], actions: Any) -> Any:
    return check_explorer(lambda policy: cls(policy, actions), env(actions))


def explore(cls: type[Honest]) -> Any:
    """As ``check``, without what policies promise."""
    actions = cls.actions
    trial = Exploring(lambda policy: cls(policy, actions), env(actions), 0)
    return examine(cls.__name__, EXPLORING, trial)


# ---- explorers that each break something ---------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("only while exploring")
class AlwaysExplores(Honest):
    def wanted(self, explore: bool) -> bool:
        return True


@breaks("only while exploring")
class AlwaysTellsToExplore(Honest):
    def ask(self, carry: Any, *told: Any, explore: bool, generator: Any) -> Any:
        return super().ask(carry, *told, explore=True, generator=generator)


@breaks("the policy inside is told the truth")
class AsksTwice(Honest):
    def ask(self, carry: Any, *told: Any, **how: Any) -> Any:
        super().ask(carry, *told, **how)
        return super().ask(carry, *told, **how)


@breaks("the policy inside is told the truth")
class ForgetsThePolicysCarry(Honest):
    def ask(self, carry: Any, *told: Any, **how: Any) -> Any:
        return self.policy.act(self.policy.initial(len(told[2])), *told, **how)


@breaks("the policy inside is told the truth")
class TellsOfActionsBeforeNoise(Honest):
    def ask(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **how: Any) -> Any:
        return super().ask(carry, observation, torch.zeros_like(last_action), first, **how)


@breaks("the policy inside is told the truth")
class KeepsTheGenerator(Honest):
    def ask(self, carry: Any, *told: Any, explore: bool, generator: Any) -> Any:
        return super().ask(carry, *told, explore=explore)


@breaks("it explores")
class NeverExplores(Honest):
    def wanted(self, explore: bool) -> bool:
        return False


@breaks("it explores", "batch invariance")
class AGeneratorOfItsOwn(Honest):
    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return torch.zeros(first.shape)

    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return torch.randn(action.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


@breaks("bounds are kept at the edge", "bounds are kept")
class NoiseBeyondTheBounds(Honest):
    def cut(self, action: Tensor) -> Tensor:
        return action


@breaks("it does not lean")
class NoiseOfOneSign(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return torch.rand(action.shape, generator=generator)


@breaks("every discrete action comes up")
class LeavesTheLastActionOut(Honest):
    actions = DISCRETE

    def last(self) -> int:
        return self.choices - 1


@breaks("bounds are kept", "bounds are kept at the edge")
class OneActionTooMany(Honest):
    actions = DISCRETE

    def last(self) -> int:
        return self.choices + 1


@breaks("each row takes its own chance")
class OneChanceForAll(Honest):
    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return torch.rand((), generator=generator).expand_as(first)

    def kept(self, noise: Tensor, first: Tensor) -> Tensor:
        return torch.zeros_like(noise)


@breaks("rows draw for themselves", "each row takes its own chance")
class OneNoiseForAll(OneChanceForAll):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return super().noise(action[:1], generator).expand_as(action)


@breaks("a later episode is explored alike", "episodes are apart")
class NoiseOfTheEpisodeBefore(Honest):
    def kept(self, noise: Tensor, first: Tensor) -> Tensor:
        return noise


@breaks("same seed same numbers")
class DisturbsTheGlobalGenerator(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        np.random.rand()  # noqa: NPY002
        return super().noise(action, generator)


@breaks("steps draw for themselves")
class SeedsTheGeneratorAnew(Honest):
    def chance(self, first: Tensor, generator: Any) -> Tensor:
        generator.manual_seed(generator.initial_seed())
        return super().chance(first, generator)


@breaks("steps draw for themselves")
class SeedsTheGeneratorAnewForDiscreteActions(SeedsTheGeneratorAnew):
    actions = DISCRETE


@breaks("steps draw for themselves")
class NoiseOfTheWholeEpisode(Honest):
    """Drawn where an episode begins, and kept."""

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        drawn = 0.3 * torch.randn(action.shape, generator=generator)
        noise = torch.where(told[2].unsqueeze(1), drawn, carry["noise"])
        return self.cut(action + noise if explore else action), {"policy": inside, "noise": noise}


@breaks("a later episode is explored alike")
class ColdStartOnce(Honest):
    """Random actions for the first steps, of the first episode alone."""

    actions = DISCRETE

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        drawn = torch.randint(0, self.choices, action.shape, generator=generator)
        if explore:
            action = torch.where(carry["noise"].squeeze(1) < 11, drawn, action)
        return action, {"policy": inside, "noise": carry["noise"] + 1}


@breaks("a later episode is explored alike")
class OneClockForAllRows(Honest):
    """Random actions for the first steps of an episode, by the clock of the row that began first."""

    actions = DISCRETE

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        drawn = torch.randint(0, self.choices, action.shape, generator=generator)
        taken = torch.where(told[2].unsqueeze(1), 0.0, carry["noise"])
        if explore and float(taken.max()) < 5:
            action = drawn
        return action, {"policy": inside, "noise": taken + 1}


@breaks("each row takes its own chance")
class OneChanceForAllDiscreteActions(OneChanceForAll):
    actions = DISCRETE


@breaks("every entry explores")
class NoiseInOneEntry(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return super().noise(action, generator) * torch.tensor([0.0, 1.0])


@breaks("every entry explores")
class OneNumberForAllEntries(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        return super().noise(action[:, :1], generator).expand_as(action)


@breaks("every row explores")
class NoiseInOneRow(Honest):
    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return super().chance(first, generator) + torch.arange(len(first)).clamp(max=1)


@breaks("every row explores")
class NoiseInAllRowsButTheLast(Honest):
    def chance(self, first: Tensor, generator: Any) -> Tensor:
        last = torch.arange(len(first)) == len(first) - 1
        return super().chance(first, generator) + last * (len(first) > 1)


@breaks("every row explores")
class RandomActionsInEverySecondRow(NoiseInOneRow):
    actions = DISCRETE

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return torch.rand(first.shape, generator=generator) + torch.arange(len(first)) % 2


@breaks("it explores around the policys action")
class ActsOnTheStepBefore(Honest):
    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        if not explore:
            return action, {"policy": inside, "noise": carry["noise"]}
        before = torch.where(told[2].unsqueeze(1), action, carry["noise"])
        changed = self.cut(before + 0.2 * self.noise(action, generator))
        return changed, {"policy": inside, "noise": action}


@breaks("it explores around the policys action")
class AgainstThePolicy(Honest):
    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        if explore:
            action = self.cut(self.high + self.low - action + 0.2 * self.noise(action, generator))
        return action, {"policy": inside, "noise": carry["noise"]}


@breaks("it explores as often as it says")
class MoreOftenThanItSays(Honest):
    actions = DISCRETE
    epsilon = 0.1

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return 0.0 + (super().chance(first, generator) < self.epsilon)


@breaks("it explores as often as it says")
class OneCoinForAnEpisode(Honest):
    actions = DISCRETE
    epsilon = 0.1

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        coin = torch.where(told[2], self.chance(told[2], generator), carry["noise"][:, 0])
        drawn = torch.randint(0, self.choices, coin.shape, generator=generator)
        done = torch.where(coin < self.epsilon, drawn, action) if explore else action
        return done, {"policy": inside, "noise": coin.unsqueeze(1)}


# ---- explorers of other styles, all of them correct -----------------------------------------------


class EachRowItsOwnChance(Honest):
    """From 0.4 in the first row to 0.0007 in the last."""

    actions = DISCRETE

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        epsilon = 0.4 ** (1 + 7 * torch.arange(len(first)) / max(1, len(first) - 1))
        return torch.where(torch.rand(first.shape, generator=generator) < epsilon, 0.0, 1.0)


class Stretches(Honest):
    """A random action, by chance, kept for some steps: more random steps than it begins."""

    epsilon = 0.1

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        first = told[2]
        kept = torch.where(first.unsqueeze(1), torch.nan, carry["noise"])
        kept = torch.where(torch.rand(len(first), 1, generator=generator) < 0.2, torch.nan, kept)
        begins = torch.rand(len(first), generator=generator) < self.epsilon
        drawn = self.low + (self.high - self.low) * torch.rand(action.shape, generator=generator)
        kept = torch.where(kept.isnan() & begins.unsqueeze(1), drawn, kept)
        if not explore:
            return action, {"policy": inside, "noise": kept}
        return torch.where(kept.isnan(), action, kept), {"policy": inside, "noise": kept}

    def initial(self, batch_size: int) -> Any:
        return {"policy": self.policy.initial(batch_size), "noise": torch.full((batch_size, 2), torch.nan)}


class ByWhatIsSeen(Honest):
    """Noise that follows the observation, by a matrix drawn for the episode."""

    def initial(self, batch_size: int) -> Any:
        return {"policy": self.policy.initial(batch_size), "noise": torch.zeros(batch_size, 2, 2)}

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        drawn = torch.randn(len(action), 2, 2, generator=generator)
        matrix = torch.where(told[2].reshape(-1, 1, 1), drawn, carry["noise"])
        noise = torch.einsum("bij,bj->bi", matrix, told[0]["x"] + 0.1)
        return self.cut(action + 0.3 * noise if explore else action), {"policy": inside, "noise": matrix}


class ScalesActions(Honest):
    """More or less of the policy's action, all entries by the same factor."""

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        factor = 1 + 0.5 * torch.randn(len(action), 1, generator=generator)
        return self.cut(action * factor if explore else action), {"policy": inside, "noise": carry["noise"]}


class OneEntryAtATime(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        which = torch.randint(0, 2, (len(action), 1), generator=generator)
        return super().noise(action, generator) * (torch.arange(2) == which)


class RandomThroughout(Honest):
    """Random actions to begin with, for longer than an episode lasts."""

    actions = DISCRETE

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        return torch.zeros(first.shape)


class Waves(Honest):
    """A wave in each entry, by the time of the episode: it draws nothing."""

    def act(self, carry: Any, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, inside = self.ask(carry, *told, explore=explore, generator=generator)
        time = self.kept(carry["noise"], told[2])
        wave = 0.3 * torch.sin(time + torch.arange(2))
        return self.cut(action + wave if explore else action), {"policy": inside, "noise": time + 1}


class AShareOfTheRows(Honest):
    """Exactly every third row, drawn anew in each step; one row alone by chance."""

    def chance(self, first: Tensor, generator: Any) -> Tensor:
        if len(first) == 1:
            return super().chance(first, generator)
        order = torch.rand(first.shape, generator=generator).argsort()
        return 0.0 + (order >= (len(first) + 2) // 3)


UNUSUAL = (
    EachRowItsOwnChance,
    Stretches,
    ByWhatIsSeen,
    ScalesActions,
    OneEntryAtATime,
    RandomThroughout,
    Waves,
    AShareOfTheRows,
)


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_explorer_has_every_property(actions: Any) -> None:
    report = check(Honest, actions)
    assert report.passed, report
    untried = {finding.name for finding in report.findings if not finding.tried}
    of_discrete = {"it does not lean", "every entry explores"}
    own = of_discrete if actions is DISCRETE else {"every discrete action comes up"}
    assert untried == {*own, "it explores as often as it says"}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    report = explore(make) if expected <= named(EXPLORING) else check(make, make.actions)
    expect_failures(report, expected)


@pytest.mark.parametrize("cls", UNUSUAL)
def test_one_of_another_style_is_not_accused(cls: type[Honest]) -> None:
    report = check(cls, cls.actions)
    assert report.passed, report


def test_each_property_of_exploring_is_broken_by_a_mutant() -> None:
    assert named(EXPLORING) <= MUTANTS.broken()
