"""Atari on the real package: what a step shows and pays is what the emulator says, alone and in a batch."""

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from refusals import refused

import wmplay
from wmplay.envs.atari import AtariEnv
from wmplay.errors import ConfigError, UnknownName
from wmplay.vector.stepping import Stepper

ale_py = pytest.importorskip("ale_py")


def emulator(seed):
    """A game of Breakout by the emulator itself."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", seed)
    ale.loadROM(ale_py.roms.get_rom_path("breakout"))
    ale.reset_game()
    return ale


def test_a_step_pays_and_shows_what_its_own_action_led_to():
    env, ale = AtariEnv("breakout", sticky=0.0, size=210), emulator(5)
    actions = ale.getMinimalActionSet()
    env.reset(seed=5)
    rng = np.random.default_rng(0)
    rewards, ended = [], False
    while not ended:
        action = int(rng.integers(4))
        seen, reward, ended, truncated, info = env.step(action)
        expected, frames = 0.0, []
        for _ in range(4):
            expected += ale.act(actions[action])
            frames.append(ale.getScreenRGB())
            if ale.game_over():
                break
        assert (reward, ended, truncated) == (expected, ale.game_over(), False)
        assert info["lives"] == ale.lives()
        rewards.append(reward)
        if len(frames) == 4:  # rows keep their height, so each of them has the mean that it had
            pooled = np.maximum(frames[-1], frames[-2])
            np.testing.assert_allclose(seen["pixels"].mean((1, 2)), pooled.mean((1, 2)), atol=0.6)
    assert len(rewards) > 50
    assert max(rewards) > 0


def test_shapes_and_actions():
    env = AtariEnv(size=37)
    seen, _ = env.reset(seed=0)
    assert (seen["pixels"].shape, seen["pixels"].dtype) == ((37, 37, 3), np.uint8)
    assert env.action_space == Discrete(6)
    grey = AtariEnv(grayscale=True, full_actions=True)
    assert grey.reset(seed=0)[0]["pixels"].shape == (64, 64, 1)
    assert grey.action_space == Discrete(18)


def test_the_clocks_end_is_truncation_and_counts_frames():
    env = AtariEnv(max_steps=28)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(7)] == [(False, False)] * 6 + [(False, True)]
    env.reset()
    assert env.step(0)[2:4] == (False, False)


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_a_batch_is_its_single_games_over_several_episodes(autoreset):
    options = {"game": "space_invaders", "max_steps": 44, "noops": 13, "size": 19}
    batch = Stepper(wmplay.make_env("atari", num_envs=3, autoreset=autoreset, **options))
    games = [AtariEnv(**options) for _ in range(3)]
    batch.reset(seed=11)
    frames = [game.reset(seed=11 + slot)[0] for slot, game in enumerate(games)]
    endings = 0
    for action in np.random.default_rng(3).integers(0, 6, (36, 3)):
        np.testing.assert_array_equal(batch.frames["pixels"], [frame["pixels"] for frame in frames])
        step = batch.step(action, last=np.zeros(3, np.bool_))
        for slot in np.flatnonzero(step.stepped):
            frames[slot], reward, terminated, truncated, _ = games[slot].step(action[slot])
            np.testing.assert_array_equal(step.arrived["pixels"][slot], frames[slot]["pixels"])
            assert step.reward[slot] == np.float32(reward)
            assert (step.terminated[slot], step.truncated[slot]) == (terminated, truncated)
            if truncated and autoreset != "next_step":
                frames[slot], _ = games[slot].reset()
            endings += truncated
        for slot in np.flatnonzero(~step.stepped):
            frames[slot], _ = games[slot].reset()
    assert endings == 9
    batch.env.close()


def test_seeds_repeat_and_differ():
    numbers = {}
    for seed in (3, 3 + 2**31, 5, 10**12):
        env = AtariEnv("space_invaders", noops=29, size=11)
        env.reset(seed=seed)
        numbers[seed] = np.stack([env.step(k % 6)[0]["pixels"] for k in range(29)])
    np.testing.assert_array_equal(numbers[3], numbers[3 + 2**31])  # the engine's seeds have 31 bits
    assert (numbers[3] != numbers[5]).any()


def test_what_was_seen_stays_as_it_was():
    env = AtariEnv(size=11)
    seen, _ = env.reset(seed=0)
    before = seen["pixels"].copy()
    for _ in range(17):
        later, *_ = env.step(0)
    np.testing.assert_array_equal(seen["pixels"], before)
    assert (later["pixels"] != before).any()


@pytest.mark.parametrize(
    ("options", "error", "fields"),
    [
        ({"game": "pongg"}, UnknownName, {"got": "pongg", "advice": "pong"}),
        ({"game": "combat"}, UnknownName, {"got": "combat"}),  # has no game for one
        ({"sticky": 1.5}, ConfigError, {"about": "sticky", "got": 1.5, "expected": "0"}),
        ({"noops": -1}, ConfigError, {"about": "noops", "got": -1}),
        ({"size": 0}, ConfigError, {"about": "size", "got": 0}),
        ({"action_repeat": 0}, ConfigError, {"about": "action_repeat", "got": 0}),
        ({"max_steps": 0}, ConfigError, {"about": "max_steps", "got": 0}),
    ],
)
def test_bad_options_are_refused_in_one_line(options, error, fields):
    with refused(error, **fields):
        AtariEnv(**options)
