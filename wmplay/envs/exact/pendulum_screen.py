"""Pendulum on a screen: Gymnasium's Pendulum-v1 seen as a rod of 16 x 16 pixels, which hides its velocity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit
from wmplay.system.arrays import Array

SIZE, TORQUE, SPEED = 16, 2.0, 8.0  # pixels; N m; rad/s
GRAVITY, SECONDS = 10.0, 0.05  # m/s^2; of a step
ALONG = np.linspace(0, 0.9, 4 * SIZE)  # points of the rod, in half-widths of the screen


class PendulumScreen(ExactWorld):
    """Swing up a rod and hold it, from its picture alone; the dynamics and reward are those of Pendulum-v1.

    Observation: ``screen`` [16, 16] uint8, the rod lit. Action: the torque [1] in N m. State: the angle from
    the upright (rad) and its velocity (rad/s).

    Args:
        max_steps: see ``ExactWorld``.
        render_mode: see ``ExactWorld``.
    """

    def __init__(self, max_steps: int = 200, render_mode: RenderMode | None = None) -> None:
        screen, action = Box(0, 1, (SIZE, SIZE), np.uint8), Box(-TORQUE, TORQUE, (1,), np.float32)
        super().__init__({"screen": screen}, action, max_steps, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw an angle within pi and a velocity within 1."""
        bound = np.array([np.pi, 1.0])
        return np.array([generator.uniform(-bound, bound) for generator in generators])

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Take one step of Pendulum-v1 (mass 1 kg, length 1 m)."""
        following, reward = swing(state[:, 0], state[:, 1], action[:, 0])
        return np.stack(following, 1), reward, np.zeros(len(state), np.bool_)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        angle = state[:, :1]
        across, up = ((SIZE / 2 * (1 + way * ALONG)).astype(int) for way in (np.sin(angle), -np.cos(angle)))
        return {"screen": lit((SIZE, SIZE), up.clip(0, SIZE - 1), across.clip(0, SIZE - 1))}

    def optimum(self) -> float:
        """Return the best mean return, by dynamic programming on a grid of 121 angles and 81 velocities.

        The value between grid points is interpolated, which costs a few units of return.
        """
        angles, speeds = np.linspace(-np.pi, np.pi, 121), np.linspace(-SPEED, SPEED, 81)
        torques = np.linspace(-TORQUE, TORQUE, 9)
        grid = np.meshgrid(angles, speeds, torques, indexing="ij")
        (angle, speed), reward = swing(*grid)
        at = [(angle + np.pi) % (2 * np.pi) / (2 * np.pi) * 120, (speed + SPEED) / (2 * SPEED) * 80]
        low = [np.minimum(x.astype(int), most) for x, most in zip(at, (119, 79), strict=True)]
        i, j = low
        a, b = (x - y for x, y in zip(at, low, strict=True))
        value = np.zeros((121, 81))
        for _ in range(self.max_steps):
            after = (1 - a) * ((1 - b) * value[i, j] + b * value[i, j + 1])
            after += a * ((1 - b) * value[i + 1, j] + b * value[i + 1, j + 1])
            value = (reward + after).max(-1)
        return float(value[:-1, np.abs(speeds) <= 1].mean())


def swing(angle: Array, speed: Array, torque: Array) -> tuple[tuple[Array, Array], Array]:
    """Return ((angle, velocity) after a step, reward), of any shape."""
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = (speed + (1.5 * GRAVITY * np.sin(angle) + 3 * torque) * SECONDS).clip(-SPEED, SPEED)
    return (angle + speed * SECONDS, speed), reward
