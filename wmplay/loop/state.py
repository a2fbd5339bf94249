"""The progress of a run (the part of a checkpoint besides weights and data), and the seeds of its draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PHASE_NAMES = ("collect", "fit", "improve", "evaluate")  # of an iteration, in this order


@dataclass
class State:
    """The progress of a run."""

    iteration: int = 0
    phase: str = PHASE_NAMES[0]  # the next phase, or the interrupted one
    updates: int = 0  # of the model, over all iterations
    fit_from: int = 0  # ``updates`` when this iteration's fitting began
    fit_until: int = 0  # ``updates`` at which this iteration's fitting ends
    real_steps: int = 0  # taken in the real env for learning, without evaluation
    learned_steps: int = 0  # of practice outside the real env
    wall: dict[str, float] = field(  # seconds, by phase
        default_factory=lambda: dict.fromkeys(PHASE_NAMES, 0.0)
    )


@dataclass(frozen=True)
class Seeds:
    """The seeds of a run's random draws.

    A seed follows from the run's seed, the purpose of the draw and a number (an iteration, an update), never
    from earlier draws. A resumed run therefore gives the numbers of an uninterrupted one, without a saved
    generator.
    """

    seed: int

    def of(self, purpose: str, number: int = 0) -> int:
        """Return the seed of a purpose and a number."""
        entropy = [self.seed, number, *purpose.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])
