"""The Control Suite on its real package: the suite's own numbers, its two kinds of end, and its pictures."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import assert_tokens, refused

import wmplay
from wmplay.check.fixtures.alignment_env import AlignmentWorld, check_alignment
from wmplay.envs import dm_control as adapter
from wmplay.envs.dm_control import DmControlEnv
from wmplay.errors import ActionError, AlignmentError, ConfigError, UnknownName, WmplayError
from wmplay.simulation import simulate

dm_env = pytest.importorskip("dm_env")
pytest.importorskip("dm_control")


class Carrier(dm_env.Environment):
    """The alignment world behind dm_env's interface."""

    late = 0

    def __init__(self, **_):
        self.world = AlignmentWorld()
        self.task = SimpleNamespace(random=np.random.RandomState(0))

    def reset(self):
        observation, _ = self.world.reset(seed=int(self.task.random.randint(2**31)))
        self.rewards = [0.0] * self.late
        return dm_env.restart(observation)

    def step(self, action):
        observation, reward, terminated, truncated, _ = self.world.step(action.astype(np.float32))
        self.rewards.append(reward)
        if terminated:
            return dm_env.termination(self.rewards.pop(0), observation)
        if truncated:
            return dm_env.truncation(self.rewards.pop(0), observation)
        return dm_env.transition(self.rewards.pop(0), observation)

    def observation_spec(self):
        spaces = self.world.observation_space.spaces
        return {key: dm_env.specs.Array(space.shape, space.dtype) for key, space in spaces.items()}

    def action_spec(self):
        return dm_env.specs.BoundedArray((2,), np.float64, -1.0, 1.0)


@pytest.fixture
def _carried(monkeypatch):
    suite = adapter._import_suite(needs_renderer=False)
    monkeypatch.setattr(suite, "load", lambda *_, **settings: Carrier(**settings))


@pytest.mark.usefixtures("_carried")
@pytest.mark.parametrize("num_envs", [None, 3])
def test_every_number_is_in_its_place(num_envs):
    episodes = simulate(wmplay.make_env("dm_control", num_envs=num_envs), None, 17, seed=2)
    check_alignment(episodes)
    assert len({float(each.observation["episode"][0, 0]) for each in episodes}) == 17
    assert {bool(each.terminated[-1]) for each in episodes} == {True, False}


@pytest.mark.usefixtures("_carried")
def test_a_shift_would_show(monkeypatch):
    monkeypatch.setattr(Carrier, "late", 1)
    with refused(AlignmentError, ("reward", "late")):
        check_alignment(simulate(DmControlEnv(), None, 3))


