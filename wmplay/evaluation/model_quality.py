"""Model quality against success: the evaluations of runs, and the rank correlation of the two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wmplay.evaluation.statistics import Interval, rank_correlation


@dataclass(frozen=True)
class Point:
    """One evaluation: its run, its label, all logged numbers, and the updates of the model until then."""

    run: str
    label: str
    numbers: Mapping[str, float]
    updates: float = math.nan


def measured(
    runs: Mapping[str, Iterable[Mapping[str, Any]]], labels: Mapping[str, str] | None = None
) -> list[Point]:
    """Return the evaluations of runs, from the lines of their ``metrics.jsonl``.

    Args:
        runs: {run: lines}.
        labels: {run: label}; runs of one label share a colour.
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
            updates = float(line.get("step", math.nan))
            points.append(Point(run, (labels or {}).get(run, ""), numbers, updates))
    return points


def correlation(points: Sequence[Point], quality: str, outcome: str) -> Interval:
    """Return Spearman's rank correlation over points that have both, with a bootstrap interval.

    The bootstrap draws runs, because evaluations of one run are alike, or evaluations if all are of one run.
    """
    runs = [point.run for point in points]
    groups = runs if len(set(runs)) > 1 else list(map(str, range(len(points))))
    x, y = (np.array([point.numbers[name] for point in points]) for name in (quality, outcome))
    return rank_correlation(x, y, groups)
