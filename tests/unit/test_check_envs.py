"""The conformance kit on environments: an honest one passes; each property fails worlds built to break it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import wmplay
from wmplay.check import check_env
from wmplay.check.envs import PROPERTIES
from wmplay.check.plays import EnvTrial
from wmplay.check.result import examine

GOAL = 0.9


class Task:
    """Come as far to the right as there is."""

    def reward_and_terminated(self, before: Any, after: Any) -> Any:
        was, now = before["place"][..., 0], after["place"][..., 0]
        return now - was, now > GOAL


class Honest(gym.Env[Any, Any]):
    """A point that is pushed, between two walls."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    clock = 13

    def __init__(self, discrete: bool = False, render_mode: str | None = None) -> None:
        self.observation_space: Any = Dict(
            place=Box(-1, 1, (3,), np.float32),
            screen=Box(0, 1, (5, 7), np.uint8),
            goal_place=Box(-1, 1, (3,)),
        )
        self.action_space: Any = Discrete(5) if discrete else Box(-1, 1, (3,), np.float32)
        self.task: Any = Task()
        self.render_mode = render_mode
        self.place, self.time = np.zeros(3, np.float32), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.begin()
        return self.seen(), {}

    def begin(self) -> None:
        self.place = self.np_random.uniform(-0.5, 0.5, 3).astype(np.float32)
        self.time = 0

    def step(self, action: Any) -> Any:
        before = self.seen()
        self.move(action)
        self.time += 1
        after = self.seen()
        reward, terminated = self.task.reward_and_terminated(before, after)
        return after, float(reward), *self.ends(bool(terminated)), {}

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return terminated, self.time >= self.clock

    def move(self, action: Any) -> None:
        push = action if isinstance(self.action_space, Box) else np.eye(5)[action][:3]
        self.place = (self.place + 0.2 * push).clip(-1, 1).astype(np.float32)

    def seen(self) -> Any:
        screen = np.zeros((5, 7), np.uint8)
        screen[2, int(3 + 3 * self.place[0])] = 1
        return {"place": self.place.copy(), "screen": screen, "goal_place": np.full(3, GOAL, np.float32)}

    def render(self) -> Any:
        return np.zeros((5, 7, 3), np.uint8)


def make(
    cls: Any, num_envs: int | None = None, autoreset: str = "same_step", num_workers: int = 0, **config: Any
) -> Any:
    """As ``wmplay.make_env``, for a class."""
    if num_envs is None:
        return cls(**config)
    mode = {"same_step": AutoresetMode.SAME_STEP, "next_step": AutoresetMode.NEXT_STEP}[autoreset]
    batch = cls.batch([partial(cls, **config)] * num_envs, autoreset_mode=mode)
    batch.num_workers = num_workers
    return batch


# ---- worlds that each break something ------------------------------------------------------------

MUTANTS: dict[str, tuple[type[Honest], str]] = {}


def breaks(name: str) -> Callable[[type[Honest]], type[Honest]]:
    """Registers a mutant with the property that must catch it."""

    def register(cls: type[Honest]) -> type[Honest]:
        MUTANTS[cls.__name__] = cls, name
        return cls

    return register


class Batch(SyncVectorEnv):
    """What Gymnasium makes of single ones."""

    num_workers = 0


Honest.batch = Batch  # type: ignore[attr-defined]


@breaks("spaces that other pieces take")
class PairsOfArrays(Honest):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.observation_space = Tuple((Box(-1, 1, (3,), np.float32), Box(0, 1, (5, 7), np.uint8)))

    def seen(self) -> Any:
        seen = super().seen()
        return seen["place"], seen["screen"]

    def step(self, action: Any) -> Any:
        self.move(action)
        self.time += 1
        return self.seen(), 0.0, False, self.time >= self.clock, {}


@breaks("spaces that other pieces take")
class DoublePrecision(Honest):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.observation_space["place"] = Box(-1, 1, (3,), np.float64)

    def seen(self) -> Any:
        return {**super().seen(), "place": self.place.astype(np.float64)}


@breaks("gymnasiums checker passes")
class ResetWithoutOptions(Honest):
    def reset(self, *, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


@breaks("gymnasiums checker passes")
class NoInfo(Honest):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], None


@breaks("observations are of their space")
class LeavesItsBounds(Honest):
    def move(self, action: Any) -> None:
        self.place = (self.place + 0.2 * action).astype(np.float32)

    def seen(self) -> Any:
        return {**super().seen(), "screen": np.zeros((5, 7), np.uint8)}


@breaks("observations are of their space")
class OfAnotherType(Honest):
    def seen(self) -> Any:
        return {**super().seen(), "place": self.place.astype(np.float64)}


@breaks("observations are of their space")
class TellsMoreThanItsSpace(Honest):
    def seen(self) -> Any:
        return {**super().seen(), "time": np.zeros(1, np.float32)}


