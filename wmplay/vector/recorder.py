"""Recording of the episodes in the slots of a vector env."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from wmplay.contracts import Array, Trajectory


class Tape:
    """The current episode of each slot, in arrays that grow as needed."""

    def __init__(self, slots: int, spaces: Mapping[str, gymnasium.Space[Any]], action: Array) -> None:
        self.slots = np.arange(slots)
        self.time = np.zeros(slots, np.int64)  # steps so far in each slot's episode
        self.capacity = 64
        self.frames = {
            key: np.empty((slots, self.capacity + 1, *(space.shape or ())), space.dtype)
            for key, space in spaces.items()
        }
        self.steps = {
            "action": np.empty((slots, self.capacity, *action.shape[1:]), action.dtype),
            "reward": np.empty((slots, self.capacity), np.float32),
            "terminated": np.empty((slots, self.capacity), np.bool_),
            "truncated": np.empty((slots, self.capacity), np.bool_),
        }
        self.infos: dict[str, Array] = {}

    def begin(self, slots: Array, frames: Mapping[str, Array]) -> None:
        """Begin episodes in the slots of a mask [N] with the first frames {key: [N, ...]}."""
        self.time[slots] = 0
        for key, value in frames.items():
            self.frames[key][slots, 0] = value[slots]

    def record(
        self,
        action: Array,
        reward: Array,
        terminated: Array,
        truncated: Array,
        arrived: Mapping[str, Array],
        info: Mapping[str, Array],
    ) -> None:
        """Record one step of all slots, the frames {key: [N, ...]} that it led to, and infos {name: [N]}."""
        if self.time.max() == self.capacity:
            self._grow()
        values = {"action": action, "reward": reward, "terminated": terminated, "truncated": truncated}
        now = self._now()
        for name, value in values.items():
            self.steps[name][now] = value
        for name, value in info.items():
            if name not in self.infos:
                self.infos[name] = np.full((len(self.slots), self.capacity), np.nan, np.float32)
            self.infos[name][now] = value
        self.time += 1
        following = self._now()
        for key, value in arrived.items():
            self.frames[key][following] = value

    def episode(self, slot: int) -> Trajectory:
        """Return a copy of a slot's episode so far."""
        length = self.time[slot]
        return Trajectory(
            {key: values[slot, : length + 1].copy() for key, values in self.frames.items()},
            **{name: values[slot, :length].copy() for name, values in self.steps.items()},
            info={name: values[slot, :length].copy() for name, values in self.infos.items()},
        )

    def _now(self) -> tuple[slice | Array, int | Array]:
        """Return where each slot's present step is; a plain index if all are equally far, which is faster."""
        first = int(self.time[0])
        if self.time.size == 1 or (self.time == first).all():
            return slice(None), first
        return self.slots, self.time

    def _grow(self) -> None:
        for arrays in (self.frames, self.steps, self.infos):
            for name, old in arrays.items():
                new = np.empty((len(old), old.shape[1] + self.capacity, *old.shape[2:]), old.dtype)
                new[:, : old.shape[1]] = old
                arrays[name] = new
        self.capacity *= 2
