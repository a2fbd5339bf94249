"""The Gymnasium adapter, on envs made for the purpose: every kind of space it takes, and those it refuses."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array
from refusals import refused

import wmplay
from wmplay.check.fixtures.alignment_env import AlignmentWorld, check_alignment
from wmplay.contracts import Trajectory
from wmplay.envs.gym import GymEnv, GymVectorEnv, InOurForm
from wmplay.envs.observations import parts
from wmplay.errors import ActionError, ConfigError, SpaceError, UnknownName, WmplayError
from wmplay.nets.actions import action_bounds
from wmplay.simulation import simulate

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


def flat(values):
    return np.asarray(values, np.float32).ravel()


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (MultiBinary(3), lambda seen: {"vector": flat(seen)}),
        (MultiBinary((2, 3)), lambda seen: {"vector": flat(seen)}),
        (
            MultiDiscrete([2, 3], start=[1, -1]),
            lambda seen: {"vector": [*np.eye(2)[seen[0] - 1], *np.eye(3)[seen[1] + 1]]},
        ),
        (Box(-1, 1, (2, 3)), lambda seen: {"vector": flat(seen)}),
        (Box(-9, 9, (2, 1, 3), np.int64), lambda seen: {"vector": flat(seen)}),
        (Box(0, 255, (7, 11, 9), np.uint8), lambda seen: {"vector": flat(seen)}),
        (Box(0, 255, (3, 11, 9), np.uint8), lambda seen: {"pixels": seen.transpose(1, 2, 0)}),
        (Box(0, 1, (5,), np.bool_), lambda seen: {"vector": flat(seen)}),
        (Tuple([Discrete(2), Box(-1, 1)]), lambda seen: {"0": np.eye(2)[seen[0]], "1": seen[1]}),
        (
            Dict(a=Dict(b=Discrete(2), c=Tuple([Box(-1, 1)])), t=Text(5), s=Box(0, 1, (2, 2), np.bool_)),
            lambda seen: {"a.b": np.eye(2)[seen["a"]["b"]], "a.c.0": seen["a"]["c"][0], "s": seen["s"]},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:texts that")
def test_observations_of_any_shape(space, expected):
    """Alone, and as a batch that the id's own vector env gives."""
    env, inner = made(space)
    for number in range(2):
        observation = env.step(np.zeros(3))[0] if number else env.reset(seed=0)[0]
        wanted = expected(inner.seen)
        assert set(observation) == set(env.observation_space.spaces) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(observation[key], value)
        assert env.observation_space.contains(observation)
    found = parts(space, "it")
    seen = [space.sample() for _ in range(2)]
    batch = found.read(concatenate(space, seen, create_empty_array(space, 2)))
    for key, rows in batch.items():
        np.testing.assert_array_equal(rows, [found.read(each)[key] for each in seen])


def test_texts_are_left_out_and_named():
    with pytest.warns(UserWarning, match="words$"):
        env, _ = made(Dict(words=Text(5), x=Box(-1, 1)))
    assert set(env.reset(seed=0)[0]) == {"x"}


@pytest.mark.parametrize(
    "space",
    [
        Text(5),
        Dict(a=Text(3)),
        Graph(Box(-1, 1), None),
        Sequence(Discrete(2)),
        Dict({"a.b": Box(0, 1), "a": Dict(b=Box(0, 1))}),
    ],
)
def test_other_observations_are_refused_in_one_line(space):
    with refused(SpaceError, ("observation", "Probe-v0")):
        made(space)


def test_a_choice_that_is_not_in_its_space_is_refused():
    for number in (-1, 3):
        with refused(SpaceError, (f"{number} .. {number}", "3")):
            parts(Discrete(3), "it").read(number)


