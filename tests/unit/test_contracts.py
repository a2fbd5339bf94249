"""What is optional of models and envs is read once, and by duck typing."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import SyncVectorEnv
from refusals import refused
from torch import nn

import wmplay
from wmplay.contracts import (
    Capabilities,
    EnvSpec,
    HasDistance,
    HasReward,
    capabilities,
    env_spec,
    missing_methods,
    observation_spaces,
)
from wmplay.errors import SpaceError
from wmplay.registry import build

SEEN, ACTED = Dict(x=Box(-1, 1, (5,), np.float32)), Discrete(7)


class Bare:
    """A model of five methods, and nothing else."""

    def initial(self, observation: Any) -> Any: ...
    def observe(self, belief: Any, action: Any, observation: Any) -> Any: ...
    def predict(self, belief: Any, action: Any, *, generator: Any = None) -> Any: ...
    def decode(self, latent: Any) -> Any: ...
    def loss(self, segment: Any) -> Any: ...


class Able(Bare):
    predicted = ["x"]  # noqa: RUF012
    compiles = ("loss",)
    least_length = 13

    def stages(self) -> list[Any]:
        return []

    def surprise(self, segment: Any) -> str:
        return "surprised"

    def predict(self, belief: Any, action: Any, *, generator: Any = None, temperature: float = 1) -> Any: ...


class Around(Bare):
    """Forwards what it does not have."""

    def __getattr__(self, name: str) -> Any:
        return getattr(Able(), name)


def test_a_model_of_the_five_methods_offers_nothing_else() -> None:
    assert capabilities(Bare()) == capabilities(nn.Identity()) == Capabilities()


def test_a_model_offers_what_it_has() -> None:
    offered = capabilities(Able())
    assert (offered.predicted, offered.compiles, offered.least_length) == (["x"], ("loss",), 13)
    assert offered.temperature
    assert offered.stages is not None
    assert offered.stages() == []
    assert offered.surprise is not None
    assert offered.surprise(None) == "surprised"  # type: ignore[arg-type]
    assert capabilities(Around()).least_length == 13


class World(gym.Env[Any, Any]):
    def __init__(self, max_steps: int = 11) -> None:
        self.observation_space, self.action_space = SEEN, ACTED
        self.task, self.max_steps = SimpleNamespace(distance=lambda observation: 0), max_steps

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return {"x": np.zeros(5, np.float32)}, {}


def test_the_spec_of_an_env_is_that_of_its_wrappers_and_vector_envs() -> None:
    spec = env_spec(World())
    assert (spec.observation_space, spec.action_space, spec.max_steps) == (SEEN, ACTED, 11)
    assert isinstance(spec.task, HasDistance)
    assert not isinstance(spec.task, HasReward)
    assert env_spec(spec) is spec
    wrapped = env_spec(gym.wrappers.FlattenObservation(World()))
    assert wrapped.observation_space != SEEN
    assert wrapped.max_steps == 11
    many = env_spec(SyncVectorEnv([World] * 3))
    assert (many.observation_space, many.action_space) == (SEEN, ACTED)


def test_the_shorter_of_two_clocks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gym.registry, "Clocked-v0", raising=False)
    gym.register("Clocked-v0", entry_point=World, max_episode_steps=7)
    assert env_spec(gym.make("Clocked-v0", disable_env_checker=True)).max_steps == 7
    assert env_spec(gym.make("Clocked-v0", disable_env_checker=True, max_steps=5)).max_steps == 5


def test_an_env_that_was_built_from_a_config_knows_its_provenance() -> None:
    assert env_spec(World()).provenance is None
    for number in (None, 2):
        spec = env_spec(wmplay.make_env("luxo", num_envs=number))
        assert spec.provenance is not None
        assert spec.provenance["world"] == "luxo"
        assert isinstance(spec.task, HasReward | None)


def test_pieces_are_built_from_a_spec_alone() -> None:
    policy = build({"_piece_": "policy/random", "held": 0.0}, env=EnvSpec(SEEN, ACTED))
    assert policy.action_space == ACTED


@pytest.mark.parametrize("piece", [Bare, Bare(), Able()])
def test_missing_methods(piece: Any) -> None:
    assert missing_methods(piece, ("initial", "plan", "loss", "compiles")) == ["plan", "compiles"]


def test_observations_without_names_and_without_arrays() -> None:
    assert observation_spaces(ACTED) == {"observation": ACTED}
    with refused(SpaceError, "'a'", got=SEEN):
        observation_spaces(Dict(a=SEEN))
