"""Vector envs, learned ones too, for agents of stable-baselines3: tried with the package itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import stable_baselines3
from push import Push, Truth, vector
from refusals import refused

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts
from wmplay.envs.sb3 import SB3VecEnv
from wmplay.errors import ConfigError

N = 5


def learned() -> LearnedVectorEnv:
    return LearnedVectorEnv(Truth(), Push(), real_starts(vector(), 31, 1, 3), N, precision="float32")


@pytest.mark.parametrize("make", [learned, lambda: wmplay.make_env("bounce", num_envs=N, max_steps=3)])
def test_steps_are_those_of_the_env(make: Any) -> None:
    env, plain = SB3VecEnv(make()), make()
    env.seed(3)
    first, expected = env.reset(), plain.reset(seed=3)[0]
    np.testing.assert_equal(first, expected)
    plain.action_space.seed(0)
    ends = 0
    for _ in range(23):
        action = plain.action_space.sample()
        seen, reward, done, infos = env.step(action)
        expected, gained, terminated, truncated, info = plain.step(action)
        np.testing.assert_equal(seen, expected)
        np.testing.assert_allclose(reward, gained, rtol=1e-6)
        assert reward.dtype == np.float32
        np.testing.assert_array_equal(done, terminated | truncated)
        for slot in range(N):
            assert ("terminal_observation" in infos[slot]) == done[slot]
            if done[slot]:
                np.testing.assert_equal(infos[slot]["terminal_observation"], info["final_obs"][slot])
                assert infos[slot]["TimeLimit.truncated"] == (truncated[slot] and not terminated[slot])
                ends += 1
    assert ends > N


@pytest.mark.parametrize("agent", [stable_baselines3.PPO, stable_baselines3.SAC])
def test_agents_learn_in_it(agent: Any) -> None:
    settings = {"n_steps": 8, "batch_size": 20, "n_epochs": 1} if agent is stable_baselines3.PPO else {}
    model = agent("MultiInputPolicy", SB3VecEnv(learned()), seed=0, device="cpu", **settings)
    model.learn(120)
    assert model.num_timesteps >= 120
    assert model.predict(model.env.reset())[0].shape == (N, 2)


def test_an_env_that_resets_in_another_way_is_refused() -> None:
    with refused(ConfigError, "same_step"):
        SB3VecEnv(wmplay.make_env("bounce", num_envs=2, autoreset="next_step"))