@pytest.mark.parametrize("space", [Box(0, 9, (2,), np.int64), Tuple([Discrete(2)]), MultiBinary(2)])
def test_other_actions_are_refused_in_one_line(space):
    with refused(SpaceError, ("action", "Probe-v0"), got=space, expected=("Box", "Discrete")):
        made(action=space)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_actions_of_any_shape_are_flat(shape):
    env, inner = made(action=Box(-2, 2, shape, np.float64))
    size = int(np.prod(shape))
    assert env.action_space == Box(-2, 2, (size,), np.float32)
    env.reset(seed=0)
    env.step(np.linspace(-9, 1, size))
    np.testing.assert_allclose(inner.actions[0], np.linspace(-9, 1, size).clip(-2).reshape(shape))


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
        with refused(ActionError, expected="0 .. 2"):
            env.step(bad)


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
    ("options", "error", "fields"),
    [
        ({"id": "Pendulm-v1"}, UnknownName, {"got": "Pendulm-v1", "advice": "Pendulum-v1"}),
        ({"id": "nomodule:Thing-v0"}, ConfigError, {"got": "nomodule:Thing-v0"}),
        ({"kwargs": {"mass": 3}}, ConfigError, {"about": "mass", "got": "Pendulum-v1"}),
        ({"size": 0}, ConfigError, {"about": "size", "got": 0}),
        ({"action_repeat": 0}, ConfigError, {"about": "action_repeat", "got": 0}),
        ({"state": False}, ConfigError, {"about": "state=false", "advice": "pixels=true"}),
        ({"pixels": True, "render_mode": "human"}, ConfigError, {"about": ("render_mode", "human")}),
    ],
)
def test_bad_options_are_refused_in_one_line(options, error, fields):
    with refused(error, **fields):
        GymEnv(**options)


@pytest.mark.parametrize(
    ("id", "fields"),
    [
        ("ALE/Pong-v5", {"got": "ALE/Pong-v5", "advice": ("env=atari", "wmplay[atari]")}),
        (
            "dm_control/cartpole-swingup-v0",
            {"got": "dm_control/cartpole-swingup-v0", "advice": ("env=dm_control", "wmplay[dm-control]")},
        ),
        (
            "MiniGrid-Empty-5x5-v0",
            {"got": "MiniGrid-Empty-5x5-v0", "advice": ("env=minigrid", "wmplay[minigrid]")},
        ),
        ("BabyAI-GoToObj-v0", {"got": "BabyAI-GoToObj-v0", "advice": "env=minigrid"}),
        ("somebody/World-v3", {"got": "somebody/World-v3", "advice": "module:somebody/World-v3"}),
        ("tabular/Blackjak-v0", {"got": "tabular/Blackjak-v0", "advice": "tabular/Blackjack-v0"}),
        ("CartPole-v7", {"got": "CartPole-v7", "advice": "CartPole-v1"}),
    ],
)
def test_an_id_that_is_not_registered_here(monkeypatch, id, fields):
    """What a package would register is no misspelling of Gymnasium's own."""
    for each in [each for each in gymnasium.registry if each.startswith(("ALE", "BabyAI", "MiniGrid"))]:
        monkeypatch.delitem(gymnasium.registry, each)
    with refused(UnknownName, **fields) as caught:
        wmplay.make_env(id)
    assert "Ant-v" not in str(caught.value)


def test_make_env_takes_any_id_that_gymnasium_knows():
    env = wmplay.make_env("CartPole-v1", max_steps=3)
    assert isinstance(env, GymEnv)
    assert env.action_space == Discrete(2)
    batch = wmplay.make_env("CartPole-v1", num_envs=3)
    observation, _ = batch.reset(seed=0)
    assert observation["vector"].shape == (3, 4)
    np.testing.assert_array_equal(observation["vector"][2], env.reset(seed=2)[0]["vector"])


@pytest.mark.parametrize(
    ("arguments", "options", "fields"),
    [
        (("luxx",), {}, {"got": "luxx", "advice": "luxo"}),
        (("luxo",), {"tsk": "body_goal"}, {"got": "tsk", "advice": "task"}),
        (("luxo",), {"max_steps": "ten"}, {"about": ("LcdEnv", "max_steps"), "got": "'ten' (str)"}),
        (("luxo", 0), {}, {"about": "num_envs", "got": 0}),
        (("luxo", 2), {"autoreset": "never"}, {"about": "autoreset", "got": "never"}),
        (("luxo",), {"num_workers": 2}, {"about": ("num_workers", "num_envs"), "got": 2}),
        (("luxo", 2), {"num_workers": 3}, {"about": "num_workers", "got": 3, "expected": "1 to 2"}),
    ],
)
def test_make_env_refuses_in_one_line(arguments, options, fields):
    with refused(WmplayError, **fields):
        wmplay.make_env(*arguments, **options)


