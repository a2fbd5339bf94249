"""N copies of a world, stepped one by one and observed together.

The single environment (N = 1) and the vector environment are both thin wrappers of this class, so that their
numbers agree exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from wmplay.envs.lcd.factors import Conditions, Factors
from wmplay.envs.lcd.factors.sound import BANDS, heard
from wmplay.envs.lcd.physics import Blueprint, Physics, Simulation
from wmplay.envs.lcd.screen import Rounding, Screen
from wmplay.envs.lcd.start import Start, given_state, sample_start
from wmplay.envs.lcd.tasks import ENTRIES, Task
from wmplay.envs.lcd.worlds.world import World
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array

Rows: TypeAlias = Sequence[int] | NDArray[np.intp]


class Batch:
    """N worlds and their observations.

    Between steps their state is ``pose`` [N, bodies, 3], ``shape`` [N, bodies], ``time`` [N] (steps since the
    reset), with a task, ``goal_pose`` [N, bodies, 3], and with factors, ``conditions``.
    """

    def __init__(
        self,
        world: World,
        task: Task | None,
        physics: Physics,
        full_state: bool | None,
        screen: Rounding,
        factors: Factors,
        sound: bool,
        count: int,
    ) -> None:
        needed = task is not None and task.needs_full_state
        if needed and full_state is False:
            raise ConfigError(
                "this task is about objects, which only full_state shows", advice="leave full_state unset"
            )
        self.world = world
        self.task = task
        self.screen = Screen(world, screen)
        self._physics, self._sound = physics, np.zeros((count, BANDS)) if sound else None
        blueprint = Blueprint(world, physics, sound)
        self.simulations = [Simulation(blueprint) for _ in range(count)]
        self.conditions = Conditions(world, factors, count, len(world.motors)) if factors else None
        self.pose = np.zeros((count, len(world.bodies), 3))
        self.shape = np.zeros((count, len(world.bodies)), np.intp)
        self.time = np.zeros(count, np.int64)
        self.goal_pose = np.zeros_like(self.pose)
        self._started = np.zeros(count, bool)
        self._keys = ("lcd", "proprio", "full_state") if full_state or needed else ("lcd", "proprio")
        self._goal_keys = task.goal_keys if task else ()
        self._speed = np.tile([joint.speed for joint in world.motors], (count, 1))  # [N, A]
        self._torque = np.tile([joint.torque for joint in world.motors], (count, 1))
        for row in range(count) if factors else ():
            self._furnish(row)
        self.observation_space = self._observation_space()
        self.action_space = Box(-1, 1, (max(len(world.motors), 1),), np.float32)
        self._goal = {
            key: np.zeros((count, *space.shape), space.dtype)  # type: ignore[misc]
            for key, space in self.observation_space.items()
            if key in self._goal_keys
        }

    def world_of(self, row: int) -> World:
        """Return the world as it is in a row's episode."""
        return self.world if self.conditions is None else self.conditions.worlds[row]

    def draw_conditions(self, row: int, rng: np.random.Generator) -> None:
        """Draw the values of the factors of a row's next episode; no number is taken from the generator."""
        if self.conditions is not None:
            self.conditions.draw(row, rng)
            self._furnish(row)

    def _furnish(self, row: int) -> None:
        """Build a row's simulation and motors as its episode's factors have them."""
        world = self.world_of(row)
        self.simulations[row] = Simulation(Blueprint(world, self._physics, self._sound is not None))
        self._speed[row] = [joint.speed for joint in world.motors]
        self._torque[row] = [joint.torque for joint in world.motors]

    def _observation_space(self) -> Dict:
        bound = np.ones((len(self.world.bodies), ENTRIES), np.float32)
        if not self.world.walls:
            bound[:, 0] = np.inf
        robots = bound[len(self.world.objects) :].ravel() if self.world.robots else np.ones(1, np.float32)
        spaces: dict[str, gymnasium.Space[Any]] = {
            "lcd": Box(0, 1, self.screen.shape, np.uint8),
            "proprio": Box(-robots, robots, dtype=np.float32),
            "full_state": Box(-bound.ravel(), bound.ravel(), dtype=np.float32),
        }
        goals = {f"goal_{key}": spaces[key] for key in self._goal_keys}
        shown: dict[str, gymnasium.Space[Any]] = {}
        if self._sound is not None:
            shown["sound"] = Box(0, np.inf, (BANDS,), np.float32)
        if self.conditions is not None and self.conditions.factors.shown:
            shown["factors"] = Box(*self.conditions.factors.bounds, dtype=np.float32)
        return Dict({**{key: spaces[key] for key in self._keys}, **shown, **goals})

    def reset(
        self, rows: Rows, generators: Sequence[np.random.Generator], states: Sequence[Any] | None = None
    ) -> None:
        """Begin new episodes in some rows.

        Args:
            rows: [R] rows to reset.
            generators: [R] of all random draws of each row.
            states: [R] states to start in (see ``given_state``); None for random ones.
        """
        for i, (row, rng) in enumerate(zip(rows, generators, strict=True)):
            self.draw_conditions(row, rng)
            world = self.world_of(row)
            start = sample_start(world, rng)
            if self.task is not None:
                goal = dataclasses.replace(sample_start(world, rng), shape=start.shape)
                self.goal_pose[row] = self._goal_state(self.simulations[row], goal)[:, :3]
            if states is not None:
                start = dataclasses.replace(start, state=given_state(world, states[i]))
            self.begin(row, start)
        index = np.asarray(rows, np.intp)
        if self.task is not None:
            seen = self._see(self.goal_pose[index], index)
            for key, goal_values in self._goal.items():
                goal_values[index] = seen[key]

    def begin(self, row: int, start: Start) -> None:
        """Begin an episode in one row, without a new goal and new factors."""
        self.simulations[row].start(start)
        self.pose[row] = start.state[:, :3].astype(np.float32)  # Box2D stores float32
        self.shape[row] = start.shape
        self.time[row] = 0
        self._started[row] = True
        if self.conditions is not None:
            self.conditions.restart(row)
        if self._sound is not None:
            self._sound[row] = 0

    def _goal_state(self, simulation: Simulation, goal: Start) -> Array:
        """Return the state [bodies, 6] of a random start after the task's passive steps."""
        assert self.task is not None
        if not self.task.passive_steps:
            return goal.state
        simulation.start(goal)
        for _ in range(self.task.passive_steps):
            simulation.step([0.0] * len(self.world.motors))
        return simulation.state

    def step(self, action: Array, rows: Rows | None = None) -> None:
        """Step some rows, or all.

        Args:
            action: [N, A], of all rows, within [-1, 1].
            rows: the rows to step.
        """
        rows = range(len(self.simulations)) if rows is None else rows
        if not self._started.all():
            raise gymnasium.error.ResetNeeded("reset() the environment before the first step()")
        index = np.asarray(rows, np.intp)
        action = action[:, : self._speed.shape[1]]
        if self.conditions is not None:
            action = self.conditions.executed(action, index, self.time)
        torques: list[list[float]] | None = None
        if self.world.control == "torque":
            torques = (np.abs(action) * self._torque).tolist()
            action = np.sign(action)
        speeds = (action * self._speed).tolist()
        pose: list[float] = []
        for row in rows:
            simulation = self.simulations[row]
            simulation.step(speeds[row], torques[row] if torques else None)
            simulation.read_pose(pose)
            if simulation.ear is not None and self._sound is not None:
                self._sound[row] = simulation.ear.energy
                simulation.ear.energy = [0.0] * BANDS
        self.pose[index] = np.array(pose).reshape(len(rows), *self.pose.shape[1:])
        self.time[index] += 1

    def observe(self, rows: Rows | None = None) -> dict[str, Array]:
        """Return {key: [R, ...]} of some rows, or all, in new arrays."""
        index = slice(None) if rows is None else np.asarray(rows, np.intp)
        seen = self._see(self.pose[index], index)
        if self._sound is not None:
            seen["sound"] = heard(self._sound[index])
        if self.conditions is not None:
            which = np.arange(len(self.simulations))[index]
            seen = {**self.conditions.disturb(seen, which, self.time), **self.conditions.shown(which)}
        goals = {f"goal_{key}": values[index].copy() for key, values in self._goal.items()}
        return {key: goals[key] if key in goals else seen[key] for key in self.observation_space}

    def _see(self, pose: Array, rows: Array | slice) -> dict[str, Array]:
        """Return all observations of poses [R, bodies, 3] in some rows."""
        size = None if self.conditions is None or self.conditions.size is None else self.conditions.size[rows]
        return {"lcd": self.screen.draw(pose, self.shape[rows], size), **self.vectors(pose)}

    def vectors(self, pose: Array) -> dict[str, Array]:
        """Return the vector observations of poses [R, bodies, 3]."""
        vectors = np.empty((*pose.shape[:2], ENTRIES), np.float32)
        vectors[..., :2] = pose[..., :2] * (2 / self.world.width, 2 / self.world.height) - 1
        np.cos(pose[..., 2].copy(), out=vectors[..., 2], casting="same_kind")
        np.sin(pose[..., 2].copy(), out=vectors[..., 3], casting="same_kind")
        if self.world.walls:  # a strong push can squeeze a body's origin into a wall
            np.clip(vectors, -1, 1, out=vectors)
        full_state = vectors.reshape(len(pose), -1)
        if self.world.robots:
            proprio = full_state[:, len(self.world.objects) * ENTRIES :].copy()
        else:
            proprio = np.zeros((len(pose), 1), np.float32)
        return {"proprio": proprio, "full_state": full_state}
