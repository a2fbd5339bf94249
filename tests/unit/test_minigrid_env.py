"""MiniGrid on its real package: cells, direction and mission say what MiniGrid says; nothing is shifted."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from refusals import refused

import wmplay
from wmplay.check.fixtures.alignment_env import ACTIONS, AlignmentWorld, check_alignment
from wmplay.contracts import Trajectory
from wmplay.envs.minigrid import COLOURS, KINDS, STATES, MiniGridEnv
from wmplay.errors import AlignmentError, ConfigError, SpaceError, UnknownName
from wmplay.simulation import simulate

minigrid = pytest.importorskip("minigrid")
from minigrid.core.mission import MissionSpace  # noqa: E402
from minigrid.minigrid_env import MiniGridEnv as World  # noqa: E402

DIGITS = 10  # of the number of an episode, the last cells of the view
PLACES = {"clock": slice(0, 2), "length": slice(2, 4), "led_by": slice(4, 6), "episode": slice(6, 6 + DIGITS)}


class Carrier(World):
    """The alignment world in the cells of a view: each number in decimal digits, as kinds of cells."""

    late = False

    def __init__(self, **settings):
        super().__init__(MissionSpace(lambda: "hold the line"), grid_size=7, max_steps=100, **settings)
        self.inside = AlignmentWorld(discrete=True)
        self.action_space = Discrete(ACTIONS)

    def reset(self, *, seed=None, options=None):
        observation, info = self.inside.reset(seed=seed)
        self.held = self.encode(observation)
        return self.held, info

    def step(self, action):
        observation, *rest = self.inside.step(action)
        now = self.encode(observation)
        self.held, now = now, self.held if self.late else now
        return now, *rest

    def encode(self, observation):
        cells = np.zeros((7, 7, 3), np.uint8)
        row_by_row = cells.transpose(1, 0, 2)[..., 0].reshape(-1)
        for name, place in PLACES.items():
            digits = f"{int(np.asarray(observation[name]).item()):0{place.stop - place.start}d}"
            row_by_row[place] = [int(digit) for digit in digits]
        cells.transpose(1, 0, 2)[..., 0] = row_by_row.reshape(7, 7)
        time = int(observation["clock"][0])
        return {"image": cells, "direction": time % 4, "mission": "hold the line"}


@pytest.fixture(autouse=True)
def _registered():
    gymnasium.register("MiniGrid-Carrier-v0", entry_point=Carrier, disable_env_checker=True)
    yield
    del gymnasium.registry["MiniGrid-Carrier-v0"]


def decoded(trajectory):
    """The alignment world's own observations, read off the cells."""
    kinds = trajectory.observation["cells"][..., :KINDS].argmax(-1)
    numbers = {
        name: kinds[:, place] @ 10 ** np.arange(place.stop - place.start)[::-1]
        for name, place in PLACES.items()
    }
    assert (trajectory.observation["direction"].argmax(-1) == numbers["clock"] % 4).all()
    screen = np.eye(35, dtype=np.uint8)[numbers["clock"]].reshape(-1, 5, 7)
    frames = {name: values[:, None] for name, values in numbers.items()}
    frames = {**frames, "screen": screen, "led_by": numbers["led_by"]}
    steps = (trajectory.action, trajectory.reward, trajectory.terminated, trajectory.truncated)
    return Trajectory(frames, *steps)


@pytest.mark.parametrize("num_envs", [None, 3])
def test_every_number_is_in_its_place(num_envs):
    env = wmplay.make_env("minigrid", id="MiniGrid-Carrier-v0", num_envs=num_envs)
    check_alignment(map(decoded, simulate(env, None, 17, seed=2)))


def test_a_shift_would_show(monkeypatch):
    monkeypatch.setattr(Carrier, "late", True)
    with refused(AlignmentError, ("clock", "late")):
        check_alignment(map(decoded, simulate(MiniGridEnv("MiniGrid-Carrier-v0"), None, 3)))


@pytest.mark.parametrize("full", [False, True])
def test_cells_are_minigrids(full):
    env = MiniGridEnv("MiniGrid-DoorKey-5x5-v0", full=full)
    world = env._env.unwrapped
    rng = np.random.default_rng(0)
    seen, _ = env.reset(seed=3)
    for _ in range(29):
        image = world.gen_obs()["image"]
        if full:
            image = world.grid.encode()
            image[world.agent_pos] = (10, 0, world.agent_dir)
        cells = seen["cells"].reshape(*image.shape[1::-1], KINDS + COLOURS + STATES)
        parts = np.split(cells, [KINDS, KINDS + COLOURS], axis=-1)
        shown = np.stack([part.argmax(-1) for part in parts], axis=-1)
        np.testing.assert_array_equal(shown, image.transpose(1, 0, 2))
        assert (seen["cells"].sum(-1) == 3).all()
        assert seen["direction"].argmax() == world.agent_dir
        seen, _, terminated, truncated, _ = env.step(int(rng.integers(6)))
        assert (terminated, truncated) == (False, False)


