"""Properties of a planner's manners: what it takes, returns and leaves alone; one function each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE, global_generators_at_rest, shown
from wmplay.check.fixtures.planning_problems import (
    BOX,
    CHOICE,
    ROWS,
    Problem,
    Solver,
    problem,
    quadratic,
    solve,
    two_valleys,
)
from wmplay.check.planners.regrets import (
    AT_FIRST,
    FEW,
    HORIZON,
    MANY,
    SEEDS,
    changed,
    difference,
    percent,
    regrets,
)
from wmplay.check.report import Broken
from wmplay.contracts import HasHorizon, Plan
from wmplay.errors import SpaceError

INSIDE, OFTEN = 0.97, 0.02  # a limit within the range, and the part of candidates at it
ALIKE = 0.01  # of what a random plan lacks


def discrete_and_continuous_actions(solver: Solver) -> None:
    """Check that it is built for a bounded Box and for Discrete, or refuses one by a SpaceError."""
    for kind, error in solver.refusals.items():
        if not isinstance(error, SpaceError):
            raise Broken(
                f"it cannot be built for {kind} actions: {type(error).__name__}: {error}",
                "raise wmplay.errors.SpaceError with one line where an action space is none of its",
            ) from error
    if not solver.spaces:
        raise Broken(
            f"it takes neither continuous nor discrete actions: {next(iter(solver.refusals.values()))}",
            f"take {BOX} or {CHOICE}",
        )


def plans_and_their_shapes(solver: Solver) -> None:
    """Check that a plan is [B, H, A] floats or [B, H] int64 with finite scores [B], with or without
    generator."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, horizon=HORIZON)
        plan = solve(planner, task, solver.seed)
        if not isinstance(plan, Plan):
            raise Broken(f"plan returned a {type(plan).__name__}", "return a wmplay.Plan(action, score)")
        horizon = plan.action.shape[1] if plan.action.ndim > 1 else HORIZON
        if isinstance(planner, HasHorizon):
            horizon = planner.horizon
        shape = (ROWS, horizon, *(space.shape or ()))
        dtype = torch.int64 if kind == "discrete" else torch.float32
        _expect(f"the plan of {kind} actions", plan.action, shape, dtype)
        _expect(f"the score of {kind} actions", plan.score, (ROWS,), torch.float32)
        planner.plan(task.model, task.belief, task.score)


