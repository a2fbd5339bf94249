"""The CSV files of a sweep: a line for each job, and for each setting and metric."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from wmplay.evaluation.seeds import Setting
from wmplay.report.sweep.summary import Sweep
from wmplay.system.files import written_beside


def write_csv(sweep: Sweep, path: Path) -> None:
    """Write a line for each job: directory, setting, seed, status, and each metric with its interval."""
    ends = [f"{name}{end}" for name in sweep.names for end in ("", "_low", "_high")]
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["directory", "setting", "seed", "status", *ends])
        for job in sweep.jobs:
            numbers = [x for name in sweep.names for x in job.results.get(name, (math.nan,) * 3)]
            known = [x if math.isfinite(x) else "" for x in numbers]
            writer.writerow([job.directory, job.setting, job.seed, job.status, *known])


def write_settings(settings: Sequence[Setting], path: Path) -> None:
    """Write a line for each setting and metric: both aggregates, with their intervals."""
    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = ("", "_low", "_high")
        names = [f"{name}{end}" for name in ("interquartile_mean", "median") for end in ends]
        writer.writerow(["setting", "worlds", "seeds", "metric", *names])
        for setting in settings:
            for metric, mean in setting.results.items():
                numbers = [x if math.isfinite(x) else "" for x in (*mean, *setting.medians[metric])]
                writer.writerow([setting.setting, setting.worlds, setting.seeds, metric, *numbers])
