"""Planners that are built to break what ``wmplay.check`` promises, and an honest one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from mutants import Mutants
from torch import Tensor
from torch.nn import functional as F

from wmplay.contracts import Plan
from wmplay.errors import SpaceError


class Honest:
    """Refits a distribution to the best of what was drawn, in either kind of space."""

    def __init__(
        self,
        action_space: Any,
        horizon: int = 5,
        candidates: int = 53,
        iterations: int = 3,
        elite_fraction: float = 0.1,
    ) -> None:
        if not isinstance(action_space, Box | Discrete):
            raise SpaceError(f"action space is {action_space}, expected a Box or Discrete")
        self.space, self.horizon, self.candidates = action_space, horizon, candidates
        self.iterations, self.elites = iterations, max(1, round(elite_fraction * candidates))
        self.classes = int(getattr(action_space, "n", 0))
        if not self.classes:
            self.low, self.high = (torch.from_numpy(bound) for bound in (action_space.low, action_space.high))

    def plan(
        self, model: Any, belief: Any, score: Any, *, warm_start: Any = None, generator: Any = None
    ) -> Plan:
        with torch.no_grad():
            return self.search(model, belief, score, warm_start, generator)

    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        batch = len(belief["goal"])
        state = self.start(batch, warm_start)
        repeated = {key: self.repeat(value) for key, value in belief.items()}
        best: Any = None
        for _ in range(self.iterations):
            drawn = self.within(self.draw(state, generator))  # [B, N, H, ...]
            scores = self.scores(score(model.predict(repeated, self.flat(drawn))), batch)
            top = scores.topk(self.elites, 1)
            rows = torch.arange(batch).unsqueeze(1)
            state = self.fit(drawn[rows, top.indices], top.values)
            found = drawn[rows[:, 0], top.indices[:, 0]], top.values[:, 0]
            best = found if best is None else self.better(best, found)
        return Plan(*best)

    def start(self, batch: int, warm_start: Any) -> Any:
        if self.classes:
            uniform = torch.full((batch, self.horizon, self.classes), 1 / self.classes)
            return uniform if warm_start is None else (uniform + F.one_hot(warm_start, self.classes)) / 2
        shape = (batch, self.horizon, len(self.low))
        middle = ((self.low + self.high) / 2).expand(shape)
        return middle if warm_start is None else warm_start, (0.4 * (self.high - self.low)).expand(shape)

    def draw(self, state: Any, generator: Any) -> Tensor:
        if self.classes:
            flat = state.reshape(-1, self.classes)
            drawn = torch.multinomial(flat, self.candidates, replacement=True, generator=generator)
            drawn = drawn.reshape(*state.shape[:2], self.candidates).movedim(2, 1).contiguous()
            drawn[:, 0] = state.argmax(-1)
            return drawn
        mean, std = (x.unsqueeze(1) for x in state)
        noise = self.noise((len(mean), self.candidates, *mean.shape[2:]), generator)
        noise[:, 0] = 0
        return mean + std * noise

    def noise(self, shape: Any, generator: Any) -> Tensor:
        return torch.randn(shape, generator=generator)

    def within(self, drawn: Tensor) -> Tensor:
        return drawn if self.classes else torch.clamp(drawn, self.low, self.high)

    def repeat(self, value: Tensor) -> Tensor:
        return value.repeat_interleave(self.candidates, 0)

    def flat(self, drawn: Tensor) -> Tensor:
        return drawn.flatten(0, 1)

    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return scores.nan_to_num(nan=-torch.inf).reshape(batch, self.candidates)

    def fit(self, elites: Tensor, scores: Tensor) -> Any:
        if self.classes:
            return 0.9 * F.one_hot(elites, self.classes).float().mean(1) + 0.1 / self.classes
        return elites.mean(1), self.spread(elites).clamp(min=0.02)

    def spread(self, elites: Tensor) -> Tensor:
        return elites.std(1, correction=0)

    def better(self, best: Any, found: Any) -> Any:
        wins = found[1] > best[1]
        shape = (-1, *[1] * (best[0].ndim - 1))
        return torch.where(wins.reshape(shape), found[0], best[0]), torch.where(wins, found[1], best[1])


# ---- planners that each break something ----------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("discrete and continuous actions")
class CrashesOnDiscreteActions(Honest):
    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53) -> None:
        super().__init__(action_space, horizon, candidates)
        self.center = (action_space.low + action_space.high) / 2


@breaks("discrete and continuous actions")
class TakesNothing(Honest):
    def __init__(self, action_space: Any) -> None:
        raise SpaceError(f"action space is {action_space}, expected another")


@breaks("plans and their shapes")
class TimeFirst(Honest):
    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(plan.action.transpose(0, 1), plan.score)


@breaks("plans and their shapes")
class OneScoreForAllRows(Honest):
    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(plan.action, plan.score.mean())


@breaks("plans and their shapes")
class DiscreteActionsAsFloats(Honest):
    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(plan.action.float(), plan.score)


@breaks("plans and their shapes")
class ReturnsATuple(Honest):
    def search(self, *args: Any) -> Any:
        plan = super().search(*args)
        return plan.action, plan.score


@breaks("plans and their shapes")
class NeedsAGenerator(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)


@breaks("plans and their shapes")
class KeepsTheGraph(Honest):
    def plan(self, *args: Any, warm_start: Any = None, generator: Any = None) -> Plan:
        return self.search(*args, warm_start, generator)


@breaks("scores are true")
class ScoreOfTheLastRound(Honest):
    def better(self, best: Any, found: Any) -> Any:
        return super().better(best, found)[0], found[1] - 0.1


@breaks("scores are true")
class PlanOfAnotherIteration(Honest):
    def better(self, best: Any, found: Any) -> Any:
        return best[0], torch.maximum(best[1], found[1])


@breaks("finds the best of a quadratic")
class PrefersTheWorst(Honest):
    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return -super().scores(scores, batch)

    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(plan.action, -plan.score)


@breaks("finds the best of a quadratic")
class MixesUpItsCandidates(Honest):
    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return super().scores(scores, batch).roll(1, 1)


@breaks("finds the deeper of two valleys")
class WalksFromTheMiddle(Honest):
    """Small steps uphill: fine where there is one hill."""

    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53) -> None:
        super().__init__(action_space, horizon, candidates, iterations=7)

    def start(self, batch: int, warm_start: Any) -> Any:
        state = super().start(batch, warm_start)
        return state if self.classes else (state[0], 0.1 * state[1])

    def spread(self, elites: Tensor) -> Tensor:
        return (0.04 * (self.high - self.low)).expand(elites[:, 0].shape)


@breaks("plans are on time")
class ReturnsWhatComesNext(Honest):
    """Its plan begins with the second step, as the next warm start would."""

    said = "a plan of continuous actions is one step early: its action h is the best for step h + 1"

    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(torch.cat([plan.action[:, 1:], plan.action[:, -1:]], 1), plan.score)


@breaks("plans are on time")
class PredictsWithoutTheFirstAction(Honest):
    """What is predicted of a candidate is what comes of it a step later."""

    said = "a plan of continuous actions is one step late: its action h is the best for step h - 1"

    def flat(self, drawn: Tensor) -> Tensor:
        return super().flat(drawn.roll(-1, 2))


@breaks("plans are on time")
class MovesTheWarmStart(Honest):
    said = "what becomes of the best plan of continuous actions is one step early"

    def start(self, batch: int, warm_start: Any) -> Any:
        return super().start(batch, None if warm_start is None else warm_start.roll(-1, 1))


@breaks("finds it in other units")
class WidthsInUnitsOfItsOwn(Honest):
    said = "with actions of -30 to 50 and 0.125 to 0.126"

    def start(self, batch: int, warm_start: Any) -> Any:
        state = super().start(batch, warm_start)
        return state if self.classes else (state[0], torch.ones_like(state[1]))


@breaks("stays within bounds")
class NeverClamps(Honest):
    def within(self, drawn: Tensor) -> Tensor:
        return drawn


@breaks("stays within bounds")
class ClampsOnlyWhatItReturns(Honest):
    def within(self, drawn: Tensor) -> Tensor:
        return drawn

    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return Plan(super().within(plan.action), plan.score)


@breaks("stays within bounds")
class ClampsToThreeQuartersOfTheRange(Honest):
    def within(self, drawn: Tensor) -> Tensor:
        high = torch.from_numpy(self.space.low + 0.75 * (self.space.high - self.space.low))
        return torch.minimum(super().within(drawn), high)


@breaks("candidates come row by row")
class CandidateByCandidate(Honest):
    def repeat(self, value: Tensor) -> Tensor:
        return value.repeat(self.candidates, *[1] * (value.ndim - 1))

    def flat(self, drawn: Tensor) -> Tensor:
        return drawn.transpose(0, 1).flatten(0, 1)

    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return super().scores(scores.reshape(self.candidates, batch).T.flatten(), batch)


@breaks("candidates come row by row")
class RepeatsBeliefsTheOtherWay(Honest):
    def repeat(self, value: Tensor) -> Tensor:
        return value.repeat(self.candidates, *[1] * (value.ndim - 1))


@breaks("batch invariance")
class NormalisesOverTheBatch(Honest):
    def fit(self, elites: Tensor, scores: Tensor) -> Any:
        weight = (scores - scores.max()).exp()  # as if there were one row
        if self.classes:
            counts = (F.one_hot(elites, self.classes) * weight[:, :, None, None]).sum(1) + 0.1
            return counts / counts.sum(-1, keepdim=True)
        weight = weight / weight.mean()
        return (weight[:, :, None, None] * elites).mean(1), self.spread(elites).clamp(min=0.02)


@breaks("batch invariance")
class OneSpreadForAllRows(Honest):
    def spread(self, elites: Tensor) -> Tensor:
        return super().spread(elites).mean(0).expand(elites[:, 0].shape)


@breaks("as good alone as among others")
class DividesItsCandidatesAmongTheRows(Honest):
    def search(self, model: Any, belief: Any, *args: Any) -> Plan:
        usual = self.candidates
        few = max(usual // len(belief["goal"]) // 3, 2)
        smaller = Honest(self.space, self.horizon, few, self.iterations)
        return smaller.search(model, belief, *args)


@breaks("rows draw for themselves")
class OneNoiseForAllRows(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return torch.randn((1, *shape[1:]), generator=generator).repeat(shape[0], *[1] * (len(shape) - 1))


@breaks("rows draw for themselves")
class BeginsItsDrawsAgain(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return super().noise(shape, torch.Generator().manual_seed(generator.initial_seed()))


@breaks("rows draw for themselves")
class DrawsOnItsOwn(Honest):
    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        return super().search(model, belief, score, warm_start, torch.Generator().manual_seed(0))


@breaks("rows draw for themselves")
class SeedsTheGenerator(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return super().noise(shape, generator and generator.manual_seed(generator.initial_seed() + 1))


@breaks("every candidate counts")
class LeavesOutTheRemainder(Honest):
    """Of its candidates, it takes whole dozens."""

    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53) -> None:
        super().__init__(action_space, horizon, max(candidates // 12, 1) * 12)


@breaks("every candidate counts")
class ForgetsTheLastScores(Honest):
    def scores(self, scores: Tensor, batch: int) -> Tensor:
        rows = super().scores(scores, batch).clone()
        rows[:, 20:] = -torch.inf
        return rows


@breaks("later candidates are better")
class FitsToTheWorst(Honest):
    def search(self, model: Any, belief: Any, score: Any, *args: Any) -> Plan:
        return super().search(model, belief, lambda future: -score(future), *args)


@breaks("later candidates are better")
class NeverFits(Honest):
    def fit(self, elites: Tensor, scores: Tensor) -> Any:
        return self.start(len(elites), None)


@breaks("later candidates are better")
class ReturnsTheBestOfTheFirstRound(Honest):
    def better(self, best: Any, found: Any) -> Any:
        return best


@breaks("each step has its own action")
class HoldsOneAction(Honest):
    def within(self, drawn: Tensor) -> Tensor:
        return super().within(drawn)[:, :, :1].repeat_interleave(self.horizon, 2)


@breaks("each step has its own action")
class HoldsTheFirstKnot(Honest):
    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53, hold: int = 2) -> None:
        super().__init__(action_space, horizon, candidates)
        self.hold = hold

    def within(self, drawn: Tensor) -> Tensor:
        within = super().within(drawn)
        return within if self.hold == 1 else within[:, :, :1].repeat_interleave(self.horizon, 2)


@breaks("a bad warm start is left")
class NeverLeavesTheWarmStart(Honest):
    def start(self, batch: int, warm_start: Any) -> Any:
        state = super().start(batch, warm_start)
        if self.classes or warm_start is None:
            return state
        return state[0], 0.01 * state[1]


@breaks("a bad warm start is left")
class ReturnsTheWarmStart(Honest):
    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        if warm_start is None:
            return super().search(model, belief, score, warm_start, generator)
        return Plan(warm_start, score(model.predict(belief, warm_start)))


@breaks("bad scores do no harm")
class TakesNanForZero(Honest):
    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return scores.nan_to_num(nan=0.0).reshape(batch, self.candidates)


@breaks("more candidates are not worse")
class HasABudgetOfCandidates(Honest):
    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53) -> None:
        super().__init__(action_space, horizon, candidates, max(1, 100 // candidates))
        self.candidates = min(candidates, max(2, 100 // candidates))


@breaks("warm start helps")
class ForgetsTheWarmStart(Honest):
    def start(self, batch: int, warm_start: Any) -> Any:
        return super().start(batch, None)


@breaks("warm start helps")
class BeginsHalfwayToTheWarmStart(Honest):
    def start(self, batch: int, warm_start: Any) -> Any:
        begun = super().start(batch, warm_start)
        if self.classes or warm_start is None:
            return begun
        return (begun[0] + super().start(batch, None)[0]) / 2, begun[1]


@breaks("warm start helps")
class WarmStartOfTheNextRow(Honest):
    def start(self, batch: int, warm_start: Any) -> Any:
        return super().start(batch, None if warm_start is None else warm_start.roll(2, 0))


@breaks("any number of elites")
class SpreadOfOneElite(Honest):
    def spread(self, elites: Tensor) -> Tensor:
        return elites.std(1)


@breaks("any number of elites")
class WeightsWithoutAxes(Honest):
    """Its weights are broadcast along the wrong axis, which fits as long as there is one elite."""

    def fit(self, elites: Tensor, scores: Tensor) -> Any:
        weight = scores.softmax(1)[..., None, None].transpose(1, 2)
        mean, std = super().fit(elites, scores) if not self.classes else (None, None)
        if self.classes:
            return super().fit(elites, scores)
        return (weight * elites).sum(1).reshape(mean.shape), std


@breaks("any number of elites")
class PerhapsNoElite(Honest):
    def __init__(
        self, action_space: Any, horizon: int = 5, candidates: int = 53, elite_fraction: float = 0.1
    ) -> None:
        super().__init__(action_space, horizon, candidates)
        self.elites = int(elite_fraction * candidates * 0.999)


@breaks("bad scores do no harm")
class TakesNanForTheBest(Honest):
    def scores(self, scores: Tensor, batch: int) -> Tensor:
        return scores.reshape(batch, self.candidates)


@breaks("bad scores do no harm")
class DividesByTheSpreadOfScores(Honest):
    def fit(self, elites: Tensor, scores: Tensor) -> Any:
        size = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)
        return super().fit(elites if self.classes else elites + 0 * size.sum(1)[:, None, None, None], scores)

    def better(self, best: Any, found: Any) -> Any:
        return found


@breaks("same seed same numbers")
class DrawsFromTheGlobalGenerator(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return torch.randn(shape)


@breaks("same seed same numbers")
class DrawsFromNumpy(Honest):
    def noise(self, shape: Any, generator: Any) -> Tensor:
        return torch.from_numpy(np.random.standard_normal(shape)).float()  # noqa: NPY002  # what it breaks


@breaks("isolation")
class WarmsItselfUp(Honest):
    last: Any = None

    def start(self, batch: int, warm_start: Any) -> Any:
        fits = self.last is not None and len(self.last) == batch
        return super().start(batch, self.last if warm_start is None and fits else warm_start)

    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        self.last = plan.action
        return plan


@breaks("isolation")
class PlansInTheWarmStart(Honest):
    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        return plan if args[3] is None else Plan(args[3].copy_(plan.action), plan.score)


@breaks("isolation")
class ReturnsTheSameMemoryAgain(Honest):
    memory: Any = None

    def search(self, *args: Any) -> Plan:
        plan = super().search(*args)
        if self.memory is None or self.memory.shape != plan.action.shape:
            self.memory = torch.zeros_like(plan.action)
        return Plan(self.memory.copy_(plan.action), plan.score)


@breaks("isolation")
class PutsTheModelIntoTraining(Honest):
    def search(self, model: Any, *args: Any) -> Plan:
        return super().search(model.train(), *args)


@breaks("isolation")
class MovesTheBelief(Honest):
    def search(self, model: Any, belief: Any, *args: Any) -> Plan:
        plan = super().search(model, belief, *args)
        belief["goal"] += 0.01
        return plan


@breaks("isolation")
class LeavesGradientsInTheModel(Honest):
    def search(self, model: Any, belief: Any, *args: Any) -> Plan:
        plan = super().search(model, belief, *args)
        with torch.enable_grad():
            future = model.predict(belief, plan.action)
            future.reward.sum().backward()
        return plan


# ---- unusual, and right --------------------------------------------------------------------------


class OnlyContinuous(Honest):
    """For continuous actions only."""

    def __init__(self, action_space: Any, horizon: int = 5, candidates: int = 53) -> None:
        if not isinstance(action_space, Box):
            raise SpaceError(f"action space is {action_space}, expected a Box")
        super().__init__(action_space, horizon, candidates)


class OneStepAhead(Honest):
    """Plans one step, whatever it is asked for."""

    def __init__(self, action_space: Any, candidates: int = 53) -> None:
        super().__init__(action_space, 1, candidates)


class UpTheSlope(OnlyContinuous):
    """Follows the gradient of the score from many starts, and keeps the best of starts and ends."""

    def __init__(self, action_space: Any, horizon: int = 5) -> None:
        super().__init__(action_space, horizon, 61)

    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        batch, number = len(belief["goal"]), self.candidates
        shape = (batch, number, self.horizon, len(self.low))
        place = torch.rand(shape, generator=generator)
        span = self.high - self.low
        if warm_start is not None:
            place[:, 0] = (warm_start - self.low) / span
        many = {key: value.repeat_interleave(number, 0) for key, value in belief.items()}
        rounds = []
        with torch.enable_grad():
            for _ in range(7):
                place = place.clamp(0, 1).detach().requires_grad_()
                value = score(model.predict(many, (self.low + span * place).flatten(0, 1)))
                rounds.append((place.detach(), value.detach().nan_to_num(nan=-1e9, neginf=-1e9)))
                (slope,) = torch.autograd.grad(value.sum(), place)
                place = place.detach() + 0.1 * slope.nan_to_num().sign() * 0.6 ** len(rounds)
        places = torch.cat([place for place, _ in rounds], 1)
        values = torch.cat([value.reshape(batch, number) for _, value in rounds], 1)
        best = values.argmax(1)
        rows = torch.arange(batch)
        return Plan(self.low + span * places[rows, best], values[rows, best])


class Grid(Honest):
    """Tries the same grid of held actions each time, in chunks, and draws nothing."""

    hold = 99

    def __init__(self, action_space: Any) -> None:
        super().__init__(action_space, 3)
        if self.classes:
            self.actions = torch.arange(self.classes)
        else:
            side = torch.linspace(0, 1, 13)
            self.actions = self.low + (self.high - self.low) * torch.cartesian_prod(side, side)

    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        batch, plans, values = len(belief["goal"]), [], []
        for chunk in self.actions.split(40):
            held = chunk.unsqueeze(1).repeat_interleave(self.horizon, 1)
            plans.append(held.expand(batch, *held.shape))
            if warm_start is not None and not values:
                plans[0] = torch.cat([warm_start.unsqueeze(1), plans[0]], 1)
            many = {key: value.repeat_interleave(plans[-1].shape[1], 0) for key, value in belief.items()}
            found = score(model.predict(many, plans[-1].flatten(0, 1))).nan_to_num(nan=-1e9, neginf=-1e9)
            values.append(found.reshape(batch, -1))
        best, rows = torch.cat(values, 1).max(1), torch.arange(batch)
        return Plan(torch.cat(plans, 1)[rows, best.indices], best.values)


@breaks("predicted ends count")
class IgnoresEnds(Honest):
    def search(self, model: Any, belief: Any, score: Any, warm_start: Any, generator: Any) -> Plan:
        def lasting(future: Any) -> Tensor:
            return score(dataclasses.replace(future, discount=None))

        return super().search(model, belief, lasting, warm_start, generator)


UNUSUAL = (OneStepAhead, UpTheSlope, Grid)
