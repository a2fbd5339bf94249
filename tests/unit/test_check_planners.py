"""The conformance kit on planners: an honest one passes; each property fails planners built to break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor
from torch.nn import functional as F

import wmplay
from wmplay import registry
from wmplay.check import check_planner
from wmplay.check.planners import PROPERTIES
from wmplay.check.problems import Solver
from wmplay.check.result import examine
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

MUTANTS: dict[str, tuple[type[Honest], str]] = {}


def breaks(name: str) -> Callable[[type[Honest]], type[Honest]]:
    """Registers a mutant with the property that must catch it."""

    def register(cls: type[Honest]) -> type[Honest]:
        MUTANTS[cls.__name__] = cls, name
        return cls

    return register


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


@breaks("batch invariance")
class DividesItsCandidatesAmongTheRows(Honest):
    def search(self, model: Any, belief: Any, *args: Any) -> Plan:
        usual = self.candidates
        few = max(usual // len(belief["goal"]) // 3, 2)
        smaller = Honest(self.space, self.horizon, few, self.iterations)
        return smaller.search(model, belief, *args)


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


# ---- tests ---------------------------------------------------------------------------------------


def failures(report: Any) -> set[str]:
    return {finding.name for finding in report.failures}


def test_an_honest_planner_has_every_property() -> None:
    report = check_planner(Honest)
    assert report.passed, str(report)
    assert report.tried == len(report.findings)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks(mutant: str) -> None:
    make, name = MUTANTS[mutant]
    with torch.random.fork_rng(devices=[]):
        solver = Solver(make, None, 0.1, 0)
        (finding,) = examine(mutant, [each for each in PROPERTIES if named(each) == name], solver).findings
    assert not finding.passed, str(finding)
    assert finding.message
    assert finding.advice
    assert "\n" not in str(finding)


def named(each: Any) -> str:
    return str(each.__name__).replace("_", " ")


def test_each_property_is_broken_by_a_mutant() -> None:
    assert {name for _, name in MUTANTS.values()} == set(map(named, PROPERTIES))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", registry.names("planner"))
def test_built_in_planners_pass_under_other_seeds(name: str, seed: int) -> None:
    report = check_planner(registry.target(registry.piece_config("planner", name)), seed=seed)
    assert report.passed, str(report)


def test_a_planner_that_is_built_is_tried_in_its_own_space() -> None:
    space = Box(-3, 1, (1,), np.float32)
    report = check_planner(Honest(space, horizon=1, candidates=307), space)
    assert report.passed, str(report)
    untried = [finding.name for finding in report.findings if not finding.tried]
    assert untried == ["more candidates are not worse", "any number of elites"]
    weak = check_planner(Honest(space, horizon=13, candidates=5), space)
    assert "finds the best of a quadratic" in failures(weak)


def test_one_kind_of_actions_is_enough() -> None:
    class Picky(Honest):
        def __init__(self, action_space: Any, candidates: int = 53, elite_fraction: float = 0.1) -> None:
            if isinstance(action_space, Discrete):
                raise SpaceError("discrete")
            super().__init__(action_space, 2, candidates, 3, elite_fraction)

    assert check_planner(Picky).passed


def test_what_a_run_provides_is_given_by_name() -> None:
    seen = {}

    class Asks(Honest):
        def __init__(self, env: Any, model: Any, objective: Any, candidates: int = 53) -> None:
            seen.update(env=env, model=model, objective=objective)
            super().__init__(env.action_space, 2, candidates)

    assert check_planner(Asks).passed
    first, _ = seen["env"].reset(seed=0)
    assert isinstance(seen["env"].observation_space, Dict)
    assert set(first) == set(seen["model"].decode(torch.zeros(2, 3, 2)))


def test_the_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    wmplay.check.check_planner(Honest)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_planner_without_its_space_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="give check_planner the action_space"):
        check_planner(Honest(Discrete(3)))
