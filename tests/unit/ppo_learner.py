"""PPO, small, in the world of ``push``: to act, and to practise."""

from __future__ import annotations

from typing import Any

import torch
from push import CONTINUOUS, Push, vector
from torch import Tensor

from wmplay.contracts import Practice
from wmplay.policies.ppo import PPO

CPU = torch.device("cpu")
N = 5
SPACE = Push().observation_space
SMALL: dict[str, Any] = {
    "hidden": 13,
    "log_std": -0.5,
    "rollout": 7,
    "epochs": 2,
    "minibatch": 17,
    "precision": "float32",
}


def learner(actions: Any = CONTINUOUS, seed: int = 3, space: Any = SPACE, **config: Any) -> PPO:
    torch.manual_seed(seed)
    return PPO(space, actions, **{**SMALL, **config})


def practise(policy: PPO, env: Any = None, steps: int = 70, seed: int = 5, **more: Any) -> dict[str, float]:
    return policy.improve(Practice(vector() if env is None else env, steps, seed, CPU, **more))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observation(rows: int = 101) -> dict[str, Tensor]:
    return {key: torch.randn(rows, 2, generator=seeded(1)) for key in ("x", "goal_x")}


def act(policy: PPO, seed: int | None = None, explore: bool = False, seen: Any = None) -> Tensor:
    seen = observation() if seen is None else seen
    generator = None if seed is None else seeded(seed)
    nothing, first = torch.zeros(len(seen["x"]), 2), torch.ones(len(seen["x"]), dtype=torch.bool)
    with torch.no_grad():
        return policy.act((), seen, nothing, first, explore=explore, generator=generator)[0]


def same(left: Any, right: Any) -> None:
    for (name, a), (_, b) in zip(left.state_dict().items(), right.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