@breaks("observations are of their space")
class SometimesNan(Honest):
    def seen(self) -> Any:
        late = self.time >= self.clock - 1
        return {**super().seen(), "place": np.full(3, np.nan, np.float32) if late else self.place.copy()}


@breaks("rewards and flags")
class RewardOfEachPart(Honest):
    def step(self, action: Any) -> Any:
        seen, reward, *rest = super().step(action)
        return seen, np.full(1, reward), *rest


@breaks("rewards and flags")
class EndsAsNumbers(Honest):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return int(terminated), int(self.time >= self.clock)


@breaks("same seed same numbers")
class DrawsFromTheGlobalGenerator(Honest):
    def begin(self) -> None:
        super().begin()
        self.place[1] = random.uniform(-0.5, 0.5)


@breaks("same seed same numbers")
class SeedsTheGlobalGenerator(Honest):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            random.seed(seed)
        return super().reset(seed=seed)


@breaks("same seed same numbers")
class NoisyPhysics(Honest):
    noise: ClassVar = np.random.default_rng(0)

    def move(self, action: Any) -> None:
        super().move(action + 0.01 * self.noise.standard_normal(3))


@breaks("seeds differ")
class DeafToSeeds(Honest):
    def begin(self) -> None:
        super().begin()
        self.place = np.random.default_rng(0).uniform(-0.5, 0.5, 3).astype(np.float32)


@breaks("seeds differ")
class SeedsEveryEpisode(Honest):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed or 0)


@breaks("reset forgets the episode")
class ClockRunsOn(Honest):
    def begin(self) -> None:
        time = self.time
        super().begin()
        self.time = time % self.clock


@breaks("reset forgets the episode")
class KeepsItsVelocity(Honest):
    velocity = 0.0

    def move(self, action: Any) -> None:
        self.velocity = 0.5 * self.velocity + 0.1 * action
        super().move(action + self.velocity)


@breaks("instances are apart")
class StateInTheClass(Honest):
    shared: ClassVar = {"place": np.zeros(3, np.float32)}

    def seen(self) -> Any:
        self.place = self.shared["place"] if self.time else self.place
        return super().seen()

    def begin(self) -> None:
        super().begin()
        self.shared["place"] = self.place

    def move(self, action: Any) -> None:
        self.place = self.shared["place"]
        super().move(action)
        self.shared["place"] = self.place


@breaks("what is returned is the callers")
class ReturnsItsOwnArray(Honest):
    def move(self, action: Any) -> None:
        self.place += np.float32(0.2) * action
        self.place.clip(-1, 1, out=self.place)

    def seen(self) -> Any:
        return {**super().seen(), "place": self.place}


@breaks("what is returned is the callers")
class GoalOfAllEpisodes(Honest):
    goal: ClassVar = np.full(3, GOAL, np.float32)

    def seen(self) -> Any:
        return {**super().seen(), "goal_place": self.goal}


@breaks("actions are only read")
class ScalesTheActionInPlace(Honest):
    def move(self, action: Any) -> None:
        action *= 0.5
        super().move(action)


@breaks("actions are only read")
class KeepsTheAction(Honest):
    last: Any = 0.0

    def begin(self) -> None:
        super().begin()
        self.last = np.zeros(3)

    def move(self, action: Any) -> None:
        super().move(0.9 * action + 0.1 * self.last)
        self.last = action


@breaks("actions show in their own step")
class ObservesBeforeItActs(Honest):
    def step(self, action: Any) -> Any:
        before = self.seen()
        return before, *super().step(action)[1:]


@breaks("actions show in their own step")
class ActsAStepLate(Honest):
    waiting: Any = 0.0

    def begin(self) -> None:
        super().begin()
        self.waiting = np.zeros(3)

    def move(self, action: Any) -> None:
        super().move(self.waiting)
        self.waiting = action.copy()


@breaks("actions show in their own step")
class IgnoresActions(Honest):
    def move(self, action: Any) -> None:
        super().move(np.ones(3))


@breaks("terminated is no clock")
class ClockTerminates(Honest):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.task = None

    def step(self, action: Any) -> Any:
        self.move(action)
        self.time += 1
        return self.seen(), 0.0, self.time >= self.clock, False, {}


@breaks("terminated is no clock")
class ArrivalTruncates(Honest):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return False, terminated or self.time >= self.clock


@breaks("its task agrees")
class TaskOfTheStepBefore(Honest):
    last = 0.0

    def begin(self) -> None:
        super().begin()
        self.last = 0.0

    def step(self, action: Any) -> Any:
        seen, reward, *rest = super().step(action)
        self.last, late = reward, self.last
        return seen, late, *rest


