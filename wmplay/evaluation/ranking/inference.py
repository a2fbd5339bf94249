"""Prediction-powered inference: a real mean from few real and many imagined episodes, with a valid interval.

Whatever the model is, its error is estimated on starts at which both a real and an imagined episode began.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wmplay.contracts import Array
from wmplay.evaluation.statistics import student_t


class Powered(NamedTuple):
    """Prediction-powered means, arrays [...]."""

    value: Array
    low: Array
    high: Array
    weight: Array  # of the imagined episodes: 0 ignores them


def powered_mean(real: Array, paired: Array, imagined: Array, confidence: float = 0.95) -> Powered:
    """Return the mean of real outcomes, estimated with the help of imagined ones.

    The estimate is the mean of w f over the further starts plus the mean of y - w f over the paired ones
    (Angelopoulos et al. 2023, arXiv 2301.09633), with the weight w that minimises the estimated variance
    (PPI++, arXiv 2311.01453). The standard error is therefore never above that of the real outcomes alone.
    The normal quantile is replaced by Student's.

    Args:
        real: [..., n], y, at n >= 2 starts.
        paired: [..., n], f, imagined from the same starts.
        imagined: [..., N], f, imagined from N >= 2 further starts.
        confidence: of the interval.
    """
    n, more = real.shape[-1], imagined.shape[-1]
    mean = paired.mean(-1, keepdims=True)
    covariance = ((real - real.mean(-1, keepdims=True)) * (paired - mean)).sum(-1) / (n - 1)
    spread = paired.var(-1, ddof=1) / n + imagined.var(-1, ddof=1) / more
    weight = np.divide(covariance / n, spread, out=np.zeros_like(covariance), where=spread > 0)
    rectifier = real - weight[..., None] * paired
    value = weight * imagined.mean(-1) + rectifier.mean(-1)
    variance = weight**2 * imagined.var(-1, ddof=1) / more + rectifier.var(-1, ddof=1) / n
    half = student_t(n - 1, confidence) * np.sqrt(variance)
    return Powered(value, value - half, value + half, weight)
