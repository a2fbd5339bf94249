"""What is measured before a run: threads, updates for fit.minutes, and the time to expect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from few_settings import few_settings

from wmplay import registry
from wmplay.loop import pace
from wmplay.loop.pace import Pace, measure
from wmplay.loop.session import Session
from wmplay.system.device import use_threads

RUN = few_settings(
    iterations=3,
    collect={"random_episodes": 7, "episodes": 5},
    fit={"steps": 11},
    improve={"steps": 13},
    evaluate={"every": 2},
)


@pytest.fixture(autouse=True)
def the_same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def slowed_by(factors: dict[int, float]) -> Callable[[], float]:
    return lambda: factors[torch.get_num_threads()]


@pytest.mark.parametrize(
    ("factors", "chosen"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4}, 4),
        ({1: 1.0, 2: 0.6, 4: 0.55}, 2),
        ({1: 1.0, 2: 0.95, 4: 0.5}, 1),  # a little is not worth it
        ({1: 1.0, 2: 7.0, 4: 9.0}, 1),
    ],
)
def test_several_threads_only_where_they_are_clearly_quicker(factors, chosen, monkeypatch) -> None:
    monkeypatch.setattr(pace, "_available", lambda: 4)
    assert pace._choose_threads(slowed_by(factors)) == chosen


def test_threads_as_asked_for() -> None:
    for asked, chosen, got in ((3, None, 3), (3, 2, 3), ("auto", 2, 2), ("auto", None, 1)):
        use_threads(asked, chosen)
        assert torch.get_num_threads() == got
    use_threads(None, 2)
    assert torch.get_num_threads() == 1


def test_what_is_left_of_a_run_is_expected() -> None:
    found = Pace(
        update=1.0, practice=10.0, random=100.0, explored=1000.0, model=1e4, policy=2e4, baselines=1e5
    )
    whole = found.expected(RUN)
    assert whole["collect"] == 7 * 100 + 3 * 5 * 1000
    assert whole["fit"] == 3 * 11
    assert whole["improve"] == 3 * 13 * 10
    assert whole["evaluate"] == 2 * 3e4 + 1e5 + pace.REPORT  # after iterations 2 and 3
    late = found.expected(RUN, iteration=1, phase="fit", updates=15)
    assert late["collect"] == 5 * 1000
    assert late["fit"] == 3 * 11 - 15
    assert late["improve"] == 2 * 13 * 10


def test_minutes_become_updates() -> None:
    assert Pace(update=0.5).updates_in(2, iterations=3) == 80
    assert Pace(update=1e4).updates_in(2, iterations=3) == 1


def test_measuring_changes_nothing_and_finds_a_time_for_all_that_the_run_does() -> None:
    session = Session(registry.compose(["experiment=tiny", "policy=ppo", "improve.steps=10"]))
    modules = session.parts.modules()
    before = {name: [p.clone() for p in module.parameters()] for name, module in modules.items()}
    state = torch.get_rng_state()
    found = measure(session.settings, session.parts, session.device)
    assert torch.equal(torch.get_rng_state(), state)
    for name, module in modules.items():
        assert all(torch.equal(p, old) for p, old in zip(module.parameters(), before[name], strict=True))
        assert not module.training
    for name in ("update", "practice", "random", "explored", "model", "policy", "baselines"):
        assert getattr(found, name) > 0
