"""Properties of planners, one function each.

A planner is checked on problems with a known best plan (``planning_problems``), with continuous and discrete
actions if the planner takes both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE, global_generators_at_rest, shown
from wmplay.check.fixtures.planning_problems import (
    BOX,
    CHOICE,
    ROWS,
    Problem,
    Solver,
    Value,
    in_turns,
    problem,
    quadratic,
    solve,
    two_valleys,
)
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.contracts import HasHorizon, Plan, Prediction, Score
from wmplay.errors import SpaceError

HORIZON, FEWEST, FEW, MANY, PLENTY = 3, 2, 11, 101, 4099
SEEDS = 23  # over which means are taken
FOLLOWS = 0.25  # part of the distance to goals that change with every step


def check_planner(
    planner: Any,
    action_space: gymnasium.Space[Any] | None = None,
    *,
    tolerance: float = 0.1,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of a planner.

    Args:
        planner: its class, or another function with the constructor's parameters, for example
            ``partial(MyPlanner, candidates=64)``: parameters without a default are given by name, as in a
            run; ``horizon``, ``candidates`` and ``elite_fraction`` are changed if they exist. Or a planner
            that is built: properties that need another one are then not tried.
        action_space: the space that a built planner was built for.
        tolerance: largest missing part of the way from a uniformly random plan to the best one, for a planner
            with 4,099 candidates for two steps (or its own number, if it has no such parameter); doubled for
            two valleys.
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: for a planner that is built, without its action space.
        ConfigError: for settings that the planner does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        solver = Solver(planner, action_space, tolerance, seed)
        return examine(solver.name, PROPERTIES, solver, verbose, quick)


# ---- the properties ------------------------------------------------------------------------------


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


def scores_are_true(solver: Solver) -> None:
    """Check that a plan's score is the objective's score of its actions."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        plan = solve(solver.build(space), task, solver.seed)
        truth = task.worth(plan.action)
        wrong = (~torch.isclose(plan.score, truth, rtol=TOLERANCE, atol=TOLERANCE)).nonzero().flatten()
        if len(wrong):
            row = int(wrong[0])
            raise Broken(
                f"the score of a plan of {kind} actions is {float(plan.score[row]):.4g} (row {row}), but its "
                f"actions are worth {float(truth[row]):.4g}",
                "return the score of the very actions that are returned",
            )


def finds_the_best_of_a_quadratic(solver: Solver) -> None:
    """Check that many candidates come near the known optimum of two steps, in every row."""
    advice = "see that better candidates draw the search to them, and that the best one is returned"
    _reaches(solver, quadratic, 2, solver.tolerance, advice)


def finds_the_deeper_of_two_valleys(solver: Solver) -> None:
    """Check that many candidates find a narrow valley that is deeper than a wide one."""
    advice = "search all of the range at first (a wider first draw), and keep the best that was seen"
    _reaches(solver, two_valleys, 1, 2 * solver.tolerance, advice)


def plans_are_on_time(solver: Solver) -> None:
    """Check that each step's best action is planned for that step, also from a warm start."""
    followed = False
    for kind, space in solver.each():
        task = problem(space, quadratic, turns=True)
        for who, candidates in (("a plan", PLENTY), ("what becomes of the best plan", FEWEST)):
            planner = solver.build(space, candidates=candidates, horizon=HORIZON, hold=1)
            steps = solve(planner, task, solver.seed).action.shape[1]
            goals = in_turns(task.goal, torch.arange(-1, steps + 1).expand(ROWS, -1))  # and one step around
            start = task.model.action_at(goals[:, 1:-1]) if candidates == FEWEST else None
            seeds = range(solver.seed, solver.seed + 5)
            plans = torch.stack([solve(planner, task, seed, warm_start=start).action for seed in seeds])
            place = task.model.place(plans) - 0.5  # [5, B, H, A], from the middle
            late, own, early = (_along(place, goals[:, shift : shift + steps] - 0.5) for shift in range(3))
            followed |= own > FOLLOWS
            if max(late, early) > max(FOLLOWS, 2 * own):
                when, step = ("late", "h - 1") if late > early else ("early", "h + 1")
                raise Broken(
                    f"{who} of {kind} actions is one step {when}: its action h is the best for step {step}",
                    "return the very actions that were predicted, from the first on, and take warm_start "
                    "for a plan that begins with the first step, too: who passes it has moved it",
                )
    if not followed:
        raise NotTried("its plans follow no goal that changes with every step")


def stays_within_bounds(solver: Solver) -> None:
    """Check that plans and candidates stay in the action space, even if the best action is outside."""
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


