"""Shapes16: a square that moves in one of eight directions, the smallest video with an uncertain future.

The first frame does not tell the direction, the second does: a perfect model spends 3 bits on the second
frame and nothing on all others. After Xue et al. 2016 (arXiv 1607.02586), whose shapes move likewise. In
longer episodes the square meets the edge, and leaves it in a direction that is drawn anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box

from wmplay.envs.exact.world import ExactWorld, RenderMode
from wmplay.system.arrays import Array

SIZE, SIDE, STEPS = 16, 3, 4
DIRECTIONS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])


class Shapes16(ExactWorld):
    """A square of 3 x 3 pixels that moves by one pixel a step and is never stopped by the edge in 4 steps.

    Where its direction would lead it out, a direction that does not is drawn, all with equal probability.

    Observation: ``screen`` [16, 16] uint8. The action changes nothing. State: row, column, direction 0 .. 7.

    Args:
        steps: of an episode.
        render_mode: see ``ExactWorld``.
    """

    metadata = {**ExactWorld.metadata, "passive": True}  # noqa: RUF012

    def __init__(self, steps: int = STEPS, render_mode: RenderMode | None = None) -> None:
        screen, action = Box(0, 1, (SIZE, SIZE), np.uint8), Box(-1, 1, (1,), np.float32)
        super().__init__({"screen": screen}, action, steps, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw a place and a direction."""
        high = (SIZE - SIDE - STEPS + 1, SIZE - SIDE - STEPS + 1, len(DIRECTIONS))
        return np.array([generator.integers((STEPS, STEPS, 0), high) for generator in generators], np.float64)

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move by one pixel."""
        following = state.copy()
        for row in np.flatnonzero(stopped(state)).tolist():
            ways = np.array([(*state[row, :2], way) for way in range(len(DIRECTIONS))])
            following[row, 2] = generators[row].choice(np.flatnonzero(~stopped(ways)))
        following[:, :2] += DIRECTIONS[following[:, 2].astype(int)]
        return following, np.zeros(len(state)), np.zeros(len(state), np.bool_)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        place = np.arange(SIZE)
        rows, columns = ((place >= state[:, [i]]) & (place < state[:, [i]] + SIDE) for i in (0, 1))
        return {"screen": (rows[:, :, None] & columns[:, None, :]).astype(np.uint8)}

    def optimum(self) -> float:
        """Return 0: nothing is paid. The best code length is ``best_bits``."""
        return 0.0

    @staticmethod
    def best_bits() -> float:
        """Return the bits of a video of 4 steps, given its first frame, under the true distribution."""
        return float(np.log2(len(DIRECTIONS)))


def stopped(state: Array) -> Array:
    """Return whether the edge stops the square in its direction, [n] bool of states [n, 3]."""
    place = state[:, :2] + DIRECTIONS[state[:, 2].astype(int)]
    return np.asarray(((place < 0) | (place > SIZE - SIDE)).any(1))
