"""Collection by one and by two of Ray's actors, in a world whose step takes a millisecond."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from wmplay.simulation import RayPool, simulate_blocks

from .measure import Result, Side, speed_ratio, take_turns

EPISODES, STEPS, STEP, REPEATS = 40, 50, 0.001, 5
BAR = 1.6


class Slow(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """An env whose steps take a millisecond, of waiting, as for a simulator in another process, or of
    computing."""

    def __init__(self, busy: bool) -> None:
        self.observation_space = Dict({"state": Box(-1, 1, (3,), np.float32)})
        self.action_space = Box(-1, 1, (2,), np.float32)
        self.busy = busy

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        self.left = STEPS
        return {"state": np.zeros(3, np.float32)}, {}

    def step(self, action: np.ndarray) -> Any:
        """Wait, or compute, for a millisecond."""
        if self.busy:
            until = time.thread_time() + STEP  # of the processor: a busy machine does not make it shorter
            while time.thread_time() < until:
                pass
        else:
            time.sleep(STEP)
        self.left -= 1
        return {"state": np.zeros(3, np.float32)}, 0.0, False, self.left == 0, {}


def benchmark() -> Result:
    import ray

    ray.init(
        address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    try:
        with RayPool(1) as one, RayPool(2) as two:
            sides = [
                Side(f"{name}, {actors.number} actors", _collector(actors, busy))
                for name, busy in (("waiting", False), ("computing", True))
                for actors in (two, one)
            ]
            timings = take_turns(sides, REPEATS)
    finally:
        ray.shutdown()
    return Result(
        "ray-collection: two of Ray's actors against one",
        f"{EPISODES} episodes of {STEPS} steps of a single env by random actions, streamed to the process "
        "that would store them. A step takes 1 ms: of sleep, as with a simulator in another process, or "
        "of computing (the thread's own processor time). Actors are started and have simulated before.",
        timings,
        EPISODES * STEPS,
        "steps",
        [
            speed_ratio("Ray, 2 actors against 1, a step waits 1 ms", timings[0], timings[1], BAR),
            speed_ratio("Ray, 2 actors against 1, a step computes 1 ms", timings[2], timings[3], BAR),
        ],
    )


def _collector(actors: RayPool, busy: bool) -> Callable[[], Callable[[], None]]:
    def collect(episodes: int) -> None:
        found = sum(1 for _ in simulate_blocks(partial(Slow, busy), None, episodes, actors=actors))
        assert found == episodes

    def ready() -> Callable[[], None]:
        collect(2 * actors.number)  # all have begun
        return lambda: collect(EPISODES)

    return ready
