"""A sweep on disk: its jobs, its settings over seeds, and the jobs that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmplay.errors import RunError, WmplayError
from wmplay.evaluation.model_quality import Point, measured
from wmplay.evaluation.scores import Evaluation
from wmplay.evaluation.seeds import Job, Setting, over_seeds, over_worlds
from wmplay.report.run_files import RunFiles, read_run_files
from wmplay.report.tables import headline
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.sweep_directory import SweepDirectory, alike, canonical

NO_SETTINGS = ("seed", "name", "dir", "run")  # keys of a config in which runs of one setting may differ


@dataclass(frozen=True)
class Sweep:
    """All jobs of a sweep, and its settings."""

    path: Path
    common: str  # the overrides that all jobs share, which are in no setting
    jobs: list[Job]
    settings: list[Setting]
    across: list[Setting]  # over worlds and seeds; empty for one world
    points: list[Point]  # every evaluation of every job
    damaged: dict[str, str]  # {directory: reason} of the jobs that cannot be read

    @property
    def names(self) -> list[str]:
        """The names of all metrics, in the order of their first use."""
        return list(dict.fromkeys(name for job in self.jobs for name in job.results))


def summarise_sweep(sweep_dir: Path) -> Sweep:
    """Read the jobs of a sweep: every directory in it that holds a run, or a reason why it holds none.

    Jobs that cannot be read are listed in ``damaged``.

    Raises:
        RunError: if the sweep has no job.
    """
    sweep = SweepDirectory(sweep_dir)
    records: list[RunFiles] = []
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
        raise RunError(f"{sweep_dir} has no runs in it: expected directories with a run.json", got=sweep_dir)
    records.sort(key=lambda run: str(run.info.get("started", "not yet")))  # words sort after dates
    every = alike([*(run.info.get("overrides", []) for run in records), *stillborn.values()])
    common = [text for text in every[0] if all(text in other for other in every)] if len(every) > 1 else []
    common = [text for text in common if not text.startswith("seed=")]
    own = [_own(texts, common) for texts in every]
    distinguished = _distinguished(records, own[: len(records)])
    jobs = [_job(run, sweep, texts) for run, texts in zip(records, distinguished, strict=True)]
    lines = {job.directory: run.log for job, run in zip(jobs, records, strict=True)}
    points = measured(lines, {job.directory: job.setting for job in jobs})
    for (path, texts), rest in zip(stillborn.items(), own[len(records) :], strict=True):
        seed = next((text.partition("=")[2] for text in texts if text.startswith("seed=")), "")
        jobs.append(Job(path.name, rest, seed, "failed", {}))
    order = {setting: i for i, setting in enumerate(dict.fromkeys(job.setting for job in jobs))}
    jobs.sort(key=lambda job: (order[job.setting], int(job.seed) if job.seed.isdecimal() else 0))
    settings, across = over_seeds(jobs), over_worlds(jobs)
    jobs += [Job(name, (name,), "", "damaged", {}) for name in damaged]
    return Sweep(sweep_dir, " ".join(common), jobs, settings, across, points, damaged)


def _read(path: Path) -> RunFiles:
    """Return the files of a job. Raise RunError or ConfigError if one is damaged."""
    run = read_run_files(path)
    alike([run.info.get("overrides", [])])
    if run.config:
        RunDirectory(path).config()
    return run


def _own(overrides: Sequence[str], common: Sequence[str]) -> tuple[str, ...]:
    """Return a job's overrides without the seed and without those that all jobs share."""
    return tuple(text for text in overrides if text not in common and not text.startswith("seed="))


def _distinguished(records: Sequence[RunFiles], own: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return each run's own overrides, and the settings in which runs with equal overrides differ.

    A default that changed while a sweep grew, in a plugin or a new version, makes another setting.
    """
    found = list(own)
    for texts in dict.fromkeys(own):
        same = [i for i, other in enumerate(own) if other == texts and records[i].config]
        if len({_but_for_the_seed(records[i].config) for i in same}) < 2:
            continue
        configs = [_by_key(RunDirectory(records[i].path).config()) for i in same]
        keys = dict.fromkeys(key for config in configs for key in config)
        differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
        for i, config in zip(same, configs, strict=True):
            found[i] = (*texts, *(f"{key}={config[key]}" for key in differing if key in config))
    return found


def _but_for_the_seed(config: str) -> str:
    return "\n".join(line for line in config.splitlines() if line.partition(":")[0] not in NO_SETTINGS)


def _by_key(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values of a config by their keys with dots."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _by_key(value, f"{prefix}{key}.")
        elif prefix or key not in NO_SETTINGS:
            found[f"{prefix}{key}"] = str(canonical(value))
    return found


def _job(run: RunFiles, sweep: SweepDirectory, own: tuple[str, ...]) -> Job:
    status = str(run.info.get("status", ""))
    return Job(
        directory=str(run.path.relative_to(sweep.path)),
        overrides=own,
        seed=str(run.info.get("seed", "")),
        status=sweep.state(run.path) if status in ("running", "stopped") else status,
        results=headline(run.evaluation or Evaluation()),
    )
