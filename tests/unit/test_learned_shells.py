"""A learned env alone, and with every way to begin the next episode."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from push import STEPS, Push, Truth, vector

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.shells import LearnedEnv, LearnedModes
from wmplay.envs.learned.starts import real_starts
from wmplay.errors import ConfigError

N = 5
NEXT, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def learned(slots: int = N) -> LearnedVectorEnv:
    return LearnedVectorEnv(Truth(), Push(), real_starts(vector(), 31, 1, 3), slots, precision="float32")


def test_alone_it_is_an_env_as_gymnasium_has_them() -> None:
    env = LearnedEnv(learned(1))
    check_env(env, skip_render_check=True)
    begun = [env.reset(seed=seed)[0]["x"] for seed in (3, 3, 4)]
    assert np.array_equal(begun[0], begun[1])
    assert not np.array_equal(begun[1], begun[2])
    for trajectory in wmplay.simulate(env, episodes=7, seed=0):
        assert 1 <= len(trajectory) <= STEPS
        x, action = trajectory.observation["x"], trajectory.action
        np.testing.assert_allclose(x[1], np.clip(x[0] + action[0] / 8, -1, 1), atol=1e-5)
    while not any(env.step(env.action_space.sample())[2:4]):
        pass
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())


@pytest.mark.parametrize("mode", [NEXT, DISABLED])
def test_episodes_are_as_long_and_as_true_in_every_mode(mode: AutoresetMode) -> None:
    env = LearnedModes(learned(), mode)
    trajectories = wmplay.simulate(env, episodes=23, seed=1)
    assert {len(each) for each in trajectories} != {STEPS}, "some come to their goals"
    starts = {tuple(each.observation["x"][0]) for each in trajectories}
    assert len(starts) > 2 * N
    for each in trajectories:
        x, action = each.observation["x"], each.action
        assert each.terminated[-1] or each.truncated[-1]
        v = np.zeros(2, np.float32)
        for t in range(len(each)):
            expected = np.clip(x[t] + v + action[t] / 8, -1, 1)
            np.testing.assert_allclose(x[t + 1], expected, atol=1e-5)
            v = (x[t + 1] - x[t]) / 2


def test_the_step_after_an_end_only_begins_the_next_episode() -> None:
    env = LearnedModes(learned(), NEXT)
    env.reset(seed=0)
    for _ in range(STEPS):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    ended = terminated | truncated
    assert ended.any()
    _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert [each[ended].any() for each in (reward, terminated, truncated)] == [False] * 3


def test_without_resets_of_its_own_it_waits_for_them() -> None:
    env = LearnedModes(learned(), DISABLED)
    first, _ = env.reset(seed=0)
    mask = np.arange(N) == 2
    again, _ = env.reset(options={"reset_mask": mask})
    changed = (again["x"] != first["x"]).any(1)
    assert changed.tolist() == mask.tolist()
    while True:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if (terminated | truncated).any():
            break
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    env.reset(options={"reset_mask": terminated | truncated})
    env.step(env.action_space.sample())
    for bad in (np.zeros(N, bool), np.ones(N + 1, bool), np.ones(N)):
        with pytest.raises(ConfigError):
            env.reset(options={"reset_mask": bad})
