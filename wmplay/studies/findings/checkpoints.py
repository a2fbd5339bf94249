"""Checkpoints along a study's runs: which number about a model tells how well the run acts with it.

A run that is evaluated in several iterations has a checkpoint at each. Seeds are the unit: every statistic is
computed among the checkpoints of one seed, and its interval is over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.ranking.scoring import reversed_pairs
from wmplay.evaluation.statistics import Interval, mean_interval, rank_correlation
from wmplay.studies.question import MODEL_SCORES
from wmplay.studies.results import Results
from wmplay.studies.statistics import ALPHA, FEWEST_SEEDS, RESAMPLES

UNKNOWN = Interval(math.nan, math.nan, math.nan)
ALL_CHANGES = 10  # seeds up to which all changes of signs are tried
LEAST = 3  # checkpoints of a run, from which they are compared
AGE = "updates"  # the number that any other must beat: it takes the last checkpoint
IMAGINED = ("learned", "learned_sampled")  # scores of the policy in the model
HIGHER = {"iou", "covered", "r2", "jumps", "precision", "recall", "f1", "density", "observable", "rank"}
HIGHER |= {"return", "success"}
TO_ONE = ("spread_skill",)  # numbers that are best at 1
SILENT = ("among", "real", "length", "episodes", "success_at_end")  # numbers that say nothing of quality


@dataclass(frozen=True)
class Tells:
    """One number about a model, as a judge of checkpoints.

    Attributes:
        correlation: Spearman's, of the number and the metric, signed so that 1 is right; mean over seeds.
        wrong: share of the pairs of checkpoints with different metrics of which the number prefers the worse;
            equal numbers count one half.
        regret: the metric of the best checkpoint minus that of the one with the best number.
    """

    correlation: Interval
    wrong: Interval
    regret: Interval


@dataclass(frozen=True)
class Judged:
    """All numbers as judges of the checkpoints in one world.

    Attributes:
        world: its name.
        checkpoints: of each run.
        arms: {arm: {number: among the checkpoints of one run}}.
        pooled: {number: among those of all arms of a seed}, of the numbers that all arms have.
        chance: the regret of a checkpoint drawn at random from all arms of a seed.
        best: the number that is wrong least often within the runs, of those that all arms have; None without.
        wrong: its share, mean over arms and seeds.
        age: the share of the age, of which the younger checkpoint counts as worse.
        p: that no number is wrong less often than both the age and a coin; adjusted for all numbers.
    """

    world: str
    checkpoints: int
    arms: Mapping[str, Mapping[str, Tells]]
    pooled: Mapping[str, Tells]
    chance: Interval
    best: str | None
    wrong: Interval
    age: Interval
    p: float

    @property
    def recommended(self) -> bool:
        """True if the best number may be relied on."""
        return self.p < ALPHA


def quality(name: str, value: float) -> float | None:
    """Return a number about a model as one that is higher for better models; None if it says nothing."""
    score, _, number = name.partition("/")
    plain = number.rpartition("/")[2].partition("@")[0]
    if name == AGE:
        return value
    if score not in (*MODEL_SCORES, *IMAGINED) or plain in SILENT or name.endswith(("_low", "_high")):
        return None
    if plain in TO_ONE:
        return -abs(math.log(value)) if value > 0 else -math.inf
    return value if plain in HIGHER else -value


def judge(results: Results) -> list[Judged]:
    """Return what tells checkpoints apart, for each world in which all arms have three or more."""
    found = []
    for world in results.question.worlds:
        runs = {arm: _of_seeds(results, arm, world) for arm in results.question.arms}
        seeds = [seed for seed in results.question.all_seeds if all(seed in each for each in runs.values())]
        numbers = [len(each[seed]) for each in runs.values() for seed in seeds]
        if seeds and min(numbers) == max(numbers) >= LEAST:
            found.append(
                _judge(results, world, {arm: [each[s] for s in seeds] for arm, each in runs.items()})
            )
    return found


Checkpoint = Mapping[str, float]


def _of_seeds(results: Results, arm: str, world: str) -> dict[int, Sequence[Checkpoint]]:
    """Return {seed: the numbers of each checkpoint} of an arm."""
    wanted = results.question.metric
    return {
        run.place.seed: [
            {AGE: point.updates, **point.numbers} for point in run.evaluations if wanted in point.numbers
        ]
        for run in results.of(arm, world)
    }


def _judge(results: Results, world: str, runs: Mapping[str, list[Sequence[Checkpoint]]]) -> Judged:
    """Judge the checkpoints of {arm: for each seed its checkpoints}."""
    sign = 1.0 if results.question.better == "higher" else -1.0
    metric = results.question.metric
    values: dict[str, dict[str, Array]] = {arm: _qualities(each) for arm, each in runs.items()}
    outcomes = {
        arm: sign * np.array([[c[metric] for c in seed] for seed in each]) for arm, each in runs.items()
    }
    shared = [name for name in next(iter(values.values())) if all(name in each for each in values.values())]
    together = np.concatenate(list(outcomes.values()), 1)  # [seeds, arms x checkpoints]
    pooled = {name: np.concatenate([each[name] for each in values.values()], 1) for name in shared}
    wrong = {  # [seeds], the mean over arms
        name: np.mean([_wrong(values[arm][name], outcomes[arm]) for arm in runs], 0) for name in shared
    }
    age = wrong.pop(AGE)
    table = np.array([each for each in wrong.values() if np.isfinite(each).all()]).reshape(-1, len(age))
    names = [name for name, each in wrong.items() if np.isfinite(each).all()]
    least = int(table.mean(1).argmin()) if names else None
    return Judged(
        world,
        next(iter(outcomes.values())).shape[1],
        {arm: {name: _tells(each, outcomes[arm]) for name, each in values[arm].items()} for arm in runs},
        {name: _tells(each, together) for name, each in pooled.items()},
        mean_interval(together.max(1) - together.mean(1)),
        None if least is None else names[least],
        UNKNOWN if least is None else mean_interval(table[least]),
        _over(age),
        max(_luck(age - table), _luck(0.5 - table)),
    )


def _qualities(seeds: Sequence[Sequence[Checkpoint]]) -> dict[str, Array]:
    """Return {number: [seeds, checkpoints], higher is better} of the numbers that all checkpoints have."""
    found = {}
    for name in seeds[0][0]:
        rows = [[quality(name, c.get(name, math.nan)) for c in checkpoints] for checkpoints in seeds]
        if all(x is not None and not math.isnan(x) for row in rows for x in row):
            found[name] = np.array(rows, dtype=float)
    return found


def _tells(guess: Array, outcome: Array) -> Tells:
    """Return what numbers [seeds, K] tell of outcomes [seeds, K]; higher is better for both."""
    rho = np.array(
        [rank_correlation(x, y, ["run"] * len(x)).value for x, y in zip(guess, outcome, strict=True)]
    )
    chosen = np.take_along_axis(outcome, guess.argmax(1)[:, None], 1)[:, 0]
    shares = _wrong(guess, outcome)
    return Tells(_over(rho, -1), _over(shares), mean_interval(outcome.max(1) - chosen))


def _wrong(guess: Array, outcome: Array) -> Array:
    """Return the share [seeds] of pairs of which the number prefers the worse."""
    return reversed_pairs(outcome, np.nan_to_num(guess, neginf=-1e9))


def _over(values: Array, least: float = 0.0) -> Interval:
    """Return the mean over the seeds that have a value, with its t interval between ``least`` and 1."""
    found = mean_interval(values[np.isfinite(values)])
    return Interval(*np.clip(found, least, 1.0).tolist())


def _luck(ahead: Array) -> float:
    """Return the probability that the best of many numbers is as far ahead by luck alone.

    Without a difference the sign of a seed's advantages [numbers, seeds] is arbitrary, of all numbers at
    once: the share of sign changes whose largest mean is as large (Westfall & Young 1993). All changes are
    tried for few seeds. 1 below five seeds, where no share is small enough.
    """
    numbers, seeds = ahead.shape
    if not numbers or seeds < FEWEST_SEEDS:
        return 1.0
    if seeds <= ALL_CHANGES:
        signs = 1 - 2 * (np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (RESAMPLES, seeds))
        signs[0] = 1
    largest = (signs @ ahead.T).max(1)
    return float((largest >= largest[0] - 1e-9).mean())
