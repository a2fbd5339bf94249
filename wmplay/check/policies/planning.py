"""Properties of policies that plan while they act, one function each.

A copy of the policy, with another model, planner and objective in place of those that it holds, acts on
recorded episodes, in which other actions are executed than its own (``known_course``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wmplay.check.compare import claim
from wmplay.check.fixtures.held_parts import holding
from wmplay.check.fixtures.known_course import Call, Course, Scout, same_frame
from wmplay.check.fixtures.scripts import ANEW, BEFORE, Acting, Script, flat
from wmplay.check.report import Broken, NotTried, Property
from wmplay.contracts import HasHorizon

ALIKE = 0.75  # part of the actions that a cause must explain
CLOSE = 1e-5


@dataclass
class Flight:
    """A play of the copy: T steps of ROWS episodes."""

    course: Course
    scout: Scout | None  # None if the policy holds no planner
    judged: bool  # True if the policy holds an objective
    script: Script
    action: list[Tensor]  # T of [ROWS, N], its own
    asked: list[list[Tensor]]  # T of the states from which it had futures predicted, in order
    calls: list[list[Call]]  # T of the planner's calls
    truth: list[Tensor]  # T of [ROWS]: the states after all that happened


def flown(trial: Acting) -> Flight:
    """Return a play of a copy of the policy with other parts; raise NotTried for one that takes none."""
    known = vars(trial).get("flight")
    if isinstance(known, Flight):
        return known
    parts = trial.parts
    if not parts.models:
        raise NotTried("it holds no model")
    course = Course(trial.segment.observation)
    horizons = [x.horizon for x in parts.planners if isinstance(x, HasHorizon)]
    scout = Scout(trial, *horizons[:1]) if parts.planners else None
    others: dict[int, Any] = {id(model): course for model in parts.models}
    others.update({id(planner): scout for planner in parts.planners})
    others.update({id(objective): same_frame for objective in parts.objectives})
    script = trial.script(anew=ANEW)
    flight = Flight(course, scout, bool(parts.objectives), script, [], [], [], _truth(course, script))
    try:
        policy = holding(trial.policy, others)
        carry = policy.initial(len(script[0].first))
        for step, scene in enumerate(script):
            course.asked.clear()
            before = len(scout.calls) if scout else 0
            action, carry = trial.acting(policy, carry, scene, False, trial.seed_of(step))
            flight.action.append(flat(action))
            flight.asked.append([belief["state"] for belief in course.asked])
            flight.calls.append(scout.calls[before:] if scout else [])
    except Exception as error:
        raise NotTried(
            f"it asks more of its model than the contract: {type(error).__name__}: {error}"
        ) from error
    if not any(flight.asked):
        raise NotTried("it predicts nothing while it acts")
    trial.flight = flight  # type: ignore[attr-defined]
    return flight


def _truth(course: Course, script: Script) -> list[Tensor]:
    states: list[Tensor] = []
    for scene in script:
        begun = course.initial(scene.observation)["state"]
        states.append(
            torch.where(scene.first, begun, _observed(course, states[-1], scene)) if states else begun
        )
    return states


def _observed(
    course: Course, state: Tensor, scene: Any, action: Tensor | None = None, seen: Any = None
) -> Tensor:
    """Return the state [ROWS] after an action and a frame, those of the scene unless others are given."""
    action, seen = (
        scene.last_action if action is None else action,
        scene.observation if seen is None else seen,
    )
    belief = {"state": state, "now": state}
    later = {key: value.unsqueeze(1) for key, value in seen.items()}
    return course.observe(belief, action.unsqueeze(1), later)["state"]


# ---- the properties ------------------------------------------------------------------------------


def it_believes_what_happened(trial: Acting) -> None:
    """Check that it predicts from the belief after the executed actions and all frames of the episode."""
    flight = flown(trial)
    for step, asked in enumerate(flight.asked):
        for state in asked[:1]:  # later ones may go on from predictions
            rows = state.reshape(-1, 1) == flight.truth[step]
            if not rows.any(1).all():
                wrong = state[~rows.any(1)]
                raise Broken(
                    f"in step {step} it predicts from {_blame(flight, step, wrong)}",
                    "begin with model.initial(observation) where first is True, then "
                    "model.observe(belief, last_action, observation) once in each step, row by row",
                )
            times = len(state) // len(flight.truth[step])
            order = flight.truth[step].repeat_interleave(max(times, 1))
            if len(order) == len(state) and not torch.equal(state, order):
                raise Broken(
                    f"in step {step} the beliefs that it predicts from are in another order than the rows",
                    "keep rows in place: row b * N + n belongs to candidate n of row b",
                )


def it_follows_its_plan(trial: Acting) -> None:
    """Check that each action is the one that the latest plan has for this step."""
    flight = flown(trial)
    due, since = _plans(flight)
    pairs = [
        (step, row, int(since[step][row]))
        for step in range(len(flight.script))
        for row in range(len(due[step]))
        if due[step][row] is not None
    ]

    def part(shift: Any) -> float:
        """Return the part of the actions that are action ``shift(k)`` of a plan made k steps before."""
        right = [
            bool((flight.action[step][row] - _entry(due[step][row], shift(k))).abs().max() < CLOSE)
            for step, row, k in pairs
        ]
        return sum(right) / len(right)

    if part(lambda k: k) == 1:
        _as_long_as_it_says(trial, since)
        return
    advice = "take the plan's action 0 in the step of the plan, action 1 in the next one"
    for shift, what in (
        (lambda k: 0, "the plan's first action again, in steps after that of the plan"),
        (lambda k: k + 1, "action k + 1 of a plan that was made k steps before: one too far"),
        (lambda k: 2 * k, "every second action of its plan"),
        (lambda k: k - 1 if k else 0, "action k - 1 of a plan that was made k steps before: one late"),
        (lambda k: -1, "the plan's last action"),
    ):
        if part(shift) > max(ALIKE, part(lambda k: k)):
            raise Broken(f"it takes {what}", advice)
    if part(lambda k: k) < 0.5:
        raise NotTried("its actions are none of its plans'")
    step, row, k = next(
        (step, row, k)
        for step, row, k in pairs
        if (flight.action[step][row] - _entry(due[step][row], k)).abs().max() >= CLOSE
    )
    raise Broken(f"its action in step {step} (row {row}) is not action {k} of its latest plan", advice)


def it_goes_on_from_its_plan(trial: Acting) -> None:
    """Check that a search that starts from the last plan starts from what remains of it."""
    flight = flown(trial)
    due, since = _plans(flight)
    warm = False
    for step, calls in enumerate(flight.calls):
        for call in calls:
            if call.warm_start is None or not step:
                continue
            for place, row in _rows(call.state, flight.truth[step]):
                old, k = due[step - 1][row], int(since[step - 1][row]) + 1
                if old is None:
                    continue
                shift = _shift(call.warm_start[place], old, k)
                if shift is None and any(
                    _shift(call.warm_start[place], x, k) == k for x in due[step - 1] if x is not None
                ):
                    raise Broken(
                        f"in step {step} the search of row {row} starts from the plan of another row",
                        "take the same rows of the plan as of the belief",
                    )
                warm = warm or shift is not None
                if shift is not None and bool(flight.script[step].first[row]):
                    raise Broken(
                        f"in step {step} row {row} begins an episode, and its search starts from the plan of "
                        "the episode before",
                        "where first is True, pass warm_start=None",
                    )
                if shift is not None and shift != k and k < len(old):
                    raise Broken(
                        f"{k} actions of the plan were taken, and the next search starts from its action "
                        f"{shift} on" + (", as if none had been" if shift == 0 else ""),
                        "drop as many actions of the plan as were taken, and repeat the last one at the end",
                    )
    if not warm:
        raise NotTried("no search starts from the plan before")


def it_scores_by_what_it_sees(trial: Acting) -> None:
    """Check that the objective is given the present observation of the very row that is predicted."""
    flight = flown(trial)
    if not flight.judged or flight.scout is None:
        raise NotTried("it holds no objective and planner")
    for step, calls in enumerate(flight.calls):
        for call in calls:
            if not bool((call.score == 1).all()):
                raise Broken(
                    f"in step {step} the objective is given the observation of another row or step than that "
                    "of the prediction",
                    "bind it to the present observation of the rows that are planned, each repeated N times "
                    "in a row (repeat_interleave)",
                )


PLANNING: tuple[Property[Any], ...] = (
    Property(it_believes_what_happened),
    Property(it_scores_by_what_it_sees, after=(it_believes_what_happened,)),
    Property(it_follows_its_plan, after=(it_believes_what_happened,)),
    Property(it_goes_on_from_its_plan, after=(it_believes_what_happened, it_follows_its_plan)),
)


# ---- helpers ------------------------------------------------------------------------------------


def _blame(flight: Flight, step: int, wrong: Tensor) -> str:
    """Return what the wrong states [R] of a step are, by what was done instead, in this step or in all."""
    for what, instead in _mistakes(flight).items():
        chain = flight.truth[0]
        for now in range(1, step + 1):
            first = flight.script[now].first
            begun = flight.course.initial(flight.script[now].observation)["state"]
            once = instead(flight.truth[now - 1], now)
            chain = instead(chain, now)
            if now == step and any((wrong.reshape(-1, 1) == x).any() for x in (once, chain)):
                return what
            chain = torch.where(first, begun, chain)
    blank = {key: torch.zeros_like(x) for key, x in flight.script[step].observation.items()}
    if (wrong == flight.course.initial(blank)["state"][:1]).any():
        return "a belief without the first frame of the episode"
    return "a belief that is not what it was told"


def _mistakes(flight: Flight) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Return functions from states [ROWS] and a step to the states after the step, by their name."""
    course, script = flight.course, flight.script

    def own(step: int) -> Tensor:
        action = script[step].last_action
        return flight.action[step - 1].to(action.dtype).reshape(action.shape)

    def observed(state: Tensor, step: int, action: Tensor, seen: int) -> Tensor:
        frames = {key: value.unsqueeze(1) for key, value in script[seen].observation.items()}
        return course.observe({"state": state}, action.unsqueeze(1), frames)["state"]

    def predicted(state: Tensor, action: Tensor) -> Tensor:
        after: Tensor = course.predict({"state": state, "now": state}, action.unsqueeze(1)).belief["state"]
        return after

    def begun(step: int) -> Tensor:
        return course.initial(script[step].observation)["state"]

    def all_begin(state: Tensor, step: int) -> Tensor:
        usual = observed(state, step, script[step].last_action, step)
        return begun(step) if bool(script[step].first.any()) else usual

    told = {step: scene.last_action for step, scene in enumerate(script)}
    return {
        "a belief that was told its own action, not the one that was executed": lambda state, step: observed(
            state, step, own(step), step
        ),
        "an earlier belief: the latest frame has not entered it": lambda state, step: state,
        "a predicted belief: the latest frame has not entered it": lambda state, step: predicted(
            state, told[step]
        ),
        "a belief that was predicted by its own action, without a frame": lambda state, step: predicted(
            state, own(step)
        ),
        "a belief that was told the frame of the step before": lambda state, step: observed(
            state, step, told[step], step - 1
        ),
        "a belief without the steps between the first and the latest": lambda state, step: observed(
            flight.truth[0], step, told[step], step
        ),
        "a belief that was told no action": lambda state, step: observed(state, step, 0 * told[step], step),
        "a belief that was told the action of the step before": lambda state, step: observed(
            state, step, told[step - 1], step
        ),
        "a belief that was told of its step twice": lambda state, step: observed(
            observed(state, step, told[step], step), step, told[step], step
        ),
        "a belief of the present frame alone: the episode is forgotten": lambda state, step: begun(step),
        "a belief that forgets the episode where another row begins one": all_begin,
        "the belief of another episode, where a new one begins": lambda state, step: observed(
            state, step, told[step], step
        ),
    }


