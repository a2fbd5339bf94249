"""Catch: a ball falls one row a step, and the paddle on the last row has to be below it at the end.

The bsuite version (Osband et al. 2019, arXiv 1908.03568): 10 rows, 5 columns; +1 if caught, -1 if not. With
wind the ball also moves left, not, or right with probabilities 1/4, 1/2, 1/4, and stays at walls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit, place_of
from wmplay.errors import check_range
from wmplay.system.arrays import Array

WIND = (0.25, 0.5, 0.25)  # probability that the ball moves left, not, right


class Catch(ExactWorld):
    """Catch a falling ball. Uniformly random actions have the exact mean return 2 / columns - 1.

    Observation: ``screen`` [rows, columns] uint8, ball and paddle lit. Actions: left, stay, right. State: the
    ball's row and column, the paddle's column.

    Args:
        rows: of the screen; an episode has rows - 1 steps.
        columns: of the screen.
        windy: whether wind moves the ball.
        render_mode: see ``ExactWorld``.
    """

    metadata = {**ExactWorld.metadata, "fixed_length": True}  # noqa: RUF012

    def __init__(
        self, rows: int = 10, columns: int = 5, windy: bool = False, render_mode: RenderMode | None = None
    ) -> None:
        check_range("rows", rows, 2)
        check_range("columns", columns, 2)
        self.rows, self.columns, self.windy = rows, columns, windy
        screen = Box(0, 1, (rows, columns), np.uint8)
        super().__init__({"screen": screen}, Discrete(3), rows - 1, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw the ball's column; the paddle begins in the middle."""
        ball = [generator.integers(self.columns) for generator in generators]
        return np.array([(0, column, self.columns // 2) for column in ball], np.float64)

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move paddle and ball."""
        row, ball, paddle = state.T
        wind = [generator.choice(3, p=WIND) - 1 for generator in generators] if self.windy else 0
        moved = (ball + wind, paddle + action - 1)
        ball, paddle = (column.clip(0, self.columns - 1) for column in moved)
        over = row + 1 == self.rows - 1
        return np.stack([row + 1, ball, paddle], 1), over * np.where(ball == paddle, 1.0, -1.0), over

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 3] that frames before the end show."""
        screen = observation["screen"]
        return np.concatenate([place_of(screen), screen[:, -1].argmax(1)[:, None]], 1)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        last = np.full(len(state), self.rows - 1)
        return {"screen": lit((self.rows, self.columns), np.stack([state[:, 0], last], 1), state[:, 1:])}

    def optimum(self) -> float:
        """Return the best mean return, by dynamic programming over (ball, paddle)."""
        place = np.arange(self.columns)
        moves = [(place + move).clip(0, self.columns - 1) for move in (-1, 0, 1)]
        value = np.where(place[:, None] == place, 1.0, -1.0)  # [ball, paddle]
        for _ in range(self.rows - 1):
            if self.windy:
                value = sum(p * value[ball] for p, ball in zip(WIND, moves, strict=True))
            value = np.max([value[:, paddle] for paddle in moves], axis=0)
        return float(value[:, self.columns // 2].mean())
