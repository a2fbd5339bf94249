"""The conformance kit on policies: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from broken_policies import MUTANTS, UNUSUAL, Honest
from mutants import edited, expect_failures, named
from push import CONTINUOUS, DISCRETE, Push, Reach

import wmplay
from wmplay.check import check_policy
from wmplay.check.fixtures.scripts import Acting
from wmplay.check.policies import POLICY
from wmplay.check.policies.planning import PLANNING
from wmplay.check.report import examine
from wmplay.objectives import SumOfRewards
from wmplay.planners.cem import CEM
from wmplay.policies import beliefs
from wmplay.policies.mpc import MPC


class Never(Reach):
    radius = 0.0


def env(actions: Any = CONTINUOUS, max_steps: int = 17) -> Push:
    return Push(actions, max_steps=max_steps, task=Never())


# ---- one-line edits of our own MPC, and what is said of them ---------------------------------------

OBSERVE = "model.observe(belief, last_action.unsqueeze(1), new)"
TAKEN = "plan[torch.arange(len(step), device=step.device), step]"
BELIEVES, SCORES, FOLLOWS, GOES_ON = (each.name for each in PLANNING)
EDITS: dict[str, tuple[str, str, str, str]] = {
    "observes its own plan": (
        "before, observation, last_action, first)",
        "before, observation, last_action if carry is None "
        "else carry.plan[torch.arange(len(first)), carry.step - 1], first)",
        BELIEVES,
        "told its own action",
    ),
    "ignores the frames": (
        OBSERVE,
        "model.predict(belief, last_action.unsqueeze(1)).belief",
        BELIEVES,
        "the latest frame has not entered",
    ),
    "forgets the episode": (OBSERVE, "model.initial(seen)", BELIEVES, "is forgotten"),
    "observes no action": (OBSERVE, OBSERVE.replace("last_action", "0 * last_action"), BELIEVES, "no action"),
    "keeps the first belief": (
        "return action, Carry(belief,",
        "return action, Carry(belief if carry is None else carry.belief,",
        BELIEVES,
        "without the steps between",
    ),
    "all rows begin": ("bool(first.all())", "bool(first.any())", BELIEVES, "where another row begins"),
    "the first frame unused": (
        "return model.initial(seen)",
        "return model.initial({k: 0 * x for k, x in seen.items()})",
        BELIEVES,
        "without the first frame",
    ),
    "the second action": (TAKEN, TAKEN.replace(", step]", ", step + 1]"), FOLLOWS, "one too far"),
    "always the first action": (TAKEN, "plan[:, 0]", FOLLOWS, "first action again"),
    "plans too late": ("step >= self.replan_every", "step > self.replan_every", FOLLOWS, "for 3 steps"),
    "plan not shifted": ("_shift(plan, step)", "plan", GOES_ON, "as if none had been"),
    "plan shifted twice": ("_shift(plan, step)", "_shift(plan, 2 * step)", GOES_ON, "from its action 4"),
    "plan of other rows": ("rest[index]", "rest[: len(index)]", GOES_ON, "of another row"),
    "goals of other rows": (
        "take_rows(observation, index)",
        "take_rows(observation, torch.arange(len(index)))",
        SCORES,
        "of another row",
    ),
    "goals candidate by candidate": (
        "repeat_rows(dict(self.observation), times)",
        "{key: torch.cat([x] * times) for key, x in self.observation.items()}",
        SCORES,
        "of another row",
    ),
}


def planning(cls: Any) -> Any:
    torch.manual_seed(0)
    model = wmplay.make("model", "mlp", env=env(), hidden=7)
    return cls(model, CEM(CONTINUOUS, horizon=5, candidates=5, iterations=1), SumOfRewards())


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_mpc_is_found_out(edit: str) -> None:
    old, new, expected, said = EDITS[edit]
    trial = Acting(planning(edited(MPC, (old, new), inlined=beliefs)), env(), 0)
    first = examine(edit, PLANNING, trial).failures[0]
    assert first.name == expected
    assert said in first.message


def test_mpc_itself_has_every_property() -> None:
    report = check_policy(planning(MPC), env())
    assert report.passed, report
    assert all(finding.tried for finding in report.findings if finding.name in named(PLANNING)), report


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", UNUSUAL)
def test_an_unusual_policy_is_not_accused(policy: Any) -> None:
    report = check_policy(policy(), env())
    assert report.passed, report


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_an_honest_policy_has_every_property(actions: Any) -> None:
    report = check_policy(Honest(actions), env(actions))
    assert report.passed, report
    assert {x.name for x in report.findings if not x.tried} == named(PLANNING), report


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    expect_failures(check_policy(make(), env()), expected)


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() | {expected for _, _, expected, _ in EDITS.values()} == named(POLICY)


def test_what_cannot_be_tried_says_why() -> None:
    report = check_policy(wmplay.make("policy", "random", env=env()), env())
    assert report.passed, report
    assert "--   memory is kept: not tried, what came before makes no difference" in str(report)


def test_what_is_no_policy_is_told_so() -> None:
    (finding, *_) = check_policy(object(), env()).failures
    assert str(finding).startswith("FAIL shapes and types: it has no initial()")


def test_what_act_returns_is_looked_at() -> None:
    class Bare(Honest):
        def act(self, *told: Any, **draws: Any) -> Any:
            return super().act(*told, **draws)[0]

    report = check_policy(Bare(), env())
    assert "act returned a tensor [5, 2] of float32; return (action, carry)" in str(report.failures[0])


def test_an_env_of_short_episodes_is_one_line() -> None:
    with pytest.raises(wmplay.WmplayError, match="expected 5 for a policy to be tried on"):
        check_policy(Honest(), env(max_steps=3))


def test_planners_that_it_holds_search_in_few_rounds_while_it_is_tried() -> None:
    policy = planning(MPC)
    rounds = policy.planner.iterations = 11
    assert Acting(policy, env(), 0).policy.planner.iterations < rounds == policy.planner.iterations


def test_the_random_state_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    check_policy(Honest(), env())
    assert torch.equal(torch.get_rng_state(), state)
