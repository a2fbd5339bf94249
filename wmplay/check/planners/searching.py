"""Properties of what a planner finds, one function each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box
from torch import Tensor

from wmplay.check.compare import TOLERANCE, claim
from wmplay.check.fixtures.planning_problems import (
    ROWS,
    Mortal,
    Problem,
    Solver,
    Value,
    in_turns,
    problem,
    quadratic,
    solve,
    two_valleys,
    while_alive,
)
from wmplay.check.planners.regrets import (
    AT_FIRST,
    FEW,
    FEWEST,
    HORIZON,
    MANY,
    SEEDS,
    difference,
    percent,
    plenty,
    regrets,
)
from wmplay.check.report import Broken, NotTried

APART, NEAR = 0.25, 0.75  # parts of the way to a warm start: by chance, and around it
UNITS = Box(np.array([-30, 0.125], np.float32), np.array([50, 0.126], np.float32))
MOSTLY = 0.7  # of the rows
FOLLOWS = 0.25  # part of the distance to goals that change with every step


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


def finds_it_in_other_units(solver: Solver) -> None:
    """Check the same where one entry of an action has a narrow range and another a wide one."""
    if solver.built is not None or "continuous" not in solver.spaces:
        raise NotTried("it cannot be built for another space of continuous actions")
    advice = "give widths and steps in half-ranges of each entry: std * (high - low) / 2"
    ranges = zip(UNITS.low.tolist(), UNITS.high.tolist(), strict=True)
    where = f"with actions of {' and '.join(f'{low:g} to {high:g}' for low, high in ranges)}, "
    _reaches_in(solver, "continuous", UNITS, solver.seed, quadratic, 2, solver.tolerance, advice, where)


def finds_the_deeper_of_two_valleys(solver: Solver) -> None:
    """Check that many candidates find a narrow valley that is deeper than a wide one."""
    advice = "search all of the range at first (a wider first draw), and keep the best that was seen"
    _reaches(solver, two_valleys, 1, 2 * solver.tolerance, advice)


def plans_are_on_time(solver: Solver) -> None:
    """Check that each step's best action is planned for that step, also from a warm start."""
    followed = False
    plan, warm = "a plan", "what becomes of the best plan"
    tries = [(plan, 1), (warm, 1), *[(warm, 2)] * ("hold" in solver.parameters)]
    for kind, space in solver.each():
        for who, hold in tries:
            candidates = FEWEST if who is warm else plenty(solver, space)
            task = problem(space, quadratic, turns=hold)
            planner = solver.build(space, candidates=candidates, horizon=HORIZON * hold, hold=hold)
            steps = solve(planner, task, solver.seed).action.shape[1]
            turn = torch.arange(-hold, steps + hold).div(hold, rounding_mode="floor")
            goals = in_turns(task.goal, turn.expand(ROWS, -1))  # and one turn around
            start = task.model.action_at(goals[:, hold:-hold]) if who is warm else None
            seeds = range(solver.seed, solver.seed + 5)
            plans = torch.stack([solve(planner, task, seed, warm_start=start).action for seed in seeds])
            place = task.model.place(plans) - 0.5  # [5, B, H, A], from the middle
            late, own, early = (
                _along(place, goals[:, shift : shift + steps] - 0.5) for shift in (0, hold, 2 * hold)
            )
            followed |= own > FOLLOWS
            if max(late, early) > max(FOLLOWS, 2 * own):
                when, step = ("late", f"h - {hold}") if late > early else ("early", f"h + {hold}")
                raise Broken(
                    f"{who} of {kind} actions is {_steps(hold)} {when}: its action h is the best for step "
                    f"{step}",
                    "return the very actions that were predicted, from the first on, and take warm_start "
                    "for a plan that begins with the first step, too: who passes it has moved it",
                )
            if hold > 1 and own < FOLLOWS:
                raise Broken(
                    f"with hold={hold}, little is left of the best plan of {kind} actions as a warm start: "
                    f"{own:.0%}",
                    "take the action of each knot from the first step that it is held for: "
                    "warm_start[:, :: hold]",
                )
    if not followed:
        raise NotTried("its plans follow no goal that changes with every step")


def predicted_ends_count(solver: Solver) -> None:
    """Check that a plan does not end the episode for what is predicted to be paid after that."""
    for kind, space in solver.each():
        model = Mortal(space, quadratic)
        belief = model.initial({"place": problem(space, quadratic).goal})
        planner = solver.build(space, candidates=MANY, horizon=HORIZON)
        generator = torch.Generator().manual_seed(solver.seed)
        plan = planner.plan(model, belief, while_alive, generator=generator).action
        if plan.shape[1] < HORIZON:
            raise NotTried(f"its plans have fewer than {HORIZON} steps")
        over = (model.place(plan)[:, 0, 0] > 0.5).float().mean()
        if over > MOSTLY:
            raise Broken(
                f"{over:.0%} of its plans of {kind} actions end the episode in their first step, for rewards "
                "that are predicted after that",
                "weigh what follows a step by its predicted discount: the probability to go on",
            )


def each_step_has_its_own_action(solver: Solver) -> None:
    """Check that a plan is not one action for all steps where goals change, unless it claims to ``hold``."""
    tried = False
    for kind, space in solver.each():
        for hold in (1, 2) if "hold" in solver.parameters else (1,):
            planner = solver.build(space, candidates=MANY, horizon=2 * hold + 1, hold=hold)
            held = max(hold, int(claim(planner, "hold", 1)))
            task = problem(space, quadratic, turns=1)
            plan = solve(planner, task, solver.seed).action
            if plan.shape[1] <= held:
                continue
            tried = True
            if torch.equal(plan, plan[:, :1].expand_as(plan)):
                raise Broken(
                    f"a plan of {plan.shape[1]} {kind} actions is the same action in all steps, where each "
                    f"step's goal is another{f' and hold is {held}' if held > 1 else ''}",
                    "search an action for each step; a planner that means to hold one says for how many "
                    "steps by the attribute hold",
                )
    if not tried:
        raise NotTried("its plans are not longer than what it holds")


