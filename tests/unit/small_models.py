"""Small models, spaces and segments of distinct prime sizes, shared by the tests of models and policies."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from wmplay.contracts import Segment
from wmplay.models.boxlcd.fbt import FBT
from wmplay.models.boxlcd.fit import FIT
from wmplay.models.boxlcd.frnld import FRNLD
from wmplay.models.ensemble import Ensemble
from wmplay.models.gru import GRU
from wmplay.models.mlp import MLP
from wmplay.models.pets import PETS
from wmplay.models.rssm import RSSM

B, T, H, A = 2, 5, 3, 11

ACTIONS = {"continuous": Box(-2, 2, (A,), np.float32), "discrete": Discrete(A)}
LCD = Box(0, 1, (5, 7), np.uint8)
PROPRIO = Box(-1, 1, (3,), np.float32)
OBSERVATIONS = {
    "screen and vector": Dict({"lcd": LCD, "proprio": PROPRIO, "goal_proprio": PROPRIO}),
    "screen": Dict({"lcd": LCD}),
    "vector": Dict({"state": Box(-np.inf, np.inf, (2,), np.float32), "angle": Box(-3, 5, (1,), np.float64)}),
    "pixels": Dict({"pixels": Box(0, 255, (7, 5, 3), np.uint8)}),
    "large pixels": Dict({"pixels": Box(0, 255, (37, 41, 3), np.uint8)}),
}
SMALL: dict[str, Any] = {"deter": 13, "stoch": 5, "hidden": 17, "image_hidden": 19}
TRANSFORMER: dict[str, Any] = {"size": 22, "heads": 2, "context": 3, "hidden": 17}
PUBLISHED: dict[str, Any] = {"direct_vectors": False, "patch": 1, "position_features": 0}
MODELS: dict[str, Callable[..., Any]] = {
    "rssm": lambda o, a: RSSM(o, a, free_nats=0.0, **SMALL),
    "rssm discrete": lambda o, a: RSSM(o, a, classes=7, free_nats=0.0, **SMALL),
    "mlp": lambda o, a: MLP(o, a, hidden=17, image_hidden=19),
    "gru": lambda o, a: GRU(o, a, hidden=17, image_hidden=19, burn_in=0),
    "ensemble": lambda o, a: Ensemble(o, a, members=2, settings={"hidden": 17, "image_hidden": 19}),
    "pets": lambda o, a: PETS(o, a, members=2, hidden=17),
    "fbt": lambda o, a: FBT(o, a, bits=5, width=7, **TRANSFORMER),
    "fbt published": lambda o, a: FBT(o, a, bits=5, width=7, **PUBLISHED, **TRANSFORMER),
    "fit": lambda o, a: FIT(o, a, **TRANSFORMER),
    "frnld": lambda o, a: FRNLD(o, a, channels=5, width=7, **TRANSFORMER),
}
ONLY_SCREENS = ("fbt", "fbt published", "fit", "frnld")  # they need one binary screen


def takes(model: str, observation: str) -> bool:
    """Whether a model of MODELS takes that kind of OBSERVATIONS."""
    if model == "pets":  # neither reads nor predicts screens
        return observation == "vector"
    return model not in ONLY_SCREENS or "screen" in observation


def make_model(name: str, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Any:
    """A small model with weights from a fixed seed, large enough that its inputs matter."""
    torch.manual_seed(7)
    model = MODELS[name](observation_space, action_space)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model


def observations(space: Dict, *batch: int) -> dict[str, Tensor]:
    """Random observations {key: [*batch, ...]}."""
    return {key: _samples(space[key], batch) for key in space.spaces}


def actions(space: gym.Space[Any], *batch: int) -> Tensor:
    """Random actions [*batch, A], or [*batch] int64."""
    return _samples(space, batch)


def segment(observation_space: Dict, action_space: gym.Space[Any], batch: int = B, steps: int = T) -> Segment:
    """A random segment without padding and without endings."""
    return Segment(
        observations(observation_space, batch, steps + 1),
        actions(action_space, batch, steps),
        torch.randn(batch, steps),
        torch.zeros(batch, steps, dtype=torch.bool),
        torch.ones(batch, steps, dtype=torch.bool),
    )


def _samples(space: gym.Space[Any], batch: tuple[int, ...]) -> Tensor:
    number = int(np.prod(batch))
    drawn = np.stack([np.asarray(space.sample()) for _ in range(number)])
    return torch.as_tensor(drawn).reshape(*batch, *drawn.shape[1:])


def seed_spaces(seed: int = 3) -> None:
    """Makes all samples above the same in each test."""
    for space in [*OBSERVATIONS.values(), *ACTIONS.values()]:
        space.seed(seed)
