"""Tasks of Gymnasium's classic envs, which compute rewards and ends from observations alone, and their true
dynamics.

With a task, a learned env and ``objective=task_reward`` need no model of the reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wmplay.contracts import Simulator
from wmplay.system.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor  # env workers do without torch

KEY = "vector"  # of the observation, in ``env=gym``
# What these envs are by design, as their metadata would claim: the main engine is off below 0.
CLAIMS: Mapping[str, Mapping[str, Any]] = {"LunarLanderContinuous-v3": {"unused_half": [0]}}


class SwingUp:
    """Pendulum-v1: the squared angle from the upright, the squared velocity and the squared torque are costs.

    The torque is inferred from the change of the velocity. At the speed limit it cannot be, and the cost is
    then wrong by at most .004.

    Args:
        gravity: m/s^2, the ``g`` of the env.
    """

    def __init__(self, gravity: float = 10.0) -> None:
        self.gravity = gravity

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the reward [...] of steps between observations {"vector": [..., 3]}; no step terminates."""
        cosine, sine, speed = before[KEY].unbind(-1)
        angle = sine.atan2(cosine)
        push = (after[KEY][..., 2] - speed) / 0.05 - 1.5 * self.gravity * angle.sin()
        torque = (push / 3).clamp(-2, 2)
        cost = angle.square() + 0.1 * speed.square() + 0.001 * torque.square()
        return -cost, cost.new_zeros(cost.shape).bool()


class Balance:
    """CartPole: 1 for each step; the end is a cart off the track, or a pole that leans by over 12 degrees."""

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the reward [...] and the end of steps between observations {"vector": [..., 4]}."""
        place, _, lean, _ = after[KEY].unbind(-1)
        fallen = (place.abs() > 2.4) | (lean.abs() > math.radians(12))
        return place.new_ones(place.shape), fallen


def task_of(env_id: str, kwargs: Mapping[str, Any]) -> Any:
    """Return the task of an id of Gymnasium's registry made with some arguments, or None."""
    rest = {key: value for key, value in kwargs.items() if key != "render_mode"}
    if env_id == "Pendulum-v1" and not rest.keys() - {"g"}:
        return SwingUp(rest.get("g", 10.0))
    if env_id in ("CartPole-v0", "CartPole-v1") and not rest:
        return Balance()
    return None


class PendulumDynamics:
    """The arithmetic of Pendulum-v1's step, for n states (angle, velocity) at once.

    Args:
        env: a Pendulum env, for its constants.
    """

    def __init__(self, env: Any) -> None:
        self.pull, self.push = 3 * env.g / (2 * env.l), 3.0 / (env.m * env.l**2)
        self.seconds, self.max_torque, self.max_speed = env.dt, env.max_torque, env.max_speed

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 2] that frames show, in float32's precision."""
        cosine, sine, speed = observation[KEY].astype(np.float64).T
        return np.stack([np.arctan2(sine, cosine), speed], 1)

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Return the next states, the rewards and that nothing ended."""
        angle, speed = state.T
        torque = np.clip(action[:, 0], -self.max_torque, self.max_torque)
        upright = (angle + np.pi) % (2 * np.pi) - np.pi
        cost = upright**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = speed + (self.pull * np.sin(angle) + self.push * torque) * self.seconds
        speed = np.clip(speed, -self.max_speed, self.max_speed)
        return np.stack([angle + speed * self.seconds, speed], 1), -cost, np.zeros(len(state), np.bool_)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return cosine, sine and velocity."""
        angle, speed = state.T
        return {KEY: np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)}


class CartPoleDynamics:
    """The arithmetic of CartPole's step, for n states (position, velocity, angle, its velocity) at once.

    Args:
        env: a CartPole env, for its constants.
    """

    def __init__(self, env: Any) -> None:
        self.gravity, self.force, self.seconds = env.gravity, env.force_mag, env.tau
        self.pole, self.total, self.length = env.masspole, env.total_mass, env.length
        self.lever = env.polemass_length
        self.edge, self.lean = env.x_threshold, env.theta_threshold_radians

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 4] that frames show, in float32's precision."""
        return np.asarray(observation[KEY], np.float64)

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Return the next states, rewards of 1 and which poles have fallen."""
        _, speed, angle, turn = state.T
        cosine, sine = np.cos(angle), np.sin(angle)
        force = np.where(action == 1, self.force, -self.force)
        pushed = (force + self.lever * np.square(turn) * sine) / self.total
        turning = (self.gravity * sine - cosine * pushed) / (
            self.length * (4.0 / 3.0 - self.pole * np.square(cosine) / self.total)
        )
        moving = pushed - self.lever * turning * cosine / self.total
        rate = np.stack([speed, moving, turn, turning], 1)
        after = state + self.seconds * rate
        fallen = (np.abs(after[:, 0]) > self.edge) | (np.abs(after[:, 2]) > self.lean)
        return after, np.ones(len(state)), fallen

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the states."""
        return {KEY: state.astype(np.float32)}


def simulator_of(env_id: str, env: Any) -> Simulator | None:
    """Return the true dynamics of an env of Gymnasium's registry, or None."""
    if env_id == "Pendulum-v1":
        return PendulumDynamics(env.unwrapped)
    if env_id in ("CartPole-v0", "CartPole-v1") and not env.unwrapped._sutton_barto_reward:
        return CartPoleDynamics(env.unwrapped)
    return None