def _plans(flight: Flight) -> tuple[list[list[Tensor | None]], list[Tensor]]:
    """Return, of each step each row's latest plan [H, N], if any, and the steps [ROWS] since it was made."""
    rows = len(flight.truth[0])
    latest: list[Tensor | None] = [None] * rows
    since = torch.zeros(rows, dtype=torch.long)
    due, ages = [], []
    for step, calls in enumerate(flight.calls):
        since = since + 1
        for call in calls:
            for place, row in _rows(call.state, flight.truth[step]):
                latest[row], since[row] = call.plan[place], 0
        due.append(list(latest))
        ages.append(since)
    if all(plan is None for plan in due[-1]):
        raise NotTried("it holds no planner that could be exchanged")
    return due, ages


def _rows(state: Tensor, truth: Tensor) -> list[tuple[int, int]]:
    """Return the places of the states [R] that are a row's [ROWS], with the row; others are suppositions."""
    same = state.reshape(-1, 1) == truth
    return [(place, int(same[place].float().argmax())) for place in same.any(1).nonzero().flatten().tolist()]


def _entry(plan: Tensor | None, index: int) -> Tensor:
    assert plan is not None
    return plan[min(index, len(plan) - 1)]


def _shift(warm: Tensor, old: Tensor, first: int) -> int | None:
    """Return how many actions of an old plan [H, N] a warm start has dropped, or None; ``first`` is tried
    first."""
    steps = int(old.shape[0])
    shifts: list[int] = [min(first, steps - 1), *range(steps)]
    for shift in shifts:
        left = steps - shift
        if len(warm) >= left and bool((warm[:left] - old[shift:]).abs().max() < CLOSE):
            return shift
    return None


def _as_long_as_it_says(trial: Acting, since: list[Tensor]) -> None:
    """Check the attribute ``replan_every``, if it has one: the steps that each plan is followed."""
    every: Any = claim(trial.policy, "replan_every")
    longest = int(torch.stack(since).max()) + 1
    if isinstance(every, int) and (longest > every or longest < min(every, BEFORE)):
        raise Broken(
            f"replan_every is {every}, but it follows a plan for {longest} steps",
            "plan anew after that number of actions were taken from the plan",
        )
