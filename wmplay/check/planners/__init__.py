"""The check of planners: its properties are in the modules of this folder.

A planner is checked on problems with a known best plan (``planning_problems``), with continuous and discrete
actions if the planner takes both.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch

from wmplay.check.fixtures.planning_problems import TRIES, Solver
from wmplay.check.planners.drawing import (
    a_bad_warm_start_is_left,
    every_candidate_counts,
    later_candidates_are_better,
    rows_draw_for_themselves,
)
from wmplay.check.planners.manners import (
    as_good_alone_as_among_others,
    bad_scores_do_no_harm,
    batch_invariance,
    candidates_come_row_by_row,
    discrete_and_continuous_actions,
    isolation,
    plans_and_their_shapes,
    same_seed_same_numbers,
    stays_within_bounds,
)
from wmplay.check.planners.searching import (
    any_number_of_elites,
    each_step_has_its_own_action,
    finds_it_in_other_units,
    finds_the_best_of_a_quadratic,
    finds_the_deeper_of_two_valleys,
    more_candidates_are_not_worse,
    plans_are_on_time,
    predicted_ends_count,
    scores_are_true,
    warm_start_helps,
)
from wmplay.check.report import Property, Report, examine

PROPERTIES: tuple[Property[Solver], ...] = (
    Property(discrete_and_continuous_actions),
    Property(plans_and_their_shapes, decisive=True),
    Property(same_seed_same_numbers, decisive=True),
    Property(isolation),
    Property(candidates_come_row_by_row, decisive=True),
    Property(scores_are_true),
    Property(stays_within_bounds),
    Property(batch_invariance),
    Property(as_good_alone_as_among_others, after=(batch_invariance,), slow=True),
    Property(rows_draw_for_themselves),
    Property(later_candidates_are_better),
    Property(every_candidate_counts, after=(later_candidates_are_better,), slow=True),
    Property(finds_the_best_of_a_quadratic, after=(later_candidates_are_better,)),
    Property(finds_it_in_other_units, after=(finds_the_best_of_a_quadratic,), slow=True),
    Property(finds_the_deeper_of_two_valleys, after=(finds_the_best_of_a_quadratic,), slow=True),
    Property(each_step_has_its_own_action, after=(finds_the_best_of_a_quadratic,)),
    Property(predicted_ends_count, after=(finds_the_best_of_a_quadratic,)),
    Property(plans_are_on_time, after=(each_step_has_its_own_action,), slow=True),
    Property(more_candidates_are_not_worse, after=(finds_the_best_of_a_quadratic,), slow=True),
    Property(a_bad_warm_start_is_left, after=(finds_the_best_of_a_quadratic,), slow=True),
    Property(warm_start_helps, slow=True),
    Property(any_number_of_elites, after=(finds_the_best_of_a_quadratic,)),
    Property(bad_scores_do_no_harm, slow=True),
)


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
        solver = Solver(planner, action_space, tolerance, seed, tries=1 if quick else TRIES)
        return examine(solver.name, PROPERTIES, solver, verbose, quick)
