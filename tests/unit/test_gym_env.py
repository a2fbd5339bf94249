"""The Gymnasium adapter, on envs made for the purpose: every kind of space it takes, and those it refuses."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

import wmplay
from wmplay.envs.gym import GymEnv
from wmplay.errors import ActionError, ConfigError, SpaceError, UnknownName, WmplayError

A_BOX = Box(-2, 3, (3,), np.float64)


class Probe(gymnasium.Env):
    """Gives samples of its observation space, and keeps the actions that it got."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012

    def __init__(self, observation=A_BOX, action=A_BOX, render_mode=None):
        self.observation_space, self.action_space = observation, action
        self.render_mode = render_mode
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.seen = self.observation_space.sample()
        return self.seen, {"options": options}

    def step(self, action):
        self.actions.append(action)
        self.seen = self.observation_space.sample()
        return self.seen, 1.5, len(self.actions) >= 5, False, {}

    def render(self):
        picture = np.zeros((20, 30, 3), np.uint8)
        picture[:10] = 200
        return picture


@pytest.fixture(autouse=True)
def _registered():
    gymnasium.register("Probe-v0", entry_point=Probe)
    yield
    del gymnasium.registry["Probe-v0"]


def made(observation=A_BOX, action=A_BOX, **options):
    env = GymEnv("Probe-v0", kwargs={"observation": observation, "action": action}, **options)
    return env, env._env.unwrapped


@pytest.mark.parametrize(
    ("space", "key", "shape", "dtype"),
    [
        (Box(-1, 1, (7,), np.float64), "vector", (7,), np.float32),
        (Box(0, 9, (7,), np.int64), "vector", (7,), np.float32),
        (Box(-1, 1, (), np.float32), "vector", (1,), np.float32),
        (Discrete(5, start=2), "vector", (5,), np.float32),
        (Box(0, 255, (7, 11, 3), np.uint8), "pixels", (7, 11, 3), np.uint8),
        (Box(0, 255, (7, 11), np.uint8), "pixels", (7, 11, 1), np.uint8),
    ],
)
def test_observations_become_named_arrays(space, key, shape, dtype):
    env, inner = made(space)
    observation, _ = env.reset(seed=0)
    assert set(observation) == set(env.observation_space.spaces) == {key}
    value = observation[key]
    assert (value.shape, value.dtype) == (shape, dtype)
    assert env.observation_space.contains(observation)
    if isinstance(space, Discrete):
        assert (value.argmax() + 2, value.sum()) == (inner.seen, 1)
    else:
        np.testing.assert_array_equal(value.squeeze(), np.asarray(inner.seen, dtype).squeeze())
    value[...] = 0
    assert env.step(np.zeros(3))[0][key].sum() != 0


def test_a_dict_keeps_its_keys():
    screen = Box(0, 1, (5, 7), np.uint8)
    env, inner = made(
        Dict(arm=Box(-1, 1, (2,)), eye=Box(0, 255, (5, 7, 3), np.uint8), lcd=screen, n=Discrete(3))
    )
    observation, _ = env.reset(seed=0)
    shapes = {key: value.shape for key, value in observation.items()}
    assert shapes == {"arm": (2,), "eye": (5, 7, 3), "lcd": (5, 7), "n": (3,)}
    assert env.observation_space["lcd"] == screen
    np.testing.assert_array_equal(observation["lcd"], inner.seen["lcd"])


@pytest.mark.parametrize(
    "space",
    [
        Tuple([Discrete(2), Discrete(3)]),
        MultiBinary(3),
        Box(-1, 1, (2, 3)),
        Box(0, 255, (7, 11, 9), np.uint8),
        Dict(a=Dict(b=Discrete(2))),
    ],
)
def test_other_observations_are_refused_in_one_line(space):
    with pytest.raises(SpaceError, match=r"observation of 'Probe-v0' is .*expected a 1-D Box") as caught:
        made(space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "space", [Box(-1, 1, (2, 3)), Box(0, 9, (2,), np.int64), Tuple([Discrete(2)]), MultiBinary(2)]
)
def test_other_actions_are_refused_in_one_line(space):
    with pytest.raises(SpaceError, match=r"action of 'Probe-v0' is .*expected a 1-D Box of floats") as caught:
        made(action=space)
    assert "\n" not in str(caught.value)


