"""Spaces as JSON, and an actor that does what ``simulate`` does."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

import wmplay
from wmplay.check.fixtures.alignment_env import AlignmentWorld
from wmplay.errors import ActionError, ConfigError, ShapeError, SpaceError
from wmplay.policies.random import RandomPolicy
from wmplay.runs.disk.portable import write_portable
from wmplay.simulation import Actor
from wmplay.vector.spaces import space_from_json, space_to_json


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    dtype = draw(st.sampled_from(["float32", "float64", "uint8", "int64", "bool"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    drawn = rng.integers(0, 2, shape) if dtype == "bool" else rng.normal(0, 50, shape)
    low = np.asarray(drawn).clip(0, 200).astype(dtype)
    high = (low.astype(float) + rng.integers(0, 3, shape)).clip(0, 255).astype(dtype)
    if dtype.startswith("float") and draw(st.booleans()):
        low, high = (
            np.full(shape, -np.inf, dtype),
            np.where(rng.random(shape) < 0.5, np.inf, high).astype(dtype),
        )
    low, high = np.asarray(low), np.asarray(high)  # numbers, where there is no axis
    return Box(low, high, shape, np.dtype(dtype).type)


SPACES = st.recursive(
    boxes() | st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 9), st.integers(-3, 3)),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, min_size=1, max_size=3).map(
        lambda parts: Dict(list(parts.items()))
    ),
    max_leaves=4,
)


def test_others_may_read_what_is_exported(tmp_path: Path) -> None:
    """Every file has the mode that any new file of this user gets."""
    weights = {"model": {"x": torch.ones(2)}}
    write_portable(tmp_path / "out", {}, weights, {"observation_space": Discrete(2)}, {}, {}, "")
    (tmp_path / "plain").write_text("")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode}, modes


@settings(max_examples=50, deadline=None)
@given(SPACES)
def test_a_space_comes_back_from_json(space: gymnasium.Space) -> None:
    back = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert back == space
    if isinstance(space, Dict):
        assert list(back) == list(space)
    assert getattr(back, "dtype", None) == getattr(space, "dtype", None)


def test_another_space_is_refused() -> None:
    with refused(SpaceError, "MultiBinary"):
        space_to_json(Dict(x=MultiBinary(3)))


class Remembering:
    """Acts by what it saw, what was done, whether an episode began, and a draw."""

    def initial(self, batch_size: int) -> torch.Tensor:
        return torch.zeros(batch_size)

    def act(self, carry, observation, last_action, first, *, explore=False, generator=None):
        carry = torch.where(first, 0, carry) + observation["clock"][:, 0] / 64 + last_action[:, 0] / 3
        noise = torch.rand(len(carry), 2, generator=generator) * (0.7 if explore else 0.1)
        return torch.stack([carry, -carry], 1) + noise, carry


@pytest.mark.parametrize("explore", [False, True])
def test_an_actor_does_what_simulate_does(explore: bool) -> None:
    env = AlignmentWorld()
    act = Actor(Remembering(), env, explore=explore, seed=7)
    observation, _ = env.reset(seed=7)
    for trajectory in wmplay.simulate(AlignmentWorld(), Remembering(), 1, seed=7, explore=explore):
        for action in trajectory.action:
            taken = act(observation)
            np.testing.assert_array_equal(taken, action)
            assert taken.dtype == env.action_space.dtype
            observation, _, terminated, truncated, _ = env.step(taken)
        assert terminated or truncated


def test_an_actor_is_told_what_was_executed_instead() -> None:
    env = AlignmentWorld()
    observation, _ = env.reset(seed=0)
    one, other = (Actor(Remembering(), env) for _ in range(2))
    one(observation)
    other(observation)
    assert (one(observation) != other(observation, last_action=[0.9, 0])).any()


def test_what_an_actor_cannot_act_on() -> None:
    env = AlignmentWorld()
    act = Actor(Remembering(), env)
    seen, _ = env.reset(seed=0)
    with refused(SpaceError, "screen", got=["clock", "episode", "length", "led_by"]):
        act({key: value for key, value in seen.items() if key != "screen"})
    with refused(ShapeError, "screen", got=(7, 5), expected="[5, 7]"):
        act({**seen, "screen": seen["screen"].T})
    with refused(SpaceError, got="list", expected="dict"):
        act([1])
    with refused(ConfigError, "seed", got=-1, expected="0"):
        Actor(Remembering(), env, seed=-1)


def test_what_was_executed_before_an_episode_is_not_of_it() -> None:
    env = AlignmentWorld()
    observation, _ = env.reset(seed=0)
    one, other = (Actor(Remembering(), env) for _ in range(2))
    assert (one(observation) == other(observation, last_action=[0.9, 0])).all()


@pytest.mark.parametrize(
    ("discrete", "executed", "fields"),
    [
        (False, [0.1, 0.2, 0.3], {"about": "last_action", "got": (3,), "expected": "[2]"}),
        (False, 0.1, {"about": "last_action", "got": (), "expected": "[2]"}),
        (False, [0.1, np.nan], {"about": ("last_action", "NaN", "[1]")}),
        (False, "left", {"about": "last_action", "got": "str"}),
        (True, 0.5, {"about": "last_action", "got": "0.5"}),
        (True, 99, {"about": "last_action", "got": 99, "expected": "0"}),
    ],
)
def test_what_cannot_have_been_executed(discrete: bool, executed: Any, fields: dict[str, object]) -> None:
    env = AlignmentWorld(discrete=discrete)
    act = Actor(RandomPolicy(env.action_space), env)
    observation, _ = env.reset(seed=0)
    act(observation)
    with refused(ActionError, **fields):
        act(observation, last_action=executed)
    act(observation)  # and it goes on
