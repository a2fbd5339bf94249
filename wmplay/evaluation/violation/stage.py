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
        env: of an LCD world; its task is left out.
    """

    def __init__(self, env: LcdEnv) -> None:
        self.world: World = env.world
        full_state = "full_state" in env.observation_space.spaces  # type: ignore[attr-defined]
        self._batch = Batch(env.world, None, "faithful", full_state, env.screen, 1)

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
        return sample_start(self.world, rng)

    def still(self, steps: int) -> Array:
        """Return actions [T, A] of nothing."""
        return np.zeros((steps, *self._batch.action_space.shape), np.float32)
