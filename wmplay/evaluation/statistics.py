"""Numbers with their uncertainty: every result of an evaluation is an ``Interval``.

Episodes are the independent units of one run's evaluation (``wilson``, ``mean_interval``); seeds are the
independent units of a comparison (``interquartile_mean`` with ``stratified_bootstrap``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np

from wmplay.contracts import Array

FEWEST_GROUPS = 5  # from which a rank correlation gets an interval


class Interval(NamedTuple):
    """An estimate and the two ends of its confidence interval, NaN if the data does not determine them."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval (low, high) of a success rate (Wilson 1927), valid at 0%, 100% and small n.

    Without a trial the interval is (0, 1).
    """
    assert 0 <= successes <= n, f"{successes} successes in {n} trials"
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rate = successes / n
    centre = rate + z2 / (2 * n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n)))
    low, high = ((centre + sign * half) / (1 + z2 / n) for sign in (-1, 1))
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def success_rate(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the rate of successes with its Wilson interval."""
    return Interval(successes / n if n else math.nan, *wilson(successes, n, confidence))


def mean_interval(values: Array, confidence: float = 0.95) -> Interval:
    """Return the mean of independent units [N] with Student's t interval, whose ends are NaN for one unit."""
    mean, low, high = mean_intervals(np.asarray(values, dtype=np.float64)[:, None], confidence)
    return Interval(float(mean[0]), float(low[0]), float(high[0]))


def mean_intervals(values: Array, confidence: float = 0.95) -> tuple[Array, Array, Array]:
    """Return means, lows and highs [H] of the columns of [N, H]: ``mean_interval`` of each."""
    n = len(values)
    if n == 0:
        return (np.full(values.shape[1:], math.nan),) * 3
    mean = values.mean(axis=0)
    if n == 1:
        return mean, np.full_like(mean, math.nan), np.full_like(mean, math.nan)
    half = student_t(n - 1, confidence) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half


def interquartile_mean(scores: Array, axis: int | None = None) -> Any:
    """Return the mean of the middle half of all scores, of every seed and task.

    A quarter of the scores, rounded down, is cut off at each end: below four scores it is the plain mean. As
    for ``np.mean``, the result is a number, or with an ``axis`` the array of means along it (Agarwal et al.
    2021, arXiv 2108.13264).
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    ordered = np.moveaxis(ordered, -1 if axis is None else axis, 0)
    cut = len(ordered) // 4
    return ordered[cut : len(ordered) - cut].mean(axis=0)


def stratified_bootstrap(
    scores: Array,
    statistic: Callable[..., Any] = interquartile_mean,
    *,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return a statistic of scores [seeds, tasks] with its percentile bootstrap interval (arXiv 2108.13264).

    Seeds are drawn with replacement, for each task (stratum) on its own. Both ends are NaN for one seed.

    Args:
        scores: [seeds, tasks].
        statistic: of all scores; takes an ``axis``, as ``np.mean`` and ``np.median`` do.
        seed: of the draws.
        resamples: number of draws.
        confidence: of the interval.
    """
    scores = np.asarray(scores, dtype=np.float64)
    seeds, tasks = scores.shape
    value = float(statistic(scores))
    if seeds == 1:
        return Interval(value, math.nan, math.nan)
    draws = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds, tasks))
    resampled = statistic(scores[draws, np.arange(tasks)].reshape(resamples, -1), axis=1)
    low, high = np.quantile(resampled, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(low), float(high))


def rank_correlation(
    x: Array,
    y: Array,
    groups: Sequence[str],
    *,
    kind: Literal["spearman", "kendall"] = "spearman",
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return a rank correlation of pairs with a percentile bootstrap interval.

    Spearman's gives ties their mean rank; Kendall's is tau-b.

    Args:
        x: [N]. The correlation is NaN if all of x, or all of y, are equal.
        y: [N].
        groups: [N] names; whole groups are drawn with replacement, because pairs of one group are alike. Both
            ends are NaN below five groups, which are too few to estimate the variation, and for perfect
            order, which every draw repeats.
        kind: of the correlation.
        seed: of the draws.
        resamples: number of draws; those in which all x or all y are equal are left out.
        confidence: of the interval.
    """
    correlation = _spearman if kind == "spearman" else _kendall
    value = correlation(x, y)
    members = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
    perfect = math.isclose(abs(value), 1)
    if len(members) < FEWEST_GROUPS or not math.isfinite(value) or perfect:
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        pick = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        found.append(correlation(x[pick], y[pick]))
    low, high = np.nanquantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, float(low), float(high))


def _spearman(x: Array, y: Array) -> float:
    first, second = _ranks(x), _ranks(y)
    if first.std() == 0 or second.std() == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _kendall(x: Array, y: Array) -> float:
    """Return the correlation of the signs of all differences, which is tau-b."""
    first, second = (np.sign(np.subtract.outer(each, each)) for each in (x, y))
    size = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else math.nan


def _ranks(values: Array) -> Array:
    """Return ranks from 0; equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: Array = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def jackknife(value: float, without: Array, confidence: float = 0.95) -> Interval:
    """Return a smooth statistic of independent units with its delete-a-group jackknife interval (Tukey 1958).

    Unlike a bootstrap it never draws a unit twice, which would distort nearest neighbours and inflate biased
    statistics. Its width is zero if every group gives the same value, as a proportion of 0 or 1 can.

    Args:
        value: of all units.
        without: [K], the statistic without each of K groups of (nearly) equal size. For K < 2 both ends are
            NaN.
        confidence: of the Student's t interval with K - 1 degrees of freedom.
    """
    groups = len(without)
    if groups < 2:
        return Interval(value, math.nan, math.nan)
    error = math.sqrt((groups - 1) * float(np.var(np.asarray(without, dtype=np.float64))))
    half = student_t(groups - 1, confidence) * error
    return Interval(value, value - half, value + half)


def student_t(dof: int, confidence: float) -> float:
    """Return the t with P(abs(T) <= t) = confidence for a whole number of degrees of freedom, by bisection.

    With t = sqrt(dof) tan(theta) the probability is a finite sum (Abramowitz & Stegun 26.7.3, 26.7.4).
    """
    odd = dof % 2
    j = np.arange(1, dof // 2)
    ratios = 2.0 * j / (2 * j + 1) if odd else (2 * j - 1) / (2.0 * j)
    coefficients = np.cumprod(np.concatenate([[1.0], ratios]))
    powers = 2 * np.arange(len(coefficients)) + odd

    def probability(theta: float) -> float:
        tail = math.sin(theta) * float(coefficients @ np.cos(theta) ** powers)
        if not odd:
            return tail
        return 2 / math.pi * (theta + (tail if dof > 1 else 0.0))

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return math.sqrt(dof) * math.tan(low)