@pytest.mark.usefixtures("_carried")
def test_rewards_of_repeats_add_up_until_the_end():
    env = DmControlEnv(action_repeat=5)
    observation, _ = env.reset(seed=0)
    length, total = int(observation["length"][0]), 0.0
    for _ in range(-(-length // 5)):
        observation, reward, terminated, truncated, _ = env.step(np.zeros(2))
        total += reward
    assert terminated != truncated
    assert observation["clock"] == length
    assert total == sum(range(length))


def test_the_numbers_are_the_suites_own():
    env = DmControlEnv("finger", "turn_hard")
    observation, _ = env.reset(seed=7)
    theirs = adapter._import_suite(needs_renderer=False).load("finger", "turn_hard")
    theirs.task.random.seed(int(np.random.default_rng(7).integers(2**32)))
    expected = theirs.reset()
    rng = np.random.default_rng(0)
    for _ in range(13):
        assert observation.keys() == expected.observation.keys()
        for key, value in observation.items():
            np.testing.assert_array_equal(value, np.float32(expected.observation[key]).reshape(-1))
        action = rng.uniform(-1, 1, 2)
        observation, reward, *_ = env.step(action)
        expected = theirs.step(action)
        assert reward == expected.reward


@pytest.mark.parametrize(("max_steps", "length"), [(None, 1000), (7, 7), (1009, 1009)])
def test_the_clocks_end_is_truncation(max_steps, length):
    env = DmControlEnv("cartpole", "balance", max_steps=max_steps)
    env.reset(seed=0)
    flags = [env.step(np.zeros(1))[2:4] for _ in range(length)]
    assert flags == [(False, False)] * (length - 1) + [(False, True)]


def test_a_step_without_a_reset_is_refused():
    env = DmControlEnv("cartpole", "balance")
    with refused(ActionError, "step", advice="reset"):
        env.step(np.zeros(1))


@pytest.mark.parametrize(
    ("domain", "task", "sizes"),
    [
        ("manipulator", "bring_ball", {"arm_pos": 16, "touch": 5, "target_pos": 4}),
        ("fish", "swim", {"upright": 1, "joint_angles": 7}),
    ],
)
def test_observations_are_flat_vectors(domain, task, sizes):
    env = DmControlEnv(domain, task)
    observation, _ = env.reset(seed=0)
    assert sizes.items() <= {key: value.size for key, value in observation.items()}.items()
    assert env.observation_space.contains(observation)


def test_a_world_drawn_at_random_is_the_same_in_every_env():
    envs = [DmControlEnv("lqr", "lqr_2_1") for _ in range(2)]
    assert np.isinf(envs[0].action_space.high).all()
    for seeds, same in (((3, 3), True), ((3, 5), False)):
        frames = [env.reset(seed=seed)[0]["position"] for env, seed in zip(envs, seeds, strict=True)]
        assert np.array_equal(*frames) == same
    stiffness = [env._env.physics.model.jnt_stiffness for env in envs]
    np.testing.assert_array_equal(*stiffness)


@pytest.mark.parametrize(
    ("options", "error", "fields"),
    [
        ({"domain": "cartpol"}, UnknownName, {"about": "dm_control", "got": "cartpol", "advice": "cartpole"}),
        (
            {"task": "swing_up"},
            UnknownName,
            {"about": "dm_control", "got": "swing_up", "advice": "swingup"},
        ),
        ({"state": False}, ConfigError, {"about": "state=false", "advice": "pixels=true"}),
        ({"size": 0}, ConfigError, {"about": "size", "got": 0}),
        ({"action_repeat": 0}, ConfigError, {"about": "action_repeat", "got": 0}),
        ({"max_steps": 0}, ConfigError, {"about": "max_steps", "got": 0}),
    ],
)
def test_bad_options_are_refused_in_one_line(options, error, fields):
    with refused(error, **fields):
        DmControlEnv(**options)


# ------------------------------------------------------------------------------------ pictures


@pytest.fixture(scope="module")
def filmed():
    """An env with pixels, or a skip that says what to install."""
    try:
        return DmControlEnv(pixels=True, size=17, shadows=False)
    except ConfigError as error:
        pytest.skip(str(error))


def test_pictures_show_the_state(filmed):
    first, _ = filmed.reset(seed=0)
    assert {key: value.shape for key, value in first.items()} == {
        "position": (3,),
        "velocity": (2,),
        "pixels": (17, 17, 3),
    }
    assert filmed.observation_space.contains(first)
    for _ in range(5):
        later, *_ = filmed.step(np.ones(1))
    assert (later["pixels"] != first["pixels"]).any()
    np.testing.assert_array_equal(filmed.reset(seed=0)[0]["pixels"], first["pixels"])


@pytest.mark.usefixtures("filmed")
def test_pictures_alone_from_another_camera_and_in_a_batch():
    options = {"pixels": True, "state": False, "size": 13, "camera": "lookatcart"}
    batch = wmplay.make_env("dm_control", num_envs=2, **options)
    frames, _ = batch.reset(seed=3)
    single, _ = DmControlEnv(**options).reset(seed=4)
    assert set(frames) == {"pixels"}
    np.testing.assert_array_equal(frames["pixels"][1], single["pixels"])
    other, _ = DmControlEnv(**{**options, "camera": 0}).reset(seed=4)
    assert (other["pixels"] != single["pixels"]).any()


@pytest.mark.usefixtures("filmed")
def test_render_gives_a_picture_where_it_is_asked_for():
    env = DmControlEnv(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (240, 320, 3)
    assert DmControlEnv().render() is None


@pytest.mark.usefixtures("filmed")
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"camera": 7}, {"about": "camera", "got": 7, "expected": "-1 .. 1"}),
        ({"camera": "lookat"}, {"got": "lookat", "advice": "lookatcart"}),
        ({"size": 10_000}, {"about": "size", "got": 10000, "expected": "480"}),
    ],
)
def test_bad_pictures_are_refused_in_one_line(options, fields):
    with refused(WmplayError, **fields):
        DmControlEnv(pixels=True, **options)


def test_without_a_renderer_the_state_is_there_and_pixels_are_refused_in_one_line():
    code = (
        "from wmplay.envs.dm_control import DmControlEnv\n"
        "print(sorted(DmControlEnv().reset(seed=0)[0]))\n"
        "try: DmControlEnv(pixels=True)\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    state, line = done.stdout.splitlines()
    assert state == "['position', 'velocity']"
    assert_tokens(line, "apt-get install libegl1")


@pytest.mark.parametrize(
    ("environment", "libraries", "expected"),
    [
        ({}, {"EGL", "OSMesa"}, "egl"),
        ({}, {"OSMesa"}, "osmesa"),
        ({}, set(), None),
        ({"DISPLAY": ":0"}, {"EGL"}, None),
        ({"MUJOCO_GL": "glfw"}, {"EGL"}, None),
    ],
)
def test_without_a_display_a_renderer_is_chosen_that_needs_none(
    monkeypatch, environment, libraries, expected
):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(adapter.os, "environ", environment)
    monkeypatch.setattr(adapter.ctypes.util, "find_library", lambda name: name if name in libraries else None)
    assert adapter._renderer() == expected
