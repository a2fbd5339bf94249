"""The factors of a world, and their ranges as a config gives them.

    factors: {gravity: [5, 15], mass: [0.5, 2], delay: 2, shown: [gravity]}

A range is drawn from uniformly in each episode, a number holds in all of them. The names in ``shown`` are
observed, under the key ``factors``; all others are hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from wmplay.envs.lcd.factors import changes
from wmplay.envs.lcd.worlds.world import Point, World
from wmplay.errors import ConfigError, UnknownName
from wmplay.system.arrays import Array

SHOWN = "shown"

Change: TypeAlias = Callable[[World, float], World]


@dataclass(frozen=True)
class Factor:
    """A property that can differ between episodes, and the values that it can have."""

    low: float
    high: float
    change: Change | None = None  # of the world; None: the factor acts on what is seen or done
    of_robots: bool = False
    whole: bool = False  # a whole number


FACTORS: Mapping[str, Factor] = {
    "gravity": Factor(0.0, 30.0, changes.gravity),  # m/s^2, downwards
    "friction": Factor(0.0, 5.0, changes.friction),  # times each moving body's own
    "restitution": Factor(0.0, 1.0, changes.restitution),  # of each moving body
    "mass": Factor(0.1, 10.0, changes.mass),  # times each moving body's own
    "size": Factor(0.25, 2.0, changes.size),  # times each moving body's own, at the same density
    "motor": Factor(0.1, 4.0, changes.motor, of_robots=True),  # times each motor's speed and torque
    "delay": Factor(0.0, 10.0, of_robots=True, whole=True),  # steps until an action is executed
    "sticky": Factor(0.0, 0.95, of_robots=True),  # probability that the last action is repeated instead
    "noise": Factor(0.0, 1.0),  # standard deviation of what is added to the vectors that are observed
    "flips": Factor(0.0, 0.5),  # probability of each pixel of ``lcd`` to be inverted
    "hue": Factor(0.0, 1.0, changes.hue),  # turns of the colours, which only ``render`` shows
}
TIMES = ("friction", "mass", "size", "motor")  # factors that multiply what the world has
OF_CHANCE = ("sticky", "noise", "flips")  # whose consequences are random in each step


@dataclass(frozen=True)
class Factors:
    """The ranges of a world's factors, and the names of those that are shown."""

    ranges: Mapping[str, Point]
    shown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def are_known(self) -> bool:
        """True if all values, and their consequences, are the same in every episode."""
        fixed = all(low == high for low, high in self.ranges.values())
        return fixed and not any(self.ranges.get(name, (0, 0))[1] for name in OF_CHANCE)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The bounds [shown] of the values that are shown: of the factors, not of their ranges."""
        factors = [FACTORS[name] for name in self.shown]
        return (
            np.array([each.low for each in factors], np.float32),
            np.array([each.high for each in factors], np.float32),
        )

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Return a value of each factor."""
        return {name: _drawn(name, *ends, rng) for name, ends in self.ranges.items()}

    def varied(self, world: World, values: Mapping[str, float]) -> World:
        """Return a world as it is at these values of its factors."""
        for name, value in values.items():
            change = FACTORS[name].change
            if change is not None:
                world = change(world, value)
        return world

    def as_config(self) -> dict[str, Any]:
        """Return the factors as a config gives them, each as a range."""
        shown = {SHOWN: list(self.shown)} if self.shown else {}
        return {**{name: list(ends) for name, ends in self.ranges.items()}, **shown}


def read_factors(given: Mapping[str, Any], world: World) -> Factors:
    """Return the factors that a config gives to a world.

    Raises:
        UnknownName, ConfigError: for a factor that does not exist, that the world cannot have, or whose range
            is empty or outside of its limits.
    """
    names = [name for name in given if name != SHOWN]
    for name in names:
        if name not in FACTORS:
            raise UnknownName("factor", str(name), FACTORS)
        if FACTORS[name].of_robots and not world.motors:
            raise ConfigError(
                f"factor {name} is a robot's, and this world has none",
                got=name,
                expected=f"one of {', '.join(possible(world))}",
            )
    factors = Factors({name: _range(name, given[name]) for name in names}, _shown(given, names))
    for ends in _extremes(factors.ranges):
        factors.varied(world, ends)  # a body that is too large has no room
    return factors


def value_of(name: str, world: World) -> Point:
    """Return the range [low, high] of a factor's values in a world without factors."""
    if name == "gravity":
        return -world.gravity[1], -world.gravity[1]
    if name == "restitution":
        found = [body.restitution for body in world.bodies]
        return min(found), max(found)
    own = 1.0 if name in TIMES else 0.0
    return own, own


def possible(world: World) -> Iterator[str]:
    """Yield the names of the factors that a world can have."""
    return (name for name, factor in FACTORS.items() if world.motors or not factor.of_robots)


def _extremes(ranges: Mapping[str, Point]) -> Iterator[dict[str, float]]:
    for end in (0, 1):
        yield {name: ends[end] for name, ends in ranges.items()}


def _range(name: str, value: Any) -> Point:
    factor = FACTORS[name]
    kind = "whole numbers" if factor.whole else "numbers"
    ends = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    numbers = [each for each in ends if isinstance(each, (int, float)) and not isinstance(each, bool)]
    if len(ends) != 2 or len(numbers) != 2 or not all(math.isfinite(each) for each in numbers):
        raise ConfigError(
            f"factor {name} is {value!r}", got=value, expected=f"a number, or a range [low, high] of {kind}"
        )
    low, high = map(float, numbers)
    if low > high:
        raise ConfigError(f"factor {name} has the empty range {value!r}", got=value, expected="[low, high]")
    whole = low.is_integer() and high.is_integer()
    if low < factor.low or high > factor.high or (factor.whole and not whole):
        raise ConfigError(
            f"factor {name} is {value!r}",
            got=value,
            expected=f"{kind} from {factor.low:g} to {factor.high:g}",
        )
    return low, high


def _shown(given: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    shown = given.get(SHOWN, ())
    if isinstance(shown, str) or not isinstance(shown, Sequence):
        raise ConfigError(f"factors.shown is {shown!r}", got=shown, expected="a list of factors")
    for name in shown:
        if name not in names:
            raise UnknownName("factor to be shown", str(name), names, advice="give it a value or a range")
    return tuple(name for name in names if name in shown)


def _drawn(name: str, low: float, high: float, rng: np.random.Generator) -> float:
    if FACTORS[name].whole:
        return float(rng.integers(int(low), int(high), endpoint=True))
    return float(rng.uniform(low, high))
