"""Comparison of a sweep's settings over seeds: tables and a plot."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wmplay.evaluation.seeds import SHARED, Job, Setting
from wmplay.evaluation.statistics import Interval
from wmplay.report.colours import BLUE, QUIET
from wmplay.report.numbers import broken, interval, percent
from wmplay.report.plots.figures import panels_of_page
from wmplay.report.style import drawing
from wmplay.report.tables import Grid

MOST_ROWS = 30  # of a plot: a search has more settings than a reader can compare
WIDE = 30  # characters of a line of a setting
NOTE = "Interquartile mean (below 4 seeds: mean) and median, with 95% bootstrap intervals over seeds."


def wrapped(setting: str) -> str:
    """Return a setting on several short lines, for the first column of a table."""
    return textwrap.fill(setting, WIDE, break_long_words=False, break_on_hyphens=False)


def cells(metrics: dict[str, Interval], names: Sequence[str]) -> list[str]:
    """Return the metrics of these names in words; a dash for missing ones."""

    def show(name: str) -> str:
        if name not in metrics:
            return "–"
        return broken(percent(metrics[name]) if name.startswith(SHARED) else interval(metrics[name]))

    return [show(name) for name in names]


def seeds_grid(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    """Return a table with two rows for each setting: the interquartile mean and the median."""
    worlds = max(setting.worlds for setting in settings)
    rows = []
    for setting in settings:
        count = f"{setting.worlds} x {setting.seeds}" if worlds > 1 else str(setting.seeds)
        rows.append([wrapped(setting.setting), f"{count}: mean", *cells(setting.results, names)])
        rows.append(["", "median", *cells(setting.medians, names)])
    if worlds > 1:
        note = NOTE.replace("over seeds", "over seeds, drawn for each world on its own")
        return Grid("Over worlds and seeds", ["setting", "worlds\nx seeds", *names], rows, note)
    return Grid("Over seeds", ["setting", "seeds", *names], rows, NOTE)


def settings_plot(settings: Sequence[Setting], jobs: Sequence[Job], names: Sequence[str]) -> Figure | None:
    """Plot a panel for each metric, with a row for each setting: its seeds, interquartile mean and interval.

    Only finished jobs are plotted. With one seed of each setting, the intervals are those over its episodes.
    None is returned if settings are too few to compare, or too many.
    """
    jobs = [job for job in jobs if job.counts]
    if not jobs or not names or not 2 <= len(settings) <= MOST_ROWS:
        return None
    rows = {setting.setting: len(settings) - 1 - i for i, setting in enumerate(settings)}
    several = any(setting.seeds > 1 for setting in settings)
    with drawing():
        lines = sum(wrapped(text).count("\n") + 1.5 for text in rows)
        figure, panels = panels_of_page(len(names), columns=3, height=0.75 + 0.16 * lines)
        for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
            for job in jobs:
                if name in job.results and several:
                    axes.plot(
                        job.results[name].value,
                        rows[job.setting],
                        "o",
                        color=QUIET,
                        alpha=0.45,
                        markersize=3.5,
                    )
            shown = settings if several else jobs
            for each in shown:
                if name in each.results:
                    _draw(axes, each.results[name], rows[each.setting])
            axes.set_title(name)
            axes.set_ylim(-0.6, len(settings) - 0.4)
            axes.set_yticks(list(rows.values()), [wrapped(text) for text in rows] if i % 3 == 0 else [])
            axes.xaxis.set_major_locator(MaxNLocator(4))
            if name.startswith(SHARED):
                axes.set_xlim(-0.03, 1.03)
    return figure


def _draw(axes: Axes, found: Interval, row: int) -> None:
    if math.isfinite(found.low):
        axes.plot(
            [found.low, found.high], [row, row], color=BLUE, linewidth=2.6, alpha=0.45, solid_capstyle="butt"
        )
    axes.plot(found.value, row, "|", color=BLUE, markersize=11, markeredgewidth=2.2)
