"""The overview of a sweep: a row for each job, and one for each setting over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from rich.console import Console
from rich.text import Text

from wmplay.errors import RunError
from wmplay.report.markup import REPORT_FILE, Html, Part, Picture, write_page
from wmplay.report.numbers import counted, percent
from wmplay.report.plots.figures import png
from wmplay.report.sweep.comparison import cells, seeds_grid, settings_plot, wrapped
from wmplay.report.sweep.csv_files import write_csv, write_settings
from wmplay.report.sweep.quality import quality_plot
from wmplay.report.sweep.scaling import scaling_curves, scaling_grid, scaling_plot
from wmplay.report.sweep.summary import Sweep
from wmplay.report.tables import Grid
from wmplay.report.terminal import Fitted
from wmplay.system.files import check_links
from wmplay.system.progress import terminal

CSV_FILE = "sweep.csv"
SETTINGS_FILE = "settings.csv"
LEFT_COLUMNS = 24  # characters of seed, status and the space around them
METRIC_COLUMN = 19
PAGE_COLUMNS = 110  # characters that fit in a row of the page
JOBS = "Jobs"

SEEDS = (
    "Each dot is one seed; the mark is the interquartile mean of the seeds (below 4 seeds: mean), the bar "
    "its 95% bootstrap interval over seeds."
)
EPISODES = "One seed of each: the bars are 95% intervals over its episodes, and do not cover other seeds."
SCALING = (
    "Small dots are seeds, large ones their geometric mean, lines the power laws; both axes are logarithmic."
)
QUALITY = (
    "Each point is one evaluation of one run. Spearman's rank correlation has a 95% bootstrap interval from "
    "five runs on. The bootstrap draws whole runs, because evaluations of one run are alike."
)


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print the tables of a sweep, and the reasons of damaged jobs."""
    console = console or terminal()
    if sweep.common:
        console.print(Text(f"all jobs: {sweep.common}", style="dim"))
    for grid in sweep_grids(sweep, console.width):
        console.print(Fitted(grid))
    if curves := scaling_curves(sweep.jobs):
        console.print(Fitted(scaling_grid(curves)))
    for why in sweep.damaged.values():
        console.print(Text(f"damaged: {why}", style="yellow"), soft_wrap=True)


def write_sweep(sweep: Sweep) -> Path:
    """Write the CSV files and ``report.html`` of a sweep into its directory; return the page's path.

    Raises:
        RunError: for a link in the directory that leads out of it.
        WriteError: no space, no permission.
    """
    check_links(sweep.path, RunError)
    write_csv(sweep, sweep.path / CSV_FILE)
    write_settings([*sweep.settings, *sweep.across], sweep.path / SETTINGS_FILE)
    return write_sweep_report(sweep, sweep.path)


def write_sweep_report(sweep: Sweep, sweep_dir: Path) -> Path:
    """Build ``report.html`` in a sweep's directory: its tables, and success against model quality."""
    grids = sorted(sweep_grids(sweep, PAGE_COLUMNS), key=lambda grid: grid.title == JOBS)
    compared = settings_plot(sweep.settings, sweep.jobs, sweep.names)
    several = any(setting.seeds > 1 for setting in sweep.settings)
    at_a_glance = (
        [] if compared is None else [Picture("settings.png", png(compared), SEEDS if several else EPISODES)]
    )
    scatter = quality_plot(sweep.points)
    sections: dict[str, Sequence[Part]] = {
        "At a glance": at_a_glance,
        "Results": grids,
        "Scaling": _scaling(sweep),
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


def _scaling(sweep: Sweep) -> list[Part]:
    """Return the power laws of the sweep's numbers, if it has enough values of one."""
    curves = scaling_curves(sweep.jobs)
    return (
        [scaling_grid(curves), Picture("scaling.png", png(scaling_plot(curves)), SCALING)] if curves else []
    )


def _links(sweep: Sweep, sweep_dir: Path) -> list[Html]:
    """Return links to the runs' own reports that exist."""
    pages = {f"{job.setting} seed {job.seed}": Path(job.directory, REPORT_FILE) for job in sweep.jobs}
    items = [
        f'<li><a href="{escape(page.as_posix())}">{escape(name)}</a></li>'
        for name, page in pages.items()
        if (sweep_dir / page).exists()
    ]
    return [Html(f"<ul>{''.join(items)}</ul>\n")] if items else []


def _verdict(sweep: Sweep) -> str:
    """Return the number of runs, and the success of each setting over its seeds, in words."""
    found = [
        f"{setting.setting}: success {percent(setting.results['success'])}, {counted(setting.seeds, 'seed')}"
        for setting in sweep.settings
        if "success" in setting.results
    ]
    runs = f"{counted(len(sweep.jobs), 'run')} of {counted(len(sweep.settings), 'setting')}"
    return f"{runs}: {'; '.join(found)}." if found else f"{runs}."


def sweep_grids(sweep: Sweep, width: int) -> list[Grid]:
    """Return tables of jobs, and of settings with several seeds; each with the metrics that fit the width."""
    left = max(len(line) for job in sweep.jobs for line in wrapped(job.setting).split("\n")) + LEFT_COLUMNS
    each = max(1, (width - left) // METRIC_COLUMN)
    names = sweep.names
    chunks = [names[i : i + each] for i in range(0, len(names), each)] or [[]]
    grids = [_jobs_grid(sweep, chunk) for chunk in chunks]
    if any(setting.seeds > 1 for setting in sweep.settings):
        grids += [seeds_grid(sweep.settings, chunk) for chunk in chunks]
    if sweep.across:
        grids.append(seeds_grid(sweep.across, list(sweep.across[0].results)))
    return grids


def _jobs_grid(sweep: Sweep, names: Sequence[str]) -> Grid:
    return Grid(
        JOBS,
        ["setting", "seed", "status", *names],
        [[wrapped(job.setting), job.seed, job.status, *cells(job.results, names)] for job in sweep.jobs],
        "95% intervals over the episodes of each job.",
    )
