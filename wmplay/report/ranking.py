"""The tables of a ranking: policies in the model and in the real world, and their order by horizon."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.text import Text

from wmplay.evaluation.ranking import Ranking
from wmplay.evaluation.statistics import Interval
from wmplay.report.numbers import broken, interval, number, percent
from wmplay.report.tables import Grid
from wmplay.report.terminal import Fitted

POLICIES = "Optimism: imagined minus real, from the same starts. 95% intervals over episodes."
ESTIMATES = (
    "The real value by prediction-powered inference from all real and imagined episodes, with the weight of "
    "the imagined ones. Widths of 95% intervals: of the estimate; of the real episodes alone; and of real "
    "episodes alone, had the time of imagination bought more of them."
)
ORDER = (
    "Share of the pairs of policies that differ in the real world whose order is the other one in the model; "
    "50% is chance. Intervals are over starts, for these policies."
)


def ranking_table(ranking: Ranking) -> Group:
    """Return the text that ``wmplay eval RUN policies=...`` prints."""
    correlations = f"Kendall's tau {interval(ranking.kendall)}, Spearman's rho {interval(ranking.spearman)}"
    show: Callable[[Interval], str] = percent if ranking.measure == "success" else interval
    grids = [_policies(ranking, show), _estimates(ranking, show), _order(ranking)]
    return Group(Text(correlations, style="bold"), *map(Fitted, grids))


def _policies(ranking: Ranking, show: Callable[[Interval], str]) -> Grid:
    rows = [
        [name, *(broken(show(each)) for each in (rank.real, rank.imagined, rank.optimism))]
        for name, rank in ranking.policies.items()
    ]
    numbers = f"{ranking.real_episodes:,} real, {ranking.imagined_episodes:,} imagined episodes"
    title = f"{ranking.measure.capitalize()} of each policy ({numbers})"
    return Grid(title, ["policy", "real", "imagined", "optimism"], rows, POLICIES)


def _estimates(ranking: Ranking, show: Callable[[Interval], str]) -> Grid:
    rows = [
        [
            name,
            broken(show(rank.estimate)),
            f"{rank.weight:.2f}",
            *(_size(width, ranking) for width in (rank.width, rank.real_width, rank.same_time_width)),
        ]
        for name, rank in ranking.policies.items()
    ]
    columns = ["policy", "estimate", "weight", "width", "real alone", "same time"]
    return Grid(f"Real {ranking.measure}, estimated", columns, rows, ESTIMATES)


def _order(ranking: Ranking) -> Grid:
    shares = map(Interval, ranking.reversed.mean, ranking.reversed.low, ranking.reversed.high)
    rows = [[str(steps), percent(share)] for steps, share in zip(ranking.horizons, shares, strict=True)]
    return Grid("Reversed pairs by horizon", ["steps", "reversed"], rows, ORDER)


def _size(width: float, ranking: Ranking) -> str:
    return f"{100 * width:.1f}%" if ranking.measure == "success" else number(width)
