"""Answers of environments: slips are named with env, method and step; arrays may be used again."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from refusals import assert_tokens, refused

import wmplay
from wmplay.envs.learned.starts import real_starts
from wmplay.errors import ConfigError, ShapeError, SpaceError, WmplayError
from wmplay.vector.answers import Held
from wmplay.vector.frames import TOLERANCE, limits
from wmplay.vector.recorder import Tape
from wmplay.vector.stepping import TensorEnv

STATE = Box(np.float32([-1, -np.inf, 0]), np.float32([1, np.inf, 7]))
SCREEN = Box(0, 1, (2, 5), np.uint8)
LENGTH, SLIP = 5, 3  # steps of an episode; the one in which the env makes its mistake


class World(gym.Env[Any, Any]):
    """Counts its steps; ``changed`` may change what step ``SLIP`` returns, ``begun`` what reset does."""

    def __init__(self, changed: Any = None, begun: Any = None, flat: bool = False) -> None:
        self.changed, self.begun, self.flat = changed, begun, flat
        self.observation_space = STATE if flat else Dict(state=STATE, screen=SCREEN)
        self.action_space = Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        answer = (self.observe(), {})
        return answer if self.begun is None else self.begun(*answer)

    def step(self, action: Any) -> Any:
        self.time += 1
        answer = (self.observe(), 1.0, False, self.time == LENGTH, {})
        return self.changed(*answer) if self.changed and self.time == SLIP else answer

    def observe(self) -> Any:
        state = np.array([0, 100 * self.time, 1], np.float32)
        return state if self.flat else {"state": state, "screen": np.zeros((2, 5), np.uint8)}


def seen(**parts: Any) -> Any:
    """A change of the observation's parts."""
    return lambda o, *rest: ({**o, **parts}, *rest)


def state(*values: Any) -> Any:
    return seen(state=np.array(values, np.float32))


SLIPS: dict[str, tuple[Any, type[WmplayError], tuple[str, ...]]] = {
    "nan": (state(0, np.nan, 0), SpaceError, ("'state'", "nan at [1]", "finite")),
    "infinite": (state(0, np.inf, 0), SpaceError, ("'state'", "inf at [1]")),
    "overflow": (seen(state=np.array([0, 1e300, 0])), SpaceError, ("'state'", "inf at [1]")),
    "outside": (state(0, 0, 7.5), SpaceError, ("'state'", "7.5 at [2]", "0 to 7")),
    "pixel": (
        seen(screen=np.full((2, 5), 2, np.uint8)),
        SpaceError,
        ("'screen'", "2 at [0, 0]", "0 to 1"),
    ),
    "wraps": (seen(screen=np.full((2, 5), 256)), SpaceError, ("'screen'", "256", "uint8")),
    "negative": (seen(screen=np.full((2, 5), -1)), SpaceError, ("'screen'", "-1", "uint8")),
    "none": (seen(state=None), ShapeError, ("'state'", "[]", "[3]")),
    "objects": (seen(state=[None] * 3), SpaceError, ("'state'", "object", "float32")),
    "complex": (seen(state=np.zeros(3, complex)), SpaceError, ("'state'", "complex128", "float32")),
    "shape": (state(0, 0), ShapeError, ("'state'", "[2]", "[3]")),
    "ragged": (seen(state=[[1], [2, 3]]), SpaceError, ("'state'", "list", "array")),
    "kind": (seen(screen=np.ones((2, 5))), SpaceError, ("'screen'", "float64", "uint8")),
    "missing": (lambda o, *rest: ({"state": o["state"]}, *rest), SpaceError, ("has state", "screen, state")),
    "extra": (seen(more=1), SpaceError, ("has more, screen, state")),
    "no dict": (lambda o, *rest: (o["state"], *rest), SpaceError, ("ndarray", "screen, state")),
    "reward shape": (lambda o, r, *rest: (o, np.ones(1), *rest), ShapeError, ("reward", "[1]")),
    "reward none": (lambda o, r, *rest: (o, None, *rest), SpaceError, ("reward", "None", "finite")),
    "reward nan": (lambda o, r, *rest: (o, np.nan, *rest), SpaceError, ("reward", "nan", "finite")),
    "reward infinite": (lambda o, r, *rest: (o, -np.inf, *rest), SpaceError, ("reward", "-inf")),
    "reward complex": (lambda o, r, *rest: (o, 1j, *rest), SpaceError, ("reward", "1j", "finite")),
    "reward text": (lambda o, r, *rest: (o, "1", *rest), SpaceError, ("reward", "'1'", "finite")),
    "terminated": (
        lambda o, r, _, *rest: (o, r, None, *rest),
        SpaceError,
        ("terminated", "None", "True"),
    ),
    "truncated": (
        lambda o, r, t, _, i: (o, r, t, 2, i),
        SpaceError,
        ("truncated", "2", "True or False"),
    ),
    "info": (lambda *all_: (*all_[:4], []), ConfigError, ("info", "list", "dict")),
    "old gym": (
        lambda o, r, t, _, i: (o, r, t, i),
        ConfigError,
        ("4", "observation, reward, terminated"),
    ),
    "nothing": (lambda *_: None, ConfigError, ("NoneType", "observation, reward, terminated")),
}


