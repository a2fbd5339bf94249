"""The tables of rankings, and of practice in the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wmplay.evaluation.statistics import Interval
from wmplay.report.numbers import broken, interval, percent
from wmplay.report.tables import Grid
from wmplay.studies.findings.ranking import Practised, Ranked

RANKED = (
    "Kendall's tau of the policies' means in the model and in the real world. Reversed: share of the pairs "
    "of policies that differ in the real world whose order is the other one in the model, after so many "
    "steps; 50% is chance. Optimism: imagined minus real, mean over policies. Width: of the "
    "prediction-powered interval of a policy's real value, as a part of that of the real episodes alone; by "
    "time: of real episodes alone that take the time of imagination. Means over seeds with 95% t intervals."
)
PRACTICE = (
    "Means over seeds. Lost: the real score at the best checkpoint (the best of the other seeds, as a peak "
    "is high by luck) minus that at the end. Gained: the imagined score at the end minus that at the same "
    "checkpoint; 95% t intervals, paired by seed. Exploited: the real score falls, the imagined one does not."
)


def ranking_grid(ranked: Sequence[Ranked]) -> Grid:
    """Return the table of rankings: a row for each arm and world."""
    horizons = list(ranked[0].horizons)
    shown = [h for h in horizons if h in (1, 10, 50, horizons[-1])]
    rows = []
    for each in ranked:
        shares = dict(zip(each.horizons, each.reversed, strict=True))
        rows.append(
            [
                each.arm,
                each.world,
                broken(interval(each.kendall)),
                *(broken(percent(shares[h])) if h in shares else "–" for h in shown),
                broken(interval(each.optimism)),
                broken(percent(each.width)),
                broken(percent(each.same_time)),
            ]
        )
    columns = ["model of", "world", "tau", *(f"reversed @{h}" for h in shown)]
    columns += ["optimism", "width", "by time"]
    return Grid(f"{ranked[0].policies} policies, ranked by each model", columns, rows, RANKED)


def practice_grid(practised: Sequence[Practised]) -> Grid:
    """Return the table of practice: a row for each arm and world."""
    answers = {True: "exploited", False: "not exploited", None: "cannot tell"}
    rows = [
        [
            each.arm,
            each.world,
            f"{each.seeds}",
            *(" ".join(_plain(point, each) for point in curve) for curve in (each.imagined, each.real)),
            broken(_score(each.lost, each)),
            broken(_score(each.gained, each)),
            answers[each.exploited],
        ]
        for each in practised
    ]
    columns = ["arm", "world", "seeds", "imagined, by checkpoint", "real", "lost", "gained", "verdict"]
    return Grid("Practice in the model", columns, rows, PRACTICE)


def _score(x: Interval, practised: Practised) -> str:
    return percent(x) if practised.number == "success" else interval(x)


def _plain(x: Interval, practised: Practised) -> str:
    return _score(Interval(x.value, math.nan, math.nan), practised)
