"""Worlds that each break one property of ``wmplay.check.check_env``."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete, Tuple
from gymnasium.vector import AutoresetMode
from honest_world import GOAL, Batch, Honest
from mutants import Mutants

MUTANTS = Mutants()
breaks = MUTANTS.breaks


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
class ClockThatIsNotLookedAt(Honest):
    max_steps = 13

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return terminated, False


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


class Taskless(Honest):
    """The reward is the nearness of the goal; actions fail at times to reach it before the clock."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.task = None

    def step(self, action: Any) -> Any:
        before = self.place.copy()
        self.move(action)
        self.time += 1
        return self.seen(), self.paid(before), *self.ends(bool(self.place[0] > GOAL)), {}

    def paid(self, before: Any) -> float:
        return float(-np.abs(self.place - GOAL).sum())


@breaks("rewards belong to their step")
class RewardOfTheStepBefore(Taskless):
    last = 0.0

    def begin(self) -> None:
        super().begin()
        self.last = 0.0

    def paid(self, before: Any) -> float:
        now, self.last = self.last, super().paid(before)
        return now


@breaks("rewards belong to their step")
class ProgressOfTheStepBefore(RewardOfTheStepBefore):
    def paid(self, before: Any) -> float:
        now, self.last = self.last, float((self.place - before).sum())
        return now


@breaks("rewards belong to their step")
class RewardOfTheStateBefore(Taskless):
    def paid(self, before: Any) -> float:
        return float(-np.abs(before - GOAL).sum())


@breaks("rewards belong to their step")
class ReturnSoFar(Taskless):
    total = 0.0

    def begin(self) -> None:
        super().begin()
        self.total = 0.0

    def paid(self, before: Any) -> float:
        self.total += super().paid(before)
        return self.total


@breaks("rewards belong to their step")
class StepsSoFar(Taskless):
    def paid(self, before: Any) -> float:
        return float(self.time)


@breaks("the last step is paid")
class LastStepIsFree(Taskless):
    def paid(self, before: Any) -> float:
        return 0.0 if self.time >= self.clock else super().paid(before)


class Late(Taskless):
    keys: tuple[str, ...] = ()
    shown: ClassVar[Any] = None

    def begin(self) -> None:
        super().begin()
        self.shown = super().seen()

    def seen(self) -> Any:
        now = super().seen()
        if self.time == 0:
            return now
        before, self.shown = self.shown, now
        return {key: (before if key in self.keys else now)[key].copy() for key in now}


@breaks("each key is on time")
class ScreenIsLate(Late):
    keys = ("screen",)


@breaks("each key is on time")
class VectorIsLate(Late):
    keys = ("place",)


@breaks("goals stand")
class GoalAsAnOffset(Honest):
    def seen(self) -> Any:
        return {**super().seen(), "goal_place": (GOAL - self.place).clip(-1, 1)}


@breaks("each entry of the action counts")
class DeadEntry(Honest):
    def move(self, action: Any) -> None:
        super().move(np.array([action[0], 0, action[2]]))


@breaks("each entry of the action counts")
class OneEntryForTwo(Honest):
    def move(self, action: Any) -> None:
        super().move(np.array([action[0], action[2], action[2]]))


@breaks("buttons differ")
class TwinButtons(Honest):
    def __init__(self, **config: Any) -> None:
        super().__init__(discrete=True, **config)
        self.action_space = Discrete(4)

    def move(self, action: Any) -> None:
        super().move(0 if action == 2 else action)


@breaks("ends are told at once")
class EndsAStepLate(Honest):
    def begin(self) -> None:
        super().begin()
        self.over = False

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        late, self.over = self.over, terminated
        return super().ends(late)


@breaks("the last frame is its own episodes")
class LastFrameIsTheNext(Honest):
    def step(self, action: Any) -> Any:
        seen, reward, terminated, truncated, info = super().step(action)
        if terminated or truncated:
            seen, _ = self.reset()
        return seen, reward, terminated, truncated, info


