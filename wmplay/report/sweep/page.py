"""A sweep at a glance: a row for each job, and one for each setting over its seeds."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from wmplay.config.composing import plain
from wmplay.errors import RunError, WmplayError
from wmplay.evaluation.scores import Evaluation
from wmplay.report.labels import counted, percent
from wmplay.report.markup import REPORT_FILE, Html, Part, Picture, write_page
from wmplay.report.plots.figures import png
from wmplay.report.record import Record, read_record
from wmplay.report.sweep.quality import Point, measured, quality_plot
from wmplay.report.sweep.seeds import (
    Job,
    Setting,
    cells,
    over_seeds,
    over_worlds,
    seeds_grid,
    settings_plot,
    wrapped,
    write_settings,
)
from wmplay.report.tables import Grid, as_rich, headline
from wmplay.runs.directory import RunDirectory
from wmplay.runs.sweep_directory import SweepDirectory, alike, canonical
from wmplay.system.files import check_links, written_beside
from wmplay.system.progress import terminal

CSV_FILE = "sweep.csv"
SETTINGS_FILE = "settings.csv"
LEFT_COLUMNS = 24  # characters of seed, status and the space around them
METRIC_COLUMN = 19
PAGE_COLUMNS = 110  # characters that fit beside each other on the page
JOBS = "Jobs"
NO_SETTINGS = ("seed", "name", "dir", "run")  # keys of a config in which runs of one setting may differ

SEEDS = (
    "Each dot is one seed; the mark is their interquartile mean (below 4 seeds: mean), the bar its 95% "
    "bootstrap interval over seeds."
)
EPISODES = "One seed of each: the bars are 95% intervals over its episodes, and say nothing of other seeds."
QUALITY = (
    "Each point is one evaluation of one run. Spearman's rank correlation, from five runs on with a 95% "
    "bootstrap interval, in which whole runs are drawn, since evaluations of one run are alike."
)


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep, and its settings."""

    path: Path
    common: str  # the overrides that all jobs share; they are in no setting
    jobs: list[Job]
    settings: list[Setting]
    across: list[Setting]  # over worlds and seeds; empty where there is one world
    points: list[Point]  # every evaluation of every job
    damaged: dict[str, str]  # {directory: why} of the jobs that cannot be read

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of their first use."""
        return list(dict.fromkeys(name for job in self.jobs for name in job.metrics))


def summarise_sweep(sweep_dir: Path) -> Sweep:
    """Reads the jobs of a sweep: every directory in it that holds a run, or why there is none.

    Those that cannot be read are ``damaged``; the others are not held up by them.

    Raises:
        RunError: if there are none.
    """
    sweep = SweepDirectory(sweep_dir)
    records: list[Record] = []
    stillborn: dict[Path, list[str]] = {}
    damaged: dict[str, str] = {}
    for path in sweep.begun():
        try:
            if (path / "run.json").exists():
                records.append(_read(path))
            else:
                stillborn[path] = sweep.failed_with(path)
        except WmplayError as error:
            damaged[str(path.relative_to(sweep_dir))] = str(error)
    if not records and not stillborn and not damaged:
        raise RunError(f"{sweep_dir} has no runs in it: expected directories with a run.json")
    records.sort(key=lambda record: str(record.info.get("started", "not yet")))  # words come after dates
    every = alike([*(record.info.get("overrides", []) for record in records), *stillborn.values()])
    common = [text for text in every[0] if all(text in other for other in every)] if len(every) > 1 else []
    common = [text for text in common if not text.startswith("seed=")]
    own = [_own(texts, common) for texts in every]
    told_apart = _told_apart(records, own[: len(records)])
    jobs = [_job(record, sweep, texts) for record, texts in zip(records, told_apart, strict=True)]
    lines = {job.directory: record.metrics for job, record in zip(jobs, records, strict=True)}
    points = measured(lines, {job.directory: job.setting for job in jobs})
    for (path, texts), rest in zip(stillborn.items(), own[len(records) :], strict=True):
        seed = next((text.partition("=")[2] for text in texts if text.startswith("seed=")), "")
        jobs.append(Job(path.name, rest, seed, "failed", {}))
    order = {setting: i for i, setting in enumerate(dict.fromkeys(job.setting for job in jobs))}
    jobs.sort(key=lambda job: (order[job.setting], int(job.seed) if job.seed.isdecimal() else 0))
    settings, across = over_seeds(jobs), over_worlds(jobs)
    jobs += [Job(name, (name,), "", "damaged", {}) for name in damaged]
    return Sweep(sweep_dir, " ".join(common), jobs, settings, across, points, damaged)


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Prints the tables of a sweep, and why jobs are damaged."""
    console = console or terminal()
    if sweep.common:
        console.print(Text(f"all jobs: {sweep.common}", style="dim"))
    for grid in sweep_grids(sweep, console.width):
        console.print(as_rich(grid))
    for why in sweep.damaged.values():
        console.print(Text(f"damaged: {why}", style="yellow"), soft_wrap=True)


