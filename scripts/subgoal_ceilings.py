"""Shows what subgoals can change in two rooms at most: success of planners and searches that miss nothing.

    python scripts/subgoal_ceilings.py --door 0 --horizons 6 8

For all pairs of cells in different rooms: the part that is reached in 40 steps by a planner that always
finds the best plan of H steps, by the score of ``goal_distance`` (cells, through the wall), and plans anew
every two steps; without subgoals, and with the best one or two of all cells, by the worst leg, 10 steps each.
Equal plans and subgoals are drawn from, by seed.
"""

from __future__ import annotations

import argparse

import numpy as np

from wmplay.envs.exact.two_rooms import MOVES, SIZE, TwoRooms
from wmplay.system.arrays import Array

STEPS, REPLAN, PATIENCE = 40, 2, 10
MEAN_WEIGHT = 0.1  # of ``goal_distance``
FAR = 2 * SIZE  # above all distances


class Exact:
    """The world as tables, and the best plans in it.

    Args:
        door: row of the door.
        horizon: steps H of a plan.
    """

    def __init__(self, door: int, horizon: int) -> None:
        world = TwoRooms(doors=[door], across=True)
        self.pairs, self.horizon, cells = np.argwhere(world.starts), horizon, world.cells
        number = {tuple(cell): i for i, cell in enumerate(cells)}
        there = (cells[:, None] + MOVES).clip(0, SIZE - 1)
        self.after = np.array(
            [[number.get(tuple(to), i) for to in row] for i, row in enumerate(there)]
        )  # [cells, 4]
        self.apart = np.abs(cells[:, None] - cells).sum(-1)
        # cost[h][g, s, m]: the least cost of h more steps from s towards g, if the closest so far was m
        count = len(cells)
        self.cost = [np.broadcast_to(np.arange(FAR + 1.0), (count, count, FAR + 1))]
        for _ in range(horizon):
            every = [self.of_action(action) for action in range(len(MOVES))]
            self.cost.append(np.min(every, 0))
        self.leg = self.cost[-1][:, :, FAR].T  # [from, to]

    def of_action(self, action: int) -> Array:
        """Return the cost [g, s, m] of an action and the best steps after it, one more than are known."""
        to = self.after[:, action]
        distance = self.apart[to].T[:, :, None]
        closest = np.minimum(np.arange(FAR + 1), distance)
        goal = np.arange(len(to))[:, None, None]
        cost: Array = MEAN_WEIGHT * distance / self.horizon + self.cost[-1][goal, to[None, :, None], closest]
        return cost

    def plan(self, here: int, goal: int, generator: np.random.Generator) -> list[int]:
        """Return the first cells of a best plan."""
        closest, cells = FAR, list[int]()
        for left in range(self.horizon - 1, self.horizon - 1 - min(REPLAN, self.horizon), -1):
            to = self.after[here]
            distance = self.apart[to, goal]
            value = MEAN_WEIGHT * distance / self.horizon
            value = value + self.cost[left][goal, to, np.minimum(closest, distance)]
            here = int(to[best(value, generator)])
            closest = min(closest, int(self.apart[here, goal]))
            cells.append(here)
        return cells

    def subgoals(self, here: int, goal: int, number: int, generator: np.random.Generator) -> list[int]:
        """Return the sequence of cells with the least worst leg."""
        if number == 0:
            return []
        if number == 1:
            return [best(np.maximum(self.leg[here], self.leg[:, goal]), generator)]
        worst = np.maximum(np.maximum(self.leg[here][:, None], self.leg), self.leg[:, goal])
        return list(divmod(best(worst.ravel(), generator), len(worst)))

    def reached(self, number: int, generator: np.random.Generator) -> float:
        """Return the part of the pairs whose goal is reached with so many subgoals."""
        walks = [self.walk(here, goal, number, generator) for here, goal in self.pairs.tolist()]
        return float(np.mean(walks))

    def walk(self, here: int, goal: int, number: int, generator: np.random.Generator) -> bool:
        """Return whether a walk reaches the goal."""
        aims, taken, plan = [*self.subgoals(here, goal, number, generator), goal], 0, list[int]()
        for _ in range(STEPS):
            if len(aims) > 1 and (here == aims[0] or taken >= PATIENCE):
                aims, taken, plan = aims[1:], 0, []
            plan = plan or self.plan(here, aims[0], generator)
            here, taken = plan.pop(0), taken + 1
            if here == goal:
                return True
        return False


def best(cost: Array, generator: np.random.Generator) -> int:
    """Return the index of one of the least costs."""
    return int(generator.choice(np.flatnonzero(cost <= cost.min() + 1e-9)))


def main() -> None:
    """Print a line for each horizon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--door", type=int, default=4)
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 2, 4, 6, 8])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| horizon | no subgoal | one | two |\n|---|---|---|---|")
    for horizon in given.horizons:
        exact, generator = Exact(given.door, horizon), np.random.default_rng(given.seed)
        cells = " | ".join(f"{exact.reached(number, generator):.1%}" for number in (0, 1, 2))
        print(f"| {horizon} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
