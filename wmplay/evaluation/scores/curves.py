"""Parts of scores: counts, and means by horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta
from torch import Tensor

from wmplay.evaluation.statistics import Interval, mean_intervals

MODEL = "model"  # the name of the model's own most likely future among the predictors
REAL = "real"  # the name of the true futures among what an arbiter judges

Count: TypeAlias = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Curve:
    """A mean over clips at each horizon 1 .. H, with the ends of its 95% t interval."""

    mean: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def over(cls, clips: Tensor) -> Curve:
        """Return the curve of values [clips, H]."""
        mean, low, high = mean_intervals(clips.double().cpu().numpy())
        return cls(mean.tolist(), low.tolist(), high.tolist())

    def at(self, horizon: int) -> Interval:
        """Return the interval at a horizon, counted from 1."""
        return Interval(self.mean[horizon - 1], self.low[horizon - 1], self.high[horizon - 1])


def with_ends(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return intervals as metrics: ``<name>``, ``<name>_low``, ``<name>_high`` of each."""
    return {
        f"{name}{end}": number
        for name, interval in intervals.items()
        for end, number in zip(("", "_low", "_high"), interval, strict=True)
    }


def selected_horizons(horizon: int) -> list[int]:
    """Return the horizons that tables and film strips show: 1, 2, 5, 10, 20, 50, ... and the last."""
    steps = [m * 10**e for e in range(len(str(horizon))) for m in (1, 2, 5)]
    return sorted({*(h for h in steps if h < horizon), horizon})
