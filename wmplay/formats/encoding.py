"""Encoding of recorded observations and actions with the names and numbers of ``env=gym``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

from wmplay.contracts import Array, Trajectory
from wmplay.envs.conversion import action_space
from wmplay.envs.observations import Leaf, leaves, observed
from wmplay.errors import DataError, SpaceError, UnknownName
from wmplay.formats.episodes import is_text
from wmplay.formats.spaces import given_spaces
from wmplay.store.metadata import MADE_WITH

ARRAYS, OURS = "arrays", "wmplay"  # metadata of data that wmplay exported, whose arrays are encoded already
UNNAMED = "observation"  # name that formats give an unnamed observation


class Encoding:
    """An encoder of the episodes of one data set, one by one, for models.

    Spaces come from the metadata; an observation without a space gets one from its dtype and shape. Data that
    wmplay itself exported is not changed. Texts are left out.

    Args:
        source: the data, for errors.
        metadata: of the data.
        rename: {name: new name} of observations.
    """

    def __init__(self, source: str, metadata: Mapping[str, Any], rename: Mapping[str, str]) -> None:
        self.source, self.rename = source, rename
        self.is_ours = metadata.get(ARRAYS) == OURS or MADE_WITH in metadata
        self._given = given_spaces(metadata)
        self.left_out: set[str] = set()
        self.spaces: dict[str, Space[Any]] = {}  # known spaces, after encoding
        self._episode = -1

    def __call__(self, trajectory: Trajectory) -> Trajectory:
        """Return the next episode, encoded.

        Raises:
            DataError: for values outside their space, and if all observations are texts.
            UnknownName: for a name in ``rename`` that no observation has.
        """
        self._episode += 1
        try:
            if self._episode == 0:
                self._begin(trajectory)
            frames = {
                self._names[key]: self._read(key, trajectory.observation[key])
                for key in self._parts
                if key in trajectory.observation
            }
            action = self._action(trajectory.action)
        except SpaceError as error:
            raise DataError(
                f"{self.source}, episode {self._episode}: {error.problem}",
                got=error.got,
                expected=error.expected,
                advice=error.advice,
            ) from error
        return replace(trajectory, observation=frames, action=action)

    def _begin(self, first: Trajectory) -> None:
        """Choose the observations to encode, and their names, from the first episode."""
        self._known = self._given_parts()
        self.left_out = {key for key, rows in first.observation.items() if is_text(rows)}
        found = {key: rows for key, rows in first.observation.items() if key not in self.left_out}
        if not found:
            raise _no_numbers(min(self.left_out), first.observation[min(self.left_out)])
        alone = list(first.observation) == [UNNAMED] and not self.is_ours
        self._parts = {
            key: self._known.get(key) or Leaf(() if alone else (key,), _as_seen(rows))
            for key, rows in found.items()
        }
        self._names = self._renamed(
            {key: key if self.is_ours else leaf.name for key, leaf in self._parts.items()}
        )
        self._describe()

    def _given_parts(self) -> dict[str, Leaf]:
        """Return the parts of the metadata's observation space, by the names that formats give them."""
        space = self._given.get("observation_space")
        if space is None:
            return {}
        found = leaves(space, f"observation of {self.source}")
        return {".".join(map(str, leaf.path)) or UNNAMED: leaf for leaf in found}

    def _renamed(self, names: Mapping[str, str]) -> dict[str, str]:
        for name in self.rename:
            if name not in names.values():
                raise UnknownName(f"observation of {self.source}", name, names.values())
        renamed = {key: self.rename.get(name, name) for key, name in names.items()}
        twice = next((name for name, times in Counter(renamed.values()).items() if times > 1), None)
        if twice is not None:
            raise DataError(
                f"two observations would be called '{twice}'",
                got=twice,
                advice="give one of them another name",
            )
        return renamed

    def _describe(self) -> None:
        """Record the spaces of the metadata as they are after encoding."""
        if "action_space" in self._given:
            with suppress(SpaceError):  # if the space is unsupported, its actions are not changed
                self.spaces["action_space"] = action_space(self._given["action_space"], "action")
        parts = {
            self._names[key]: leaf.space
            if self.is_ours
            else observed(leaf.space, key, screen=bool(leaf.path))[0]
            for key, leaf in self._parts.items()
            if key in self._known
        }
        if parts:
            self.spaces["observation_space"] = Dict(list(parts.items()))

    def _read(self, key: str, rows: Array) -> Array:
        leaf = self._parts[key]
        if is_text(rows):
            raise _no_numbers(key, rows)
        if self.is_ours or rows.dtype.kind == "c":
            return rows
        space = leaf.space if key in self._known else _as_seen(rows)
        if rows.shape[1:] != (space.shape or ()):
            raise SpaceError(
                f"'{leaf.name}' has shape {list(rows.shape[1:])}, its space is {space}: correct one of them"
            )
        _, read = observed(space, f"observation '{leaf.name}'", screen=bool(leaf.path))
        return read(rows)

    def _action(self, action: Array) -> Array:
        """Return actions counted from 0, after validation against their space."""
        space = self._given.get("action_space")
        if self.is_ours or not isinstance(space, Discrete) or action.ndim > 1:
            return action
        numbers = action - int(space.start)
        if numbers.dtype.kind != "i" or numbers.min(initial=0) < 0 or numbers.max(initial=0) >= space.n:
            raise SpaceError(
                f"actions are {action.min()} .. {action.max()}, their space is {space}: correct one of them"
            )
        return numbers


def _no_numbers(key: str, rows: Array) -> SpaceError:
    return SpaceError(
        f"observation '{key}' has dtype {rows.dtype}",
        got=rows.dtype,
        expected="numbers",
        advice="leave it out",
    )


def _as_seen(rows: Array) -> Box:
    """Return a space for rows without a known one. Screens stay [H, W], binary or not."""
    shape, dtype = rows.shape[1:], rows.dtype
    if dtype == np.bool_ or (dtype == np.uint8 and len(shape) == 2):
        return Box(0, 1, shape, dtype.type)
    if dtype.kind in "iu":
        return Box(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype.type)
    return Box(-np.inf, np.inf, shape, np.float64 if dtype.kind == "c" else dtype.type)
