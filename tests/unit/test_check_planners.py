"""The conformance kit on planners: an honest one passes; each property fails planners built to break it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from broken_planners import MUTANTS, UNUSUAL, Honest
from gymnasium.spaces import Box, Dict, Discrete
from mutants import edited, expect_failures, named

import wmplay
from wmplay import registry
from wmplay.check import check_planner
from wmplay.check.fixtures.planning_problems import Solver
from wmplay.check.planners import PROPERTIES
from wmplay.check.report import examine
from wmplay.errors import SpaceError
from wmplay.planners.cem import CEM


def failures(report: Any) -> set[str]:
    return {finding.name for finding in report.failures}


def test_an_honest_planner_has_every_property() -> None:
    report = check_planner(Honest)
    assert report.passed, str(report)
    assert report.tried == len(report.findings)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    with torch.random.fork_rng(devices=[]):
        solver = Solver(make, None, 0.1, 0)
        report = examine(mutant, [each for each in PROPERTIES if named([each]) == expected], solver)
    expect_failures(report, expected)
    assert getattr(make, "said", "") in report.failures[0].message


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() == named(PROPERTIES)


def test_a_warm_start_is_taken_knot_by_knot() -> None:
    wrong = edited(CEM, ("warm_start[:, :: self.hold]", "warm_start[:, :knots]"))
    for make, expected in ((CEM, set()), (wrong, {"plans are on time"})):
        group = [each for each in PROPERTIES if each.name == "plans are on time"]
        with torch.random.fork_rng(devices=[]):
            assert failures(examine("cem", group, Solver(make, None, 0.1, 0))) == expected


@pytest.mark.parametrize("planner", UNUSUAL)
def test_an_unusual_planner_is_not_accused(planner: Any) -> None:
    report = check_planner(planner)
    assert report.passed, str(report)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ["cem", "random_shooting"])  # the cheap ones; contract tests try all
def test_built_in_planners_pass_under_other_seeds(name: str, seed: int) -> None:
    report = check_planner(registry.target(registry.piece_config("planner", name)), seed=seed)
    assert report.passed, str(report)


def test_a_planner_that_is_built_is_tried_in_its_own_space() -> None:
    space = Box(-3, 1, (1,), np.float32)
    report = check_planner(Honest(space, horizon=1, candidates=307), space)
    assert report.passed, str(report)
    untried = [finding.name for finding in report.findings if not finding.tried]
    assert untried == [
        "every candidate counts",
        "finds it in other units",
        "each step has its own action",
        "predicted ends count",
        "more candidates are not worse",
        "any number of elites",
    ]
    weak = check_planner(Honest(space, horizon=13, candidates=5), space)
    assert "finds the best of a quadratic" in failures(weak)


def test_one_kind_of_actions_is_enough() -> None:
    class Picky(Honest):
        def __init__(self, action_space: Any, candidates: int = 53, elite_fraction: float = 0.1) -> None:
            if isinstance(action_space, Discrete):
                raise SpaceError("discrete")
            super().__init__(action_space, 2, candidates, 3, elite_fraction)

    assert check_planner(Picky).passed


def test_what_a_run_provides_is_given_by_name() -> None:
    seen = {}

    class Asks(Honest):
        def __init__(self, env: Any, model: Any, objective: Any, candidates: int = 53) -> None:
            seen.update(env=env, model=model, objective=objective)
            super().__init__(env.action_space, 2, candidates)

    assert check_planner(Asks).passed
    first, _ = seen["env"].reset(seed=0)
    assert isinstance(seen["env"].observation_space, Dict)
    assert set(first) == set(seen["model"].decode(torch.zeros(2, 3, 3)))


def test_the_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    wmplay.check.check_planner(Honest)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_planner_without_its_space_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="give check_planner the action_space"):
        check_planner(Honest(Discrete(3)))
