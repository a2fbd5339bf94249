"""Rankings of policies by a study's models, and practice in these models: what holds in the real world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.ranking import Ranking, load_ranking, rank_run
from wmplay.evaluation.ranking.rank_run import OWN, RANDOM, Acted
from wmplay.evaluation.statistics import Interval, mean_interval
from wmplay.studies.directory import StudyDirectory
from wmplay.studies.jobs import Plan
from wmplay.studies.results import Result, Results
from wmplay.studies.statistics import FEWEST_SEEDS

LEAST = 3  # checkpoints of a practice
IMAGINED, REAL = "learned_sampled", "policy_sampled"  # scores of a policy that practises in the model


def rank_policies(planned: Plan, study: StudyDirectory, seeds: Sequence[int]) -> None:
    """Rank the study's policies by the model of each finished run of these seeds that has no ranking of them.

    Raises:
        WmplayError: for a policy that cannot act in an arm's world; one line.
    """
    asked = planned.question
    for world in asked.worlds if asked.policies else ():
        sources = {
            job.arm: str(study.jobs.path / job.directory) for job in planned.policies if job.world == world
        }
        wanted = {OWN: OWN, RANDOM: RANDOM, **sources}
        acted: dict[str, Acted] = {}
        for job in planned.jobs:
            path = study.jobs.path / job.directory
            if job.world != world or job.ceiling or job.seed not in seeds or not study.jobs.is_finished(path):
                continue
            known = load_ranking(path)
            if known is None or list(known.policies) != list(wanted):
                rank_run(path, wanted, imagined=asked.imagined, acted=acted)


@dataclass(frozen=True)
class Ranked:
    """The rankings by the models of an arm in a world; means over seeds.

    Attributes:
        arm, world: its names.
        policies: their number.
        kendall: rank correlation of the policies' means in the model and in reality.
        horizons: steps.
        reversed: share of reversed pairs at each horizon.
        optimism: imagined minus real, mean over policies.
        width: of the estimates' intervals, as a part of those of the real episodes alone.
        same_time: the same as a part of real episodes that take the time of imagination.
    """

    arm: str
    world: str
    policies: int
    kendall: Interval
    horizons: list[int]
    reversed: list[Interval]
    optimism: Interval
    width: Interval
    same_time: Interval


def ranked(results: Results) -> list[Ranked]:
    """Return the rankings of each arm and world that have some."""
    found = []
    for world in results.question.worlds:
        for arm in results.question.arms:
            given = [run.ranking for run in results.of(arm, world) if run.ranking is not None]
            if given:
                found.append(_ranked(arm, world, given))
    return found


def _ranked(arm: str, world: str, given: Sequence[Ranking]) -> Ranked:
    def over(values: Sequence[float]) -> Interval:
        return _known(np.array(values, float))

    horizons = [int(h) for h in given[0].horizons]
    return Ranked(
        arm,
        world,
        len(given[0].policies),
        over([each.kendall.value for each in given]),
        horizons,
        [over([each.reversed.mean[i] for each in given]) for i in range(len(horizons))],
        over([_mean(each, "optimism") for each in given]),
        over([_mean(each, "width") / _mean(each, "real_width") for each in given]),
        over([_mean(each, "width") / _mean(each, "same_time_width") for each in given]),
    )


def _mean(ranking: Ranking, name: str) -> float:
    """Return the mean over policies of one of their numbers."""
    values = [vars(each)[name] for each in ranking.policies.values()]
    return float(np.mean([x.value if isinstance(x, Interval) else x for x in values]))


def _known(values: Array) -> Interval:
    return mean_interval(values[np.isfinite(values)])


# ---- exploitability --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Practised:
    """The score of a policy in the model that it practises in, and in the real world, along its practice.

    Attributes:
        arm, world: its names.
        number: that is compared: "success" or "return".
        seeds: number of runs.
        imagined, real: at each checkpoint, means over seeds.
        peak: index of the checkpoint with the best real mean.
        lost: real score at the peak of the other seeds minus that at the end; paired by seed.
        gained: imagined score at the end minus that at the same checkpoint.
        exploited: whether the real score falls while the imagined one rises or stays; None if it is open.
    """

    arm: str
    world: str
    number: str
    seeds: int
    imagined: list[Interval]
    real: list[Interval]
    peak: int
    lost: Interval
    gained: Interval
    exploited: bool | None


def practised(results: Results) -> list[Practised]:
    """Return the practice of each arm and world whose runs have three checkpoints of it or more."""
    found = []
    for world in results.question.worlds:
        for arm in results.question.arms:
            for number in ("success", "return"):
                curves = [_curves(run, number) for run in results.of(arm, world)]
                lengths = {each.shape[1] for each in curves}
                if len(lengths) == 1 and max(lengths) >= LEAST:
                    found.append(_practised(arm, world, number, np.stack(curves)))
                    break
    return found


def _curves(run: Result, number: str) -> Array:
    """Return a run's imagined and real scores [2, checkpoints], empty if it has none."""
    first, second = f"{IMAGINED}/{number}", f"{REAL}/{number}"
    known = [each.numbers for each in run.evaluations if {first, second} <= each.numbers.keys()]
    return np.array([[each[first], each[second]] for each in known]).reshape(-1, 2).T


def _practised(arm: str, world: str, number: str, curves: Array) -> Practised:
    """Return the practice of curves [seeds, 2, checkpoints].

    A peak is high by luck: that of each seed is looked up where the mean of the other seeds has it.
    """
    imagined, real = curves[:, 0], curves[:, 1]
    seeds = len(real)
    others = real if seeds < 2 else (real.sum(0) - real) / (seeds - 1)
    peaks = others.argmax(1)[:, None]
    lost = mean_interval(np.take_along_axis(real, peaks, 1)[:, 0] - real[:, -1])
    gained = mean_interval(imagined[:, -1] - np.take_along_axis(imagined, peaks, 1)[:, 0])
    return Practised(
        arm,
        world,
        number,
        seeds,
        [mean_interval(each) for each in imagined.T],
        [mean_interval(each) for each in real.T],
        int(real.mean(0).argmax()),
        lost,
        gained,
        _exploited(seeds, lost, gained),
    )


def _exploited(seeds: int, lost: Interval, gained: Interval) -> bool | None:
    """Return whether practice in the model costs real success; None where the intervals allow both."""
    if seeds < FEWEST_SEEDS:
        return None
    if lost.low > 0:
        return True if gained.low >= 0 else None
    return False if lost.high <= 0 else None
