"""Two rooms: a 9 x 9 grid, divided by a wall with doors; a goal in the other room needs a way around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array

SIZE, WALL = 9, 4  # cells of an edge; the wall's column
MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])  # right, down, left, up


class TwoRooms(ExactWorld):
    """A walk to a goal, begin and goal drawn uniformly and different; the goal pays 1 and ends the episode.

    Observation: ``screen`` [9, 9] uint8, the walker's cell lit; ``place`` [2] float32, its row and column
    from -1 to 1; ``goal_screen`` and ``goal_place``, the goal's. Actions: right, down, left, up; against a
    wall nothing happens.
    State: row, column, and the goal's.

    Args:
        doors: rows in which the wall has a door.
        across: whether the goal is always in the other room; else two cells are drawn anywhere.
        origin: row and column of the free cell in which every episode begins; None = drawn.
        max_steps: see ``ExactWorld``.
        render_mode: see ``ExactWorld``.
    """

    def __init__(
        self,
        doors: Sequence[int] = (4,),
        across: bool = False,
        origin: Sequence[int] | None = None,
        max_steps: int = 40,
        render_mode: RenderMode | None = None,
    ) -> None:
        if any(door not in range(SIZE) for door in doors):
            raise ConfigError(
                f"two_rooms: doors are {list(doors)}", got=list(doors), expected=f"rows from 0 to {SIZE - 1}"
            )
        self.free = np.ones((SIZE, SIZE), np.bool_)
        self.free[:, WALL] = np.isin(np.arange(SIZE), doors)
        self.cells = np.argwhere(self.free)
        self.starts = ~np.eye(len(self.cells), dtype=bool)  # of the pairs of cells: start and goal
        if across:
            side = np.sign(self.cells[:, 1] - WALL)
            self.starts = side[:, None] * side == -1
        self.origin = None
        if origin is not None:
            known = self.cells.tolist()
            self.origin = known.index(list(origin)) if list(origin) in known else None
            if self.origin is None or not self.starts[self.origin].any():
                raise ConfigError(
                    f"two_rooms: origin is {list(origin)}",
                    got=list(origin),
                    expected="row and column of a free cell, in a room if goals are across",
                )
            self.starts &= np.arange(len(known))[:, None] == self.origin
        self.task = ReachCell()
        screen, place = Box(0, 1, (SIZE, SIZE), np.uint8), Box(-1, 1, (2,), np.float32)
        spaces: dict[str, Any] = {"screen": screen, "place": place}
        spaces |= {f"goal_{key}": space for key, space in spaces.items()}
        super().__init__(spaces, Discrete(len(MOVES)), max_steps, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw two different cells, again until they may be start and goal."""

        def draw(generator: np.random.Generator) -> Array:
            pair: Array = generator.choice(len(self.cells), 2, replace=False)
            if self.origin is not None:
                pair[0] = self.origin
            return pair if self.starts[tuple(pair)] else draw(generator)

        pairs = np.array([draw(generator) for generator in generators])
        drawn: Array = self.cells[pairs].reshape(len(pairs), 4).astype(float)
        return drawn

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move to a free cell, or stay."""
        here = state[:, :2].astype(int)
        there = (here + MOVES[action]).clip(0, SIZE - 1)
        there = np.where(self.free[tuple(there.T)][:, None], there, here)
        reached = (there == state[:, 2:]).all(1)
        return np.concatenate([there, state[:, 2:]], 1), reached.astype(float), reached

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 4] that frames show."""
        places = np.concatenate([observation["place"], observation["goal_place"]], 1)
        return ((places.astype(np.float64) + 1) * ((SIZE - 1) / 2)).round()

    def observe(self, state: Array) -> dict[str, Array]:
        """Return screen, place and goal."""
        here, goal = (
            {"place": scaled(cell), "screen": lit((SIZE, SIZE), cell[:, :1], cell[:, 1:])}
            for cell in (state[:, :2], state[:, 2:])
        )
        return {**{f"goal_{key}": value for key, value in goal.items()}, **here}

    def distances(self) -> Array:
        """Return the lengths [K, K] of the shortest ways between the K free cells (inf without a way)."""
        apart = np.abs(self.cells[:, None] - self.cells).sum(-1)
        length = np.where(apart <= 1, apart, np.inf).astype(float)
        for via in range(len(self.cells)):  # Floyd and Warshall
            length = np.minimum(length, length[:, [via]] + length[[via]])
        return length

    def optimum(self) -> float:
        """Return the part of the goals that can be reached in time."""
        length = self.distances()[self.starts]
        return float((length <= self.max_steps).mean())


class ReachCell:
    """The task: a reward of 1, and the end, at the goal's cell. Its distance is in cells, through walls."""

    def distance(self, observation: Mapping[str, Any]) -> Any:
        """Return the sum of rows and columns to the goal, over the leading axes."""
        difference = abs(observation["place"] - observation["goal_place"])
        return (difference[..., 0] + difference[..., 1]) * ((SIZE - 1) / 2)

    def reward_and_terminated(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the reward of a step between two observations, and whether it reached the goal."""
        reached = self.distance(after) < 0.5
        return 1.0 * reached, reached


def scaled(cells: Array) -> Array:
    """Return cells [n, 2] as float32 from -1 to 1."""
    return np.asarray(cells * (2 / (SIZE - 1)) - 1, np.float32)
