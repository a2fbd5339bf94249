"""What a learned env says of reward and end: by the clock, the task, or the heads of the model."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from learned_push import N, learned, starts
from push import STEPS, Push, Truth
from refusals import refused
from small_models import make_model, seed_spaces

import wmplay
from wmplay.contracts import Segment
from wmplay.envs.learned.env import LearnedVectorEnv, as_observed
from wmplay.errors import ConfigError


@pytest.mark.parametrize(("given", "expected"), [(None, STEPS), (3, 3)])
def test_the_clock(given: int | None, expected: int) -> None:
    env = learned(Truth(discount=1.0, reward=0.0), reward="model", max_steps=given)
    lengths = {len(trajectory) for trajectory in wmplay.simulate(env, None, 11)}
    assert lengths == {expected}


@pytest.mark.parametrize("length", [1, 2])
def test_rollouts_that_branch_off_starts_stop_at_their_length_or_at_an_end(length: int) -> None:
    env = learned(Truth(reward=0.0, discount=0.5), reward="model", max_steps=length, num_envs=97)
    known = {tuple(x) for x in env._starts.observation["x"][:, -1].tolist()}
    env.reset_tensors(seed=1)
    time = torch.zeros(97)
    for _ in range(5):
        step = env.step_tensors(torch.full((97, 2), 0.01))
        time += 1
        assert torch.equal(step.truncated, time == length)  # cut: the state that it arrived in has a value
        over = step.terminated | step.truncated
        began = [tuple(x) in known for x in step.observation["x"].tolist()]
        assert [new for new, end in zip(began, over.tolist(), strict=True) if end] == [True] * int(over.sum())
        time[over] = 0
    assert over.any()


def test_an_envs_clock_may_be_in_its_spec_or_nowhere() -> None:
    env = gym.make("Pendulum-v1")
    space = Dict({"vector": env.observation_space})
    env.unwrapped.observation_space = space
    none = torch.zeros(3, 0)
    given = Segment({"vector": torch.zeros(3, 1, 3)}, torch.zeros(3, 0, 1), none, none.bool(), none.bool())
    seed_spaces()
    model = make_model("mlp", space, env.action_space)
    assert env.spec.max_episode_steps == 200
    wrapped = gym.wrappers.TransformObservation(env, lambda seen: {"vector": seen}, space)
    assert LearnedVectorEnv(model, wrapped, given, 2, reward="model").max_steps == 200
    endless = Push(max_steps=None)
    unlimited = LearnedVectorEnv(Truth(), endless, starts(), 2)
    unlimited.reset_tensors(0)
    assert unlimited.max_steps is None
    assert not unlimited.step_tensors(torch.zeros(2, 2)).truncated.any()


def test_rewards_and_endings_of_the_models_heads() -> None:
    env = learned(Truth(reward=-0.7, discount=0.25), reward="model", num_envs=997)
    env.reset_tensors(seed=1)
    action = torch.zeros(997, 2)
    first = env.step_tensors(action)
    assert (first.reward == -0.7).all()
    assert float(first.terminated.float().mean()) == pytest.approx(0.75, abs=0.05)
    second = env.step_tensors(action)
    assert not torch.equal(first.terminated, second.terminated)
    env.reset_tensors(seed=1)
    assert torch.equal(env.step_tensors(action).terminated, first.terminated)
    for discount, ends in ((1.0, False), (0.0, True), (None, False)):
        env = learned(Truth(reward=0.0, discount=discount), reward="model")
        env.reset_tensors(seed=1)
        assert (env.step_tensors(torch.zeros(N, 2)).terminated == ends).all()


def test_a_model_that_cannot_give_the_reward_is_refused() -> None:
    with refused(ConfigError, ("Truth", "'x'", "lcd", "goal_x"), advice="learned.reward=model"):
        learned(Truth(keys=("lcd",)))
    with refused(ConfigError, ("Truth", "learned.reward=model"), advice="model.reward_weight"):
        learned(Truth(), reward="model")
    given = starts()
    without = Segment(
        {key: value for key, value in given.observation.items() if key != "goal_x"},
        *(given.action, given.reward, given.terminated, given.mask),
    )
    with refused(ConfigError, ("goal_x", "Truth"), advice="learned.reward=model"):
        LearnedVectorEnv(Truth(), Push(), without, N)
    for task in (None, "a name"):
        env = Push()
        env.task = task
        with refused(ConfigError, "learned.reward=task", advice=("learned.reward=model", "env.task")):
            LearnedVectorEnv(Truth(), env, given, N)
        LearnedVectorEnv(Truth(reward=0.0), env, given, N, reward="model")


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(0, 1, (5,), np.uint8), [0, 0, 1, 1, 0]),
        (Box(0, 1, (5,), np.bool_), [False, False, True, True, False]),
        (Box(0, 255, (5,), np.uint8), [0, 0, 1, 3, 0]),
        (Box(-2, 2, (5,), np.int32), [0, 0, 1, 2, -2]),
        (Box(-2, 2, (5,), np.float32), [0, 0.25, 0.75, 2, -2]),
        (Box(-2, np.inf, (5,), np.float64), [0, 0.25, 0.75, 3, -2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_have_the_dtype_and_the_bounds_of_the_space(space, expected, dtype):
    shown = as_observed(torch.tensor([[0, 0.25, 0.75, 3, -7]], dtype=dtype), space)
    assert shown.tolist() == [expected]
    assert shown.numpy().dtype == space.dtype
    assert space.contains(shown[0].numpy())
