"""The answers of a study: each comparison's verdict, ranks, and what is at fault where an arm falls short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval
from wmplay.studies.question import Question
from wmplay.studies.results import Results
from wmplay.studies.statistics import (
    FEWEST_SEEDS,
    as_intervals,
    bootstrapped,
    gap,
    holm,
    improvement,
    interquartile_means,
    level,
    paired,
    profile,
    ranks,
)

Verdict: TypeAlias = Literal["better", "worse", "equivalent", "open"]
Fault: TypeAlias = Literal["model", "planner", "both", "neither", "cannot tell"]

ALL = "all worlds"
THRESHOLDS = 101  # of a performance profile
CLOSE = 0.1  # of the way from floor to ceiling: a gap below it is none, for a study without a margin


@dataclass(frozen=True)
class Row:
    """An arm in a world.

    Attributes:
        arm, world: its names.
        seeds: number of runs that count.
        score: interquartile mean over seeds (below four seeds the mean), with its bootstrap interval.
        floor: the random policy's score.
        ceiling: the score of the arm's planner on the true dynamics, or None.
        fault: the part to blame for what is missing.
        why: the reason in words.
        real_steps, updates, seconds: means over the runs.
    """

    arm: str
    world: str
    seeds: int
    score: Interval
    floor: float
    ceiling: Interval | None
    fault: Fault
    why: str
    real_steps: float
    updates: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Two arms in a world, paired by seed.

    Attributes:
        first, second, world: their names.
        seeds: number of pairs.
        difference: mean of first minus second, with its t interval.
        p: of no difference, adjusted by Holm for all comparisons of the study.
        p_equivalent: of a difference beyond the margin, adjusted likewise; None without a margin.
        improvement: probability that a run of the first scores higher than one of the second.
        verdict: about the first arm.
        why: the reason in words, if the verdict is open.
    """

    first: str
    second: str
    world: str
    seeds: int
    difference: Interval
    p: float
    p_equivalent: float | None
    improvement: Interval
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Answers:
    """All answers of a study.

    Attributes:
        rows: of each world and arm.
        comparisons: as asked.
        ranks: {arm: mean rank over the worlds, 1 is the best}; empty below two seeds.
        thresholds: [K] of the performance profiles.
        profiles: {arm: shares [3, K] of runs above the thresholds, with low and high}.
        alpha: level of each comparison's tests.
    """

    rows: list[Row]
    comparisons: list[Comparison]
    ranks: dict[str, Interval]
    thresholds: Array
    profiles: dict[str, Array]
    alpha: float

    @property
    def decided(self) -> bool:
        """True if no comparison is open."""
        return all(each.verdict != "open" for each in self.comparisons)


def analyse(results: Results) -> Answers:
    """Return the answers that a study's results give."""
    asked = results.question
    alpha = level(len(asked.stops))
    arms, worlds = list(asked.arms), list(asked.worlds)
    _, scores = results.table(arms, worlds)
    order: dict[str, Interval] = {}
    profiles: dict[str, Array] = {}
    thresholds = np.zeros(0)
    if scores.shape[1] >= 2:
        sign = 1 if asked.better == "higher" else -1
        found = bootstrapped(lambda drawn: ranks(sign * drawn), scores, together=True)
        order = dict(zip(arms, as_intervals(found), strict=True))
        thresholds = np.linspace(scores.min(), scores.max(), THRESHOLDS)
        shares = bootstrapped(lambda drawn: profile(drawn, thresholds), scores, resamples=500)
        profiles = {arm: np.stack([each[i] for each in shares]) for i, arm in enumerate(arms)}
    rows = [_row(results, arm, world) for world in worlds for arm in arms]
    return Answers(rows, _compare(results, alpha), order, thresholds, profiles, alpha)


# ---- comparisons -----------------------------------------------------------------------------------------


def _compare(results: Results, alpha: float) -> list[Comparison]:
    """Return the comparisons of all pairs, in each world and over all worlds, adjusted together."""
    asked = results.question
    groups: list[tuple[str, list[str]]] = [(world, [world]) for world in asked.worlds]
    if len(groups) > 1 and asked.metric.partition("/")[2].startswith("success"):
        groups.append((ALL, list(asked.worlds)))
    cases = [(pair, name, worlds) for name, worlds in groups for pair in asked.pairs]
    tables = [results.table(pair, worlds) for pair, _, worlds in cases]
    tests: list[Any] = []
    for _, scores in tables:
        differences = (scores[0] - scores[1]).mean(-1)
        tests.append(paired(differences, asked.margin, 1 - alpha) if len(differences) else None)
    p = holm(np.array([1.0 if test is None else test.p for test in tests]))
    same = holm(np.array([1.0 if test is None else test.p_equivalent for test in tests]))
    found = []
    for ((first, second), name, _), (seeds, scores), test, p_one, p_same in zip(
        cases, tables, tests, p, same, strict=True
    ):
        ends = (math.nan,) * 3 if test is None else (float(x) for x in test[:3])
        difference = Interval(*ends)
        verdict, why = _verdict(asked, seeds, difference, float(p_one), float(p_same), alpha)
        found.append(
            Comparison(
                first,
                second,
                name,
                len(seeds),
                difference,
                float(p_one),
                None if asked.margin is None else float(p_same),
                _improvement(scores, asked),
                verdict,
                why,
            )
        )
    return found


