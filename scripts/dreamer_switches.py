"""What the switches between Dreamer and DreamerV3 do to actor and critic, with a model without error.

    nice python scripts/dreamer_switches.py                   all rows
    nice python scripts/dreamer_switches.py v3 "v3, no norm"  some

The model is the pendulum's own equations (Gymnasium's Pendulum-v1), with gradients; its features are cosine,
sine and speed. Futures begin anywhere. Each row is one actor: its mean action's return over 20 episodes of
200 steps after 50, 100, 150 and 200 updates, each of 80 futures of 15 steps.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import Prediction
from wmplay.policies.actor_critic import Actor, ActorCritic, Critic, Rules
from wmplay.policies.imagination import Roots, imagine

EVERY, TIMES, FUTURES, HORIZON = 50, 4, 80, 15
EPISODES, STEPS, TORQUE, SPEED = 20, 200, 2.0, 8.0
FEATURE = 3 / SPEED  # of the speed
V3: dict[str, Any] = {
    "gradient": "dynamics",
    "critic": "two_hot",
    "slow": ("regulariser", 0.02, 1),
    "return_scale": True,
    "norm": True,
    "entropy": 3e-4,
    "last_actor": 0.01,
    "last_critic": 0.0,
    "descent": {"kind": "laprop", "eps": 1e-20, "agc": 0.3, "clip": None, "warmup": 50},
}
ADAM = {"descent": {"kind": "adam", "eps": 1e-7, "agc": None, "clip": 100.0, "warmup": 0}}
V1: dict[str, Any] = {
    **V3,
    "critic": "mse",
    "slow": ("none", 0.02, 1),
    "return_scale": False,
    "norm": False,
    "entropy": 0.0,
    "last_actor": 1.0,
    "last_critic": 1.0,
    **ADAM,
}
ROWS: dict[str, dict[str, Any]] = {
    "v3": V3,
    "v3, reinforce": {**V3, "gradient": "reinforce"},
    "v3, critic by squares": {**V3, "critic": "mse"},
    "v3, no slow critic": {**V3, "slow": V1["slow"]},
    "v3, slow critic of v2": {**V3, "slow": ("target", 1.0, 100)},
    "v3, no scale": {**V3, "return_scale": False},
    "v3, adam": {**V3, **ADAM},
    "v3, no norm": {**V3, "norm": False},
    "v3, no entropy": {**V3, "entropy": 0.0},
    "v3, last actor layer whole": {**V3, "last_actor": 1.0},
    "v1": V1,
    "v1, norm": {**V1, "norm": True},
    "v1, critic in bins": {**V1, "critic": "two_hot", "last_critic": 0.0},
    "v1, laprop": {**V1, "descent": V3["descent"]},
    "v1, scale": {**V1, "return_scale": True},
    "v1, slow critic": {**V1, "slow": V3["slow"]},
}


class Pendulum:
    """Pendulum-v1 as a world model; a belief is the angle from the upright (rad) and the speed (rad/s)."""

    def features(self, belief: dict[str, Tensor]) -> Tensor:
        """Return cosine, sine and speed [B, 3], of order one."""
        angle, speed = belief["angle"], belief["speed"]
        return torch.stack([angle.cos(), angle.sin(), speed * FEATURE], -1)

    def predict(self, belief: dict[str, Tensor], action: Tensor, generator: Any = None) -> Prediction:
        """Return one step under action [B, 1, 1]."""
        angle, speed, torque = belief["angle"], belief["speed"], action[:, 0, 0].clamp(-TORQUE, TORQUE)
        tilt = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        reward = -(tilt.square() + 0.1 * speed.square() + 0.001 * torque.square())
        speed = (speed + (15 * angle.sin() + 3 * torque) * 0.05).clamp(-SPEED, SPEED)
        after = {"angle": angle + speed * 0.05, "speed": speed}
        return Prediction(self.features(after).unsqueeze(1), reward.unsqueeze(1), None, after, dict)


def outcome(prediction: Prediction, before: Any) -> tuple[Tensor, Tensor, Any]:
    """Return reward and discount of a step, which never ends."""
    assert prediction.reward is not None
    reward = prediction.reward[:, 0]
    return reward, torch.ones_like(reward), before


def somewhere(rows: int, fastest: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw angles and speeds."""
    angle, speed = ((torch.rand(rows, generator=generator) * 2 - 1) * most for most in (math.pi, fastest))
    return {"angle": angle, "speed": speed}


@torch.no_grad()
def returned(agent: ActorCritic) -> float:
    """Return the mean return of the mean action."""
    model, total = Pendulum(), 0.0
    belief = somewhere(EPISODES, 1.0, torch.Generator().manual_seed(5))
    for _ in range(STEPS):
        prediction = model.predict(belief, agent.actor(model.features(belief)).mode().unsqueeze(1))
        assert prediction.reward is not None
        total, belief = total + float(prediction.reward.mean()), prediction.belief
    return total


def learned(row: dict[str, Any], seed: int = 0) -> list[float]:
    """Return the returns of an actor while it learns by the switches of a row."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rules = Rules(
        0.98, 0.95, row["gradient"], row["entropy"], row["critic"], *row["slow"], row["return_scale"], 0
    )
    space = gym.spaces.Box(-TORQUE, TORQUE, (1,), np.float32)
    actor = Actor(3, space, 64, 3, row["norm"], "bounded_normal", 0.0, row["last_actor"])
    critic = Critic(3, 64, 3, row["norm"], row["critic"], row["last_critic"])
    agent = ActorCritic(actor, critic, rules, lr=1e-3, weight_decay=0.0, **row["descent"])
    found, nothing = [], torch.zeros(FUTURES, 0)
    for update in range(1, EVERY * TIMES + 1):
        roots = Roots(somewhere(FUTURES, SPEED, generator), {}, nothing, torch.ones(FUTURES))
        with torch.set_grad_enabled(row["gradient"] == "dynamics"):
            imagined = imagine(Pendulum(), roots, agent.actor, outcome, HORIZON, generator)
        agent.learn(imagined)
        if update % EVERY == 0:
            found.append(returned(agent))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ROWS:
        print(f"| {name} | {' | '.join(f'{value:,.0f}' for value in learned(ROWS[name]))} |", flush=True)