def batch_invariance(solver: Solver) -> None:
    """Check that a row's plan does not depend on other rows, and is as good alone as among them."""
    for kind, space in solver.each():
        planner = solver.build(space, candidates=MANY)
        usual, other = problem(space, quadratic), problem(space, quadratic)
        for goal in (other.goal, other.belief["goal"]):
            goal[1:] = 3 - goal[1:]  # far away: other plans, and scores of another scale
        plan, beside = (solve(planner, task, solver.seed).action[0].float() for task in (usual, other))
        if not torch.allclose(plan, beside, TOLERANCE, TOLERANCE):
            raise Broken(
                f"other goals in rows 1 to {ROWS - 1} change the plan of {kind} actions of row 0",
                "let nothing mix the rows: a mean, maximum, softmax or topk over the batch",
            )
        single = Problem(space, quadratic, usual.goal[:1])
        among, alone = (_lacking(solver, planner, task, row=0) for task in (usual, single))
        worst, best = _difference(among, alone)
        if worst > 0.01 or best < -0.01:
            raise Broken(
                f"plans of {kind} actions for row 0 lack {_part(alone)} alone, {_part(among)} among {ROWS}",
                "give every row candidates of its own, as many as it has alone",
            )


def more_candidates_are_not_worse(solver: Solver) -> None:
    """Check that many candidates are no worse than few, averaged over seeds."""
    solver.needs("candidates")
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planners = (solver.build(space, candidates=number, horizon=HORIZON) for number in (FEW, MANY))
        few, many = (_lacking(solver, planner, task) for planner in planners)
        if _difference(many, few)[0] > 0:
            raise Broken(
                f"plans of {kind} actions lack {_part(few)} with {FEW} candidates and {_part(many)} with "
                f"{MANY}, over {SEEDS} seeds",
                "see what else depends on the number of candidates: elites, noise, a budget",
            )


def warm_start_helps(solver: Solver) -> None:
    """Check that a search with few candidates is better from the best plan, averaged over seeds."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, candidates=FEW, iterations=1)
        steps = solve(planner, task, solver.seed).action.shape[1]
        best = task.model.action_at(task.goal).unsqueeze(1).repeat_interleave(steps, 1)
        cold, warm = (_lacking(solver, planner, task, start) for start in (None, best))
        if float(cold.mean()) > TOLERANCE and not _difference(warm, cold)[1] < 0:
            raise Broken(
                f"plans of {kind} actions that start at the best one lack {_part(warm)}, those without a "
                f"start {_part(cold)}, over {SEEDS} seeds",
                "search around warm_start [B, H, ...], and let it be a candidate itself",
            )


def any_number_of_elites(solver: Solver) -> None:
    """Check that candidates are finite and plans better than random, from one elite to all candidates."""
    name = solver.needs("elite_fraction", "elites")
    for kind, space in solver.each():
        for elites in (1, 2, MANY // 2, MANY):
            task = problem(space, quadratic)
            value = elites / MANY if name == "elite_fraction" else elites
            plan = solve(solver.build(space, candidates=MANY, **{name: value}), task, solver.seed)
            lacking = task.regret(plan.action)
            if not task.model.finite or not float(lacking.mean()) < 1:
                wrong = f"plans of {kind} actions lack {_part(lacking)} of what a random one lacks"
                raise Broken(
                    f"with {elites} of {MANY} candidates as elites, "
                    + (wrong if task.model.finite else f"candidates of {kind} actions are not finite"),
                    "look at the elites' weights and at their standard deviation where there is 1, or all",
                )


def bad_scores_do_no_harm(solver: Solver) -> None:
    """Check that plans are finite and valid if scores are all equal, or partly NaN or minus infinity."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        scores: dict[str, Callable[[Tensor], Tensor]] = {
            "all alike": torch.zeros_like,
            "all minus infinity": lambda x: torch.full_like(x, -torch.inf),
            "partly nan": _without_the_worse_half,
        }
        for name, change in scores.items():
            task = problem(space, quadratic)
            plan = solver.build(space).plan(
                task.model, task.belief, _changed(task.score, change), generator=_generator(solver.seed)
            )
            place = task.model.place(plan.action)
            if not bool(((place > -TOLERANCE) & (place < 1 + TOLERANCE)).all()):
                raise Broken(
                    f"scores that are {name} lead to {kind} actions that are "
                    + ("nan" if bool(place.isnan().any()) else "not in the space"),
                    "replace nan and -inf by the lowest number (torch.nan_to_num), and divide by no spread "
                    "without a clamp",
                )
            if name == "partly nan" and not plan.score.isfinite().all():
                raise Broken(
                    "it prefers plans whose score is nan",
                    "replace nan by the lowest number (torch.nan_to_num) before topk",
                )


