"""The conformance kit on policies: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mutants import Mutants, expect_failures
from push import CONTINUOUS, DISCRETE, Push, Reach
from torch import Tensor

import wmplay
from wmplay.check import check_policy

NOISE = 0.3


class Never(Reach):
    radius = 0.0


def env(actions: Any = CONTINUOUS, max_steps: int = 17) -> Push:
    return Push(actions, max_steps=max_steps, task=Never())


class Honest:
    """Follows a fading memory of where it was and what it did; explores by Gaussian noise."""

    def __init__(self, actions: Any = CONTINUOUS) -> None:
        self.choices = int(getattr(actions, "n", 0))
        if not self.choices:
            self.low, self.high = torch.from_numpy(actions.low), torch.from_numpy(actions.high)

    def initial(self, batch_size: int) -> Any:
        return {"memory": torch.zeros(batch_size, 2)}

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
        did = last_action.float().reshape(len(first), -1)[:, :1]
        kept = self.kept(carry["memory"], first)
        memory = kept / 2 + observation["x"] + 0.1 * did
        place = (2 * memory).sin()
        if explore:
            place = place + self.noise(place, generator)
        return self.action(place), {"memory": memory}

    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        return torch.where(first.unsqueeze(1), 0.0, memory)

    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return NOISE * torch.randn(place.shape, generator=generator)

    def action(self, place: Tensor) -> Tensor:
        """From places [B, 2] in about -1..1."""
        place = (1 + place.clamp(-1, 1)) / 2
        if self.choices:
            return (place[:, 0] * self.choices).long().clamp(max=self.choices - 1)
        return self.low + (self.high - self.low) * place


# ---- policies that each break something ----------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("shapes and types")
class ActionInDoubleBrackets(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place).unsqueeze(1)


@breaks("shapes and types")
class ActionsAsWholeNumbers(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place).long()


@breaks("shapes and types")
class OneStepCountForAllRows(Honest):
    def initial(self, batch_size: int) -> Any:
        return {**super().initial(batch_size), "steps": 0}

    def act(self, carry: Any, *told: Any, **draws: Any) -> Any:
        action, following = super().act(carry, *told, **draws)
        return action, {**following, "steps": carry["steps"] + 1}


@breaks("bounds are kept")
class NoiseBeyondTheBounds(Honest):
    def action(self, place: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (1 + place) / 2


@breaks("batch invariance", "episodes are apart", "memory is kept")
class MemoryCentredOverTheBatch(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place - 0.1 * place.mean(0))


@breaks("batch invariance")
class BatchSizeAsAScale(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place / (1 + 0.1 * len(place)))


@breaks("rows draw for themselves")
class OneNoiseForAll(Honest):
    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return super().noise(place[:1], generator).expand_as(place)


@breaks("episodes are apart")
class NeverForgets(Honest):
    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        return memory


@breaks("episodes are apart")
class ForgetsOnlyWhenAllBegin(Honest):
    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        return torch.zeros_like(memory) if first.all() else memory


@breaks("memory is kept")
class ForgetsAllWhenOneBegins(Honest):
    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        return torch.zeros_like(memory) if first.any() else memory


@breaks("isolation")
class MemoryInTheObject(Honest):
    memory = torch.zeros(0, 2)

    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        self.memory = self.memory if len(self.memory) == len(first) else torch.zeros(len(first), 2)
        return super().kept(self.memory, first)

    def act(self, *told: Any, **draws: Any) -> Any:
        action, carry = super().act(*told, **draws)
        self.memory = carry["memory"]
        return action, carry


@breaks("isolation")
class ObservationInPlace(Honest):
    def act(self, carry: Any, observation: Any, *told: Any, **draws: Any) -> Any:
        observation["x"].clamp_(max=0.25)
        return super().act(carry, observation, *told, **draws)


@breaks("isolation")
class CarryInPlace(Honest):
    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        memory[first] = 0
        return memory.mul_(0.9)


@breaks("isolation")
class LeavesAKeyBehind(Honest):
    def act(self, carry: Any, observation: Any, *told: Any, **draws: Any) -> Any:
        observation["speed"] = observation["x"] * 0
        return super().act(carry, observation, *told, **draws)


@breaks("same seed same numbers")
class DisturbsTheGlobalGenerator(Honest):
    def action(self, place: Tensor) -> Tensor:
        np.random.rand()  # noqa: NPY002
        return super().action(place)


@breaks("same seed same numbers")
class ItsOwnDice(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.dice = np.random.default_rng(0)

    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return super().noise(place, generator) + 1e-6 * self.dice.random()


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_policy_has_every_property(actions: Any) -> None:
    report = check_policy(Honest(actions), env(actions))
    assert report.passed, report
    assert all(finding.tried for finding in report.findings), report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    expect_failures(check_policy(make(), env()), expected)


def test_each_property_is_broken_by_a_mutant() -> None:
    named = {finding.name for finding in check_policy(Honest(), env()).findings}
    assert MUTANTS.broken() == named


def test_what_cannot_be_tried_says_why() -> None:
    report = check_policy(wmplay.make("policy", "random", env=env()), env())
    assert report.passed, report
    assert "--   memory is kept: not tried, what came before makes no difference" in str(report)


def test_what_is_no_policy_is_told_so() -> None:
    (finding, *_) = check_policy(object(), env()).failures
    assert str(finding).startswith("FAIL shapes and types: it has no initial()")


def test_what_act_returns_is_looked_at() -> None:
    class Bare(Honest):
        def act(self, *told: Any, **draws: Any) -> Any:
            return super().act(*told, **draws)[0]

    report = check_policy(Bare(), env())
    assert "act returned a tensor [5, 2] of float32; return (action, carry)" in str(report.failures[0])


def test_an_env_of_short_episodes_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="expected 5 for a policy to be tried on"):
        check_policy(Honest(), env(max_steps=3))


def test_the_random_state_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    check_policy(Honest(), env())
    assert torch.equal(torch.get_rng_state(), state)
