"""A right model that offers features, values, proposals and a slow copy, and models that break each."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from broken_models import NUMBERS, Honest, breaks
from push import CONTINUOUS
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from wmplay.contracts import Segment
from wmplay.nets.actions import action_bounds
from wmplay.nets.agents.distributions import SquashedNormal


class Offering(Honest):
    """Values beliefs, with a slow copy of the value for the targets, proposes the middle, and takes goals."""

    gamma = 0.9
    goals = True

    def __init__(self) -> None:
        super().__init__()
        self.worth, self.proposal = nn.Linear(NUMBERS + 23, 1), nn.Linear(NUMBERS + 23, 4)
        self.slow = copy.deepcopy(self.worth).requires_grad_(False)

    def features(self, belief: Any) -> Tensor:
        return torch.cat([belief["frame"], belief["hidden"]], -1)

    def track(self, segment: Segment) -> Any:
        return self.tracked(segment)

    def tracked(self, segment: Segment) -> Any:
        belief = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        beliefs = [belief]
        for t in range(segment.action.shape[1]):
            frame = {key: value[:, t + 1 : t + 2] for key, value in segment.observation.items()}
            beliefs.append(self.observe(beliefs[-1], segment.action[:, t : t + 1], frame))
        return tree_map(lambda *steps: torch.stack(steps, 1).flatten(0, 1), *beliefs)

    def value(self, belief: Any) -> Tensor:
        return self.worth(self.features(belief)).squeeze(-1)

    def policy(self, belief: Any) -> Any:
        mean, log_std = self.proposal(self.features(belief)).chunk(2, -1)
        return SquashedNormal(mean, log_std.clamp(-5, 1).exp(), *action_bounds(CONTINUOUS))

    def loss(self, segment: Segment) -> Any:
        loss, metrics = super().loss(segment)
        known = (
            Offering.features(self, self.tracked(segment)).detach().unflatten(0, (len(segment.reward), -1))
        )
        with torch.no_grad():
            after = self.slow(known[:, 1:]).squeeze(-1) * ~segment.terminated
        error = (self.worth(known[:, :-1]).squeeze(-1) - segment.reward - self.gamma * after).square()
        wanted = (self.proposal(known[:, :-1])).square().sum(-1)
        return loss + ((error + wanted) * segment.mask).sum() / segment.mask.sum(), metrics

    def after_update(self, progress: float) -> None:
        for slow, quick in zip(self.slow.parameters(), self.worth.parameters(), strict=True):
            slow.lerp_(quick, 0.05)


@breaks("features are those of the last step")
class FeaturesOfTheStepBefore(Offering):
    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Any:
        future = super().predict(belief, action, **draws)
        before = belief if action.shape[1] == 1 else super().predict(belief, action[:, :-1]).belief
        future.belief["shown"] = super().features(before)
        return future

    def features(self, belief: Any) -> Tensor:
        shown: Tensor = belief.get("shown", super().features(belief))
        return shown


@breaks("features are those of the last step")
class FeaturesOfTheFrameThatWasSeen(Offering):
    def initial(self, observation: Any) -> Any:
        belief = super().initial(observation)
        return {**belief, "seen": belief["frame"]}

    def observe(self, belief: Any, action: Tensor, observation: Any) -> Any:
        after = super().observe(belief, action, observation)
        return {**after, "seen": after["frame"]}

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Any:
        future = super().predict(belief, action, **draws)
        future.belief["seen"] = belief["seen"]
        return future

    def features(self, belief: Any) -> Tensor:
        return torch.cat([belief["seen"], 0 * belief["hidden"]], -1)


@breaks("features hold what is remembered")
class FeaturesWithoutMemory(Offering):
    def features(self, belief: Any) -> Tensor:
        return torch.cat([belief["frame"], 0 * belief["hidden"]], -1)


@breaks("track is observe at every frame")
class TracksStepsBeforeRows(Offering):
    def track(self, segment: Segment) -> Any:
        rows = len(segment.reward)
        return tree_map(
            lambda x: x.unflatten(0, (rows, -1)).transpose(0, 1).flatten(0, 1), super().track(segment)
        )


@breaks("track is observe at every frame")
class TracksAFrameLate(Offering):
    def track(self, segment: Segment) -> Any:
        rows = len(segment.reward)

        def late(x: Tensor) -> Tensor:
            steps = x.unflatten(0, (rows, -1))
            return torch.cat([steps[:, :1], steps[:, :-1]], 1).flatten(0, 1)

        return tree_map(late, super().track(segment))


@breaks("slow copies wait for after update")
class MovesInItsLoss(Offering):
    def loss(self, segment: Segment) -> Any:
        if self.training:
            with torch.no_grad():
                super().after_update(1.0)
        return super().loss(segment)


@breaks("slow copies follow")
class LeavesItsSlowCopyBehind(Offering):
    def after_update(self, progress: float) -> None:
        pass


@breaks("slow copies wait for after update")
class PredictsWithItsSlowCopy(Offering):
    def __init__(self) -> None:
        super().__init__()
        self.slow_head = copy.deepcopy(self.head).requires_grad_(False)

    def after_update(self, progress: float) -> None:
        super().after_update(progress)
        for slow, quick in zip(self.slow_head.parameters(), self.head.parameters(), strict=True):
            slow.lerp_(quick, 0.2)

    def predict(self, belief: Any, action: Tensor, **draws: Any) -> Any:
        head, self.head = self.head, self.slow_head
        try:
            return super().predict(belief, action, **draws)
        finally:
            self.head = head


@breaks("values belong to their rows")
class ValuesByTheMeanOfTheBatch(Offering):
    def value(self, belief: Any) -> Tensor:
        value = super().value(belief)
        return value - value.mean()


@breaks("values belong to their rows")
class ValuesWithAnAxisTooMany(Offering):
    def value(self, belief: Any) -> Tensor:
        return super().value(belief).unsqueeze(-1)


@breaks("proposals are actions")
class ProposesBeforeSquashing(Offering):
    def policy(self, belief: Any) -> Any:
        proposed = super().policy(belief)
        low, high = action_bounds(CONTINUOUS)
        return SquashedNormal(proposed.mean, proposed.sigma, low - 2 * (high - low), high + 2 * (high - low))


@breaks("proposals are actions")
class ProposesWithoutTheGenerator(Offering):
    def policy(self, belief: Any) -> Any:
        proposed = super().policy(belief)
        draw = proposed.sample
        proposed.sample = lambda generator: draw(None)  # type: ignore[method-assign]
        return proposed


class Targets(Offering):
    """The same targets of values, in parts that a mutant can change."""

    def loss(self, segment: Segment) -> Any:
        loss, metrics = Honest.loss(self, segment)
        known = self.features(self.tracked(segment)).detach().unflatten(0, (len(segment.reward), -1))
        with torch.no_grad():
            after = self.slow(known).squeeze(-1)
        target = self.target(segment, after)
        error = (self.worth(known[:, :-1]).squeeze(-1) - target).square()
        wanted = self.proposal(known[:, :-1]).square().sum(-1)
        return loss + ((error + wanted) * segment.mask).sum() / segment.mask.sum(), metrics

    def target(self, segment: Segment, value: Tensor) -> Tensor:
        """``value`` [B, T + 1] is that of the slow copy, of each frame."""
        return segment.reward + self.gamma * ~segment.terminated * value[:, 1:]


class ValuesOfTheRewardBefore(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return super().target(replace(segment, reward=segment.reward.roll(1, 1)), value)


class ValuesOfTheNextReward(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return super().target(replace(segment, reward=segment.reward.roll(-1, 1)), value)


class ValuesThatGoOnFromTheirOwnFrame(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return super().target(segment, value.roll(1, 1))


class ValuesWithoutADiscount(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return segment.reward + ~segment.terminated * value[:, 1:]


class ValuesBeyondTheEnd(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return super().target(replace(segment, terminated=torch.zeros_like(segment.terminated)), value)


class ValuesOfLosses(Targets):
    def target(self, segment: Segment, value: Tensor) -> Tensor:
        return -super().target(segment, -value)


MISVALUED = {
    ValuesOfTheRewardBefore: "one step late",
    ValuesOfTheNextReward: "one step early",
    ValuesThatGoOnFromTheirOwnFrame: "counted again",
    ValuesWithoutADiscount: "not discounted",
    ValuesBeyondTheEnd: "no episode ended",
    ValuesOfLosses: "opposite",
}  # and what must be said of each