@breaks("its task agrees")
class EndsWhereItsTaskDoesNot(Honest):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return bool(self.place[0] > 0.5), self.time >= self.clock


@breaks("pictures")
class PicturesOfFloats(Honest):
    def render(self) -> Any:
        return np.zeros((5, 7, 3))


@breaks("pictures")
class RenderingMovesIt(Honest):
    def render(self) -> Any:
        self.place = (self.place + 0.01).astype(np.float32)
        return super().render()


@breaks("a vector env is single ones")
class SlotsInReverse(Honest):
    class batch(Batch):  # takes the place of an attribute
        def step(self, actions: Any) -> Any:
            return super().step(actions[::-1])


@breaks("a vector env is single ones")
class OneSeedForAllSlots(Honest):
    class batch(Batch):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            seeds = [seed] * self.num_envs if isinstance(seed, int) else seed
            return super().reset(seed=seeds, options=options)


@breaks("a vector env is single ones")
class FinalFrameOfTheNextEpisode(Honest):
    class batch(Batch):
        def step(self, actions: Any) -> Any:
            seen, *outcome, info = super().step(actions)
            for slot, final in enumerate(info.get("final_obs", [])):
                if final is not None:
                    info["final_obs"][slot] = {key: value[slot] for key, value in seen.items()}
            return seen, *outcome, info


@breaks("a vector env is single ones")
class WritesIntoTheSameBatch(Honest):
    class batch(Batch):
        def __init__(self, envs: Any, **settings: Any) -> None:
            super().__init__(envs, copy=False, **settings)


@breaks("workers are single ones")
class AnotherInAWorker(Honest):
    class batch(Batch):
        def step(self, actions: Any) -> Any:
            return super().step(0.9 * actions if self.num_workers else actions)


# ---- tests ---------------------------------------------------------------------------------------


def check(cls: type[Honest], **config: Any) -> Any:
    settings = {"render_mode": "rgb_array", **config}
    return check_env(cls(**settings), partial(make, cls, **settings))


def failures(report: Any) -> set[str]:
    return {finding.name for finding in report.failures}


def untried(report: Any) -> dict[str, str]:
    return {finding.name: finding.message for finding in report.findings if not finding.tried}


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_an_honest_env_has_every_property(discrete: bool) -> None:
    report = check(Honest, discrete=discrete)
    assert report.passed, str(report)
    assert report.tried == len(PROPERTIES)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks(mutant: str) -> None:
    cls, name = MUTANTS[mutant]
    settings = {"render_mode": "rgb_array"}
    trial = EnvTrial(cls(**settings), partial(make, cls, **settings), 0)
    (finding,) = examine(mutant, [each for each in PROPERTIES if named(each) == name], trial).findings
    assert not finding.passed, str(finding)
    assert finding.message
    assert finding.advice
    assert "\n" not in str(finding)


def named(each: Any) -> str:
    return str(each.__name__).replace("_", " ")


def test_each_property_is_broken_by_a_mutant() -> None:
    assert {name for _, name in MUTANTS.values()} == set(map(named, PROPERTIES))


def test_a_world_that_claims_to_be_passive_may_ignore_actions() -> None:
    class Claims(IgnoresActions):
        metadata: ClassVar = {**Honest.metadata, "passive": True}

    report = check(Claims)
    assert report.passed, str(report)
    assert "actions show in their own step" in untried(report)


def test_a_world_without_chance_may_begin_always_alike() -> None:
    class NoChance(Honest):
        def begin(self) -> None:
            self.place, self.time = np.full(3, 0.1, np.float32), 0

    report = check(NoChance)
    assert report.passed, str(report)
    assert "never draws from np_random" in untried(report)["seeds differ"]


def test_an_env_alone_is_tried_without_others() -> None:
    report = check_env(Honest())
    assert report.passed, str(report)
    assert untried(report).keys() == {
        "instances are apart",
        "pictures",
        "a vector env is single ones",
        "workers are single ones",
    }
    assert "make=..." in untried(report)["instances are apart"]


def test_a_class_makes_other_envs_but_no_batch() -> None:
    report = check_env(Honest(), Honest)
    assert untried(report)["a vector env is single ones"] == "make takes no num_envs"


def test_built_in_alignment_world_has_its_own_spaces_and_keeps_the_time_rule() -> None:
    from wmplay.alignment import AlignmentWorld

    report = check_env(AlignmentWorld(), AlignmentWorld)
    assert failures(report) == {"spaces that other pieces take"}, str(report)


def test_what_it_finds_names_the_smallest_input() -> None:
    found = {f.name: f.message for f in check(SometimesNan).failures}
    assert "observation 'place' is" in found["observations are of their space"]
    assert "(seed 0, step 12)" in found["observations are of their space"]


def test_wmplay_exports_it() -> None:
    assert wmplay.check.check_env is check_env