def test_box_actions_keep_their_bounds_and_are_clipped():
    env, inner = made()
    assert env.action_space == Box(-2, 3, (3,), np.float32)
    env.reset(seed=0)
    env.step(np.array([-9, 0.5, 9], np.float32))
    np.testing.assert_array_equal(inner.actions[0], [-2, 0.5, 3])
    assert inner.actions[0].dtype == np.float64


def test_discrete_actions_count_from_zero():
    env, inner = made(action=Discrete(3, start=-1))
    assert env.action_space == Discrete(3)
    env.reset(seed=0)
    env.step(np.int64(2))
    assert inner.actions == [1]
    for bad in (3, -1, 0.5, [0], "up"):
        with pytest.raises(ActionError, match=r"expected an integer in 0 \.\. 2"):
            env.step(bad)


@pytest.mark.parametrize(
    ("action", "message"),
    [([0, np.nan, 0], r"NaN at \[1\]"), ([0, 0], r"shape \[2\], expected \[3\]"), ("up", "is a str")],
)
def test_bad_actions_are_refused_in_one_line(action, message):
    env, inner = made()
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)
    assert inner.actions == []


def test_action_repeat_adds_rewards_and_stops_at_the_end():
    env, inner = made(action_repeat=3)
    env.reset(seed=0)
    _, reward, terminated, *_ = env.step(np.zeros(3))
    assert (reward, terminated, len(inner.actions)) == (4.5, False, 3)
    _, reward, terminated, *_ = env.step(np.zeros(3))
    assert (reward, terminated, len(inner.actions)) == (3.0, True, 5)


def test_max_steps_is_a_time_limit():
    env, _ = made(max_steps=2)
    env.reset(seed=0)
    assert [env.step(np.zeros(3))[3] for _ in range(2)] == [False, True]


def test_rendered_pixels_beside_the_state_or_alone():
    env, _ = made(pixels=True, size=5)
    observation, _ = env.reset(seed=0)
    assert {key: value.shape for key, value in observation.items()} == {"pixels": (5, 5, 3), "vector": (3,)}
    assert env.observation_space.contains(observation)
    assert (observation["pixels"][:2] == 200).all()
    assert (observation["pixels"][3:] == 0).all()
    alone, _ = made(pixels=True, state=False)
    assert set(alone.reset(seed=0)[0]) == {"pixels"}


def test_seed_and_options_reach_the_env():
    env, _ = made()
    first, info = env.reset(seed=3, options={"a": 1})
    assert info == {"options": {"a": 1}}
    np.testing.assert_array_equal(env.reset(seed=3)[0]["vector"], first["vector"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"id": "Pendulm-v1"}, UnknownName, "did you mean 'Pendulum-v1'"),
        ({"id": "nomodule:Thing-v0"}, ConfigError, "needs a module"),
        ({"kwargs": {"mass": 3}}, ConfigError, "cannot be made"),
        ({"size": 0}, ConfigError, "size is 0"),
        ({"action_repeat": 0}, ConfigError, "action_repeat is 0"),
        ({"state": False}, ConfigError, "nothing to observe"),
        ({"pixels": True, "render_mode": "human"}, ConfigError, "cannot be 'human'"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        GymEnv(**options)
    assert "\n" not in str(caught.value)


def test_make_env_takes_any_id_that_gymnasium_knows():
    env = wmplay.make_env("CartPole-v1", max_steps=3)
    assert isinstance(env, GymEnv)
    assert env.action_space == Discrete(2)
    batch = wmplay.make_env("CartPole-v1", num_envs=3)
    observation, _ = batch.reset(seed=0)
    assert observation["vector"].shape == (3, 4)
    np.testing.assert_array_equal(observation["vector"][2], env.reset(seed=2)[0]["vector"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("luxx",), {}, "did you mean 'luxo'"),
        (("luxo",), {"tsk": "body_goal"}, "did you mean 'task'"),
        (("luxo",), {"max_steps": "ten"}, "max_steps is 'ten'"),
        (("luxo", 0), {}, "num_envs is 0"),
        (("luxo", 2), {"autoreset": "never"}, "unknown autoreset 'never'"),
        (("luxo",), {"num_workers": 2}, "needs num_envs"),
        (("luxo", 2), {"num_workers": 3}, "expected 1 to 2"),
    ],
)
def test_make_env_refuses_in_one_line(arguments, options, message):
    with pytest.raises(WmplayError, match=message) as caught:
        wmplay.make_env(*arguments, **options)
    assert "\n" not in str(caught.value)
