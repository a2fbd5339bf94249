"""A sweep at a glance: a row for each job, and one for each setting over its seeds."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from wmplay.errors import RunError
from wmplay.files import written_beside
from wmplay.intervals import Interval, stratified_bootstrap
from wmplay.report.figures import png
from wmplay.report.markup import Part, Picture, write_page
from wmplay.report.quality import Point, measured, quality_plot
from wmplay.report.record import Record, read_record
from wmplay.report.tables import Grid, as_rich, headline
from wmplay.report.words import broken, counted, interval, percent
from wmplay.scores import Evaluation

CSV_FILE = "sweep.csv"
LEFT_COLUMNS = 24  # characters of seed, status and the space around them
METRIC_COLUMN = 19
PAGE_COLUMNS = 110  # characters that fit beside each other on the page
JOBS = "Jobs"


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    directory: str  # within the sweep's
    setting: str  # its overrides but for the seed and what all jobs share
    seed: str
    status: str
    metrics: dict[str, Interval]  # over episodes; empty where it was not evaluated


@dataclass(frozen=True)
class Setting:
    """The jobs that are equal up to their seed."""

    setting: str
    seeds: int
    metrics: dict[str, Interval]  # interquartile mean over seeds, stratified bootstrap
    medians: dict[str, Interval]  # the same of the median


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep, and its settings."""

    common: str  # the overrides that all jobs share; they are in no setting
    jobs: list[Job]
    settings: list[Setting]
    points: list[Point]  # every evaluation of every job

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of their first use."""
        return list(dict.fromkeys(name for job in self.jobs for name in job.metrics))


def summarise_sweep(sweep_dir: Path) -> Sweep:
    """Reads the jobs of a sweep: every directory in it that holds a run.

    Raises:
        RunError: if there are none.
    """
    records = [read_record(path.parent) for path in sorted(sweep_dir.rglob("run.json"))]
    if not records:
        raise RunError(f"{sweep_dir} has no runs in it: expected directories with a run.json")
    all_overrides = [_overrides(record) for record in records]
    common = [
        o for o in all_overrides[0] if len(records) > 1 and all(o in others for others in all_overrides)
    ]
    jobs = [_job(record, sweep_dir, common) for record in records]
    by_setting: dict[str, list[Job]] = {}
    for job in jobs:
        by_setting.setdefault(job.setting, []).append(job)
    settings = [_over_seeds(setting, same) for setting, same in by_setting.items()]
    lines = {job.directory: record.metrics for job, record in zip(jobs, records, strict=True)}
    points = measured(lines, {job.directory: job.setting for job in jobs})
    return Sweep(" ".join(common), jobs, settings, points)


def print_sweep(sweep_dir: Path, console: Console | None = None) -> Sweep:
    """Prints the tables of a sweep, and writes ``sweep.csv`` and ``report.html`` into its directory.

    Raises:
        RunError: if there are no runs in it.
    """
    sweep = summarise_sweep(sweep_dir)
    console = console or Console()
    if sweep.common:
        console.print(Text(f"all jobs: {sweep.common}", style="dim"))
    for grid in sweep_grids(sweep, console.width):
        console.print(as_rich(grid))
    write_csv(sweep, sweep_dir / CSV_FILE)
    console.print(Text(f"report: {write_sweep_report(sweep, sweep_dir)}"), soft_wrap=True)
    return sweep


def write_sweep_report(sweep: Sweep, sweep_dir: Path) -> Path:
    """Builds ``report.html`` in a sweep's directory: its tables, and success against model quality."""
    grids = sorted(sweep_grids(sweep, PAGE_COLUMNS), key=lambda grid: grid.title == JOBS)
    figure = quality_plot(sweep.points)
    caption = (
        "Each point is one evaluation of one run. Spearman's rank correlation, from five runs on with a 95% "
        "bootstrap interval, in which whole runs are drawn, since evaluations of one run are alike."
    )
    plots = [] if figure is None else [Picture("quality.png", png(figure), caption)]
    sections: dict[str, Sequence[Part]] = {
        "Results": grids,
        "Does a better model make a better policy": plots,
    }
    return write_page(
        sweep_dir,
        sections,
        kicker="wmplay sweep",
        title=sweep_dir.resolve().name,
        verdict=_verdict(sweep),
        note=f"all runs: {sweep.common}" if sweep.common else "",
    )


