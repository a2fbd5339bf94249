"""Statistics of studies: seeds are the units, paired across arms; vectorised, and calibrated in the tests.

Functions take any leading axes, so that a test runs hundreds of simulated studies at once. Probabilities and
quantiles of Student's t come from ``scipy``, which is imported only here, at its first use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval, interquartile_mean

FEWEST_SEEDS = 5  # below which a study decides nothing
ALPHA = 0.05
RESAMPLES = 2000
MOST_SEEDS = 1000  # that a computation of power tries
LARGEST_SHIFT = 30.0  # standard errors; beyond it scipy's noncentral t distribution loses its digits


class Paired(NamedTuple):
    """Paired differences over seeds: the mean with its t interval, and p-values; arrays [...] of studies."""

    mean: Array
    low: Array
    high: Array
    p: Array  # two-sided, of no difference
    p_equivalent: Array  # of the larger of two one-sided tests; 1 without a margin


def paired(differences: Array, margin: float | None = None, confidence: float = 0.95) -> Paired:
    """Return Student's paired t test of differences [..., seeds], and two one-sided tests.

    Differences that are all equal have a p-value of 0, or of 1 if they are all 0. One seed has no interval,
    and p-values of 1.

    Args:
        differences: of the scores of two arms, one for each seed.
        margin: differences below it count as none (Schuirmann 1987).
        confidence: of the interval.
    """
    from scipy import stats

    n = differences.shape[-1]
    mean = differences.mean(-1)
    if n < 2:
        unknown, one = np.full_like(mean, math.nan), np.ones_like(mean)
        return Paired(mean, unknown, unknown, one, one)
    error = differences.std(-1, ddof=1) / math.sqrt(n)
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * error
    p = 2 * stats.t.sf(_ratio(abs(mean), error), n - 1)
    p_equivalent = np.ones_like(mean)
    if margin is not None:  # the upper and the lower bound: the nearer one has the larger p-value
        p_equivalent = stats.t.sf(_ratio(margin - abs(mean), error), n - 1)
    return Paired(mean, mean - half, mean + half, np.minimum(p, 1), p_equivalent)


def _ratio(value: Array, error: Array) -> Array:
    """Return value / error, with 0 / 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((value == 0) & (error == 0), 0.0, np.divide(value, error))


def holm(p: Array) -> Array:
    """Return p-values [..., tests] adjusted for their number (Holm 1979)."""
    tests = p.shape[-1]
    order = np.argsort(p, -1)
    stepped = np.take_along_axis(p, order, -1) * (tests - np.arange(tests))
    adjusted = np.minimum(np.maximum.accumulate(stepped, -1), 1.0)
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, adjusted, -1)
    return found


def expanded(confidence: float, units: int, strata: int = 1) -> float:
    """Return the confidence at which a percentile bootstrap of few units covers as often as it should.

    The percentile interval of a mean of n units of each stratum is too narrow by sqrt((n - 1) / n) and by the
    normal quantile in place of Student's (Hesterberg 2015, arXiv 1411.5279, section 4.4).
    """
    from scipy import stats

    t = stats.t.ppf(0.5 + confidence / 2, strata * (units - 1)) * math.sqrt(units / (units - 1))
    return float(2 * stats.norm.cdf(t) - 1)


