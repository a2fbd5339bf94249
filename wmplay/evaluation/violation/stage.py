"""A stage: episodes of an LCD world from given states and shapes, and under given actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wmplay.contracts import Array
from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.env import LcdEnv
from wmplay.envs.lcd.start import Start, sample_start
from wmplay.envs.lcd.worlds.world import World


@dataclass(frozen=True)
class Filmed:
    """A possible episode."""

    observation: dict[str, Array]  # {key: [T + 1, ...]}
    action: Array  # [T, A] float32


class Stage:
    """The world of an env, in which any state can begin an episode.

    Args:
        env: of an LCD world; its task is left out, its factors are those of the last ``draw_conditions``.
    """

    def __init__(self, env: LcdEnv) -> None:
        self.world: World = env.world
        full_state, sound = (
            key in env.observation_space.spaces  # type: ignore[attr-defined]
            for key in ("full_state", "sound")
        )
        self._batch = Batch(env.world, None, "faithful", full_state, env.screen, env.factors, sound, 1)

    def draw_conditions(self, rng: np.random.Generator) -> None:
        """Draw the values of the factors of the next episodes; no number is taken from the generator."""
        self._batch.draw_conditions(0, rng)

    def film(self, state: Array, shape: Sequence[int], action: Array) -> Filmed:
        """Return the episode from a state [bodies, 6] and the index of each body's shape, under actions [T,
        A]."""
        batch = self._batch
        batch.begin(0, Start(np.asarray(state, np.float64), tuple(shape)))
        frames = [batch.observe()]
        for each in action:
            batch.step(each[None].astype(float))
            frames.append(batch.observe())
        observation = {key: np.concatenate([frame[key] for frame in frames]) for key in frames[0]}
        return Filmed(observation, action.astype(np.float32))

    def random_start(self, rng: np.random.Generator) -> Start:
        """Draw a start as a reset does."""
        return sample_start(self._batch.world_of(0), rng)

    def still(self, steps: int) -> Array:
        """Return actions [T, A] of nothing."""
        return np.zeros((steps, *self._batch.action_space.shape), np.float32)
