"""Policies that are built to break what ``wmplay.check`` promises, an honest one, and unusual ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mutants import Mutants
from push import CONTINUOUS
from torch import Tensor, nn

NOISE = 0.3


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


@breaks("acting leaves it as it is")
class NormaliserThatGoesOnWhileActing(nn.Module, Honest):
    mean: Tensor

    def __init__(self) -> None:
        nn.Module.__init__(self)
        Honest.__init__(self)
        self.register_buffer("mean", torch.zeros(1))

    def kept(self, memory: Tensor, first: Tensor) -> Tensor:
        self.mean += 1e-6
        return super().kept(memory, first)


@breaks("bounds are kept")
class NoiseBeyondTheBounds(Honest):
    def action(self, place: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (1 + place) / 2


@breaks("batch invariance")
class MemoryCentredOverTheBatch(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place - 0.1 * place.mean(0))


@breaks("batch invariance")
class BatchSizeAsAScale(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place / (1 + 0.1 * len(place)))


@breaks("batch invariance")
class NoiseOfEachRowForEver(Honest):
    """Its noise has rows, and is the same in each call."""

    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return NOISE * torch.linspace(-1, 1, place.numel()).reshape(place.shape)


@breaks("rows draw for themselves")
class OneNoiseForAll(Honest):
    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return super().noise(place[:1], generator).expand_as(place)


@breaks("draws go on")
class SeedsTheGenerator(Honest):
    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return super().noise(place, generator.manual_seed(generator.initial_seed() + 1))


@breaks("draws go on")
class BeginsItsDrawsAgain(Honest):
    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return super().noise(place, torch.Generator().manual_seed(generator.initial_seed()))


@breaks("draws go on")
class TheSameNoiseForEver(Honest):
    def action(self, place: Tensor) -> Tensor:
        return super().action(place / 2)

    def noise(self, place: Tensor, generator: Any) -> Tensor:
        return torch.tensor([0.1, -0.2]).expand_as(place)


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


@breaks("frames matter")
class ActsWithoutLooking(Honest):
    def act(self, carry: Any, observation: Any, *told: Any, **draws: Any) -> Any:
        return super().act(carry, {"x": 0 * observation["x"]}, *told, **draws)


@breaks("frames matter")
class WeightsThatNoFrameReaches(nn.Module):
    """Its actor reads what it expects, which is made of nothing (pytorch/rl#4119)."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Linear(2, 2)

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, 2)

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        return self.actor(carry).tanh(), torch.where(first.unsqueeze(1), 0.0, carry)


@breaks("the first frame matters")
class BeginsWithTheSecondFrame(Honest):
    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        seen = torch.where(first.unsqueeze(1), 0.0, observation["x"])
        return super().act(carry, {"x": seen}, last_action, first, **draws)


@breaks("frames act in their own step")
class ActsOnTheFrameBefore(Honest):
    def initial(self, batch_size: int) -> Any:
        return {**super().initial(batch_size), "seen": torch.zeros(batch_size, 1)}

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        seen = torch.where(first.unsqueeze(1), observation["x"], carry["seen"])
        action, following = super().act(carry, {"x": seen}, last_action, first, **draws)
        return action, {**following, "seen": observation["x"]}


@breaks("frames act in their own step")
class ActsOnAnEntryOfTheFrameBefore(ActsOnTheFrameBefore):
    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        seen = torch.where(first.unsqueeze(1), observation["x"], carry["seen"])
        mixed = torch.cat([seen[:, :1], observation["x"][:, 1:]], 1)
        action, following = Honest.act(self, carry, {"x": mixed}, last_action, first, **draws)
        return action, {**following, "seen": observation["x"]}


@breaks("what was executed counts")
class RemembersWhatItMeantToDo(Honest):
    def initial(self, batch_size: int) -> Any:
        return {**super().initial(batch_size), "meant": torch.zeros(batch_size, 2)}

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        meant = torch.where(first.unsqueeze(1), 0.0, carry["meant"])
        action, following = super().act(carry, observation, meant, first, **draws)
        return action, {**following, "meant": action}


@breaks("what was executed counts")
class RemembersWhatItMeantBeforeItWasClipped(RemembersWhatItMeantToDo):
    def action(self, place: Tensor) -> Tensor:
        return super().action(1.3 * place)

    def act(self, *told: Any, **draws: Any) -> Any:
        action, following = super().act(*told, **draws)
        place = 1.3 * (2 * following["memory"]).sin()
        return action, {**following, "meant": self.low + (self.high - self.low) * (1 + place) / 2}


@breaks("what was executed counts")
class AddsWhatItMeantToDoToItsMemory(Honest):
    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        action, following = super().act(carry, observation, 0 * last_action, first, **draws)
        return action, {"memory": following["memory"] + 0.1 * action[:, :1]}


