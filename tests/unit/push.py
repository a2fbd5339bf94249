"""A world that tests can compute by hand, as an environment and as a world model that knows the rule.

A point in the plane is pushed and drifts on: x' = x + v + a / 8, v' = (x' - x) / 2, cut to [-1, 1]. It is
seen without its velocity; a screen of 5 x 7 shows nothing of it but whether it is on the right.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn

from wmplay.contracts import LazyMapping, Prediction

CONTINUOUS = Box(np.array([-2, -1], np.float32), np.array([2, 3], np.float32))
DISCRETE = Discrete(5)
MOVES = np.array([[0, 0], [2, 0], [-2, 0], [0, 2], [0, -2]], np.float32)
SPACES = {"lcd": Box(0, 1, (5, 7), np.uint8), "x": Box(-1, 1, (2,), np.float32)}
STEPS = 7


class Reach:
    """The task: come nearer to the goal, and to within a radius of it."""

    radius = 0.25

    def reward_and_terminated(self, before: Any, after: Any) -> tuple[Any, Any]:
        was, now = (abs(seen["goal_x"] - seen["x"]).mean(-1) for seen in (before, after))
        return was - now + (now < self.radius), now < self.radius


class Push(gym.Env[Any, Any]):
    """``reset(options={"state": (x, v, goal)})`` begins there."""

    def __init__(self, actions: Any = CONTINUOUS, max_steps: int = STEPS, task: Any = None) -> None:
        self.observation_space = Dict({**SPACES, "goal_x": SPACES["x"]})
        self.action_space, self.max_steps, self.task = actions, max_steps, task or Reach()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        x, goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        self.x, self.v, self.goal = (options or {}).get("state", (x, np.zeros(2, np.float32), goal))
        self.time = 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"lcd": np.full((5, 7), self.x[0] > 0, np.uint8), "x": self.x, "goal_x": self.goal}

    def step(self, action: Any) -> Any:
        before = self.seen()
        push = action if self.action_space is not DISCRETE else MOVES[action]
        x = np.clip(self.x + self.v + np.float32(0.125) * push, -1, 1, dtype=np.float32)
        self.v, self.x, self.time = (x - self.x) * np.float32(0.5), x, self.time + 1
        reward, terminated = self.task.reward_and_terminated(before, self.seen())
        return self.seen(), float(reward), bool(terminated), self.time >= self.max_steps, {}


def vector(slots: int = 5, **settings: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Push(**settings)] * slots, autoreset_mode=AutoresetMode.SAME_STEP)


class Truth(nn.Module):
    """The world model that knows the rule; sampled, it adds noise to where the point is.

    Args:
        noise: width of it.
        reward, discount: what the heads say; None is no head.
        blind: raises where somebody looks at the screen.
        keys: which are predicted.
    """

    def __init__(
        self,
        noise: float = 0.0,
        reward: float | None = None,
        discount: float | None = None,
        blind: bool = False,
        keys: tuple[str, ...] = ("lcd", "x"),
    ) -> None:
        super().__init__()
        self.noise, self.heads, self.blind, self.keys = noise, (reward, discount), blind, keys
        self.push = nn.Parameter(torch.tensor(0.125))  # a weight, as models have them

    def initial(self, observation: dict[str, Tensor]) -> Any:
        assert not any(key.startswith("goal_") for key in observation)
        return {"x": observation["x"], "v": torch.zeros_like(observation["x"])}

    def observe(self, belief: Any, action: Tensor, observation: dict[str, Tensor]) -> Any:
        assert action.shape[:2] == observation["x"].shape[:2]
        frames = torch.cat([belief["x"].unsqueeze(1), observation["x"]], 1)
        v = 0.5 * frames.diff(dim=1)
        for t in range(1, action.shape[1]):  # before the first frame that it sees it may have moved
            moved = self.move({"x": frames[:, t], "v": v[:, t - 1]}, action[:, t])
            assert torch.equal(moved["x"], frames[:, t + 1]), "actions that do not go with the frames"
        return {"x": frames[:, -1], "v": v[:, -1]}

    def move(self, belief: Any, action: Tensor) -> Any:
        push = action if action.is_floating_point() else torch.from_numpy(MOVES)[action]
        x = (belief["x"] + belief["v"] + self.push * push).clamp(-1, 1)
        return {"x": x, "v": (x - belief["x"]) * 0.5}

    def predict(
        self,
        belief: Any,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        xs = []
        for t in range(action.shape[1]):
            belief = self.move(belief, action[:, t])
            if generator is not None and self.noise:
                drawn = torch.randn(belief["x"].shape, generator=generator)
                belief = {**belief, "x": belief["x"] + temperature * self.noise * drawn}
            xs.append(belief["x"])
        latent = torch.stack(xs, 1)
        heads = [None if head is None else latent.new_full(latent.shape[:2], head) for head in self.heads]
        return Prediction(latent, *heads, belief, self.decode)

    def decode(self, latent: Tensor) -> Any:
        def look(key: str) -> Tensor:
            if key == "lcd" and self.blind:
                raise AssertionError("nobody asked for the screen")
            right = (latent[..., :1, None] > 0).to(latent.dtype).expand(*latent.shape[:-1], 5, 7)
            # expected values: 0.3 or 0.8; beyond the bounds, as a model's may be
            return 0.3 + 0.5 * right if key == "lcd" else latent * self.push / self.push.detach()

        return LazyMapping(self.keys, look)

    def loss(self, segment: Any) -> Any:
        raise NotImplementedError


class Fixed(Truth):
    """The same without a temperature to set."""

    def predict(self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None) -> Prediction:  # type: ignore[override]
        return super().predict(belief, action, generator=generator)