def many(make: Any, mode: AutoresetMode = AutoresetMode.SAME_STEP, slots: int = 2) -> SyncVectorEnv:
    return SyncVectorEnv([make] * slots, autoreset_mode=mode)


@pytest.mark.parametrize(("changed", "error", "tokens"), SLIPS.values(), ids=SLIPS)
@pytest.mark.parametrize("slots", [1, 2], ids=["single", "vector"])
def test_a_slip_of_a_step_is_named(changed: Any, error: type, tokens: tuple[str, ...], slots: int) -> None:
    env = World(changed) if slots == 1 else many(lambda: World(changed))
    with refused(error, "World.step") as caught:
        wmplay.simulate(env, episodes=2)
    assert type(caught.value) is error
    assert_tokens(str(caught.value), tokens)
    if error is not ConfigError or "info" in tokens:
        assert_tokens(caught.value.problem, "episode 1, step 3")


@pytest.mark.parametrize("slip", ["nan", "outside", "reward nan", "missing", "terminated"])
def test_a_slip_is_named_wherever_steps_are_taken(slip: str) -> None:
    changed, error, tokens = SLIPS[slip]
    tensors = TensorEnv(many(lambda: World(changed)), torch.device("cpu"))
    tensors.reset(seed=0)
    for _ in range(SLIP - 1):
        tensors.step(torch.zeros(2, 2))
    with refused(error, "World.step") as practised:
        tensors.step(torch.zeros(2, 2))
    with refused(error, "World.step") as begun:
        real_starts(many(lambda: World(changed)), 4, SLIP + 1, 0)
    for caught in (practised, begun):
        assert_tokens(str(caught.value), tokens)


def test_rehearsing_and_adapting_name_slips_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gym.registry, "Slips-v0", raising=False)
    gym.register("Slips-v0", entry_point=lambda how: World(SLIPS[how][0], flat=False))
    for how in ("reward none", "reward shape", "terminated", "shape", "old gym", "info", "nan", "outside"):
        for count in (None, 2):
            env = wmplay.make_env("Slips-v0", num_envs=count, kwargs={"how": how})
            with refused(SLIPS[how][1]) as caught:
                wmplay.simulate(env, episodes=2)
            assert_tokens(str(caught.value), SLIPS[how][2])


BEGINNINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "nan": (lambda o, i: ({**o, "state": np.full(3, np.nan, np.float32)}, i), ("'state'", "nan at [0]")),
    "old gym": (lambda o, i: o, ("dict", "observation, info")),
    "info": (lambda o, i: (o, None), ("info", "NoneType", "dict")),
    "keys": (lambda o, i: ({}, i), ("observation", "screen, state")),
}


@pytest.mark.parametrize(("begun", "tokens"), BEGINNINGS.values(), ids=BEGINNINGS)
@pytest.mark.parametrize("slots", [1, 2], ids=["single", "vector"])
def test_a_slip_of_a_reset_is_named(begun: Any, tokens: tuple[str, ...], slots: int) -> None:
    env = World(begun=begun) if slots == 1 else many(lambda: World(begun=begun))
    with refused(WmplayError, "World.reset") as caught:
        wmplay.simulate(env, episodes=1)
    assert_tokens(str(caught.value), tokens)


