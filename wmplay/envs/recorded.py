"""Data without a simulator: an env that has only a store's spaces."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

from wmplay.contracts import Trajectory, observation_spaces
from wmplay.errors import ConfigError, SpaceError, UnknownName
from wmplay.store import Store, load_trajectories
from wmplay.store.metadata import read_metadata
from wmplay.store.shard import OBSERVATION
from wmplay.vector.spaces import space_from_json


class RecordedEnv(gymnasium.Env[dict[str, Any], Any]):
    """The spaces of a store's trajectories; the env cannot be stepped.

    Bounds are those of the spaces in the store's metadata, as ``wmplay data import`` writes them. Missing or
    infinite bounds, and bounds that the data exceeds, come from the data: for vectors and actions the
    smallest and largest value of each entry, for discrete actions the largest. uint8 arrays with only 0 and 1
    are binary, all others images.

    Args:
        data: path of the store; a run passes its ``env.data``.
        keys: the observations to use; all by default.

    Raises:
        ConfigError: without a store, or with an empty one.
        StoreError: if the path is not a store, or if the store is damaged.
        UnknownName: for a key that the store does not have.
        SpaceError: for complex numbers.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, data: str | None = None, keys: Sequence[str] | None = None) -> None:
        if data is None:
            raise ConfigError("env recorded is made of a store", advice="give it one with env.data=<store>")
        self.store = load_trajectories(data)
        if len(self.store) == 0:
            raise ConfigError(f"env recorded: {data} has no episodes", expected="at least one")
        worlds = self.store.made_with
        self.wmplay_origin = worlds[0] if len(worlds) == 1 else None  # it is no world of its own
        held = [name.removeprefix(OBSERVATION) for name in self.store.space if name.startswith(OBSERVATION)]
        for key in keys or ():
            if key not in held:
                raise UnknownName(f"observation of {data}", key, held)
        given = _given_spaces(self.store)
        seen = given.get("observation_space")
        parts = seen.spaces if isinstance(seen, Dict) else {}
        self.observation_space: Space[Any] = Dict(
            {key: _observation_space(self.store, OBSERVATION + key, parts.get(key)) for key in keys or held}
        )
        self.action_space = _action_space(self.store, given.get("action_space"))
        self.max_steps = int(self.store.lengths.max())

    def beginning(self, steps: int) -> Trajectory:
        """Return the first steps of the longest episode."""
        first = self.store[int(self.store.lengths.argmax())].steps(0, steps)
        keys = observation_spaces(self.observation_space)
        return replace(first, observation={key: first.observation[key] for key in keys})

    def reset(self, **_: Any) -> NoReturn:
        """Raise ConfigError, because no simulator exists."""
        raise ConfigError(
            f"env recorded cannot be stepped, there is only what is in {self.store.path}",
            advice=(
                "set collect.random_episodes, collect.episodes, improve.steps and "
                "evaluate.policy.episodes to 0, and leave evaluate.seed and evaluate.prediction.episodes "
                "as they were when the run began"
            ),
        )

    def step(self, action: Any) -> NoReturn:
        """Raise ConfigError, because no simulator exists."""
        self.reset()


def _given_spaces(store: Store) -> dict[str, Space[Any]]:
    """Return the readable spaces in a store's metadata."""
    metadata, found = read_metadata(store.path), {}
    for name in ("observation_space", "action_space"):
        if isinstance(
            metadata.get(name), dict
        ):  # a text is Minari's, of data as it was before it was imported
            with suppress(KeyError, TypeError, ValueError, AssertionError):
                found[name] = space_from_json(metadata[name])
    return found


def _observation_space(store: Store, name: str, given: Space[Any] | None) -> Box:
    dtype, shape = store.space[name].dtype, store.space[name].shape
    low, high = _range(store, name)
    if isinstance(given, Box) and given.shape == shape and given.dtype == dtype:
        low, high = _wider(given, low, high)
    if dtype == np.bool_ or (dtype == np.uint8 and high.max() <= 1):
        return Box(0, 1, shape, dtype.type)
    if dtype == np.uint8:
        return Box(0, 255, shape, np.uint8)
    if dtype.kind == "c":
        raise SpaceError(
            f"observation '{name.removeprefix(OBSERVATION)}' of {store.path} is {dtype}, which no env "
            "observes",
            advice="choose others with env.keys=[...]",
        )
    return Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)


def _action_space(store: Store, given: Space[Any] | None) -> Box | Discrete:
    low, high = _range(store, "action")
    if store.space["action"].shape:
        if isinstance(given, Box) and given.shape == store.space["action"].shape:
            low, high = _wider(given, low, high)
        return Box(low, high, dtype=np.float32)
    if low < 0:
        raise ConfigError(f"env recorded: {store.path} has the discrete action {low}", expected="0 or more")
    return Discrete(max(int(high) + 1, int(given.n) if isinstance(given, Discrete) else 0))


def _wider(given: Box, low: Any, high: Any) -> tuple[Any, Any]:
    """Return the bounds of a space where they are finite, widened to include the data."""
    return (
        np.where(np.isfinite(given.low), np.minimum(given.low, low), low),
        np.where(np.isfinite(given.high), np.maximum(given.high, high), high),
    )


def _range(store: Store, name: str) -> tuple[Any, Any]:
    """Return the smallest and the largest value of each entry of a row."""
    parts = [(rows.min(axis=0), rows.max(axis=0)) for rows in store.rows(name) if len(rows)]
    lows, highs = zip(*parts, strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)
