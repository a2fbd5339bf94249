"""Worlds of unusual style that are right: the conformance kit must accuse none of them."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Odd(gym.Env[Any, Any]):
    """A mass on a line, moved by the velocity that it had: an action shows in the place two frames later."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    space: Any = Box(-1, 1, (1,), np.float32)
    clock: int | None = 17
    keys: tuple[str, ...] = ("place", "velocity")

    def __init__(self) -> None:
        self.action_space = self.space
        self.observation_space = Dict({key: Box(-99, 99, (1,), np.float32) for key in self.keys})
        self.place, self.velocity, self.time, self.limit = 0.0, 0.0, 0, self.clock

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.velocity, self.time = self.np_random.uniform(-0.5, 0.5), 0.0, 0
        self.begin()
        return self.seen(), {}

    def begin(self) -> None:
        pass

    def step(self, action: Any) -> Any:
        self.was = self.place
        self.move(action)
        self.time += 1
        late = self.limit is not None and self.time >= self.limit
        return self.seen(), float(self.paid(action)), *self.ends(late), {}

    def move(self, action: Any) -> None:
        self.place = float(np.clip(self.place + 0.1 * self.velocity, -9, 9))
        self.velocity = float(np.clip(0.9 * self.velocity + float(action[0]), -9, 9))

    def paid(self, action: Any) -> float:
        return -abs(self.place - 0.3)

    def ends(self, late: bool) -> tuple[bool, bool]:
        return False, late

    def seen(self) -> Any:
        told = {"place": self.place, "velocity": self.velocity, "time": self.time}
        return {key: np.array([told[key]], np.float32) for key in self.keys}


class PaidForProgress(Odd):
    def paid(self, action: Any) -> float:
        return self.place - self.was


class HiddenVelocity(Odd):
    keys = ("place",)


class HiddenPlace(Odd):
    keys = ("velocity",)


class PaidForTheStateBeforeAndTheAction(Odd):
    def paid(self, action: Any) -> float:
        return -abs(self.was) - 0.1 * float(action[0]) ** 2


class NeverEnds(Odd):
    clock = None


class DrawnLimit(Odd):
    def begin(self) -> None:
        self.limit = int(self.np_random.integers(5, 30))


class TimeIsTold(Odd):
    keys = ("place", "velocity", "time")

    def ends(self, late: bool) -> tuple[bool, bool]:
        return late, False


class FixedLength(Odd):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "fixed_length": True}

    def ends(self, late: bool) -> tuple[bool, bool]:
        return late, False


class Sparse(Odd):
    def paid(self, action: Any) -> float:
        return float(self.place > 1.5)

    def ends(self, late: bool) -> tuple[bool, bool]:
        there = self.place > 1.5
        return there, late and not there


class Noisy(Odd):
    def move(self, action: Any) -> None:
        super().move(action + self.np_random.normal(0, 0.3, 1))


class DiesByChance(Odd):
    def ends(self, late: bool) -> tuple[bool, bool]:
        return bool(self.np_random.random() < 0.1), late


class Grip(Odd):
    """The second entry works in the middle of the line alone."""

    space: ClassVar[Any] = Box(-1, 1, (2,), np.float32)

    def paid(self, action: Any) -> float:
        return float(action[1]) if abs(self.place) < 0.1 else 0.0


class LateByDesign(Odd):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "delay": 1}
    keys = ("velocity",)

    def begin(self) -> None:
        self.pipe = 0.0

    def move(self, action: Any) -> None:
        self.velocity, self.pipe = self.pipe, float(action[0])


class ThreeStepsLate(LateByDesign):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def begin(self) -> None:
        self.pipes = [0.0] * 3

    def move(self, action: Any) -> None:
        self.pipes.append(float(action[0]))
        self.velocity = self.pipes.pop(0)


class Repeats(Odd):
    def __init__(self, action_repeat: int = 2) -> None:
        super().__init__()
        self.action_repeat = action_repeat

    def move(self, action: Any) -> None:
        for _ in range(self.action_repeat):
            super().move(action)


class Bandit(Odd):
    space: ClassVar[Any] = Discrete(3)
    keys = ("place",)
    clock = 1

    def move(self, action: Any) -> None:
        pass

    def paid(self, action: Any) -> float:
        return self.place * (int(action) - 1)

    def ends(self, late: bool) -> tuple[bool, bool]:
        return True, False


class Grid(Odd):
    """Four cells, from any of which a walk begins; the last action of a list does nothing."""

    space: ClassVar[Any] = Discrete(3)
    keys = ("place",)

    def begin(self) -> None:
        self.place = int(self.np_random.integers(4))

    def move(self, action: Any) -> None:
        self.place = int(np.clip(self.place + (-1, 1, 0)[int(action)], 0, 3))


class KeepsAFrame(Odd):
    """The place before is shown on purpose, as stacked frames do."""

    keys = ("stack",)

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Dict(stack=Box(-99, 99, (2,), np.float32))

    def move(self, action: Any) -> None:
        self.old, self.place = self.place, float(np.clip(self.place + 0.1 * float(action[0]), -9, 9))

    def begin(self) -> None:
        self.old = self.place

    def seen(self) -> Any:
        return {"stack": np.array([self.place, self.old], np.float32)}


class CueAtFirst(Odd):
    """What will be paid for is shown in the first frame alone."""

    keys = ("place", "cue")

    def begin(self) -> None:
        self.cue = float(self.np_random.uniform(-1, 1))

    def paid(self, action: Any) -> float:
        return -abs(self.place - self.cue)

    def seen(self) -> Any:
        cue = self.cue if self.time == 0 else 0.0
        return {"place": np.array([self.place], np.float32), "cue": np.array([cue], np.float32)}


class WallsEndIt(Grid):
    """A step against a wall is not taken, and ends the episode."""

    def ends(self, late: bool) -> tuple[bool, bool]:
        return self.place == self.was, late and self.place != self.was


class Throttle(Odd):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "unused_half": True}

    def move(self, action: Any) -> None:
        super().move(np.maximum(action, 0))


class PaidLessAndLess(TimeIsTold):
    def paid(self, action: Any) -> float:
        return 0.8**self.time * super().paid(action)


class FallsFromRest(HiddenVelocity):
    def move(self, action: Any) -> None:
        super().move(0.1 * action - 1)

    def paid(self, action: Any) -> float:
        return self.velocity


ODD = [
    Odd,
    PaidForProgress,
    HiddenVelocity,
    HiddenPlace,
    PaidForTheStateBeforeAndTheAction,
    NeverEnds,
    DrawnLimit,
    TimeIsTold,
    FixedLength,
    Sparse,
    Noisy,
    DiesByChance,
    Grip,
    LateByDesign,
    ThreeStepsLate,
    Repeats,
    Bandit,
    Grid,
    KeepsAFrame,
    CueAtFirst,
    WallsEndIt,
    Throttle,
    PaidLessAndLess,
    FallsFromRest,
]
