"""DeepSea: a treasure that only N steps to the right in a row reach (Osband et al. 2019, arXiv 1908.03568).

Each step to the right costs 0.01 / N, so that a learner without exploration learns to stay away from it.
Random actions find the treasure with probability 2^-N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit, place_of
from wmplay.errors import check_range
from wmplay.system.arrays import Array

COST = 0.01  # of all N steps to the right


class DeepSea(ExactWorld):
    """A dive through an N x N grid, one row a step, one column to the left or to the right.

    Observation: ``screen`` [N, N] uint8, the diver's cell lit (the last row again at the end). Actions: 0 or
    1.
    State: row and column.

    Args:
        size: N.
        shuffled: which action goes right: None for action 1 in every cell, or the seed of a fixed draw for
            each cell.
        render_mode: see ``ExactWorld``.
    """

    metadata = {**ExactWorld.metadata, "fixed_length": True}  # noqa: RUF012

    def __init__(
        self, size: int = 10, shuffled: int | None = None, render_mode: RenderMode | None = None
    ) -> None:
        check_range("size", size, 2)
        self.size = size
        cells = (size, size)
        self.right = (
            np.ones(cells, int)
            if shuffled is None
            else np.random.default_rng(shuffled).integers(2, size=cells)
        )
        super().__init__({"screen": Box(0, 1, cells, np.uint8)}, Discrete(2), size, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Begin in the upper left corner."""
        return np.zeros((len(generators), 2))

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Dive one row; the step to the right from the last cell finds the treasure."""
        row, column = state.T.astype(int)
        right = action == self.right[row, column]
        found = right & (row == self.size - 1) & (column == self.size - 1)
        following = np.stack([row + 1, (column + np.where(right, 1, -1)).clip(0, self.size - 1)], 1)
        return following.astype(float), found - right * COST / self.size, row + 1 == self.size

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 2] that frames before the end show."""
        return place_of(observation["screen"])

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        row, column = state.clip(0, self.size - 1).T
        return {"screen": lit((self.size, self.size), row[:, None], column[:, None])}

    def optimum(self) -> float:
        """Return the return of N steps to the right."""
        return 1 - COST