def write_sweep(sweep: Sweep) -> Path:
    """Writes CSV files of a sweep and ``report.html`` into its directory; returns the page.

    Raises:
        RunError: for a link in the directory that leads out of it.
        WriteError: no space, no permission.
    """
    check_links(sweep.path, RunError)
    write_csv(sweep, sweep.path / CSV_FILE)
    write_settings([*sweep.settings, *sweep.across], sweep.path / SETTINGS_FILE)
    return write_sweep_report(sweep, sweep.path)


def _read(path: Path) -> Record:
    """What is on disk of a job. Raises RunError or ConfigError where it is damaged."""
    record = read_record(path)
    alike([record.info.get("overrides", [])])
    if record.config:
        RunDirectory(path).config()
    return record


def write_sweep_report(sweep: Sweep, sweep_dir: Path) -> Path:
    """Builds ``report.html`` in a sweep's directory: its tables, and success against model quality."""
    grids = sorted(sweep_grids(sweep, PAGE_COLUMNS), key=lambda grid: grid.title == JOBS)
    compared = settings_plot(sweep.settings, sweep.jobs, sweep.metrics)
    several = any(setting.seeds > 1 for setting in sweep.settings)
    at_a_glance = (
        [] if compared is None else [Picture("settings.png", png(compared), SEEDS if several else EPISODES)]
    )
    scatter = quality_plot(sweep.points)
    sections: dict[str, Sequence[Part]] = {
        "At a glance": at_a_glance,
        "Results": grids,
        "Each run": _links(sweep, sweep_dir),
        "Does a better model make a better policy": []
        if scatter is None
        else [Picture("quality.png", png(scatter), QUALITY)],
    }
    return write_page(
        sweep_dir,
        sections,
        kicker="wmplay sweep",
        title=sweep_dir.resolve().name,
        verdict=_verdict(sweep),
        note=f"all runs: {sweep.common}" if sweep.common else "",
    )


def _links(sweep: Sweep, sweep_dir: Path) -> list[Html]:
    """The runs' own reports, of those that have one."""
    pages = {f"{job.setting} seed {job.seed}": Path(job.directory, REPORT_FILE) for job in sweep.jobs}
    items = [
        f'<li><a href="{escape(page.as_posix())}">{escape(name)}</a></li>'
        for name, page in pages.items()
        if (sweep_dir / page).exists()
    ]
    return [Html(f"<ul>{''.join(items)}</ul>\n")] if items else []


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
    left = max(len(line) for job in sweep.jobs for line in wrapped(job.setting).split("\n")) + LEFT_COLUMNS
    each = max(1, (width - left) // METRIC_COLUMN)
    names = sweep.metrics
    chunks = [names[i : i + each] for i in range(0, len(names), each)] or [[]]
    grids = [_jobs_grid(sweep, chunk) for chunk in chunks]
    if any(setting.seeds > 1 for setting in sweep.settings):
        grids += [seeds_grid(sweep.settings, chunk) for chunk in chunks]
    if sweep.across:
        grids.append(seeds_grid(sweep.across, list(sweep.across[0].metrics)))
    return grids


def _jobs_grid(sweep: Sweep, names: Sequence[str]) -> Grid:
    return Grid(
        JOBS,
        ["setting", "seed", "status", *names],
        [[wrapped(job.setting), job.seed, job.status, *cells(job.metrics, names)] for job in sweep.jobs],
        "95% intervals over the episodes of each job.",
    )


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


def _own(overrides: Sequence[str], common: Sequence[str]) -> tuple[str, ...]:
    """A job's overrides but for the seed and what all jobs share."""
    return tuple(text for text in overrides if text not in common and not text.startswith("seed="))


def _told_apart(records: Sequence[Record], own: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Each run's own overrides, and what else its config has in which those of equal ones differ.

    A default that was changed while a sweep grew, in a plugin or by another version, makes another setting.
    """
    found = list(own)
    for texts in dict.fromkeys(own):
        same = [i for i, other in enumerate(own) if other == texts and records[i].config]
        if len({_but_for_the_seed(records[i].config) for i in same}) < 2:
            continue
        configs = [_by_key(plain(RunDirectory(records[i].path).config())) for i in same]
        keys = dict.fromkeys(key for config in configs for key in config)
        differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
        for i, config in zip(same, configs, strict=True):
            found[i] = (*texts, *(f"{key}={config[key]}" for key in differing if key in config))
    return found


def _but_for_the_seed(config: str) -> str:
    return "\n".join(line for line in config.splitlines() if line.partition(":")[0] not in NO_SETTINGS)


def _by_key(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of a config by their keys with dots."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _by_key(value, f"{prefix}{key}.")
        elif prefix or key not in NO_SETTINGS:
            found[f"{prefix}{key}"] = str(canonical(value))
    return found


def _job(record: Record, sweep: SweepDirectory, own: tuple[str, ...]) -> Job:
    status = str(record.info.get("status", ""))
    return Job(
        directory=str(record.path.relative_to(sweep.path)),
        overrides=own,
        seed=str(record.info.get("seed", "")),
        status=sweep.state(record.path) if status in ("running", "stopped") else status,
        metrics=headline(record.evaluation or Evaluation()),
    )