def _improvement(scores: Array, asked: Question) -> Interval:
    if not scores.shape[1]:
        return Interval(math.nan, math.nan, math.nan)
    sign = 1 if asked.better == "higher" else -1
    found = bootstrapped(lambda drawn: improvement(sign * drawn[:, 0], sign * drawn[:, 1]), scores)
    return Interval(*(float(x) for x in found))


def _verdict(
    asked: Question, seeds: Sequence[int], difference: Interval, p: float, p_same: float, alpha: float
) -> tuple[Verdict, str]:
    """Return the verdict on the first arm of a pair, and the reason of an open one."""
    wanted = [number for number in asked.stops if asked.all_seeds[:number] == list(seeds)]
    if len(seeds) < FEWEST_SEEDS:
        return "open", f"{len(seeds)} of at least {FEWEST_SEEDS} seeds"
    if not wanted:
        return "open", f"{len(seeds)} seeds, and the study is decided at {' or '.join(map(str, asked.stops))}"
    if asked.margin is not None and p_same < alpha:
        return "equivalent", ""  # a difference within the margin is none, even if it is not zero
    if p < alpha:
        up = (difference.value > 0) == (asked.better == "higher")
        return ("better" if up else "worse"), ""
    return "open", "the interval allows both" if asked.margin else "no difference found; none is excluded"


# ---- arms ------------------------------------------------------------------------------------------------


def _row(results: Results, arm: str, world: str) -> Row:
    runs = results.of(arm, world)
    score = Interval(math.nan, math.nan, math.nan)
    if runs:
        values = np.array([run.value for run in runs])[None, :, None]
        (score,) = as_intervals(bootstrapped(interquartile_means, values))
    floor, ceiling = results.floor(world), results.ceiling(arm, world)
    fault, why = fault_of(results.question, score, len(runs), floor, ceiling)

    def mean(name: str) -> float:
        return float(np.mean([vars(run)[name] for run in runs])) if runs else math.nan

    effort = mean("real_steps"), mean("updates"), mean("seconds")
    return Row(arm, world, len(runs), score, floor, ceiling, fault, why, *effort)


def fault_of(
    asked: Question, score: Interval, seeds: int, floor: float, ceiling: Interval | None
) -> tuple[Fault, str]:
    """Return the part of an arm to blame, from its success with the true and with the learned dynamics.

    The planner is to blame if it falls short of ``solved`` on the true dynamics; the model, if the score with
    it is below that on the true dynamics.
    """
    if ceiling is None:
        return "cannot tell", "no result with the true dynamics"
    if seeds < FEWEST_SEEDS:
        return "cannot tell", f"{seeds} of at least {FEWEST_SEEDS} seeds"
    if asked.target is None:
        return "cannot tell", "the study names no value that counts as solved"
    sign = 1 if asked.better == "higher" else -1
    upper, lower, target = _signed(ceiling, sign), _signed(score, sign), sign * asked.target
    lost = gap(upper, lower)
    close = asked.margin or CLOSE * abs(upper.value - sign * floor)
    if not all(map(math.isfinite, (lost.low, lost.high, close))):
        return "cannot tell", "an interval is missing"
    planner = True if upper.high < target else False if upper.value >= target else None
    model = True if lost.low > 0 else False if lost.high <= close else None
    if planner is None:
        return "cannot tell", "the planner on the true dynamics may or may not solve the task"
    if model is None:
        return "cannot tell", "the model may or may not lose something"
    names: dict[tuple[bool, bool], Fault] = {
        (True, True): "both",
        (True, False): "planner",
        (False, True): "model",
        (False, False): "neither",
    }
    return names[planner, model], ""


def _signed(x: Interval, sign: int) -> Interval:
    """Return an interval with higher as better."""
    return x if sign > 0 else Interval(-x.value, -x.high, -x.low)
