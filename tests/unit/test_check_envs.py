"""The conformance kit on environments: an honest one passes; each property fails worlds built to break it."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from broken_worlds import MUTANTS, IgnoresActions, SometimesNan
from honest_world import Honest, make
from mutants import expect_failures, named
from odd_worlds import ODD

import wmplay
from wmplay.check import check_env
from wmplay.check.envs import PROPERTIES
from wmplay.check.fixtures.played_env import EnvTrial
from wmplay.check.report import examine


def check(cls: type[Honest], **config: Any) -> Any:
    settings = {"render_mode": "rgb_array", **config}
    return check_env(cls(**settings), partial(make, cls, **settings))


def failures(report: Any) -> set[str]:
    return {finding.name for finding in report.failures}


def untried(report: Any) -> dict[str, str]:
    return {finding.name: finding.message for finding in report.findings if not finding.tried}


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_an_honest_env_has_every_property(discrete: bool) -> None:
    report = check(Honest, discrete=discrete)
    assert report.passed, str(report)
    assert untried(report).keys() == (
        {"held actions are repeated steps", "no key is left behind"}
        | {"each entry of the action counts" if discrete else "buttons differ"}
    )


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks(mutant: str) -> None:
    cls, expected = MUTANTS[mutant]
    settings = {"render_mode": "rgb_array"}
    trial = EnvTrial(cls(**settings), partial(make, cls, **settings), 0, plays=3)
    concerned = [holds for holds in PROPERTIES if named([holds]) == expected]
    expect_failures(examine(mutant, concerned, trial), expected)


@pytest.mark.parametrize("world", ODD, ids=lambda world: world.__name__)
def test_a_right_world_of_unusual_style_is_not_accused(world: Any) -> None:
    report = check_env(world(), world, quick=True)
    assert report.passed, str(report)


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() == named(PROPERTIES)


def test_a_world_that_claims_to_be_passive_may_ignore_actions() -> None:
    class Claims(IgnoresActions):
        metadata: ClassVar = {**Honest.metadata, "passive": True}

    report = check_env(Claims(), quick=True)
    assert report.passed, str(report)
    assert "actions show in their own step" in untried(report)


def test_a_world_without_chance_may_begin_always_alike() -> None:
    class NoChance(Honest):
        def begin(self) -> None:
            self.place, self.time = np.full(3, 0.1, np.float32), 0

    report = check_env(NoChance(), quick=True)
    assert report.passed, str(report)
    assert "all its episodes begin alike" in untried(report)["seeds differ"]


def test_an_env_alone_is_tried_without_others() -> None:
    report = check_env(Honest())
    assert report.passed, str(report)
    assert untried(report).keys() == {
        "buttons differ",
        "held actions are repeated steps",
        "instances are apart",
        "no key is left behind",
        "pictures",
        "a vector env is single ones",
        "workers are single ones",
    }
    assert "make=..." in untried(report)["instances are apart"]


def test_a_class_makes_other_envs_but_no_batch() -> None:
    report = check_env(Honest(), Honest)
    assert untried(report)["a vector env is single ones"] == "make takes no num_envs"


def test_built_in_alignment_world_has_its_own_spaces_and_keeps_the_time_rule() -> None:
    from wmplay.check.fixtures.alignment_env import AlignmentWorld

    report = check_env(AlignmentWorld(), AlignmentWorld)
    assert failures(report) == {"spaces that other pieces take"}, str(report)


def test_what_it_finds_names_the_smallest_input() -> None:
    found = {f.name: f.message for f in check(SometimesNan).failures}
    assert "observation 'place' is" in found["observations are of their space"]
    assert "(seed 0, step 12)" in found["observations are of their space"]


def test_wmplay_exports_it() -> None:
    assert wmplay.check.check_env is check_env
