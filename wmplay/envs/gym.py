"""Any Gymnasium environment by its id, with observations and actions as all other pieces know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from numpy.typing import NDArray

from wmplay.errors import ActionError, ConfigError, SpaceError, UnknownName

Array: TypeAlias = NDArray[Any]
Observation: TypeAlias = dict[str, Array]
Reader: TypeAlias = Callable[[Any], Array]

CHANNELS = (1, 3, 4)


class GymEnv(gymnasium.Env[Observation, Any]):
    """A registered Gymnasium environment with a dict of named arrays as its observation.

    A vector or a number in a Box becomes ``vector`` [D] float32; an image ``pixels`` [H, W, C] uint8; a
    Discrete observation a one-hot ``vector``. A Dict of these keeps its keys. Actions are a 1-D Box
    (float32, any bounds; clipped to them) or Discrete (counted from 0).

    Args:
        id: as ``gymnasium.make`` takes it; ``module:Name-v0`` imports the module first.
        kwargs: for the environment's constructor.
        pixels: adds ``pixels``: what ``render`` gives, as [size, size, 3].
        state: keeps what the environment itself observes; False leaves the pixels alone.
        size: of ``pixels``, each way.
        action_repeat: steps that each action is held for; their rewards are added up.
        max_steps: per episode, in steps of the underlying environment; its own limit by default.
        render_mode: what ``render`` gives; with ``pixels`` it is "rgb_array".

    Raises:
        UnknownName: if Gymnasium has no such id.
        ConfigError: if the environment cannot be made.
        SpaceError: for spaces other than these.
    """

    def __init__(
        self,
        id: str = "Pendulum-v1",
        kwargs: Mapping[str, Any] | None = None,
        pixels: bool = False,
        state: bool = True,
        size: int = 64,
        action_repeat: int = 1,
        max_steps: int | None = None,
        render_mode: Literal["rgb_array", "human"] | None = None,
    ) -> None:
        _check_options(pixels, state, size, action_repeat, max_steps, render_mode)
        self.render_mode = "rgb_array" if pixels else render_mode
        self._env = _make(id, dict(kwargs or {}), max_steps, self.render_mode)
        self._repeat, self._size = action_repeat, size
        self.metadata = self._env.metadata
        self.spec = self._env.spec
        self.task = getattr(self._env.unwrapped, "task", None)
        self._readers: dict[str, Reader] = {}
        spaces: dict[str, Space[Any]] = {}
        if state:
            for key, space in _named(self._env.observation_space).items():
                name = key or ("pixels" if _is_image(space) else "vector")
                spaces[name], read = _observed(space, f"observation of '{id}'", screen=bool(key))
                self._readers[name] = partial(_read_part, key, read) if key else read
        if pixels:
            spaces["pixels"] = Box(0, 255, (size, size, 3), np.uint8)
            self._readers["pixels"] = lambda _: self._rendered()
        self.observation_space: Space[Any] = Dict(spaces)
        self.action_space = _action_space(self._env.action_space, f"action of '{id}'")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        seen, info = self._env.reset(seed=seed, options=options)
        return self._observe(seen), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Holds an action for ``action_repeat`` steps, or until the episode ends.

        Raises:
            ActionError: for an action of the wrong shape or type, or with NaN.
        """
        action = self._checked(action)
        total = 0.0
        for _ in range(self._repeat):
            seen, reward, terminated, truncated, info = self._env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return self._observe(seen), total, bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """What the environment itself renders."""
        return self._env.render()

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _observe(self, seen: Any) -> Observation:
        return {name: read(seen) for name, read in self._readers.items()}

    def _rendered(self) -> Array:
        from PIL import Image

        try:
            frame = np.asarray(self._env.render())
        except gymnasium.error.DependencyNotInstalled as error:
            raise ConfigError(
                f"pixels=true needs what the environment renders with: {_line(error)}"
            ) from None
        if frame.ndim != 3 or frame.dtype != np.uint8:
            raise SpaceError(
                f"render() gives {frame.dtype} {list(frame.shape)}, expected uint8 [height, width, 3]"
            )
        image = Image.fromarray(frame[..., :3])
        return np.array(image.resize((self._size, self._size), Image.Resampling.BOX))

    def _checked(self, action: Any) -> Any:
        """The action as the underlying environment takes it."""
        inner = self._env.action_space
        if isinstance(self.action_space, Discrete):
            number = np.asarray(action)
            if (
                number.shape != ()
                or number.dtype.kind not in "iu"
                or not self.action_space.contains(number.item())
            ):
                raise ActionError(
                    f"action is {action!r}, expected an integer in 0 .. {self.action_space.n - 1}"
                )
            assert isinstance(inner, Discrete)
            return int(number) + int(inner.start)
        box = self.action_space
        assert isinstance(box, Box)
        assert isinstance(inner, Box)
        try:
            values = np.asarray(action, inner.dtype)
        except (TypeError, ValueError):
            raise ActionError(f"action is a {type(action).__name__}, expected an array of numbers") from None
        if values.shape != box.shape:
            raise ActionError(f"action has shape {list(values.shape)}, expected {list(box.shape)}")
        if np.isnan(values).any():
            raise ActionError(
                f"action has NaN at {np.argwhere(np.isnan(values))[0].tolist()}, expected numbers"
            )
        return values.clip(inner.low, inner.high)