# ------------------------------------------------------------------------------------ an id's own vector env


def batch_of(mode, discrete=False):
    """A vector env of alignment worlds, as an id may have one of its own."""

    def make(num_envs=1, **_):
        return SyncVectorEnv([lambda: AlignmentWorld(discrete=discrete)] * num_envs, autoreset_mode=mode)

    return make


class WholeFinals(gymnasium.vector.VectorWrapper):
    """Gives last observations as a batch, as ale-py does, where Gymnasium gives an array of single ones."""

    def step(self, actions):
        observation, *rest, info = self.env.step(actions)
        if "final_obs" in info:
            finals = {key: values.copy() for key, values in observation.items()}
            for row in np.flatnonzero(info["_final_obs"]):
                for key in finals:
                    finals[key][row] = info["final_obs"][row][key]
            info = {**info, "final_obs": finals}
        return observation, *rest, info


@pytest.fixture
def register():
    """Registers an id for one test."""
    ids = []

    def register(**settings):
        ids.append(f"Aligned{len(ids)}-v0")
        gymnasium.register(ids[-1], entry_point=AlignmentWorld, disable_env_checker=True, **settings)
        return ids[-1]

    yield register
    for each in ids:
        del gymnasium.registry[each]


def decoded(trajectory):
    """The alignment world's own observations: its discrete action comes one-hot."""
    frames = dict(trajectory.observation)
    if frames["led_by"].shape[-1] > 2:
        frames["led_by"] = frames["led_by"].argmax(-1)
    steps = (trajectory.action, trajectory.reward, trajectory.terminated, trajectory.truncated)
    return Trajectory(frames, *steps)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("num_envs", [None, 3])
def test_every_number_is_in_its_place(register, num_envs, discrete):
    env = wmplay.make_env(register(), num_envs=num_envs, kwargs={"discrete": discrete})
    check_alignment(map(decoded, simulate(env, None, 17, seed=2)))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_number_of_an_own_vector_env_is_in_its_place(register, mode, discrete, whole):
    def make(num_envs=1, **_):
        venv = batch_of(mode, discrete)(num_envs)
        return WholeFinals(venv) if whole else venv

    env_id = register(vector_entry_point=make, kwargs={"discrete": discrete})
    venv = wmplay.make_env(env_id, num_envs=3, vectorization="native")
    assert isinstance(venv, GymVectorEnv)
    assert venv.metadata["autoreset_mode"] is mode
    assert venv.single_observation_space == wmplay.make_env(env_id).observation_space
    check_alignment(map(decoded, simulate(venv, None, 17, seed=2)))


def test_gymnasiums_own_vector_env_observes_what_the_env_alone_does():
    venv = wmplay.make_env("CartPole-v1", num_envs=3, vectorization="native", max_steps=7)
    assert isinstance(venv, VectorEnv)
    assert type(venv._env).__name__ == "CartPoleVectorEnv"
    episodes = simulate(venv, None, 5, seed=0)
    assert all(each.observation["vector"].shape == (len(each) + 1, 4) for each in episodes)
    assert max(len(each) for each in episodes) == 7
    assert not isinstance(wmplay.make_env("CartPole-v1", num_envs=3), GymVectorEnv)
    venv.close()


@pytest.mark.parametrize(
    ("options", "error", "fields"),
    [
        (
            {"id": "Pendulum-v1"},
            ConfigError,
            {"about": "vector", "got": "Pendulum-v1"},
        ),
        ({"id": "CartPole-v1", "pixels": True}, ConfigError, {"about": ("native", "pixels=true")}),
        ({"id": "CartPole-v1", "action_repeat": 2}, ConfigError, {"about": "action_repeat"}),
    ],
)
def test_own_vector_envs_that_are_not_there_are_refused_in_one_line(options, error, fields):
    with refused(error, **fields):
        wmplay.make_env("gym", num_envs=2, vectorization="native", **options)


