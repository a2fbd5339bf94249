"""The density of a Gaussian, in nats."""

from __future__ import annotations

import math

from torch import Tensor

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def nats(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Return the negative log density of each number [...]."""
    return 0.5 * ((value - mean) / sigma).square() + sigma.log() + HALF_LOG_TAU
