"""The plan of a study: its jobs, the hours that they take on this machine, and its power."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.text import Text

from wmplay.report.numbers import counted, duration, number
from wmplay.report.tables import Grid
from wmplay.report.terminal import Fitted
from wmplay.studies.conduct import directory_of
from wmplay.studies.directory import StudyDirectory
from wmplay.studies.display.tables import without_world
from wmplay.studies.jobs import Plan, StudyJob, plan_jobs, real_steps
from wmplay.studies.question import Question, read
from wmplay.studies.results import Results, read_results
from wmplay.studies.statistics import FEWEST_SEEDS, Variances, level, power, seeds_needed, variances
from wmplay.studies.work import estimate

MORE_EPISODES = (1, 2, 4)  # times those of the study
POWER = 0.8


def plan(file: str | Path, *, dir: str | Path | None = None, pilot: str | Path | None = None) -> Group:
    """Return what a study takes, as text and tables for a terminal; nothing is written.

    Args:
        file: of the study, or the name of a built-in one.
        dir: of the study; None is ``runs/studies/<name>``.
        pilot: the directory of a study with the same arms and worlds whose variance is used; None is the
            study's own, as far as it has run.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    asked = read(file)
    study = StudyDirectory(directory_of(asked, dir))
    planned = plan_jobs(asked)
    grid, seconds = _jobs_grid(planned, study)
    jobs = {job.directory for job in (*planned.policies, *planned.jobs)}
    states = Counter(study.jobs.state(study.jobs.path / job) for job in jobs)
    done = f", {states['finished']} of them finished" if states["finished"] else ""
    later = " without the rankings" if planned.policies else ""
    head = f"{asked.name}: {counted(len(jobs), 'job')}{done}; {duration(seconds)} left on this machine{later}"
    parts: list[Any] = [Text(head), Fitted(grid)]
    for world, manifest in planned.manifests.items():
        left_out = f", {counted(manifest.solved, 'solved start')} left out" if manifest.has_goal else ""
        starts = counted(len(manifest.seeds), "start")
        parts.append(Text(f"manifest of {world}: {manifest.digest}, {starts}{left_out}", style="dim"))
    from_study = StudyDirectory(Path(pilot)) if pilot is not None else study
    results = read_results(asked, from_study) if from_study.exists or pilot is not None else None
    if len(asked.all_seeds) < FEWEST_SEEDS:
        seeds = counted(len(asked.all_seeds), "seed")
        parts.append(Text(f"{seeds}: the report cannot decide anything below {FEWEST_SEEDS} seeds"))
    return Group(*parts, *(Text(line) for line in power_lines(asked, results)))


def _jobs_grid(planned: Plan, study: StudyDirectory) -> tuple[Grid, float]:
    """Return a table of the arms, and the seconds of all unfinished jobs."""
    rows, total = [], 0.0

    def left(jobs: Sequence[StudyJob]) -> int:
        return sum(not study.jobs.is_finished(study.jobs.path / job.directory) for job in jobs)

    for world in planned.question.worlds:
        made = [job for job in planned.policies if job.world == world]
        takes = [(job, estimate(job.settings)[0]) for job in made]
        total += sum(seconds * left([job]) for job, seconds in takes)
        if made:
            each = duration(sum(seconds for _, seconds in takes) / len(made))
            rows.append([f"{len(made)} policies to rank", world, f"{len(made)}", "–", "–", "–", each])
    told: set[str] = set()
    for job in planned.jobs:
        if job.seed != planned.question.all_seeds[0] or job.directory in told:
            continue
        seconds, weights = estimate(job.settings)
        every = [job] if job.ceiling else planned.of(job.arm, job.world)
        told |= {each.directory for each in every}
        total += seconds * left(every)
        steps, updates = real_steps(job.settings), job.settings.fit.steps * job.settings.iterations
        rows.append(
            [
                f"{job.arm}{' (ceiling)' if job.ceiling else ''}",
                job.world,
                f"{len(every)}",
                "–" if steps is None else f"{steps:,}",
                "–" if job.settings.fit.minutes is not None else f"{updates:,}",
                f"{weights:,}",
                duration(seconds),
            ]
        )
    columns = ["arm", "world", "jobs", "real\nsteps", "updates", "weights", "each\ntakes"]
    return without_world(Grid("Jobs", columns, rows), planned.question), total


def power_lines(asked: Question, results: Results | None) -> list[str]:
    """Return lines on the seeds and episodes that the study needs, from a pilot's variance."""
    found = _pilot(asked, results)
    if found is None:
        return ["power: unknown without a pilot: run two seeds or more first, or give pilot=<dir of a study>"]
    pairs, pilot = found
    alpha, planned = level(len(asked.stops)), len(asked.all_seeds)
    lines = [f"power, from {counted(pairs, 'paired run')} (level {number(alpha)} of each look):"]
    wanted = asked.difference
    if wanted is None:
        deviation = pilot.deviation(asked.episodes)
        steps = [deviation * 2 ** (i / 8) / 16 for i in range(80)]
        least = next((x for x in steps if planned > 1 and power(x, deviation, planned, alpha) >= POWER), None)
        least_text = "nothing of a known size" if least is None else f"a difference of {number(least)}"
        lines.append(f"  {planned} seeds find {least_text} with a probability of {POWER:.0%}")
        return lines
    for times in MORE_EPISODES:
        deviation = pilot.deviation(times * asked.episodes)
        seeds = seeds_needed(wanted, deviation, POWER, alpha)
        chance = power(wanted, deviation, planned, alpha) if planned > 1 else 0.0
        needs = "more than 1,000 seeds" if seeds is None else counted(seeds, "seed")
        lines.append(
            f"  {times * asked.episodes} episodes: a difference of {number(wanted)} needs {needs}; the "
            f"{planned} planned find it with a probability of {chance:.0%}"
        )
    return lines


def _pilot(asked: Question, results: Results | None) -> tuple[int, Variances] | None:
    """Return the number of paired runs of a pilot, and the largest variances of all pairs and worlds."""
    if results is None:
        return None
    found: list[tuple[int, Variances]] = []
    for world in asked.worlds:
        for first, second in asked.pairs:
            seeds, scores = results.table([first, second], [world])
            if len(seeds) > 1:
                runs = [*results.of(first, world), *results.of(second, world)]
                within = [run.variance for run in runs if np.isfinite(run.variance)]
                differences = scores[0, :, 0] - scores[1, :, 0]
                found.append((len(seeds), variances(differences, within, asked.episodes)))
    return max(found, key=lambda each: each[1].deviation(asked.episodes), default=None)
