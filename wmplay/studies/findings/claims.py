"""The claims of a study: what groups of arms have in common, and what a number about the models tells.

Seeds are the units. All claims of a study hold together at the level of one test: each has an interval at the
level divided by their number (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval, mean_interval, rank_correlation
from wmplay.studies.findings.checkpoints import quality
from wmplay.studies.question import Claim
from wmplay.studies.results import Results
from wmplay.studies.statistics import ALPHA, FEWEST_SEEDS

Verdict: TypeAlias = Literal["holds", "does not hold", "cannot tell"]


@dataclass(frozen=True)
class Tested:
    """A claim with its verdict.

    Attributes:
        claim: in words.
        measured: the name of the number.
        seeds: that have it.
        found: mean over seeds, with the t interval of ``confidence``.
        confidence: of the interval.
        verdict: on the claim.
    """

    claim: str
    measured: str
    seeds: int
    found: Interval
    confidence: float
    verdict: Verdict


def judge_claims(results: Results) -> list[Tested]:
    """Return the verdicts on all claims of a study."""
    claims = results.question.claims
    confidence = 1 - ALPHA / max(len(claims), 1)
    return [_tested(results, words, claim, confidence) for words, claim in claims.items()]


def _tested(results: Results, words: str, claim: Claim, confidence: float) -> Tested:
    if claim.number is None:
        measured, values = "difference of means", _differences(results, claim)
    elif claim.rival is None:
        measured, values = "rank correlation", _correlations(results, claim, claim.number)
    else:
        measured = "difference of rank correlations"
        values = _correlations(results, claim, claim.number) - _correlations(results, claim, claim.rival)
    values = values[np.isfinite(values)]
    found = mean_interval(values, confidence)
    verdict = _verdict(claim, found, results.question.margin or 0.0)
    if len(values) < FEWEST_SEEDS:
        verdict = "cannot tell"
    if not len(values):
        measured += ": no seed has all of it"
    return Tested(words, measured, len(values), found, confidence, verdict)


def _verdict(claim: Claim, found: Interval, margin: float) -> Verdict:
    """Return the verdict of an interval; a difference of scores below the margin is none."""
    if claim.expect == "close":
        holds = -margin < found.low and found.high < margin
        fails = found.low > margin or found.high < -margin
    elif claim.expect == "not worse":
        holds, fails = found.low > -margin, found.high < -margin
    else:
        fails = found.high < (margin if claim.number is None else 0)
        holds = found.low > 0 and not fails
    return "holds" if holds else "does not hold" if fails else "cannot tell"


def _differences(results: Results, claim: Claim) -> Array:
    """Return the mean score of the claim's arms minus that of the others [seeds], higher is better."""
    asked = results.question
    sign = 1 if asked.better == "higher" else -1
    _, scores = results.table([*claim.arms, *claim.than], claim.worlds or list(asked.worlds))
    ours, theirs = np.split(sign * scores, [len(claim.arms)])
    found: Array = ours.mean((0, 2)) - theirs.mean((0, 2))
    return found


def _correlations(results: Results, claim: Claim, number: str) -> Array:
    """Return the rank correlation [seeds] of a number with the metric over the runs of a seed.

    Of a claim that names a rival, only runs count that have both numbers. NaN where the runs of a seed do not
    differ, or have not all finished.
    """
    asked = results.question
    arms, worlds = claim.arms or list(asked.arms), claim.worlds or list(asked.worlds)
    sign = 1 if asked.better == "higher" else -1
    needed = [each for each in (claim.number, claim.rival) if each is not None]
    found = []
    for seed in asked.all_seeds:
        every = [run for arm in arms for world in worlds for run in results.of(arm, world)]
        runs = [run for run in every if run.place.seed == seed]
        last = [(run.evaluations[-1].numbers, sign * run.value) for run in runs if run.evaluations]
        pairs = [(quality(number, x[number]), y) for x, y in last if all(name in x for name in needed)]
        whole = len(runs) == len(arms) * len(worlds) and len(pairs) > 1
        x, y = np.array(pairs, float).T if whole else (np.zeros(0), np.zeros(0))
        found.append(rank_correlation(x, y, [""] * len(x)).value if whole else math.nan)
    return np.array(found)