class Seedless(World):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class Optionless(World):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class Wrapped(gym.Wrapper[Any, Any, Any, Any]):
    def reset(self) -> Any:  # type: ignore[override]
        return self.env.reset()


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (Seedless, {"about": ("Seedless.reset", "seed", "options"), "got": ["'seed'", "'options'"]}),
        (Optionless, {"about": ("Optionless.reset", "options"), "got": ["'options'"]}),
        (
            lambda: Wrapped(World()),
            {"about": ("World.reset", "seed", "options"), "got": ["'seed'", "'options'"]},
        ),
    ],
)
def test_a_reset_that_cannot_be_seeded_is_named(make: Any, fields: dict[str, object]) -> None:
    for env in (make(), many(make)):
        with refused(ConfigError, **fields):
            wmplay.simulate(env, episodes=1)


def test_what_is_nearly_right_is_taken() -> None:
    edge = np.float32([1 + TOLERANCE / 2, 3e38, 7 * (1 + TOLERANCE / 2)])
    taken = {
        "rounded": seen(state=edge),
        "wider": seen(state=np.zeros(3), screen=np.zeros((2, 5), np.int64)),
        "lists": seen(state=[0, 0, 0], screen=[[0] * 5] * 2),
        "numbers": lambda o, r, *rest: (o, np.float32(1), np.False_, 0, {}),
        "whole": lambda o, r, *rest: (o, 1, *rest),
        "zero-dimensional": lambda o, r, *rest: (o, np.array(1.0), np.array(False), *rest[1:]),
    }
    for changed in taken.values():
        for env in (World(changed), many(lambda changed=changed: World(changed))):
            for trajectory in wmplay.simulate(env, episodes=2):
                assert len(trajectory) == LENGTH
                assert trajectory.observation["state"].dtype == np.float32
                assert trajectory.reward.tolist() == [1.0] * LENGTH


def test_limits_of_spaces() -> None:
    for space, inside, outside in (
        (Discrete(3, start=-1), [-1, 1], [-2, 2]),
        (MultiDiscrete([2, 3]), [[1, 2]], [[2, 0], [0, -1]]),
        (MultiBinary(2), [[0, 1]], [[2, 0]]),
        (Box(-2, 2, (2,), np.float64), [[2, -2]], [[2.1, 0], [np.nan, 0]]),
        (Box(0, np.inf, (1,)), [[1e30]], [[-1e-3], [np.inf]]),
        (Box(np.float32(-3.4e38), np.float32(3.4e38), (1,)), [[-3.4e38]], [[-np.inf]]),
    ):
        bounds = limits(space)
        assert bounds is not None
        assert all(bounds.hold(np.array([value], space.dtype)) for value in inside)
        assert not any(bounds.hold(np.array([value], space.dtype)) for value in outside)
    assert limits(Box(0, 255, (3, 3, 3), np.uint8)) is None
    assert limits(Box(0, 1, (3,), np.bool_)) is None