def _check_options(
    pixels: bool, state: bool, size: int, action_repeat: int, max_steps: int | None, render_mode: str | None
) -> None:
    for name, value in (("size", size), ("action_repeat", action_repeat), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}, expected at least 1")
    if not (pixels or state):
        raise ConfigError("state=false leaves nothing to observe: set pixels=true with it")
    if pixels and render_mode == "human":
        raise ConfigError("pixels=true renders arrays, so render_mode cannot be 'human': leave it unset")


def _make(
    env_id: str, kwargs: dict[str, Any], max_steps: int | None, render_mode: str | None
) -> gymnasium.Env[Any, Any]:
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        return gymnasium.make(env_id, max_episode_steps=max_steps, **kwargs)
    except gymnasium.error.UnregisteredEnv:
        raise UnknownName("Gymnasium environment", env_id, gymnasium.registry) from None
    except ImportError as error:
        raise ConfigError(f"Gymnasium environment '{env_id}' needs a module: {_line(error)}") from error
    except (gymnasium.error.Error, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"Gymnasium environment '{env_id}' cannot be made: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _named(space: Space[Any]) -> Mapping[str, Space[Any]]:
    """The parts of an observation; one that has no name has the name ''."""
    return space.spaces if isinstance(space, Dict) else {"": space}


def _read_part(key: str, read: Reader, seen: Mapping[str, Any]) -> Array:
    return read(seen[key])


def _is_image(space: Space[Any]) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _observed(space: Space[Any], what: str, *, screen: bool) -> tuple[Box, Reader]:
    """The space that a part of the observation becomes, and how to read it.

    ``screen`` allows [H, W] of zeros and ones, as ``lcd`` is.
    """
    if isinstance(space, Discrete):
        count, start = int(space.n), int(space.start)
        one_hot = np.eye(count, dtype=np.float32)
        return Box(0, 1, (count,), np.float32), lambda seen: one_hot[int(seen) - start].copy()
    if isinstance(space, Box) and _is_image(space):
        if screen and len(space.shape) == 2 and (space.high == 1).all():
            return space, lambda seen: np.array(seen, np.uint8)
        if len(space.shape) == 2:
            return Box(0, 255, (*space.shape, 1), np.uint8), lambda seen: np.array(seen, np.uint8)[..., None]
        if space.shape[-1] in CHANNELS:
            return Box(0, 255, space.shape, np.uint8), lambda seen: np.array(seen, np.uint8)
    elif isinstance(space, Box) and len(space.shape) <= 1:
        low, high = (np.atleast_1d(bound).astype(np.float32) for bound in (space.low, space.high))
        return Box(low, high, dtype=np.float32), lambda seen: np.array(seen, np.float32, ndmin=1)
    raise SpaceError(
        f"{what} is {space}, expected a 1-D Box, a uint8 image [height, width, channels], a Discrete, "
        "or a Dict of these: wrap the environment to give one"
    )


def _action_space(space: Space[Any], what: str) -> Box | Discrete:
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, Box) and len(space.shape) == 1 and space.dtype in (np.float32, np.float64):
        return Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    raise SpaceError(f"{what} is {space}, expected a 1-D Box of floats or a Discrete: wrap the environment")