def bootstrapped(
    statistic: Callable[[Array], Array],
    scores: Array,
    *,
    together: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[Array, Array, Array]:
    """Return a statistic of scores [arms, seeds, worlds] with an expanded percentile interval.

    Args:
        statistic: of scores [draws, arms, seeds, worlds]; returns [draws, ...].
        scores: of each world (stratum) the seeds are drawn on their own (arXiv 2108.13264).
        together: whether all arms draw the same seeds, as paired arms should.
        seed: of the draws.
        resamples: number of draws.
        confidence: of the interval; both ends are NaN for one seed.

    Returns:
        The value, low and high, each of the statistic's shape [...].
    """
    value = statistic(scores[None])[0]
    arms, seeds, worlds = scores.shape
    if seeds < 2:
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    shape = (resamples, 1 if together else arms, seeds, worlds)
    rows = np.random.default_rng(seed).integers(seeds, size=shape)
    drawn = scores[np.arange(arms)[:, None, None], rows, np.arange(worlds)]
    covered = expanded(confidence, seeds, worlds)
    low, high = np.quantile(statistic(drawn), [0.5 - covered / 2, 0.5 + covered / 2], axis=0)
    return value, low, high


def interquartile_means(scores: Array) -> Array:
    """Return the interquartile mean over seeds and worlds of scores [..., seeds, worlds]."""
    found: Array = interquartile_mean(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    return found


def improvement(first: Array, second: Array) -> Array:
    """Return the probability that a seed of one arm scores higher than one of another, ties as one half.

    The mean over worlds of the Mann-Whitney statistic of scores [..., seeds, worlds], divided by the number
    of pairs (Agarwal et al. 2021).
    """
    pairs = first[..., :, None, :] - second[..., None, :, :]
    found: Array = ((pairs > 0) + 0.5 * (pairs == 0)).mean((-3, -2, -1))
    return found


def profile(scores: Array, thresholds: Array) -> Array:
    """Return the share of all seeds and worlds of [..., seeds, worlds] that score above thresholds [K]."""
    flat = scores.reshape(*scores.shape[:-2], 1, -1)
    found: Array = (flat > thresholds[:, None]).mean(-1)
    return found


def ranks(scores: Array) -> Array:
    """Return the mean rank over worlds of each arm by its mean score over seeds; 1 is the best.

    Scores are [..., arms, seeds, worlds], ranks [..., arms]. Arms with equal scores have their mean rank.
    """
    means = scores.mean(-2)  # [..., arms, worlds]
    ahead = means[..., None, :, :] - means[..., :, None, :]
    found: Array = (1 + (ahead > 0).sum(-2) + 0.5 * ((ahead == 0).sum(-2) - 1)).mean(-1)
    return found


# ---- several looks -------------------------------------------------------------------------------------


def level(looks: int, alpha: float = ALPHA) -> float:
    """Return the level of each of several looks at growing data, at which one of them errs in ``alpha``."""
    return alpha / looks


# ---- power ---------------------------------------------------------------------------------------------


def power(difference: float, deviation: float, seeds: int, alpha: float = ALPHA) -> float:
    """Return the probability that a paired t test finds a difference (by the noncentral t distribution).

    Args:
        difference: of two arms' true means.
        deviation: standard deviation of the paired differences over seeds.
        seeds: their number.
        alpha: level of the two-sided test.
    """
    from scipy import stats

    if deviation <= 0:
        return 1.0 if difference else alpha
    shift = min(LARGEST_SHIFT, abs(difference) / deviation * math.sqrt(seeds))
    critical = stats.t.ppf(1 - alpha / 2, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, shift) + stats.nct.cdf(-critical, seeds - 1, shift))


def seeds_needed(
    difference: float, deviation: float, wanted: float = 0.8, alpha: float = ALPHA
) -> int | None:
    """Return the fewest seeds with the wanted power, at least five; None if 1,000 are too few."""
    high = 2
    while power(difference, deviation, high, alpha) < wanted:
        if high == MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = high // 2 if high > 2 else 2
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if power(difference, deviation, middle, alpha) >= wanted else (middle + 1, high)
        )
    return max(low, FEWEST_SEEDS)


class Variances(NamedTuple):
    """The variance of a paired difference, by its source."""

    seeds: float  # of the true scores of runs
    episodes: float  # of a single episode's score, of both arms together

    def deviation(self, episodes: int) -> float:
        """Return the standard deviation of the differences with this number of episodes."""
        return math.sqrt(self.seeds + self.episodes / episodes)


def variances(differences: Array, within: Sequence[float], episodes: int) -> Variances:
    """Return the variances of a pilot by the method of moments.

    Args:
        differences: [seeds], of two arms' scores.
        within: the variance of single episodes of each run of both arms, without the same episodes' pairing,
            so that the estimate errs towards more episodes.
        episodes: of each run.
    """
    single = 2 * float(np.mean(within)) if len(within) else 0.0
    return Variances(max(0.0, float(np.var(differences, ddof=1)) - single / episodes), single)


# ---- what is at fault ----------------------------------------------------------------------------------


def gap(upper: Interval, lower: Interval) -> Interval:
    """Return the difference of two independent estimates, from their intervals.

    Each side of the interval has the root of the sum of the squares of the two facing half-widths (Newcombe's
    hybrid, 1998).
    """
    value = upper.value - lower.value
    low = value - math.hypot(upper.value - upper.low, lower.high - lower.value)
    high = value + math.hypot(upper.high - upper.value, lower.value - lower.low)
    return Interval(value, low, high)


def as_intervals(found: tuple[Any, Any, Any]) -> list[Interval]:
    """Return values, lows and highs [N] as a list of intervals."""
    return [Interval(*(float(x) for x in each)) for each in zip(*found, strict=True)]
