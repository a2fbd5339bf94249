"""Every model that predicts a vector makes a learned env."""

from __future__ import annotations

import itertools
import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from learned_push import N, drawn, play
from small_models import ACTIONS, MODELS, OBSERVATIONS, make_model, seed_spaces, takes

import wmplay
from wmplay import registry
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts
from wmplay.errors import WmplayError
from wmplay.nets.trees import take_rows

BUILT_IN = [
    piece.name
    for piece in registry.pieces("model")
    if piece.source == "built in" and not re.fullmatch(r".*_(published|large|beta)|oracle", piece.name)
]
NEEDED: dict[str, dict[str, Any]] = {"gns": {"keys": ["state"], "entries": 2}}
EVERY_WORLD = [
    pytest.param(model, observation, action, id=f"{model}-{observation}-{action}")
    for model in MODELS
    for observation in ("screen and vector", "vector")
    for action in ACTIONS
    if takes(model, observation)
]


class Noise(gym.Env[Any, Any]):
    """Shows samples of its spaces."""

    def __init__(self, seen: Any, actions: Any) -> None:
        self.observation_space, self.action_space, self.max_steps = seen, actions, 3

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize(("model", "observation", "action"), EVERY_WORLD)
def test_every_model_with_a_vector_makes_a_world(model: str, observation: str, action: str) -> None:
    seed_spaces()
    space, actions = OBSERVATIONS[observation], ACTIONS[action]
    make = SyncVectorEnv([lambda: Noise(space, actions)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    given = real_starts(make, 7, 3, 1)
    net = make_model(model, space, actions).eval()
    env = LearnedVectorEnv(net, Noise(space, actions), given, N, reward="model")
    first, again = (play(env, steps=7) for _ in range(2))
    assert data_equivalence(first, again, exact=True)
    for seen, *_ in first:
        assert env.observation_space.contains(seen)
    ended = np.array([terminated | truncated for _, _, terminated, truncated, _ in first[1:]])
    assert ended.any(), "episodes have begun again"

    # rows of a running batch are those rows alone, also where some have just begun again
    env.reset_tensors(seed=1)
    for step in drawn(env, 2):
        env.step_tensors(torch.as_tensor(step))
    move = torch.as_tensor(drawn(env, 1, seed=3)[0]).unsqueeze(1)
    with torch.no_grad():
        whole = net.predict(env.belief, move)
        alone = net.predict(take_rows(env.belief, torch.tensor([2])), move[2:3])
    for key, value in whole.observation.items():
        torch.testing.assert_close(alone.observation[key][0], value[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_predicted_in_bfloat16_can_be_read_afterwards(name: str) -> None:
    for seen, acting in itertools.product(("screen and vector", "screen", "vector"), ACTIONS):
        env = Noise(OBSERVATIONS[seen], ACTIONS[acting])
        try:
            net = wmplay.make("model", name, env=env, **NEEDED.get(name, {})).eval()
        except WmplayError:
            continue  # of other spaces
        frame = env.observation_space.sample()
        belief = net.initial({key: torch.as_tensor(value).unsqueeze(0) for key, value in frame.items()})
        action = torch.as_tensor(np.array(env.action_space.sample())).reshape(1, 1, *env.action_space.shape)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            future = net.predict(belief, action, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            values = [future.reward, future.discount, *future.observation.values()]
        assert all(value.isfinite().all() for value in values if value is not None)
        return
    raise AssertionError(f"{name} takes none of the spaces")