class Reuses(gym.Env[Any, Any]):
    """An env that writes into the same arrays again: those of its observation, dict, reward and info."""

    def __init__(self) -> None:
        self.observation_space = Dict(time=Box(0, 99, (1,), np.float32), screen=Box(0, 99, (2, 2), np.uint8))
        self.action_space = Discrete(2)
        self.seen = {"time": np.zeros(1, np.float32), "screen": np.zeros((2, 2), np.uint8)}
        self.reward = np.zeros(())
        self.info: dict[str, Any] = {"time": np.zeros(1)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._answer(0), self.info

    def step(self, action: Any) -> Any:
        self._answer(self.time + 1)
        return self.seen, self.reward, np.bool_(False), self.time == 3, self.info

    def _answer(self, time: int) -> Any:
        self.time = time
        self.seen["time"][:] = self.seen["screen"][:] = self.reward[...] = self.info["time"][:] = time
        return self.seen


@pytest.mark.parametrize("mode", AutoresetMode)
def test_an_env_may_use_its_arrays_again(mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gym.registry, "Reuses-v0", raising=False)
    gym.register("Reuses-v0", entry_point=Reuses)
    for env in (
        Reuses(),
        many(Reuses, mode),
        wmplay.make_env("Reuses-v0"),
        wmplay.make_env("Reuses-v0", num_envs=2, autoreset=mode.name.lower()),
        gym.make("Reuses-v0"),
    ):
        for trajectory in wmplay.simulate(env, episodes=5):
            assert trajectory.observation["time"].ravel().tolist() == [0, 1, 2, 3]
            assert trajectory.observation["screen"].reshape(4, 4)[:, 0].tolist() == [0, 1, 2, 3]
            assert trajectory.reward.tolist() == [1, 2, 3]


def test_practice_in_an_env_that_uses_its_arrays_again() -> None:
    env = TensorEnv(many(Reuses), torch.device("cpu"))
    frames = [env.reset(seed=0)["time"]]
    steps = [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(4)]
    assert [float(step.arrived["time"][0]) for step in steps] == [1, 2, 3, 1]
    assert [float(step.observation["time"][0]) for step in steps] == [1, 2, 0, 1]
    assert [float(step.reward[0]) for step in steps] == [1, 2, 3, 1]
    assert float(frames[0][0]) == 0
    starts = real_starts(many(Reuses), 3, 3, 0)
    assert starts.observation["time"][..., 0].tolist() == [[0, 1, 2]] * 3


def test_a_held_env_keeps_the_last_frame_and_its_own_spec() -> None:
    env = Held(Reuses())
    _, info = env.reset(seed=0)
    after = env.step(0)
    assert info["time"] == 0
    assert after[1:4] == (1.0, False, False)
    assert [type(value) for value in after[1:4]] == [float, bool, bool]
    env.step(0)
    last, *_ = env.step(0)
    env.reset()
    assert last["time"] == 3


def test_an_observation_is_copied_twice_between_an_env_and_its_trajectory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into the recorder, and out of it: what is in between passes the env's own arrays on."""
    env = Reuses()
    seen: list[Any] = []
    record = Tape.record

    def recorded(tape: Tape, *step: Any) -> None:
        seen.append(step[4])
        record(tape, *step)

    monkeypatch.setattr(Tape, "record", recorded)
    wmplay.simulate(env, episodes=1)
    *before, last = seen
    assert all(np.shares_memory(each[key], env.seen[key]) for each in before for key in env.seen)
    assert not any(np.shares_memory(last[key], env.seen[key]) for key in env.seen)
    made = gym.make("CartPole-v1")
    assert Held(made).spec == made.spec


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_trajectories_keep_costs_and_factors_of_their_own_episode(mode: AutoresetMode | None) -> None:
    class Dear(World):
        def reset(self, **how: Any) -> Any:
            first, info = super().reset(**how)
            self.drawn = self.np_random.random()
            return first, info

        def step(self, action: Any) -> Any:
            *answer, info = super().step(action)
            return *answer, {**info, "cost": self.time, "factors": {"weight": self.drawn}, "name": "dear"}

    episodes = wmplay.simulate(Dear() if mode is None else many(Dear, mode), episodes=7)
    weights = [one.info["factors.weight"] for one in episodes]
    assert all(one.info["cost"].tolist() == [1, 2, 3, 4, 5] for one in episodes)
    assert all(set(one.info) == {"cost", "factors.weight"} for one in episodes)
    assert all(len(np.unique(each)) == 1 for each in weights)
    assert len(np.unique(weights)) == 7
    assert episodes[0].steps(1, 3).info["cost"].tolist() == [2, 3]
    for odd in ({"cost": "much"}, {"cost": [1, 2, 3, 4]}, {"factors": [1]}, {"factors": None}):
        (one,) = wmplay.simulate(World(lambda *answer, odd=odd: (*answer[:4], odd)), episodes=1)
        assert not one.info


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_last_step_of_an_episode_is_named(mode: AutoresetMode) -> None:
    class Late(World):
        def step(self, action: Any) -> Any:
            answer = super().step(action)
            if self.time == LENGTH and self.np_random.random() < 0.2:
                answer[0]["state"][1] = np.nan
            return answer

    for env in (Late(), many(Late, mode)):
        with refused(SpaceError, f"step {LENGTH}"):
            wmplay.simulate(env, episodes=200)