def same_seed_same_numbers(solver: Solver) -> None:
    """Check that all draws come from the given generator."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, candidates=FEW)
        advice = "pass generator=generator to everything that draws"
        with global_generators_at_rest(f"planning {kind} actions", advice):
            first, second = (solve(planner, task, solver.seed).action for _ in range(2))
        if not torch.equal(first, second):
            raise Broken(f"under the same seed, two plans of {kind} actions differ", advice)


def isolation(solver: Solver) -> None:
    """Check that calls change neither their arguments, nor the planner, nor plans returned earlier."""
    for kind, space in solver.each():
        task, other = problem(space, quadratic), problem(space, two_valleys)
        planner = solver.build(space, candidates=FEW)
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
        if any(p.grad is not None for p in task.model.parameters()):
            raise Broken("planning leaves gradients in the model's weights", "plan under torch.no_grad()")


PROPERTIES: tuple[Property[Solver], ...] = (
    Property(discrete_and_continuous_actions),
    Property(plans_and_their_shapes),
    Property(scores_are_true),
    Property(finds_the_best_of_a_quadratic),
    Property(finds_the_deeper_of_two_valleys),
    Property(plans_are_on_time),
    Property(stays_within_bounds),
    Property(candidates_come_row_by_row),
    Property(batch_invariance),
    Property(more_candidates_are_not_worse),
    Property(warm_start_helps),
    Property(any_number_of_elites),
    Property(bad_scores_do_no_harm),
    Property(same_seed_same_numbers),
    Property(isolation),
)


# ---- helpers ------------------------------------------------------------------------------------


def _expect(name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    expected = f"return {list(shape)} of {dtype}, for {ROWS} rows and H = {HORIZON}"
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
        raise Broken(f"{name} is {shown(value)}", expected)
    if not value.isfinite().all():
        raise Broken(f"{name} is not finite", "look for a division by 0")
    if value.requires_grad:
        raise Broken(f"{name} carries a gradient", "plan under torch.no_grad(), or detach() what is returned")


def _reaches(solver: Solver, value: Value, steps: int, tolerance: float, advice: str) -> None:
    for kind, space in solver.each():
        for seed in range(solver.seed, solver.seed + 3):
            task = problem(space, value)
            plan = solve(solver.build(space, candidates=PLENTY, horizon=steps), task, seed)
            lacking = task.regret(plan.action).nan_to_num(torch.inf)
            if not bool((lacking <= tolerance).all()):
                raise Broken(
                    f"a plan of {kind} actions lacks {_part(lacking.max())} of what a random one lacks, more "
                    f"than {tolerance:.0%} (seed {seed}, row {int(lacking.argmax())})",
                    advice,
                )


def _lacking(
    solver: Solver, planner: Any, task: Problem, start: Tensor | None = None, row: int | None = None
) -> Tensor:
    """Return the regret under each of many seeds, [SEEDS], of one row or averaged over rows."""
    seeds = range(solver.seed, solver.seed + SEEDS)
    plans = (solve(planner, task, seed, warm_start=start) for seed in seeds)
    regrets = torch.stack([task.regret(plan.action) for plan in plans])  # [SEEDS, B]
    return regrets.mean(1) if row is None else regrets[:, row]


def _difference(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return an interval of three standard errors around the mean of one - other, in pairs."""
    apart = one - other
    error = 3 * float(apart.std()) / len(apart) ** 0.5
    return float(apart.mean()) - error, float(apart.mean()) + error


def _along(place: Tensor, goal: Tensor) -> float:
    """Return how far places [..., B, H, A] go the way to goals [B, H, A]; 1 = all of it."""
    return float((place * goal).sum((-3, -2, -1)).mean() / goal.square().sum().clamp_min(1e-6))


def _part(lacking: Tensor) -> str:
    return f"{float(lacking.mean()):.0%}"


def _changed(score: Score, change: Callable[[Tensor], Tensor]) -> Score:
    def changed(prediction: Prediction) -> Tensor:
        return change(score(prediction))

    return changed


def _without_the_worse_half(scores: Tensor) -> Tensor:
    """Return scores [B * N] with the lower half of each row NaN, as if wild plans broke the model."""
    rows = scores.reshape(ROWS, -1)
    return torch.where(rows < rows.median(1, keepdim=True).values, torch.nan, rows).flatten()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
