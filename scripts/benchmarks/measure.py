"""Timing of several ways to do the same work in turns, and comparison of the times with bars."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Side:
    """One way to do the work: ``ready()`` prepares a repeat and returns the function to be timed."""

    name: str
    ready: Callable[[], Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """The times of a side, repeat by repeat."""

    name: str
    seconds: Sequence[float]

    @property
    def best(self) -> float:
        """The shortest time."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median time."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Check:
    """A figure and the bar that it must reach."""

    what: str
    value: float
    bar: float
    unit: str
    at_least: bool = False
    shortest: float | None = None  # the same figure from the shortest times

    @property
    def met(self) -> bool:
        """True if the bar is reached."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar


@dataclass(frozen=True)
class Result:
    """The findings of a benchmark."""

    title: str
    compared: str  # what was compared with what, and how
    timings: Sequence[Timing]
    work: int  # how much of ``unit`` one repeat does
    unit: str
    checks: Sequence[Check]
    notes: Sequence[str] = field(default=())


def take_turns(
    sides: Sequence[Side],
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time the sides A B A B ..., so that a disturbance affects all alike; the first turns do not count."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(warm_up + repeats):
        for side, times in zip(sides, seconds, strict=True):
            work = side.ready()
            begin = clock()
            work()
            elapsed = clock() - begin
            if turn >= warm_up:
                times.append(elapsed)
    return [Timing(side.name, times) for side, times in zip(sides, seconds, strict=True)]


def time_ratio(what: str, ours: Timing, other: Timing, at_most: float) -> Check:
    """Return our time over the other's, as the median of the turns' ratios.

    Both sides of a turn run at the same speed of the machine, however its speed drifts.
    """
    ratio = statistics.median(a / b for a, b in zip(ours.seconds, other.seconds, strict=True))
    return Check(what, ratio, at_most, " x the time", shortest=ours.best / other.best)


def speed_ratio(what: str, ours: Timing, other: Timing, at_least: float) -> Check:
    """Return our speed over the other's, in the same way."""
    ratio = statistics.median(b / a for a, b in zip(ours.seconds, other.seconds, strict=True))
    return Check(what, ratio, at_least, " x the speed", at_least=True, shortest=other.best / ours.best)