def _verdict(sweep: Sweep) -> str:
    """How many runs there are, and the success of each setting over its seeds."""
    found = [
        f"{setting.setting}: success {percent(setting.metrics['success'])}, {counted(setting.seeds, 'seed')}"
        for setting in sweep.settings
        if "success" in setting.metrics
    ]
    runs = f"{counted(len(sweep.jobs), 'run')} of {counted(len(sweep.settings), 'setting')}"
    return f"{runs}: {'; '.join(found)}." if found else f"{runs}."


def sweep_grids(sweep: Sweep, width: int) -> list[Grid]:
    """Tables of jobs, and of settings where one has several seeds; each with the metrics that fit."""
    left = max(len(job.setting) for job in sweep.jobs) + LEFT_COLUMNS
    each = max(1, (width - left) // METRIC_COLUMN)
    names = sweep.metrics
    chunks = [names[i : i + each] for i in range(0, len(names), each)] or [[]]
    grids = [_jobs_grid(sweep, chunk) for chunk in chunks]
    if any(setting.seeds > 1 for setting in sweep.settings):
        grids += [_seeds_grid(sweep, chunk) for chunk in chunks]
    return grids


def _jobs_grid(sweep: Sweep, names: Sequence[str]) -> Grid:
    return Grid(
        JOBS,
        ["setting", "seed", "status", *names],
        [[job.setting, job.seed, job.status, *_cells(job.metrics, names)] for job in sweep.jobs],
        "95% intervals over the episodes of each job.",
    )


def _seeds_grid(sweep: Sweep, names: Sequence[str]) -> Grid:
    rows = []
    for setting in sweep.settings:
        rows.append([setting.setting, f"{setting.seeds}: mean", *_cells(setting.metrics, names)])
        rows.append(["", "median", *_cells(setting.medians, names)])
    note = "Interquartile mean (below 4 seeds: mean) and median, with 95% bootstrap intervals over seeds."
    return Grid("Over seeds", ["setting", "seeds", *names], rows, note)


def write_csv(sweep: Sweep, path: Path) -> None:
    """One line for each job: directory, setting, seed, status, and each metric with its interval."""
    ends = [f"{name}{end}" for name in sweep.metrics for end in ("", "_low", "_high")]
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["directory", "setting", "seed", "status", *ends])
        for job in sweep.jobs:
            numbers = [x for name in sweep.metrics for x in job.metrics.get(name, (math.nan,) * 3)]
            known = [x if math.isfinite(x) else "" for x in numbers]
            writer.writerow([job.directory, job.setting, job.seed, job.status, *known])


def _overrides(record: Record) -> list[str]:
    """A job's overrides but for the seed."""
    return [str(o) for o in record.info.get("overrides", []) if not str(o).startswith("seed=")]


def _job(record: Record, sweep_dir: Path, common: Sequence[str]) -> Job:
    return Job(
        directory=str(record.path.relative_to(sweep_dir)),
        setting=" ".join(o for o in _overrides(record) if o not in common) or "defaults",
        seed=str(record.info.get("seed", "")),
        status=str(record.info.get("status", "")),
        metrics=headline(record.evaluation or Evaluation()),
    )


def _over_seeds(setting: str, jobs: Sequence[Job]) -> Setting:
    """The interquartile mean and the median of each metric, over the jobs that have it."""
    metrics, medians = {}, {}
    for name in dict.fromkeys(name for job in jobs for name in job.metrics):
        values = np.array([job.metrics[name].value for job in jobs if name in job.metrics])
        metrics[name] = stratified_bootstrap(values[:, None])
        medians[name] = stratified_bootstrap(values[:, None], lambda scores: float(np.median(scores)))
    return Setting(setting, len(jobs), metrics, medians)


def _cells(metrics: dict[str, Interval], names: Sequence[str]) -> list[str]:
    def show(name: str) -> str:
        if name not in metrics:
            return "–"
        return broken(percent(metrics[name]) if name.startswith("success") else interval(metrics[name]))

    return [show(name) for name in names]
