"""So many steps of a policy: whole episodes, of which only the last are cut."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from wmplay.contracts import Trajectory
from wmplay.runs.episodes import run_steps

LONGEST = 11


class Clock(gym.Env[Any, Any]):
    """Shows the time and the lot of its episode; terminates after ``life`` steps, or is cut after 11."""

    observation_space = Dict(time=Box(0, 99, (1,), np.float32), lot=Box(0, 1, (1,), np.float32))
    action_space = Discrete(7)

    def __init__(self, life: int) -> None:
        self.life = life

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.lot = 0, self.np_random.random()
        return self.seen(), {}

    def seen(self) -> Any:
        return {"time": np.float32([self.time]), "lot": np.float32([self.lot])}

    def step(self, action: Any) -> Any:
        self.time += 1
        over = self.time >= self.life
        return self.seen(), float(action), over, self.time >= LONGEST and not over, {}


def collected(steps: int, slots: int, life: int = 99, seed: int = 3, **how: Any) -> list[Trajectory]:
    envs = SyncVectorEnv([lambda: Clock(life)] * slots, autoreset_mode=AutoresetMode.SAME_STEP)
    return list(run_steps(envs, None, steps, LONGEST, seed, "collect", device=torch.device("cpu"), **how))


@pytest.mark.parametrize("life", [99, 5, 1])
@pytest.mark.parametrize("slots", [1, 3, 7])
@pytest.mark.parametrize("steps", [1, 10, 11, 47, 101])
def test_exactly_as_many_steps_and_one_cut_at_most(steps: int, slots: int, life: int) -> None:
    found = collected(steps, slots, life)
    assert sum(map(len, found)) == steps
    natural = min(life, LONGEST)
    assert [len(each) for each in found[:-1]] == [natural] * (len(found) - 1)
    for each in found:
        assert each.observation["time"][:, 0].tolist() == list(range(len(each) + 1)), "from reset to the last"
        assert each.reward.tolist() == each.action.tolist(), "a reward stays with its action"
        assert (each.terminated | each.truncated).tolist() == [False] * (len(each) - 1) + [True]
        assert bool(each.terminated[-1]) == (len(each) == life), "what is cut has not ended"


def test_they_follow_from_the_seed_and_are_not_alike() -> None:
    lots = [[float(each.observation["lot"][0, 0]) for each in collected(47, 3, seed=n)] for n in (3, 3, 4)]
    assert lots[0] == lots[1]
    assert lots[0] != lots[2]
    assert len(set(lots[0])) == len(lots[0])


def test_it_can_be_stopped() -> None:
    def check() -> None:
        raise KeyError("stopped")

    with pytest.raises(KeyError):
        collected(47, 3, check=check)
