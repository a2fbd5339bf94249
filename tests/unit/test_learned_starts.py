"""Where the imagined episodes of a learned env begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from learned_push import N, drawn, learned, play, starts
from push import STEPS, Push, Reach, Truth, vector
from refusals import refused

import wmplay
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import stored_starts
from wmplay.errors import ConfigError


@pytest.mark.parametrize("context", [1, 3])
def test_real_starts_are_the_beginnings_of_real_episodes(context: int) -> None:
    given = starts(count=31, context=context)
    assert {key: tuple(value.shape) for key, value in given.observation.items()} == {
        "lcd": (31, context, 5, 7),
        "x": (31, context, 2),
        "goal_x": (31, context, 2),
    }
    assert given.action.shape == (31, context - 1, 2)
    x = given.observation["x"]
    assert len(x[:, 0].unique(dim=0)) == 31
    assert len(given.observation["goal_x"][:, 0].unique(dim=0)) == 31
    moved = Truth().predict(Truth().initial({"x": x[:, 0]}), given.action).latent if context > 1 else x[:, 1:]
    assert torch.equal(moved, x[:, 1:]), "the actions are those between the frames"
    again = starts(31, context)
    assert torch.equal(given.action, again.action)
    assert all(torch.equal(value, again.observation[key]) for key, value in given.observation.items())
    assert not torch.equal(x, starts(31, context, seed=4).observation["x"])
    first, _ = vector().reset(seed=3)
    assert np.array_equal(x[:3, 0], first["x"][:3]), "the frames and goals of the env's own resets"
    assert np.array_equal(given.observation["goal_x"][:3, 0], first["goal_x"][:3])


def test_starts_without_an_end_in_them() -> None:
    task = Reach()
    task.radius = 0.5
    given = starts(count=97, context=4, task=task)
    now = {key: value[:, 1:] for key, value in given.observation.items()}
    _, terminated = task.reward_and_terminated(
        {key: value[:, :-1] for key, value in given.observation.items()}, now
    )
    assert not terminated.any()
    with refused(ConfigError, "learned.context", got=9):
        starts(count=2, context=9)


@pytest.mark.parametrize("context", [1, 3])
def test_stored_starts_are_from_anywhere_with_goals_of_real_resets(context: int, tmp_path: Any) -> None:
    trajectories = wmplay.simulate(vector(), None, episodes=23, seed=5)
    store = wmplay.save_trajectories(trajectories, tmp_path / "store")
    goals = starts(count=13)
    given = stored_starts(store, goals, count=101, context=context, seed=2)
    x = given.observation["x"]
    assert x.shape[1:] == (context, 2)
    assert given.action.shape == (len(x), context - 1, 2)
    windows = {
        tuple(trajectory.observation["x"][t : t + context].flatten().tolist()): t
        for trajectory in trajectories
        for t in range(len(trajectory) + 2 - context)
    }
    begins = [windows[tuple(each.flatten().tolist())] for each in x]
    assert {0, 1, 2, 3} <= set(begins), "anywhere in the episodes"
    real = goals.observation["goal_x"][:, 0]
    chosen = given.observation["goal_x"]
    assert (chosen == chosen[:, :1]).all(), "one goal for all frames"
    which = (chosen[:, :1] == real).all(-1).float().argmax(-1)
    assert torch.equal(real[which], chosen[:, 0])
    assert len(which.unique()) == 13
    assert torch.equal(x, stored_starts(store, goals, 101, context, 2).observation["x"])
    assert not torch.equal(chosen, stored_starts(store, goals, 101, context, 3).observation["goal_x"])
    env = LearnedVectorEnv(Truth(), Push(), given, N, precision="float32")
    assert env.observation_space.contains(play(env)[-1][0])


def test_a_context_longer_than_the_stored_trajectories_is_refused(tmp_path: Any) -> None:
    store = wmplay.save_trajectories(wmplay.simulate(vector(), None, episodes=3, seed=5), tmp_path / "store")
    assert stored_starts(store, None, 31, STEPS + 1, 0).observation["x"].shape[1] == STEPS + 1
    with refused(ConfigError, "learned.context", got=9):
        stored_starts(store, None, 31, STEPS + 2, 0)


def test_episodes_begin_with_the_starts_in_order_and_go_on_with_any() -> None:
    env, pool = learned(num_envs=37), starts().observation
    seen = env.reset_tensors(seed=0)
    assert torch.equal(seen["x"], torch.cat([pool["x"], pool["x"][:6]])[:, 0])
    later: set[int] = set()
    for action in drawn(env, 41):
        step = env.step_tensors(torch.from_numpy(action))
        ended = step.terminated | step.truncated
        same = (step.observation["x"][ended].unsqueeze(1) == pool["x"][:, -1]).all(-1)
        assert same.any(-1).all()
        later |= set(same.float().argmax(-1).tolist())
    assert later == set(range(31))
