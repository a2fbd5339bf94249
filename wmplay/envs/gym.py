"""Any Gymnasium environment by its id, with observations and actions in wmplay's form."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.contracts import env_spec
from wmplay.envs.conversion import action_space, made, one_line, registered, resized
from wmplay.envs.gym_tasks import CLAIMS, KEY, simulator_of, task_of
from wmplay.envs.observations import Observation, Parts, parts
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action, clipped
from wmplay.vector.autoreset import Autoreset

SHARED = ("id", "kwargs", "max_steps", "action_limit")  # settings that also apply to an id's own vector env


class GymEnv(gymnasium.Env[Observation, Any]):
    """A registered Gymnasium environment with a dict of named arrays as its observation.

    An image becomes ``pixels`` [H, W, C] uint8, any other observation ``vector`` [D] float32 (choices
    one-hot). The parts of a Dict or a Tuple keep their names; texts are left out (``observations.parts``).
    Actions are a Box of floats, flat (float32, any bounds; clipped to them), or Discrete (counted from 0).
    The task is that of the environment, or for some ids one that computes the reward (``gym_tasks``).

    Args:
        id: as in ``gymnasium.make``; ``module:Name-v0`` imports the module first.
        kwargs: for the environment's constructor.
        pixels: whether to observe ``pixels``, the image that ``render`` returns, as [size, size, 3].
        state: whether to observe the environment's own observations.
        size: of ``pixels``, in both directions.
        action_repeat: steps for which each action is held; their rewards are summed.
        action_limit: bounds actions that have no bounds of their own to -limit .. limit; most policies and
            planners need bounds.
        max_steps: per episode, in steps of the underlying environment; its own limit by default.
        render_mode: of the environment; "rgb_array" if ``pixels`` is set.
        vectorization: "sync" steps the slots of a vector env one after the other; "native" uses the vector
            env registered for the id, which chooses itself when, and from which seeds, it begins the next
            episode.

    Raises:
        UnknownName: if Gymnasium has no environment of this id.
        ConfigError: if the environment cannot be made.
        SpaceError: for other spaces.
    """

    def __init__(
        self,
        id: str = "Pendulum-v1",
        kwargs: Mapping[str, Any] | None = None,
        pixels: bool = False,
        state: bool = True,
        size: int = 64,
        action_repeat: int = 1,
        action_limit: float | None = None,
        max_steps: int | None = None,
        render_mode: Literal["rgb_array", "human"] | None = None,
        vectorization: Literal["sync", "native"] = "sync",
    ) -> None:
        limits = {} if action_limit is None else {"action_limit": action_limit}
        check_values("env gym", at_least_one={"size": size, "action_repeat": action_repeat}, positive=limits)
        _check_options(pixels, state, max_steps, render_mode)
        if vectorization == "native" and (pixels or action_repeat > 1):
            raise ConfigError(
                "vectorization=native has no pixels=true and no action_repeat", advice="use sync for them"
            )
        self.render_mode = "rgb_array" if pixels else render_mode
        given = dict(kwargs or {})
        if self.render_mode is not None:
            given["render_mode"] = self.render_mode
        self._env = registered(id, given, max_steps)
        self._repeat, self._size = action_repeat, size
        self.metadata = {**self._env.metadata, **CLAIMS.get(id, {})}
        self.spec = self._env.spec
        space = self._env.observation_space
        self._parts = _told(parts(space, f"observation of '{id}'"), id) if state else Parts({}, {}, ())
        if pixels:
            self._parts.spaces["pixels"] = Box(0, 255, (size, size, 3), np.uint8)
            self._parts.readers["pixels"] = lambda _: self._rendered()
        self.task = env_spec(self._env).task
        if self.task is None and KEY in self._parts.spaces and action_repeat == 1:
            self.task = task_of(id, kwargs or {})
        plain = self._parts.spaces.keys() == {KEY} and action_repeat == 1
        self.simulator = simulator_of(id, self._env) if plain else None
        self.observation_space: Space[Any] = Dict(self._parts.spaces)
        self.action_space = action_space(self._env.action_space, f"action of '{id}'", action_limit)

    @classmethod
    def vector(cls, num_envs: int, autoreset: Autoreset, **config: Any) -> VectorEnv[Any, Any, Any] | None:
        """Return the id's own vector env if the settings ask for it; it keeps its own autoreset mode.

        Raises:
            ConfigError: if the id has none, or if it cannot be made.
            SpaceError: if its spaces differ from those of the single env.
        """
        if config.get("vectorization") != "native":
            return None
        with closing(cls(**config)) as single:
            given = {key: config[key] for key in SHARED if key in config}
            return GymVectorEnv(num_envs, single, **given)

    @staticmethod
    def world_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that define the world; those of observations do not."""
        kwargs = dict(settings["kwargs"] or {})
        name = settings["id"].rpartition(":")[2]  # without the module, which only registers the id
        return {"id": name, "kwargs": kwargs, "action_repeat": settings["action_repeat"]}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        seen, info = self._env.reset(seed=seed, options=options)
        return self._parts.read(seen), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold an action for ``action_repeat`` steps, or until the episode ends.

        Raises:
            ActionError: for an action of the wrong shape or type, or with NaN.
        """
        action = _executable(action, self._env.action_space, self.action_space)
        total = 0.0
        for _ in range(self._repeat):
            seen, reward, terminated, truncated, info = self._env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return self._parts.read(seen), total, bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """Return what the environment renders."""
        return self._env.render()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _rendered(self) -> Array:
        try:
            frame = np.asarray(self._env.render())
        except gymnasium.error.DependencyNotInstalled as error:
            raise ConfigError(
                f"pixels=true needs what the environment renders with: {one_line(error)}"
            ) from None
        if frame.ndim != 3 or frame.dtype != np.uint8:
            raise SpaceError(
                f"render() gives {frame.dtype} {list(frame.shape)}", expected="uint8 [height, width, 3]"
            )
        return resized(frame, self._size)


class InOurForm(gymnasium.Wrapper[Observation, Any, Any, Any]):
    """An env that was made elsewhere, with the observations and actions of ``GymEnv``.

    Raises:
        SpaceError: for spaces that have no such form.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        name = str(env.spec.id if env.spec is not None else type(env.unwrapped).__name__)
        self.metadata = {**env.metadata, **CLAIMS.get(name, {})}
        self._parts = _told(parts(env.observation_space, f"observation of '{name}'"), name)
        self.observation_space: Space[Any] = Dict(self._parts.spaces)
        self.action_space = action_space(env.action_space, f"action of '{name}'")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self._parts.read(seen), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ActionError: for an action of the wrong shape or type, or with NaN.
        """
        seen, *outcome = self.env.step(_executable(action, self.env.action_space, self.action_space))
        return self._parts.read(seen), *outcome  # type: ignore[return-value]


class GymVectorEnv(VectorEnv[Any, Any, Any]):
    """The vector env registered for a Gymnasium id, with the observations and actions of ``GymEnv``.

    Args:
        num_envs: number of slots.
        single: the single env, whose spaces it must have.
        id: as for ``GymEnv``.
        kwargs: as for ``GymEnv``.
        max_steps: as for ``GymEnv``.
        action_limit: as for ``GymEnv``.

    Raises:
        ConfigError, SpaceError: see ``GymEnv.vector``.
    """

    def __init__(
        self,
        num_envs: int,
        single: GymEnv,
        id: str = "Pendulum-v1",
        kwargs: Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        action_limit: float | None = None,
    ) -> None:
        given = dict(kwargs or {}, **({} if max_steps is None else {"max_episode_steps": max_steps}))
        self._env = made(
            lambda: gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point", **given),
            id,
            "vector env of",
        )
        self.num_envs = num_envs
        self.metadata = {**self._env.metadata, **CLAIMS.get(id, {})}
        self.spec = self._env.spec
        self.task = single.task
        self._parts = parts(self._env.single_observation_space, f"observation of '{id}'")
        self.single_observation_space: Space[Any] = Dict(self._parts.spaces)
        inner = self._env.single_action_space
        self.single_action_space = action_space(inner, f"action of '{id}'", action_limit)
        for name, mine, alone in (
            ("observation_space", self.single_observation_space, single.observation_space),
            ("action_space", self.single_action_space, single.action_space),
        ):
            if mine != alone:
                raise SpaceError(
                    f"the vector env of '{id}' has the {name} {mine}, the env alone {alone}",
                    got=mine,
                    advice="give kwargs that make them the same, or use vectorization=sync",
                )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Begin episodes."""
        seen, info = self._env.reset(seed=seed, options=options)
        return self._parts.read(seen), info

    def step(self, actions: Any) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """Take one step of every env.

        Raises:
            ActionError: for actions of the wrong shape or type, or with NaN.
        """
        actions = _executable(actions, self._env.single_action_space, self.single_action_space, self.num_envs)
        seen, reward, terminated, truncated, info = self._env.step(actions)
        if "final_obs" in info:
            info = {**info, "final_obs": self._final(info["final_obs"])}
        return self._parts.read(seen), reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environment."""
        self._env.close(**kwargs)

    def _final(self, seen: Any) -> Any:
        """Convert last observations: an array of single ones, or a batched one."""
        if isinstance(seen, np.ndarray) and seen.dtype == object:
            each = [None if one is None else self._parts.read(one) for one in seen]
            return np.array(each, object)
        return self._parts.read(seen)


def _check_options(pixels: bool, state: bool, max_steps: int | None, render_mode: str | None) -> None:
    if max_steps is not None and max_steps < 1:
        raise ConfigError(f"max_steps is {max_steps}", expected="at least 1")
    if not (pixels or state):
        raise ConfigError("state=false leaves nothing to observe", advice="set pixels=true with it")
    if pixels and render_mode == "human":
        raise ConfigError(
            "pixels=true renders arrays, so render_mode cannot be 'human'", advice="leave it unset"
        )


def _told(found: Parts, env_id: str) -> Parts:
    """Return the parts of an observation, after a warning about those that are left out."""
    if found.left_out:
        names = ", ".join(found.left_out)
        warnings.warn(f"texts that '{env_id}' observes are left out: {names}", stacklevel=3)
    return found


def _executable(action: Any, inner: Space[Any], outer: Space[Any], rows: int | None = None) -> Any:
    """Return a validated action of ``outer``, or one for each row, in the form of the underlying env."""
    checked = checked_action(action, outer, None if rows is None else range(rows))
    if isinstance(inner, Discrete):
        return int(checked) + int(inner.start) if rows is None else checked + int(inner.start)
    assert isinstance(inner, Box)
    assert isinstance(outer, Box)
    batch = () if rows is None else (rows,)
    own = (inner.low.reshape(-1), inner.high.reshape(-1))
    bounds = (np.where(np.isfinite(b), b, o) for b, o in zip(own, (outer.low, outer.high), strict=True))
    low, high = (np.broadcast_to(b.astype(inner.dtype), (*batch, b.size)) for b in bounds)
    return clipped(checked, low, high).reshape((*batch, *inner.shape))
