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

import wmplay
from wmplay.check import check_explorer


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


@breaks("the policy inside is told the truth", "only while exploring")
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


@breaks("episodes are apart")
class NoiseOfTheEpisodeBefore(Honest):
    def kept(self, noise: Tensor, first: Tensor) -> Tensor:
        return noise


@breaks("same seed same numbers")
class DisturbsTheGlobalGenerator(Honest):
    def noise(self, action: Tensor, generator: Any) -> Tensor:
        np.random.rand()  # noqa: NPY002
        return super().noise(action, generator)


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_explorer_has_every_property(actions: Any) -> None:
    report = check(Honest, actions)
    assert report.passed, report
    untried = {finding.name for finding in report.findings if not finding.tried}
    assert untried == {"it does not lean" if actions is DISCRETE else "every discrete action comes up"}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    expect_failures(check(make, make.actions), expected)


def test_each_property_of_exploring_is_broken_by_a_mutant() -> None:
    assert named(wmplay.check.explorers.EXPLORING) <= MUTANTS.broken()
