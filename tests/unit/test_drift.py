from typing import Any

import pytest
from few_settings import few_settings
from refusals import refused

from wmplay.errors import ConfigError
from wmplay.runs.worlds import collected_in


def drifting(drift: dict[str, Any], iterations: int = 4, **env: Any) -> list[dict[str, Any]]:
    settings = few_settings(
        iterations=iterations,
        env={"_piece_": "env/lcd", "factors": {"mass": 2, "gravity": 9}},
        collect={"env": env, "drift": drift},
    )
    return [collected_in(settings, i) for i in range(iterations)]


def test_values_and_ranges_move_linearly_and_other_factors_stay() -> None:
    found = drifting({"gravity": [10, 4], "friction": [[0.5, 1], [2, 4]]}, task=None)
    assert [each["factors"]["gravity"] for each in found] == pytest.approx([10, 8, 6, 4])
    assert found[1]["factors"]["friction"] == pytest.approx([1, 2])
    assert {each["factors"]["mass"] for each in found} == {2}
    assert {each["task"] for each in found} == {None}


def test_the_factors_while_collecting_come_first_and_delays_stay_whole() -> None:
    found = drifting({"delay": [0, 2]}, factors={"motor": 2})
    assert [each["factors"] for each in found] == [{"motor": 2, "delay": x} for x in (0, 1, 1, 2)]


def test_without_a_drift_nothing_moves() -> None:
    assert drifting({}, iterations=1, task=None) == [{"task": None}]


@pytest.mark.parametrize("ends", [3, [1], [1, 2, 3], [1, [2, 3]], "down", None, [[1, 2], None]])
def test_a_drift_without_two_ends_and_one_without_time(ends: Any) -> None:
    with refused(ConfigError, "drift.gravity"):
        drifting({"gravity": ends})
    with refused(ConfigError, "iterations"):
        drifting({"gravity": [1, 2]}, iterations=1)
