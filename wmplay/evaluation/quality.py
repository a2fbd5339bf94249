"""Model quality against success: the evaluations of runs, and how well one orders the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplay.evaluation.statistics import Interval, rank_correlation


@dataclass(frozen=True)
class Point:
    """One evaluation: the run that it is of, what to call it, and all numbers that were logged."""

    run: str
    label: str
    numbers: Mapping[str, float]


def measured(
    runs: Mapping[str, Iterable[Mapping[str, Any]]], labels: Mapping[str, str] | None = None
) -> list[Point]:
    """The evaluations of runs, from the lines of their ``metrics.jsonl``.

    Args:
        runs: {run: lines}.
        labels: {run: what to call it}; runs of one label share a colour.
    """
    points = []
    for run, lines in runs.items():
        evaluations = {line.get("iteration"): line for line in lines if line.get("phase") == "evaluate"}
        for line in evaluations.values():
            numbers = {
                name: float(value)
                for name, value in line.items()
                if "/" in name and isinstance(value, int | float) and math.isfinite(value)
            }
            points.append(Point(run, (labels or {}).get(run, ""), numbers))
    return points


def correlation(points: Sequence[Point], quality: str, outcome: str) -> Interval:
    """Spearman's rank correlation over points that have both, with a bootstrap interval.

    Runs are drawn where there are several, since evaluations of one run are alike; else its evaluations.
    """
    runs = [point.run for point in points]
    groups = runs if len(set(runs)) > 1 else list(map(str, range(len(points))))
    x, y = (np.array([point.numbers[name] for point in points]) for name in (quality, outcome))
    return rank_correlation(x, y, groups)
