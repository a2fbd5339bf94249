"""Trajectories for the tests of the store."""

from dataclasses import replace

import numpy as np

from wmplay.contracts import Trajectory
from wmplay.store import Store


def with_observation(one: Trajectory, **observation: np.ndarray) -> Trajectory:
    return replace(one, observation={**one.observation, **observation})


def episode(number: int, length: int) -> Trajectory:
    """A trajectory in which every value says which episode and step it belongs to."""
    time = np.arange(length + 1)
    bits = (number * 1009 + time)[:, None] >> np.arange(35) & 1
    return Trajectory(
        observation={
            "lcd": bits.reshape(-1, 5, 7).astype(np.uint8),
            "where": np.stack([np.full_like(time, number), time], axis=1),
        },
        action=np.stack([time[1:] + 0.5, time[1:] + number * 1e3, -time[1:]], axis=1).astype(np.float32),
        reward=(number + time[1:] / 128).astype(np.float32),
        terminated=time[1:] == (length if number % 2 else -1),
        truncated=time[1:] == (length if number % 2 == 0 else -1),
    )


def assert_same(got: Trajectory, expected: Trajectory) -> None:
    pairs = [(getattr(got, k), getattr(expected, k)) for k in ("action", "reward", "terminated", "truncated")]
    assert list(got.observation) == list(expected.observation)
    pairs += [(got.observation[k], expected.observation[k]) for k in expected.observation]
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def shards(store: Store) -> list[str]:
    return [record["name"] for record in store.snapshot()["shards"]]


def on_disk(store: Store) -> set[str]:
    return {entry.name for entry in (store.path / "shards").iterdir()}