def test_an_own_vector_env_with_another_autoreset_is_not_spread_over_processes():
    with refused(ConfigError, "same_step", advice="num_workers=0"):
        wmplay.make_env("CartPole-v1", num_envs=2, num_workers=1, vectorization="native")


def test_an_own_vector_env_with_other_spaces_is_refused(register):
    env_id = register(vector_entry_point=batch_of(AutoresetMode.SAME_STEP, discrete=True))
    with refused(SpaceError, "observation_space", advice="vectorization=sync"):
        wmplay.make_env(env_id, num_envs=2, vectorization="native")


def test_bad_actions_of_a_batch_are_refused_in_one_line():
    venv = wmplay.make_env("CartPole-v1", num_envs=2, vectorization="native")
    venv.reset(seed=0)
    for rows in ([0, 2], [0.0, 1.0], [0]):
        with refused(ActionError, expected=("0 .. 1", "2 envs")):
            venv.step(np.array(rows))


def test_actions_without_bounds_get_some():
    """What the refusal of such a space advises works."""
    space = Box(np.array([-np.inf, -2, 0]), np.array([np.inf, np.inf, 3]), dtype=np.float64)
    settings = {"kwargs": {"action": space}}
    with refused(SpaceError, "inf", advice="env.action_limit=1"):
        action_bounds(wmplay.make_env("gym", id="Probe-v0", **settings).action_space)
    env, inner = made(action=space, action_limit=5)
    low, high = action_bounds(env.action_space)
    assert (low.tolist(), high.tolist()) == ([-5, -2, 0], [5, 5, 3])
    env.reset(seed=0)
    env.step(np.array([-9.0, 9, 9]))
    np.testing.assert_array_equal(inner.actions[0], [-5, 5, 3])
    with refused(ConfigError, "action_limit", got=0.0):
        made(action_limit=0.0)


# ---- tasks of classic envs ---------------------------------------------------------------------------


def told(env, before, after):
    """What the task says of a step between two observations."""
    rows = ({key: torch.from_numpy(value) for key, value in seen.items()} for seen in (before, after))
    reward, terminated = env.unwrapped.task.reward_and_terminated(*rows)
    return float(reward), bool(terminated)


@pytest.mark.parametrize("config", [{}, {"kwargs": {"g": 3.0}}, {"max_steps": 11}])
def test_the_reward_of_a_pendulum_from_its_observations(config):
    env = GymEnv("Pendulum-v1", **config)
    env.action_space.seed(2)
    for seed in range(3):
        before, _ = env.reset(seed=seed)
        env._env.unwrapped.state[1] *= 5
        before = {"vector": env._env.unwrapped._get_obs()}
        for _ in range(10):
            after, reward, terminated, _, _ = env.step(2 * env.action_space.sample())
            limited = abs(after["vector"][2]) >= 8
            assert told(env, before, after) == (
                pytest.approx(reward, abs=0.004 if limited else 1e-4),
                terminated,
            )
            before = after


def test_the_end_of_a_cart_pole_from_its_observations():
    env = GymEnv("CartPole-v1")
    ends = 0
    for seed in range(3):
        before, _ = env.reset(seed=seed)
        over = False
        while not over:
            after, reward, over, _, _ = env.step(seed % 2)
            assert told(env, before, after) == (reward, over)
            before, ends = after, ends + over
    assert ends == 3


@pytest.mark.parametrize(
    "config",
    [
        {"id": "Pendulum-v1", "action_repeat": 2},
        {"id": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}},
        {"id": "Acrobot-v1"},
        {"id": "Pendulum-v1", "state": False, "pixels": True},
    ],
)
def test_where_the_reward_is_no_function_of_the_observations_there_is_no_task(config):
    pytest.importorskip("pygame")
    assert GymEnv(**config).task is None


def test_an_env_that_does_without_half_of_an_action_by_design_claims_it():
    made = gymnasium.make("LunarLanderContinuous-v3")
    for env in (GymEnv("LunarLanderContinuous-v3"), InOurForm(made)):
        assert env.metadata["unused_half"] == [0]
