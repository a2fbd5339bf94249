"""Lottery: one choice between a sure prize and a draw, the smallest world in which chance matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.envs.exact.world import ExactWorld, RenderMode
from wmplay.errors import check_values
from wmplay.system.arrays import Array


class Lottery(ExactWorld):
    """Action 0 takes a sure prize, action 1 wins 1 with some probability; the episode is over.

    A model without chance remembers the last draw, and so takes the ticket after a win. Observation:
    ``drawn`` [2] float32: 1 after a win, 1 after a loss. State: 0 before, 1 won, 2 lost, 3 after the sure
    prize.

    Args:
        sure: the sure prize.
        probability: of winning 1.
        render_mode: see ``ExactWorld``.
    """

    def __init__(
        self, sure: float = 0.6, probability: float = 0.5, render_mode: RenderMode | None = None
    ) -> None:
        check_values("lottery", fractions={"probability": probability})
        self.sure, self.probability = sure, probability
        super().__init__({"drawn": Box(0, 1, (2,), np.float32)}, Discrete(2), 1, render_mode)

    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Begin before the draw."""
        return np.zeros((len(generators), 1))

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Draw, or pay the sure prize."""
        won = np.array([generator.random() < self.probability for generator in generators])
        following = np.where(action == 0, 3.0, np.where(won, 1.0, 2.0))
        reward = np.where(action == 0, self.sure, won.astype(float))
        return following[:, None], reward, np.ones(len(state), np.bool_)

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, 1] that frames before the end show."""
        return np.asarray(observation["drawn"] @ np.array([1.0, 2.0]))[:, None]

    def observe(self, state: Array) -> dict[str, Array]:
        """Return whether the ticket won or lost."""
        return {"drawn": (state == (1, 2)).astype(np.float32)}

    def optimum(self) -> float:
        """Return the larger of the sure prize and the mean of the draw."""
        return max(self.sure, self.probability)