@breaks("the last frame is its own episodes")
class LastFrameIsKeptForTheNext(LastFrameIsTheNext):
    kept: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self.kept is not None and seed is None:
            kept, self.kept = self.kept, None
            return kept
        self.kept = None
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        *seen, info = super().step(action)
        if seen[2] or seen[3]:
            self.kept = {key: value.copy() for key, value in seen[0].items()}, info
        return *seen, info


@breaks("the last frame is its own episodes")
class LastFrameIsTheOneBefore(Honest):
    def step(self, action: Any) -> Any:
        before = self.seen()
        seen, reward, terminated, truncated, info = super().step(action)
        return before if truncated else seen, reward, terminated, truncated, info


@breaks("no start is skipped")
class ResetsItself(Honest):  # huggingface/lerobot#4242: the vector env resets once more
    def step(self, action: Any) -> Any:
        answer = super().step(action)
        if answer[2] or answer[3]:
            self.reset()
        return answer


@breaks("held actions are repeated steps")
class HeldTwice(Honest):  # opendilab/LightZero#494: the env repeats, and so does the wrapper
    def __init__(self, action_repeat: int = 1, **config: Any) -> None:
        super().__init__(**config)
        self.action_repeat = action_repeat

    def move(self, action: Any) -> None:
        for _ in range(self.action_repeat**2):
            super().move(0.1 * action)


@breaks("seeds differ")
class TwoSeeds(Honest):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 2)


@breaks("seeds differ")
class TwoSeedsOfItsOwn(Honest):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.own = np.random.default_rng(seed % 2)
        return super().reset(seed=seed)

    def begin(self) -> None:
        super().begin()
        self.place = self.own.uniform(-0.5, 0.5, 3).astype(np.float32)


@breaks("terminated is no clock")
class EndsSwapped(Honest):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return self.time >= self.clock, terminated


@breaks("terminated is no clock")
class BothEndsAtOnce(Honest):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        over = terminated or self.time >= self.clock
        return over, over


@breaks("terminated is no clock")
class ClockTerminatesToo(Taskless):
    max_steps = 13

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return terminated or self.time >= self.clock, False


@breaks("a vector env is single ones")
class ResetsTwice(Honest):  # huggingface/lerobot#4242
    class batch(Batch):
        def step(self, actions: Any) -> Any:
            seen, reward, terminated, truncated, info = super().step(actions)
            ended = np.flatnonzero(terminated | truncated)
            if self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and len(ended):
                seen = {key: value.copy() for key, value in seen.items()}
                for slot in ended:
                    for key, value in self.envs[slot].reset()[0].items():
                        seen[key][slot] = value
            return seen, reward, terminated, truncated, info


@breaks("pictures show something")
class DrawsNothing(Honest):
    def seen(self) -> Any:
        return {**super().seen(), "screen": np.zeros((5, 7), np.uint8)}


@breaks("pictures show something")
class PixelsOfOnes(Honest):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.observation_space["screen"] = Box(0, 255, (5, 7), np.uint8)


@breaks("goals stand")
class GoalIsDrawnAgain(Honest):
    def seen(self) -> Any:
        return {**super().seen(), "goal_place": np.full(3, GOAL - 0.1 * (self.time > 6), np.float32)}


@breaks("actions show in their own step")
class FirstActionIsIgnored(Honest):
    def move(self, action: Any) -> None:
        super().move(action if self.time else 0 * action)


@breaks("actions show in their own step")
class EverySecondActionIsIgnored(Honest):
    def move(self, action: Any) -> None:
        super().move(action * (self.time % 2))


@breaks("episodes begin where their first frame is")
class FirstFrameIsOfBeforeTheDraw(Honest):
    def begin(self) -> None:
        super().begin()
        self.place = np.float32(1.4) * self.place + np.copysign(np.float32(0.3), self.place)

    def move(self, action: Any) -> None:
        super().move(0.1 * action)

    def seen(self) -> Any:
        return {**super().seen(), "place": self.place if self.time else np.zeros(3, np.float32)}


