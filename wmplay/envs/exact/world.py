"""The base of exact worlds: one numpy function each for the start, the step and the observation of N rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Dict

from wmplay.errors import ConfigError, SpaceError, check_range
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset
from wmplay.vector.rows_env import Rows, RowsVectorEnv

RenderMode = Literal["rgb_array"]
PIXEL = 16  # edge of a screen's pixel in ``render``


class ExactWorld(gymnasium.Env[dict[str, Array], Any], ABC):
    """A tiny world whose state is a row of numbers, and whose optimum is known.

    ``state`` [S] float64 holds all but the clock; ``reset(options={"state": state})`` begins in it.

    Args:
        observation_space: a Dict.
        action_space: Discrete from 0, or a one-dimensional Box.
        max_steps: after which an episode is truncated.
        render_mode: "rgb_array" for an image of the observation ``screen``.

    Raises:
        ConfigError: for settings out of range.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space: Any
    action_space: Any
    task: Any = None

    def __init__(
        self,
        observation_space: dict[str, gymnasium.Space[Any]],
        action_space: gymnasium.Space[Any],
        max_steps: int,
        render_mode: RenderMode | None,
    ) -> None:
        check_range("max_steps", max_steps, 1)
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode is {render_mode!r}", expected="rgb_array or null")
        self.observation_space = Dict(observation_space)
        self.action_space = action_space
        self.max_steps, self.render_mode = max_steps, render_mode
        self.state: Array = np.zeros(0)
        self._time = 0

    @abstractmethod
    def start(self, generators: Sequence[np.random.Generator]) -> Array:
        """Draw a first state [n, S] from each of n generators."""

    @abstractmethod
    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Return the next states [n, S], the rewards [n] and terminated [n]; ``state`` is left as it is."""

    @abstractmethod
    def observe(self, state: Array) -> dict[str, Array]:
        """Return new arrays {key: [n, ...]} that show states [n, S]."""

    @property
    def simulator(self) -> ExactWorld:
        """The world itself, whose functions depend on nothing but their arguments."""
        return self

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, S] that frames {key: [n, ...]} show.

        Raises:
            SpaceError: if a frame does not show the state.
        """
        raise SpaceError(
            f"a frame of {type(self).__name__} does not show its state",
            got=", ".join(observation),
            expected="an env whose observations show all that its future depends on",
        )

    @abstractmethod
    def optimum(self) -> float:
        """Return the expected return of the best policy, without discount; see each world."""

    @classmethod
    def vector(cls, num_envs: int, autoreset: Autoreset, **config: Any) -> ExactVectorEnv:
        """Return the vector env of the same config."""
        return ExactVectorEnv(cls(**config), num_envs, autoreset)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode, at random or in ``options["state"]``."""
        super().reset(seed=seed)
        given = (options or {}).get("state")
        self.state = self.start([self.np_random])[0] if given is None else given_state(given, self.state_size)
        self._time = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Take one step. Actions outside a Box are clipped. Raise ActionError for any other wrong action."""
        row = executed(checked_action(action, self.action_space), self.action_space)[None]
        state, reward, terminated = self.advance(self.state[None], row, [self.np_random])
        self.state, self._time = state[0], self._time + 1
        truncated = self._time >= self.max_steps and not terminated[0]
        return self._seen(), float(reward[0]), bool(terminated[0]), bool(truncated), {}

    @property
    def state_size(self) -> int:
        """The number S of entries of a state."""
        return int(self.start([np.random.default_rng(0)]).shape[1])

    def _seen(self) -> dict[str, Array]:
        return {key: value[0] for key, value in self.observe(self.state[None]).items()}

    def render(self) -> Any:
        """Return the screen as an image, uint8 [h, w, 3]; None without a render mode."""
        if self.render_mode is None or "screen" not in self.observation_space.spaces:
            return None
        screen = 255 * self._seen()["screen"].repeat(PIXEL, 0).repeat(PIXEL, 1)
        return screen if screen.ndim == 3 else np.repeat(screen[..., None], 3, axis=2)


class ExactVectorEnv(RowsVectorEnv):
    """N copies of an exact world, with exactly its episodes for the same seeds.

    Args:
        world: whose functions are called with N rows; it is not stepped itself.
        num_envs: N.
        autoreset: see ``RowsVectorEnv``.
    """

    def __init__(self, world: ExactWorld, num_envs: int, autoreset: Autoreset) -> None:
        super().__init__(num_envs, autoreset, world.observation_space, world.action_space, world.metadata)
        self.world, self.task, self.max_steps = world, world.task, world.max_steps
        self.state = np.zeros((num_envs, world.state_size))
        self._time = np.zeros(num_envs, np.int64)

    def begin_rows(
        self, rows: Array, generators: Sequence[np.random.Generator], states: Sequence[Any] | None
    ) -> None:
        """Begin episodes in some slots."""
        size = self.world.state_size
        given = states is not None
        self.state[rows] = (
            [given_state(x, size) for x in states or ()] if given else self.world.start(generators)
        )
        self._time[rows] = 0

    def step_rows(
        self, action: Array, rows: Array | None, generators: Sequence[np.random.Generator]
    ) -> tuple[Rows, Array, Array, Array]:
        """Step the given slots; return observation, reward, terminated and truncated of all."""
        index = np.arange(self.num_envs) if rows is None else rows
        own = [generators[row] for row in index.tolist()]
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, np.bool_)
        chosen = executed(action, self.single_action_space)[index]
        self.state[index], reward[index], terminated[index] = self.world.advance(
            self.state[index], chosen, own
        )
        self._time[index] += 1
        truncated = (self._time >= self.max_steps) & ~terminated
        return self.world.observe(self.state), reward, terminated, truncated

    def observe_rows(self, rows: Array | None = None) -> Rows:
        """Return the observations of the given slots."""
        return self.world.observe(self.state if rows is None else self.state[rows])


def executed(action: Array, space: gymnasium.Space[Any]) -> Array:
    """Return actions clipped to a Box; discrete ones are as they are."""
    return action.clip(space.low, space.high) if isinstance(space, gymnasium.spaces.Box) else action


def given_state(value: Any, size: int) -> Array:
    """Return a state [S] from ``reset``'s options. Raise ConfigError unless it is S finite numbers."""
    state = np.array(value, np.float64)
    if state.shape != (size,) or not np.isfinite(state).all():
        what = f"reset option 'state' has the shape {list(state.shape)}"
        if state.shape == (size,):
            what = f"reset option 'state' is {state.tolist()}"
        raise ConfigError(what, got=list(state.shape), expected=f"{size} finite numbers")
    return state


def place_of(screen: Array) -> Array:
    """Return the row and column [n, 2] of the first lit pixel of screens [n, h, w]."""
    flat = screen.reshape(len(screen), -1).argmax(1)
    return np.stack(np.divmod(flat, screen.shape[2]), 1).astype(np.float64)


def lit(shape: tuple[int, int], rows: Array, columns: Array) -> Array:
    """Return screens [n, h, w] uint8 with pixels (rows [n, k], columns [n, k]) lit."""
    screen = np.zeros((len(rows), *shape), np.uint8)
    screen[np.arange(len(rows))[:, None], rows.astype(int), columns.astype(int)] = 1
    return screen
