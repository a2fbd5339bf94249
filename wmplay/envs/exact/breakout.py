"""Breakout on a 10 x 10 screen, after MinAtar (Young and Tian 2019, arXiv 1903.03176)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit
from wmplay.errors import check_values
from wmplay.system.arrays import Array

SIZE, BRICKS = 10, slice(1, 4)  # rows and columns; rows of bricks
# a state: the ball's row and column, its moves in a step, whether it was in a brick, the row and column where
# it was before, the paddle's column, the last action, and the 30 bricks
BEGINNING = 9  # numbers before the bricks


class Breakout(ExactWorld):
    """Hit the bricks with a ball, and do not let it fall: 1 for each brick; a new wall follows the last one.

    Observation: ``screen`` [10, 10, 3] uint8: paddle and bricks; the ball; where it was before. Actions:
    left, stay, right; with the probability ``sticky`` the last action is repeated. The paddle is one pixel.

    Args:
        sticky: a probability.
        max_steps: see ``ExactWorld``.
        render_mode: see ``ExactWorld``.
    """

    def __init__(
        self, sticky: float = 0.1, max_steps: int = 500, render_mode: RenderMode | None = None
    ) -> None:
        check_values("breakout", fractions={"sticky": sticky})
        self.sticky = sticky
        super().__init__(
            {"screen": Box(0, 1, (SIZE, SIZE, 3), np.uint8)}, Discrete(3), max_steps, render_mode
        )

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw the side from which the ball comes; the paddle begins in the middle."""
        side = np.array([generator.integers(2) for generator in generators])
        state = np.ones((len(side), BEGINNING + 3 * SIZE))
        column = side * (SIZE - 1)
        known: dict[int, Any] = {0: 3, 1: column, 2: 1, 3: 1 - 2 * side, 4: 0, 5: 3, 6: column, 7: 4, 8: 1}
        for entry, value in known.items():
            state[:, entry] = value
        return state

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move paddle and ball."""
        after, every = state.copy(), np.arange(len(state))
        wall = np.zeros((len(state), SIZE, SIZE))  # with room above and below the bricks
        wall[:, BRICKS] = state[:, BEGINNING:].reshape(-1, 3, SIZE)
        stuck = np.array([generator.random() < self.sticky for generator in generators])
        done = np.where(stuck, state[:, 8], action)
        paddle = (state[:, 7] + done - 1).clip(0, SIZE - 1)
        before, (down, right) = state[:, :2], state[:, 2:4].T
        row, column = (before + state[:, 2:4]).T
        right = np.where((column < 0) | (column >= SIZE), -right, right)
        down = np.where(row < 0, -down, down)
        row, column = row.clip(0, SIZE - 1), column.clip(0, SIZE - 1)
        at = every, row.astype(int), column.astype(int)
        inside = wall[at] == 1
        hit = inside & (state[:, 4] == 0)  # a ball that comes out of a brick does not break the next one
        wall[at] = np.where(hit, 0, wall[at])
        low = (row == SIZE - 1) & ~inside
        wall[low & ~wall.any((1, 2)), BRICKS] = 1
        straight, aside = low & (before[:, 1] == paddle), low & (column == paddle)
        back = hit | straight | aside
        right = np.where(aside & ~straight, -right, right)
        ball = np.where(back, before[:, 0], row), column, np.where(back, -down, down), right
        after[:, :BEGINNING] = np.stack([*ball, inside, *before.T, paddle, done], 1)
        after[:, BEGINNING:] = wall[:, BRICKS].reshape(len(state), 3 * SIZE)
        return after, 1.0 * hit, low & ~straight & ~aside

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        ball, trail = (lit((SIZE, SIZE), state[:, i : i + 1], state[:, i + 1 : i + 2]) for i in (0, 5))
        solid = lit((SIZE, SIZE), np.full((len(state), 1), SIZE - 1), state[:, 7:8])
        solid[:, BRICKS] = state[:, BEGINNING:].reshape(-1, 3, SIZE)
        return {"screen": np.stack([solid, ball, trail], -1)}

    def optimum(self) -> float:
        """Return the mean return of following the ball, over 64 episodes: the best one is not known."""
        generators = [np.random.default_rng(seed) for seed in range(64)]
        state, alive, total = self.start(generators), np.ones(64, np.bool_), 0.0
        for _ in range(self.max_steps):
            toward = np.sign(state[:, 1] + state[:, 3] - state[:, 7]) + 1
            state, reward, lost = self.advance(state, toward, generators)
            total, alive = total + float(reward[alive].sum()), alive & ~lost
        return total / 64
