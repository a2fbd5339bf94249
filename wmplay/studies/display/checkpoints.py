"""The tables of checkpoints: which number tells how well a run acts with its model, and a recommendation."""

from __future__ import annotations

import math

from wmplay.report.numbers import broken, counted, interval, number, percent
from wmplay.report.tables import Grid
from wmplay.studies.findings.checkpoints import Judged, Tells

ABOUT = (
    "Among checkpoints of one run (by arm) and of all arms with one seed (pooled); means over seeds with 95% "
    "t intervals. rho: Spearman's rank correlation with the metric, signed so that 1 is right. Wrong: how "
    "often the number prefers the worse of two checkpoints, 50% by chance. Regret: how much worse the "
    "checkpoint with the best number is than the best one. Sorted by wrong, pooled; numbers that not all "
    "arms have are last."
)


def checkpoint_grid(judged: Judged) -> Grid:
    """Return the table of a world: a row for each number."""
    unknown = math.inf
    names = sorted(
        {name for each in judged.arms.values() for name in each},
        key=lambda name: (judged.pooled[name].wrong.value if name in judged.pooled else unknown, name),
    )
    rows = []
    for name in names:
        pooled = judged.pooled.get(name)
        rows.append(
            [
                name,
                *(_rho(each.get(name)) for each in judged.arms.values()),
                _rho(pooled),
                "–" if pooled is None else broken(percent(pooled.wrong)),
                "–" if pooled is None else broken(interval(pooled.regret)),
            ]
        )
    columns = ["number", *(f"rho, {arm}" for arm in judged.arms), "rho, pooled", "wrong", "regret"]
    of_each = counted(judged.checkpoints, "checkpoint")
    random = f"A checkpoint at random has a regret of {number(judged.chance.value)}."
    note = f"{of_each} of each run. {random} {ABOUT}"
    return Grid(f"Checkpoints in {judged.world}", columns, rows, note)


def _rho(tells: Tells | None) -> str:
    return "–" if tells is None else broken(interval(tells.correlation))


def recommendation(judged: Judged) -> str:
    """Return what the numbers allow to recommend for a world, in a sentence or two."""
    if judged.best is None:
        return f"{judged.world}: no number is known of all arms; take the last checkpoint."
    found = (
        f"of two checkpoints of a run, {judged.best} prefers the worse in {percent(judged.wrong)} of the "
        f"cases, and the age in {percent(judged.age)} (p {number(judged.p)} that the best of all numbers is "
        "no better than the age or than a coin)"
    )
    if not judged.recommended:
        return f"{judged.world}: take the last checkpoint; no number is shown to tell more: {found}."
    return f"{judged.world}: choose a checkpoint by {judged.best}: {found}."
