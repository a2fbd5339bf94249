"""Vector envs on tensors: what an action led to, what to act on next, and nothing lost on the way."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, Sequence, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers
from push import CONTINUOUS, DISCRETE, Push, Truth, vector
from refusals import refused

from wmplay.contracts import observation_spaces
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts
from wmplay.errors import ConfigError, SpaceError, WmplayError
from wmplay.vector.frames import frames_of, with_final
from wmplay.vector.stepping import TensorEnv, autoreset_mode

CPU = torch.device("cpu")
N = 5


@pytest.mark.parametrize("actions", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_it_says_what_the_env_says(actions: Any) -> None:
    env, tensors = vector(actions=actions), TensorEnv(vector(actions=actions), CPU)
    seen, _ = env.reset(seed=1)
    first = tensors.reset(seed=1)
    assert {key: value.dtype for key, value in first.items()} == {
        "lcd": torch.uint8,
        "x": torch.float32,
        "goal_x": torch.float32,
    }
    assert all(np.array_equal(first[key].numpy(), seen[key]) for key in seen)
    env.action_space.seed(3)
    ends = 0
    for _ in range(23):
        action = env.action_space.sample()
        seen, reward, terminated, truncated, info = env.step(action)
        # a policy's tensors may have another type than the space
        told = torch.from_numpy(action) if actions is DISCRETE else torch.from_numpy(action).double()
        step = tensors.step(told)
        assert [x.dtype for x in step[2:]] == [torch.float32, torch.bool, torch.bool]
        np.testing.assert_allclose(step.reward.numpy(), reward, rtol=1e-6)
        assert np.array_equal(step.terminated.numpy(), terminated)
        assert np.array_equal(step.truncated.numpy(), truncated)
        for key, value in seen.items():
            assert np.array_equal(step.observation[key].numpy(), value)
            for row, ended in enumerate(terminated | truncated):
                expected = info["final_obs"][row][key] if ended else value[row]
                assert np.array_equal(step.arrived[key][row].numpy(), expected)
                ends += int(ended)
    assert ends > 10


def test_a_step_leaves_the_last_one_as_it_was() -> None:
    env = TensorEnv(vector(), CPU)
    first = env.reset(seed=1)
    kept = {key: value.clone() for key, value in first.items()}
    for _ in range(3):
        env.step(torch.ones(N, 2))
    assert all(torch.equal(first[key], kept[key]) for key in kept)


def test_a_learned_env_is_used_as_it_is_and_a_wrapped_one_through_its_wrapper() -> None:
    def learned(**settings: Any) -> LearnedVectorEnv:
        starts = real_starts(vector(), 31, 1, 3)
        return LearnedVectorEnv(Truth(**settings), Push(), starts, N, precision="float32")

    blind = TensorEnv(learned(blind=True), CPU)
    blind.reset(seed=1)
    assert blind.step(torch.zeros(N, 2)).observation["x"].shape == (N, 2)

    plain = TensorEnv(learned(), CPU)
    doubled = TensorEnv(wrappers.TransformReward(learned(), lambda reward: 2 * reward), CPU)
    for env in (plain, doubled):
        env.reset(seed=1)
    for _ in range(11):
        one, two = plain.step(torch.ones(N, 2)), doubled.step(torch.ones(N, 2))
        assert torch.equal(2 * one.reward, two.reward)
        for key in ("lcd", "x", "goal_x"):
            assert torch.equal(one.arrived[key], two.arrived[key])
            assert torch.equal(one.observation[key], two.observation[key])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_an_env_that_does_not_reset_itself_at_once_is_refused(mode: AutoresetMode) -> None:
    with refused(ConfigError, advice=("autoreset=", "same_step")):
        TensorEnv(SyncVectorEnv([Push] * 2, autoreset_mode=mode), CPU)


def test_an_env_that_does_not_say_when_it_resets_is_refused() -> None:
    env = vector()
    env.metadata = {"autoreset_mode": "sometimes"}
    with refused(WmplayError, "SyncVectorEnv.metadata", got="sometimes"):
        autoreset_mode(env)


def test_last_frames_may_come_one_by_one_or_as_a_batch() -> None:
    spaces = {"x": Box(-1, 1, (2,), np.float32)}
    now = {"x": np.zeros((3, 2), np.float32)}
    ended = np.array([False, True, True])
    single = np.array([None, {"x": np.full(2, 0.5)}, {"x": np.full(2, 0.7)}], object)
    batched = {"x": np.repeat(np.array([[0.3], [0.5], [0.7]]), 2, 1)}
    for final in (single, batched):
        arrived = with_final(now, ended, {"final_obs": final}, spaces)
        np.testing.assert_allclose(arrived["x"], [[0, 0], [0.5, 0.5], [0.7, 0.7]], rtol=1e-6)
        assert arrived["x"].dtype == np.float32
    assert not now["x"].any()
    with refused(WmplayError, "final_obs"):
        with_final(now, ended, {}, spaces)


def test_observations_by_key() -> None:
    vector_space = Box(-1, 1, (3,), np.float32)
    assert observation_spaces(Dict(a=vector_space, b=Discrete(3))) == {"a": vector_space, "b": Discrete(3)}
    assert observation_spaces(MultiBinary(3)) == {"observation": MultiBinary(3)}
    frames = frames_of(np.zeros((N, 3)), observation_spaces(vector_space), N)
    assert frames["observation"].dtype == np.float32
    assert not frames["observation"].any()
    for space in (Tuple((vector_space,)), Dict(a=Dict(b=vector_space)), Graph(vector_space, None), Text(3)):
        with refused(SpaceError, ("observation", "gymnasium.wrappers.FlattenObservation")):
            observation_spaces(space)
    with refused(SpaceError, ("'a'", "Sequence")):
        observation_spaces(Dict(a=Sequence(vector_space)))


def test_an_env_without_a_dict_is_stepped_too() -> None:
    env = SyncVectorEnv(
        [lambda: gym.make("CartPole-v1", max_episode_steps=3)] * N, autoreset_mode=AutoresetMode.SAME_STEP
    )
    tensors = TensorEnv(env, CPU)
    first = tensors.reset(seed=1)["observation"]
    steps = [tensors.step(torch.ones(N, dtype=torch.int64)) for _ in range(3)]
    assert steps[2].truncated.all()
    assert (steps[2].arrived["observation"] - first).abs().max() > 0.3
    assert steps[2].observation["observation"].abs().max() < 0.06
