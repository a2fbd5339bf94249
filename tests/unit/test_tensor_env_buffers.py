"""A vector env that writes into the same arrays at every step: what was seen and told stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.policies.ppo import PPO
from wmplay.vector.stepping import TensorEnv

N, T = 3, 7
SPACE, ACTIONS = Dict({"x": Box(-99, 99, (2,), np.float32)}), Box(-1, 1, (1,), np.float32)


class Frugal(VectorEnv[Any, Any, Any]):
    """Counts: observation and reward are the number of the step; every fifth ends the episodes."""

    def __init__(self) -> None:
        self.num_envs = N
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = SPACE, ACTIONS
        self.observation_space, self.action_space = batch_space(SPACE, N), batch_space(ACTIONS, N)
        self.frames = {"x": np.zeros((N, 2), np.float32)}
        self.rewards, self.flags = np.zeros(N, np.float32), np.zeros((2, N), bool)

    def reset(self, **how: Any) -> Any:
        self.time = 0
        self.frames["x"][:] = 0
        return self.frames, {}

    def step(self, actions: Any) -> Any:
        self.time += 1
        self.frames["x"][:], self.rewards[:] = self.time, self.time
        self.flags[0], self.flags[1] = self.time % 5 == 0, self.time % 10 == 9
        return self.frames, self.rewards, *self.flags, {"final_obs": self.frames}


def test_transitions_stay_as_they_were() -> None:
    env = TensorEnv(Frugal(), torch.device("cpu"))
    env.reset(0)
    steps = [env.step(torch.zeros(N, 1)) for _ in range(T)]
    for number, step in enumerate(steps, start=1):
        assert (step.arrived["x"] == number).all()
        assert step.reward.tolist() == [number] * N
        assert step.reward.dtype is torch.float32
        assert step.terminated.tolist() == [number == 5] * N
        assert step.terminated.dtype is step.truncated.dtype is torch.bool


def test_a_round_of_ppo_learns_from_the_rewards_of_its_steps() -> None:
    env = TensorEnv(Frugal(), torch.device("cpu"))
    torch.manual_seed(0)
    policy = PPO(SPACE, ACTIONS, hidden=5, rollout=T, gamma=0.0, gae_lambda=0.0, precision="float32")
    batch, _, seen = policy.collect(env, policy.inputs.flat(env.reset(0)), torch.Generator().manual_seed(0))
    assert seen["reward"] == pytest.approx(np.mean(range(1, T + 1)))
    assert batch.target.reshape(T, N)[:, 0].tolist() == pytest.approx(list(range(1, T + 1)), abs=1e-4)