def same_seed_same_numbers(solver: Solver) -> None:
    """Check that all draws come from the given generator."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, candidates=FEW)
        advice = "pass generator=generator to everything that draws"
        with global_generators_at_rest(f"planning {kind} actions", advice):
            first, second = (solve(planner, task, solver.seed).action for _ in range(2))
        if torch.equal(first, second):
            continue
        if torch.equal(solve(solver.build(space, candidates=FEW), task, solver.seed).action, first):
            raise Broken(
                f"a planner that has planned {kind} actions before plans otherwise under the same seed",
                "keep nothing in the planner from call to call: the next call may be for other rows",
            )
        raise Broken(f"under the same seed, two plans of {kind} actions differ", advice)


def isolation(solver: Solver) -> None:
    """Check that calls change neither their arguments, nor the planner, nor plans returned earlier."""
    for kind, space in solver.each():
        task, other = problem(space, quadratic), problem(space, two_valleys)
        planner = solver.build(space, candidates=FEW)
        task.model.eval()
        first = solve(planner, task, solver.seed)
        kept = first.action.clone(), first.score.clone()
        start = first.action.clone()
        belief = {key: value.clone() for key, value in task.belief.items()}
        solve(planner, task, solver.seed + 1, warm_start=start)
        for name, before, after in (
            ("warm_start", kept[0], start),
            *((f"the belief's '{key}'", belief[key], value) for key, value in task.belief.items()),
            ("the plan of an earlier call", kept[0], first.action),
            ("the score of an earlier call", kept[1], first.score),
        ):
            if not torch.equal(before, after):
                raise Broken(
                    f"planning {kind} actions changes {name}", "change no tensor in place that is not its own"
                )
        for between in (Problem(space, two_valleys, other.goal[:2]), other):
            solve(planner, between, solver.seed)
        again = solve(planner, task, solver.seed)
        if not torch.equal(kept[0], again.action):
            raise Broken(
                f"after calls about other rows, the same call plans other {kind} actions",
                "keep nothing in the planner between calls: what goes on from plan to plan is warm_start",
            )
        if task.model.training:
            raise Broken("planning puts the model into training mode", "leave the model's mode as it is")
        if any(p.grad is not None for p in task.model.parameters()):
            raise Broken("planning leaves gradients in the model's weights", "plan under torch.no_grad()")


def candidates_come_row_by_row(solver: Solver) -> None:
    """Check that scored rows are b * N + n: all candidates of row 0, then those of row 1, ..."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        solve(solver.build(space), task, solver.seed)
        for row in task.asked:
            number = max(len(row) // ROWS, 1)
            if not torch.equal(row.long(), torch.arange(ROWS).repeat_interleave(number)):
                first = row.long().tolist()[: ROWS + 2]
                raise Broken(
                    f"of {len(row)} scored futures of {kind} actions, the first are of rows {first}",
                    "repeat beliefs with repeat_interleave, flatten candidates [B, N, H, ...] from the front",
                )


def stays_within_bounds(solver: Solver) -> None:
    """Check that plans and candidates stay in the action space, even if the best action is outside, and are
    not cut off within it."""
    for kind, space in solver.each():
        planner = solver.build(space)
        start = solve(planner, problem(space, quadratic, beyond=True), solver.seed).action
        for seed in range(solver.seed, solver.seed + 3):
            task = problem(space, quadratic, beyond=True)
            plan = solve(planner, task, seed, warm_start=start.clone())
            place, (low, high) = task.model.place(plan.action), task.model.furthest
            beyond = max(-low, high - 1, float(-place.min()), float(place.max()) - 1)
            if beyond > TOLERANCE:
                raise Broken(
                    f"where the best {kind} actions are out of bounds, it goes {beyond:.2g} of the range "
                    f"beyond them (seed {seed})",
                    "clamp every candidate to the action space before it is scored",
                )
            if kind == "continuous":
                _expect_no_other_limit(torch.cat([each.flatten(0, 1) for each in task.tried]))


def batch_invariance(solver: Solver) -> None:
    """Check that a row's plan does not depend on other rows."""
    for kind, space in solver.each():
        planner = solver.build(space, candidates=MANY, horizon=HORIZON)
        usual, other = problem(space, quadratic), problem(space, quadratic)
        for goal in (other.goal, other.belief["goal"]):
            goal[1:] = 3 - goal[1:]  # far away: other plans, and scores of another scale
        plan, beside = (solve(planner, task, solver.seed).action[0].float() for task in (usual, other))
        if not torch.allclose(plan, beside, TOLERANCE, TOLERANCE):
            raise Broken(
                f"other goals in rows 1 to {ROWS - 1} change the plan of {kind} actions of row 0",
                "let nothing mix the rows: a mean, maximum, softmax or topk over the batch",
            )


def as_good_alone_as_among_others(solver: Solver) -> None:
    """Check that a row alone is planned as well as among others, averaged over seeds."""
    for kind, space in solver.each():
        planner = solver.build(space, candidates=MANY, horizon=HORIZON)
        usual = problem(space, quadratic)
        single = Problem(space, quadratic, usual.goal[:1])
        for number in (AT_FIRST, SEEDS):
            among, alone = (regrets(solver, planner, task, row=0, number=number) for task in (usual, single))
            worst, best = difference(among, alone)
            if worst > -ALIKE and best < ALIKE:  # all of the interval
                break
        if worst > ALIKE or best < -ALIKE:
            raise Broken(
                f"plans of {kind} actions for row 0 lack {percent(alone)} alone, {percent(among)} among "
                f"{ROWS} rows",
                "give every row candidates of its own, as many as it has alone",
            )


def bad_scores_do_no_harm(solver: Solver) -> None:
    """Check that plans are finite and valid if scores are all equal, or partly NaN or minus infinity."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        scores: dict[str, Callable[[Tensor], Tensor]] = {
            "all alike": lambda x: 0 * x,  # with a gradient, as before
            "all minus infinity": lambda x: 0 * x - torch.inf,
            "partly nan": _without_the_worse_half,
        }
        for name, change in scores.items():
            task = problem(space, quadratic)
            plan = solver.build(space).plan(
                task.model,
                task.belief,
                changed(task.score, change),
                generator=torch.Generator().manual_seed(solver.seed),
            )
            place = task.model.place(plan.action)
            if not bool(((place > -TOLERANCE) & (place < 1 + TOLERANCE)).all()):
                raise Broken(
                    f"scores that are {name} lead to {kind} actions that are "
                    + ("nan" if bool(place.isnan().any()) else "not in the space"),
                    "replace nan and -inf by the lowest number (torch.nan_to_num), and divide by no spread "
                    "without a clamp",
                )
            true = torch.isclose(plan.score, task.worth(plan.action), TOLERANCE, TOLERANCE)
            if name == "partly nan" and not bool(true.all()):
                raise Broken(
                    "it prefers plans whose score is nan, or returns another score than theirs",
                    "replace nan by the lowest number (torch.nan_to_num) before topk",
                )


# ---- helpers ------------------------------------------------------------------------------------


def _expect_no_other_limit(place: Tensor) -> None:
    """Raise Broken if many of the places [R, A] that were tried are exactly at a limit within the range."""
    for entry, (number, side) in itertools.product(range(place.shape[1]), enumerate(("below", "above"))):
        tried = place[:, entry] if number else 1 - place[:, entry]
        top = tried.max()
        often = float((tried == top).float().mean()) > OFTEN and len(torch.unique(tried)) > FEW
        if often and float(top) < INSIDE:
            at = float(top) if number else 1 - float(top)
            raise Broken(
                f"entry {entry} of its candidates is cut off at {at:.2f} of the range of actions: none lies "
                f"{side} that",
                "clamp candidates to the bounds of the action space, entry by entry, and to nothing else",
            )


def _expect(name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    expected = f"return {list(shape)} of {dtype}, for {ROWS} rows and H = {HORIZON}"
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
        raise Broken(f"{name} is {shown(value)}", expected)
    if not value.isfinite().all():
        raise Broken(f"{name} is not finite", "look for a division by 0")
    if value.requires_grad:
        raise Broken(f"{name} carries a gradient", "plan under torch.no_grad(), or detach() what is returned")


def _without_the_worse_half(scores: Tensor) -> Tensor:
    """Return scores [B * N] with the lower half of each row NaN, as if wild plans broke the model."""
    rows = scores.reshape(ROWS, -1)
    return torch.where(rows < rows.median(1, keepdim=True).values, torch.nan, rows).flatten()
