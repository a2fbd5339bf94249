"""The seeds of a run's random draws.

A seed follows from the run's seed, the purpose of the draw and a number (an iteration, an update), never from
earlier draws. A resumed run therefore gives the numbers of an uninterrupted one, without a saved generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """The seeds that follow from one seed."""

    seed: int

    def of(self, purpose: str, number: int = 0) -> int:
        """Return the seed of a purpose and a number."""
        entropy = [self.seed, number, *purpose.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
