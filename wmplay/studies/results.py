"""The results of a study's runs, read from their directories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wmplay.contracts import Array
from wmplay.errors import RunError, WmplayError, suggestion
from wmplay.evaluation.files import load_evaluation
from wmplay.evaluation.model_quality import Point, measured
from wmplay.evaluation.ranking import Ranking, load_ranking
from wmplay.evaluation.scores import Evaluation
from wmplay.evaluation.statistics import Interval
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.disk.metrics_file import read_metrics
from wmplay.studies.directory import Place, StudyDirectory
from wmplay.studies.question import POLICY_SCORES, Question

RANDOM = "random"  # the score of the floor


@dataclass(frozen=True)
class Result:
    """The numbers of one run; NaN where it has none.

    Attributes:
        place: of the run.
        status: "finished", "failed", ..., "missing".
        problem: the reason why it does not count, or "".
        value: the metric.
        low, high: ends of its interval over episodes.
        floor: the metric of the random policy.
        variance: of the metric's single episodes.
        real_steps, updates: what it took to learn.
        seconds: of the whole run.
        manifest: digest of the starts that it was scored on.
        evaluations: along the run.
        ranking: of the study's policies by the run's model.
    """

    place: Place
    status: str
    problem: str = ""
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    floor: float = math.nan
    variance: float = math.nan
    real_steps: float = math.nan
    updates: float = math.nan
    seconds: float = math.nan
    manifest: str = ""
    evaluations: Sequence[Point] = ()
    ranking: Ranking | None = None

    @property
    def counts(self) -> bool:
        """True if the run finished and has the metric."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Results:
    """The results of all runs that a question asks for, in the order of arms, worlds and seeds."""

    question: Question
    runs: list[Result]
    ceilings: list[Result]

    def of(self, arm: str, world: str) -> list[Result]:
        """Return the results of an arm in a world that count, by seed."""
        return [run for run in self.runs if (run.place.arm, run.place.world) == (arm, world) and run.counts]

    def ceiling(self, arm: str, world: str) -> Interval | None:
        """Return the result of the arm's planner on the true dynamics; None if it has none."""
        for run in self.ceilings:
            if (run.place.arm, run.place.world) == (arm, world) and run.counts:
                return Interval(run.value, run.low, run.high)
        return None

    def floor(self, world: str) -> float:
        """Return the score of the random policy in a world, NaN without one."""
        found = [run.floor for run in (*self.runs, *self.ceilings) if run.place.world == world]
        return next((floor for floor in found if math.isfinite(floor)), math.nan)

    def table(self, arms: Sequence[str], worlds: Sequence[str]) -> tuple[list[int], Array]:
        """Return the seeds that count for all arms in all worlds, and scores [arms, seeds, worlds]."""
        values = {
            (run.place.arm, run.place.world, run.place.seed): run.value for run in self.runs if run.counts
        }
        seeds = [
            seed
            for seed in self.question.all_seeds
            if all((arm, world, seed) in values for arm in arms for world in worlds)
        ]
        scores = [[[values[arm, world, seed] for world in worlds] for seed in seeds] for arm in arms]
        return seeds, np.array(scores).reshape(len(arms), len(seeds), len(worlds))

    @property
    def problems(self) -> list[str]:
        """One line for each run that does not count."""
        return [
            f"{'ceiling of ' if run.place.ceiling else ''}arm '{run.place.arm}', world '{run.place.world}', "
            f"seed {run.place.seed}: {run.problem}"
            for run in (*self.runs, *self.ceilings)
            if not run.counts
        ]


def read_results(asked: Question, study: StudyDirectory) -> Results:
    """Read the runs of a study.

    Raises:
        RunError: for a run that was scored on other starts than its world's manifest.
        ConfigError: if no evaluation has the metric.
    """
    places = {place.job: place for place in study.record().jobs}
    manifests = study.manifests()
    for world in asked.worlds:
        if world not in manifests:
            raise RunError(
                f"{study.path} has no manifest of world '{world}'",
                got=list(manifests),
                advice="run the study again, which writes it, or restore the folder manifests",
            )
    runs, ceilings = [], []
    for world in asked.worlds:
        for arm in asked.arms:
            for seed in asked.all_seeds:
                place = places.get(
                    (arm, world, seed, False), Place(arm, world, seed, False, "", asked.digest)
                )
                runs.append(_read(asked, study, place, manifests))
            ceiling = places.get((arm, world, asked.all_seeds[0], True))
            if ceiling is not None:
                ceilings.append(_read(asked, study, ceiling, manifests))
    return Results(asked, runs, ceilings)


def _read(asked: Question, study: StudyDirectory, place: Place, manifests: Mapping[str, str]) -> Result:
    path = study.jobs.path / place.directory
    if not place.directory:
        return Result(place, "missing", "not begun")
    status = study.jobs.state(path)
    if status != "finished":
        why = study.jobs.failure(path) if status == "failed" else status
        return Result(place, status, "failed: " + why if status == "failed" else f"not finished ({why})")
    try:
        evaluation, ranking = load_evaluation(path), load_ranking(path)
        info = RunDirectory(path).read()
        lines = read_metrics(RunDirectory(path).metrics).sound
    except WmplayError as error:
        return Result(place, "damaged", str(error))
    if evaluation is None:
        return Result(place, status, "has no evaluation")
    numbers = evaluation.numbers()
    if asked.metric not in numbers:
        raise WmplayError(
            f"{path} has no metric '{asked.metric}'",
            got=asked.metric,
            advice=suggestion(asked.metric, numbers),
        )
    digest = next((score.manifest for score in evaluation.policies.values()), None) or ""
    if evaluation.policies and digest != manifests.get(place.world):
        raise RunError(
            f"{path} has results of another manifest ({digest or 'none'})",
            got=digest,
            expected=f"{manifests.get(place.world)}, of world '{place.world}'",
            advice="evaluate it again with the study's starts, or move it away and run the study again",
        )
    last = {key: value for line in lines for key, value in line.items()}
    number = asked.metric.partition("/")[2]
    return Result(
        place,
        status,
        value=numbers[asked.metric],
        low=numbers.get(f"{asked.metric}_low", math.nan),
        high=numbers.get(f"{asked.metric}_high", math.nan),
        floor=numbers.get(f"{RANDOM}/{number}", math.nan),
        variance=_variance(evaluation, asked.metric),
        real_steps=float(last.get("real_steps", math.nan)),
        updates=float(last.get("step", math.nan)),
        seconds=float(sum((info.get("wall") or {}).values())),
        manifest=digest,
        evaluations=measured({place.directory: lines}),
        ranking=ranking,
    )


def _variance(evaluation: Evaluation, metric: str) -> float:
    """Return the variance of single episodes of a policy's metric, NaN for another metric."""
    score, _, number = metric.partition("/")
    if score not in POLICY_SCORES:
        return math.nan
    found = evaluation.policies[score]
    lists = {
        "return": found.returns,
        "length": found.lengths,
        "success": found.successes,
        "success_at_end": found.held,
    }
    return float(np.var(np.array(lists[number], dtype=float)))