def more_candidates_are_not_worse(solver: Solver) -> None:
    """Check that many candidates are no worse than few, averaged over seeds."""
    solver.needs("candidates")
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planners = [solver.build(space, candidates=number, horizon=HORIZON) for number in (FEW, MANY)]
        for number in (AT_FIRST, SEEDS):
            few, many = (regrets(solver, planner, task, number=number) for planner in planners)
            if difference(many, few)[1] <= 0:
                break
        if difference(many, few)[0] > 0:
            raise Broken(
                f"plans of {kind} actions lack {percent(few)} with {FEW} candidates and {percent(many)} with "
                f"{MANY}, over {number} seeds",
                "see what else depends on the number of candidates: elites, noise, a budget",
            )


def warm_start_helps(solver: Solver) -> None:
    """Check that a search with few candidates is better from the best plan, averaged over seeds."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, candidates=FEW, iterations=1, horizon=HORIZON)
        steps = solve(planner, task, solver.seed).action.shape[1]
        best = task.model.action_at(task.goal).unsqueeze(1).repeat_interleave(steps, 1)
        for number in (AT_FIRST, SEEDS):
            cold, warm = (regrets(solver, planner, task, start, number=number) for start in (None, best))
            if difference(warm, cold)[1] < 0:
                break
        if float(cold.mean()) > TOLERANCE and not difference(warm, cold)[1] < 0:
            raise Broken(
                f"plans of {kind} actions that start at the best one lack {percent(warm)}, those without a "
                f"start {percent(cold)}, over {number} seeds",
                "search around warm_start [B, H, ...], and let it be a candidate itself",
            )
        if kind == "continuous" and (part := _part_of_the_start(solver, task, best)) is not None:
            raise Broken(
                f"its first candidates lie around {part:.0%} of the way from the middle to the warm start",
                "draw around warm_start itself, not around a mean of it and something else",
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
                wrong = f"plans of {kind} actions lack {percent(lacking)} of what a random one lacks"
                raise Broken(
                    f"with {elites} of {MANY} candidates as elites, "
                    + (wrong if task.model.finite else f"candidates of {kind} actions are not finite"),
                    "look at the elites' weights and at their standard deviation where there is 1, or all",
                )


# ---- helpers ------------------------------------------------------------------------------------


def _part_of_the_start(solver: Solver, task: Problem, start: Tensor) -> float | None:
    """Return the part of the way to a warm start [B, H, A] at which the middle of the first candidates lies;
    None if a candidate is the start itself, or the middle has nothing to do with it."""
    planner, seen = solver.build(task.space, candidates=MANY, horizon=HORIZON), len(task.tried)
    solve(planner, task, solver.seed, warm_start=start)
    place = task.model.place(start).unsqueeze(1) - 0.5
    tried = task.tried[seen]
    if tried.shape[1] != place.shape[2] or len(tried) % ROWS:
        return None
    tried = tried.reshape(ROWS, -1, *tried.shape[1:]) - 0.5  # [B, N, H, A]
    if bool(((tried - place).abs() < TOLERANCE).flatten(2).all(2).any()):
        return None
    part = _along(tried.median(1).values, place[:, 0])
    return part if APART < part < NEAR else None


def _reaches(solver: Solver, value: Value, steps: int, tolerance: float, advice: str) -> None:
    for kind, space in solver.each():
        for seed in range(solver.seed, solver.seed + solver.tries):
            _reaches_in(solver, kind, space, seed, value, steps, tolerance, advice)


def _reaches_in(
    solver: Solver,
    kind: str,
    space: Space[Any],
    seed: int,
    value: Value,
    steps: int,
    tolerance: float,
    advice: str,
    where: str = "",
) -> None:
    task = problem(space, value)
    plan = solve(solver.build(space, candidates=plenty(solver, space), horizon=steps), task, seed)
    lacking = task.regret(plan.action).nan_to_num(torch.inf)
    if not bool((lacking <= tolerance).all()):
        uneven = _uneven(task, plan.action)
        raise Broken(
            f"{where}a plan of {kind} actions lacks {percent(lacking.max())} of what a random one lacks, "
            f"more than {tolerance:.0%} (seed {seed}, row {int(lacking.argmax())}){uneven}",
            advice,
        )


def _steps(number: int) -> str:
    return "one step" if number == 1 else f"{number} steps"


def _uneven(task: Problem, plan: Tensor) -> str:
    """Return which of a plan's steps lacks by far the most, if one does."""
    lacking = torch.stack([task.regret(plan[:, step : step + 1]).mean() for step in range(plan.shape[1])])
    step = int(lacking.argmax())
    rest = (lacking.sum() - lacking[step]) / max(len(lacking) - 1, 1)
    return f", almost all of it in action {step}" if len(lacking) > 1 and lacking[step] > 4 * rest else ""


def _along(place: Tensor, goal: Tensor) -> float:
    """Return how far places [..., B, H, A] go the way to goals [B, H, A]; 1 = all of it."""
    return float((place * goal).sum((-3, -2, -1)).mean() / goal.square().sum().clamp_min(1e-6))
