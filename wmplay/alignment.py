"""The alignment oracle: a tiny world in which every number says where it belongs.

An observation tells the time and the action that led to it; a reward tells the state it left (its whole
part) and the action it left it by (its fraction). So whoever carries such episodes, an env's batching, a
store, a file format, and moves one array by one step, is found out: which array, and in which direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from wmplay.contracts import Array, Trajectory
from wmplay.errors import AlignmentError

ACTIONS = 11  # of the discrete variant
SCREEN = (5, 7)
SHORTEST = 3  # with fewer steps a shift has no direction


class AlignmentWorld(gymnasium.Env[dict[str, Any], Any]):
    """Episodes of 3 to 13 steps, those of an odd length terminated, those of an even one truncated.

    Observation: ``clock`` [1], the time t; ``screen`` [5, 7], binary, pixel number t lit; ``led_by``, the
    action that led here (zero at the reset); ``episode`` [1], a number drawn at the reset; ``length`` [1].

    Args:
        discrete: 11 actions instead of two numbers from -1 to 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it
    longest = 13

    def __init__(self, *, discrete: bool = False) -> None:
        self.action_space, led_by = (
            Discrete(ACTIONS) if discrete else Box(-1, 1, (2,), np.float32) for _ in range(2)
        )
        self.observation_space = Dict(
            clock=Box(0, self.longest, (1,), np.int32),
            screen=Box(0, 1, SCREEN, np.uint8),
            led_by=led_by,
            episode=Box(0, 2**31 - 1, (1,), np.int32),
            length=Box(SHORTEST, self.longest, (1,), np.int32),
        )
        self._none: Array = np.zeros((), np.int64) if discrete else np.zeros(2, np.float32)
        self._time = self._length = self._episode = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new episode."""
        super().reset(seed=seed)
        self._time = 0
        self._length = int(self.np_random.integers(SHORTEST, self.longest + 1))
        self._episode = int(self.np_random.integers(2**31))
        return self._observe(self._none), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """The clock goes on."""
        reward = self._time + float(_mark(np.asarray(action)[None])[0])
        self._time += 1
        ended, odd = self._time == self._length, self._length % 2 == 1
        return self._observe(np.asarray(action)), reward, ended and odd, ended and not odd, {}

    def _observe(self, led_by: Array) -> dict[str, Any]:
        screen = np.zeros(SCREEN, np.uint8)
        screen.flat[self._time] = 1
        numbers = {"clock": self._time, "episode": self._episode, "length": self._length}
        arrays = {key: np.array([value], np.int32) for key, value in numbers.items()}
        return {**arrays, "screen": screen, "led_by": led_by.copy() if led_by.ndim else np.int64(led_by)}


def check_alignment(trajectories: Iterable[Trajectory], *, whole: bool = True) -> None:
    """Checks trajectories of the ``AlignmentWorld`` against the time rule.

    An array is *early* where its entry t is what belongs to t + 1, and *late* where it belongs to t - 1.

    Args:
        trajectories: of any policy.
        whole: from the reset to the end. Otherwise parts of episodes, such as the rows of a segment, which
            may begin anywhere and whose ``truncated`` is not looked at.

    Raises:
        AlignmentError: for the first array that is elsewhere, with its direction.
    """
    for number, trajectory in enumerate(trajectories):
        _check(trajectory, f"trajectory {number}", whole)


def _check(trajectory: Trajectory, who: str, whole: bool) -> None:
    frames = trajectory.observation
    for key in ("episode", "length"):
        others = np.flatnonzero(frames[key][:, 0] != frames[key][0, 0])
        if len(others):
            raise AlignmentError(
                f"{who}: frame {others[0]} of 0..{len(trajectory)} is another episode's (by its '{key}'): "
                "an episode's last frame is what its last action led to, not the next one's first"
            )
    start = 0 if whole else int(frames["clock"][0, 0])
    time = start + np.arange(len(trajectory) + 1)
    _compare(f"{who}: observation 'clock'", frames["clock"][:, 0], time)
    _compare(f"{who}: observation 'screen'", frames["screen"].reshape(len(time), -1).argmax(axis=1), time)
    left = np.round(trajectory.reward).astype(np.int64)
    _compare(f"{who}: reward", left, time[:-1])
    mark = trajectory.reward - left  # of the action that truly left this state
    _compare(f"{who}: action", _mark(trajectory.action), mark)
    led_by = _mark(frames["led_by"])
    _compare(f"{who}: observation 'led_by'", led_by, np.append(0 if start == 0 else led_by[0], mark))
    length = int(frames["length"][0, 0])
    over, odd = time[1:] == length, length % 2 == 1
    _compare(f"{who}: terminated", trajectory.terminated, over & odd)
    if whole:
        _compare(f"{who}: truncated", trajectory.truncated, over & (not odd))


def _mark(action: Array) -> Array:
    """[T] float32 in (-1/2, 1/2) that tells actions apart; of zero it is zero."""
    if action.ndim == 1:
        return (action / 32).astype(np.float32)
    return np.asarray(action @ np.array([0.3, 0.1]), np.float32)


def _compare(name: str, got: Array, expected: Array) -> None:
    got = np.asarray(got, np.float64)  # flags too
    wrong = np.flatnonzero(~np.isclose(got, expected, rtol=0, atol=1e-5))
    if len(wrong) == 0:
        return
    if np.ptp(got) > 0:  # what never changes has no direction
        if np.allclose(got[:-1], expected[1:], rtol=0, atol=1e-5):
            raise AlignmentError(f"{name} is one step early: entry t is what belongs to t + 1")
        if np.allclose(got[1:], expected[:-1], rtol=0, atol=1e-5):
            raise AlignmentError(f"{name} is one step late: entry t is what belongs to t - 1")
    t = int(wrong[0])
    raise AlignmentError(
        f"{name} is wrong, first at entry {t}: it tells {got[t]:g}, expected {expected[t]:g}"
    )
