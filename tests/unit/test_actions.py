"""Validation of actions: one function for whoever chooses them."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from refusals import refused

from wmplay.errors import ActionError
from wmplay.vector.actions import checked_action, clipped

BOX = Box(-1, 1, (3,), np.float32)
CHOICE = Discrete(5, start=2)
ENVS = (4, 7)  # the numbers of two envs of a batch


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_numbers_of_any_kind_are_a_continuous_action(kind: Any) -> None:
    assert checked_action(np.ones(3, kind), BOX).tolist() == [1, 1, 1]
    assert checked_action(np.ones((2, 3), kind), BOX, ENVS).shape == (2, 3)


def test_bounds_are_left_to_whoever_clips() -> None:
    action = checked_action([-9, 0.5, np.inf], BOX)
    assert clipped(action, BOX.low, BOX.high).tolist() == [-1, 0.5, 1]
    assert clipped(action, BOX.low, BOX.high).dtype == np.float32


def test_discrete_actions_are_of_64_bits() -> None:
    for given, envs in ((np.uint8(6), None), ([2, 6], ENVS)):
        action = checked_action(given, CHOICE, envs)
        assert action.dtype == np.int64
        assert action.tolist() == np.asarray(given).tolist()


@pytest.mark.parametrize(
    ("action", "space", "envs", "fields"),
    [
        ([0, np.nan, 0], BOX, None, {"about": ("NaN", "[1]"), "expected": "numbers"}),
        (np.full((2, 3), [[0], [np.nan]]), BOX, ENVS, {"about": ("NaN", "[7, 0]"), "expected": "numbers"}),
        ([0, 0], BOX, None, {"got": (2,), "expected": "[3]"}),
        (np.zeros((3, 3)), BOX, ENVS, {"got": (3, 3), "expected": "[2, 3]"}),
        (np.zeros(3), BOX, ENVS, {"got": (3,), "expected": "[2, 3]"}),
        ("up", BOX, None, {"got": "str", "expected": "array"}),
        ([[1], [2, 3]], BOX, None, {"got": "list", "expected": "array"}),
        ([None, 0, 0], BOX, None, {"got": "list", "expected": "array"}),
        (1, CHOICE, None, {"got": 1, "expected": "2 .. 6"}),
        (7, CHOICE, None, {"got": 7, "expected": "2 .. 6"}),
        (3.0, CHOICE, None, {"got": "3.0", "expected": "2 .. 6"}),
        ("up", CHOICE, None, {"got": "'up'", "expected": "2 .. 6"}),
        ([3], CHOICE, None, {"got": (1,), "expected": "2 .. 6"}),
        ([3, 9], CHOICE, ENVS, {"got": 9, "expected": ("2 .. 6", "2 envs")}),
        ([3.0, 4.0], CHOICE, ENVS, {"got": "float64 [2]", "expected": "2 .. 6"}),
        ([3, 4, 5], CHOICE, ENVS, {"got": (3,), "expected": ("2 .. 6", "2 envs")}),
    ],
)
def test_what_is_no_action_is_one_line(action: Any, space: Any, envs: Any, fields: dict[str, object]) -> None:
    with refused(ActionError, **fields) as caught:
        checked_action(action, space, envs, who="it")
    assert caught.value.problem.startswith("it ")


def test_a_policys_actions_are_finite_floats() -> None:
    strict = {"floats": True, "finite": True}
    assert checked_action(np.zeros(3), BOX, **strict).tolist() == [0, 0, 0]
    with refused(ActionError, got=np.dtype("int64"), expected="floats"):
        checked_action(np.zeros(3, np.int64), BOX, **strict)
    with refused(ActionError, ("infinity", "[2]"), expected="finite"):
        checked_action([0.0, 0.0, np.inf], BOX, **strict)
