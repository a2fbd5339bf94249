"""Jobs of a sweep that are equal up to their seed, and what they come to: tables, a CSV file, a plot."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval, stratified_bootstrap
from wmplay.report.labels import broken, interval, percent
from wmplay.report.plots.figures import panels_of_page
from wmplay.report.style import BLUE, QUIET, drawing
from wmplay.report.tables import Grid
from wmplay.system.files import written_beside

SHARED = "success"  # metrics of this name mean the same in every world
MOST_ROWS = 30  # of a plot: a search has more settings than anybody can read
WIDE = 30  # characters of a line of a setting
NOTE = "Interquartile mean (below 4 seeds: mean) and median, with 95% bootstrap intervals over seeds."


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    directory: str  # within the sweep's
    overrides: tuple[str, ...]  # but for the seed and what all jobs share
    seed: str
    status: str
    metrics: dict[str, Interval]  # over episodes; empty where it was not evaluated

    @property
    def counts(self) -> bool:
        """Whether it is one of a setting's seeds: what is half done has had half of the budget."""
        return self.status == "finished"

    @property
    def setting(self) -> str:
        """What it was run with, in one line."""
        return " ".join(self.overrides) or "defaults"


@dataclass(frozen=True)
class Setting:
    """The jobs that are equal up to their seed; or up to their world, too."""

    setting: str
    seeds: int  # that finished
    metrics: dict[str, Interval]  # interquartile mean over seeds, stratified bootstrap
    medians: dict[str, Interval]  # the same of the median
    worlds: int = 1


def over_seeds(jobs: Sequence[Job]) -> list[Setting]:
    """Each setting with the interquartile mean and the median of each metric, over the jobs that finished."""
    settings = []
    for setting in dict.fromkeys(job.setting for job in jobs):
        same = [job for job in jobs if job.setting == setting and job.counts]
        scores = {
            name: np.array([[job.metrics[name].value] for job in same if name in job.metrics])
            for name in dict.fromkeys(name for job in same for name in job.metrics)
        }
        settings.append(_aggregated(setting, len(same), scores))
    return settings


def over_worlds(jobs: Sequence[Job]) -> list[Setting]:
    """Each setting but for its world, where a sweep has several: success over worlds and seeds together.

    Worlds are the strata of the bootstrap (Agarwal et al. 2021). Seeds that did not finish in every world are
    left out, and so are settings that have none which did.
    """
    by_rest: dict[str, dict[str, dict[str, Job]]] = {}  # {rest: {world: {seed: job}}}
    for job in jobs:
        world = next((text for text in job.overrides if text.startswith("env=")), "")
        rest = " ".join(text for text in job.overrides if text != world) or "defaults"
        by_seed = by_rest.setdefault(rest, {}).setdefault(world, {})
        if job.counts:
            by_seed[job.seed] = job
    worlds = {world for of_rest in by_rest.values() for world in of_rest}
    settings = []
    for rest, of_rest in by_rest.items():
        if len(worlds) < 2 or of_rest.keys() != worlds:
            continue
        seeds = [
            seed for seed in next(iter(of_rest.values())) if all(seed in own for own in of_rest.values())
        ]
        every = [of_rest[world][seed] for world in sorted(worlds) for seed in seeds]
        scores = {
            name: np.array([[of_rest[world][seed].metrics[name].value for world in worlds] for seed in seeds])
            for name in dict.fromkeys(name for job in every for name in job.metrics)
            if name.startswith(SHARED) and all(name in job.metrics for job in every)
        }
        if scores:
            settings.append(_aggregated(rest, len(seeds), scores, len(worlds)))
    return settings


def _aggregated(setting: str, seeds: int, scores: dict[str, Array], worlds: int = 1) -> Setting:
    """A setting from the scores [seeds, worlds] of each metric."""
    metrics = {name: stratified_bootstrap(values) for name, values in scores.items()}
    medians = {name: stratified_bootstrap(values, np.median) for name, values in scores.items()}
    return Setting(setting, seeds, metrics, medians, worlds)


# ---- tables --------------------------------------------------------------------------------------


def wrapped(setting: str) -> str:
    """A setting over several lines, none of which is wide: for the first column of a table."""
    return textwrap.fill(setting, WIDE, break_long_words=False, break_on_hyphens=False)


def cells(metrics: dict[str, Interval], names: Sequence[str]) -> list[str]:
    """The metrics of these names in words; a dash for what is not there."""

    def show(name: str) -> str:
        if name not in metrics:
            return "–"
        return broken(percent(metrics[name]) if name.startswith(SHARED) else interval(metrics[name]))

    return [show(name) for name in names]


def seeds_grid(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    """Two rows for each setting: the interquartile mean and the median."""
    worlds = max(setting.worlds for setting in settings)
    rows = []
    for setting in settings:
        count = f"{setting.worlds} x {setting.seeds}" if worlds > 1 else str(setting.seeds)
        rows.append([wrapped(setting.setting), f"{count}: mean", *cells(setting.metrics, names)])
        rows.append(["", "median", *cells(setting.medians, names)])
    if worlds > 1:
        note = NOTE.replace("over seeds", "over seeds, drawn for each world on its own")
        return Grid("Over worlds and seeds", ["setting", "worlds\nx seeds", *names], rows, note)
    return Grid("Over seeds", ["setting", "seeds", *names], rows, NOTE)


def write_settings(settings: Sequence[Setting], path: Path) -> None:
    """A CSV file with a line for each setting and metric: both aggregates, with their intervals."""
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("", "_low", "_high")
        names = [f"{name}{end}" for name in ("interquartile_mean", "median") for end in ends]
        writer.writerow(["setting", "worlds", "seeds", "metric", *names])
        for setting in settings:
            for metric, mean in setting.metrics.items():
                numbers = [x if math.isfinite(x) else "" for x in (*mean, *setting.medians[metric])]
                writer.writerow([setting.setting, setting.worlds, setting.seeds, metric, *numbers])


# ---- plot ----------------------------------------------------------------------------------------


def settings_plot(settings: Sequence[Setting], jobs: Sequence[Job], names: Sequence[str]) -> Figure | None:
    """A panel for each metric, a row for each setting: its seeds, their interquartile mean and its interval.

    Only of jobs that finished. Where there is one seed of each, the intervals are those over its episodes.
    None where there is nothing to compare, or too much.
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
                if name in job.metrics and several:
                    axes.plot(
                        job.metrics[name].value,
                        rows[job.setting],
                        "o",
                        color=QUIET,
                        alpha=0.45,
                        markersize=3.5,
                    )
            shown = settings if several else jobs
            for each in shown:
                if name in each.metrics:
                    _draw(axes, each.metrics[name], rows[each.setting])
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
