"""Scores of policies, and of a run by the value of a factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wmplay.evaluation.observation_metrics import Metric
from wmplay.evaluation.scores.curves import Count, Curve, with_ends
from wmplay.evaluation.statistics import Interval


@dataclass(frozen=True)
class PolicyScore:
    """A policy's episodes: means with t intervals, success with a Wilson interval, and the raw numbers."""

    episodes: Count
    seed: Count  # of the episodes: scores with equal seeds are paired
    mean_return: Interval
    mean_length: Interval
    success: Interval | None  # None without a goal
    returns: list[float]  # of each episode: the plain sum of rewards
    lengths: list[Count]
    successes: list[bool] | None
    # of an evaluation by a manifest, in which episodes go on at the goal:
    manifest: str | None = None  # its digest
    success_at_end: Interval | None = None
    held: list[bool] | None = None  # at the goal after the last step
    # where the env reports a cost in its info:
    mean_cost: Interval | None = None
    costs: list[float] | None = None  # the sum of each episode

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``return``, ``return_low``, ``return_high``, ``success``, ..."""
        named = {"return": self.mean_return, "length": self.mean_length}
        if self.success is not None:
            named["success"] = self.success
        if self.mean_cost is not None:
            named["cost"] = self.mean_cost
        if self.success_at_end is not None:
            named["success_at_end"] = self.success_at_end
        return {"episodes": float(self.episodes), **with_ends(named)}


@dataclass(frozen=True)
class FactorSweep:
    """Scores by the value of one factor; all other factors are as the run has them."""

    values: list[float]
    trained: list[float]  # [low, high] of the run itself
    model: dict[str, Curve]  # by value: the error at the last horizon of each key
    copy_last: dict[str, Curve]
    policies: dict[str, Curve]  # by value: "policy", "random"


@dataclass(frozen=True)
class FactorScore:
    """Predictions and policies at several values of factors, inside and outside of the run's own range."""

    horizon: Count
    seed: Count
    metrics: dict[str, Metric]  # of each key
    measure: Literal["success", "return"] | None  # of policies
    sweeps: dict[str, FactorSweep]  # by factor

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``gravity=5/lcd/iou@20``, ``gravity=5/success``."""
        found = {}
        for name, sweep in self.sweeps.items():
            for i, value in enumerate(sweep.values):
                for key, curve in sweep.model.items():
                    found[f"{name}={value:g}/{key}/{self.metrics[key]}@{self.horizon}"] = curve.mean[i]
                if "policy" in sweep.policies:
                    found[f"{name}={value:g}/{self.measure}"] = sweep.policies["policy"].mean[i]
        return found
