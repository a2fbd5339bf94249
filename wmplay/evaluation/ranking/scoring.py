"""Scores of a ranking: the order of policies, what the model promises too much, and real values estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from wmplay.contracts import Array, Trajectory
from wmplay.evaluation.ranking.inference import powered_mean
from wmplay.evaluation.scores.curves import Count, Curve, selected_horizons
from wmplay.evaluation.statistics import Interval, mean_interval, rank_correlation, success_rate

Measure: TypeAlias = Literal["success", "return"]

RESAMPLES = 1000  # of the starts, for the share of reversed pairs


@dataclass(frozen=True)
class Outcomes:
    """A policy's episodes in the real world and in the model.

    Attributes:
        real: [n, T], success or return up to each step.
        imagined: [n + N, T], the same in the model; the first n began where the real ones did.
        real_seconds, imagined_seconds: that an episode took.
    """

    real: Array
    imagined: Array
    real_seconds: float
    imagined_seconds: float


@dataclass(frozen=True)
class PolicyRank:
    """The success or return of a policy at the last step.

    Attributes:
        real: of the real episodes alone.
        imagined: of all imagined ones.
        optimism: imagined minus real, from the same starts.
        estimate: of the real value, from real and imagined episodes (``powered_mean``).
        weight: of the imagined episodes in the estimate.
        width: of the estimate's interval, which ends at 0 and 1 for success.
        real_width: of the interval of the real episodes alone.
        same_time_width: of the interval of real episodes alone, had the time of imagination bought more.
    """

    real: Interval
    imagined: Interval
    optimism: Interval
    estimate: Interval
    weight: float
    width: float
    real_width: float
    same_time_width: float


@dataclass(frozen=True)
class Ranking:
    """The order of policies in a model and in the real world.

    Attributes:
        measure: of policies.
        real_episodes, imagined_episodes: of each policy.
        seed: of the starts.
        manifest: digest of the imagined episodes' starts, of which the real episodes have the first.
        kendall, spearman: rank correlations of the means at the last step, with intervals over policies.
        horizons: numbers of steps.
        reversed: by horizon, share of the pairs of policies that differ in the real world and whose order is
            the other one in the model; equal in the model counts one half. Intervals are over starts.
        policies: by name.
    """

    measure: Measure
    real_episodes: Count
    imagined_episodes: Count
    seed: Count
    manifest: str
    kendall: Interval
    spearman: Interval
    horizons: list[Count]
    reversed: Curve
    policies: dict[str, PolicyRank]


def progress(episodes: Sequence[Trajectory], steps: int, measure: Measure) -> Array:
    """Return the outcomes [N, steps] of episodes up to each step; a terminated episode is a success."""
    found = np.zeros((len(episodes), steps))
    for row, episode in zip(found, episodes, strict=True):
        gained = episode.terminated if measure == "success" else episode.reward
        row[: len(episode)] = np.cumsum(gained, dtype=np.float64)
        row[len(episode) :] = row[len(episode) - 1]
    return found


def score_ranking(outcomes: Mapping[str, Outcomes], measure: Measure, seed: int, manifest: str) -> Ranking:
    """Score at least two policies, each with the same numbers of episodes from the same starts."""
    first = next(iter(outcomes.values()))
    starts, steps = first.real.shape
    horizons = selected_horizons(steps)
    columns = np.array(horizons) - 1
    real = np.stack([each.real[:, columns] for each in outcomes.values()])
    imagined = np.stack([each.imagined[:starts, columns] for each in outcomes.values()])
    means = real[..., -1].mean(1), imagined[..., -1].mean(1)
    names = list(outcomes)
    return Ranking(
        measure,
        starts,
        len(first.imagined),
        seed,
        manifest,
        rank_correlation(*means, names, kind="kendall"),
        rank_correlation(*means, names),
        horizons,
        _reversed_by_horizon(real, imagined),
        {name: _rank(each, measure) for name, each in outcomes.items()},
    )


def _rank(outcomes: Outcomes, measure: Measure) -> PolicyRank:
    n = len(outcomes.real)
    real, imagined = outcomes.real[:, -1], outcomes.imagined[:, -1]
    alone, all_imagined = (_mean(values, measure) for values in (real, imagined))
    value, low, high, weight = (float(x) for x in powered_mean(real, imagined[:n], imagined[n:]))
    estimate, t_interval = Interval(value, low, high), mean_interval(real)
    if measure == "success" and real.std() == 0:  # no variation to estimate: Wilson's interval
        estimate, weight, t_interval = alone, 0.0, alone
    elif measure == "success":
        estimate, t_interval = (Interval(*np.clip(each, 0, 1).tolist()) for each in (estimate, t_interval))
    real_width = _width(t_interval)
    bought = len(imagined) * outcomes.imagined_seconds / outcomes.real_seconds
    return PolicyRank(
        alone,
        all_imagined,
        mean_interval(imagined[:n] - real),
        estimate,
        weight,
        _width(estimate),
        real_width,
        real_width * math.sqrt(n / (n + bought)),
    )


def _mean(values: Array, measure: Measure) -> Interval:
    if measure == "success":
        return success_rate(int(values.sum()), len(values))
    return mean_interval(values)


def _width(interval: Interval) -> float:
    return interval.high - interval.low


def _reversed_by_horizon(real: Array, imagined: Array) -> Curve:
    """Return the share of reversed pairs of outcomes [policies, starts, H]; drawn starts are the same for
    all."""
    starts = real.shape[1]
    drawn = np.random.default_rng(0).multinomial(starts, np.full(starts, 1 / starts), size=RESAMPLES)
    weights = np.concatenate([np.ones((1, starts)), drawn]) / starts
    share = reversed_pairs(*(np.einsum("rn,pnh->rhp", weights, each) for each in (real, imagined)))
    low, high = np.full((2, share.shape[1]), math.nan)
    for h, values in enumerate(share[1:].T):
        if np.isfinite(share[0, h]):
            low[h], high[h] = np.nanquantile(values, [0.025, 0.975])
    return Curve(share[0].tolist(), low.tolist(), high.tolist())


def reversed_pairs(real: Array, imagined: Array) -> Array:
    """Return the share [...] of pairs of the values [..., policies] that are in the other order.

    Pairs that are equal in reality are left out, those equal in the model count one half; NaN without pairs.
    """
    i, j = np.triu_indices(real.shape[-1], 1)
    truth, guess = (np.sign((each[..., i] - each[..., j]).round(9)) for each in (real, imagined))
    pairs = (truth != 0).sum(-1)
    wrong = ((1 - truth * guess) / 2 * (truth != 0)).sum(-1)
    found: Array = np.divide(wrong, pairs, out=np.full(wrong.shape, math.nan), where=pairs > 0)
    return found
