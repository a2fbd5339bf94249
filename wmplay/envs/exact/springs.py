"""Springs: n bodies in the plane, each pair joined by a spring; a linear world whose solution is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box

from wmplay.envs.exact.world import ExactWorld, RenderMode
from wmplay.errors import check_range, check_values
from wmplay.system.arrays import Array

REACH = 8.0  # bound of positions (m) and velocities (m/s): far beyond what random starts lead to


class Springs(ExactWorld):
    """n bodies of mass 1 kg, moved by springs without rest length between all pairs. Momentum is conserved.

    Observation: ``positions`` and ``velocities`` [2 n] float32, x and y of each body in m and m/s. The action
    changes nothing. State: both, one after the other.

    Args:
        bodies: n.
        stiffness: of each spring, N/m.
        seconds: of a step.
        max_steps: see ``ExactWorld``.
        render_mode: see ``ExactWorld``.
    """

    metadata = {**ExactWorld.metadata, "passive": True}  # noqa: RUF012

    def __init__(
        self,
        bodies: int = 3,
        stiffness: float = 1.0,
        seconds: float = 0.1,
        max_steps: int = 50,
        render_mode: RenderMode | None = None,
    ) -> None:
        check_range("bodies", bodies, 2)
        check_values("springs", positive={"stiffness": stiffness, "seconds": seconds})
        self.bodies, self.stiffness, self.seconds = bodies, stiffness, seconds
        vector, action = Box(-REACH, REACH, (2 * bodies,), np.float32), Box(-1, 1, (1,), np.float32)
        super().__init__({"positions": vector, "velocities": vector}, action, max_steps, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw positions within 1 m, and velocities within 0.5 m/s."""
        bound = np.repeat([1.0, 0.5], 2 * self.bodies)
        return np.array([generator.uniform(-bound, bound) for generator in generators])

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Take one exact step."""
        return self.solution(state, self.seconds), np.zeros(len(state)), np.zeros(len(state), np.bool_)

    def solution(self, state: Array, seconds: float) -> Array:
        """Return the states [n, S] after some time.

        The centre of mass moves uniformly; relative to it each body is a harmonic oscillator of angular
        frequency sqrt(bodies x stiffness).
        """
        place, velocity = state.reshape(len(state), 2, self.bodies, 2).transpose(1, 0, 2, 3)
        centre, drift = place.mean(1, keepdims=True), velocity.mean(1, keepdims=True)
        rate = np.sqrt(self.bodies * self.stiffness)
        cos, sin = np.cos(rate * seconds), np.sin(rate * seconds)
        away, speed = place - centre, velocity - drift
        place = centre + drift * seconds + away * cos + speed * sin / rate
        velocity = drift + speed * cos - away * sin * rate
        return np.stack([place, velocity], 1).reshape(state.shape)

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 4 bodies] that frames show, in float32's precision."""
        return np.concatenate([observation["positions"], observation["velocities"]], 1).astype(np.float64)

    def observe(self, state: Array) -> dict[str, Array]:
        """Return positions and velocities."""
        place, velocity = (
            state.clip(-REACH, REACH).astype(np.float32).reshape(len(state), 2, -1).transpose(1, 0, 2)
        )
        return {"positions": place.copy(), "velocities": velocity.copy()}

    def optimum(self) -> float:
        """Return 0: nothing is paid. The exact future is ``solution``."""
        return 0.0
