"""A world that tests can predict by hand: a bar of two columns on a belt that each action moves.

Screen 5 x 11 (key ``lcd``), the bar's position as a vector (key ``place``); the action is the shift.
"""

import numpy as np
import torch
from torch import nn

from wmplay.contracts import Prediction, Trajectory

HEIGHT, WIDTH = 5, 11


def screens(x):
    """[..., HEIGHT, WIDTH] uint8 of bars whose left column is at x [...]."""
    columns = np.arange(WIDTH)
    lit = ((columns - np.asarray(x)[..., None]) % WIDTH) < 2
    return np.repeat(lit[..., None, :], HEIGHT, axis=-2).astype(np.uint8)


def episode(rng, steps=31, *, goal=False, terminated=False):
    action = rng.integers(1, 3, size=(steps, 1)).astype(np.float32)
    x = (rng.integers(WIDTH) + np.concatenate([[0], np.cumsum(action[:, 0])])) % WIDTH
    observation = {"lcd": screens(x), "place": x[:, None].astype(np.float32)}
    if goal:
        observation["goal_lcd"] = np.repeat(screens(np.array([3])), steps + 1, axis=0)
    ended = np.zeros(steps, dtype=bool)
    ended[-1] = True
    return Trajectory(
        observation,
        action,
        np.full(steps, -0.5, dtype=np.float32),
        terminated=ended & terminated,
        truncated=ended & (not terminated),
    )


def episodes(n, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    return [episode(rng, **kwargs) for _ in range(n)]


class Conveyor(nn.Module):
    """A world model that knows the rule. ``late`` steps behind it is wrong in a well-known way."""

    def __init__(self, late=0, noise=0, speed=1):
        super().__init__()
        self.late, self.noise, self.speed = late, noise, speed

    def initial(self, observation):
        return observation["place"][:, 0]

    def observe(self, belief, action, observation):
        assert action.shape[1] == observation["place"].shape[1]
        return observation["place"][:, -1, 0]

    def predict(self, belief, action, *, generator=None):
        moved = torch.cumsum(action[..., 0], 1) * self.speed
        moved = nn.functional.pad(moved, (self.late, 0))[:, : moved.shape[1]]
        if generator is not None:
            moved = moved + torch.randint(self.noise + 1, moved.shape, generator=generator)
        return Prediction((belief[:, None] + moved) % WIDTH, None, None, belief, self.decode)

    def decode(self, latent):
        lcd = torch.from_numpy(screens(latent.numpy())).float()
        return {"lcd": 0.2 + 0.6 * lcd, "place": latent[..., None]}
