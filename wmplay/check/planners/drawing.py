"""Properties of a planner's candidates: that rows draw their own, that all count, that they get better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wmplay.check.fixtures.planning_problems import ROWS, Problem, Solver, problem, quadratic, solve
from wmplay.check.planners.regrets import FEW, HORIZON, MANY, changed, percent, plenty
from wmplay.check.report import Broken, NotTried

NUMBERS = (23, 59, 101, 1021)  # of candidates; primes, so that no chunk divides them
ASKED = {23: 0.9, 59: 0.94, 101: 0.94, 1021: 0.94}  # part of them at least, next to other numbers
LAST = 5  # candidates that are tried as the best
HIGH = 1e3  # next to all other scores
WORSE = 0.3  # of what a random plan lacks
ROUNDING = 1e-4  # of sums in another order
STAYS = 0.75  # of what a bad start lacks


def rows_draw_for_themselves(solver: Solver) -> None:
    """Check that rows with the same goal draw different candidates, and a second call others again."""
    drawn = False
    for kind, space in solver.each():
        goal = problem(space, quadratic).goal[:1].expand(ROWS, -1)
        planner = solver.build(space, candidates=FEW, horizon=HORIZON)
        tried = []
        generator = torch.Generator().manual_seed(solver.seed)
        for _ in range(2):
            task = Problem(space, quadratic, goal.clone())
            planner.plan(task.model, task.belief, task.score, generator=generator)
            tried.append(torch.cat([each.reshape(ROWS, -1) for each in task.tried], 1))
        if generator.initial_seed() != solver.seed:
            raise Broken("plan gives the generator a seed", "draw from it, and nothing else")
        other = Problem(space, quadratic, goal.clone())
        solve(planner, other, solver.seed + 1)
        if torch.equal(torch.cat([each.reshape(ROWS, -1) for each in other.tried], 1), tried[0]):
            if not _alike(tried[0]):
                raise Broken(
                    f"rows with the same goal try other {kind} candidates, but the same ones under every "
                    "generator: its draws are its own",
                    "draw with generator=generator: no seed, no generator and no table of its own",
                )
            continue  # nothing is drawn
        drawn = True
        if all(map(_alike, tried)):
            raise Broken(
                f"{ROWS} rows with the same goal all try the same {kind} candidates, drawn by one noise",
                "draw numbers of the shape [B, N, H, ...], not one for all rows",
            )
        if torch.equal(*tried):
            raise Broken(
                f"two calls with the same generator, one after the other, draw the same {kind} candidates",
                "draw with generator=generator: no seed, no generator and no table of its own",
            )
    if not drawn:
        raise NotTried("it draws nothing")


def every_candidate_counts(solver: Solver) -> None:
    """Check that as many futures are scored as candidates are asked for, and that the last ones can win."""
    solver.needs("candidates")
    advice = "score the remainder of the last chunk as well, and choose among all scores"
    for kind, space in solver.each():
        part: dict[int, float] = {}
        for number in NUMBERS:
            task = problem(space, quadratic)
            planner = solver.build(space, candidates=number, horizon=HORIZON, iterations=1)
            plan = solve(planner, task, solver.seed)
            part[number] = sum(map(len, task.asked)) / ROWS / number
            at_once = kind == "continuous" or len(task.asked) == 1  # rounds may end at the same discrete plan
            if number <= MANY and at_once and all(len(asked) == ROWS * number for asked in task.asked):
                unused = _without_effect(solver, planner, task, plan.action, number)
                if unused:
                    raise Broken(
                        f"of {number} candidates, those numbered {unused} make no difference to plans of "
                        f"{kind} actions, even if they are by far the best",
                        advice,
                    )
        most = max(part.values())
        for number, share in part.items():
            if share < ASKED[number] * min(most, round(most) or most):
                raise Broken(
                    f"with candidates={number}, {share * number:.0f} futures of {kind} actions are scored "
                    f"for each row; with another number {most:.0%} of the candidates",
                    advice,
                )


def later_candidates_are_better(solver: Solver) -> None:
    """Check that a search in rounds does not go down: its later candidates are no worse than its first."""
    rounds, later_count, number = False, False, 0
    for kind, space in solver.each():
        change = []
        for seed in range(solver.seed, solver.seed + solver.tries):
            task = problem(space, quadratic)
            planner = solver.build(space, candidates=MANY, horizon=2)
            solve(planner, task, seed)
            turned = problem(space, quadratic)
            solve(planner, turned, seed, score=changed(turned.score, torch.neg))
            scores = [each.reshape(ROWS, -1).mean(1) for each in task.scored]
            scores = [
                x for x, size in zip(scores, task.scored, strict=True) if len(size) == len(task.scored[0])
            ]
            if len(scores) < 2:
                continue
            if torch.equal(task.tried[-1], turned.tried[-1]):  # they do not follow from the scores
                if {"elite_fraction", "elites"} & set(solver.parameters):
                    raise Broken(
                        f"it takes elites, but its last {kind} candidates do not follow from earlier scores",
                        "draw the candidates of a round around the elites of the round before",
                    )
                continue
            number = len(scores)
            later_count = later_count or _later_rounds_count(planner, task, seed)
            best, usual = task.scale
            change.append(float(((scores[0] - scores[-1]) / (2 * (best - usual))).mean()))
        rounds = rounds or bool(change)
        if change and sum(change) / len(change) > WORSE:
            raise Broken(
                f"the last {kind} candidates of a search are worse than its first, by "
                f"{sum(change) / len(change):.0%} of what a random plan lacks",
                "look for a wrong sign: go up the score, and fit to the best candidates",
            )
    if not rounds:
        raise NotTried("no candidates follow from the scores of others")
    if not later_count:
        raise Broken(
            f"of {number} rounds, the scores of all but the first make no difference to its plans",
            "return the best candidate of all rounds, or what the last one was fitted to",
        )


def a_bad_warm_start_is_left(solver: Solver) -> None:
    """Check that a search from a bad plan finds a much better one."""
    for kind, space in solver.each():
        task = problem(space, quadratic)
        planner = solver.build(space, candidates=plenty(solver, space), horizon=HORIZON)
        steps = solve(solver.build(space, candidates=FEW, horizon=HORIZON), task, solver.seed).action.shape[1]
        away = (task.goal < 0.5).to(task.goal.dtype)
        start = task.model.action_at(away).unsqueeze(1).repeat_interleave(steps, 1)
        plan = solve(planner, task, solver.seed, warm_start=start)
        before, after = task.regret(start), task.regret(plan.action)
        if float(after.mean()) > STAYS * float(before.mean()):
            raise Broken(
                f"from a start that lacks {percent(before)} of what a random plan lacks, plans of {kind} "
                f"actions still lack {percent(after)}",
                "search as widely around a warm start as without one: the world has moved on since then",
            )


# ---- helpers ------------------------------------------------------------------------------------


def _later_rounds_count(planner: Any, task: Problem, seed: int) -> bool:
    """Return whether a plan changes if the worst candidates score best in all rounds but the first."""
    usual, calls = solve(planner, task, seed).action, 0

    def turned(scores: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return -scores if calls > 1 else scores

    return not torch.equal(solve(planner, task, seed, score=changed(task.score, turned)).action, usual)


def _alike(rows: Tensor) -> bool:
    return bool(((rows - rows[:1]).abs() < ROUNDING).all())


def _without_effect(solver: Solver, planner: Any, task: Problem, usual: Tensor, number: int) -> list[int]:
    """Return those of the last candidates that change no row's plan when theirs is by far the best score."""
    effect = dict.fromkeys(range(number - LAST, number), False)
    for turn in range(LAST):
        chosen = number - 1 - (torch.arange(ROWS) + turn) % LAST

        def raised(scores: Tensor, chosen: Tensor = chosen) -> Tensor:
            rows = scores.reshape(ROWS, -1)
            if rows.shape[1] != number:
                return scores
            return rows.scatter_add(1, chosen.unsqueeze(1), rows.new_full((ROWS, 1), HIGH)).flatten()

        plan = solve(planner, task, solver.seed, score=changed(task.score, raised)).action
        for row, candidate in enumerate(chosen.tolist()):
            effect[candidate] |= not torch.equal(plan[row], usual[row])
    return [candidate for candidate, seen in effect.items() if not seen]