def test_the_picture_is_of_the_view_or_of_the_whole_grid():
    pictures = {}
    for full in (False, True):
        env = MiniGridEnv(pixels=True, cells=False, full=full, size=35)
        seen, _ = env.reset(seed=0)
        assert {key: value.shape for key, value in seen.items()} == {"pixels": (35, 35, 3), "direction": (4,)}
        assert env.observation_space.contains(seen)
        pictures[full] = seen["pixels"]
        world = env._env.unwrapped
        if full:  # 5 x 5 cells of 7 pixels: nothing is resized
            np.testing.assert_array_equal(seen["pixels"], world.get_frame(tile_size=7))
    assert (pictures[True] != pictures[False]).any()
    assert MiniGridEnv(render_mode="rgb_array").render_mode == "rgb_array"


def test_missions_are_told_by_the_words_that_vary():
    env = MiniGridEnv("MiniGrid-PutNear-6x6-N2-v0")
    assert env.observation_space["mission"].shape == (6 + 3 + 6 + 3,)
    placeholders = env._env.observation_space["mission"].ordered_placeholders
    texts = set()
    for seed in range(7):
        seen, _ = env.reset(seed=seed)
        parts = np.split(seen["mission"], [6, 9, 15])
        words = [each[part.argmax()] for each, part in zip(placeholders, parts, strict=True)]
        text = env._env.unwrapped.mission
        assert text == "put the {} {} near the {} {}".format(*words)
        assert seen["mission"].sum() == 4
        texts.add(text)
    assert len(texts) > 3


def test_missions_that_do_not_vary_or_are_not_wanted_are_left_out():
    for options in ({}, {"id": "MiniGrid-PutNear-6x6-N2-v0", "mission": False}):
        assert "mission" not in MiniGridEnv(**options).observation_space.spaces
    assert "mission" not in MiniGridEnv("BabyAI-GoToRedBall-v0", mission=False).reset(seed=0)[0]


def test_goal_is_termination_and_the_clock_truncation():
    env = MiniGridEnv(max_steps=11)
    env.reset(seed=0)
    assert env.render() is None
    ends = [env.step(action)[1:4] for action in (2, 2, 1, 2, 2)]  # to the corner, by way of the other one
    assert [end[1:] for end in ends] == [(False, False)] * 4 + [(True, False)]
    assert ends[-1][0] > 0.9
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(11)] == [(False, False)] * 10 + [(False, True)]


def turned_to_the_end(env):
    """The steps of two episodes in which nothing happens, if the clock ends both."""
    lengths = []
    for seed in range(2):
        env.reset(seed=seed)
        steps = 1
        while not (ends := env.step(0)[2:4])[1]:
            assert ends == (False, False)
            steps += 1
        lengths.append(steps)
    return lengths


@pytest.mark.parametrize("id", ["MiniGrid-Empty-5x5-v0", "BabyAI-GoToObj-v0"])
def test_a_clock_may_be_longer_than_the_worlds_own(id):
    own = max(turned_to_the_end(MiniGridEnv(id, mission=False)))
    assert turned_to_the_end(MiniGridEnv(id, mission=False, max_steps=own + 7)) == [own + 7] * 2


@pytest.mark.parametrize(
    ("options", "error", "fields"),
    [
        (
            {"id": "MiniGrid-Emty-5x5-v0"},
            UnknownName,
            {"about": "MiniGrid", "got": "MiniGrid-Emty-5x5-v0", "advice": "MiniGrid-Empty-5x5-v0"},
        ),
        (
            {"id": "CartPole-v1"},
            ConfigError,
            {"about": "MiniGrid", "got": "CartPole-v1", "advice": ("env=gym", "env.id=CartPole-v1")},
        ),
        (
            {"id": "BabyAI-GoToRedBall-v0"},
            SpaceError,
            {"got": "BabyAI-GoToRedBall-v0", "advice": "mission=false"},
        ),
        ({"cells": False}, ConfigError, {"about": "cells=false", "advice": "pixels=true"}),
        ({"size": 0}, ConfigError, {"about": "size", "got": 0}),
        ({"max_steps": 0}, ConfigError, {"about": "max_steps", "got": 0}),
    ],
)
def test_bad_options_are_refused_in_one_line(options, error, fields):
    with refused(error, **fields):
        MiniGridEnv(**options)
