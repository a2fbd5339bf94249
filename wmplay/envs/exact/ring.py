"""Ring: k states in a circle, a Markov chain whose discounted future is known exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode, lit, place_of
from wmplay.errors import check_range, check_values
from wmplay.system.arrays import Array


class Ring(ExactWorld):
    """A walk around k states; a move may slip, and then the state stays. State 0 pays 1 on arrival.

    Observation: ``screen`` [1, k] uint8, the state lit. Actions: back, stay, on.

    Args:
        size: k.
        slip: probability that a move does not happen.
        max_steps: see ``ExactWorld``.
        render_mode: see ``ExactWorld``.
    """

    def __init__(
        self, size: int = 7, slip: float = 0.2, max_steps: int = 50, render_mode: RenderMode | None = None
    ) -> None:
        check_range("size", size, 2)
        check_values("ring", fractions={"slip": slip})
        self.size, self.slip = size, slip
        super().__init__({"screen": Box(0, 1, (1, size), np.uint8)}, Discrete(3), max_steps, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw a state."""
        return np.array([[generator.integers(self.size)] for generator in generators], np.float64)

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Move, or slip."""
        moves = np.array([generator.random() >= self.slip for generator in generators])
        following = (state + ((action - 1) * moves)[:, None]) % self.size
        return following, (following[:, 0] == 0).astype(float), np.zeros(len(state), np.bool_)

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 1] that frames show."""
        return place_of(observation["screen"])[:, 1:]

    def observe(self, state: Array) -> dict[str, Array]:
        """Return the screens."""
        return {"screen": lit((1, self.size), np.zeros_like(state), state)}

    def transitions(self, policy: Array) -> Array:
        """Return the probabilities [k, k] of the next state under a policy [k, 3] of action probabilities."""
        place = np.eye(self.size)
        moved = sum(policy[:, [a]] * np.roll(place, a - 1, axis=1) for a in range(3))
        return (1 - self.slip) * moved + self.slip * place

    def optimum(self) -> float:
        """Return the best mean return: go to state 0 by the shorter way, and stay (finite horizon)."""
        ahead = [np.roll(np.eye(self.size), move, axis=1) for move in (-1, 0, 1)]
        pays, value = np.eye(self.size)[0], np.zeros(self.size)
        for _ in range(self.max_steps):
            after = pays + value
            value = np.max([(1 - self.slip) * way @ after + self.slip * after for way in ahead], axis=0)
        return float(value.mean())


def occupancy(transitions: Array, gamma: float) -> Array:
    """Return the discounted distribution [k, k] of future states: (1 - g) sum_t g^t P^(t + 1).

    Janner et al. 2020, arXiv 2010.14496, equation 1.
    """
    identity = np.eye(len(transitions))
    return np.asarray((1 - gamma) * transitions @ np.linalg.inv(identity - gamma * transitions))
