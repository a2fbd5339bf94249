"""The true dynamics of an LCD world; see ``wmplay.contracts.Remembering``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wmplay.contracts import LazyMapping, Run
from wmplay.envs.lcd.batch import Batch
from wmplay.envs.lcd.start import Start, given_state
from wmplay.errors import SpaceError
from wmplay.system.arrays import Array

VECTOR_GOALS = ("goal_proprio", "goal_full_state")
BEYOND = 64  # steps that a plan may lead beyond an episode's time limit


class LcdSimulator:
    """The dynamics of a world and its task, by repeating an episode's actions from its first frame.

    Frames show no velocities, and Box2D remembers impulses that cannot be set. So a state holds the poses in
    which the episode began (at rest), the poses now, the goal, and all actions since: a run repeats them
    first. Its numbers are the env's, to the precision of the first frame, float32.

    Args:
        make: returns the given number of copies of the world.
        max_steps: of an episode.
    """

    def __init__(self, make: Callable[[int], Batch], max_steps: int) -> None:
        self._make, self._one = make, make(1)
        self.world, self.task = self._one.world, self._one.task
        spaces = self._one.observation_space.spaces
        self._goal = next((key for key in VECTOR_GOALS if key in spaces), None)
        self.actions = self._one.action_space.shape[0]
        bodies, goal = len(self.world.bodies), 0 if self._goal is None else spaces[self._goal].shape[0]  # type: ignore[index]
        self._parts = np.cumsum([3 * bodies, 3 * bodies, goal, 1])  # then the actions
        self.size = int(self._parts[-1]) + (max_steps + BEYOND) * self.actions

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, S] of episodes that begin with frames {key: [n, ...]}.

        Frames of an episode without the task have no goal. Their states have NaN in its place, and earn 0.

        Raises:
            SpaceError: if the frames do not show every body, or if its shape is drawn anew in each episode.
        """
        pose = self._shown(observation)
        state = np.zeros((len(pose), self.size))
        start, now, goal, _, _ = self._split(state)
        start[:] = now[:] = pose
        if self._goal is not None:
            goal[:] = observation.get(self._goal, np.nan)
        return state

    def follow(self, state: Array, action: Array, observation: Mapping[str, Array]) -> Array:
        """Return the states after actions that led to frames {key: [n, ...]}."""
        return self._after(state, action, self._shown(observation))

    def begin(self, state: Array) -> Run:
        """Return a run of n rows, each in a Box2D world of its own that has repeated the past actions."""
        batch, every = self._make(len(state)), np.arange(len(state))
        start, _, goal, count, past = self._split(state)
        at_rest = np.pad(start.reshape(len(state), -1, 3), ((0, 0), (0, 0), (0, 3)))
        for row, bodies in enumerate(at_rest):
            batch.begin(row, Start(bodies, (0,) * len(bodies)))
        chosen = np.zeros((len(state), self.actions))
        current = state.copy()

        def step(action: Array, rows: Array) -> tuple[Array, Array, Array]:
            before = self._seen(batch.pose[rows], goal[rows])
            chosen[rows] = action
            batch.step(chosen, rows)
            after = self._seen(batch.pose[rows], goal[rows])
            reward, reached = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
            if self.task is not None:
                reward, reached = self.task.reward_and_terminated(before, after)
                reward = np.where(np.isnan(goal[rows]).any(1), 0.0, reward)
            current[rows] = self._after(current[rows], action, batch.pose[rows].reshape(len(rows), -1))
            return current[rows], reward, reached

        for time in range(int(count.max(initial=0))):
            rows = every[count[:, 0] > time]
            chosen[rows] = past[rows, time * self.actions : (time + 1) * self.actions]
            batch.step(chosen, rows)
        return step

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Take one step of all rows."""
        return self.begin(state)(action, np.arange(len(state)))

    def observe(self, state: Array) -> Mapping[str, Array]:
        """Return screens, drawn at their first use, and vectors; of the goal, the vector."""
        _, now, goal, _, _ = self._split(state)
        pose = now.reshape(len(state), -1, 3)
        vectors = self._seen(pose, goal)

        def value(key: str) -> Array:
            if key == "lcd":
                return self._one.screen.draw(pose, np.zeros(pose.shape[:2], np.intp))
            return vectors[key]

        return LazyMapping([key for key in self._one.observation_space if key in ("lcd", *vectors)], value)

    def _shown(self, observation: Mapping[str, Array]) -> Array:
        """Return the poses [n, bodies * 3] in frames."""
        key = "full_state" if self.world.objects else "proprio"
        if key not in observation or any(len(shapes) > 1 for shapes in self.world.shapes):
            raise SpaceError(
                f"frames of this world show no state: {', '.join(observation)}",
                got=list(observation),
                expected="every body's pose (env.full_state=true), in worlds with one shape for each body",
            )
        return np.stack([given_state(self.world, row)[:, :3].ravel() for row in observation[key]])

    def _after(self, state: Array, action: Array, pose: Array) -> Array:
        """Return the states with one more action, which led to poses [n, bodies * 3]."""
        state = state.copy()
        _, now, _, count, past = self._split(state)
        place = count.astype(int) * self.actions + np.arange(self.actions)
        if place.max(initial=0) >= past.shape[1]:
            raise SpaceError(f"the episode is longer than {past.shape[1] // self.actions} steps")
        np.put_along_axis(past, place, action, 1)
        now[:], count[:] = pose, count + 1
        return state

    def _split(self, state: Array) -> list[Array]:
        """Return views of the parts: poses at the start, poses now, goal, number of actions, actions."""
        return np.split(state, self._parts, axis=1)

    def _seen(self, pose: Array, goal: Array) -> dict[str, Array]:
        given = {} if self._goal is None else {self._goal: goal.astype(np.float32)}
        return {**self._one.vectors(pose), **given}