@breaks("what was executed counts")
class LimitsItsStepsByWhatItMeant(Honest):
    """Before its noise, and before it was clipped."""

    def initial(self, batch_size: int) -> Any:
        return {**super().initial(batch_size), "meant": torch.zeros(batch_size, 2)}

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
        wanted, following = super().act(carry, observation, 0 * last_action, first)
        before = torch.where(first.unsqueeze(1), 0.0, carry["meant"])
        meant = before + (wanted - before).clamp(-0.1, 0.1)
        noise = self.noise(meant, generator) if explore else 0.0
        return (meant + noise).clamp(self.low, self.high), {**following, "meant": meant}


@breaks("memory is used")
class ItsMemoryBeginsAnewInEachStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.actor = nn.GRUCell(2, 7), nn.Linear(7, 2)

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, 7)

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        memory = self.cell(observation["x"], 0 * carry)
        return self.actor(memory).tanh(), memory


@breaks("memory is used")
class ItsMemoryStaysAsItBegan(ItsMemoryBeginsAnewInEachStep):
    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        return self.actor(self.cell(observation["x"], carry)).tanh(), carry


@breaks("explore is heeded")
class AlwaysExplores(nn.Module, Honest):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        Honest.__init__(self)
        self.gain = nn.Parameter(torch.ones(()))

    def act(self, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        return super().act(*told, explore=True, generator=generator)


@breaks("explore is heeded")
class ExploresByItsSettingAlways(Honest):
    """It has no weights, but a setting that is called so."""

    def __init__(self) -> None:
        super().__init__()
        self.exploration_noise = NOISE

    def act(self, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        return super().act(*told, explore=True, generator=generator)


@breaks("explore is heeded")
class OneNoiseForBothEntries(Honest):
    def act(self, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        action, following = super().act(*told)
        noise = self.noise(action[:, :1], generator) if explore else 0.0
        return (action + 0.1 * noise).clamp(self.low, self.high), following


@breaks("explore is heeded")
class ExploresWhereItShouldNot(Honest):
    def act(self, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        return super().act(*told, explore=not explore, generator=generator)


# ---- unusual, and right --------------------------------------------------------------------------


class Repeats(Honest):
    """Holds each action for three steps."""

    def initial(self, batch_size: int) -> Any:
        return {"held": torch.zeros(batch_size, 2), "age": torch.zeros(batch_size, dtype=torch.long)}

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        age = torch.where(first, 0, carry["age"])
        held = torch.where((age % 3 == 0).unsqueeze(1), self.fresh(observation), carry["held"])
        return held, {"held": held, "age": age + 1}

    def fresh(self, observation: Any) -> Tensor:
        return self.action((2 * observation["x"]).sin())


class Smooths(Repeats):
    """Moves halfway from its last command to where it would like to be."""

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        fresh = self.fresh(observation)
        held = torch.where(first.unsqueeze(1), fresh, (carry["held"] + fresh) / 2)
        return held, {"held": held, "age": carry["age"]}


class SlowNoise(Honest):
    """Explores by noise that changes slowly."""

    def initial(self, batch_size: int) -> Any:
        return {**super().initial(batch_size), "noise": torch.zeros(batch_size, 2)}

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
        action, following = super().act(carry, observation, 0 * last_action, first)
        drawn = torch.where(first.unsqueeze(1), 0.0, carry["noise"])
        if explore:
            drawn = 0.7 * drawn + NOISE * torch.randn(action.shape, generator=generator)
            action = torch.clamp(action + drawn, self.low, self.high)
        return action, {**following, "noise": drawn}


class Script:
    """Goes round, whatever it sees."""

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size)

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        time = torch.where(first, 0.0, carry)
        return torch.stack([time.sin(), time.cos()], 1), time + 1


class Stochastic(AlwaysExplores):
    stochastic = True


class RandomByNature(Honest):
    """Noise around a law, with and without ``explore``."""

    def act(self, *told: Any, explore: bool = False, generator: Any = None) -> Any:
        return super().act(*told, explore=True, generator=generator)


class LearnedScript(nn.Module):
    open_loop = True

    def __init__(self) -> None:
        super().__init__()
        self.actions = nn.Parameter(torch.rand(17, 2))

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, dtype=torch.long)

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        time = torch.where(first, 0, carry)
        return self.actions[time], time + 1


class LooksAtChanges(Honest):
    """Nothing to see in the first frame, but what the second is compared with."""

    def initial(self, batch_size: int) -> Any:
        return torch.zeros(batch_size, 2)

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        change = torch.where(first.unsqueeze(1), 0.0, observation["x"] - carry)
        return self.action(change), observation["x"]


UNUSUAL = (Repeats, Smooths, SlowNoise, Script, Stochastic, RandomByNature, LearnedScript, LooksAtChanges)
