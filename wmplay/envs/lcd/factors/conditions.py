"""The conditions of N episodes: the values of their factors, and what these do to actions and observations.

All of an episode's draws follow from its key, which follows from the generator of its reset without taking a
draw from it: the same seed begins in the same state with and without factors. What happens in a step follows
from the key and the time alone, so that a row's numbers do not depend on when, or how often, it is observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wmplay.envs.lcd.factors.ranges import Factors
from wmplay.envs.lcd.tasks import ENTRIES
from wmplay.envs.lcd.worlds.world import World
from wmplay.system.arrays import Array

# What an episode's key is combined with, for draws that do not depend on each other.
VALUES, ACTIONS, PIXELS, VECTORS = range(4)
FACTORS_KEY = "factors"


class Conditions:
    """The values of the factors in each of N rows.

    Args:
        world: without factors.
        factors: of the world.
        count: N.
        actions: A, the number of motors.
    """

    def __init__(self, world: World, factors: Factors, count: int, actions: int) -> None:
        self._world, self.factors = world, factors
        self.worlds = [world] * count  # as each row's is in its episode
        self.values = {name: np.zeros(count) for name in factors.ranges}  # {name: [N]}
        self._key = [0] * count
        longest = int(factors.ranges.get("delay", (0, 0))[1])
        self._pending = np.zeros((count, longest + 1, actions))  # the latest first
        self._executed = np.zeros((count, actions))
        for row in range(count):
            self._begin(row, 0)

    def draw(self, row: int, rng: np.random.Generator) -> None:
        """Draw the values of a row's next episode."""
        # one number, far away in the stream, from which further draws do not meet those of the next episode
        self._begin(row, int(rng.bit_generator.jumped().random_raw()))  # type: ignore[attr-defined]

    def _begin(self, row: int, key: int) -> None:
        self._key[row] = key
        values = self.factors.draw(self._generator(row, VALUES))
        for name, value in values.items():
            self.values[name][row] = value
        self.worlds[row] = self.factors.varied(self._world, values)
        self.restart(row)

    def restart(self, row: int) -> None:
        """Forget the actions before an episode."""
        self._pending[row] = self._executed[row] = 0

    @property
    def size(self) -> Array | None:
        """The factor [N] of all lengths of moving bodies; None if they are as in the world."""
        return self.values.get("size")

    def executed(self, action: Array, rows: Array, time: Array) -> Array:
        """Return the actions [N, A] that are executed where these are chosen in some rows.

        Args:
            action: [N, A].
            rows: [R].
            time: [N], steps since the reset.
        """
        self._pending[rows, 1:] = self._pending[rows, :-1].copy()
        self._pending[rows, 0] = action[rows]
        delay = self.values["delay"][rows].astype(int) if "delay" in self.values else 0
        due = self._pending[rows, delay]
        if "sticky" in self.values:
            draws = np.array([self._generator(row, ACTIONS, time[row]).random() for row in rows])
            repeats = draws < self.values["sticky"][rows]
            due = np.where(repeats[:, None], self._executed[rows], due)
        self._executed[rows] = due
        return self._executed

    def disturb(self, seen: Mapping[str, Array], rows: Array, time: Array) -> dict[str, Array]:
        """Return observations {key: [R, ...]} with noise.

        Args:
            seen: without noise.
            rows: [R].
            time: [N], steps since the reset.
        """
        disturbed = dict(seen)
        if "flips" in self.values:
            for i, row in enumerate(rows):
                draws = self._generator(row, PIXELS, time[row]).random(seen["lcd"].shape[1:])
                disturbed["lcd"][i] ^= draws < self.values["flips"][row]
        if "noise" in self.values:
            for i, row in enumerate(rows):
                rng = self._generator(row, VECTORS, time[row])
                added = rng.normal(0, self.values["noise"][row], seen["full_state"].shape[1:])
                for key in ("full_state", "proprio"):  # the robot's bodies are the last ones
                    if self._world.robots or key == "full_state":
                        values = disturbed[key][i]
                        values += added[-len(values) :].astype(np.float32)
                        bounded = values.reshape(-1, ENTRIES)[:, 0 if self._world.walls else 1 :]
                        np.clip(bounded, -1, 1, out=bounded)
        return disturbed

    def shown(self, rows: Array) -> dict[str, Array]:
        """Return the values [R, F] of the factors that are shown, by their key; nothing if all are hidden."""
        values = [self.values[name][rows] for name in self.factors.shown]
        return {FACTORS_KEY: np.stack(values, axis=-1).astype(np.float32)} if values else {}

    def info(self, row: int) -> dict[str, float]:
        """Return a row's values of all factors."""
        return {name: float(values[row]) for name, values in self.values.items()}

    def infos(self, mask: Array) -> dict[str, Any]:
        """Return the values of all rows in a mask [N], in Gymnasium's form."""
        found: dict[str, Any] = {}
        for name, values in self.values.items():
            found |= {name: np.where(mask, values, 0.0), f"_{name}": mask.copy()}
        return found

    def _generator(self, row: int, purpose: int, time: int = 0) -> np.random.Generator:
        return np.random.default_rng((self._key[row], purpose, int(time)))