@breaks("the last frame is its own episodes")
class LastFrameOfAnEndIsTheOneBefore(Taskless):
    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return super().ends(bool(self.place[0] > 0.4))

    def step(self, action: Any) -> Any:
        before = self.seen()
        seen, reward, terminated, truncated, info = super().step(action)
        return before if terminated else seen, reward, terminated, truncated, info


@breaks("held actions are repeated steps")
class PaidForTheLastHeldStep(Taskless):
    def __init__(self, action_repeat: int = 1, **config: Any) -> None:
        super().__init__(**config)
        self.action_repeat = action_repeat

    def step(self, action: Any) -> Any:
        for _ in range(self.action_repeat):
            answer = super().step(0.1 * action)
        return answer


@breaks("each entry of the action counts")
class LowerHalfIsDead(Honest):
    def move(self, action: Any) -> None:
        super().move(action.clip(0, 1))


@breaks("each entry of the action counts")
class UpperHalfOfOneEntryIsDead(Honest):
    def move(self, action: Any) -> None:
        super().move(action.clip(-1, (1, 0, 1)))


class Swing(Taskless):
    """An angle and its rate, as two entries of one key."""

    rate = old = np.zeros(2, np.float32)

    def begin(self) -> None:
        super().begin()
        self.rate = self.old = np.zeros(2, np.float32)

    def move(self, action: Any) -> None:
        self.old, self.rate = self.rate, (0.7 * self.rate + 0.02 * action[:2]).astype(np.float32)
        self.place = np.append((self.place[:2] + self.rate).clip(-1, 1), 0).astype(np.float32)

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return False, self.time >= self.clock

    def seen(self) -> Any:
        shown = np.array([self.place[0], self.old[0], self.place[1]], np.float32)
        return {**super().seen(), "place": shown}


@breaks("each key is on time")
class RateIsLate(Swing):
    pass


@breaks("ends are told at once")
class RegionEndsAStepLate(Swing):
    near = False

    def begin(self) -> None:
        super().begin()
        self.near = False

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        late, self.near = self.near, bool(np.abs(self.place[0] - 0.3) < 0.1)
        return late, self.time >= self.clock

    def move(self, action: Any) -> None:
        super().move(4 * action)


@breaks("rewards belong to their step")
class DiscountsItsRewards(Taskless):
    def paid(self, before: Any) -> float:
        return 0.93**self.time * super().paid(before)


@breaks("the same step is the same at any time")
class TurnsItsControlsInTime(Honest):
    def move(self, action: Any) -> None:
        super().move(action if self.time < 7 else -action)


@breaks("the same step is the same at any time")
class EverySecondActionIsTurned(Honest):
    def move(self, action: Any) -> None:
        super().move(action * (-1) ** self.time)


@breaks("goals are paid")
class PaysForAnotherGoal(Taskless):
    """The goal is drawn once more before it is shown."""

    clock = 29

    def begin(self) -> None:
        super().begin()
        self.goal, self.shown = self.np_random.uniform(-0.8, 0.8, (2, 3))

    def step(self, action: Any) -> Any:
        seen, _, *rest = super().step(0.5 * action)
        return seen, -float(np.abs(self.place - self.goal).sum()), *rest

    def seen(self) -> Any:
        return {**super().seen(), "goal_place": self.shown.astype(np.float32)}


@breaks("the same step is the same at any time")
class ChanceOfTheStepsNumber(Honest):
    def move(self, action: Any) -> None:
        super().move(action + np.random.default_rng(self.time).normal(0, 0.1, 3))


@breaks("no key is left behind")
class ShowsWhereItBegan(Honest):
    def seen(self) -> Any:
        seen = super().seen()
        self.began = self.place.copy() if self.time == 0 else self.began
        return {**seen, "place": self.began}


@breaks("terminated is no clock")
class SomeFallBeforeTheClockTerminates(Taskless):
    clock = 29

    def ends(self, terminated: bool) -> tuple[Any, Any]:
        return bool(self.place[1] < -0.98) or self.time >= self.clock, False
