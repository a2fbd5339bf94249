"""Regrets of plans over seeds, and other numbers that the properties share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import Tensor

from wmplay.check.fixtures.planning_problems import ROWS, Problem, Solver, problem, quadratic, solve
from wmplay.contracts import Prediction, Score

HORIZON, FEWEST, FEW, MANY, PLENTY = 3, 2, 11, 101, 4099
OFTEN = 8  # times that a search by samples scores a candidate, at most; gradient steps score it more often
SEEDS, AT_FIRST = 23, 5  # over which means are taken; of them, those that may settle it


def plenty(solver: Solver, space: gymnasium.Space[Any]) -> int:
    """Return the number of candidates of a thorough search: fewer than PLENTY where each is scored often."""
    task = problem(space, quadratic)
    solve(solver.build(space, candidates=FEW), task, solver.seed)
    often = sum(map(len, task.asked)) / (ROWS * FEW)
    return int(PLENTY * OFTEN / max(often, OFTEN))


def regrets(
    solver: Solver,
    planner: Any,
    task: Problem,
    start: Tensor | None = None,
    row: int | None = None,
    number: int = SEEDS,
) -> Tensor:
    """Return the regret under each of a number of seeds, [number], of one row or averaged over rows."""
    seeds = range(solver.seed, solver.seed + number)
    plans = (solve(planner, task, seed, warm_start=start) for seed in seeds)
    found = torch.stack([task.regret(plan.action) for plan in plans])  # [number, B]
    return found.mean(1) if row is None else found[:, row]


def difference(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return an interval of three standard errors around the mean of one - other, in pairs."""
    apart = one - other
    error = 3 * float(apart.std()) / len(apart) ** 0.5
    return float(apart.mean()) - error, float(apart.mean()) + error


def percent(lacking: Tensor) -> str:
    """Return the mean of what plans lack, in percent."""
    return f"{float(lacking.mean()):.0%}"


def changed(score: Score, change: Callable[[Tensor], Tensor]) -> Score:
    """Return a score whose results are changed."""

    def other(prediction: Prediction) -> Tensor:
        return change(score(prediction))

    return other
