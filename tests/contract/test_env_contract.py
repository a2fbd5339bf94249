"""Every registered environment is a Gymnasium environment to the letter, alone and batched."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import wmplay
from wmplay import registry
from wmplay.envs.registration import register_envs
from wmplay.errors import ActionError
from wmplay.system import extras

register_envs()


def named(name):
    """An env's name, skipped where its package is not here."""
    extra = extras.extra_of(name)
    absent = extra is not None and extras.installed(extra) is None
    return pytest.param(name, marks=pytest.mark.skipif(absent, reason=f"needs {extra}"))


NAMES = [named(name) for name in registry.names("env") if name != "recorded"]  # which cannot be stepped
IDS = [env_id for env_id in gymnasium.registry if env_id.startswith("wmplay/")]
QUICK = {"physics": "fast"}


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "builtin type .* has no __module__")  # Box2D's, on import
        warnings.filterwarnings("ignore", ".*symmetric and normalized")  # adapters keep the bounds there are
        warnings.filterwarnings("ignore", ".*not having a spec")  # it has none until it is registered
        warnings.filterwarnings("ignore", ".*imum value is -?infinity")  # where the suite gives no bounds
        yield


def play(env, seed, steps=7):
    """All numbers of a short run, at most to the end of the episode."""
    rng = np.random.default_rng(0)
    space = env.action_space
    numbers = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        action = rng.uniform(-1, 1, space.shape) if isinstance(space, Box) else space.sample() * 0
        numbers.append(env.step(action)[:4])
        if numbers[-1][2] or numbers[-1][3]:
            break
    return numbers


@pytest.mark.parametrize("name", NAMES)
def test_env_passes_gymnasiums_checker(name):
    check_env(wmplay.make_env(name), skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_registered_ids_pass_gymnasiums_checker(env_id):
    check_env(gymnasium.make(env_id, **QUICK).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", ["wmplay/Luxo-v0", "wmplay/UrchinCubeCubeGoal-v0", "wmplay/Object2-v0"])
def test_pictures_pass_gymnasiums_checker(env_id):
    env = gymnasium.make(env_id).unwrapped
    env.metadata = {**env.metadata, "render_modes": ["lcd", "rgb_array"]}  # a window needs a display
    check_env(env)


def test_published_ids_are_there():
    assert {"wmplay/Luxo-v0", "wmplay/LuxoBodyGoal-v0", "wmplay/UrchinCubeCubeGoal-v0"} <= set(IDS)
    assert len(IDS) == len(set(IDS)) == 24 + 15 + 6  # worlds, body goals, cube goals
    register_envs()  # again: nothing happens


def test_ids_make_vector_envs():
    env = gymnasium.make_vec("wmplay/LuxoBodyGoal-v0", num_envs=3)
    assert type(env).__name__ == "LcdVectorEnv"
    observation, _ = env.reset(seed=0)
    assert observation["goal_lcd"].shape == (3, 16, 32)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP, "as Gymnasium's own"
    for mode in (AutoresetMode.SAME_STEP, "same_step"):
        env = gymnasium.make_vec("wmplay/Luxo-v0", num_envs=2, autoreset_mode=mode)
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert wmplay.make_env("luxo", num_envs=2).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_ids_have_a_clock_that_can_be_set():
    assert all(gymnasium.spec(env_id).max_episode_steps for env_id in IDS)
    assert gymnasium.spec("wmplay/UrchinCube-v0").max_episode_steps == 150
    for settings, steps in (({}, 25), ({"max_episode_steps": 31}, 31), ({"max_steps": 7}, 7)):
        env = gymnasium.make("wmplay/Dropbox-v0", **settings)
        many = gymnasium.make_vec("wmplay/Dropbox-v0", num_envs=2, **settings)
        for each in (env, many):
            each.reset(seed=0)
            ends = [bool(np.any(each.step(each.action_space.sample())[3])) for _ in range(steps)]
            assert ends == [False] * (steps - 1) + [True]


@pytest.mark.parametrize("name", NAMES)
def test_observations_are_dicts_of_named_arrays(name):
    env = wmplay.make_env(name)
    assert isinstance(env.observation_space, Dict)
    observation, info = env.reset(seed=0)
    for values, space in ((observation[key], env.observation_space[key]) for key in observation):
        assert isinstance(space, Box)
        assert values.dtype in (np.float32, np.uint8)
        assert len(values.shape) in (1, 2, 3)
    assert list(observation) == list(env.observation_space), "in the space's order"
    assert isinstance(info, dict)
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_repeat_bit_for_bit(name):
    a, b = (play(wmplay.make_env(name), seed=5) for _ in range(2))
    np.testing.assert_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_batched_is_single(name, autoreset):
    batch = wmplay.make_env(name, num_envs=3, autoreset=autoreset)
    singles = [play(wmplay.make_env(name), seed=5 + i) for i in range(3)]
    rng = np.random.default_rng(0)
    frames, _ = batch.reset(seed=5)
    for step in range(8):
        for i in range(3):
            if step >= len(singles[i]) or (step and any(singles[i][step][2:])):  # the next episode's frames
                continue
            expected = singles[i][0] if step == 0 else singles[i][step][0]
            for key, values in frames.items():
                np.testing.assert_array_equal(values[i], expected[key])
        if isinstance(batch.single_action_space, Box):
            action = np.stack([rng.uniform(-1, 1, batch.single_action_space.shape)] * 3)
        else:
            action = np.zeros(3, np.int64)
        frames, *_ = batch.step(action)
    batch.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_envs", [None, 2])
def test_what_is_no_action_is_refused(name, num_envs):
    env, same = (wmplay.make_env(name, num_envs=num_envs) for _ in range(2))
    env.reset(seed=3)
    same.reset(seed=3)
    good = np.zeros(env.action_space.shape, env.action_space.dtype)
    values = [np.nan] if isinstance(env.action_space, Box) else [-1, 99, 0.5]
    shapes = ["up", [[1], [2, 3]], np.zeros((3, *good.shape), good.dtype)]
    for wrong in [*shapes, *(np.full(good.shape, value) for value in values)]:
        with pytest.raises(ActionError):
            env.step(wrong)
    if num_envs is None:  # a batch may have moved those of its envs that came before the wrong one
        np.testing.assert_equal(env.step(good)[:4], same.step(good)[:4])
    env.close()
    same.close()


def test_env_modules_import_nothing_heavy():
    code = (
        "import sys, wmplay.envs.registration, wmplay.envs.worker_processes\n"
        "assert not {'Box2D', 'torch', 'PIL', 'hydra'} & set(sys.modules), 'at registration'\n"
        "from wmplay.envs.lcd import LcdEnv, LcdVectorEnv\n"
        "import wmplay.envs.gym\n"
        "assert not {'torch', 'PIL', 'hydra'} & set(sys.modules), 'in a worker'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
