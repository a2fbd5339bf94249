"""Aggregation over several runs: jobs of a sweep that are equal up to their seed, or up to their seed and
world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval, stratified_bootstrap

SHARED = "success"  # a metric of this name means the same in every world


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    directory: str  # within the sweep's directory
    overrides: tuple[str, ...]  # without the seed and those that all jobs share
    seed: str
    status: str
    results: dict[str, Interval]  # over episodes; empty if the job was not evaluated

    @property
    def counts(self) -> bool:
        """True if the job finished; unfinished jobs have had less of the budget."""
        return self.status == "finished"

    @property
    def setting(self) -> str:
        """The job's overrides in one line."""
        return " ".join(self.overrides) or "defaults"


@dataclass(frozen=True)
class Setting:
    """The jobs that are equal up to their seed, or up to their seed and world."""

    setting: str
    seeds: int  # that finished
    results: dict[str, Interval]  # interquartile mean over seeds, stratified bootstrap
    medians: dict[str, Interval]  # as ``results``, with the median
    worlds: int = 1


def over_seeds(jobs: Sequence[Job]) -> list[Setting]:
    """Return each setting with the interquartile mean and median of each metric over its finished jobs."""
    settings = []
    for setting in dict.fromkeys(job.setting for job in jobs):
        same = [job for job in jobs if job.setting == setting and job.counts]
        scores = {
            name: np.array([[job.results[name].value] for job in same if name in job.results])
            for name in dict.fromkeys(name for job in same for name in job.results)
        }
        settings.append(_aggregated(setting, len(same), scores))
    return settings


def over_worlds(jobs: Sequence[Job]) -> list[Setting]:
    """Return the settings of a sweep over several worlds: success over worlds and seeds together.

    Worlds are the strata of the bootstrap (Agarwal et al. 2021). A seed counts if it finished in every world;
    a setting without such a seed is left out.
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
            name: np.array([[of_rest[world][seed].results[name].value for world in worlds] for seed in seeds])
            for name in dict.fromkeys(name for job in every for name in job.results)
            if name.startswith(SHARED) and all(name in job.results for job in every)
        }
        if scores:
            settings.append(_aggregated(rest, len(seeds), scores, len(worlds)))
    return settings


def _aggregated(setting: str, seeds: int, scores: dict[str, Array], worlds: int = 1) -> Setting:
    """Return a setting, given the scores [seeds, worlds] of each metric."""
    metrics = {name: stratified_bootstrap(values) for name, values in scores.items()}
    medians = {name: stratified_bootstrap(values, np.median) for name, values in scores.items()}
    return Setting(setting, seeds, metrics, medians, worlds)
