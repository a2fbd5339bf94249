"""Power laws: errors as a function of an amount of data, of weights or of work.

    error(x) = a (x / x_0)^-b + c,  a, b, c >= 0

with the geometric mean x_0 of the amounts and the error that stays, c (Hestness et al. 2017, arXiv
1712.00409; Kaplan et al. 2020, arXiv 2001.08361). For each exponent of a grid a and c follow by least squares
of relative errors; the best exponent wins. Where the best c is negative, no error is seen to stay, and the
law is one of c = 0. Intervals are of a bootstrap over seeds, whose draws of a law with c > 0 may have c < 0:
holding them at 0 would bias the exponent upwards. Whether the errors follow a power law at all is tested by
the F test of lack of fit, which compares the distances of the means from the law with the spread of the seeds
(Draper & Smith 1998, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import Interval, student_t

FEWEST_AMOUNTS = 4  # a law of three numbers fits any three points
EXPONENTS = np.geomspace(0.01, 8, 1000)  # neighbours differ by 0.7%


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law, with 95% intervals over seeds; they are NaN if an amount has one seed."""

    unit: float  # x_0
    scale: float  # a
    exponent: Interval  # b; 0 if errors do not fall with the amount
    floor: Interval  # c
    distance: float  # of the law from the mean at the amount where it is furthest, as a part of the mean
    fits: float  # p-value: how often errors that follow a law lie at least so far from theirs; NaN if unknown

    def at(self, amounts: Array) -> Array:
        """Return the errors [N] of the law at amounts [N]."""
        found: Array = self.scale * (amounts / self.unit) ** -self.exponent.value + self.floor.value
        return found


def fit_power_law(
    amounts: Array, errors: Sequence[Array], *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> PowerLaw:
    """Return the power law of the geometric mean over seeds.

    The bootstrap draws the seeds of each amount on their own. The logarithms of the drawn means are spread by
    sqrt(n / (n - 1)) and by Student's t in units of the normal quantile, because means of few drawn seeds
    vary too little (Hesterberg 2015, arXiv 1411.5279, section 4.4).

    Args:
        amounts: [N] different positive numbers, at least ``FEWEST_AMOUNTS``.
        errors: N arrays, of the positive errors of the seeds of each amount.
        seed: of the draws.
        resamples: number of draws.
        confidence: of the intervals.
    """
    amounts = np.asarray(amounts, np.float64)
    assert len(set(amounts.tolist())) == len(errors) >= FEWEST_AMOUNTS, "errors at too few amounts"
    assert all((np.asarray(each) > 0).all() for each in (amounts, *errors)), "a power law is positive"
    unit = float(np.exp(np.log(amounts).mean()))
    rng = np.random.default_rng(seed)
    logs = [np.log(each) for each in errors]
    free = sum(len(each) - 1 for each in logs)
    spread = student_t(free, confidence) / NormalDist().inv_cdf(0.5 + confidence / 2) if free else 0.0
    drawn = [_drawn_means(each, spread, resamples, rng) for each in logs]
    means = np.exp(np.stack([[each.mean() for each in logs], *np.stack(drawn, -1)]))  # [1 + resamples, N]
    scale, exponent, floor = _fitted(amounts / unit, means)
    if floor[0] < 0:
        scale, exponent, floor = _fitted(amounts / unit, means, stays=False)
    several = min(map(len, errors)) > 1
    ends = [0.5 - confidence / 2, 0.5 + confidence / 2]

    def interval(values: Array) -> Interval:
        low, high = np.quantile(values[1:], ends) if several else (math.nan, math.nan)
        return Interval(float(values[0]), float(low), float(high))

    law = scale[0] * (amounts / unit) ** -exponent[0] + floor[0]
    numbers = 2 + int(floor[0] > 0 and scale[0] > 0)
    return PowerLaw(
        unit,
        float(scale[0]),
        interval(exponent),
        interval(floor),
        distance=float(abs(law / means[0] - 1).max()),
        fits=_lack_of_fit(logs, np.log(law), numbers),
    )


def _lack_of_fit(logs: Sequence[Array], law: Array, numbers: int) -> float:
    """Return the p-value of the F test of lack of fit; NaN without two seeds, spread and a free amount.

    Args:
        logs: N arrays, of the logarithms of the errors of each amount's seeds.
        law: [N], the logarithms of the law.
        numbers: how many numbers of the law were fitted.
    """
    from scipy import stats

    left, free = len(logs) - numbers, sum(len(each) - 1 for each in logs)
    spread = sum(float(((each - each.mean()) ** 2).sum()) for each in logs)
    if left < 1 or free < 1 or spread <= 0:
        return math.nan
    missed = sum(len(each) * float(each.mean() - at) ** 2 for each, at in zip(logs, law, strict=True))
    return float(stats.f.sf(missed / left / (spread / free), left, free))


def _drawn_means(logs: Array, spread: float, resamples: int, rng: np.random.Generator) -> Array:
    """Return the means [resamples] of seeds [n] that are drawn with replacement, spread."""
    n = len(logs)
    means = logs[rng.integers(n, size=(resamples, n))].mean(1)
    found: Array = logs.mean() + spread * math.sqrt(n / max(n - 1, 1)) * (means - logs.mean())
    return found


def _fitted(x: Array, y: Array, stays: bool = True) -> tuple[Array, Array, Array]:
    """Return a, b, c [R] of the laws of x [N] that are nearest to y [R, N], in relative errors.

    Without ``stays``, c is 0.
    """
    v = 1 / y
    u = x ** -EXPONENTS[:, None, None] * v  # [E, R, N]
    uu, uv, vv, su, sv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1), u.sum(-1), v.sum(-1)
    scale = (su * vv - sv * uv) / (uu * vv - uv * uv)
    floor = (sv - scale * uv) / vv
    if not stays:
        scale, floor = su / uu, np.zeros_like(floor)
    flat = scale <= 0  # errors that rise
    scale, floor = np.where(flat, 0.0, scale), np.where(flat, sv / vv, floor)
    residual = x.size - 2 * (scale * su + floor * sv)
    residual = residual + scale**2 * uu + 2 * scale * floor * uv + floor**2 * vv
    best = residual.argmin(0)
    row = np.arange(len(y))
    scale, floor = scale[best, row], floor[best, row]
    return scale, np.where(scale > 0, EXPONENTS[best], 0.0), floor
